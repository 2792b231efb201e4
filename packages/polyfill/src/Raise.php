<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill;

use ClusterLockException;
use ReflectionProperty;
use Throwable;

/** How PHP code is told. */
final class Raise
{
    /** E_WARNING is PHP's own: the nearest that PHP code can give is E_USER_WARNING. */
    public static function warning(string $function, string $message): void
    {
        trigger_error("$function(): $message", E_USER_WARNING);
    }

    /** Somebody else's code may want to know of this, but nobody can act on it now. */
    public static function log(string $line): void
    {
        error_log("cluster_lock: $line");
    }

    /**
     * An exception that says where it was called, as one that comes out of an extension does.
     *
     * @template T of Throwable
     *
     * @param T $exception
     *
     * @return T
     */
    public static function here(Throwable $exception): Throwable
    {
        foreach ($exception->getTrace() as $frame) {
            if (isset($frame['file']) && !str_starts_with($frame['file'], dirname(__DIR__) . '/')) {
                $base = $exception instanceof \Error ? \Error::class : \Exception::class;
                (new ReflectionProperty($base, 'file'))->setValue($exception, $frame['file']);
                (new ReflectionProperty($base, 'line'))->setValue($exception, $frame['line']);
                break;
            }
        }

        return $exception;
    }

    /** Behind all that came before an exception. */
    public static function chain(Throwable $exception, Throwable $previous): void
    {
        for ($last = $exception; $last !== $previous; $last = $last->getPrevious()) {
            if ($last->getPrevious() === null) {
                $base = $last instanceof \Error ? \Error::class : \Exception::class;
                (new ReflectionProperty($base, 'previous'))->setValue($last, $previous);

                return;
            }
        }
    }

    public static function ofFailure(LockName $name, Failure $failure): ClusterLockException
    {
        $class = $failure->kind->exception();

        return self::here(new $class($name->about($failure->getMessage())));
    }
}

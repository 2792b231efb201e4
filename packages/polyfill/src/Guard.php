<?php

declare(strict_types=1);

namespace ClusterLock\Polyfill;

/** Destroyed at the very end: what is locked after the shutdown functions, by a destructor, is released by this one. */
final class Guard
{
    public function __destruct()
    {
        Request::end();
    }
}

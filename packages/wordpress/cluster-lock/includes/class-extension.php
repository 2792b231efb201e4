<?php
/**
 * The extension's functions, with its warnings as exceptions.
 *
 * @package Cluster_Lock
 */

declare( strict_types=1 );

namespace Cluster_Lock;

/**
 * The only place that calls cluster_lock_*().
 */
final class Extension {

	/**
	 * Whether PHP has the extension.
	 */
	public static function is_loaded(): bool {
		return extension_loaded( 'cluster_lock' );
	}

	/**
	 * Its version.
	 */
	public static function version(): string {
		return (string) phpversion( 'cluster_lock' );
	}

	/**
	 * The state of this process: see cluster_lock_status(). Asks no server.
	 */
	public static function status(): array {
		return cluster_lock_status();
	}

	/**
	 * What this process has done since it started: see cluster_lock_status()['counters'].
	 */
	public static function counters(): array {
		return cluster_lock_status()['counters'];
	}

	/**
	 * What the servers say of themselves, one entry each: see cluster_lock_servers().
	 *
	 * @return array[]|null Null: this version of the extension cannot ask.
	 */
	public static function servers(): ?array {
		return function_exists( 'cluster_lock_servers' ) ? self::call( 'cluster_lock_servers' ) : null;
	}

	/**
	 * How long a question takes that nearly costs the server nothing, in seconds.
	 *
	 * @throws Server_Error The server cannot be reached, or refuses.
	 */
	public static function round_trip(): float {
		self::lock( 'wp:site-health' ); // The first one may have to connect.
		$began = microtime( true );
		self::lock( 'wp:site-health' );
		return microtime( true ) - $began;
	}

	/**
	 * The locks that are held: see cluster_lock_list().
	 *
	 * @param string $prefix Start of the names.
	 * @param int    $limit  The most to return.
	 * @return array[]
	 * @throws Server_Error The server cannot be reached, or refuses.
	 */
	public static function locks( string $prefix, int $limit ): array {
		return self::call( 'cluster_lock_list', $prefix, $limit );
	}

	/**
	 * One lock: see cluster_lock_info().
	 *
	 * @param string $name Its name.
	 * @return array|null Null: nobody holds it.
	 * @throws Server_Error The server cannot be reached, or refuses.
	 */
	public static function lock( string $name ): ?array {
		return self::call( 'cluster_lock_info', $name );
	}

	/**
	 * Removes a lock from the holder who was seen: see cluster_lock_break().
	 *
	 * @param string $name  Its name.
	 * @param int    $fence The fencing token that cluster_lock_info() or cluster_lock_list() told.
	 * @return bool False: nobody holds it, or somebody else does by now, and nothing was done.
	 * @throws Server_Error The server cannot be reached, or refuses.
	 */
	public static function break_lock( string $name, int $fence ): bool {
		return self::call( 'cluster_lock_break', $name, $fence );
	}

	/**
	 * Calls while it holds a lock.
	 *
	 * @param string   $name     The lock.
	 * @param float    $timeout  How long to wait for it, in seconds; 0: only if it is free.
	 * @param callable $callback What to do.
	 * @return bool Whether it was done.
	 * @throws Server_Error The server cannot be reached, or the lock was lost meanwhile.
	 */
	public static function under_lock( string $name, float $timeout, callable $callback ): bool {
		if ( ! self::call( 'cluster_lock', $name, $timeout ) ) {
			return false;
		}
		try {
			$callback();
		} finally {
			self::call( 'cluster_unlock', $name );
		}
		return true;
	}

	/**
	 * The settings in force, without their prefix; the DSN as it may be shown.
	 *
	 * @return string[]
	 */
	public static function settings(): array {
		$settings = array();
		foreach ( (array) ini_get_all( 'cluster_lock', false ) as $name => $value ) {
			$settings[ substr( $name, strlen( 'cluster_lock.' ) ) ] = (string) $value;
		}
		$settings['dsn'] = self::status()['dsn'];
		return $settings;
	}

	/**
	 * This node's name, as the locks' reports have it.
	 */
	public static function node(): string {
		$node = (string) ini_get( 'cluster_lock.node' );
		return '' === $node ? (string) gethostname() : $node;
	}

	/**
	 * Calls a function of the extension. What it warns of is thrown, because it says what a bare false does not.
	 *
	 * @param string $callee    The function.
	 * @param mixed  ...$arguments Its arguments.
	 * @return mixed
	 * @throws Server_Error With the text of the warning.
	 */
	private static function call( string $callee, ...$arguments ) {
		$warning = null;
		// phpcs:ignore WordPress.PHP.DevelopmentFunctions.error_log_set_error_handler -- Taken off again below.
		set_error_handler(
			static function ( int $level, string $message ) use ( &$warning ): bool {
				$warning = $message;
				return true;
			},
			E_WARNING
		);
		try {
			$result = $callee( ...$arguments );
		} finally {
			restore_error_handler();
		}
		if ( null !== $warning ) {
			// phpcs:ignore WordPress.Security.EscapeOutput.ExceptionNotEscaped -- Whoever shows it escapes it.
			throw new Server_Error( (string) preg_replace( '/^' . $callee . '\(\): /', '', $warning ) );
		}
		return $result;
	}
}

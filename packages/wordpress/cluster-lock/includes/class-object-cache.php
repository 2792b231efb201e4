<?php
/**
 * Where the object cache keeps its data.
 *
 * @package Cluster_Lock
 */

declare( strict_types=1 );

namespace Cluster_Lock;

/**
 * Reads the constants and globals of the usual object-cache drop-ins (Redis Object Cache, Object Cache Pro, WP Redis),
 * and DSNs, as endpoints that can be compared: "host:port/database" or "/path.sock/database".
 */
final class Object_Cache {

	/**
	 * The databases of this site's object cache.
	 *
	 * @return string[] Empty: there is no object cache in Redis, or it is not known how it is configured.
	 */
	public static function endpoints_of_this_site(): array {
		$file = WP_CONTENT_DIR . '/object-cache.php';
		// phpcs:ignore WordPress.PHP.NoSilencedErrors, WordPress.WP.AlternativeFunctions -- A local file that may be missing.
		$head = wp_using_ext_object_cache() ? @file_get_contents( $file, false, null, 0, 65536 ) : false;
		if ( false === $head || false === stripos( $head, 'redis' ) ) {
			return array();
		}
		$constants = array();
		$names     = array( 'CONFIG', 'SCHEME', 'HOST', 'PORT', 'PATH', 'DATABASE', 'SERVERS', 'CLUSTER', 'SHARDS' );
		foreach ( $names as $name ) {
			if ( defined( 'WP_REDIS_' . $name ) ) {
				$constants[ $name ] = constant( 'WP_REDIS_' . $name );
			}
		}
		$global = isset( $GLOBALS['redis_server'] ) && is_array( $GLOBALS['redis_server'] ) ? $GLOBALS['redis_server'] : array();
		return self::endpoints( $constants, $global );
	}

	/**
	 * The databases that a drop-in's configuration means.
	 *
	 * @param array $constants The WP_REDIS_* constants, without that prefix.
	 * @param array $server    The global $redis_server.
	 * @return string[]
	 */
	public static function endpoints( array $constants, array $server ): array {
		$settings = array_change_key_case( $constants );
		if ( isset( $settings['config'] ) && is_array( $settings['config'] ) ) {
			$settings = array_change_key_case( $settings['config'] );
		} elseif ( array() !== $server ) {
			$settings = array_change_key_case( $server );
		}

		if ( isset( $settings['url'] ) && is_string( $settings['url'] ) ) {
			return self::of_dsn( $settings['url'] );
		}
		$several = $settings['servers'] ?? $settings['cluster'] ?? $settings['shards'] ?? null;
		$default = self::database( $settings['database'] ?? 0 );
		if ( is_array( $several ) ) {
			$found = array();
			foreach ( $several as $url ) {
				if ( is_string( $url ) ) {
					$found = array_merge( $found, self::of_dsn( $url, $default ) );
				}
			}
			return array_values( array_unique( $found ) );
		}
		$host = (string) ( $settings['path'] ?? $settings['host'] ?? '127.0.0.1' );
		if ( isset( $settings['scheme'], $settings['path'] ) && 'unix' !== $settings['scheme'] ) {
			$host = (string) ( $settings['host'] ?? '127.0.0.1' );
		}
		return array( self::endpoint( $host, (int) ( $settings['port'] ?? 6379 ), $default ) );
	}

	/**
	 * The databases that a DSN means; not of sentinels, which are not where the data is.
	 *
	 * @param string $dsn      Such as redis://host:6379/0 or tcp://host:6379?database=2; credentials are skipped.
	 * @param int    $database The database, if the DSN does not say.
	 * @return string[]
	 */
	public static function of_dsn( string $dsn, int $database = 0 ): array {
		$parts = preg_match( '~^([a-z+]+)://(?:[^@/]*@)?([^/?#]*)(/[^?#]*)?(?:\?([^#]*))?$~i', $dsn, $found ) ? $found : array();
		if ( array() === $parts || false !== stripos( $parts[1], 'sentinel' ) ) {
			return preg_match( '~^[\w.-]+(:\d+)?$~', $dsn ) ? self::of_hosts( $dsn, $database ) : array();
		}
		parse_str( $parts[4] ?? '', $query );
		$path     = $parts[3] ?? '';
		$database = self::database( $query['db'] ?? $query['database'] ?? $database );
		if ( '' === $parts[2] ) {
			return '' === $path ? array() : array( self::endpoint( $path, 0, $database ) );
		}
		return self::of_hosts( $parts[2], ctype_digit( substr( $path, 1 ) ) ? (int) substr( $path, 1 ) : $database );
	}

	/**
	 * Endpoints of a list of hosts.
	 *
	 * @param string $hosts    Such as a:6379,[::1]:6380,c.
	 * @param int    $database Their database.
	 * @return string[]
	 */
	private static function of_hosts( string $hosts, int $database ): array {
		$found = array();
		foreach ( explode( ',', $hosts ) as $host ) {
			// What is no host may be a piece of a password.
			if ( preg_match( '~^(\[[0-9a-f:.]+\]|[\w.-]+)(?::(\d+))?$~i', $host, $parts ) ) {
				$found[] = self::endpoint( $parts[1], (int) ( $parts[2] ?? 6379 ), $database );
			}
		}
		return $found;
	}

	/**
	 * One endpoint, so written that two of the same are equal.
	 *
	 * @param string $host     A name, an address or the path of a socket.
	 * @param int    $port     Its port; of no meaning for a socket.
	 * @param int    $database The number of the database.
	 */
	private static function endpoint( string $host, int $port, int $database ): string {
		$host = (string) preg_replace( '~^(?:unix|tcp|tls|ssl|rediss?)://~i', '', $host );
		if ( 0 === strpos( $host, '/' ) ) {
			return $host . '/' . $database;
		}
		$host = strtolower( trim( $host, '[]' ) );
		if ( in_array( $host, array( '127.0.0.1', '::1', '' ), true ) ) {
			$host = 'localhost';
		}
		return "$host:$port/$database";
	}

	/**
	 * The number of a database.
	 *
	 * @param mixed $value As configured.
	 */
	private static function database( $value ): int {
		return is_numeric( $value ) ? (int) $value : 0;
	}
}

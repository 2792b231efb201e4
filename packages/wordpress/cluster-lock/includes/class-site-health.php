<?php
/**
 * Tools → Site Health: the tests, and the section on the Info tab.
 *
 * @package Cluster_Lock
 */

declare( strict_types=1 );

namespace Cluster_Lock;

/**
 * Asks PHP, the kernel and the servers, and has the answers judged by the classes named …_Check(s).
 */
final class Site_Health {

	/**
	 * The tests that ask a server, which may take its time; they are run by REST, after the page is there.
	 */
	public const ASYNC = array( 'server', 'eviction', 'database' );

	/**
	 * Adds the tests; without the extension only the one that says so.
	 *
	 * @param array $tests As WordPress has them.
	 * @return array
	 */
	public static function add_tests( $tests ) {
		$tests['direct']['cluster_lock_extension'] = array(
			'label' => __( 'Cluster locks: extension', 'cluster-lock' ),
			'test'  => array( self::class, 'test_extension' ),
		);
		if ( ! Extension::is_loaded() ) {
			return $tests;
		}
		$tests['direct']['cluster_lock_content'] = array(
			'label' => __( 'Cluster locks: content directory', 'cluster-lock' ),
			'test'  => array( self::class, 'test_content' ),
		);
		$tests['direct']['cluster_lock_limits']  = array(
			'label' => __( 'Cluster locks: leases and time limits', 'cluster-lock' ),
			'test'  => array( self::class, 'test_limits' ),
		);
		$labels                                  = array(
			'server'   => __( 'Cluster locks: server', 'cluster-lock' ),
			'eviction' => __( 'Cluster locks: eviction', 'cluster-lock' ),
			'database' => __( 'Cluster locks: database', 'cluster-lock' ),
		);
		foreach ( self::ASYNC as $name ) {
			$tests['async'][ 'cluster_lock_' . $name ] = array(
				'label'             => $labels[ $name ],
				'test'              => rest_url( Rest::SPACE . '/tests/' . $name ),
				'has_rest'          => true,
				'async_direct_test' => array( self::class, 'test_' . $name ),
			);
		}
		return $tests;
	}

	/**
	 * Is the extension there?
	 */
	public static function test_extension(): array {
		$ini = php_ini_loaded_file();
		if ( Extension::is_loaded() ) {
			/* translators: %s: a version number. */
			$verdict = Verdict::good( sprintf( __( 'The extension cluster_lock %s is loaded', 'cluster-lock' ), Extension::version() ) )
				->say( __( 'Themes and plugins can take locks that all web servers of this site share.', 'cluster-lock' ) );
		} else {
			$verdict = Verdict::recommended( __( 'The PHP extension cluster_lock is not loaded', 'cluster-lock' ) )
				->say( __( 'The site works without it, but nothing keeps two web servers from writing the same file at once. Have it installed on every web server, with these lines in php.ini, and PHP restarted:', 'cluster-lock' ) )
				->code( "extension = cluster_lock\ncluster_lock.dsn = \"redis://host:6379\"" )
				->say(
					sprintf(
						/* translators: 1: a version of PHP, 2: a path. */
						__( 'This is PHP %1$s; its php.ini is %2$s.', 'cluster-lock' ),
						PHP_VERSION,
						false === $ini ? __( 'missing', 'cluster-lock' ) : $ini
					)
				)
				->say( __( 'To do without it for good, remove cluster-lock.php and the folder cluster-lock from mu-plugins.', 'cluster-lock' ) );
		}
		return $verdict->result( 'cluster_lock_extension' );
	}

	/**
	 * Do the web servers share files whose flock() is polled?
	 */
	public static function test_content(): array {
		$uploads = wp_get_upload_dir();
		$dirs    = array( WP_CONTENT_DIR, get_theme_root(), WP_PLUGIN_DIR, $uploads['basedir'] );
		$real    = array();
		foreach ( $dirs as $dir ) {
			// phpcs:ignore WordPress.PHP.NoSilencedErrors -- open_basedir may forbid to ask.
			$path   = @realpath( $dir );
			$real[] = false === $path ? $dir : $path;
		}
		$status  = Extension::status();
		$verdict = Content_Check::verdict( $real, Mounts::of_this_process(), $status['hook'], $status['backend'] );
		return $verdict->result( 'cluster_lock_content' );
	}

	/**
	 * Do the time limits contradict each other?
	 */
	public static function test_limits(): array {
		$verdict = Limits_Check::verdict( Extension::settings(), (int) ini_get( 'max_execution_time' ) );
		return $verdict->result( 'cluster_lock_limits' );
	}

	/**
	 * Is the server there?
	 */
	public static function test_server(): array {
		return Server_Checks::reachable( Extension::status(), self::servers() )->result( 'cluster_lock_server', self::link_to_page() );
	}

	/**
	 * May it forget locks?
	 */
	public static function test_eviction(): array {
		return Server_Checks::eviction( Extension::status(), Extension::servers() )->result( 'cluster_lock_eviction' );
	}

	/**
	 * Who else writes to its database?
	 */
	public static function test_database(): array {
		$verdict = Server_Checks::database(
			Extension::status(),
			Extension::servers(),
			Object_Cache::endpoints_of_this_site()
		);
		return $verdict->result( 'cluster_lock_database' );
	}

	/**
	 * Adds the section on the Info tab.
	 *
	 * @param array $sections As WordPress has them.
	 * @return array
	 */
	public static function add_information( $sections ) {
		$sections['cluster-lock'] = array(
			'label'       => __( 'Cluster locks', 'cluster-lock' ),
			'description' => __( 'The PHP extension cluster_lock on the web server that made this page.', 'cluster-lock' ),
			'fields'      => Extension::is_loaded() ? self::fields() : array(
				'version' => array(
					'label' => __( 'Extension', 'cluster-lock' ),
					'value' => __( 'Not loaded', 'cluster-lock' ),
					'debug' => 'not loaded',
				),
			),
		);
		return $sections;
	}

	/**
	 * Version, servers, settings and counters.
	 */
	private static function fields(): array {
		$status = Extension::status();
		$fields = array(
			'version'   => self::field( __( 'Extension', 'cluster-lock' ), $status['version'] ),
			'backend'   => self::field( __( 'Kind of server', 'cluster-lock' ), $status['backend'] ),
			'this_node' => self::field( __( 'This web server', 'cluster-lock' ), Extension::node(), true ),
		);
		foreach ( self::servers() as $number => $server ) {
			$fields[ "server_$number" ] = self::field( __( 'Server', 'cluster-lock' ), Server_Checks::description( $server ), true );
			if ( isset( $server['maxmemory_policy'] ) ) {
				$fields[ "policy_$number" ] = self::field( __( 'Eviction policy', 'cluster-lock' ), $server['maxmemory_policy'] );
			}
		}
		foreach ( Extension::settings() as $name => $value ) {
			$is_private      = in_array( $name, array( 'dsn', 'node', 'path_map', 'intercept' ), true );
			$fields[ $name ] = self::field( 'cluster_lock.' . $name, $value, $is_private );
		}
		/* translators: %s: what is counted, in English, such as acquired. */
		$label = __( 'Since this PHP process started: %s', 'cluster-lock' );
		foreach ( $status['counters'] as $name => $count ) {
			$value = is_float( $count ) ? round( $count, 3 ) . ' s' : (string) $count;

			$fields[ "count_$name" ] = self::field( sprintf( $label, $name ), $value );
		}
		$pool = $status['pool'];

		$fields['pool'] = self::field(
			__( 'Connections: open, idle, most', 'cluster-lock' ),
			"{$pool['open']}, {$pool['idle']}, {$pool['size']}"
		);
		return $fields;
	}

	/**
	 * One line of the Info tab.
	 *
	 * @param string $label      What it is.
	 * @param string $value      Plain text; WordPress escapes it.
	 * @param bool   $is_private Whether it is left out of what "Copy site info" copies.
	 */
	private static function field( string $label, string $value, bool $is_private = false ): array {
		return array(
			'label'   => $label,
			'value'   => '' === $value ? '–' : Text::printable( $value ),
			'debug'   => Text::printable( $value ),
			'private' => $is_private,
		);
	}

	/**
	 * Extension::servers(), or what can be said when the extension is too old to ask.
	 */
	public static function servers(): array {
		$servers = Extension::servers();
		if ( null !== $servers ) {
			return $servers;
		}
		$status = Extension::status();
		if ( in_array( $status['backend'], array( 'local', 'none' ), true ) ) {
			return array();
		}
		$server = array(
			'server'     => $status['dsn'],
			'error'      => null,
			'round_trip' => null,
			'version'    => $status['server_version'],
			'role'       => $status['server_role'],
		);
		try {
			Extension::under_lock( 'wp:site-health:' . bin2hex( random_bytes( 8 ) ), 0.0, '__return_null' );
			$server['round_trip'] = Extension::round_trip();
		} catch ( Server_Error $error ) {
			$server['error'] = $error->getMessage();
		}
		return array( $server );
	}

	/**
	 * A link to the page, for those who may see it.
	 */
	private static function link_to_page(): string {
		return ! Access::is_allowed() ? '' : sprintf(
			'<p><a href="%s">%s</a></p>',
			esc_url( Page::url() ),
			esc_html__( 'See the locks', 'cluster-lock' )
		);
	}
}

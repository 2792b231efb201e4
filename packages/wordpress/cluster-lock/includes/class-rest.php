<?php
/**
 * The REST routes.
 *
 * @package Cluster_Lock
 */

declare( strict_types=1 );

namespace Cluster_Lock;

use WP_Error;
use WP_REST_Request;
use WP_REST_Response;

/**
 * What the page refreshes itself from, what breaks a lock, and Site Health's asynchronous tests. A browser's request
 * counts as a user's only with the REST nonce; without the capability nobody gets anything.
 */
final class Rest {

	public const SPACE = 'cluster-lock/v1';

	/**
	 * The most locks that one answer has.
	 */
	private const MOST = 1000;

	/**
	 * Registers them.
	 */
	public static function register(): void {
		register_rest_route(
			self::SPACE,
			'/locks',
			array(
				'methods'             => 'GET',
				'callback'            => array( self::class, 'locks' ),
				'permission_callback' => array( self::class, 'may_see' ),
				'args'                => array(
					'prefix' => array(
						'description' => __( 'Start of the names; base64:… when it is not printable.', 'cluster-lock' ),
						'type'        => 'string',
						'default'     => '',
					),
					'limit'  => array(
						'description' => __( 'The most locks to return.', 'cluster-lock' ),
						'type'        => 'integer',
						'minimum'     => 1,
						'maximum'     => self::MOST,
						'default'     => Page::limit(),
					),
				),
			)
		);
		register_rest_route(
			self::SPACE,
			'/break',
			array(
				'methods'             => 'POST',
				'callback'            => array( self::class, 'break_lock' ),
				'permission_callback' => array( self::class, 'may_see' ),
				'args'                => array(
					'lock'  => array(
						'description' => __( 'The name of the lock; base64:… when it is not printable.', 'cluster-lock' ),
						'type'        => 'string',
						'required'    => true,
					),
					'fence' => array(
						'description' => __( 'The fencing token of the holder who is meant.', 'cluster-lock' ),
						'type'        => array( 'string', 'integer' ),
						'pattern'     => '^[1-9][0-9]*$',
						'minimum'     => 1,
						'required'    => true,
					),
				),
			)
		);
		register_rest_route(
			self::SPACE,
			'/waits',
			array(
				'methods'             => 'GET',
				'callback'            => array( self::class, 'waits' ),
				'permission_callback' => array( self::class, 'may_see' ),
			)
		);
		foreach ( Site_Health::ASYNC as $test ) {
			register_rest_route(
				self::SPACE,
				'/tests/' . $test,
				array(
					'methods'             => 'GET',
					'callback'            => static function () use ( $test ) {
						return Extension::is_loaded()
							? new WP_REST_Response( call_user_func( array( Site_Health::class, 'test_' . $test ) ) )
							: self::not_loaded();
					},
					'permission_callback' => static function () use ( $test ): bool {
						/** This filter is documented in wp-includes/rest-api/endpoints/class-wp-rest-site-health-controller.php */
						$capability = apply_filters(
							"site_health_test_rest_capability_cluster_lock_$test", // phpcs:ignore WordPress.NamingConventions.PrefixAllGlobals
							'view_site_health_checks',
							"cluster_lock_$test"
						);
						return current_user_can( $capability );
					},
				)
			);
		}
	}

	/**
	 * Whether the current user may.
	 */
	public static function may_see(): bool {
		return Access::is_allowed();
	}

	/**
	 * The locks: as data, and as the cells of the page's table.
	 *
	 * @param WP_REST_Request $request With prefix and limit.
	 * @return WP_REST_Response|WP_Error
	 */
	public static function locks( WP_REST_Request $request ) {
		if ( ! Extension::is_loaded() ) {
			return self::not_loaded();
		}
		try {
			$list = Page::locks( (string) $request['prefix'], (int) $request['limit'] );
		} catch ( Server_Error $error ) {
			return self::failed( $error );
		}
		$now = microtime( true );
		return new WP_REST_Response(
			array(
				'locks'   => array_map( array( self::class, 'data' ), $list['locks'] ),
				'rows'    => array_map(
					static function ( array $lock ) use ( $now ): array {
						return Lock_Table::row( $lock, $now, ABSPATH );
					},
					$list['locks']
				),
				'more'    => $list['more'],
				'summary' => Lock_Table::summary( $list['locks'], $list['more'] ),
			)
		);
	}

	/**
	 * Breaks a lock, if it is still held by whom the administrator saw.
	 *
	 * @param WP_REST_Request $request With lock and fence.
	 * @return WP_REST_Response|WP_Error
	 */
	public static function break_lock( WP_REST_Request $request ) {
		if ( ! Extension::is_loaded() ) {
			return self::not_loaded();
		}
		$name = Text::name_of( (string) $request['lock'] );
		if ( null === $name ) {
			return new WP_Error( 'cluster_lock_name', __( 'No lock can have this name.', 'cluster-lock' ), array( 'status' => 400 ) );
		}
		$title = Text::shortened( Text::printable( $name ), 120 );
		try {
			// For the log. Whether it is still so is decided where the lock is, when it is broken.
			$lock = Extension::lock( $name );
			if ( null === $lock || ! Extension::break_lock( $name, (int) $request['fence'] ) ) {
				$now = Extension::lock( $name );
				if ( null !== $now ) {
					return new WP_Error( 'cluster_lock_changed', Lock_Table::has_changed( $title, $now ), array( 'status' => 409 ) );
				}
				/* translators: %s: name of a lock. */
				$message = sprintf( __( 'Nobody holds the lock "%s" any more.', 'cluster-lock' ), $title );
				return new WP_Error( 'cluster_lock_not_held', $message, array( 'status' => 404 ) );
			}
		} catch ( Server_Error $error ) {
			return self::failed( $error );
		}
		self::log( $name, $lock );
		return new WP_REST_Response(
			array(
				'broken'  => true,
				'lock'    => Text::id( $name ),
				/* translators: %s: name of a lock. */
				'message' => sprintf( __( 'The lock "%s" was broken.', 'cluster-lock' ), $title ),
			)
		);
	}

	/**
	 * The waits of the last two days.
	 */
	public static function waits(): WP_REST_Response {
		return new WP_REST_Response( Waits_View::data( Wait_Recorder::stored(), time() ) );
	}

	/**
	 * Tells the error log, and whoever listens, that a lock was broken, by whom, and who had it.
	 *
	 * @param string $name Its name.
	 * @param array  $lock What cluster_lock_info() said of it before.
	 */
	public static function log( string $name, array $lock ): void {
		$user = wp_get_current_user();
		$who  = $user->exists() ? "user \"{$user->user_login}\" (ID {$user->ID})" : 'the command line';
		// In English, as all of the log is; each part printable, so that it stays one line.
		$line = sprintf( 'cluster_lock: Lock "%s" (fence %s) was broken by %s.', Text::printable( $name ), $lock['fence'], Text::printable( $who ) );
		foreach ( $lock['holders'] as $holder ) {
			$call  = Lock_Table::call( $holder, '' );
			$line .= sprintf(
				' Held by node "%s", pid %d, "%s"%s.',
				Text::printable( $holder['node'] ),
				$holder['pid'],
				Text::printable( $holder['request_uri'] . ' ' . $holder['script'] ),
				'' === $call ? '' : ", $call"
			);
		}
		if ( Lock_Table::more( $lock, 'holders' ) > 0 ) {
			$line .= sprintf( ' Held by %d more.', Lock_Table::more( $lock, 'holders' ) );
		}
		// phpcs:ignore WordPress.PHP.DevelopmentFunctions.error_log_error_log -- An administrator's deed belongs there.
		error_log( $line );

		/**
		 * Fires after a lock was broken.
		 *
		 * @param string $name Its name: arbitrary bytes.
		 * @param array  $lock What cluster_lock_info() said of it before.
		 * @param int    $user Who broke it; 0: somebody on the command line.
		 */
		do_action( 'cluster_lock_broken', $name, $lock, $user->ID );
	}

	/**
	 * A lock as JSON can carry it.
	 *
	 * @param array $lock One of cluster_lock_list().
	 */
	public static function data( array $lock ): array {
		$lock['name']  = Text::id( $lock['name'] );
		$lock['fence'] = (string) $lock['fence'];
		foreach ( array( 'holders', 'waiters' ) as $group ) {
			foreach ( $lock[ $group ] as $index => $process ) {
				foreach ( $process as $key => $value ) {
					$lock[ $group ][ $index ][ $key ] = is_string( $value ) ? Text::printable( $value ) : $value;
				}
				if ( isset( $process['fence'] ) ) {
					$lock[ $group ][ $index ]['fence'] = (string) $process['fence'];
				}
			}
		}
		return $lock;
	}

	/**
	 * The server's, or the extension's, own words.
	 *
	 * @param Server_Error $error What happened.
	 */
	private static function failed( Server_Error $error ): WP_Error {
		return new WP_Error( 'cluster_lock_server', $error->getMessage(), array( 'status' => 503 ) );
	}

	/**
	 * There is nothing to ask.
	 */
	private static function not_loaded(): WP_Error {
		return new WP_Error( 'cluster_lock_not_loaded', __( 'The PHP extension cluster_lock is not loaded.', 'cluster-lock' ), array( 'status' => 501 ) );
	}
}

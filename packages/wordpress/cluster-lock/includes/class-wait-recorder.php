<?php
/**
 * Counts the requests that waited for a lock.
 *
 * @package Cluster_Lock
 */

declare( strict_types=1 );

namespace Cluster_Lock;

/**
 * Compares the extension's counters at the end of a request with those at its beginning. A request that did not wait
 * costs two calls that ask nobody; only one that did writes to the database.
 */
final class Wait_Recorder {

	/**
	 * An option of its own, not loaded with the others; on a network one for all sites, as the locks are.
	 */
	public const OPTION = 'cluster_lock_waits';

	/**
	 * What is shorter is no wait, in seconds: one try takes a round trip, too.
	 */
	private const SHORTEST = 0.01;

	/**
	 * How long to wait for the turn to write, in seconds, when nobody waits for this request any more.
	 */
	private const PATIENCE = 1.0;

	/**
	 * The counters at the beginning.
	 *
	 * @var array
	 */
	private static $before = array();

	/**
	 * Remembers the counters.
	 */
	public static function start(): void {
		self::$before = Extension::counters();
		// After everybody else, who may still be waiting for something.
		add_action( 'shutdown', array( self::class, 'finish' ), PHP_INT_MAX );
	}

	/**
	 * What is kept.
	 */
	public static function stored(): Waits {
		return Waits::of( get_network_option( null, self::OPTION, array() ) );
	}

	/**
	 * Adds this request if it waited.
	 */
	public static function finish(): void {
		$after   = Extension::counters();
		$seconds = $after['wait_total'] - self::$before['wait_total'];
		if ( $seconds < self::SHORTEST ) {
			return;
		}
		$request = array(
			'at'        => time(),
			'node'      => Text::printable( Extension::node() ),
			'uri'       => self::what_runs(),
			'waits'     => max( 1, $after['contended'] - self::$before['contended'] ),
			'seconds'   => $seconds,
			'timed_out' => max( 0, $after['timed_out'] - self::$before['timed_out'] ),
		);
		/**
		 * Filters whether a request that waited is counted.
		 *
		 * @param bool  $is_counted True.
		 * @param array $request    at, node, uri, waits, seconds, timed_out.
		 */
		if ( apply_filters( 'cluster_lock_record_wait', true, $request ) ) {
			self::store( $request );
		}
	}

	/**
	 * Adds it to what is stored.
	 *
	 * @param array $request See finish().
	 */
	private static function store( array $request ): void {
		$slow = Limits_Check::seconds( Extension::settings(), 'slow_wait' );
		try {
			// Requests that waited for one lock end together. It is better to lose a count than to keep a visitor.
			Extension::under_lock(
				'wp:' . self::OPTION,
				self::is_answered() ? self::PATIENCE : 0.0,
				static function () use ( $request, $slow ): void {
					// What another node wrote a moment ago is in the database, not in this request's cache.
					wp_cache_delete( self::OPTION, 'options' );
					wp_cache_delete( get_current_network_id() . ':' . self::OPTION, 'site-options' );
					$waits = self::stored();
					$waits->add( $request, $slow > 0 ? $slow : 1.0 );
					update_network_option( null, self::OPTION, $waits->as_array() );
				}
			);
		} catch ( Server_Error $error ) {
			return; // The extension's own log has it; and these are only statistics.
		}
	}

	/**
	 * Sends the answer, where that does not have to wait for the end of the script.
	 *
	 * This is the last of WordPress's shutdown hooks, so that nobody has anything to add.
	 */
	private static function is_answered(): bool {
		foreach ( array( 'fastcgi_finish_request', 'litespeed_finish_request' ) as $finish ) {
			if ( function_exists( $finish ) ) {
				return (bool) $finish();
			}
		}
		return false;
	}

	/**
	 * The path of the request, without its query string; on the command line the script.
	 */
	private static function what_runs(): string {
		// phpcs:ignore WordPress.Security.ValidatedSanitizedInput -- printable() makes it text; it is escaped when shown.
		$uri = isset( $_SERVER['REQUEST_URI'] ) ? (string) wp_unslash( $_SERVER['REQUEST_URI'] ) : '';
		if ( '' !== $uri && 'cli' !== PHP_SAPI ) {
			return Text::path_of( $uri );
		}
		// phpcs:ignore WordPress.Security.ValidatedSanitizedInput -- As above.
		return Text::path_of( basename( (string) ( $_SERVER['SCRIPT_NAME'] ?? PHP_SAPI ) ) );
	}
}

<?php
/**
 * The command wp cluster-lock.
 *
 * @package Cluster_Lock
 */

declare( strict_types=1 );

namespace Cluster_Lock;

use WP_CLI;

/**
 * Shows, tests and breaks the locks that the web servers of this site share.
 *
 * It talks to the server that PHP's command line is configured for: cluster_lock.dsn may be another one there than
 * on the web. Locks are named as on the page Tools → Cluster locks, with base64:… for names that are not printable.
 */
final class Command {

	/**
	 * Shows the extension's version, its servers and what this process has done.
	 *
	 * Fails when a server does not answer, or locks do not work there.
	 *
	 * ## OPTIONS
	 *
	 * [--format=<format>]
	 * : How to print it.
	 * ---
	 * default: table
	 * options:
	 *   - table
	 *   - json
	 *   - csv
	 *   - yaml
	 * ---
	 *
	 * ## EXAMPLES
	 *
	 *     wp cluster-lock status
	 *
	 * @param array $arguments Positional ones.
	 * @param array $options   The others.
	 */
	public function status( $arguments, $options ): void {
		self::need_extension();
		$status = Extension::status();
		$items  = array(
			self::item( 'version', $status['version'] ),
			self::item( 'backend', $status['backend'] ),
			self::item( 'dsn', $status['dsn'] ),
			self::item( 'node', Extension::node() ),
		);
		$failed = 'none' === $status['backend'] ? array( 'cluster_lock.dsn is not usable' ) : array();
		foreach ( Site_Health::servers() as $server ) {
			$items[] = self::item( 'server', Server_Checks::description( $server ) );
			if ( null !== $server['error'] ) {
				$failed[] = $server['error'];
			}
		}
		$items[] = self::item( 'intercept', $status['hook']['active'] ? $status['hook']['intercept'] : '' );
		$items[] = self::item( 'flock_mode', $status['hook']['flock_mode'] );
		WP_CLI\Utils\format_items( self::format( $options ), $items, array( 'field', 'value' ) );
		if ( array() !== $failed ) {
			WP_CLI::error( implode( '; ', $failed ) );
		}
	}

	/**
	 * Lists the locks that are held.
	 *
	 * ## OPTIONS
	 *
	 * [<prefix>]
	 * : Only those whose names start so.
	 *
	 * [--limit=<number>]
	 * : The most locks to list.
	 * ---
	 * default: 1000
	 * ---
	 *
	 * [--fields=<fields>]
	 * : Which of lock, mode, run, node, pid, what, call, held, lease, fence and waiting.
	 *
	 * [--format=<format>]
	 * : How to print it. In json, durations are seconds.
	 * ---
	 * default: table
	 * options:
	 *   - table
	 *   - json
	 *   - csv
	 *   - yaml
	 *   - count
	 * ---
	 *
	 * ## EXAMPLES
	 *
	 *     wp cluster-lock list theme- --format=json
	 *
	 * @subcommand list
	 *
	 * @param array $arguments Positional ones.
	 * @param array $options   The others.
	 */
	public function list_( $arguments, $options ): void {
		self::need_extension();
		$limit = (int) ( $options['limit'] ?? 1000 );
		if ( $limit < 1 ) {
			WP_CLI::error( '--limit must be 1 or more.' );
		}
		try {
			$list = Page::locks( (string) ( $arguments[0] ?? '' ), $limit );
		} catch ( Server_Error $error ) {
			WP_CLI::error( $error->getMessage() );
		}
		$now   = microtime( true );
		$items = array();
		foreach ( $list['locks'] as $lock ) {
			$first   = $lock['holders'][0] ?? array();
			$items[] = array(
				'lock'    => Text::id( $lock['name'] ),
				'mode'    => $lock['mode'],
				'run'     => Lock_Table::runs( $first ) ? 'yes' : '',
				'node'    => Text::printable( $first['node'] ?? '' ),
				'pid'     => $first['pid'] ?? '',
				'what'    => Text::printable( self::what( $first ) ),
				'call'    => Lock_Table::call( $first, '' ),
				'held'    => self::span( $now - $lock['since'], $options ),
				'lease'   => self::span( $lock['ttl'], $options ),
				'fence'   => $lock['fence'],
				'waiting' => Lock_Table::count( $lock, 'waiters' ),
			);
		}
		$fields = array( 'lock', 'mode', 'run', 'node', 'pid', 'what', 'call', 'held', 'lease', 'fence', 'waiting' );
		if ( isset( $options['fields'] ) ) {
			$fields = array_values( array_intersect( explode( ',', $options['fields'] ), $fields ) );
		}
		WP_CLI\Utils\format_items( self::format( $options ), $items, $fields );
		if ( $list['more'] ) {
			WP_CLI::warning( 'There are more locks; raise --limit, or give the start of their names.' );
		}
	}

	/**
	 * Shows who holds a lock, and who waits for it, in order.
	 *
	 * Fails when nobody holds it.
	 *
	 * ## OPTIONS
	 *
	 * <lock>
	 * : The lock's name.
	 *
	 * [--format=<format>]
	 * : How to print it.
	 * ---
	 * default: table
	 * options:
	 *   - table
	 *   - json
	 *   - csv
	 *   - yaml
	 * ---
	 *
	 * ## EXAMPLES
	 *
	 *     wp cluster-lock info theme-css
	 *
	 * @param array $arguments Positional ones.
	 * @param array $options   The others.
	 */
	public function info( $arguments, $options ): void {
		list( , $lock ) = self::held_lock( $arguments );

		$now   = microtime( true );
		$items = array();
		foreach ( $lock['holders'] as $holder ) {
			$items[] = array(
				'role'  => 'holder',
				'mode'  => $lock['mode'],
				'run'   => Lock_Table::runs( $holder ) ? 'yes' : '',
				'node'  => Text::printable( $holder['node'] ),
				'pid'   => $holder['pid'],
				'what'  => Text::printable( self::what( $holder ) ),
				'call'  => Lock_Table::call( $holder, '' ),
				'for'   => self::span( $now - $holder['since'], $options ),
				'fence' => $holder['fence'],
			);
		}
		foreach ( $lock['waiters'] as $waiter ) {
			$items[] = array(
				'role'  => 'waiter',
				'mode'  => $waiter['mode'],
				'run'   => Lock_Table::runs( $waiter ) ? 'yes' : '',
				'node'  => Text::printable( $waiter['node'] ),
				'pid'   => $waiter['pid'],
				'what'  => '',
				'call'  => Lock_Table::call( $waiter, '' ),
				'for'   => self::span( $now - $waiter['since'], $options ),
				'fence' => '',
			);
		}
		WP_CLI\Utils\format_items( self::format( $options ), $items, array( 'role', 'mode', 'run', 'node', 'pid', 'what', 'call', 'for', 'fence' ) );
		foreach ( array( 'holders', 'waiters' ) as $group ) {
			if ( Lock_Table::more( $lock, $group ) > 0 ) {
				WP_CLI::warning( sprintf( 'And %d more %s.', Lock_Table::more( $lock, $group ), $group ) );
			}
		}
	}

	/**
	 * Takes a lock away from whoever holds it; the next in line gets it.
	 *
	 * The holder is not stopped: it finds out at its next call. Fails when nobody holds the lock, or when another one
	 * has got it since it was shown: then nothing is broken.
	 *
	 * ## OPTIONS
	 *
	 * <lock>
	 * : The lock's name.
	 *
	 * [--yes]
	 * : Do not ask.
	 *
	 * ## EXAMPLES
	 *
	 *     wp cluster-lock break theme-css
	 *
	 * @subcommand break
	 *
	 * @param array $arguments Positional ones.
	 * @param array $options   The others.
	 */
	public function break_( $arguments, $options ): void {
		list( $name, $lock ) = self::held_lock( $arguments );

		$title = Text::printable( $name );
		WP_CLI::confirm( Lock_Table::held_by( $lock, microtime( true ) ) . " Break the lock \"$title\"?", $options );
		try {
			if ( ! Extension::break_lock( $name, $lock['fence'] ) ) {
				$now = Extension::lock( $name );
				WP_CLI::error( null === $now ? "Nobody holds the lock \"$title\" any more." : Lock_Table::has_changed( $title, $now ) );
			}
		} catch ( Server_Error $error ) {
			WP_CLI::error( $error->getMessage() );
		}
		Rest::log( $name, $lock );
		WP_CLI::success( "The lock \"$title\" was broken." );
	}

	/**
	 * Takes a lock of its own, makes sure that it excludes a second handle, and releases it.
	 *
	 * Fails when anything is not as it should be.
	 *
	 * ## OPTIONS
	 *
	 * [--format=<format>]
	 * : How to print it.
	 * ---
	 * default: table
	 * options:
	 *   - table
	 *   - json
	 *   - csv
	 *   - yaml
	 * ---
	 *
	 * ## EXAMPLES
	 *
	 *     wp cluster-lock test
	 *
	 * @param array $arguments Positional ones.
	 * @param array $options   The others.
	 */
	public function test( $arguments, $options ): void {
		self::need_extension();
		$steps  = array();
		$failed = false;
		$step   = static function ( string $what, callable $callback ) use ( &$steps, &$failed ): void {
			$began = microtime( true );
			try {
				$is_right = $callback();
				$result   = $is_right ? 'ok' : 'FAILED';
			} catch ( \RuntimeException $error ) { // The extension's exceptions, and Server_Error.
				$is_right = false;
				$result   = $error->getMessage();
			}
			$failed  = $failed || ! $is_right;
			$steps[] = array(
				'step'         => $what,
				'result'       => $result,
				'milliseconds' => round( ( microtime( true ) - $began ) * 1000, 2 ),
			);
		};
		// A name that nobody else has: this is to work on a busy site.
		$name   = 'wp:test:' . bin2hex( random_bytes( 8 ) );
		$first  = new \ClusterLock( $name );
		$second = new \ClusterLock( $name );
		$fence  = 0;

		// The server's view: a second handle of this process may be refused without asking it.
		$held_by = static function () use ( $name ): array {
			return array_column( Extension::lock( $name )['holders'] ?? array(), 'pid', 'fence' );
		};

		$step( 'connect and take the lock', static fn (): bool => $first->acquire( 5.0 ) );
		if ( ! $failed ) {
			$fence = $first->fence();
			$step( 'the server says that this process holds it', static fn (): bool => array( $fence => getmypid() ) === $held_by() );
			$step( 'a second handle is kept out', static fn (): bool => ! $second->acquire( 0.0 ) );
			$step( 'renew the lease', static fn (): bool => self::done( array( $first, 'refresh' ) ) );
			$step( 'release', static fn (): bool => self::done( array( $first, 'release' ) ) );
			$step( 'the second handle gets it', static fn (): bool => $second->acquire( 5.0 ) );
			$step( 'its fencing token is greater', static fn (): bool => $second->fence() > $fence );
			$step( 'release', static fn (): bool => self::done( array( $second, 'release' ) ) );
			$step( 'the server says that nobody holds it', static fn (): bool => array() === $held_by() );
		}
		WP_CLI\Utils\format_items( self::format( $options ), $steps, array( 'step', 'result', 'milliseconds' ) );
		if ( $failed ) {
			WP_CLI::error( 'Locks do not work here.' );
		}
		WP_CLI::success( 'Locks work.' );
	}

	/**
	 * A lock that is held, or the end of the command.
	 *
	 * @param array $arguments Positional ones; the first is the name.
	 * @return array Name and what cluster_lock_info() says of it.
	 */
	private static function held_lock( array $arguments ): array {
		self::need_extension();
		$name = Text::name_of( (string) $arguments[0] );
		if ( null === $name ) {
			WP_CLI::error( 'No lock can have this name.' );
		}
		try {
			$lock = Extension::lock( (string) $name );
		} catch ( Server_Error $error ) {
			WP_CLI::error( $error->getMessage() );
		}
		if ( null === $lock ) {
			WP_CLI::error( 'Nobody holds the lock "' . Text::printable( (string) $name ) . '".' );
		}
		return array( (string) $name, $lock );
	}

	/**
	 * Ends the command where there is no extension.
	 */
	private static function need_extension(): void {
		if ( ! Extension::is_loaded() ) {
			WP_CLI::error( 'The PHP extension cluster_lock is not loaded in ' . PHP_BINARY . '.' );
		}
	}

	/**
	 * Calls what returns nothing, and throws when it fails.
	 *
	 * @param callable $callback The method.
	 */
	private static function done( callable $callback ): bool {
		$callback();
		return true;
	}

	/**
	 * One line of a table of fields.
	 *
	 * @param string $field What it is.
	 * @param string $value Its value.
	 */
	private static function item( string $field, string $value ): array {
		return array(
			'field' => $field,
			'value' => $value,
		);
	}

	/**
	 * What a holder is doing.
	 *
	 * @param array $holder Of a lock.
	 */
	private static function what( array $holder ): string {
		return (string) ( $holder['request_uri'] ?? '' ) . ( '' === ( $holder['request_uri'] ?? '' ) ? $holder['script'] ?? '' : '' );
	}

	/**
	 * A time span, for people or for programs.
	 *
	 * @param float $seconds The span.
	 * @param array $options The command's.
	 * @return string|float
	 */
	private static function span( float $seconds, array $options ) {
		return 'table' === self::format( $options ) ? Text::duration( $seconds ) : round( max( 0.0, $seconds ), 3 );
	}

	/**
	 * How to print.
	 *
	 * @param array $options The command's.
	 */
	private static function format( array $options ): string {
		return (string) ( $options['format'] ?? 'table' );
	}
}

<?php
/**
 * Site Health: is the server there, may it forget locks, and who else writes to its database?
 *
 * @package Cluster_Lock
 */

declare( strict_types=1 );

namespace Cluster_Lock;

/**
 * Makes verdicts of what is found (Server_Findings) in what the servers say of themselves.
 */
final class Server_Checks {

	/**
	 * What is to be typed so that the user of the locks may ask for what these tests need.
	 */
	private const ACL = array(
		'maxmemory_policy' => 'ACL SETUSER cluster_lock +info',
		'foreign_keys'     => 'ACL SETUSER cluster_lock +scan',
	);

	/**
	 * Is it there, and do locks work there?
	 *
	 * @param array   $status     cluster_lock_status().
	 * @param array[] $servers    Extension::servers(), or a stand-in of it by an older extension.
	 */
	public static function reachable( array $status, array $servers ): Verdict {
		if ( 'none' === $status['backend'] ) {
			return Verdict::critical( __( 'cluster_lock.dsn in php.ini is not usable', 'cluster-lock' ) )
				->say( __( 'Every lock fails. The error log says what is wrong with it.', 'cluster-lock' ) );
		}
		if ( 'local' === $status['backend'] && array() === $servers ) {
			return Verdict::good( __( 'Locks are kept by this machine', 'cluster-lock' ) )
				->say( __( 'cluster_lock.dsn is "local:". That is right for one web server; several would not see each other\'s locks.', 'cluster-lock' ) );
		}

		$failed = array_filter(
			$servers,
			static function ( array $server ): bool {
				return null !== $server['error'];
			}
		);
		if ( array() === $servers || array() !== $failed ) {
			return self::unreachable( $status, $servers, $failed );
		}

		$slowest = max( array_map( 'floatval', array_column( $servers, 'round_trip' ) ) );
		$time    = Text::duration( $slowest );
		$is_far  = array( 'round_trip' => $slowest );
		list( $found, $items ) = self::found( $servers, self::of_service( $status ) );
		if ( Server_Findings::has( $found, Server_Findings::PROBLEM ) ) {
			$verdict = Verdict::critical( __( 'Locks are not safe on the lock server', 'cluster-lock' ) );
		} elseif ( array() !== Server_Findings::of_service( $is_far, false ) ) {
			/* translators: %s: a duration. */
			$verdict = Verdict::recommended( sprintf( __( 'The lock server takes %s to answer', 'cluster-lock' ), $time ) )
				->say( __( 'Each lock costs two round trips. The server should be in the same data centre as the web servers.', 'cluster-lock' ) );
		} elseif ( array() !== $found ) {
			$verdict = Verdict::recommended( __( 'Something is to be mended on the lock server', 'cluster-lock' ) );
		} else {
			/* translators: %s: a duration. */
			$verdict = Verdict::good( sprintf( __( 'The lock server answers within %s', 'cluster-lock' ), $time ) );
		}
		if ( array() !== $items ) {
			$verdict->items( $items );
		}
		return $verdict->say( __( 'A lock was taken there just now, waited for, handed over and given back.', 'cluster-lock' ) )
			->items( array_map( array( self::class, 'description' ), $servers ) );
	}

	/**
	 * May it forget locks to make room?
	 *
	 * @param array        $status  cluster_lock_status().
	 * @param array[]|null $servers Extension::servers().
	 */
	public static function eviction( array $status, ?array $servers ): Verdict {
		$fine = __( 'The lock server keeps every lock', 'cluster-lock' );
		if ( 'local' === $status['backend'] ) {
			return Verdict::good( $fine )->say( __( 'Locks are kept by this machine\'s kernel.', 'cluster-lock' ) );
		}
		list( $found, $items ) = self::found( (array) $servers, array( Server_Findings::class, 'of_memory' ) );
		if ( Server_Findings::has( $found, Server_Findings::PROBLEM ) ) {
			return Verdict::critical( __( 'The lock server may evict locks that are held', 'cluster-lock' ) )
				->say( __( 'When its memory is full it deletes keys to make room, and a lock that is deleted is free for the next one while its holder still works.', 'cluster-lock' ) )
				->items( $items )
				->say( __( 'Give the locks a server of their own with this line in its redis.conf. An object cache, which wants eviction, belongs on another one.', 'cluster-lock' ) )
				->code( 'maxmemory-policy noeviction' );
		}
		if ( array() !== $found ) {
			return Verdict::recommended( __( 'The memory of the lock server is to be looked at', 'cluster-lock' ) )
				->items( $items )
				->say( __( 'A server for locks has this line in its redis.conf, and memory to spare.', 'cluster-lock' ) )
				->code( 'maxmemory-policy noeviction' );
		}
		return self::answers( $servers, 'maxmemory_policy' )
			? Verdict::good( $fine )->say( __( 'Its maxmemory-policy is noeviction.', 'cluster-lock' ) )
			: self::unknown( __( 'Whether the lock server may evict locks is unknown', 'cluster-lock' ), $servers, 'maxmemory_policy' );
	}

	/**
	 * Who else writes to its database?
	 *
	 * @param array        $status  cluster_lock_status().
	 * @param array[]|null $servers Extension::servers().
	 * @param string[]     $caches  Object_Cache::endpoints_of_this_site().
	 */
	public static function database( array $status, ?array $servers, array $caches ): Verdict {
		$fine = __( 'The locks have a database of their own', 'cluster-lock' );
		if ( 'local' === $status['backend'] ) {
			return Verdict::good( $fine )->say( __( 'Locks are kept by this machine\'s kernel.', 'cluster-lock' ) );
		}
		$shared = array_intersect( Object_Cache::of_dsn( $status['dsn'] ), $caches );
		if ( array() !== $shared ) {
			return Verdict::critical( __( 'The object cache is in the database of the locks', 'cluster-lock' ) )
				->say(
					sprintf(
						/* translators: %s: host, port and number of a database. */
						__( 'Both are in %s. Emptying the object cache deletes locks that are held, and the next one gets in while the holder still works.', 'cluster-lock' ),
						implode( ', ', $shared )
					)
				)
				->say( __( 'Give the locks another database, better another server: on the same one the eviction that a cache wants would hit locks, too.', 'cluster-lock' ) )
				->code( 'cluster_lock.dsn = "redis://host:6379/1"' );
		}
		list( , $foreign ) = self::found( (array) $servers, array( Server_Findings::class, 'of_database' ) );
		if ( array() !== $foreign ) {
			return Verdict::recommended( __( 'Something else keeps data in the database of the locks', 'cluster-lock' ) )
				->say( __( 'If it is ever emptied (FLUSHDB), locks that are held are deleted. These keys are not locks:', 'cluster-lock' ) )
				->items( $foreign );
		}
		if ( ! self::answers( $servers, 'foreign_keys' ) ) {
			return self::unknown( __( 'Whether the locks have a database of their own is unknown', 'cluster-lock' ), $servers, 'foreign_keys' );
		}
		return Verdict::good( $fine )->say( __( 'No other keys were found there.', 'cluster-lock' ) );
	}

	/**
	 * A server in one line.
	 *
	 * @param array $server One of Extension::servers().
	 */
	public static function description( array $server ): string {
		if ( null !== $server['error'] ) {
			return $server['server'] . ': ' . $server['error'];
		}
		$parts = array( Text::duration( (float) $server['round_trip'] ), $server['version'], $server['role'] );
		return $server['server'] . ': ' . implode( ', ', array_filter( $parts, 'is_string' ) );
	}

	/**
	 * Some of them, or all, do not answer, or locks do not work there.
	 *
	 * @param array   $status  cluster_lock_status().
	 * @param array[] $servers All of them.
	 * @param array[] $failed  Those of which that is so.
	 */
	private static function unreachable( array $status, array $servers, array $failed ): Verdict {
		$has_majority = 'quorum' === $status['backend'] && count( $failed ) * 2 < count( $servers );
		// Who answered a question has a round trip.
		$refuses = array() !== $failed && ! in_array( null, array_column( $failed, 'round_trip' ), true );
		$result  = __( 'Locks fail at once, with a warning; what happens then is up to the theme or plugin.', 'cluster-lock' );
		if ( $has_majority ) {
			$verdict = Verdict::recommended( __( 'Some of the lock servers do not answer, or locks do not work there', 'cluster-lock' ) )
				->say( __( 'A majority does, so locks work. One more may not fail.', 'cluster-lock' ) );
		} elseif ( $refuses || 'local' === $status['backend'] ) {
			$verdict = Verdict::critical( __( 'Locks do not work on the lock server', 'cluster-lock' ) )
				->say( $result )
				->say( __( 'What it says of that, and what to do:', 'cluster-lock' ) );
		} else {
			$verdict = Verdict::critical( __( 'The lock server cannot be reached', 'cluster-lock' ) )
				->say( $result )
				->say( __( 'Check that the server runs, that cluster_lock.dsn names it, and that no firewall is between.', 'cluster-lock' ) );
		}
		if ( 'quorum' === $status['backend'] && ! $has_majority ) {
			/* translators: 1: number of servers that grant locks, 2: number of servers. */
			$verdict->say( sprintf( __( '%1$s of %2$s servers grant locks: no majority, so none can be taken', 'cluster-lock' ), Text::number( count( $servers ) - count( $failed ) ), Text::number( count( $servers ) ) ) );
		}
		list( , $items ) = self::found( $servers, self::of_service( $status ) );
		return $verdict->items( array_merge( array_map( array( self::class, 'description' ), $servers ), $items ) );
	}

	/**
	 * What is found on servers, and what is said of it.
	 *
	 * @param array[]  $servers Extension::servers().
	 * @param callable $of_one  What is found on one.
	 * @return array The findings, and a line for each.
	 */
	private static function found( array $servers, callable $of_one ): array {
		$found = array();
		$items = array();
		foreach ( $servers as $server ) {
			foreach ( $of_one( $server ) as $finding ) {
				$found[] = $finding;
				$items[] = $server['server'] . ': ' . $finding['says'];
			}
		}
		return array( $found, $items );
	}

	/**
	 * Finds what is wrong with a server in such a set of them.
	 *
	 * @param array $status cluster_lock_status().
	 */
	private static function of_service( array $status ): callable {
		return static function ( array $server ) use ( $status ): array {
			return Server_Findings::of_service( $server, 'quorum' === $status['backend'] );
		};
	}

	/**
	 * Whether every server answered a question.
	 *
	 * @param array[]|null $servers Extension::servers().
	 * @param string       $key     Which question.
	 */
	private static function answers( ?array $servers, string $key ): bool {
		return null !== $servers && array() !== $servers && ! in_array( null, array_column( $servers, $key ), true );
	}

	/**
	 * A question was not answered; and why.
	 *
	 * @param string       $label   What is not known.
	 * @param array[]|null $servers Extension::servers().
	 * @param string       $key     Which question.
	 */
	private static function unknown( string $label, ?array $servers, string $key ): Verdict {
		$verdict = Verdict::recommended( $label );
		if ( null === $servers ) {
			return $verdict->say( __( 'This version of the extension cannot ask; a newer one can.', 'cluster-lock' ) );
		}
		$failed = array_filter( array_column( $servers, 'error' ) );
		if ( array() !== $failed ) {
			/* translators: %s: an error message. */
			return $verdict->say( sprintf( __( 'The server did not answer: %s', 'cluster-lock' ), reset( $failed ) ) );
		}
		return $verdict
			->say( __( 'The server does not let the user of the locks ask. To allow it, and nothing else:', 'cluster-lock' ) )
			->code( self::ACL[ $key ] );
	}
}

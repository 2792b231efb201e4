<?php
/**
 * Site Health: is the server there, may it forget locks, and who else writes to its database?
 *
 * @package Cluster_Lock
 */

declare( strict_types=1 );

namespace Cluster_Lock;

/**
 * Judges what the servers say of themselves. A value of null in their reports means "it does not tell".
 */
final class Server_Checks {

	/**
	 * A round trip that is too long, in seconds: every lock costs two.
	 */
	private const SLOW = 0.02;

	/**
	 * The commands that the user of the locks needs for these tests, beyond those for locks.
	 */
	private const ACL = 'ACL SETUSER cluster_lock +info';

	/**
	 * Is it there, and does it grant locks?
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
		$verdict = $slowest < self::SLOW
			/* translators: %s: a duration. */
			? Verdict::good( sprintf( __( 'The lock server answers within %s', 'cluster-lock' ), $time ) )
			/* translators: %s: a duration. */
			: Verdict::recommended( sprintf( __( 'The lock server takes %s to answer', 'cluster-lock' ), $time ) )
				->say( __( 'Each lock costs two round trips. The server should be in the same data centre as the web servers.', 'cluster-lock' ) );
		return $verdict->say( __( 'A lock was taken there just now, and given back.', 'cluster-lock' ) )
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
		$unknown = __( 'Whether the lock server may evict locks is unknown', 'cluster-lock' );
		$known   = self::answers( $servers, 'maxmemory_policy' );
		$evicts  = array();
		$limits  = false;
		foreach ( (array) $servers as $server ) {
			$policy = $server['maxmemory_policy'];
			if ( null !== $policy && 'noeviction' !== $policy ) {
				$limits = $limits || 0 !== $server['maxmemory'];
				/* translators: 1: a server, 2: its maxmemory-policy, 3: how many keys it has evicted. */
				$evicts[] = sprintf( __( '%1$s: %2$s, %3$s keys evicted so far', 'cluster-lock' ), $server['server'], $policy, Text::number( (float) $server['evicted_keys'] ) );
			}
		}
		if ( array() !== $evicts && $limits ) {
			return Verdict::critical( __( 'The lock server may evict locks that are held', 'cluster-lock' ) )
				->say( __( 'When its memory is full it deletes keys to make room, and a lock that is deleted is free for the next one while its holder still works.', 'cluster-lock' ) )
				->items( $evicts )
				->say( __( 'Give the locks a server of their own with this line in its redis.conf. An object cache, which wants eviction, belongs on another one.', 'cluster-lock' ) )
				->code( 'maxmemory-policy noeviction' );
		}
		if ( ! $known ) {
			return self::unknown( $unknown, $servers );
		}
		$verdict = Verdict::good( $fine );
		return array() === $evicts
			? $verdict->say( __( 'Its maxmemory-policy is noeviction.', 'cluster-lock' ) )
			: $verdict->say( __( 'It has no limit on memory (maxmemory 0), so its eviction policy is not used. Set it to noeviction before you set a limit.', 'cluster-lock' ) )->items( $evicts );
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
		$foreign = array();
		foreach ( (array) $servers as $server ) {
			if ( $server['foreign_keys'] > 0 ) {
				$foreign[] = sprintf(
					/* translators: 1: a server, 2: number of other keys, 3: number of keys looked at. */
					__( '%1$s: %2$s of %3$s keys that were looked at', 'cluster-lock' ),
					$server['server'],
					Text::number( (float) $server['foreign_keys'] ),
					Text::number( (float) $server['sampled_keys'] )
				);
			}
		}
		if ( array() !== $foreign ) {
			return Verdict::recommended( __( 'Something else keeps data in the database of the locks', 'cluster-lock' ) )
				->say( __( 'If it is ever emptied (FLUSHDB), locks that are held are deleted. These keys are not locks:', 'cluster-lock' ) )
				->items( $foreign );
		}
		if ( ! self::answers( $servers, 'foreign_keys' ) ) {
			return self::unknown( __( 'Whether the locks have a database of their own is unknown', 'cluster-lock' ), $servers );
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
	 * Some of them, or all, do not answer, or grant no lock.
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
			$verdict = Verdict::recommended( __( 'Some of the lock servers do not answer, or grant no lock', 'cluster-lock' ) )
				->say( __( 'A majority does, so locks work. One more may not fail.', 'cluster-lock' ) );
		} elseif ( $refuses || 'local' === $status['backend'] ) {
			$verdict = Verdict::critical( __( 'The lock server grants no lock', 'cluster-lock' ) )
				->say( $result )
				->say( __( 'What it says of that, and what to do:', 'cluster-lock' ) );
		} else {
			$verdict = Verdict::critical( __( 'The lock server cannot be reached', 'cluster-lock' ) )
				->say( $result )
				->say( __( 'Check that the server runs, that cluster_lock.dsn names it, and that no firewall is between.', 'cluster-lock' ) );
		}
		return $verdict->items( array_map( array( self::class, 'description' ), $servers ) );
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
	 */
	private static function unknown( string $label, ?array $servers ): Verdict {
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
			->code( self::ACL );
	}
}

<?php
/**
 * What is wrong with a lock server.
 *
 * @package Cluster_Lock
 */

declare( strict_types=1 );

namespace Cluster_Lock;

/**
 * The rules by which cluster-lock status and doctor judge, too: those of cli/src/servers.rs, with the same limits and
 * words. cli/tests/servers.json states them for both. A value of null means "it does not tell".
 *
 * A finding has a severity (PROBLEM: locks fail, or do not exclude; WARNING: not safe in all cases; NOTE: to be
 * improved) and what is said of the server.
 */
final class Server_Findings {

	public const PROBLEM = 'problem';
	public const WARNING = 'warning';
	public const NOTE    = 'note';

	/**
	 * Each lock costs two round trips; of this length, in seconds, they are felt.
	 */
	private const FAR = 0.01;

	/**
	 * So far apart, in seconds, no reader of a time wonders.
	 */
	private const CLOCK = 5.0;

	/**
	 * The oldest version of Redis that has what locks need.
	 */
	private const OLDEST = 6;

	/**
	 * Whether it can serve as a lock server. Not: whether it answers.
	 *
	 * @param array $server One of Extension::servers().
	 * @param bool  $spare  Whether others do its work when it fails.
	 * @return array[] With the keys severity and says.
	 */
	public static function of_service( array $server, bool $spare ): array {
		$found  = array();
		$failed = $spare ? self::WARNING : self::PROBLEM;
		$took   = $server['round_trip'] ?? null;
		if ( null !== $took && $took >= self::FAR ) {
			/* translators: %s: a duration. */
			$found[] = self::finding( self::NOTE, sprintf( __( 'answers within %s: taking and giving back a free lock takes twice that', 'cluster-lock' ), Text::duration( (float) $took ) ) );
		}
		$version = $server['version'] ?? null;
		if ( is_string( $version ) && preg_match( '/^(\d+)(\.|$)/', $version, $major ) && (int) $major[1] < self::OLDEST ) {
			/* translators: %s: a version of Redis. */
			$found[] = self::finding( $failed, sprintf( __( 'version %s is too old', 'cluster-lock' ), $version ) );
		}
		$role = $server['role'] ?? 'master';
		if ( 'active-replica' === $role ) {
			$found[] = self::finding( $failed, __( 'it is one of several servers that accept writes (active-replica): each grants the same lock, and nobody is kept out', 'cluster-lock' ) );
		} elseif ( 'master' !== $role ) {
			$found[] = self::finding( $failed, __( 'it is a replica: it refuses every lock', 'cluster-lock' ) );
		}
		$ahead = (float) ( $server['clock_ahead'] ?? 0.0 );
		if ( abs( $ahead ) > self::CLOCK ) {
			$format = $ahead > 0.0
				/* translators: %s: a number of seconds. */
				? __( 'its clock is %s s ahead of this node\'s: the page tells since when a lock is held by its clock', 'cluster-lock' )
				/* translators: %s: a number of seconds. */
				: __( 'its clock is %s s behind this node\'s: the page tells since when a lock is held by its clock', 'cluster-lock' );
			$found[] = self::finding( self::NOTE, sprintf( $format, Text::number( abs( $ahead ) ) ) );
		}
		return $found;
	}

	/**
	 * Whether it keeps what it is given.
	 *
	 * @param array $server One of Extension::servers().
	 * @return array[] With the keys severity and says.
	 */
	public static function of_memory( array $server ): array {
		$found  = array();
		$policy = $server['maxmemory_policy'] ?? null;
		$limit  = $server['maxmemory'] ?? null;
		if ( null !== $policy && 'noeviction' !== $policy ) {
			$found[] = 0 === $limit
				/* translators: %s: a maxmemory-policy. */
				? self::finding( self::WARNING, sprintf( __( 'maxmemory-policy is %s, and noeviction is right: it has no memory limit now (maxmemory 0); as soon as it has one, locks that are held are thrown away', 'cluster-lock' ), $policy ) )
				/* translators: %s: a maxmemory-policy. */
				: self::finding( self::PROBLEM, sprintf( __( 'maxmemory-policy is %s, and noeviction is right: when its memory is full, locks that are held are thrown away', 'cluster-lock' ), $policy ) );
		}
		$evicted = $server['evicted_keys'] ?? 0;
		if ( $evicted > 0 ) {
			/* translators: %s: a number. */
			$found[] = self::finding( self::WARNING, sprintf( __( '%s keys have been thrown away for want of memory since it started; locks may be among them', 'cluster-lock' ), Text::number( (float) $evicted ) ) );
		}
		$used = $server['used_memory'] ?? 0;
		if ( $limit > 0 && $used >= intdiv( $limit, 10 ) * 9 ) {
			/* translators: %s: a number of percent. */
			$found[] = self::finding( self::WARNING, sprintf( __( '%s %% of its memory limit is used: when it is full, new locks are refused (OOM)', 'cluster-lock' ), Text::number( floor( 100.0 * $used / $limit ) ) ) );
		}
		return $found;
	}

	/**
	 * Whether its database is the locks' own.
	 *
	 * @param array $server One of Extension::servers().
	 * @return array[] With the keys severity and says.
	 */
	public static function of_database( array $server ): array {
		$foreign = $server['foreign_keys'] ?? 0;
		return $foreign <= 0 ? array() : array(
			self::finding(
				self::WARNING,
				sprintf(
					/* translators: 1: number of other keys, 2: number of keys looked at. */
					__( '%1$s of %2$s keys looked at do not start with the prefix of the locks', 'cluster-lock' ),
					Text::number( (float) $foreign ),
					Text::number( (float) ( $server['sampled_keys'] ?? $foreign ) )
				)
			),
		);
	}

	/**
	 * Whether one of them is as bad as that.
	 *
	 * @param array[] $findings Any.
	 * @param string  $severity One of the constants.
	 */
	public static function has( array $findings, string $severity ): bool {
		return in_array( $severity, array_column( $findings, 'severity' ), true );
	}

	/**
	 * One of them.
	 *
	 * @param string $severity One of the constants.
	 * @param string $says     What is said of the server.
	 */
	private static function finding( string $severity, string $says ): array {
		return array(
			'severity' => $severity,
			'says'     => $says,
		);
	}
}

<?php
/**
 * Site Health: time limits that contradict each other.
 *
 * @package Cluster_Lock
 */

declare( strict_types=1 );

namespace Cluster_Lock;

/**
 * Rules over the settings. Each says what will happen, and what to change.
 */
final class Limits_Check {

	/**
	 * How long web servers wait for PHP before they answer 504, unless told otherwise (nginx, Apache, most balancers).
	 */
	private const GATEWAY = 60.0;

	/**
	 * Judges.
	 *
	 * @param string[] $settings      Extension::settings().
	 * @param int      $max_execution max_execution_time, in seconds; 0: no limit.
	 */
	public static function verdict( array $settings, int $max_execution ): Verdict {
		$found = self::contradictions( $settings, $max_execution );
		if ( array() === $found ) {
			return Verdict::good( __( 'Leases and time limits fit together', 'cluster-lock' ) )
				->say(
					sprintf(
						/* translators: 1: how long a wait may last, 2: how long a lease lasts. */
						__( 'A request waits for at most %1$s. When a holder dies, its locks come free after %2$s.', 'cluster-lock' ),
						Text::duration( self::seconds( $settings, 'timeout' ) ),
						Text::duration( self::seconds( $settings, 'ttl' ) )
					)
				);
		}
		$verdict = isset( $found['command_timeout'] )
			? Verdict::critical( __( 'Locks may be lost while they are held, because of time limits that contradict each other', 'cluster-lock' ) )
			: Verdict::recommended( __( 'Leases and time limits contradict each other', 'cluster-lock' ) );
		return $verdict->items( array_values( $found ) );
	}

	/**
	 * The contradictions.
	 *
	 * @param string[] $settings      Extension::settings().
	 * @param int      $max_execution max_execution_time, in seconds; 0: no limit.
	 * @return string[] The setting to change => why.
	 */
	public static function contradictions( array $settings, int $max_execution ): array {
		$ttl        = self::seconds( $settings, 'ttl' );
		$timeout    = self::seconds( $settings, 'timeout' );
		$max_hold   = self::limit( $settings, 'max_hold' );
		$slow_wait  = self::limit( $settings, 'slow_wait' );
		$connect    = self::seconds( $settings, 'connect_timeout' );
		$command    = self::seconds( $settings, 'command_timeout' );
		$retry      = self::seconds( $settings, 'retry_after' );
		$auto_renew = self::is_on( $settings['auto_renew'] ?? '' );
		$request    = $max_execution > 0 ? (float) $max_execution : INF;
		$found      = array();

		// A lease is renewed when a third of it has passed.
		if ( $auto_renew && $ttl / 3 + $command >= $ttl ) {
			$found['command_timeout'] = self::sentence(
				/* translators: 1: command_timeout, 2: ttl. */
				__( 'One renewal that gets no answer takes %1$s (command_timeout), and then the lease of %2$s (ttl) is over. Make ttl at least twice command_timeout.', 'cluster-lock' ),
				$command,
				$ttl
			);
		}
		if ( ! $auto_renew && $request > $ttl ) {
			$found['auto_renew'] = self::sentence(
				/* translators: 1: ttl, 2: max_execution_time. */
				__( 'Leases end after %1$s (ttl) and are not renewed (auto_renew is off), but a request may run for %2$s (max_execution_time). Switch auto_renew on.', 'cluster-lock' ),
				$ttl,
				$request
			);
		}
		if ( $auto_renew && $max_hold < $ttl ) {
			$found['max_hold'] = self::sentence(
				/* translators: 1: max_hold, 2: ttl. */
				__( 'Renewal stops after %1$s (max_hold), before the first lease of %2$s (ttl) is over, so that there is none. Make max_hold longer, or switch auto_renew off.', 'cluster-lock' ),
				$max_hold,
				$ttl
			);
		} elseif ( $auto_renew && is_finite( $request ) && $max_hold < $request ) {
			$found['max_hold'] = self::sentence(
				/* translators: 1: max_hold, 2: max_execution_time. */
				__( 'Leases are renewed for %1$s (max_hold), but a request may run for %2$s (max_execution_time): a long one loses its lock. Make max_hold longer.', 'cluster-lock' ),
				$max_hold,
				$request
			);
		}
		if ( $timeout > self::GATEWAY ) {
			$found['timeout'] = self::sentence(
				/* translators: 1: timeout, 2: one minute. */
				__( 'A request may wait for %1$s (timeout), but most web servers give up on PHP after %2$s: the visitor sees an error while the wait goes on. Make timeout shorter.', 'cluster-lock' ),
				$timeout,
				self::GATEWAY
			);
		} elseif ( $timeout > $request ) {
			$found['timeout'] = self::sentence(
				/* translators: 1: timeout, 2: max_execution_time. */
				__( 'A request may wait for %1$s (timeout), longer than it may run (max_execution_time, %2$s, which does not count waiting). Make timeout shorter.', 'cluster-lock' ),
				$timeout,
				$request
			);
		} elseif ( $timeout > 0 && $timeout < $ttl ) {
			$found['timeout'] = self::sentence(
				/* translators: 1: timeout, 2: ttl. */
				__( 'Waiting ends after %1$s (timeout), but the locks of a holder that died come free after %2$s (ttl): until then everybody fails. Make timeout longer than ttl.', 'cluster-lock' ),
				$timeout,
				$ttl
			);
		}
		if ( $ttl > self::GATEWAY ) {
			$found['ttl'] = self::sentence(
				/* translators: %s: ttl. */
				__( 'A holder that dies blocks the others for %s (ttl). Leases are renewed while a request runs, so they can be much shorter.', 'cluster-lock' ),
				$ttl
			);
		}
		if ( is_finite( $slow_wait ) && $timeout > 0 && $slow_wait >= $timeout ) {
			$found['slow_wait'] = self::sentence(
				/* translators: 1: slow_wait, 2: timeout. */
				__( 'Waits longer than %1$s (slow_wait) are logged, but none is longer than %2$s (timeout). Make slow_wait shorter.', 'cluster-lock' ),
				$slow_wait,
				$timeout
			);
		}
		if ( $connect > 5.0 || ( $timeout > 0 && $connect > $timeout ) ) {
			$found['connect_timeout'] = self::sentence(
				/* translators: %s: connect_timeout. */
				__( 'While the server is out of reach, a request that wants a lock hangs for %s (connect_timeout). One second is enough in a data centre.', 'cluster-lock' ),
				$connect
			);
		}
		if ( $retry > $ttl || ( $timeout > 0 && $retry > $timeout ) ) {
			$found['retry_after'] = self::sentence(
				/* translators: %s: retry_after. */
				__( 'After one failed connection this web server has no locks for %s (retry_after), even if the server is back at once. Make it shorter.', 'cluster-lock' ),
				$retry
			);
		}
		return $found;
	}

	/**
	 * A setting in seconds.
	 *
	 * @param string[] $settings All of them.
	 * @param string   $name     Which.
	 */
	public static function seconds( array $settings, string $name ): float {
		$text = strtolower( trim( $settings[ $name ] ?? '' ) );
		return in_array( ltrim( $text, '+' ), array( 'inf', 'infinity' ), true ) ? INF : (float) $text;
	}

	/**
	 * A setting in seconds of which 0 means "no limit".
	 *
	 * @param string[] $settings All of them.
	 * @param string   $name     Which.
	 */
	private static function limit( array $settings, string $name ): float {
		$seconds = self::seconds( $settings, $name );
		return 0.0 === $seconds ? INF : $seconds;
	}

	/**
	 * Whether a switch is on.
	 *
	 * @param string $text As in php.ini.
	 */
	private static function is_on( string $text ): bool {
		return in_array( strtolower( trim( $text ) ), array( '1', 'on', 'yes', 'true' ), true );
	}

	/**
	 * A translated sentence with durations in it.
	 *
	 * @param string $format    With %s.
	 * @param float  ...$seconds The durations.
	 */
	private static function sentence( string $format, float ...$seconds ): string {
		return vsprintf( $format, array_map( array( Text::class, 'duration' ), $seconds ) );
	}
}

<?php
/**
 * The requests that waited for locks: by the hour, and the slow ones.
 *
 * @package Cluster_Lock
 */

declare( strict_types=1 );

namespace Cluster_Lock;

/**
 * What is kept of them, as a value. It is bounded: 48 hours, 50 requests.
 */
final class Waits {

	public const HOURS = 48;

	public const SLOW = 50;

	/**
	 * Hour (Unix time / 3600) => array{requests, waits, seconds, longest, timed_out}.
	 *
	 * @var array[]
	 */
	private $hours = array();

	/**
	 * The slow requests, newest first: array{at, node, uri, seconds, timed_out}.
	 *
	 * @var array[]
	 */
	private $slow = array();

	/**
	 * Reads what as_array() returned. Anything else is as good as nothing: it is statistics.
	 *
	 * @param mixed $value From the database.
	 */
	public static function of( $value ): self {
		$waits = new self();
		foreach ( is_array( $value['hours'] ?? null ) ? $value['hours'] : array() as $hour => $sums ) {
			if ( is_int( $hour ) && is_array( $sums ) && 5 === count( $sums ) ) {
				list( $requests, $count, $seconds, $longest, $timed_out ) = array_values( $sums );

				$waits->hours[ $hour ] = array( (int) $requests, (int) $count, (float) $seconds, (float) $longest, (int) $timed_out );
			}
		}
		foreach ( is_array( $value['slow'] ?? null ) ? $value['slow'] : array() as $request ) {
			if ( is_array( $request ) && isset( $request['at'], $request['node'], $request['uri'], $request['seconds'], $request['timed_out'] ) ) {
				$waits->slow[] = array(
					'at'        => (int) $request['at'],
					'node'      => (string) $request['node'],
					'uri'       => (string) $request['uri'],
					'seconds'   => (float) $request['seconds'],
					'timed_out' => (int) $request['timed_out'],
				);
			}
		}
		return $waits;
	}

	/**
	 * As it is stored.
	 */
	public function as_array(): array {
		return array(
			'hours' => $this->hours,
			'slow'  => $this->slow,
		);
	}

	/**
	 * Adds a request that waited, and forgets what is too old.
	 *
	 * @param array $request   array{at: int, node: string, uri: string, waits: int, seconds: float, timed_out: int}.
	 * @param float $slow_from From how many seconds on it is a slow one.
	 */
	public function add( array $request, float $slow_from ): void {
		$hour = intdiv( $request['at'], 3600 );
		$sums = $this->hours[ $hour ] ?? array( 0, 0, 0.0, 0.0, 0 );

		$this->hours[ $hour ] = array(
			$sums[0] + 1,
			$sums[1] + $request['waits'],
			round( $sums[2] + $request['seconds'], 3 ),
			max( $sums[3], round( $request['seconds'], 3 ) ),
			$sums[4] + $request['timed_out'],
		);
		foreach ( array_keys( $this->hours ) as $known ) {
			// Nodes' clocks may differ a little; what is from the future would otherwise stay for ever.
			if ( $known <= $hour - self::HOURS || $known > $hour + 1 ) {
				unset( $this->hours[ $known ] );
			}
		}
		ksort( $this->hours );

		if ( $request['seconds'] >= $slow_from || $request['timed_out'] > 0 ) {
			array_unshift(
				$this->slow,
				array(
					'at'        => $request['at'],
					'node'      => $request['node'],
					'uri'       => $request['uri'],
					'seconds'   => round( $request['seconds'], 3 ),
					'timed_out' => $request['timed_out'],
				)
			);
			$this->slow = array_slice( $this->slow, 0, self::SLOW );
		}
	}

	/**
	 * The last 48 hours, the empty ones as well, oldest first.
	 *
	 * @param int $now Unix time.
	 * @return array[] List of array{at: int, requests: int, waits: int, seconds: float, longest: float, timed_out: int}.
	 */
	public function series( int $now ): array {
		$series = array();
		$last   = intdiv( $now, 3600 );
		for ( $hour = $last - self::HOURS + 1; $hour <= $last; $hour++ ) {
			list( $requests, $waits, $seconds, $longest, $timed_out ) = $this->hours[ $hour ] ?? array( 0, 0, 0.0, 0.0, 0 );

			$at       = $hour * 3600;
			$series[] = compact( 'at', 'requests', 'waits', 'seconds', 'longest', 'timed_out' );
		}
		return $series;
	}

	/**
	 * Sums over the last hours.
	 *
	 * @param int $now   Unix time.
	 * @param int $hours How many.
	 * @return array array{requests: int, waits: int, seconds: float, longest: float, timed_out: int}.
	 */
	public function totals( int $now, int $hours ): array {
		$series = array_slice( $this->series( $now ), -$hours );
		return array(
			'requests'  => array_sum( array_column( $series, 'requests' ) ),
			'waits'     => array_sum( array_column( $series, 'waits' ) ),
			'seconds'   => (float) array_sum( array_column( $series, 'seconds' ) ),
			'longest'   => (float) max( array_column( $series, 'longest' ) ),
			'timed_out' => array_sum( array_column( $series, 'timed_out' ) ),
		);
	}

	/**
	 * The slow requests, newest first.
	 *
	 * @return array[]
	 */
	public function slow(): array {
		return $this->slow;
	}
}

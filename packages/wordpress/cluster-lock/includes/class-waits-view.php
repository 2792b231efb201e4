<?php
/**
 * The part of the page about waits.
 *
 * @package Cluster_Lock
 */

declare( strict_types=1 );

namespace Cluster_Lock;

/**
 * Figures, the numbers behind the chart, and the slow requests; the chart itself is drawn by JavaScript.
 */
final class Waits_View {

	/**
	 * What the page needs, and what its refresh replaces.
	 *
	 * @param Waits $waits What is stored.
	 * @param int   $now   Unix time.
	 * @return array array{series: array[], html: string[]}.
	 */
	public static function data( Waits $waits, int $now ): array {
		$series = $waits->series( $now );
		foreach ( $series as $index => $hour ) {
			/* translators: The time on the chart's axis, as in PHP's date(). */
			$series[ $index ]['clock'] = wp_date( __( 'H:i', 'cluster-lock' ), $hour['at'] );
			$series[ $index ]['title'] = self::title( $hour );
		}
		return array(
			'series' => $series,
			'html'   => array(
				'figures' => self::figures( $waits->totals( $now, 24 ) ),
				'hours'   => self::hours( $series ),
				'slow'    => self::slow( $waits->slow() ),
			),
		);
	}

	/**
	 * The columns of the table behind the chart.
	 *
	 * @return string[]
	 */
	public static function hour_columns(): array {
		return array(
			__( 'Hour', 'cluster-lock' ),
			__( 'Requests that waited', 'cluster-lock' ),
			__( 'Waits', 'cluster-lock' ),
			__( 'Waited in all', 'cluster-lock' ),
			__( 'Longest request', 'cluster-lock' ),
			__( 'Gave up', 'cluster-lock' ),
		);
	}

	/**
	 * The columns of the table of slow requests.
	 *
	 * @return string[]
	 */
	public static function slow_columns(): array {
		return array(
			__( 'When', 'cluster-lock' ),
			__( 'Web server', 'cluster-lock' ),
			__( 'Request', 'cluster-lock' ),
			__( 'Waited', 'cluster-lock' ),
			__( 'Gave up', 'cluster-lock' ),
		);
	}

	/**
	 * The figures of a day.
	 *
	 * @param array $totals Of Waits::totals().
	 */
	private static function figures( array $totals ): string {
		$figures = array(
			_n( 'request waited', 'requests waited', $totals['requests'], 'cluster-lock' ) => number_format_i18n( $totals['requests'] ),
		);
		if ( $totals['requests'] > 0 ) {
			$figures += array(
				__( 'in all', 'cluster-lock' )      => Text::duration( $totals['seconds'] ),
				__( 'the longest', 'cluster-lock' ) => Text::duration( $totals['longest'] ),
				_n( 'time-out', 'time-outs', $totals['timed_out'], 'cluster-lock' ) => number_format_i18n( $totals['timed_out'] ),
			);
		}
		$html = '';
		foreach ( $figures as $label => $value ) {
			$html .= sprintf( '<li><strong>%s</strong> %s</li>', Text::escaped( $value ), Text::escaped( $label ) );
		}
		return $html;
	}

	/**
	 * The rows behind the chart: the hours in which anything waited, newest first.
	 *
	 * @param array[] $series Of Waits::series().
	 */
	private static function hours( array $series ): string {
		$html = '';
		foreach ( array_reverse( $series ) as $hour ) {
			if ( $hour['requests'] > 0 ) {
				$html .= self::cells(
					array(
						self::date( $hour['at'] ),
						number_format_i18n( $hour['requests'] ),
						number_format_i18n( $hour['waits'] ),
						Text::duration( $hour['seconds'] ),
						Text::duration( $hour['longest'] ),
						number_format_i18n( $hour['timed_out'] ),
					)
				);
			}
		}
		return '' === $html ? self::nothing( count( self::hour_columns() ) ) : $html;
	}

	/**
	 * The rows of the slow requests.
	 *
	 * @param array[] $slow Of Waits::slow().
	 */
	private static function slow( array $slow ): string {
		$html = '';
		foreach ( $slow as $request ) {
			$html .= self::cells(
				array(
					self::date( $request['at'] ),
					$request['node'],
					$request['uri'],
					Text::duration( $request['seconds'] ),
					$request['timed_out'] > 0 ? __( 'yes', 'cluster-lock' ) : __( 'no', 'cluster-lock' ),
				)
			);
		}
		return '' === $html ? self::nothing( count( self::slow_columns() ) ) : $html;
	}

	/**
	 * What a bar of the chart says.
	 *
	 * @param array $hour Of Waits::series().
	 */
	private static function title( array $hour ): string {
		return sprintf(
			/* translators: 1: date and time, 2: number of requests, 3: a duration, 4: number of time-outs. */
			__( '%1$s: requests that waited: %2$s, in all %3$s, time-outs: %4$s', 'cluster-lock' ),
			self::date( $hour['at'] ),
			number_format_i18n( $hour['requests'] ),
			Text::duration( $hour['seconds'] ),
			number_format_i18n( $hour['timed_out'] )
		);
	}

	/**
	 * A row.
	 *
	 * @param string[] $texts Plain texts.
	 */
	private static function cells( array $texts ): string {
		return '<tr><td>' . implode( '</td><td>', array_map( array( Text::class, 'escaped' ), $texts ) ) . '</td></tr>';
	}

	/**
	 * A row for an empty table.
	 *
	 * @param int $columns Over how many columns.
	 */
	private static function nothing( int $columns ): string {
		return sprintf( '<tr class="no-items"><td colspan="%d">%s</td></tr>', $columns, esc_html__( 'None.', 'cluster-lock' ) );
	}

	/**
	 * Date and time as the site writes them.
	 *
	 * @param int $time Unix time.
	 */
	private static function date( int $time ): string {
		return wp_date( get_option( 'date_format' ) . ' ' . get_option( 'time_format' ), $time );
	}
}

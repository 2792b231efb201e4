<?php
/**
 * Names, durations and numbers as people read them.
 *
 * @package Cluster_Lock
 */

declare( strict_types=1 );

namespace Cluster_Lock;

/**
 * Plain text: whoever prints it escapes it, with escaped().
 */
final class Text {

	/**
	 * One well-formed UTF-8 character, or one byte that belongs to none.
	 */
	private const CHARACTER = '/[\x00-\x7F]|[\xC2-\xDF][\x80-\xBF]|\xE0[\xA0-\xBF][\x80-\xBF]'
		. '|[\xE1-\xEC\xEE\xEF][\x80-\xBF]{2}|\xED[\x80-\x9F][\x80-\xBF]|\xF0[\x90-\xBF][\x80-\xBF]{2}'
		. '|[\xF1-\xF3][\x80-\xBF]{3}|\xF4[\x80-\x8F][\x80-\xBF]{2}|(.)/s';

	/**
	 * Arbitrary bytes as printable UTF-8. What cannot be seen, or would turn the direction of the text around it, is
	 * written as \u{…}, what is no UTF-8 as \x….
	 *
	 * @param string $bytes Such as the name of a lock.
	 */
	public static function printable( string $bytes ): string {
		return (string) preg_replace_callback(
			self::CHARACTER,
			static function ( array $found ): string {
				if ( isset( $found[1] ) ) {
					return sprintf( '\x%02x', ord( $found[1] ) );
				}
				$invisible = preg_match( '/^[\p{Cc}\p{Cf}\p{Cn}\p{Co}\p{Zl}\p{Zp}]$/u', $found[0] );
				return $invisible ? sprintf( '\u{%x}', self::code_point( $found[0] ) ) : $found[0];
			},
			$bytes
		);
	}

	/**
	 * Foreign text for HTML, in an element or in an attribute. esc_html() and esc_attr() are for the site's own texts:
	 * they leave entities as they are, so that the lock "&lt;" would become the lock "<".
	 *
	 * @param string $text UTF-8.
	 */
	public static function escaped( string $text ): string {
		return htmlspecialchars( $text, ENT_QUOTES | ENT_SUBSTITUTE, 'UTF-8' );
	}

	/**
	 * The name of a lock as a string that JSON and HTML attributes can carry: itself, or base64:….
	 *
	 * @param string $name 1 to 1024 bytes.
	 */
	public static function id( string $name ): string {
		$is_plain = self::printable( $name ) === $name && 0 !== strpos( $name, 'base64:' );
		// phpcs:ignore WordPress.PHP.DiscouragedPHPFunctions.obfuscation_base64_encode -- Names are bytes, JSON is not.
		return $is_plain ? $name : 'base64:' . base64_encode( $name );
	}

	/**
	 * The name that id() was made from.
	 *
	 * @param string $id What id() returned, or a plain name.
	 * @return string|null Null: no lock can have that name.
	 */
	public static function name_of( string $id ): ?string {
		$name = $id;
		if ( 0 === strpos( $id, 'base64:' ) ) {
			// phpcs:ignore WordPress.PHP.DiscouragedPHPFunctions.obfuscation_base64_decode -- As in id().
			$name = base64_decode( substr( $id, strlen( 'base64:' ) ), true );
		}
		return false === $name || '' === $name || strlen( $name ) > 1024 ? null : $name;
	}

	/**
	 * The beginning and the end of a long text.
	 *
	 * @param string $text  Printable UTF-8.
	 * @param int    $limit The most characters.
	 */
	public static function shortened( string $text, int $limit ): string {
		$length = self::length( $text );
		if ( $length <= $limit ) {
			return $text;
		}
		$tail = intdiv( $limit, 4 );
		preg_match( '/^.{' . ( $limit - $tail - 1 ) . '}/su', $text, $start );
		preg_match( '/.{' . $tail . '}$/su', $text, $end );
		return ( $start[0] ?? '' ) . '…' . ( $end[0] ?? '' );
	}

	/**
	 * How many characters a text has.
	 *
	 * @param string $text UTF-8.
	 */
	public static function length( string $text ): int {
		return (int) preg_match_all( '/./su', $text );
	}

	/**
	 * A time span, in one or two units.
	 *
	 * @param float $seconds Not negative; INF: no limit.
	 */
	public static function duration( float $seconds ): string {
		if ( is_infinite( $seconds ) ) {
			return __( 'unlimited time', 'cluster-lock' );
		}
		$seconds = max( 0.0, $seconds );
		if ( $seconds < 0.0995 ) {
			/* translators: %s: a number of milliseconds. */
			$format = __( '%s ms', 'cluster-lock' );
			// What takes time does not take "0 ms".
			$shown = 0.0 === $seconds ? 0.0 : max( 0.1, $seconds * 1000 );
			return sprintf( $format, self::number( $shown, $seconds < 0.00995 ? 1 : 0 ) );
		}
		if ( $seconds < 9.95 ) {
			/* translators: %s: a number of seconds. */
			return sprintf( __( '%s s', 'cluster-lock' ), self::number( $seconds, 1 ) );
		}
		$whole = (int) round( $seconds );
		if ( $whole < 60 ) {
			/* translators: %s: a number of seconds. */
			return sprintf( __( '%s s', 'cluster-lock' ), self::number( $whole, 0 ) );
		}
		if ( $whole < 3600 ) {
			/* translators: 1: minutes, 2: seconds. */
			$both = __( '%1$s min %2$s s', 'cluster-lock' );
			/* translators: %s: minutes. */
			return self::in_units( intdiv( $whole, 60 ), $whole % 60, $both, __( '%s min', 'cluster-lock' ) );
		}
		if ( $whole < 86400 ) {
			/* translators: 1: hours, 2: minutes. */
			$both = __( '%1$s h %2$s min', 'cluster-lock' );
			/* translators: %s: hours. */
			return self::in_units( intdiv( $whole, 3600 ), intdiv( $whole % 3600, 60 ), $both, __( '%s h', 'cluster-lock' ) );
		}
		/* translators: 1: days, 2: hours. */
		$both = __( '%1$s d %2$s h', 'cluster-lock' );
		/* translators: %s: days. */
		return self::in_units( intdiv( $whole, 86400 ), intdiv( $whole % 86400, 3600 ), $both, __( '%s d', 'cluster-lock' ) );
	}

	/**
	 * The larger unit alone when nothing is left for the smaller one.
	 *
	 * @param int    $larger  How many of the larger unit.
	 * @param int    $smaller How many of the smaller.
	 * @param string $both    The format for both.
	 * @param string $one     The format for the larger alone.
	 */
	private static function in_units( int $larger, int $smaller, string $both, string $one ): string {
		return 0 === $smaller ? sprintf( $one, $larger ) : sprintf( $both, $larger, $smaller );
	}

	/**
	 * A number in the language of the site, without zeros at its end.
	 *
	 * @param float $number   The number.
	 * @param int   $decimals The most digits after the point.
	 */
	public static function number( float $number, int $decimals = 0 ): string {
		while ( $decimals > 0 && round( $number, $decimals ) === round( $number, $decimals - 1 ) ) {
			--$decimals;
		}
		return number_format_i18n( $number, $decimals );
	}

	/**
	 * The path of a request, without its query string, which may carry keys.
	 *
	 * @param string $uri As in REQUEST_URI.
	 */
	public static function path_of( string $uri ): string {
		return self::shortened( self::printable( substr( $uri, 0, strcspn( $uri, '?#' ) ) ), 200 );
	}

	/**
	 * The code point of one UTF-8 character.
	 *
	 * @param string $character Well-formed.
	 */
	private static function code_point( string $character ): int {
		$bytes = array_values( (array) unpack( 'C*', $character ) );
		$count = count( $bytes );
		$point = 1 === $count ? $bytes[0] : $bytes[0] & ( 0xFF >> ( $count + 1 ) );
		for ( $i = 1; $i < $count; $i++ ) {
			$point = $point << 6 | ( $bytes[ $i ] & 0x3F );
		}
		return $point;
	}
}

<?php
/**
 * Text for HTML.
 *
 * @package Cluster_Lock
 */

declare( strict_types=1 );

namespace Cluster_Lock;

/**
 * For what comes from elsewhere, such as names of locks; for translations there is esc_html().
 */
final class Html {

	/**
	 * Plain text for elements and attributes.
	 *
	 * Not esc_html() or esc_attr(), which leave "&lt;" as it is: the locks "<" and "&lt;" would be one on the page.
	 *
	 * @param string $text Any text.
	 */
	public static function text( string $text ): string {
		return htmlspecialchars( $text, ENT_QUOTES | ENT_SUBSTITUTE, 'UTF-8' );
	}
}

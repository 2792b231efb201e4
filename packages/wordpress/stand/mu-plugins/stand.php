<?php
/**
 * Plugin Name: The stand
 * Description: Keeps the stand's WordPress off the internet, so that it behaves the same on every machine.
 *              README.md says what that takes.
 */

declare( strict_types=1 );

add_filter( 'pre_http_request', 'stand_refuse_the_internet', 10, 3 );
add_filter( 'cluster_lock_refresh_seconds', 'stand_refresh_seconds' );
add_filter( 'site_status_tests', 'stand_without_the_internet' );

/**
 * Answers at once where WordPress would wait for a server that may be out of reach. WP_HTTP_BLOCK_EXTERNAL does so,
 * too, but Site Health then rightly complains about it.
 *
 * @param mixed  $response What another filter has answered.
 * @param array  $args     The request.
 * @param string $url      Whom WordPress calls.
 * @return mixed
 */
function stand_refuse_the_internet( $response, $args, $url ) {
	if ( '127.0.0.1' === wp_parse_url( $url, PHP_URL_HOST ) ) {
		return $response;
	}
	return new WP_Error( 'http_request_not_executed', 'The stand does not call ' . wp_parse_url( $url, PHP_URL_HOST ) );
}

/**
 * Takes out of Site Health what only api.wordpress.org could answer. README.md lists them.
 *
 * @param array[] $tests Tests by kind and name.
 * @return array[]
 */
function stand_without_the_internet( $tests ) {
	unset( $tests['direct']['wordpress_version'], $tests['direct']['php_version'] );
	unset( $tests['async']['dotorg_communication'], $tests['async']['background_updates'] );
	return $tests;
}

/** How often the locks page asks: more often than by default, because tests wait for it. */
function stand_refresh_seconds(): float {
	return 0.5;
}

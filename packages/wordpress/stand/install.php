<?php
/**
 * Installs WordPress without a browser: php install.php SITE-DIRECTORY, with the passwords as JSON on standard input:
 * {"admin": "...", "subscriber": "..."}.
 */

define( 'WP_INSTALLING', true );

/** In place of WordPress's own, which sends mail to the new administrator. */
function wp_new_blog_notification() {
}

$passwords = json_decode( stream_get_contents( STDIN ), true, 2, JSON_THROW_ON_ERROR );

require $argv[1] . '/wp-load.php';
require_once ABSPATH . 'wp-admin/includes/upgrade.php';

wp_install( 'Cluster', 'admin', 'admin@example.org', true, '', $passwords['admin'] );
// What WordPress tries by itself, but only with a web server that it can guess.
$wp_rewrite->set_permalink_structure( '/%year%/%monthnum%/%postname%/' );
$wp_rewrite->flush_rules();
// Avatars come from the internet.
update_option( 'show_avatars', 0 );
$subscriber = wp_create_user( 'subscriber', $passwords['subscriber'], 'subscriber@example.org' );
if ( is_wp_error( $subscriber ) ) {
	fwrite( STDERR, $subscriber->get_error_message() . "\n" );
	exit( 1 );
}
echo 'WordPress ', get_bloginfo( 'version' ), ', theme ', wp_get_theme()->get( 'Name' ), "\n";

<?php
/**
 * Settings of the stand's WordPress: one database and one wp-content for all nodes.
 */

define( 'DB_NAME', 'wordpress' );
define( 'DB_USER', 'wordpress' );
define( 'DB_PASSWORD', '@DB_PASSWORD@' );
define( 'DB_HOST', 'localhost:@DIR@/run/mariadb.sock' );
define( 'DB_CHARSET', 'utf8mb4' );
define( 'DB_COLLATE', '' );

define( 'AUTH_KEY', '@SALT@-1' );
define( 'SECURE_AUTH_KEY', '@SALT@-2' );
define( 'LOGGED_IN_KEY', '@SALT@-3' );
define( 'NONCE_KEY', '@SALT@-4' );
define( 'AUTH_SALT', '@SALT@-5' );
define( 'SECURE_AUTH_SALT', '@SALT@-6' );
define( 'LOGGED_IN_SALT', '@SALT@-7' );
define( 'NONCE_SALT', '@SALT@-8' );

// Each node has a port of its own, and is the whole site for whoever calls it; who is logged in on one is so on all.
$stand_host = isset( $_SERVER['HTTP_HOST'] ) && preg_match( '/^127\.0\.0\.1:\d+$/', $_SERVER['HTTP_HOST'] )
	? $_SERVER['HTTP_HOST']
	: '127.0.0.1:@PORT_SITE@';
define( 'WP_HOME', "https://$stand_host" );
define( 'WP_SITEURL', "https://$stand_host" );
define( 'COOKIEHASH', 'stand' );

// Every notice of PHP reaches the node's error log, and nobody's browser.
define( 'WP_DEBUG', true );
define( 'WP_DEBUG_DISPLAY', false );
define( 'WP_DEBUG_LOG', false );

// Site Health recommends page and object caches for production; this is not one.
define( 'WP_ENVIRONMENT_TYPE', 'staging' );

// The stand runs scheduled events itself, as a crontab would.
define( 'DISABLE_WP_CRON', true );

$table_prefix = 'wp_';

if ( ! defined( 'ABSPATH' ) ) {
	define( 'ABSPATH', __DIR__ . '/' );
}
require_once ABSPATH . 'wp-settings.php';

<?php
/**
 * Plugin Name:       Cluster locks
 * Description:       Shows who holds and who waits for the locks that the web servers of this site share, tests in Site Health what they depend on, and adds <code>wp cluster-lock</code>. For the PHP extension cluster_lock.
 * Version:           1.0.0
 * Requires at least: 5.9
 * Requires PHP:      7.4
 * License:           MIT
 * Text Domain:       cluster-lock
 * Domain Path:       /cluster-lock/languages
 *
 * @package Cluster_Lock
 */

defined( 'ABSPATH' ) || exit;

// A must-use plugin cannot be switched off when it breaks the site. So it is silent where it cannot run: an older PHP,
// or this file copied without its folder.
if ( PHP_VERSION_ID >= 70400 && is_readable( __DIR__ . '/cluster-lock/includes/class-plugin.php' ) ) {
	require_once __DIR__ . '/cluster-lock/includes/class-plugin.php';
	Cluster_Lock\Plugin::start( __FILE__ );
}

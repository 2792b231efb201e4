<?php
/**
 * The front door: which part answers to which hook.
 *
 *     Extension      the only one that calls cluster_lock_*()
 *     Site_Health    Tools → Site Health: tests (Server_Checks, Content_Check, Limits_Check) and the Info section
 *     Page           Tools → Cluster locks: Lock_Table, Waits_View
 *     Rest           what the page and the asynchronous tests ask for
 *     Wait_Recorder  after a request that waited, adds to Waits
 *     Command        wp cluster-lock
 *     Mounts, Object_Cache, Verdict, Text, Access   what these have in common
 *
 * @package Cluster_Lock
 */

declare( strict_types=1 );

namespace Cluster_Lock;

/**
 * Loads classes when they are needed, and hooks them up.
 */
final class Plugin {

	public const VERSION = '1.0.0';

	/**
	 * The plugin's main file.
	 *
	 * @var string
	 */
	private static $file = '';

	/**
	 * Whether WordPress loaded it from mu-plugins.
	 *
	 * @var bool
	 */
	private static $must_use = true;

	/**
	 * Registers the hooks. Nothing else happens before WordPress asks for it.
	 *
	 * @param string $file The plugin's main file.
	 */
	public static function start( string $file ): void {
		self::$file     = $file;
		self::$must_use = ! did_action( 'muplugins_loaded' );
		spl_autoload_register( array( self::class, 'load' ) );

		add_action( 'init', array( self::class, 'load_translations' ) );
		add_filter( 'site_status_tests', array( Site_Health::class, 'add_tests' ) );
		add_filter( 'debug_information', array( Site_Health::class, 'add_information' ) );
		add_action( 'rest_api_init', array( Rest::class, 'register' ) );
		add_action( 'admin_menu', array( Page::class, 'add' ) );
		add_action( 'network_admin_menu', array( Page::class, 'add_to_network' ) );

		if ( Extension::is_loaded() ) {
			Wait_Recorder::start();
		}
		if ( defined( 'WP_CLI' ) && WP_CLI ) {
			\WP_CLI::add_command( 'cluster-lock', Command::class );
		}
	}

	/**
	 * The autoloader: Cluster_Lock\Lock_Table is in includes/class-lock-table.php.
	 *
	 * @param string $name The class.
	 */
	public static function load( string $name ): void {
		if ( 0 === strpos( $name, __NAMESPACE__ . '\\' ) ) {
			$short = strtolower( str_replace( '_', '-', substr( $name, strlen( __NAMESPACE__ ) + 1 ) ) );
			$file  = __DIR__ . "/class-$short.php";
			if ( is_file( $file ) ) {
				require_once $file;
			}
		}
	}

	/**
	 * Loads the translations, if there are any for the language of the site.
	 */
	public static function load_translations(): void {
		if ( self::$must_use ) {
			load_muplugin_textdomain( 'cluster-lock', 'cluster-lock/languages' );
		} else {
			load_plugin_textdomain( 'cluster-lock', false, 'cluster-lock/languages' );
		}
	}

	/**
	 * The URL of a file in the plugin's folder.
	 *
	 * @param string $path Below cluster-lock/.
	 */
	public static function url( string $path ): string {
		// A must-use plugin may be a symbolic link, which plugins_url() does not follow back.
		return self::$must_use
			? WPMU_PLUGIN_URL . '/cluster-lock/' . $path
			: plugins_url( 'cluster-lock/' . $path, self::$file );
	}

	/**
	 * The path of a file in the plugin's folder.
	 *
	 * @param string $path Below cluster-lock/.
	 */
	public static function path( string $path ): string {
		return dirname( __DIR__ ) . '/' . $path;
	}
}

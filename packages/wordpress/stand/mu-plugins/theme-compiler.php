<?php
/**
 * Plugin Name: A theme compiler
 * Description: What theme builders do when an administrator presses Save: change one option, compile the stylesheet.
 *
 * The ways: "cluster_lock", with this project's functions, each save with a compile of its own; "cluster_file_build", where
 * one compile does for all who have saved by then; "flock", as such code is written everywhere; "none". Options of
 * WordPress have "cluster_coalesced" in the place of "cluster_file_build", since they are no files.
 * Two addresses may come with a request, as a builder fetches web fonts: `start` is asked before anything is read,
 * `font` while the lock is held. Whoever answers them decides how long that takes.
 */

declare( strict_types=1 );

require_once ABSPATH . '/Theme.php';

add_action( 'wp_ajax_stand_compile', 'stand_compile' );
add_action( 'wp_ajax_stand_option', 'stand_option' );
add_action( 'wp_ajax_stand_nonce', 'stand_nonce' );
add_action( 'wp_ajax_stand_compiles', 'stand_compiles' );
add_action( 'wp_ajax_edit-theme-plugin-file', 'stand_lock_theme_editor', 0 );
add_action( 'wp_enqueue_scripts', 'stand_enqueue' );

/** The compiler, with the active theme's stylesheets, publishing into a directory of the theme. */
function stand_theme(): Theme {
	$root      = get_template_directory();
	$published = $root . '/compiled';
	wp_mkdir_p( $published );
	return new Theme(
		array( $root . '/style.css', $root . '/assets/css/style-dark-mode.css', $root . '/assets/css/print.css' ),
		$published,
		1,
		stand_counter()
	);
}

/** The file that all nodes' compilers add a byte to for each compile. */
function stand_counter(): string {
	return get_template_directory() . '/compiled/compiles';
}

/** How often the theme was compiled, on all nodes. */
function stand_compiles(): void {
	wp_send_json_success( (int) @filesize( stand_counter() ) );
}

/** Visitors get the compiled stylesheet after the theme's own. */
function stand_enqueue(): void {
	$theme = stand_theme();
	if ( file_exists( $theme->stylesheet ) ) {
		wp_enqueue_style( 'stand', get_template_directory_uri() . '/compiled/style.css', array(), (string) $theme->version() );
	}
}

/** A builder's page would carry this nonce. */
function stand_nonce(): void {
	wp_send_json_success( wp_create_nonce( 'stand' ) );
}

/** Who asks, for what; ends the request when it is not an administrator's. */
function stand_request(): array {
	check_ajax_referer( 'stand' );
	if ( ! current_user_can( 'edit_themes' ) ) {
		wp_send_json_error( null, 403 );
	}
	$request = array();
	foreach ( array( 'property', 'value', 'way', 'start', 'font' ) as $name ) {
		$request[ $name ] = isset( $_POST[ $name ] ) ? sanitize_text_field( wp_unslash( $_POST[ $name ] ) ) : '';
	}
	stand_fetch( $request['start'] );
	return $request;
}

/** Asks the address, if there is one. */
function stand_fetch( string $url ): void {
	if ( '' !== $url ) {
		wp_remote_get( $url, array( 'timeout' => 60 ) );
	}
}

/** One option changed, and the stylesheet compiled from all of them. */
function stand_compile(): void {
	$request = stand_request();
	$theme   = stand_theme();
	switch ( $request['way'] ) {
		case 'cluster_lock':
			$version = cluster_synchronized( 'theme-css', fn() => stand_publish( $theme, $request, 'stand_put_whole' ) );
			break;
		case 'cluster_file_build':
			$version = stand_build( $theme, $request );
			break;
		case 'flock':
			$lock = fopen( $theme->stylesheet . '.lock', 'c' );
			flock( $lock, LOCK_EX );
			$version = stand_publish( $theme, $request, 'file_put_contents' );
			flock( $lock, LOCK_UN );
			break;
		default:
			$version = stand_publish( $theme, $request, 'file_put_contents' );
	}
	wp_send_json_success( $version );
}

/**
 * Reads, changes, compiles, writes.
 *
 * @param callable $put Takes a file's name and what is to be in it.
 */
function stand_publish( Theme $theme, array $request, callable $put ): int {
	$options = array( $request['property'] => $request['value'] ) + $theme->options();
	$version = $theme->version() + 1;
	stand_fetch( $request['font'] );
	$put( $theme->optionsFile, wp_json_encode( $options ) );
	$put( $theme->stylesheet, $theme->compile( $options, $version ) );
	return $version;
}

/** Whole or not at all, and only while the lock is ours. */
function stand_put_whole( string $file, string $data, string $lock = 'theme-css' ): void {
	if ( false === cluster_file_put_contents( $file, $data, 0, $lock ) ) {
		wp_send_json_error( null, 500 );
	}
}

/** The change alone under a lock; then one compile for all who have changed something by then. */
function stand_build( Theme $theme, array $request ): int {
	$change = static function () use ( $theme, $request ): void {
		$options = array( $request['property'] => $request['value'] ) + $theme->options();
		stand_put_whole( $theme->optionsFile, wp_json_encode( $options ), 'theme-options' );
	};
	cluster_synchronized( 'theme-options', $change );
	$compile = static function () use ( $theme, $request ): string {
		stand_fetch( $request['font'] );
		// Not what this request has saved: what everybody has saved until now.
		return $theme->compile( $theme->options(), $theme->version() + 1 );
	};
	if ( ! cluster_file_build( $theme->stylesheet, $compile, $theme->madeFrom(), 60.0 ) ) {
		wp_send_json_error( null, 500 );
	}
	return $theme->version();
}

/** The same with an option of WordPress, which all plugins keep in one array of their own. */
function stand_option(): void {
	$request = stand_request();
	$change  = static function () use ( $request ): int {
		stand_forget_option( 'stand_colors' );
		$colors = array( $request['property'] => $request['value'] ) + get_option( 'stand_colors', array() );
		if ( 'cluster_coalesced' !== $request['way'] ) {
			// What a builder does with them before it saves them.
			stand_theme()->compile( $colors, count( $colors ) );
		}
		update_option( 'stand_colors', $colors );
		return count( $colors );
	};
	if ( 'none' === $request['way'] ) {
		wp_send_json_success( $change() );
	}
	$count   = cluster_synchronized( 'stand_colors', $change );
	$publish = static function () use ( $request ): bool {
		stand_fetch( $request['font'] );
		// What this request knows is its own change; others have saved since.
		stand_forget_option( 'stand_colors' );
		$colors = get_option( 'stand_colors' );
		$theme  = stand_theme();
		$css    = $theme->compile( $colors, count( $colors ) );
		return false !== cluster_file_put_contents( dirname( $theme->stylesheet ) . '/colors.css', $css, 0, 'stand-colors-css' );
	};
	if ( 'cluster_coalesced' === $request['way'] && ! cluster_coalesced( 'stand-colors-css', $publish ) ) {
		wp_send_json_error( null, 500 );
	}
	wp_send_json_success( $count );
}

/** The next get_option() asks the database: not what this request has read, nor the object cache. */
function stand_forget_option( string $name ): void {
	// Those that are autoloaded, those that do not exist, and the others, which have an entry each.
	wp_cache_delete_multiple( array( 'alloptions', 'notoptions', $name ), 'options' );
}

/**
 * One at a time in WordPress's own theme editor, on all nodes: it empties the file and writes it anew, so two at once
 * can leave a mixture. The lock ends with the request.
 */
function stand_lock_theme_editor(): void {
	if ( function_exists( 'cluster_lock' ) && ! cluster_lock( 'theme-editor' ) ) {
		wp_send_json_error( array( 'message' => 'Somebody else is saving a theme file.' ), 409 );
	}
}

<?php
/**
 * The page Tools → Cluster locks.
 *
 * @package Cluster_Lock
 */

declare( strict_types=1 );

namespace Cluster_Lock;

/**
 * Prints the locks and the waits as they are now; with JavaScript they stay up to date.
 */
final class Page {

	public const SLUG = 'cluster-lock';

	/**
	 * Adds it to the Tools menu.
	 */
	public static function add(): void {
		self::add_below( 'tools.php' );
	}

	/**
	 * Adds it to the network's Settings menu: there is no Tools menu.
	 */
	public static function add_to_network(): void {
		self::add_below( 'settings.php' );
	}

	/**
	 * Its URL.
	 */
	public static function url(): string {
		return is_network_admin()
			? network_admin_url( 'settings.php?page=' . self::SLUG )
			: admin_url( 'tools.php?page=' . self::SLUG );
	}

	/**
	 * How many locks are shown at once.
	 */
	public static function limit(): int {
		/**
		 * Filters how many locks the page shows at once.
		 *
		 * @param int $limit From 1 to 1000; 200.
		 */
		return max( 1, min( 1000, (int) apply_filters( 'cluster_lock_list_limit', 200 ) ) );
	}

	/**
	 * The first locks by name.
	 *
	 * @param string $prefix Start of the names, or an identifier as of Text::id().
	 * @param int    $limit  The most.
	 * @return array array{locks: array[], more: bool}.
	 * @throws Server_Error The server cannot be reached, or refuses.
	 */
	public static function locks( string $prefix, int $limit ): array {
		$locks = Extension::locks( Text::name_of( $prefix ) ?? '', $limit + 1 );
		return array(
			'locks' => array_slice( $locks, 0, $limit ),
			'more'  => count( $locks ) > $limit,
		);
	}

	/**
	 * Prints it.
	 */
	public static function render(): void {
		if ( ! Access::is_allowed() ) {
			wp_die( esc_html__( 'Sorry, you are not allowed to see the locks.', 'cluster-lock' ), 403 );
		}
		echo '<div class="wrap cluster-lock">';
		printf( '<h1>%s</h1>', esc_html( get_admin_page_title() ) );
		if ( Extension::is_loaded() ) {
			self::render_locks( self::prefix() );
			self::render_waits();
			self::render_dialog();
		} else {
			self::render_not_loaded();
		}
		echo '</div>';
	}

	/**
	 * Loads script and style, on this page only.
	 */
	public static function enqueue(): void {
		if ( ! Extension::is_loaded() ) {
			return;
		}
		wp_enqueue_style( self::SLUG, Plugin::url( 'css/locks.css' ), array(), Plugin::VERSION );
		wp_enqueue_script( self::SLUG, Plugin::url( 'js/locks.js' ), array( 'wp-api-fetch', 'wp-i18n', 'wp-a11y', 'wp-url' ), Plugin::VERSION, true );
		wp_set_script_translations( self::SLUG, 'cluster-lock', Plugin::path( 'languages' ) );
		/**
		 * Filters how often the page asks for the locks.
		 *
		 * @param float $seconds At least 0.5; 2.
		 */
		$seconds  = max( 0.5, (float) apply_filters( 'cluster_lock_refresh_seconds', 2.0 ) );
		$settings = array(
			'space'   => Rest::SPACE,
			'seconds' => $seconds,
			'prefix'  => self::prefix(),
			'limit'   => self::limit(),
			'series'  => Waits_View::data( Wait_Recorder::stored(), time() )['series'],
		);
		wp_add_inline_script( self::SLUG, 'window.clusterLock = ' . wp_json_encode( $settings, JSON_HEX_TAG | JSON_HEX_AMP ) . ';', 'before' );
	}

	/**
	 * Adds it to a menu.
	 *
	 * @param string $menu The parent's file.
	 */
	private static function add_below( string $menu ): void {
		$title = __( 'Cluster locks', 'cluster-lock' );
		$hook  = add_submenu_page( $menu, $title, $title, Access::capability(), self::SLUG, array( self::class, 'render' ) );
		if ( false !== $hook ) {
			add_action( "load-$hook", array( self::class, 'prepare' ) );
		}
	}

	/**
	 * Called when the page, and no other, is about to be made.
	 */
	public static function prepare(): void {
		add_action( 'admin_enqueue_scripts', array( self::class, 'enqueue' ) );
	}

	/**
	 * The start of the names that are asked for.
	 */
	private static function prefix(): string {
		// phpcs:ignore WordPress.Security.NonceVerification, WordPress.Security.ValidatedSanitizedInput -- It only filters what is shown.
		$prefix = isset( $_GET['s'] ) && is_string( $_GET['s'] ) ? wp_unslash( $_GET['s'] ) : '';
		return substr( wp_check_invalid_utf8( $prefix ), 0, 1400 );
	}

	/**
	 * The table of locks.
	 *
	 * @param string $prefix Start of the names.
	 */
	private static function render_locks( string $prefix ): void {
		$error = '';
		$list  = array(
			'locks' => array(),
			'more'  => false,
		);
		try {
			$list = self::locks( $prefix, self::limit() );
		} catch ( Server_Error $failure ) {
			$error = $failure->getMessage();
		}
		$now  = microtime( true );
		$rows = '';
		foreach ( $list['locks'] as $lock ) {
			$rows .= Lock_Table::html( Lock_Table::row( $lock, $now, ABSPATH ) );
		}
		?>
		<p><?php esc_html_e( 'The locks that are held now, on all web servers that share the lock server, and who waits for them.', 'cluster-lock' ); ?></p>
		<div id="cluster-lock-error" class="notice notice-error inline"<?php echo '' === $error ? ' hidden' : ''; ?>><p><?php echo Text::escaped( $error ); // phpcs:ignore WordPress.Security.EscapeOutput ?></p></div>
		<div id="cluster-lock-result" class="notice inline" tabindex="-1" hidden><p></p></div>
		<div class="cluster-lock-bar">
			<form method="get" class="cluster-lock-search" role="search">
				<input type="hidden" name="page" value="<?php echo esc_attr( self::SLUG ); ?>">
				<label for="cluster-lock-prefix" class="screen-reader-text"><?php esc_html_e( 'Names that start with', 'cluster-lock' ); ?></label>
				<input type="search" id="cluster-lock-prefix" name="s" value="<?php echo Text::escaped( $prefix ); // phpcs:ignore WordPress.Security.EscapeOutput ?>" placeholder="<?php esc_attr_e( 'Names that start with…', 'cluster-lock' ); ?>">
				<button class="button"><?php esc_html_e( 'Show', 'cluster-lock' ); ?></button>
			</form>
			<div class="cluster-lock-state">
				<span id="cluster-lock-summary"><?php echo '' === $error ? esc_html( Lock_Table::summary( $list['locks'], $list['more'] ) ) : ''; ?></span>
				<button type="button" id="cluster-lock-pause" class="button hide-if-no-js" aria-pressed="false"><?php esc_html_e( 'Pause', 'cluster-lock' ); ?></button>
				<a class="button hide-if-js" href="<?php echo esc_url( add_query_arg( 's', rawurlencode( $prefix ), self::url() ) ); ?>"><?php esc_html_e( 'Reload', 'cluster-lock' ); ?></a>
			</div>
		</div>
		<table id="cluster-lock-table" class="widefat striped" data-refreshed="0" tabindex="-1">
			<caption class="screen-reader-text"><?php esc_html_e( 'Locks that are held now', 'cluster-lock' ); ?></caption>
			<thead><tr>
				<?php
				foreach ( Lock_Table::columns() as $column => $label ) {
					$label = 'actions' === $column ? '<span class="screen-reader-text">' . esc_html( $label ) . '</span>' : esc_html( $label );
					printf( '<th scope="col" class="column-%s">%s</th>', esc_attr( $column ), $label ); // phpcs:ignore WordPress.Security.EscapeOutput -- Escaped above.
				}
				?>
			</tr></thead>
			<tbody>
				<tr class="no-items"<?php echo '' === $rows && '' === $error ? '' : ' hidden'; ?>><td colspan="<?php echo count( Lock_Table::columns() ); ?>"><?php esc_html_e( 'No lock is held.', 'cluster-lock' ); ?></td></tr>
				<?php echo $rows; // phpcs:ignore WordPress.Security.EscapeOutput -- Lock_Table escapes. ?>
			</tbody>
		</table>
		<?php
	}

	/**
	 * Statistics of waits.
	 */
	private static function render_waits(): void {
		$html = Waits_View::data( Wait_Recorder::stored(), time() )['html'];
		// phpcs:disable WordPress.Security.EscapeOutput -- Waits_View escapes.
		?>
		<h2 id="cluster-lock-waits"><?php esc_html_e( 'Waits', 'cluster-lock' ); ?></h2>
		<p><?php esc_html_e( 'Requests of WordPress that waited for a lock in the last 24 hours. Most should not wait at all.', 'cluster-lock' ); ?></p>
		<ul id="cluster-lock-figures"><?php echo $html['figures']; ?></ul>
		<figure id="cluster-lock-chart" class="hide-if-no-js">
			<figcaption><?php esc_html_e( 'Time waited per hour, last 48 hours', 'cluster-lock' ); ?></figcaption>
		</figure>
		<details id="cluster-lock-numbers">
			<summary><?php esc_html_e( 'The numbers behind the chart', 'cluster-lock' ); ?></summary>
			<?php self::render_table( 'cluster-lock-hours', __( 'Waits by the hour', 'cluster-lock' ), Waits_View::hour_columns(), $html['hours'] ); ?>
		</details>
		<h2><?php esc_html_e( 'Slow requests', 'cluster-lock' ); ?></h2>
		<p>
			<?php
			/* translators: %s: a number. */
			echo esc_html( sprintf( __( 'The last %s requests that waited for longer than cluster_lock.slow_wait, or gave up. Who was in the way is in PHP\'s error log.', 'cluster-lock' ), number_format_i18n( Waits::SLOW ) ) );
			?>
		</p>
		<?php
		self::render_table( 'cluster-lock-slow', __( 'Slow requests', 'cluster-lock' ), Waits_View::slow_columns(), $html['slow'] );
		// phpcs:enable
	}

	/**
	 * A plain table.
	 *
	 * @param string   $id      Its id.
	 * @param string   $caption For screen readers.
	 * @param string[] $columns The headings.
	 * @param string   $rows    HTML, escaped.
	 */
	private static function render_table( string $id, string $caption, array $columns, string $rows ): void {
		$head = '';
		foreach ( $columns as $column ) {
			$head .= '<th scope="col">' . esc_html( $column ) . '</th>';
		}
		printf(
			'<table id="%s" class="widefat striped"><caption class="screen-reader-text">%s</caption><thead><tr>%s</tr></thead><tbody>%s</tbody></table>',
			esc_attr( $id ),
			esc_html( $caption ),
			$head, // phpcs:ignore WordPress.Security.EscapeOutput -- Escaped above.
			$rows // phpcs:ignore WordPress.Security.EscapeOutput -- Waits_View escapes.
		);
	}

	/**
	 * The question before a lock is broken; JavaScript fills it in.
	 */
	private static function render_dialog(): void {
		?>
		<dialog id="cluster-lock-dialog" aria-labelledby="cluster-lock-question" aria-describedby="cluster-lock-consequence">
			<h2 id="cluster-lock-question"></h2>
			<p data-held-by></p>
			<p id="cluster-lock-consequence"><?php esc_html_e( 'The next in line gets the lock at once. The holder is not stopped: it finds out at its next call, and what it writes until then may collide with what the next one writes. Break a lock only when its holder hangs.', 'cluster-lock' ); ?></p>
			<form method="dialog">
				<button type="button" class="button button-primary" data-confirm><?php esc_html_e( 'Break the lock', 'cluster-lock' ); ?></button>
				<button class="button" data-cancel autofocus><?php esc_html_e( 'Cancel', 'cluster-lock' ); ?></button>
			</form>
		</dialog>
		<?php
	}

	/**
	 * What there is to say without the extension.
	 */
	private static function render_not_loaded(): void {
		printf(
			'<div id="cluster-lock-error" class="notice notice-warning inline"><p>%s</p></div>',
			esc_html__( 'The PHP extension cluster_lock is not loaded on the web server that made this page.', 'cluster-lock' )
		);
		if ( current_user_can( 'view_site_health_checks' ) ) {
			printf(
				'<p><a href="%s">%s</a></p>',
				esc_url( admin_url( 'site-health.php' ) ),
				esc_html__( 'Site Health says how to install it.', 'cluster-lock' )
			);
		}
	}
}

<?php
/**
 * The table of locks.
 *
 * @package Cluster_Lock
 */

declare( strict_types=1 );

namespace Cluster_Lock;

/**
 * Turns what cluster_lock_list() returned into cells. The page prints them, and the refresh replaces those that have
 * changed, so that there is one place that knows how a lock looks, and one that escapes.
 */
final class Lock_Table {

	/**
	 * The most characters of a name, path or node that are shown at once.
	 */
	private const LONG = 120;

	/**
	 * The most holders or waiters of one lock that are shown.
	 */
	private const MANY = 10;

	/**
	 * The columns, in order.
	 *
	 * @return string[] Key => heading.
	 */
	public static function columns(): array {
		return array(
			'name'    => __( 'Lock', 'cluster-lock' ),
			'mode'    => __( 'Mode', 'cluster-lock' ),
			'holder'  => __( 'Held by', 'cluster-lock' ),
			'held'    => __( 'Held for', 'cluster-lock' ),
			'lease'   => __( 'Lease left', 'cluster-lock' ),
			'fence'   => __( 'Fencing token', 'cluster-lock' ),
			'waiters' => __( 'Waiting, in order', 'cluster-lock' ),
			'actions' => __( 'Actions', 'cluster-lock' ),
		);
	}

	/**
	 * A lock as a row.
	 *
	 * @param array  $lock One of cluster_lock_list().
	 * @param float  $now  Unix time.
	 * @param string $root Where WordPress is; paths below it are shown without it.
	 * @return array array{id: string, title: string, fence: string, held_by: string, cells: string[]}; only the cells
	 *     are HTML.
	 */
	public static function row( array $lock, float $now, string $root ): array {
		$name = Text::printable( $lock['name'] );
		return array(
			'id'      => Text::id( $lock['name'] ),
			'title'   => Text::shortened( $name, self::LONG ),
			// As text, because numbers of JavaScript are exact up to 2^53 only.
			'fence'   => (string) $lock['fence'],
			'held_by' => self::held_by( $lock, $now ),
			'cells'   => array(
				'name'    => self::long( $name, 'code' ),
				'mode'    => Text::escaped( self::mode( $lock ) ),
				'holder'  => self::holders( $lock, $root ),
				'held'    => Text::escaped( Text::duration( $now - $lock['since'] ) ),
				'lease'   => Text::escaped( Text::duration( $lock['ttl'] ) ),
				'fence'   => Text::escaped( (string) $lock['fence'] ),
				'waiters' => self::waiters( $lock, $now, $root ),
				'actions' => sprintf(
					'<button type="button" class="button button-small hide-if-no-js" data-break aria-haspopup="dialog">%s<span class="screen-reader-text"> %s</span></button>',
					/* translators: Verb: take a lock away from its holder. */
					esc_html__( 'Break…', 'cluster-lock' ),
					Text::escaped( Text::shortened( $name, self::LONG ) )
				),
			),
		);
	}

	/**
	 * A row as HTML.
	 *
	 * @param array $row Of row().
	 */
	public static function html( array $row ): string {
		$cells = '';
		foreach ( self::columns() as $column => $label ) {
			$tag    = 'name' === $column ? 'th scope="row"' : 'td';
			$cells .= sprintf(
				'<%s class="column-%s" data-colname="%s">%s</%s>',
				$tag,
				Text::escaped( $column ),
				Text::escaped( $label ),
				$row['cells'][ $column ],
				substr( $tag, 0, 2 )
			);
		}
		return sprintf(
			'<tr data-lock="%s" data-fence="%s" data-title="%s" data-held-by="%s">%s</tr>',
			Text::escaped( $row['id'] ),
			Text::escaped( $row['fence'] ),
			Text::escaped( $row['title'] ),
			Text::escaped( $row['held_by'] ),
			$cells
		);
	}

	/**
	 * How many locks are held, and how many processes wait.
	 *
	 * @param array[] $locks Of cluster_lock_list().
	 * @param bool    $more  Whether there are more.
	 */
	public static function summary( array $locks, bool $more ): string {
		$held    = count( $locks );
		$waiting = 0;
		foreach ( $locks as $lock ) {
			$waiting += self::count( $lock, 'waiters' );
		}
		if ( $more ) {
			return sprintf(
				/* translators: %s: number of locks. */
				__( 'The first %s locks, by name. There are more: show those whose names start with certain letters.', 'cluster-lock' ),
				number_format_i18n( $held )
			);
		}
		if ( 0 === $held ) {
			return __( 'No lock is held.', 'cluster-lock' );
		}
		return sprintf(
			/* translators: 1: "3 locks held", 2: "1 process waiting". */
			__( '%1$s, %2$s.', 'cluster-lock' ),
			/* translators: %s: number of locks. */
			sprintf( _n( '%s lock held', '%s locks held', $held, 'cluster-lock' ), number_format_i18n( $held ) ),
			/* translators: %s: number of processes. */
			sprintf( _n( '%s process waiting', '%s processes waiting', $waiting, 'cluster-lock' ), number_format_i18n( $waiting ) )
		);
	}

	/**
	 * Who holds a lock, as a sentence for the question whether to break it.
	 *
	 * @param array $lock One of cluster_lock_list().
	 * @param float $now  Unix time.
	 */
	public static function held_by( array $lock, float $now ): string {
		$sentences = array();
		foreach ( array_slice( $lock['holders'], 0, self::MANY ) as $holder ) {
			$what        = '' === $holder['request_uri'] ? $holder['script'] : $holder['request_uri'];
			$what        = Text::shortened( Text::printable( $what ), self::LONG );
			$call        = Text::shortened( self::call( $holder, '' ), self::LONG );
			$sentences[] = sprintf(
				/* translators: 1: name of a web server, 2: process number, 3: a URL path or script, and which code runs, 4: a duration. */
				__( 'Held by %1$s, process %2$s, %3$s, for %4$s.', 'cluster-lock' ),
				Text::shortened( Text::printable( $holder['node'] ), self::LONG ),
				$holder['pid'],
				'' === $call ? $what : "$what, $call",
				Text::duration( $now - $holder['since'] )
			);
		}
		$rest = self::count( $lock, 'holders' ) - count( $sentences );
		if ( $rest > 0 ) {
			$sentences[] = self::and_more( $rest );
		}
		return implode( ' ', $sentences );
	}

	/**
	 * Which code has asked for the lock; '' when it is not known. Earlier versions of the extension do not tell.
	 *
	 * @param array  $who  A holder or waiter.
	 * @param string $root Where WordPress is; paths below it are shown without it. May be empty.
	 * @return string Printable.
	 */
	public static function call( array $who, string $root ): string {
		$file = $who['file'] ?? '';
		if ( '' === $file ) {
			return '';
		}
		$place = Text::printable( self::without_root( $file, $root ) ) . ':' . ( $who['line'] ?? 0 );
		if ( '' === ( $who['function'] ?? '' ) ) {
			return $place;
		}
		/* translators: 1: a function of PHP code, such as compile(), 2: a file and a line, such as compiler.php:142. */
		return sprintf( __( '%1$s at %2$s', 'cluster-lock' ), Text::printable( $who['function'] ) . '()', $place );
	}

	/**
	 * How many hold a lock, or wait for it, those among them whom the report does not name.
	 *
	 * @param array  $lock  One of cluster_lock_list().
	 * @param string $group Either holders or waiters.
	 */
	public static function count( array $lock, string $group ): int {
		return count( $lock[ $group ] ) + self::more( $lock, $group );
	}

	/**
	 * How many holders or waiters the report does not name. Earlier versions of the extension name all.
	 *
	 * @param array  $lock  One of cluster_lock_list().
	 * @param string $group Either holders or waiters.
	 */
	public static function more( array $lock, string $group ): int {
		return (int) ( $lock[ "more_$group" ] ?? 0 );
	}

	/**
	 * Why a lock was not broken: who holds it is not who was meant.
	 *
	 * @param string $title The lock's name, printable.
	 * @param array  $lock  What cluster_lock_info() says of it now.
	 */
	public static function has_changed( string $title, array $lock ): string {
		return sprintf(
			/* translators: 1: name of a lock, 2: "Held by …", 3: a number. */
			__( 'The lock "%1$s" has a new holder meanwhile. It was not broken. %2$s Fencing token: %3$s.', 'cluster-lock' ),
			$title,
			self::held_by( $lock, microtime( true ) ),
			$lock['fence']
		);
	}

	/**
	 * The holders' cell.
	 *
	 * @param array  $lock One of cluster_lock_list().
	 * @param string $root Where WordPress is.
	 */
	private static function holders( array $lock, string $root ): string {
		$html  = '';
		$shown = array_slice( $lock['holders'], 0, self::MANY );
		foreach ( $shown as $holder ) {
			$lines = array();
			if ( '' !== $holder['request_uri'] ) {
				$lines[] = self::long( Text::printable( $holder['request_uri'] ), 'span' );
			}
			$script = self::without_root( $holder['script'], $root );
			// A URL that is the script's own says it already.
			$is_said = '' === $script || substr( $holder['request_uri'], -strlen( $script ) - 1 ) === "/$script";
			if ( ! $is_said ) {
				$lines[] = '<span class="cluster-lock-script">' . self::long( Text::printable( $script ), 'span' ) . '</span>';
			}
			$call = self::call( $holder, $root );
			if ( '' !== $call ) {
				$lines[] = '<span class="cluster-lock-call">' . self::long( $call, 'span' ) . '</span>';
			}
			$html .= sprintf(
				'<li data-node="%s" data-pid="%d">%s%s</li>',
				Text::escaped( Text::printable( $holder['node'] ) ),
				$holder['pid'],
				self::process( $holder ),
				array() === $lines ? '' : '<br>' . implode( '<br>', $lines )
			);
		}
		$rest = self::count( $lock, 'holders' ) - count( $shown );
		if ( $rest > 0 ) {
			$html .= '<li>' . Text::escaped( self::and_more( $rest ) ) . '</li>';
		}
		return "<ul>$html</ul>";
	}

	/**
	 * The waiters' cell.
	 *
	 * @param array  $lock One of cluster_lock_list(), whose waiters are in the order in which they will be served.
	 * @param float  $now  Unix time.
	 * @param string $root Where WordPress is.
	 */
	private static function waiters( array $lock, float $now, string $root ): string {
		if ( 0 === self::count( $lock, 'waiters' ) ) {
			return '<span aria-hidden="true">—</span><span class="screen-reader-text">' . esc_html__( 'nobody', 'cluster-lock' ) . '</span>';
		}
		$html  = '';
		$shown = array_slice( $lock['waiters'], 0, self::MANY );
		foreach ( $shown as $waiter ) {
			if ( 'shared' === $waiter['mode'] ) {
				/* translators: %s: a duration. */
				$how = __( 'shared, for %s', 'cluster-lock' );
			} elseif ( self::runs( $waiter ) ) {
				/* translators: %s: a duration. */
				$how = __( 'for a run, for %s', 'cluster-lock' );
			} else {
				/* translators: %s: a duration. */
				$how = __( 'for %s', 'cluster-lock' );
			}
			$call  = self::call( $waiter, $root );
			$html .= sprintf(
				'<li data-waiter="%s" data-pid="%d">%s, %s%s</li>',
				Text::escaped( Text::printable( $waiter['node'] ) ),
				$waiter['pid'],
				self::process( $waiter ),
				Text::escaped( sprintf( $how, Text::duration( $now - $waiter['since'] ) ) ),
				'' === $call ? '' : '<br><span class="cluster-lock-call">' . self::long( $call, 'span' ) . '</span>'
			);
		}
		$rest = self::count( $lock, 'waiters' ) - count( $shown );
		if ( $rest > 0 ) {
			$html .= '<li>' . Text::escaped( self::and_more( $rest ) ) . '</li>';
		}
		return "<ol>$html</ol>";
	}

	/**
	 * A path below WordPress without where that is.
	 *
	 * @param string $path A script or file.
	 * @param string $root Where WordPress is; may be empty.
	 */
	private static function without_root( string $path, string $root ): string {
		return '' !== $root && Mounts::is_within( $path, $root )
			? ltrim( substr( $path, strlen( rtrim( $root, '/' ) ) ), '/' )
			: $path;
	}

	/**
	 * Node and process.
	 *
	 * @param array $who A holder or waiter.
	 */
	private static function process( array $who ): string {
		return sprintf(
			/* translators: 1: name of a web server, 2: process number. */
			esc_html__( '%1$s, process %2$s', 'cluster-lock' ),
			'<strong>' . Text::escaped( Text::shortened( Text::printable( $who['node'] ), self::LONG ) ) . '</strong>',
			(int) $who['pid']
		);
	}

	/**
	 * A text that may be long: its beginning and end, and the whole of it when that is opened.
	 *
	 * @param string $text Printable.
	 * @param string $tag  What it is in.
	 */
	private static function long( string $text, string $tag ): string {
		$whole = sprintf( '<%1$s dir="ltr">%2$s</%1$s>', $tag, Text::escaped( $text ) );
		if ( Text::length( $text ) <= self::LONG ) {
			return $whole;
		}
		$short = sprintf( '<%1$s dir="ltr">%2$s</%1$s>', $tag, Text::escaped( Text::shortened( $text, self::LONG ) ) );
		return "<details><summary>$short</summary>$whole</details>";
	}

	/**
	 * Exclusive or shared, translated, and whether it is for a run.
	 *
	 * @param array $lock One of cluster_lock_list().
	 */
	private static function mode( array $lock ): string {
		if ( 'shared' === $lock['mode'] ) {
			return __( 'Shared', 'cluster-lock' );
		}
		return self::runs( $lock['holders'][0] ?? array() )
			? __( 'Exclusive, for a run', 'cluster-lock' )
			: __( 'Exclusive', 'cluster-lock' );
	}

	/**
	 * Whether it is for a run, which one does for all who want it done: cluster_coalesced(). Earlier versions of the
	 * extension have none.
	 *
	 * @param array $who A holder or waiter.
	 */
	public static function runs( array $who ): bool {
		return (bool) ( $who['run'] ?? false );
	}

	/**
	 * What follows the last one shown.
	 *
	 * @param int $count How many are left.
	 */
	private static function and_more( int $count ): string {
		/* translators: %s: a number. */
		return sprintf( _n( 'and %s more', 'and %s more', $count, 'cluster-lock' ), number_format_i18n( $count ) );
	}
}

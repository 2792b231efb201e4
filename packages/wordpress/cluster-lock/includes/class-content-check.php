<?php
/**
 * Site Health: do the nodes share files whose flock() is polled?
 *
 * @package Cluster_Lock
 */

declare( strict_types=1 );

namespace Cluster_Lock;

/**
 * Looks at the mount table and at what is intercepted.
 */
final class Content_Check {

	/**
	 * Judges.
	 *
	 * @param string[]    $dirs    The real paths of directories that plugins and themes write to.
	 * @param Mounts|null $mounts  Null: unknown.
	 * @param array       $hook    cluster_lock_status()['hook'].
	 * @param string      $backend cluster_lock_status()['backend'].
	 */
	public static function verdict( array $dirs, ?Mounts $mounts, array $hook, string $backend ): Verdict {
		if ( null === $mounts ) {
			return Verdict::recommended( __( 'It cannot be found out whether the content directory is on a network file system', 'cluster-lock' ) )
				->say( __( 'PHP may not read /proc/self/mountinfo, probably because of open_basedir. If the web servers share the directory over NFS or the like, have its file locks intercepted:', 'cluster-lock' ) )
				->code( 'cluster_lock.intercept = "@network"' );
		}

		$network = array();
		$open    = array();
		foreach ( array_unique( $dirs ) as $dir ) {
			$mount = $mounts->at( $dir );
			if ( null === $mount || ! Mounts::is_network( $mount['type'] ) ) {
				continue;
			}
			/* translators: 1: a directory, 2: a type of file system such as nfs4, 3: its server and export. */
			$network[] = sprintf( __( '%1$s: %2$s, %3$s', 'cluster-lock' ), Text::printable( $dir ), $mount['type'], Text::printable( $mount['source'] ) );
			if ( ! self::is_intercepted( $dir, $mount['type'], $hook ) ) {
				$open[ $dir ] = $mount['type'];
			}
		}

		if ( array() === $network ) {
			$mount = $mounts->at( (string) reset( $dirs ) );
			return Verdict::good( __( 'The content directory is not on a network file system', 'cluster-lock' ) )
				->say(
					sprintf(
						/* translators: %s: a type of file system such as ext4. */
						__( 'It is on %s. flock() in themes and plugins is this machine\'s own business; nothing has to be intercepted.', 'cluster-lock' ),
						$mount['type'] ?? '?'
					)
				);
		}
		if ( array() !== $open ) {
			return Verdict::recommended( __( 'File locks on a network file system are not intercepted', 'cluster-lock' ) )
				->say( __( 'A contended flock() there is polled, for seconds, and LOCK_EX in file_put_contents() with it:', 'cluster-lock' ) )
				->items( $network )
				->say( __( 'This line in php.ini on every web server lets them wait in the cluster lock instead. No code has to be changed.', 'cluster-lock' ) )
				->code( 'cluster_lock.intercept = "' . self::advice( $open, $hook['intercept'] ) . '"' );
		}
		if ( 'local' === $backend ) {
			return Verdict::critical( __( 'The content directory is shared, but the locks are this machine\'s own', 'cluster-lock' ) )
				->say( __( 'With "local:" in cluster_lock.dsn no other web server sees a lock. Name a Redis or Valkey server that all of them reach.', 'cluster-lock' ) )
				->items( $network );
		}
		return Verdict::good( __( 'File locks on the network file system are intercepted', 'cluster-lock' ) )
			->say(
				sprintf(
					/* translators: %s: gate or replace. */
					__( 'flock() and LOCK_EX in themes and plugins wait in the cluster lock (cluster_lock.flock_mode = %s).', 'cluster-lock' ),
					$hook['flock_mode']
				)
			)
			->items( $network );
	}

	/**
	 * Whether the extension intercepts locks on the files of a directory.
	 *
	 * @param string $dir  Its real path.
	 * @param string $type Its type of file system.
	 * @param array  $hook cluster_lock_status()['hook'].
	 */
	public static function is_intercepted( string $dir, string $type, array $hook ): bool {
		if ( ! $hook['active'] ) {
			return false;
		}
		foreach ( array_map( 'trim', explode( ':', $hook['intercept'] ) ) as $entry ) {
			if ( '@network' === $entry && Mounts::is_known( $type ) ) {
				return true;
			}
			// As the extension does: the path as written, and where it leads.
			if ( 0 === strpos( $entry, '/' ) ) {
				// phpcs:ignore WordPress.PHP.NoSilencedErrors -- open_basedir may forbid to ask.
				$real = @realpath( $entry );
				if ( Mounts::is_within( $dir, $entry ) || ( false !== $real && Mounts::is_within( $dir, $real ) ) ) {
					return true;
				}
			}
		}
		return false;
	}

	/**
	 * What to set cluster_lock.intercept to.
	 *
	 * @param string[] $open Directory => type, of those that are not intercepted.
	 * @param string   $now  What it is now.
	 */
	private static function advice( array $open, string $now ): string {
		$entries = '' === $now ? array() : explode( ':', $now );
		foreach ( $open as $dir => $type ) {
			$entries[] = Mounts::is_known( $type ) ? '@network' : (string) $dir;
		}
		return implode( ':', array_unique( $entries ) );
	}
}

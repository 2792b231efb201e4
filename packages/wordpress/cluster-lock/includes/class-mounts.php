<?php
/**
 * Which file system a path is on.
 *
 * @package Cluster_Lock
 */

declare( strict_types=1 );

namespace Cluster_Lock;

/**
 * The mount table of this process, as the kernel tells it.
 */
final class Mounts {

	/**
	 * Types that cluster_lock.intercept = @network knows, because the kernel says that they are network file systems.
	 */
	public const KNOWN = array( 'nfs', 'nfs4', 'cifs', 'smb3', 'smbfs', 'ceph', 'afs', 'coda', '9p', 'lustre', 'gpfs' );

	/**
	 * Types that are network file systems too, but look like local ones to @network: their paths have to be named.
	 */
	public const UNKNOWN = array(
		'fuse.glusterfs',
		'fuse.sshfs',
		'fuse.s3fs',
		'fuse.goofys',
		'fuse.mountpoint-s3',
		'fuse.gcsfuse',
		'fuse.rclone',
		'fuse.juicefs',
		'fuse.JuiceFS',
		'fuse.seaweedfs',
		'fuse.ceph',
		'fuse.ceph-fuse',
		'fuse.mfs',
		'fuse.moosefs',
		'fuse.lizardfs',
		'fuse.weed',
		'fuse.davfs',
		'davfs',
		'beegfs',
		'orangefs',
		'pvfs2',
		'ocfs2',
		'gfs2',
		'virtiofs',
	);

	/**
	 * Mount points and what is there, in the order in which they were mounted.
	 *
	 * @var array[]
	 */
	private $entries = array();

	/**
	 * Reads /proc/self/mountinfo.
	 *
	 * @return self|null Null: it cannot be read, for instance because of open_basedir.
	 */
	public static function of_this_process(): ?self {
		// phpcs:ignore WordPress.PHP.NoSilencedErrors, WordPress.WP.AlternativeFunctions -- A file of the kernel's.
		$text = @file_get_contents( '/proc/self/mountinfo' );
		return false === $text ? null : new self( $text );
	}

	/**
	 * Takes a mount table apart.
	 *
	 * @param string $mountinfo As in proc(5).
	 */
	public function __construct( string $mountinfo ) {
		foreach ( explode( "\n", $mountinfo ) as $line ) {
			// The optional fields, before the single hyphen, may be none or several.
			$parts  = explode( ' - ', $line, 2 );
			$before = explode( ' ', $parts[0] );
			$after  = explode( ' ', $parts[1] ?? '' );
			if ( isset( $before[4], $after[1] ) ) {
				$this->entries[] = array(
					'point'  => self::unescaped( $before[4] ),
					'type'   => $after[0],
					'source' => self::unescaped( $after[1] ),
				);
			}
		}
	}

	/**
	 * What is mounted where a path is.
	 *
	 * @param string $path Absolute, without symbolic links.
	 * @return array|null array{point: string, type: string, source: string}; null: nothing known.
	 */
	public function at( string $path ): ?array {
		$found = null;
		foreach ( $this->entries as $entry ) {
			// Of two on one point the later one covers the earlier (an automount point and what was mounted on it).
			$covers = null === $found || strlen( $entry['point'] ) >= strlen( $found['point'] );
			if ( $covers && self::is_within( $path, $entry['point'] ) ) {
				$found = $entry;
			}
		}
		return $found;
	}

	/**
	 * Whether a type's files are on another machine.
	 *
	 * @param string $type As in the mount table.
	 */
	public static function is_network( string $type ): bool {
		return self::is_known( $type ) || in_array( $type, self::UNKNOWN, true );
	}

	/**
	 * Whether @network means it.
	 *
	 * @param string $type As in the mount table.
	 */
	public static function is_known( string $type ): bool {
		return in_array( $type, self::KNOWN, true );
	}

	/**
	 * Whether a path is a directory or in it; by whole components.
	 *
	 * @param string $path Absolute.
	 * @param string $dir  Absolute.
	 */
	public static function is_within( string $path, string $dir ): bool {
		$dir = rtrim( $dir, '/' ) . '/';
		return 0 === strpos( rtrim( $path, '/' ) . '/', $dir );
	}

	/**
	 * Turns the table's \040 back into a blank, and so on.
	 *
	 * @param string $field A field of the table.
	 */
	private static function unescaped( string $field ): string {
		return (string) preg_replace_callback(
			'/\\\\([0-7]{3})/',
			static function ( array $found ): string {
				return chr( (int) octdec( $found[1] ) & 0xFF );
			},
			$field
		);
	}
}

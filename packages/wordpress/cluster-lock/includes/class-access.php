<?php
/**
 * Who may see and break locks.
 *
 * @package Cluster_Lock
 */

declare( strict_types=1 );

namespace Cluster_Lock;

/**
 * One capability for the page and its REST routes.
 */
final class Access {

	/**
	 * The capability that is needed.
	 *
	 * On a network it is the super administrators': locks and their holders' URLs are those of all sites.
	 */
	public static function capability(): string {
		/**
		 * Filters the capability that is needed to see the locks, and to break them.
		 *
		 * @param string $capability manage_options; on a network manage_network_options.
		 */
		return (string) apply_filters(
			'cluster_lock_capability',
			is_multisite() ? 'manage_network_options' : 'manage_options'
		);
	}

	/**
	 * Whether the current user has it.
	 */
	public static function is_allowed(): bool {
		return current_user_can( self::capability() );
	}
}

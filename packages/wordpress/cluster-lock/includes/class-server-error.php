<?php
/**
 * What the extension warned of.
 *
 * @package Cluster_Lock
 */

declare( strict_types=1 );

namespace Cluster_Lock;

/**
 * A call failed; the message is the extension's, which names the lock, the server and the cause.
 */
final class Server_Error extends \RuntimeException {
}

//! The settings by their names, and what a file says of them.

/// The extension's settings, without the `cluster_lock.` that their names begin with.
pub(super) const SETTINGS: [&str; 18] = [
    "dsn",
    "prefix",
    "timeout",
    "ttl",
    "auto_renew",
    "max_hold",
    "connect_timeout",
    "command_timeout",
    "pool_size",
    "retry_after",
    "node",
    "path_map",
    "intercept",
    "intercept_exclude",
    "flock_mode",
    "slow_wait",
    "durable_writes",
    "mount_point_writes",
];

/// What one file says.
#[derive(Default)]
pub(super) struct Read {
    pub(super) settings: Vec<(String, String)>,
}

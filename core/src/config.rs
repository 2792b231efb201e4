//! The process-wide settings: what php.ini's `SYSTEM` entries say.

use std::time::Duration;

use crate::dsn::Dsn;

/// Where the locks live and how the server is spoken to. Each has an engine of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Which backend, and where.
    pub dsn: Dsn,
    /// Start of every key. Contains neither braces nor glob characters.
    pub prefix: String,
    /// The longest wait for a connection.
    pub connect_timeout: Duration,
    /// The longest wait for the answer to one command.
    pub command_timeout: Duration,
    /// Most connections a process keeps.
    pub pool_size: usize,
    /// After a failed connect: how long to fail at once instead of trying again.
    pub retry_after: Duration,
    /// This node's name in reports.
    pub node: String,
}

impl Config {
    /// The defaults of the contract, for a DSN.
    pub fn new(dsn: Dsn) -> Self {
        Self {
            dsn,
            prefix: "cluster_lock:".into(),
            connect_timeout: Duration::from_secs(1),
            command_timeout: Duration::from_secs(1),
            pool_size: 8,
            retry_after: Duration::from_secs(1),
            node: hostname(),
        }
    }
}

/// What is allowed in `cluster_lock.prefix`.
///
/// # Errors
/// Says in words what is not allowed. Braces would move the hash tag, globs would make `SCAN`
/// match other people's keys.
pub fn check_prefix(prefix: &str) -> Result<(), String> {
    if prefix.len() > 128 {
        return Err("at most 128 bytes are allowed".into());
    }
    if prefix.bytes().all(|b| b.is_ascii_graphic() && !b"{}*?[]\\^".contains(&b)) {
        Ok(())
    } else {
        Err("printable ASCII without blanks and without { } [ ] * ? \\ ^ is allowed".into())
    }
}

/// This machine's host name.
pub fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

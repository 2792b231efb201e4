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

/// What the text of a setting means, for whoever reads php.ini: the extension and the command take it from here.
/// Each says in words what is allowed where that is not. Blanks around a value are none of it.
pub mod read {
    use std::time::Duration;

    use super::hostname;
    use crate::Dsn;
    use crate::file_lock::{Exclude, FlockMode, Intercept};
    use crate::key::PathMap;
    use crate::replace::MountPoint;

    /// The shortest lease, in seconds.
    pub const MIN_TTL: f64 = 0.1;
    /// The longest lease, in seconds: a year. Beyond any use, and within any server's arithmetic.
    pub const MAX_TTL: f64 = 31_536_000.0;

    /// Why a setting (without `cluster_lock.`) cannot have this value; `None`: it can.
    pub fn refusal(setting: &str, text: &str) -> Option<String> {
        match setting {
            "dsn" => Dsn::parse(text).err().map(|error| error.to_string()),
            "prefix" => prefix(text).err(),
            "timeout" | "max_hold" | "slow_wait" => limit(text).err(),
            "ttl" => seconds(text, MIN_TTL, MAX_TTL).err(),
            "auto_renew" | "durable_writes" => switch(text).err(),
            "connect_timeout" | "command_timeout" => time_out(text).err(),
            "pool_size" => pool_size(text).err(),
            "retry_after" => retry_after(text).err(),
            "node" => node(text).err(),
            "path_map" => PathMap::parse(text.trim()).err().map(|error| error.to_string()),
            "intercept" => Intercept::parse(text.trim()).err().map(|error| error.to_string()),
            "intercept_exclude" => Exclude::parse(text.trim()).err().map(|error| error.to_string()),
            "flock_mode" => flock_mode(text).err(),
            "mount_point_writes" => mount_point_writes(text).err(),
            _ => Some("there is no such setting".into()),
        }
    }

    /// `cluster_lock.prefix`: may be empty. Braces would move the hash tag, globs would make `SCAN` match other
    /// people's keys.
    ///
    /// # Errors
    /// It is not allowed.
    pub fn prefix(text: &str) -> Result<String, String> {
        let prefix = text.trim();
        if prefix.len() > 128 {
            Err("at most 128 bytes are allowed".into())
        } else if prefix.bytes().all(|b| b.is_ascii_graphic() && !b"{}*?[]\\^".contains(&b)) {
            Ok(prefix.into())
        } else {
            Err("printable ASCII without blanks and without { } [ ] * ? \\ ^ is allowed".into())
        }
    }

    /// `cluster_lock.node`: empty is the host's name.
    ///
    /// # Errors
    /// It is not allowed.
    pub fn node(text: &str) -> Result<String, String> {
        let node = text.trim();
        if node.is_empty() {
            Ok(hostname())
        } else if node.len() > 255 || node.chars().any(char::is_control) {
            Err("at most 255 bytes without control characters are allowed".into())
        } else {
            Ok(node.into())
        }
    }

    /// `cluster_lock.connect_timeout` and `.command_timeout`.
    ///
    /// # Errors
    /// It is not allowed.
    pub fn time_out(text: &str) -> Result<Duration, String> {
        seconds(text, 0.001, 3600.0)
    }

    /// `cluster_lock.retry_after`.
    ///
    /// # Errors
    /// It is not allowed.
    pub fn retry_after(text: &str) -> Result<Duration, String> {
        seconds(text, 0.0, 3600.0)
    }

    /// `cluster_lock.pool_size`.
    ///
    /// # Errors
    /// It is not allowed.
    pub fn pool_size(text: &str) -> Result<usize, String> {
        let count = text.trim().parse().ok().filter(|count| (1..=1024).contains(count));
        count.ok_or_else(|| "a whole number from 1 to 1024 is allowed".into())
    }

    /// `cluster_lock.timeout`, `.max_hold` and `.slow_wait`; `None` is no limit.
    ///
    /// # Errors
    /// It is not allowed.
    pub fn limit(text: &str) -> Result<Option<Duration>, String> {
        match text.trim().parse::<f64>() {
            Ok(number) if number >= 0.0 => Ok(Duration::try_from_secs_f64(number).ok()),
            _ => Err("a number of seconds, 0 or more, or INF is allowed".into()),
        }
    }

    /// `cluster_lock.auto_renew` and `.durable_writes`.
    ///
    /// # Errors
    /// It is not allowed.
    pub fn switch(text: &str) -> Result<bool, String> {
        match text.trim().to_ascii_lowercase().as_str() {
            "1" | "on" | "yes" | "true" => Ok(true),
            "" | "0" | "off" | "no" | "false" => Ok(false),
            _ => Err("1 or 0, on or off, yes or no, true or false are allowed".into()),
        }
    }

    /// `cluster_lock.flock_mode`.
    ///
    /// # Errors
    /// It is not allowed.
    pub fn flock_mode(text: &str) -> Result<FlockMode, String> {
        match text.trim().to_ascii_lowercase().as_str() {
            "gate" => Ok(FlockMode::Gate),
            "replace" => Ok(FlockMode::Replace),
            _ => Err("gate or replace is allowed".into()),
        }
    }

    /// `cluster_lock.mount_point_writes`.
    ///
    /// # Errors
    /// It is not allowed.
    pub fn mount_point_writes(text: &str) -> Result<MountPoint, String> {
        match text.trim().to_ascii_lowercase().as_str() {
            "refuse" => Ok(MountPoint::Refuse),
            "in_place" => Ok(MountPoint::InPlace),
            _ => Err("refuse or in_place is allowed".into()),
        }
    }

    /// A number of seconds between two.
    ///
    /// # Errors
    /// It is not allowed.
    pub fn seconds(text: &str, min: f64, max: f64) -> Result<Duration, String> {
        text.trim()
            .parse()
            .ok()
            .filter(|number| (min..=max).contains(number))
            .and_then(|number| Duration::try_from_secs_f64(number).ok())
            .ok_or_else(|| format!("a number of seconds from {min} to {max} is allowed"))
    }
}

/// This machine's host name.
pub fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

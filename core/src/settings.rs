//! The settings `cluster_lock.*`: the one table from which the extension registers them, the command reads php.ini, and
//! the doctor takes what is in force where nothing is set. The table of `docs/php-ini.md` and the polyfill's defaults are
//! tested against it.
//!
//! To add one, add a row and use the field of [`Values`] that it makes.

use std::time::Duration;

use crate::dsn::Dsn;
use crate::file::replace::MountPoint;
use crate::file::{Exclude, FlockMode, Intercept, PathMap};

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
    /// The settings that it is made of, besides the DSN.
    pub const SETTINGS: [&str; 6] =
        ["prefix", "connect_timeout", "command_timeout", "pool_size", "retry_after", "node"];

    /// With the defaults, for a DSN.
    pub fn new(dsn: Dsn) -> Self {
        Values::default().config(dsn)
    }
}

/// Where PHP lets a setting be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In php.ini, by the administrator: PHP's `INI_SYSTEM`.
    PhpIni,
    /// Also by `ini_set()` and `.user.ini`: PHP's `INI_ALL`.
    Anywhere,
}

/// A row of the table.
#[derive(Debug)]
pub struct Setting {
    /// As php.ini says it, with the [`PREFIX`].
    pub full_name: &'static str,
    /// As it would stand in php.ini.
    pub default: &'static str,
    /// Where it may be set.
    pub scope: Scope,
    /// Whether it is on or off.
    pub is_switch: bool,
}

/// What the names of all settings begin with.
pub const PREFIX: &str = "cluster_lock.";

impl Setting {
    /// The setting with this name, which is without the [`PREFIX`].
    pub fn of(name: &str) -> Option<&'static Self> {
        TABLE.iter().find(|setting| setting.name() == name)
    }

    /// Its name without the [`PREFIX`].
    pub fn name(&self) -> &'static str {
        self.full_name.strip_prefix(PREFIX).unwrap_or(self.full_name)
    }
}

/// What is said of a name that is none of ours.
const UNKNOWN: &str = "there is no such setting";

/// A row for each setting but the DSN: meaning and unit, name and type, default, where it may be set, how its text is
/// read, what is allowed.
macro_rules! settings {
    ($($(#[$meaning:meta])+ $name:ident: $type:ty = $default:literal, $scope:ident, $read:expr, $range:literal;)+) => {
        /// All settings, in the order in which they are documented.
        pub static TABLE: &[Setting] = &[
            DSN,
            $(Setting {
                full_name: concat!("cluster_lock.", stringify!($name)),
                default: $default,
                scope: Scope::$scope,
                is_switch: matches!(stringify!($type).as_bytes(), b"bool"),
            },)+
        ];

        /// What each may be, in the same order, as `docs/php-ini.md` says it.
        #[cfg(test)]
        const RANGES: &[&str] = &["see there", $($range),+];

        /// What they mean, all but the DSN: who reads that has a secret to keep, and its own way with a bad one.
        #[derive(Clone, Debug)]
        pub struct Values {
            $($(#[$meaning])+ pub $name: $type,)+
        }

        impl Default for Values {
            /// What the texts of the table mean; a test sees that each can be read.
            fn default() -> Self {
                let mut values = Self { $($name: Default::default(),)+ };
                for setting in TABLE {
                    let _ = values.set(setting.name(), setting.default);
                }
                values
            }
        }

        impl Values {
            /// Sets one of them, by its name without `cluster_lock.`
            ///
            /// # Errors
            /// What is allowed, in words. Then everything stays as it was.
            pub fn set(&mut self, name: &str, text: &str) -> Result<(), String> {
                match name {
                    $(stringify!($name) => self.$name = $read(text)?,)+
                    _ => return Err(UNKNOWN.into()),
                }
                Ok(())
            }
        }
    };
}

/// Where the locks live.
pub const DSN: Setting = Setting {
    full_name: "cluster_lock.dsn",
    default: "redis://127.0.0.1:6379",
    scope: Scope::PhpIni,
    is_switch: false,
};

#[rustfmt::skip]
settings! {
    /// Start of every key. Contains neither braces nor glob characters.
    prefix: String = "cluster_lock:", PhpIni, read::prefix, "up to 128 printable ASCII characters without `{ } [ ] * ? \\ ^`";
    /// The longest wait for a lock, in seconds; `None` is no limit.
    timeout: Option<Duration> = "30", Anywhere, read::limit, "0 or more, or `INF`";
    /// The lease, in seconds: how long a crashed holder blocks the others.
    ttl: Duration = "10", Anywhere, read::ttl, "0.1 to a year";
    /// Whether leases are renewed in the background.
    auto_renew: bool = "1", Anywhere, read::switch, "on or off";
    /// For how many seconds; `None` is no limit.
    max_hold: Option<Duration> = "300", Anywhere, read::limit_or_none, "0 (no limit) or more, or `INF`";
    /// The longest wait for a connection, in seconds.
    connect_timeout: Duration = "1", PhpIni, read::time_out, "0.001 to 3600";
    /// The longest wait for the answer to one command, in seconds.
    command_timeout: Duration = "1", PhpIni, read::time_out, "0.001 to 3600";
    /// Most connections a process keeps.
    pool_size: usize = "8", PhpIni, read::pool_size, "1 to 1024 connections";
    /// After a failed connect: how many seconds to fail at once instead of trying again.
    retry_after: Duration = "1", PhpIni, read::retry_after, "0 to 3600";
    /// This node's name in reports.
    node: String = "", PhpIni, read::node, "up to 255 bytes; empty: the host name";
    /// What the nodes call the same directories, for locks named after files.
    path_map: PathMap = "", PhpIni, read::path_map, "`/local=/shared`, separated by `:`";
    /// The files whose `flock()` goes through the cluster lock.
    intercept: Intercept = "", PhpIni, read::intercept, "absolute paths or `@network`, separated by `:`";
    /// Those of them that are left to PHP.
    intercept_exclude: Exclude = "*.log", PhpIni, read::intercept_exclude, "globs, separated by `:`";
    /// What stands behind a lock on a file.
    flock_mode: FlockMode = "gate", PhpIni, read::flock_mode, "`gate` or `replace`";
    /// A wait of more seconds leaves a line in the log; `None` is off.
    slow_wait: Option<Duration> = "1", Anywhere, read::limit_or_none, "0 (off) or more, or `INF`";
    /// Whether reports tell which function, in which file and line, has asked for a lock.
    report_call: bool = "1", Anywhere, read::switch, "on or off";
    /// Whether a write waits until the disk has it.
    durable_writes: bool = "1", Anywhere, read::switch, "on or off";
    /// Whether giving a lock back waits until the server has answered.
    confirmed_unlocks: bool = "1", Anywhere, read::switch, "on or off";
    /// What a write does with a file that is a mount point by itself.
    mount_point_writes: MountPoint = "refuse", Anywhere, read::mount_point_writes, "`refuse` or `in_place`";
}

impl Values {
    /// The configuration of an engine, for a DSN.
    pub fn config(&self, dsn: Dsn) -> Config {
        Config {
            dsn,
            prefix: self.prefix.clone(),
            connect_timeout: self.connect_timeout,
            command_timeout: self.command_timeout,
            pool_size: self.pool_size,
            retry_after: self.retry_after,
            node: self.node.clone(),
        }
    }
}

/// Why a setting (without `cluster_lock.`) cannot have this value; `None`: it can.
pub fn refusal(name: &str, text: &str) -> Option<String> {
    if name == DSN.name() {
        return Dsn::parse(text).err().map(|error| error.to_string());
    }
    Values::default().set(name, text).err()
}

/// What the text of a setting means, for whoever reads php.ini: the extension and the command take it from here.
/// Each says in words what is allowed where that is not. Blanks around a value are none of it.
pub mod read {
    use std::time::Duration;

    use super::hostname;
    use crate::file::replace::MountPoint;
    use crate::file::{Exclude, FlockMode, Intercept, PathMap};

    /// The shortest lease, in seconds.
    pub const MIN_TTL: f64 = 0.1;
    /// The longest lease, in seconds: a year. Beyond any use, and within any server's arithmetic.
    pub const MAX_TTL: f64 = 31_536_000.0;

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

    /// `cluster_lock.ttl`.
    ///
    /// # Errors
    /// It is not allowed.
    pub fn ttl(text: &str) -> Result<Duration, String> {
        seconds(text, MIN_TTL, MAX_TTL)
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

    /// `cluster_lock.timeout`; `None` is no limit.
    ///
    /// # Errors
    /// It is not allowed.
    pub fn limit(text: &str) -> Result<Option<Duration>, String> {
        match text.trim().parse::<f64>() {
            Ok(number) if number >= 0.0 => Ok(Duration::try_from_secs_f64(number).ok()),
            _ => Err("a number of seconds, 0 or more, or INF is allowed".into()),
        }
    }

    /// `cluster_lock.max_hold` and `.slow_wait`; `None` is no limit, which 0 is, too.
    ///
    /// # Errors
    /// It is not allowed.
    pub fn limit_or_none(text: &str) -> Result<Option<Duration>, String> {
        Ok(limit(text)?.filter(|time| !time.is_zero()))
    }

    /// `cluster_lock.auto_renew`, `.durable_writes` and `.confirmed_unlocks`.
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

    /// `cluster_lock.path_map`.
    ///
    /// # Errors
    /// It is not allowed.
    pub fn path_map(text: &str) -> Result<PathMap, String> {
        PathMap::parse(text).map_err(|error| error.to_string())
    }

    /// `cluster_lock.intercept`.
    ///
    /// # Errors
    /// It is not allowed.
    pub fn intercept(text: &str) -> Result<Intercept, String> {
        Intercept::parse(text).map_err(|error| error.to_string())
    }

    /// `cluster_lock.intercept_exclude`.
    ///
    /// # Errors
    /// It is not allowed.
    pub fn intercept_exclude(text: &str) -> Result<Exclude, String> {
        Exclude::parse(text).map_err(|error| error.to_string())
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
    fn seconds(text: &str, min: f64, max: f64) -> Result<Duration, String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_allowed_and_is_what_the_values_begin_with() {
        for setting in TABLE {
            assert_eq!(refusal(setting.name(), setting.default), None, "{}", setting.full_name);
            assert_eq!(setting.full_name, format!("{PREFIX}{}", setting.name()));
        }
        let values = Values::default();
        assert_eq!((values.timeout, values.ttl), (Some(Duration::from_secs(30)), Duration::from_secs(10)));
        assert_eq!((values.prefix.as_str(), values.pool_size), ("cluster_lock:", 8));
        let switches = TABLE.iter().filter(|setting| setting.is_switch).map(Setting::name);
        assert_eq!(
            switches.collect::<Vec<_>>(),
            ["auto_renew", "report_call", "durable_writes", "confirmed_unlocks"]
        );
        assert!(values.auto_renew && values.intercept_exclude.matches("/srv/a.log".as_ref()));
        assert_eq!(values.node, hostname());
    }

    #[test]
    fn what_is_refused_changes_nothing() {
        let mut values = Values::default();
        assert!(values.set("ttl", "0").is_err_and(|allowed| allowed.contains("from 0.1 to 31536000")));
        assert_eq!(values.ttl, Values::default().ttl);
        assert_eq!(values.set("ttl", " 2.5 "), Ok(()));
        assert_eq!(values.ttl, Duration::from_millis(2500));
        for unknown in ["ttls", "dsn"] {
            assert_eq!(values.set(unknown, "1"), Err(UNKNOWN.into()));
        }
        assert_eq!(refusal("ttls", "1"), Some(UNKNOWN.into()));
    }

    #[test]
    fn the_documentation_has_the_table() {
        let page = include_str!("../../docs/php-ini.md");
        let told: Vec<&str> = page.lines().filter(|line| line.starts_with("| [`cluster_lock.")).collect();
        let rows = TABLE.iter().zip(RANGES).map(|(setting, range)| {
            let (full_name, name) = (setting.full_name, setting.name());
            let default = match setting.default {
                "" => String::new(),
                default => format!("`{default}`"),
            };
            let scope = match setting.scope {
                Scope::PhpIni => "php.ini",
                Scope::Anywhere => "anywhere",
            };
            format!("| [`{full_name}`](#cluster_lock{name}) | {default} | {range} | {scope} |")
        });
        assert_eq!(told, rows.collect::<Vec<_>>());
    }
}

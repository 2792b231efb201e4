//! php.ini's `cluster_lock.*`: checked when they are set, kept as what they mean.
//!
//! Kept for each thread, because PHP's ini entries are: with ZTS every thread is told every value.

use std::cell::RefCell;
use std::time::Duration;

use cluster_lock_core::config::{hostname, read};
use cluster_lock_core::dsn::redact;
use cluster_lock_core::file_lock::{Exclude, Intercept};
use cluster_lock_core::{Config, Dsn, Engine, Error, PathMap, process};

use crate::hidden_dsn;
use crate::reply::{Reply, Trouble};

/// The shortest lease, in seconds.
pub(crate) const MIN_TTL: f64 = 0.1;
/// The longest lease, in seconds: a year. Beyond any use, and within any server's arithmetic.
pub(crate) const MAX_TTL: f64 = 31_536_000.0;

/// What stands behind a lock on an open file (`cluster_lock.flock_mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FlockMode {
    /// The cluster lock, and then the kernel's, for which nobody else waits by now.
    Gate,
    /// The cluster lock alone.
    Replace,
}

impl FlockMode {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Gate => "gate",
            Self::Replace => "replace",
        }
    }
}

/// The settings of this thread.
pub(crate) struct Settings {
    /// Longest wait; `None` is no limit.
    pub(crate) timeout: Option<Duration>,
    pub(crate) ttl: Duration,
    pub(crate) auto_renew: bool,
    /// `None` is no limit.
    pub(crate) max_hold: Option<Duration>,
    /// `None` is off.
    pub(crate) slow_wait: Option<Duration>,
    pub(crate) durable_writes: bool,
    pub(crate) path_map: PathMap,
    pub(crate) flock_mode: FlockMode,
    pub(crate) intercept: Intercept,
    pub(crate) exclude: Exclude,
    /// As they were written, for the status.
    pub(crate) intercept_text: String,
    pub(crate) exclude_text: String,
    pub(crate) pool_size: usize,
    pub(crate) node: String,
    dsn: Result<Dsn, Error>,
    dsn_redacted: String,
    /// What PHP may keep as the DSN's value, when that is not what was set.
    dsn_shown: Option<String>,
    prefix: String,
    connect_timeout: Duration,
    command_timeout: Duration,
    retry_after: Duration,
    /// The engine for all this, once it was asked for.
    engine: Option<&'static Engine>,
}

impl Settings {
    fn new() -> Self {
        Self {
            timeout: Some(Duration::from_secs(30)),
            ttl: Duration::from_secs(10),
            auto_renew: true,
            max_hold: Some(Duration::from_secs(300)),
            slow_wait: Some(Duration::from_secs(1)),
            durable_writes: true,
            path_map: PathMap::default(),
            flock_mode: FlockMode::Gate,
            intercept: Intercept::default(),
            exclude: Exclude::default(),
            intercept_text: String::new(),
            exclude_text: String::new(),
            pool_size: 8,
            node: hostname(),
            dsn: Err(Error::Config("cluster_lock.dsn has not been set".into())),
            dsn_redacted: String::new(),
            dsn_shown: None,
            prefix: "cluster_lock:".into(),
            connect_timeout: Duration::from_secs(1),
            command_timeout: Duration::from_secs(1),
            retry_after: Duration::from_secs(1),
            engine: None,
        }
    }

    /// The configuration of the engine.
    pub(crate) fn config(&self) -> Result<Config, Error> {
        Ok(Config {
            dsn: self.dsn.clone()?,
            prefix: self.prefix.clone(),
            connect_timeout: self.connect_timeout,
            command_timeout: self.command_timeout,
            pool_size: self.pool_size,
            retry_after: self.retry_after,
            node: self.node.clone(),
        })
    }

    /// The kind of backend, and the DSN without credentials.
    pub(crate) fn backend(&self) -> (&'static str, &str) {
        let kind = self.dsn.as_ref().map_or("none", Dsn::backend);
        (kind, &self.dsn_redacted)
    }

    fn set(&mut self, name: &str, text: &str) -> Result<(), String> {
        match name {
            "timeout" => self.timeout = limit(text, 0.0)?,
            "ttl" => self.ttl = read::seconds(text, MIN_TTL, MAX_TTL)?,
            "auto_renew" => self.auto_renew = switch(text)?,
            "max_hold" => self.max_hold = limit(text, 0.0)?.filter(|time| !time.is_zero()),
            "slow_wait" => self.slow_wait = limit(text, 0.0)?.filter(|time| !time.is_zero()),
            "durable_writes" => self.durable_writes = switch(text)?,
            "connect_timeout" => self.connect_timeout = read::time_out(text)?,
            "command_timeout" => self.command_timeout = read::time_out(text)?,
            "retry_after" => self.retry_after = read::retry_after(text)?,
            "pool_size" => self.pool_size = read::pool_size(text)?,
            "prefix" => self.prefix = read::prefix(text)?,
            "node" => self.node = read::node(text)?,
            "path_map" => self.path_map = PathMap::parse(text).map_err(|e| e.to_string())?,
            "flock_mode" => self.flock_mode = flock_mode(text)?,
            "intercept" => {
                self.intercept = Intercept::parse(text).map_err(|e| e.to_string())?;
                self.intercept_text = text.into();
            }
            "intercept_exclude" => {
                self.exclude = Exclude::parse(text).map_err(|e| e.to_string())?;
                self.exclude_text = text.into();
            }
            _ => return Err("there is no such setting".into()),
        }
        Ok(())
    }

    /// A bad DSN is kept, too: the extension loads, and every call says what is wrong.
    fn set_dsn(&mut self, text: &str) -> Option<String> {
        let real = hidden_dsn::reveal(text);
        self.dsn = Dsn::parse(&real);
        self.dsn_redacted = redact(&real);
        self.dsn_shown = hidden_dsn::hide(&real);
        self.dsn.as_ref().err().map(ToString::to_string)
    }
}

/// What [`Settings::config`] is made of.
const OF_THE_ENGINE: [&str; 7] =
    ["dsn", "prefix", "connect_timeout", "command_timeout", "pool_size", "retry_after", "node"];

/// The engine of this process for these settings.
///
/// # Errors
/// The settings are not usable.
pub(crate) fn engine() -> Result<&'static Engine, Error> {
    SETTINGS.with_borrow_mut(|settings| {
        if let Some(engine) = settings.engine.filter(|engine| engine.is_own()) {
            return Ok(engine);
        }
        let engine = process::engine(&settings.config()?)?;
        settings.engine = Some(engine);
        Ok(engine)
    })
}

/// The same, if it has been made.
pub(crate) fn existing_engine() -> Option<&'static Engine> {
    with(Settings::config).ok().as_ref().and_then(process::existing)
}

thread_local! {
    static SETTINGS: RefCell<Settings> = RefCell::new(Settings::new());
}

/// The settings, to read.
pub(crate) fn with<T>(read: impl FnOnce(&Settings) -> T) -> T {
    SETTINGS.with_borrow(read)
}

/// PHP sets an entry: at the start, by `ini_set()`, `.user.ini`, a pool's configuration.
pub(crate) fn update(name: &[u8], value: &[u8]) -> Reply {
    let name = String::from_utf8_lossy(name);
    let value = String::from_utf8_lossy(value);
    let short = name.strip_prefix("cluster_lock.").unwrap_or(&name);
    SETTINGS.with_borrow_mut(|settings| {
        if OF_THE_ENGINE.contains(&short) {
            settings.engine = None;
        }
        if short == "dsn" {
            let trouble = settings.set_dsn(&value).map(Trouble::Warning);
            return Reply { trouble, ..true.into() };
        }
        match settings.set(short, value.trim()) {
            Ok(()) => true.into(),
            Err(allowed) => {
                let shown: String = value.chars().take(200).flat_map(char::escape_debug).collect();
                Reply::failed(format!("{name}: \"{shown}\" is refused: {allowed}"))
            }
        }
    })
}

/// What PHP is to keep as the DSN instead of what was set; `None`: that may stay.
pub(crate) fn dsn_shown<T>(read: impl FnOnce(Option<&str>) -> T) -> T {
    SETTINGS.with_borrow(|settings| read(settings.dsn_shown.as_deref()))
}

fn number(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|number| !number.is_nan())
}

fn limit(text: &str, min: f64) -> Result<Option<Duration>, String> {
    match number(text) {
        Some(number) if number >= min => Ok(Duration::try_from_secs_f64(number).ok()),
        _ => Err(format!("a number of seconds, {min} or more, or INF is allowed")),
    }
}

fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "on" | "yes" | "true" => Ok(true),
        "" | "0" | "off" | "no" | "false" => Ok(false),
        _ => Err("1 or 0, on or off, yes or no, true or false are allowed".into()),
    }
}

fn flock_mode(text: &str) -> Result<FlockMode, String> {
    match text.to_ascii_lowercase().as_str() {
        "gate" => Ok(FlockMode::Gate),
        "replace" => Ok(FlockMode::Replace),
        _ => Err("gate or replace is allowed".into()),
    }
}

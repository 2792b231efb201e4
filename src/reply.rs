//! What a call answers: a value, and what PHP is to be told about it once Rust has returned.

use std::path::Path;
use std::time::Duration;

use cluster_lock_core::{Error, Identity, LockName, text};
use ext_php_rs::boxed::ZBox;
use ext_php_rs::types::ZendHashTable;

/// The return value.
pub(crate) enum Value {
    Null,
    False,
    True,
    Int(i64),
    Float(f64),
    Array(ZBox<ZendHashTable>),
    /// Handle the interrupt, then call again with the reply's id.
    Again,
}

/// An exception class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// `ClusterLockException`
    Lock,
    /// `ClusterLockTimeoutException`
    Timeout,
    /// `ClusterLockLostException`
    Lost,
    /// `ClusterLockConnectionException`
    Connection,
    /// PHP's `Error`: a mistake in the program.
    Error,
}

impl Class {
    /// The class of what the core reports.
    pub(crate) fn of(error: &Error) -> Self {
        match error {
            Error::Connection { .. } | Error::FailingOver { .. } => Self::Connection,
            Error::Lost(_) => Self::Lost,
            _ => Self::Lock,
        }
    }
}

/// What is raised or thrown.
pub(crate) enum Trouble {
    Warning(String),
    Argument(BadArgument),
    Throw(Class, String),
}

/// A `ValueError` about one argument; PHP puts the function's and the argument's name in front.
#[derive(Debug)]
pub(crate) struct BadArgument {
    /// Counted from 1.
    pub(crate) number: u32,
    /// Begins with "must".
    pub(crate) message: String,
}

/// The answer of one call.
pub(crate) struct Reply {
    pub(crate) value: Value,
    pub(crate) trouble: Option<Trouble>,
    /// A line for PHP's error log.
    pub(crate) log: Option<String>,
    /// What was put into the request's table.
    pub(crate) id: u64,
    /// The resolved target of a write.
    pub(crate) path: Option<Vec<u8>>,
}

impl From<Value> for Reply {
    fn from(value: Value) -> Self {
        Self { value, trouble: None, log: None, id: 0, path: None }
    }
}

impl From<bool> for Reply {
    fn from(value: bool) -> Self {
        if value { Value::True.into() } else { Value::False.into() }
    }
}

impl From<BadArgument> for Reply {
    fn from(bad: BadArgument) -> Self {
        Self { trouble: Some(Trouble::Argument(bad)), ..Value::Null.into() }
    }
}

impl Reply {
    /// `false` and a warning.
    pub(crate) fn failed(message: String) -> Self {
        Self::from(false).warn(message)
    }

    /// An exception.
    pub(crate) fn throw(class: Class, message: String) -> Self {
        Self { trouble: Some(Trouble::Throw(class, message)), ..Value::Null.into() }
    }

    pub(crate) fn warn(self, message: String) -> Self {
        Self { trouble: Some(Trouble::Warning(message)), ..self }
    }

    pub(crate) fn log(self, line: Option<String>) -> Self {
        Self { log: line, ..self }
    }

    pub(crate) fn id(self, id: u64) -> Self {
        Self { id, ..self }
    }
}

/// The one form of every message about a lock.
pub(crate) fn about(name: &LockName, what: impl std::fmt::Display) -> String {
    format!("Lock \"{name}\": {what}")
}

/// A holder, for people: `node web2, pid 123 (fpm-fcgi) /srv/compile.php /compile`. Escaped and
/// cut, since another node wrote it and it goes to the log.
pub(crate) fn who(identity: &Identity) -> String {
    let mut out = format!("node {}, pid {}", text::said(&identity.node), identity.pid);
    if !identity.sapi.is_empty() {
        out = format!("{out} ({})", text::said(&identity.sapi));
    }
    for part in [&identity.script, &identity.request_uri] {
        if !part.is_empty() {
            out.push(' ');
            out.push_str(&text::said(part));
        }
    }
    out
}

/// Who was in the way of a lock.
pub(crate) enum Blocker {
    /// Another holder of the cluster lock.
    Holder(Identity),
    /// Somebody who has the kernel's lock and not the cluster's: a process without the extension.
    Kernel,
}

impl std::fmt::Display for Blocker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Holder(identity) => write!(f, "held by {}", who(identity)),
            Self::Kernel => f.write_str("held by the kernel's flock() of a process without cluster_lock"),
        }
    }
}

/// `waited 2.3 s for lock "file:/site/a.css" (/mnt/a/a.css); held by node …`
pub(crate) fn slow(
    name: &LockName,
    path: Option<&Path>,
    waited: Duration,
    blocker: Option<&Blocker>,
) -> String {
    let by = blocker.map(|blocker| format!("; {blocker}")).unwrap_or_default();
    let path = path.map(|path| format!(" ({})", text::path(path))).unwrap_or_default();
    format!("cluster_lock: waited {:.1} s for lock \"{name}\"{path}{by}", waited.as_secs_f64())
}

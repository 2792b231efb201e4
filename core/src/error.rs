//! What can go wrong, told so that the reader knows what happened, to which lock, on which
//! server, and what to do. No message ever contains a password.

use std::time::Duration;

use thiserror::Error;

/// Result of a core operation.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an operation failed. "Somebody else has it" is not an error: see [`crate::Acquired`].
#[derive(Debug, Clone, Error)]
pub enum Error {
    /// The caller's value is not acceptable; nothing was done.
    #[error("{0}")]
    Invalid(String),

    /// The settings are not usable; every call fails with this until php.ini is mended.
    #[error("{0}")]
    Config(String),

    /// The server cannot be reached, or the connection broke and could not be made again.
    #[error("{server}: {cause}")]
    Connection {
        /// The server, without credentials.
        server: String,
        /// What the operating system or the TLS library said, and what follows from it.
        cause: String,
    },

    /// The server that keeps the lock is being replaced by another, or its slot is being moved. An
    /// acquire with time left goes on asking, and so does a release.
    #[error("{server}: {cause}")]
    FailingOver {
        /// The server, without credentials.
        server: String,
        /// Why it cannot be used now, and what is waited for.
        cause: String,
    },

    /// The server answered, and refused.
    #[error("{server}: {cause}")]
    Server {
        /// The server, without credentials.
        server: String,
        /// Its answer, and a hint where one is known.
        cause: String,
    },

    /// The lock was ours and no longer is.
    #[error("{0}")]
    Lost(Loss),

    /// This request holds the lock itself, in a way that makes waiting pointless.
    #[error("this request already holds it through another handle, so waiting could only deadlock")]
    Deadlock,

    /// Another fiber of this request holds the lock.
    #[error("another fiber of this request has it: waiting here would stop that fiber, too")]
    OtherFiber,

    /// A coroutine asks that is no fiber of PHP's: nobody could tell whether another one of the process has the lock.
    #[error("a coroutine of Swoole cannot hold a lock: all coroutines of the process would hold it together")]
    Coroutine,

    /// A file operation failed.
    #[error("{path}: {cause}")]
    File {
        /// The file concerned.
        path: String,
        /// What failed, in words.
        cause: String,
    },
}

impl Error {
    /// Without the server's name, where that stands next to it.
    pub(crate) fn cause(self) -> String {
        match self {
            Self::Connection { cause, .. } | Self::Server { cause, .. } | Self::FailingOver { cause, .. } => {
                cause
            }
            other => other.to_string(),
        }
    }
}

/// How a lock was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loss {
    /// The lease ran out this long ago.
    Expired(Duration),
    /// An administrator broke the lock.
    Broken,
    /// The server has no record of it: it lost its data (`FLUSHALL`, restart, eviction), or its clock was
    /// set forward by more than the record lives.
    Forgotten,
    /// Another holder has been let in since: the server lost data, or a fail-over did; or its clock was set
    /// forward, and the lease had run out there.
    Superseded,
}

impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Expired(ago) => write!(
                f,
                "its lease ran out {:.1} s ago (not renewed: auto_renew is off, max_hold was reached, \
                 or the server could not be reached in time)",
                ago.as_secs_f64()
            ),
            Self::Broken => f.write_str("it was broken by an administrator (cluster_lock_break)"),
            Self::Forgotten => f.write_str(
                "the server no longer knows it: its data was lost (FLUSHALL, restart without data, or \
                 eviction), or its clock was set forward",
            ),
            Self::Superseded => f.write_str(
                "another holder has been let in: the server lost data, failed over to a stale replica, or \
                 its clock was set forward",
            ),
        }
    }
}

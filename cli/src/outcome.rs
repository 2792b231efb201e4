//! How a command ends: exit codes, and failures that say what to do.

use std::fmt;

use cluster_lock_core::{Error, LockError, LockName};
use thiserror::Error as ThisError;

/// Result of a command.
pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// How a command that did not fail ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Done; the answer is yes.
    Yes,
    /// The answer is no: not held, timed out, something to mend.
    No,
    /// The exit code of another program, or one of `run`'s own.
    Code(u8),
    /// This signal has ended it: when all is put back, the process is to die of it.
    Signal(u8),
}

impl Outcome {
    /// The exit code, as shells have it.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Yes => 0,
            Self::No => 1,
            Self::Code(code) => code,
            Self::Signal(signal) => 128_u8.saturating_add(signal),
        }
    }
}

/// Why a command failed.
#[derive(Debug, ThisError)]
pub(crate) enum Failure {
    /// What was asked for makes no sense, or the settings do not.
    #[error("{0}")]
    Usage(String),
    /// The engine says so, of no lock in particular.
    #[error("{0}")]
    Engine(#[from] Error),
    /// The engine says so of a lock.
    #[error("{0}")]
    Lock(#[from] LockError),
    /// The operating system refuses.
    #[error("{0}: {1}")]
    System(String, std::io::Error),
    /// Whoever read our output has had enough.
    #[error("standard output is closed")]
    Closed,
}

impl Failure {
    /// The same error, of this lock.
    pub(crate) fn of(name: &LockName) -> impl FnOnce(Error) -> Self + use<> {
        let name = name.clone();
        move |error| Self::Lock(LockError { name, error })
    }

    /// What could not be done, to the error that says why.
    pub(crate) fn system<E: Into<std::io::Error>>(what: impl fmt::Display) -> impl FnOnce(E) -> Self {
        let what = what.to_string();
        move |error| Self::System(what, error.into())
    }

    fn engine(&self) -> Option<&Error> {
        match self {
            Self::Engine(error) | Self::Lock(LockError { error, .. }) => Some(error),
            _ => None,
        }
    }

    /// Whether a server is the reason.
    pub(crate) fn is_of_the_server(&self) -> bool {
        self.code() == 3
    }

    /// The exit code: the classes of `cluster-lock --help`.
    pub(crate) fn code(&self) -> u8 {
        match (self, self.engine()) {
            (_, Some(Error::Connection { .. } | Error::FailingOver { .. } | Error::Server { .. })) => 3,
            (_, Some(Error::Lost(_) | Error::Deadlock | Error::OtherFiber)) => 1,
            (_, Some(Error::File { .. })) | (Self::System(..) | Self::Closed, _) => 4,
            _ => 2,
        }
    }

    /// What to do about it, where that does not depend on the server's answer (the engine's messages say the rest).
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self.engine()? {
            Error::Connection { .. } => Some(
                "is that the server that is meant (--dsn, CLUSTER_LOCK_DSN, --php-ini), is it running, \
                 and may this machine reach it? cluster-lock doctor looks further",
            ),
            Error::FailingOver { .. } => Some(
                "it is being replaced: try again in a few seconds; if that lasts, look at the sentinels or the cluster",
            ),
            _ => None,
        }
    }
}

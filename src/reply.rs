//! What a call answers: a value, and what PHP is to be told about it once Rust has returned.

use cluster_lock_core::Error;
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
    /// PHP has to end the script, of what it has told already.
    Bailout,
    /// Handle the interrupt, then call again with the reply's id.
    Again,
}

/// An unsigned number in PHP's signed one.
pub(crate) fn int(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
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

    /// The wait with this number was interrupted, and can be gone on with.
    pub(crate) fn again(wait: u64) -> Self {
        Self::from(Value::Again).id(wait)
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

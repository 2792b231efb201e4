//! The lock of `cluster_lock`, without PHP: protocol, connection pool, leases, atomic file
//! replacement. Nothing here calls up into the extension.
//!
//! # Layout
//! * [`lock`]: [`Engine`] and [`Lease`]: acquire, wait, renew, release, on any store.
//! * [`process`]: the engines of a process, and what happens to them at a fork.
//! * [`store`]: where locks live: Redis (Lua scripts in `store/scripts`), or this host's kernel.
//! * [`pool`] and [`connection`]: connections to Redis.
//! * [`replace`]: atomic file replacement.
//! * [`file_lock`] and [`nfs`]: what a lock on an open file needs besides: its name, the kernel's
//!   lock, and the cache of a network file system's client.
//! * [`settings`], [`dsn`], [`key`], [`report`], [`error`], [`text`], [`clock`]: the words the others use.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod clock;
pub mod connection;
pub mod dsn;
pub mod error;
pub mod file_lock;
pub mod key;
pub mod lock;
pub mod nfs;
pub mod pool;
pub mod process;
pub mod replace;
pub mod report;
pub mod settings;
pub mod store;
pub mod text;

mod lease;
mod renewal;

pub use dsn::Dsn;
pub use error::{Error, LockError, Loss, Result};
pub use key::{LockName, PathMap};
pub use lock::{Acquire, Acquired, Counters, Engine, Lease, Pending};
pub use report::{Holder, Identity, LockReport, Mode, ServerReport, Waiter};
pub use settings::Config;
pub use store::{Broken, Standing};

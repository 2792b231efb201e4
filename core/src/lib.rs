//! The lock of `cluster_lock`, without PHP: protocol, connection pool, leases, atomic file
//! replacement. Nothing here calls up into the extension.
//!
//! # Layout
//! * [`engine`]: [`Engine`] and [`Lease`]: acquire, wait, renew, release, on any store.
//! * [`store`]: where locks live: Redis (Lua scripts in `store/scripts`), or this host's kernel.
//! * [`wire`]: connections to Redis, and the pool that lends them.
//! * [`mod@file`]: what a lock on an open file needs besides, and atomic file replacement.
//! * [`settings`], [`dsn`], [`key`], [`report`], [`error`], [`text`], [`clock`]: the words the others use.
//! * `poll` and `thread`: sleeping until something can be read, and threads that PHP does not notice.
//!
//! A room names only what stands below it: engine, store, wire, words; `script/walls` keeps it so.
#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod clock;
pub mod dsn;
pub mod engine;
pub mod error;
pub mod file;
pub mod key;
mod poll;
pub mod report;
pub mod settings;
pub mod store;
pub mod text;
mod thread;
pub mod wire;

pub use dsn::Dsn;
pub use engine::registry;
pub use engine::{Acquire, Acquired, Counters, Engine, Lease, Owed, Parted, Pending};
pub use error::{Error, Loss, Result};
pub use file::{PathMap, nfs, replace};
pub use key::LockName;
pub use report::{
    Blocker, Call, Encoded, Grace, Holder, Identity, LockError, LockReport, Mode, ServerReport, Waiter,
};
pub use settings::Config;
pub use store::{Broken, Standing};

//! The PHP extension `cluster_lock`: all that knows PHP, and nothing that knows Redis. The lock
//! itself is the crate `cluster-lock-core`.
//!
//! # Layout
//! * `request`: what this request holds; given back when it ends, in whatever way. Its parts are the kinds of holds:
//!   `names` (`cluster_lock()` and the other functions on names), `objects` (the class `ClusterLock`), `files`
//!   (`cluster_flock()`, and `flock()` where it is intercepted), `writes` (`cluster_file_put_contents()`),
//!   `runs` (`cluster_coalesced()`), `builds` (`cluster_file_build()`); and `call`, by which code they were asked for.
//! * `settings`: php.ini.
//! * `hidden_dsn`: what PHP may show of a DSN.
//! * `info`: reports and the status, as arrays; `counters`: what of it is counted here.
//! * `arguments`: what PHP code said, checked; `reply`: what a call answers; `words`: in which words.
//! * `ffi`: what the C shim calls (`zend_*.c`, where PHP's arguments are taken and errors raised); `php`: what is asked of it.
//!
//! # Exceptions
//! ```text
//! RuntimeException
//! └── ClusterLockException               anything that went wrong with a lock
//!     ├── ClusterLockTimeoutException    somebody else has it: try again later
//!     ├── ClusterLockLostException       it was ours: what it protected may have been touched
//!     └── ClusterLockConnectionException the server cannot be reached
//! ```
//!
//! # One call
//! PHP → `zend_functions.c` takes the arguments → `ffi` → `request`, where they are checked → core → socket; and
//! back as a `Reply`, which the shim turns into a value, a warning or an exception *after* Rust has
//! returned, because PHP may longjmp.
#![deny(unsafe_code)]

mod arguments;
mod counters;
mod ffi;
mod hidden_dsn;
mod info;
mod module;
mod php;
mod reply;
mod request;
mod settings;
mod words;

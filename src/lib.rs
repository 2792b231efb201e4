//! The PHP extension `cluster_lock`: all that knows PHP, and nothing that knows Redis. The lock
//! itself is the crate `cluster-lock-core`.
//!
//! # Layout
//! * `functions`: `cluster_lock()` and the other functions on names.
//! * `lock_object`: the class `ClusterLock`.
//! * `file_lock`: `cluster_flock()`, and `flock()` where it is intercepted.
//! * `file_write`: `cluster_file_put_contents()`.
//! * `request`: what this request holds; given back when it ends, in whatever way.
//! * `settings`: php.ini.
//! * `hidden_dsn`: what PHP may show of a DSN.
//! * `info`: reports and the status, as arrays.
//! * `reply`: what a call answers.
//! * `ffi`: the border to the C shim (`zend_*.c`), where arguments are parsed and errors raised.
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
//! PHP → `zend_functions.c` parses the arguments → `ffi` → `functions` → `request` → core → socket; and
//! back as a `Reply`, which the shim turns into a value, a warning or an exception *after* Rust has
//! returned, because PHP may longjmp.
#![deny(unsafe_code)]

mod ffi;
mod file_lock;
mod file_write;
mod functions;
mod hidden_dsn;
mod info;
mod lock_object;
mod module;
mod reply;
mod request;
mod settings;

//! Files: what a lock on an open one needs besides the lock, and how one is replaced as a whole.
//!
//! * `open_file`: which file it is; `path_map`: the name that all nodes have for it.
//! * `kernel_lock`: the kernel's own lock; `intercept`: whose locks are ours, too.
//! * [`nfs`]: what is to be done where the file's server is another machine.
//! * [`replace`]: atomic file replacement.

mod intercept;
mod kernel_lock;
pub mod nfs;
mod open_file;
mod path_map;
pub mod replace;

pub use intercept::{Exclude, FlockMode, Intercept};
pub use kernel_lock::{KernelLock, kernel_unlock, try_kernel_lock};
pub use open_file::{Inode, OpenFile};
pub use path_map::PathMap;

//! Files: what a lock on an open one needs besides the lock, and how one is replaced as a whole.

pub mod nfs;
pub mod open_file;
pub mod replace;

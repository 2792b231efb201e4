//! The way to a server: one connection, and the pool that lends it.

pub mod connection;
pub mod pool;

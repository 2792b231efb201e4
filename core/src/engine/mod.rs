//! Acquire, wait, hold, release: a lock as a program sees it, on any [`Store`](crate::store::Store).
//!
//! * [`lock`]: the [`Engine`](lock::Engine) and the [`Lease`](lock::Lease).
//! * `lease_state`: what a holder knows of its lock without asking; `renewal`: the thread that keeps leases alive.
//! * [`registry`]: the engines of a process, and what happens to them at a fork.

pub mod lock;
pub mod registry;

mod lease_state;
mod renewal;

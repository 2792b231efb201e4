//! The command, as its users call it, on real servers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

#[path = "../../../core/tests/support/mod.rs"]
mod support;

mod calling;
mod terminal;

mod breaking;
mod doctor;
mod generated;
mod hostile;
mod listing;
mod measuring;
mod metrics;
mod run_ending;
mod run_locking;
mod run_losing;
mod server;
mod watching;

// Of all of them.
mod documented;

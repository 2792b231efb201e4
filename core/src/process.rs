//! The one engine of a process, what a fork does to it, and threads that PHP does not notice.
//!
//! Engines are leaked on purpose: a `&'static` survives a fork that must not close its parent's
//! sockets, and the renewal thread may hold it while the process ends.

use std::thread::{Builder, JoinHandle};

use nix::sys::signal::{SigSet, SigmaskHow};
use once_cell::sync::OnceCell;

use crate::config::Config;
use crate::error::Result;
use crate::lock::Engine;

/// The engines made by this process and by those it was forked from, oldest first. Append-only
/// and lock-free to read, so that a child finds it usable whatever its parent's threads did at
/// the moment of the fork.
static FIRST: OnceCell<Link> = OnceCell::new();

struct Link {
    engine: Engine,
    next: OnceCell<Box<Link>>,
}

fn last() -> Option<&'static Link> {
    let mut link = FIRST.get()?;
    while let Some(next) = link.next.get() {
        link = next;
    }
    Some(link)
}

/// The engine of this process, made at the first call from what `config` returns. A forked child
/// gets a new one and leaves its parent's alone.
///
/// # Errors
/// What `config` or [`Engine::new`] says; the next call tries again.
pub fn engine(config: impl FnOnce() -> Result<Config>) -> Result<&'static Engine> {
    if let Some(engine) = existing() {
        return Ok(engine);
    }
    let engine = Engine::new(&config()?)?;
    let link = match last() {
        None => FIRST.get_or_init(|| Link { engine, next: OnceCell::new() }),
        Some(parents) => parents.next.get_or_init(|| Box::new(Link { engine, next: OnceCell::new() })),
    };
    Ok(&link.engine)
}

/// The engine, if this process (not its parent) has made one.
pub fn existing() -> Option<&'static Engine> {
    last().map(|link| &link.engine).filter(|engine| engine.is_own())
}

/// The stack of a background thread, in bytes; the kernel gives what is used. A hundred levels of a
/// nested reply, which is what the parser takes, need half of it in a debug build.
pub(crate) const STACK: usize = 2 << 20;

/// Starts a thread with all signals blocked from its first instruction on: PHP's timers and handlers
/// belong to the threads that run PHP.
pub(crate) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    let spawned = Builder::new().name(name.into()).stack_size(STACK).spawn(run);
    before.thread_set_mask()?;
    spawned
}

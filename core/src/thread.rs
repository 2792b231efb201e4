//! Threads that PHP does not notice: its timers and handlers belong to the threads that run PHP. And what they share.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

use nix::sys::signal::{SigSet, SigmaskHow};

/// The stack of a background thread, in bytes; the kernel gives what is used. A hundred levels of a
/// nested reply, which is what the parser takes, need half of it in a debug build.
pub(crate) const STACK: usize = 2 << 20;

/// Starts a thread with all signals blocked from its first instruction on.
///
/// # Errors
/// The kernel's: there can be no thread, or the signals cannot be blocked.
pub(crate) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    let spawned = Builder::new().name(name.into()).stack_size(STACK).spawn(run);
    before.thread_set_mask()?;
    spawned
}

/// Locks what threads share. A thread that panicked with it, which would be a mistake of ours, does not stop the others.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! The lock as a program sees it, on any store.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::acquire::{Acquired, Pending, go_on};
use super::common::Common;
use super::counters::Counters;
use super::wait::{Acquire, Wait};
use crate::clock::Instant;
use crate::error::Result;
use crate::key::{LockName, MAX_NAME};
use crate::report::{LockReport, ServerReport};
use crate::settings::Config;
use crate::store::{self, Broken, Store, StoreStatus, Token};

/// The locks of one process. Makes no connection and no thread before the first lock.
#[derive(Clone)]
pub struct Engine(Arc<Common>);

impl Engine {
    /// An engine for a configuration. No I/O.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) when the backend of the DSN is not available.
    pub fn new(config: &Config) -> Result<Self> {
        Ok(Self(Arc::new(Common::new(config)?)))
    }

    /// Whether this process made it, and not the one it was forked from.
    pub fn is_own(&self) -> bool {
        self.0.is_own()
    }

    /// Whether [`Engine::shutdown`] has ended it. A process that starts again makes a new one.
    pub(crate) fn has_ended(&self) -> bool {
        self.0.ended.load(Ordering::Relaxed)
    }

    /// Acquires a lock: one round trip when it is free. When it is not, sleeps until it is handed
    /// over; every waiter is served in the order of arrival.
    ///
    /// # Errors
    /// The server cannot be reached or refuses; nothing is held then, as far as it can be known.
    pub fn acquire(&self, name: &LockName, how: &Acquire<'_>) -> Result<Acquired> {
        go_on(&self.0, name, Wait::new(Token::random()), how)
    }

    /// Goes on waiting after an interrupt, in the same place. The time-out counts from now: what is left of it.
    ///
    /// # Errors
    /// As [`Engine::acquire`].
    pub fn resume(pending: Pending, how: &Acquire<'_>) -> Result<Acquired> {
        pending.resume(how)
    }

    /// As [`Engine::acquire`], in the place of a claim of the same process for the same name and mode, which gives it up.
    ///
    /// # Errors
    /// As [`Engine::acquire`].
    pub fn take_over(mut pending: Pending, how: &Acquire<'_>) -> Result<Acquired> {
        pending.begin_anew();
        pending.resume(how)
    }

    /// Who holds and who waits, of very many the first thousand; `None` when nobody holds it. One round trip, in which the
    /// server stands still for about 2 ms at most.
    ///
    /// # Errors
    /// The server cannot be reached or refuses.
    pub fn info(&self, name: &LockName) -> Result<Option<LockReport>> {
        self.soon(|store| store.info(name))
    }

    /// The first `limit` by name of all held locks whose names start with `prefix`, sorted by name, each with no more than a
    /// hundred holders and a hundred waiters. One round trip for every thousand keys of the database (for up to 16,000 when
    /// the server is far away), and one for every batch of a thousand locks found; no more than `limit` and a batch are in
    /// memory (of a quorum: all that are held).
    ///
    /// # Errors
    /// The server cannot be reached or refuses.
    pub fn list(&self, prefix: &[u8], limit: usize) -> Result<Vec<LockReport>> {
        if prefix.len() > MAX_NAME {
            return Ok(Vec::new()); // no name is that long
        }
        self.soon(|store| store.list(prefix, limit))
    }

    /// Takes a lock away from whoever holds it. One round trip. With the fencing token of a
    /// [report](LockReport::fence) only if nobody has been let in since.
    ///
    /// # Errors
    /// The server cannot be reached or refuses.
    pub fn break_lock(&self, name: &LockName, meant: Option<u64>) -> Result<Broken> {
        self.soon(|store| store.break_lock(name, meant))
    }

    fn soon<T>(&self, step: impl FnMut(&dyn Store) -> Result<T>) -> Result<T> {
        // What is told of locks has no more in it of those that this thread has parted with.
        self.0.store.settle(self.0.command_timeout);
        self.0.persist(Instant::now() + self.0.command_timeout, step)
    }

    /// What has been done so far.
    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// What the servers that keep the locks say of themselves: for health checks. Four round trips to
    /// each, of commands that change nothing; one that cannot be asked costs a time-out at most.
    pub fn servers(&self) -> Vec<ServerReport> {
        self.0.store.servers()
    }

    /// What the servers that keep the locks say of themselves, and whether each of them grants a lock, with why not in
    /// its `error`: one of a name of its own is taken, waited for, handed over and given back. Thirteen round trips to
    /// each. Where there is no server, one report with the reason why no lock can be had, or none.
    pub fn examine(&self) -> Vec<ServerReport> {
        self.0.store.examine()
    }

    /// Takes a lock of a name of its own, waits for it, hands it over and gives it back: whether locks can be had, now.
    ///
    /// # Errors
    /// They cannot.
    pub fn try_out(&self) -> Result<()> {
        let limit = self.0.command_timeout;
        self.soon(|store| store::try_out(store, &store::trial_name()?, limit))
    }

    /// Ends the grace period of all servers ([`Dsn::grace`](crate::Dsn::grace)), for whoever knows that nobody holds a lock
    /// of which they have no record: before the first lock of an installation, say. One round trip to each. What came of
    /// it, by server, in `error`; empty where there is no grace period.
    pub fn end_grace(&self) -> Vec<ServerReport> {
        self.0.store.end_grace()
    }

    /// The state of the store, without asking the server.
    pub fn status(&self) -> StoreStatus {
        self.0.store.status()
    }

    /// Where the locks live, for messages, without credentials.
    pub fn server(&self) -> &str {
        self.0.store.server()
    }

    /// Stops the background threads and closes idle connections; what was to be released yet is given up. The process is
    /// about to end. Does nothing in a forked child.
    pub fn shutdown(&self) {
        if self.is_own() && !self.0.ended.swap(true, Ordering::Relaxed) {
            self.0.lanes.stop(self.0.patience);
            self.0.store.close();
        }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

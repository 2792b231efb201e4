//! What the threads of a process are owed: answers to releases that they have sent and not waited for.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};

use crate::store::Parting;
use crate::thread::lock;
use crate::wire::Pool;

/// What the threads of a process are owed.
#[derive(Default)]
pub(super) struct Partings {
    /// How many accounts there are: whoever has none looks no further.
    number: AtomicUsize,
    accounts: Mutex<Vec<Account>>,
}

/// What one thread is owed on the connection that it has set aside: in the order in which it was sent.
pub(super) struct Account {
    thread: ThreadId,
    pub(super) pool: Arc<Pool>,
    pub(super) partings: Vec<Arc<Parting>>,
}

impl Account {
    /// Of this thread, which is owed nothing yet.
    pub(super) fn new(pool: &Arc<Pool>) -> Self {
        Self { thread: thread::current().id(), pool: Arc::clone(pool), partings: Vec::new() }
    }
}

impl Partings {
    /// Takes out an account of this thread: of this server, or of any.
    pub(super) fn take(&self, pool: Option<&Arc<Pool>>) -> Option<Account> {
        self.take_of(|its| pool.is_none_or(|pool| Arc::ptr_eq(pool, its)))
    }

    /// Takes out an account of this thread of any server but this one.
    pub(super) fn take_other(&self, pool: &Arc<Pool>) -> Option<Account> {
        self.take_of(|its| !Arc::ptr_eq(pool, its))
    }

    fn take_of(&self, is_meant: impl Fn(&Arc<Pool>) -> bool) -> Option<Account> {
        if self.number.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let mut accounts = lock(&self.accounts);
        let mine = thread::current().id();
        let is_it = |account: &Account| account.thread == mine && is_meant(&account.pool);
        let account = accounts.iter().position(is_it).map(|place| accounts.swap_remove(place));
        self.number.store(accounts.len(), Ordering::Relaxed);
        account
    }

    /// Nobody asks any more.
    pub(super) fn clear(&self) {
        lock(&self.accounts).clear();
    }

    /// An account in which there is something.
    pub(super) fn put(&self, account: Account) {
        if !account.partings.is_empty() {
            let mut accounts = lock(&self.accounts);
            accounts.push(account);
            self.number.store(accounts.len(), Ordering::Relaxed);
        }
    }
}

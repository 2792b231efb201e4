//! Locks that were given back without waiting for the server's answer (`cluster_lock.confirmed_unlocks = 0`). What came of it
//! is told with the next call that has nothing else to tell, or at the end of the request.

use std::collections::VecDeque;

use cluster_lock_core::{Lease, Owed, Parted, Result};

use super::{Given, REQUEST, given_back};
use crate::reply::{Reply, Value};
use crate::settings;

/// What one request is owed, and has not been told yet: so much at most, and then a lock is given back as ever.
const MOST: usize = 64;

#[derive(Default)]
pub(super) struct Leaving {
    owed: Vec<Owed>,
    /// Given back by the end of the request, of which nobody is told anything.
    unheard: Vec<Owed>,
    /// What is to be told, in words.
    told: VecDeque<String>,
}

impl Leaving {
    /// Gives a lock back, as php.ini wants it.
    pub(super) fn give_back(&mut self, lease: Lease) -> Result<Given> {
        let confirmed = settings::with(|settings| settings.values.confirmed_unlocks);
        if confirmed || self.owed.len() + self.told.len() >= MOST {
            return lease.release().map(Given::from);
        }
        Ok(match lease.part()? {
            Parted::Done(standing) => standing.into(),
            Parted::Owed(owed) => {
                self.owed.push(owed);
                Given::Ours
            }
        })
    }

    /// The same at the end of the request, when nobody is told of it any more.
    pub(super) fn leave(&mut self, lease: Lease) {
        if settings::with(|settings| settings.values.confirmed_unlocks) {
            let _ = lease.release();
        } else if let Ok(Parted::Owed(owed)) = lease.part() {
            self.unheard.push(owed);
            if self.unheard.len() >= MOST {
                // What is answered, the background need not keep in mind.
                self.unheard.retain(|owed| owed.answer().is_none());
            }
        }
    }

    /// What has been answered by now is no longer owed, but to be told where that is no good news.
    pub(super) fn take_in(&mut self) {
        let told = &mut self.told;
        self.owed.retain(|owed| {
            let Some(answer) = owed.answer() else { return true };
            if let Err((_, message)) = given_back(owed.name(), answer.map(Given::from)) {
                told.push_back(message);
            }
            false
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.owed.is_empty()
    }

    /// Waits for all answers; all together for one command time-out.
    pub(super) fn settle(&mut self) {
        // The first of an engine waits for all of it.
        self.owed.iter().chain(&self.unheard).for_each(Owed::settle);
        self.take_in();
        for owed in self.unheard.drain(..) {
            let _ = owed.answer();
        }
    }

    /// In a forked child.
    pub(super) fn forget(&mut self) {
        self.owed.drain(..).chain(self.unheard.drain(..)).for_each(std::mem::forget);
        self.told.clear();
    }
}

/// A yes or no, with what is to be told of a lock that was given back before, if there is nothing else to tell.
pub(crate) fn telling(reply: Reply) -> Reply {
    if reply.trouble.is_some() || !matches!(reply.value, Value::True | Value::False) {
        return reply;
    }
    match REQUEST.with_borrow_mut(|request| request.leaving.told.pop_front()) {
        Some(message) => reply.warn(message),
        None => reply,
    }
}

/// Waits for what the request is owed; the first that is to be told of it.
pub(crate) fn next_told() -> Option<Reply> {
    let mut told = None;
    super::with_used(|request| {
        request.leaving.settle();
        told = request.leaving.told.pop_front();
    });
    told.map(|message| Reply::from(true).warn(message))
}

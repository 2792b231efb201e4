//! Releases that are sent and not waited for.
//!
//! The connection on which a thread has sent some is set aside for it. Its next command to that server goes behind them, and
//! their answers are read before that command's own: so whatever one thread does to a lock is carried out in its order, and
//! costs one round trip. Who does not go on is to settle what it is owed.
//!
//! A connection owes [`MOST`] answers at most, and as many connections are set aside as the pool has. A release that is not
//! answered as it should be is sent once more, before anything else of its thread: that command is then run again.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;

use super::grace::Saying;
use super::partings::Account;
use super::script::{Call, RELEASE};
use super::{Ran, RedisStore};
use crate::clock::Instant;
use crate::error::Error;
use crate::poll::Readiness;
use crate::store::{Hold, Parting};
use crate::wire::{Fault, Loan, Pool, Purpose};

/// So many answers a connection owes at most.
const MOST: usize = 16;

type Reply = Result<Value, Fault>;

impl RedisStore {
    /// See [`Store::part`](crate::store::Store::part). `None`, too, where the release might not be carried out as it is
    /// sent, because the server has not run the script on this connection yet, and where an acquire goes out together
    /// with the question for the replicas.
    pub(super) fn part_with(&self, hold: &Hold<'_>) -> Option<Arc<Parting>> {
        if self.replicas.is_some() {
            return None;
        }
        let keys = self.keys(hold.name);
        let pool = self.route.server_of(keys.lock.as_bytes()).ok()?;
        let account = self.partings.take(Some(&pool));
        let mut account = account.unwrap_or_else(|| Account::new(&pool));
        let loan = match account.partings.len() {
            0 if pool.has_room_aside() => pool.at_hand(true),
            1..MOST => pool.resume(Purpose::Apart).ok().flatten(),
            _ => None,
        };
        let saying = Saying::release(hold);
        let words = saying.words();
        let call = Call::new(&RELEASE, &keys, words.as_slice());
        let sent = loan.filter(|loan| loan.has_run(call.bit())).and_then(|mut loan| {
            if loan.post(call.words()).is_err() {
                self.left_unanswered(&RELEASE, hold.token.as_bytes(), &pool);
                return None;
            }
            loan.set_aside();
            Some(Arc::new(Parting::new(hold)))
        });
        account.partings.extend(sent.clone());
        self.partings.put(account);
        sent
    }

    /// Runs a command behind what this thread is owed by a server, and takes that in. `None`: it is to be run as ever,
    /// because nothing is owed, or something was not answered as it should be, and is by now.
    pub(super) fn behind(&self, purpose: Purpose, pool: &Arc<Pool>, call: &Call<'_>) -> Option<Reply> {
        if !matches!(purpose, Purpose::Command | Purpose::Holder) || !call.is_idempotent() {
            return None;
        }
        self.settle_elsewhere(pool);
        let account = self.partings.take(Some(pool))?;
        let Ok(loan) = pool.resume(purpose) else {
            self.partings.put(account);
            return None;
        };
        let (began, owed) = (Instant::now(), account.partings.len());
        let mut replies = Vec::with_capacity(owed + 1);
        let (mut sent, mut broken) = (false, None);
        if let Some(mut loan) = loan {
            sent = loan.owed() == owed && is_there(&mut loan, &mut replies);
            if sent {
                broken = loan.post(call.words()).and_then(|()| loan.collect(&mut replies)).err();
            } else {
                loan.poison();
            }
        }
        let own = if replies.len() > owed { replies.pop() } else { None };
        let all = self.settle(account, replies, Instant::now().since(began) < pool.command_timeout());
        match (own, broken) {
            (Some(Ok(value)), _) if all => Some(Ok(value)),
            // Whether it was carried out is not known.
            (None, Some(fault)) if sent => Some(Err(fault)),
            _ => None,
        }
    }

    /// What this thread is owed by a server that was the primary before this one has to be released here. (The servers of a
    /// cluster have locks of their own.)
    fn settle_elsewhere(&self, pool: &Arc<Pool>) {
        if self.route.moves_slots() {
            return;
        }
        while let Some(account) = self.partings.take_other(pool) {
            if let Ok(Some(mut loan)) = account.pool.resume(Purpose::Apart) {
                // Nobody will read what comes.
                loan.poison();
            }
            self.settle(account, Vec::new(), true);
        }
    }

    /// See [`Store::settle`](crate::store::Store::settle).
    pub(super) fn settle_all(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        while let Some(account) = self.partings.take(None) {
            let mut replies = Vec::with_capacity(account.partings.len());
            if let Ok(Some(mut loan)) = account.pool.resume(Purpose::Apart) {
                while loan.owed() > 0
                    && let Ok(came) = loan.gather()
                {
                    replies.extend(came);
                    let wait = |loan: &mut Loan<'_>| loan.wait_readable(deadline.remaining(), &|| false);
                    if loan.owed() > 0 && !matches!(wait(&mut loan), Ok(Readiness::Ready)) {
                        // Nobody will read what comes.
                        loan.poison();
                        break;
                    }
                }
            }
            self.settle(account, replies, !deadline.has_passed());
        }
    }

    /// What is owed has these answers, the first ones of it; true: to all of it, and as it should be. What has another
    /// one, or none, is released once more if there is `time` for that, until that fails.
    fn settle(&self, account: Account, replies: Vec<Reply>, time: bool) -> bool {
        let Account { pool, partings, .. } = account;
        let silent = || Error::Connection {
            server: pool.label().to_owned(),
            cause: format!("no answer within {:.3} s", pool.command_timeout().as_secs_f64()),
        };
        let mut trouble = (!time).then(silent);
        let (mut replies, mut all) = (replies.into_iter(), true);
        for parting in partings {
            let hold = parting.hold();
            let Hold { name, token, .. } = hold;
            parting.answered(match replies.next() {
                Some(Ok(value)) => {
                    let ran = Ran { value, pool: Arc::clone(&pool), again: false, short: None };
                    self.finish(Purpose::Holder, name, token, &ran);
                    self.settled(token, &ran.value, &pool)
                }
                other => {
                    all = false;
                    if !matches!(other, Some(Err(Fault::Refused(..)))) {
                        self.left_unanswered(&RELEASE, token.as_bytes(), &pool);
                    }
                    match &trouble {
                        Some(error) => Err(error.clone()),
                        None => self
                            .release_for(Purpose::Holder, &hold)
                            .inspect_err(|error| trouble = Some(error.clone())),
                    }
                }
            });
        }
        all
    }
}

/// Whether a connection that may have lain idle is there yet; with what has arrived on it.
fn is_there(loan: &mut Loan<'_>, replies: &mut Vec<Reply>) -> bool {
    if loan.is_fresh() {
        return true;
    }
    let Ok(came) = loan.gather() else { return false };
    replies.extend(came);
    loan.owed() > 0 || loan.is_quiet()
}

//! A lock that is taken, waited for, handed over and given back, to see whether locks can be had.

use std::time::Duration;

use super::backend::{Attempt, Claim, Hold, IfBusy, Standing, Store, Wake};
use super::machine::SLACK;
use super::token::Token;
use crate::clock::Instant;
use crate::error::{Error, Result};
use crate::key::LockName;
use crate::report::Mode;

/// What [`try_out`] takes is free after this long, if it cannot be given back. Longer than the few answers take for which
/// it is held, however slow they are allowed to be.
const TRIAL_LEASE: Duration = Duration::from_secs(10);

/// A name that is nobody's, for [`try_out`].
pub(crate) fn trial_name() -> Result<LockName> {
    LockName::new(&[b"cluster_lock:trial:", Token::random().as_bytes()].concat())
}

/// A claim of a trial.
pub(super) fn trial_claim<'a>(name: &'a LockName, token: &'a Token, mode: Mode) -> Claim<'a> {
    Claim {
        name,
        token,
        mode,
        ttl: TRIAL_LEASE,
        identity: b"{}",
        place: 0,
        converts: 0,
        slack: SLACK,
        run: false,
        attempt: 0,
    }
}

/// Whether locks can be had, now, and waited for. A reader takes a lock of a trial's name, and somebody waits for it to whom it
/// is handed over, by the steps and the commands that all locks need: a server may grant a free lock, and forbid what a wait
/// needs, or to be told its scripts when it has lost them. No wait is longer than `limit`. Eight round trips; nothing is left of
/// it.
pub(crate) fn try_out(store: &(impl Store + ?Sized), name: &LockName, limit: Duration) -> Result<()> {
    let (reader, waiter) = (Token::random(), Token::random());
    let outcome = hand_over(store, name, (&reader, &waiter), limit).and_then(|()| store.take_texts(name));
    if outcome.is_err() {
        for token in [&reader, &waiter] {
            // Who does not answer is not asked on and on: what is left there runs out.
            if let Err(Error::Connection { .. } | Error::FailingOver { .. }) = store.give_up(name, token) {
                return outcome;
            }
        }
    }
    store.forget(name);
    outcome
}

fn hand_over(
    store: &(impl Store + ?Sized),
    name: &LockName,
    (reader, waiter): (&Token, &Token),
    limit: Duration,
) -> Result<()> {
    let began = Instant::now();
    let first = trial_claim(name, reader, Mode::Shared);
    if let (Attempt::Busy { blocked_for, .. }, Some(_)) =
        (store.attempt(&first, IfBusy::GiveUp)?, store.grace())
    {
        return Err(Error::Server {
            server: store.server().to_owned(),
            cause: format!(
                "it may have lost its memory, and lets nobody in for {:.1} s more (?grace= in cluster_lock.dsn)",
                blocked_for.as_secs_f64()
            ),
        });
    }
    // So far away it is, at most.
    let slack = SLACK.max(2 * Instant::now().since(began));
    let mut second = Claim { slack, ..trial_claim(name, waiter, Mode::Exclusive) };
    let has_it = match store.attempt(&second, IfBusy::Queue)? {
        // The server has forgotten the reader; what it says of that follows.
        Attempt::Held(_) | Attempt::Covered { .. } => true,
        Attempt::Busy { place, .. } | Attempt::Unfinished { place } => {
            second.place = place;
            false
        }
    };
    ours(store.renew(&Hold::of(name, reader), TRIAL_LEASE)?)?;
    ours(store.release(&Hold::of(name, reader))?)?;
    if !has_it {
        receive(store, &second, limit)?;
    }
    ours(store.release(&Hold::of(name, waiter))?)
}

/// Waits for what has been handed over.
fn receive(store: &(impl Store + ?Sized), claim: &Claim<'_>, limit: Duration) -> Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        let slice = deadline.remaining();
        if matches!(store.await_grant(claim, slice, &|| false)?, Wake::Granted(_)) {
            return Ok(());
        }
        // No letter, or one that is to be confirmed; or the lock has moved to another server, where it is asked for anew.
        let is_late = deadline.has_passed();
        match store.attempt(claim, IfBusy::Queue)? {
            Attempt::Held(_) if !is_late => return Ok(()),
            _ if is_late => {
                return Err(Error::Connection {
                    server: store.server().to_owned(),
                    cause: format!(
                        "no answer within {:.3} s (cluster_lock.command_timeout) to one who waits (BLPOP)",
                        limit.as_secs_f64()
                    ),
                });
            }
            _ => {}
        }
    }
}

pub(super) fn ours(standing: Standing) -> Result<()> {
    match standing {
        Standing::Ours => Ok(()),
        Standing::Lost(loss) => Err(Error::Lost(loss)),
    }
}

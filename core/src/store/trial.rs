//! A lock that is taken to see whether locks can be had.

use std::time::Duration;

use super::backend::{Attempt, Claim, Hold, IfBusy, Standing, Store};
use super::machine::SLACK;
use super::token::Token;
use crate::error::{Error, Result};
use crate::key::LockName;
use crate::report::Mode;

/// What [`try_out`] takes is free after this long, if it cannot be given back.
const TRIAL_LEASE: Duration = Duration::from_secs(1);

/// A name that is nobody's, for [`try_out`].
pub(crate) fn trial_name() -> Result<LockName> {
    LockName::new(&[b"cluster_lock:trial:", Token::random().as_bytes()].concat())
}

/// Takes a free lock of a trial's name and gives it back: whether locks can be had, now. Three round trips; nothing is
/// left of it.
pub(crate) fn try_out(store: &(impl Store + ?Sized), name: &LockName) -> Result<()> {
    let token = Token::random();
    let (mode, ttl) = (Mode::Exclusive, TRIAL_LEASE);
    let claim = Claim {
        name,
        token: &token,
        mode,
        ttl,
        identity: b"{}",
        place: 0,
        converts: 0,
        slack: SLACK,
        run: false,
        attempt: 0,
    };
    let outcome = store.attempt(&claim, IfBusy::GiveUp).and_then(|attempt| match attempt {
        Attempt::Busy { blocked_for, .. } if store.grace().is_some() => Err(Error::Server {
            server: store.server().to_owned(),
            cause: format!(
                "it may have lost its memory, and lets nobody in for {:.1} s more (?grace= in cluster_lock.dsn)",
                blocked_for.as_secs_f64()
            ),
        }),
        _ => store.release(&Hold::of(name, &token)),
    });
    store.forget(name);
    match outcome? {
        Standing::Ours => Ok(()),
        Standing::Lost(loss) => Err(Error::Lost(loss)),
    }
}

//! The grace period of a server that finds itself without its memory: it lets nobody in until the longest lease that it
//! may have given is over, while holders have their records put back (`common.lua`).

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use redis::Value;

use crate::clock::{Instant, millis};
use crate::error::{Loss, Result};
use crate::report::{self, Mode};
use crate::store::{Hold, Reclaim};
use crate::wire::{Pool, Purpose};

/// How long that is, and where a server keeps when it is over.
#[derive(Debug)]
pub(crate) struct Grace {
    /// No lease is longer.
    pub(crate) period: Duration,
    /// The key in which a server keeps when it is over, `PREFIX{}:born`: no lock has an empty name.
    pub(crate) born: String,
    /// `period` as the scripts want it, in ms.
    pub(super) millis: String,
}

impl Grace {
    /// Of the locks whose keys begin with `prefix`, if there is one.
    pub(crate) fn of(period: Option<Duration>, prefix: &str) -> Option<Arc<Self>> {
        let period = period?;
        let (born, millis) = (format!("{prefix}{{}}:born"), millis(period).to_string());
        Some(Arc::new(Self { period, born, millis }))
    }

    /// How it stands, by what is kept and the server's clock, as Unix time; as `common.lua` reads it.
    pub(super) fn stands(&self, born: &Value, now: Duration) -> report::Grace {
        let Value::BulkString(born) = born else { return report::Grace::NotBegun };
        let over = std::str::from_utf8(born).ok().and_then(|born| born.parse().ok());
        match over.map(|over| Duration::from_millis(over).saturating_sub(now)) {
            None => report::Grace::NotBegun,
            Some(Duration::ZERO) => report::Grace::Over,
            // It is more when the clock was set back.
            Some(left) => report::Grace::Runs(left.min(self.period)),
        }
    }

    /// Has a server forget that it may have forgotten anything: its grace period is over.
    ///
    /// # Errors
    /// It cannot be reached, or refuses.
    pub(crate) fn end(&self, pool: &Pool) -> Result<()> {
        let mut connection = pool.get(Purpose::Command)?;
        connection.call(&[b"SET", self.born.as_bytes(), b"0"]).map(drop).map_err(|fault| pool.explain(fault))
    }
}

/// What becomes of a holder whose word is all that there is, when its lease is over by its own clock: others may have been
/// let in since, of whom a server without its memory knows nothing.
pub(crate) fn outlived(hold: &Hold<'_>) -> Option<Loss> {
    let until = hold.reclaim?.until;
    until.has_passed().then(|| Loss::Expired(Instant::now().since(until)))
}

/// What is said of a lock that is renewed or given back, as words for `renew.lua` and `release.lua`.
pub(crate) struct Saying<'a> {
    hold: Hold<'a>,
    /// In ms; empty when it is given back.
    lease: String,
    /// Of a quorum.
    attempt: Option<String>,
    reclaim: Option<(Reclaim<'a>, String, Cow<'a, [u8]>)>,
}

impl<'a> Saying<'a> {
    /// A renewal for `ttl`; of a quorum with the number of the holder's newest attempt.
    pub(crate) fn renewal(hold: &Hold<'a>, ttl: Duration, attempt: Option<u64>) -> Self {
        Self {
            lease: millis(ttl).to_string(),
            attempt: attempt.map(|n| n.to_string()),
            ..Self::new(hold, attempt)
        }
    }

    /// A release.
    pub(crate) fn release(hold: &Hold<'a>) -> Self {
        Self::new(hold, None)
    }

    fn new(hold: &Hold<'a>, attempt: Option<u64>) -> Self {
        // Whoever is over by its own clock must not come back.
        let reclaim = hold.reclaim.filter(|held| !held.until.has_passed()).map(|held| {
            let identity = match attempt {
                None | Some(0) => Cow::Borrowed(held.identity),
                Some(attempt) => Cow::Owned([attempt.to_string().as_bytes(), b" ", held.identity].concat()),
            };
            (held, held.fence.to_string(), identity)
        });
        Self { hold: *hold, lease: String::new(), attempt: None, reclaim }
    }

    /// The arguments of its script, for as long as `then` runs.
    pub(crate) fn with<T>(&self, then: impl FnOnce(&[&[u8]]) -> T) -> T {
        then(self.words().as_slice())
    }

    /// The arguments of its script.
    pub(crate) fn words(&self) -> Words<'_> {
        let token = self.hold.token.as_bytes();
        let renews = !self.lease.is_empty();
        let attempt = self.attempt.as_deref();
        match &self.reclaim {
            None if !renews => Words([token, b"", b"", b"", b"", b""], 1),
            None => Words(
                [token, self.lease.as_bytes(), attempt.unwrap_or_default().as_bytes(), b"", b"", b""],
                2 + usize::from(attempt.is_some()),
            ),
            Some((held, fence, identity)) => {
                let (fence, mode): (_, &[u8]) =
                    (fence.as_bytes(), if held.mode == Mode::Exclusive { b"X" } else { b"S" });
                if renews {
                    Words(
                        [
                            token,
                            self.lease.as_bytes(),
                            attempt.unwrap_or("0").as_bytes(),
                            fence,
                            mode,
                            identity,
                        ],
                        6,
                    )
                } else {
                    Words([token, mode, fence, b"", b"", b""], 3)
                }
            }
        }
    }
}

/// Arguments of a script.
pub(crate) struct Words<'a>([&'a [u8]; 6], usize);

impl<'a> Words<'a> {
    pub(crate) fn as_slice(&self) -> &[&'a [u8]] {
        self.0.get(..self.1).unwrap_or_default()
    }
}

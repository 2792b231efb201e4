//! What a backend has to do, and the words in which it is asked and answers.

use std::sync::Arc;
use std::time::Duration;

use once_cell::sync::OnceCell;

use super::token::Token;
use crate::clock::Instant;
use crate::error::{Loss, Result};
use crate::key::LockName;
use crate::report::{LockReport, Mode, ServerReport};
use crate::wire::Pool;

/// What one acquisition wants. The same claim is presented at every attempt.
#[derive(Clone, Debug)]
pub struct Claim<'a> {
    /// The lock.
    pub name: &'a LockName,
    /// This acquisition's secret.
    pub token: &'a Token,
    /// Exclusive or shared. A holder that presents its token with the other mode converts, if it names
    /// what it [converts](Self::converts).
    pub mode: Mode,
    /// It is wanted for a run: for what one holder does for all who want it done. Exclusive. Whoever waits is
    /// [covered](Attempt::Covered) by a run that is complete, if its holder was let in after the claim came.
    pub run: bool,
    /// The lease asked for.
    pub ttl: Duration,
    /// Encoded [`crate::Identity`] of who asks.
    pub identity: &'a [u8],
    /// Arrival rank that an earlier attempt was given; 0 at first. Keeps the claim's turn even
    /// when the server has forgotten it.
    pub place: u64,
    /// The fencing token of the lock that is to be converted; 0 when none is. A request that arrives
    /// late, from before a conversion, does not know it, and so cannot undo that.
    pub converts: u64,
    /// How much later than it was told to [ask again](Attempt::Busy::again) the claim may be heard of, and still
    /// counts as living: for the way there and back. [`SLACK`](super::machine::SLACK) at least.
    pub slack: Duration,
    /// Of a quorum: the number of this attempt, which grows with every attempt of the claim. Where a newer one is known,
    /// an older one, which was late on its way, changes nothing. 0 elsewhere: nothing is sent of it.
    pub attempt: u64,
}

/// What to do when the lock is not free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfBusy {
    /// Take or keep a place in the queue.
    Queue,
    /// Give up: remove the claim from the queue if it is there. The last try of a time-out.
    GiveUp,
    /// Queue at exactly [`Claim::place`], even what the claim holds: of several servers that are to
    /// agree on one holder, each then gives the lock to whoever came first. What this very [attempt](Claim::attempt) was
    /// granted before stays.
    Yield,
}

/// The answer to an attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum Attempt {
    /// Held.
    Held(Grant),
    /// Somebody else has it.
    Busy {
        /// The claim's arrival rank, when it is queued.
        place: u64,
        /// What is left of the lease that blocks.
        blocked_for: Duration,
        /// Encoded identity of one who blocks.
        holder: Box<[u8]>,
        /// In what time to ask again, so that the claim counts as living: the longer, the more are before it.
        again: Duration,
        /// How many stand before it in the queue, the dead among them included.
        ahead: u64,
    },
    /// Of a claim [for a run](Claim::run): a run is complete whose holder was let in after the claim came. The claim is
    /// not queued any more, and holds nothing.
    Covered {
        /// The fencing token of that holder.
        fence: u64,
    },
    /// Not known yet: so many lie dead before the claim that one step does not get to it. It is queued, whatever
    /// was [to be done](IfBusy), and is to ask again at once.
    Unfinished {
        /// The claim's arrival rank.
        place: u64,
    },
}

/// A lock given to a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The fencing token.
    pub fence: u64,
    /// The lease, counted from a moment that the *caller* knows to lie before the grant.
    pub lease: Duration,
}

/// How a wait for a grant ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// The releasing holder handed the lock over.
    Granted(Grant),
    /// As [`Attempt::Covered`]: the fencing token.
    Covered(u64),
    /// The time is up, or there is a reason to ask again.
    Retry,
    /// `interrupted` said so.
    Interrupted,
}

impl Wake {
    /// A letter to a waiter, `FENCE LEASE`: `FENCE 0` when a run covers it, `0 0` when it is to ask again.
    pub(crate) fn read(letter: &[u8]) -> Self {
        let numbers = std::str::from_utf8(letter).ok().and_then(|letter| letter.split_once(' '));
        match numbers.map(|(fence, lease)| (fence.parse(), lease.parse())) {
            Some((Ok(fence), Ok(0))) if fence > 0 => Self::Covered(fence),
            Some((Ok(fence), Ok(lease))) if fence > 0 => {
                Self::Granted(Grant { fence, lease: Duration::from_millis(lease) })
            }
            _ => Self::Retry,
        }
    }
}

/// Whose turn it is, or was, as it says itself when it renews a lock or gives it back.
#[derive(Clone, Copy, Debug)]
pub struct Hold<'a> {
    /// The lock.
    pub name: &'a LockName,
    /// Its holder's, or of a claim that has come to nothing.
    pub token: &'a Token,
    /// Of a holder whose record a server without its memory is to put back.
    pub reclaim: Option<Reclaim<'a>>,
}

impl<'a> Hold<'a> {
    /// Of whom nothing is put back.
    pub fn of(name: &'a LockName, token: &'a Token) -> Self {
        Self { name, token, reclaim: None }
    }
}

/// What a record consists of that is to be put back.
#[derive(Clone, Copy, Debug)]
pub struct Reclaim<'a> {
    /// How the lock is held.
    pub mode: Mode,
    /// The holder's fencing token.
    pub fence: u64,
    /// Encoded [`crate::Identity`] of the holder.
    pub identity: &'a [u8],
    /// When the lease is over, by the holder's clock: from then on nothing is to be put back.
    pub until: Instant,
}

/// What the server knew of a lock when its holder released or renewed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Still the holder's (a release that is repeated answers this, too).
    Ours,
    /// Not any more.
    Lost(Loss),
}

/// A release that was sent, and its answer when that has been taken in: [`Store::part`].
#[derive(Debug)]
pub struct Parting {
    name: LockName,
    token: Token,
    /// [`Hold::reclaim`], of which a release says no identity.
    reclaim: Option<(Mode, u64, Instant)>,
    answer: OnceCell<Result<Standing>>,
}

impl Parting {
    pub(super) fn new(hold: &Hold<'_>) -> Self {
        let reclaim = hold.reclaim.map(|held| (held.mode, held.fence, held.until));
        Self { name: hold.name.clone(), token: hold.token.clone(), reclaim, answer: OnceCell::new() }
    }

    pub(super) fn hold(&self) -> Hold<'_> {
        let Self { name, token, reclaim, .. } = self;
        let reclaim = reclaim.map(|(mode, fence, until)| Reclaim { mode, fence, identity: b"", until });
        Hold { name, token, reclaim }
    }

    /// What the server has answered, as [`Store::release`] would tell it; `None`: nobody has taken
    /// that in yet.
    pub fn answer(&self) -> Option<&Result<Standing>> {
        self.answer.get()
    }

    pub(super) fn answered(&self, answer: Result<Standing>) {
        let _ = self.answer.set(answer);
    }
}

/// What is done for a lock in the background.
#[derive(Clone, Copy, Debug)]
pub enum Chore<'a> {
    /// [`Store::renew`].
    Renew {
        /// The lock and its holder.
        hold: Hold<'a>,
        /// The lease, from now.
        ttl: Duration,
    },
    /// [`Store::release`].
    Release {
        /// The lock, and whose turn is over.
        hold: Hold<'a>,
    },
}

impl<'a> Chore<'a> {
    /// The lock that it is done for, and for whom.
    pub fn hold(self) -> Hold<'a> {
        match self {
            Self::Renew { hold, .. } | Self::Release { hold } => hold,
        }
    }
}

/// What came of [`Store::break_lock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Whoever held it no longer does.
    Yes,
    /// Nobody held it.
    Free,
    /// Another holder has it by now than the one who was meant: nothing was done.
    Another,
}

/// What [`Store::status`] reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreStatus {
    /// `redis`, `local`, …
    pub backend: &'static str,
    /// The DSN without credentials.
    pub dsn: String,
    /// The server's version, when it is known without asking.
    pub server_version: Option<String>,
    /// The server's role (`master`, `slave`), when it is known.
    pub server_role: Option<String>,
    /// Connections open now, idle ones among them, and made and discarded since the start.
    pub open: usize,
    /// Idle in the pool.
    pub idle: usize,
    /// Made since the process started.
    pub created: u64,
    /// Dropped because of an error, or of too many.
    pub discarded: u64,
}

impl StoreStatus {
    /// The numbers of several servers together. Version and role are those of the first that told.
    pub(crate) fn of<'a>(backend: &'static str, dsn: &str, pools: impl Iterator<Item = &'a Pool>) -> Self {
        let mut all = Self { backend, dsn: dsn.to_owned(), ..Self::default() };
        for pool in pools.map(Pool::status) {
            all.server_version = all.server_version.or(pool.greeting.version);
            all.server_role = all.server_role.or(pool.greeting.role);
            all.open += pool.open;
            all.idle += pool.idle;
            all.created += pool.created;
            all.discarded += pool.discarded;
        }
        all
    }
}

/// A store has so many lanes at most ([`Store::lane_of`]): each may cost a process a thread.
pub const LANES: usize = 64;

/// A backend. All methods may be called from many threads at once. Where one says nothing of its errors: the server
/// cannot be reached, or refuses.
pub trait Store: Send + Sync {
    /// One atomic try. One round trip.
    ///
    /// # Errors
    /// The server cannot be reached or refuses. When the outcome of a command is unknown it has
    /// been asked again, on a new connection, before this returns.
    fn attempt(&self, claim: &Claim<'_>, if_busy: IfBusy) -> Result<Attempt>;

    /// Sleeps until the queued claim is granted the lock, `slice` has passed or `interrupted` is
    /// true. It is looked at before, whenever a signal arrives, and once a second; not more often, because
    /// profilers raise PHP's interrupt flag many times a second.
    ///
    /// # Errors
    /// The connection broke: ask with [`Store::attempt`], which also finds a grant that was lost
    /// on the way.
    fn await_grant(&self, claim: &Claim<'_>, slice: Duration, interrupted: &dyn Fn() -> bool)
    -> Result<Wake>;

    /// Gives the lock back and hands it to the next in the queue; or takes the claim out of the
    /// queue. One round trip; one more for every few hundred dead waiters before that next one.
    fn release(&self, hold: &Hold<'_>) -> Result<Standing>;

    /// As [`Store::release`], by a holder whose [run](Claim::run) is complete: it covers all who came before the holder
    /// was given `fence`, and they are told. [`Standing::Lost`]: it does not count, because the holder has lost the
    /// lock, and nothing is known of a later run that is complete. To be repeated: a run that counts goes on counting
    /// for a minute. One round trip; one more for every few hundred who are told.
    fn complete(&self, hold: &Hold<'_>, fence: u64) -> Result<Standing>;

    /// Sends the release, and does not wait. Its answer is taken in with that to this thread's next step on the same
    /// server, or by [`Store::settle`]. One that goes wrong is sent again then: whoever has parted takes care of what comes
    /// to no answer. `None`: that cannot be done here, or not now, and the lock is to be [released](Store::release).
    fn part(&self, _: &Hold<'_>) -> Option<Arc<Parting>> {
        None
    }

    /// Takes in all answers to [partings](Store::part) that this thread is owed, and waits for them together for `limit`
    /// at most. If a connection has broken until then, the time of one release comes on top.
    fn settle(&self, _: Duration) {}

    /// As [`Store::release`] for a claim that has failed: not while others avoid the server because it could not be
    /// reached, so that who has waited for a time-out does not wait for another.
    fn give_up(&self, name: &LockName, token: &Token) -> Result<Standing> {
        self.release(&Hold::of(name, token))
    }

    /// Sets the lease to `ttl` from now, if the lock is still held. One round trip, on a
    /// connection that no waiter can block.
    fn renew(&self, hold: &Hold<'_>, ttl: Duration) -> Result<Standing>;

    /// In what time after a renewal for `ttl` the next one is due. No I/O.
    fn renewed_for(&self, _: &Token, ttl: Duration) -> Duration {
        ttl / 3
    }

    /// For how long a server that finds itself without its memory lets nobody in, while holders have their records
    /// [put back](Hold::reclaim). No lease may be longer. `None`: it goes on as if nobody had held anything.
    fn grace(&self) -> Option<Duration> {
        None
    }

    /// On which lane a lock is at present, from 0 to [`LANES`] less one. Chores of one lane may have to wait for each
    /// other's server; those of different lanes do not. No I/O.
    fn lane_of(&self, _: &LockName) -> usize {
        0
    }

    /// How many chores are carried out in the time of one.
    fn at_once(&self) -> usize {
        1
    }

    /// Carries out chores of one lane, [`Store::at_once`] of them at most, also while others avoid the server because it
    /// could not be reached. One round trip, where none of them needs more. `told` is called with the number of a chore
    /// and what came of it, at most once for each. Of which nothing is told has to be done again, alone; one that is
    /// alone is told of in any case.
    fn tend(&self, chores: &[Chore<'_>], told: &mut dyn FnMut(usize, Result<Standing>)) {
        for (number, chore) in chores.iter().enumerate() {
            told(number, self.tend_one(*chore));
        }
    }

    /// Carries out a chore by itself.
    fn tend_one(&self, chore: Chore<'_>) -> Result<Standing> {
        match chore {
            Chore::Renew { hold, ttl } => self.renew(&hold, ttl),
            Chore::Release { hold } => self.release(&hold),
        }
    }

    /// Whether something was asked for with this token and not answered, so that it may be carried out yet.
    /// No I/O.
    fn is_unsettled(&self, _: &Token) -> bool {
        true
    }

    /// Who holds and who waits, of very many the first thousand; `None` when nobody holds it. One round trip.
    fn info(&self, name: &LockName) -> Result<Option<LockReport>>;

    /// The first `limit` by name of all held locks whose names start with `prefix`, sorted by name, each with no
    /// more than a hundred holders and a hundred waiters. Empty means that none is held, and that the server was asked in
    /// the way in which locks ask it.
    fn list(&self, prefix: &[u8], limit: usize) -> Result<Vec<LockReport>>;

    /// Takes the lock away from whoever holds it; the next waiter gets it. One round trip. With the fencing
    /// token of a [report](LockReport::fence) only if nobody has been let in since; that is decided where the
    /// lock is, and in the same step.
    fn break_lock(&self, name: &LockName, meant: Option<u64>) -> Result<Broken>;

    /// What the servers that keep the locks say of themselves. A few round trips to each, one after
    /// the other. Empty where there is no server.
    fn servers(&self) -> Vec<ServerReport> {
        Vec::new()
    }

    /// Ends the [grace period](Self::grace) of all servers, for whoever knows that nobody holds a lock of which they have no
    /// record. One round trip to each. What came of it, by server, in `error`; empty where there is none.
    fn end_grace(&self) -> Vec<ServerReport> {
        Vec::new()
    }

    /// Removes what is remembered of a name that nobody holds or will ever use again, as far as that can be done.
    fn forget(&self, name: &LockName);

    /// Whether the servers that keep the locks take the scripts themselves, which whoever finds them without sends: a server
    /// that knows them grants locks until it has lost them, and no longer. Of a name that nobody holds. Two round trips, where
    /// there are scripts.
    fn take_texts(&self, _: &LockName) -> Result<()> {
        Ok(())
    }

    /// What the servers that keep the locks say of themselves, and whether each of them grants a lock and hands it over: one
    /// of a name of its own is taken, waited for and given back, which is nine round trips more than [`Store::servers`]
    /// makes. Where there is no server, the reason why none can be had, if so.
    fn examine(&self) -> Vec<ServerReport>;

    /// What is known without asking the server, so that a status page never blocks.
    fn status(&self) -> StoreStatus;

    /// Where the locks live, for messages, without credentials.
    fn server(&self) -> &str;

    /// Closes idle connections. Called when the process ends.
    fn close(&self) {}
}

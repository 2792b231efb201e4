//! Locks on several independent primaries, of which a majority decides.
//!
//! Each server keeps the whole lock, queue and all, by the same scripts as anywhere else; a claim
//! holds the lock when a majority of them has granted it. What remains is to make them agree:
//!
//! * **on the order of waiters**: a claim that finds the lock taken gets an arrival rank from each
//!   server. It takes the greatest for its place and tells that to all, and from then on they all
//!   have the same queue.
//! * **on one holder**: when several claims arrive at once each may get a part. Whoever has no majority
//!   gives back what it was granted at every attempt and queues for it again, in one step
//!   ([`IfBusy::Yield`]); the server then grants it to whoever came first. Since the queues agree,
//!   so do the servers, after a round or two. Such a question may be late on its way to one of them, and arrive when the
//!   claim has been granted there what a later one asked for. So attempts are numbered ([`Claim::attempt`]), and what a
//!   holder counts on is kept there with the number of its newest: no older one takes it back.
//! * **on the fencing token**: a claim proposes one a little ahead of its own clock, and where clocks
//!   agree to a few milliseconds all servers take it: one round trip. Where they differ, a second
//!   round raises all to the greatest. A majority that knows the token has then a server in common
//!   with the majority of the next holder, which thus gets a greater one. Readers who are let in together need not have a
//!   server in common that tells them apart; so where servers differ, theirs says which of them gave it (`votes`).
//!
//! * `members`: the servers; `round`: asks all of them at once.
//! * `votes`: one attempt, counted; `verdict`: what they say of a lock that was held; `breaking`: taken from a holder.
//! * `merge`: one report of theirs.

mod breaking;
mod members;
mod merge;
mod round;
mod verdict;
mod votes;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use super::machine::{BEAT, SLACK};
use super::redis::grace::{self, Saying};
use super::redis::reply;
use super::redis::script::{self, ACQUIRE, BREAK, Call, RELEASE, RENEW};
use super::redis::survey::survey;
use super::{Attempt, Broken, Chore, Claim, Grant, Hold, IfBusy, Standing, Store, StoreStatus, Token, Wake};
use crate::dsn::Server;
use crate::error::Result;
use crate::key::LockName;
use crate::report::{LockReport, Mode, ServerReport};
use crate::settings::Config;
use crate::thread::lock;
use crate::wire::Purpose;
use breaking::break_holder;
use members::Members;
use round::{Kind, Node, Response, Round, ask};
use verdict::{complete_with, end_of_run, part_with, standings, verdict};
use votes::{Votes, confirm, same};

/// So many rounds of the background are under way at a time.
const ROUNDS: usize = 8;

/// When some servers say that a run covers a claim, and no majority does yet: when to ask again.
const APART: Duration = Duration::from_millis(30);

/// The place of a holder that a server does not know of: it came before all who wait.
const FIRST: u64 = 1;

/// See [`Store`].
pub struct QuorumStore {
    members: Members,
    claims: Mutex<HashMap<Token, OwnClaim>>,
    /// How many attempts there have been, of whatever claim.
    attempts: AtomicU64,
}

/// What this process knows of a claim of its own.
enum OwnClaim {
    /// It waits.
    Waiting(Waiting),
    /// It holds. `strange`: a server has answered that it does not know of it.
    Held { mode: Mode, identity: Box<[u8]>, attempt: u64, strange: bool },
}

impl OwnClaim {
    /// [`Claim::attempt`]: that of the newest.
    fn attempt(&self) -> u64 {
        match self {
            Self::Waiting(Waiting { attempt, .. }) | Self::Held { attempt, .. } => *attempt,
        }
    }
}

/// A claim that waits, after so many attempts: what servers have said to the last one which are no majority.
#[derive(Clone, Default)]
struct Waiting {
    attempt: u64,
    /// They have granted it: the fencing token, by server.
    granted: Vec<Option<u64>>,
    /// They say that a run covers it: that one's fencing token, by server.
    covered: Vec<Option<u64>>,
}

impl QuorumStore {
    /// A store on several servers. No I/O.
    pub fn new(servers: &[Server], config: &Config) -> Self {
        Self { members: Members::new(servers, config), claims: Mutex::default(), attempts: AtomicU64::new(0) }
    }

    fn claims(&self) -> MutexGuard<'_, HashMap<Token, OwnClaim>> {
        lock(&self.claims)
    }

    /// The claim's next attempt.
    fn numbered<'a>(&self, claim: &Claim<'a>) -> Claim<'a> {
        Claim { attempt: self.attempts.fetch_add(1, Ordering::Relaxed) + 1, ..claim.clone() }
    }

    fn held(&self, claim: &Claim<'_>, fence: u64) -> Grant {
        let Claim { mode, attempt, .. } = *claim;
        let held = OwnClaim::Held { mode, identity: claim.identity.into(), attempt, strange: false };
        self.claims().insert(claim.token.clone(), held);
        Grant { fence, lease: claim.ttl }
    }

    /// A majority has granted it: agrees on the fencing token.
    fn hold(&self, claim: &Claim<'_>, granted: &[Option<u64>]) -> Result<Attempt> {
        let given = votes::token(claim.mode, granted, self.members.majority());
        let agreed = if same(granted, self.members.majority()) == Some(given) {
            Some(given)
        } else {
            confirm(&self.members, claim, granted)
        };
        if let Some(fence) = agreed {
            return Ok(Attempt::Held(self.held(claim, fence)));
        }
        Err(self.members.error("the majority was lost while it agreed on the fencing token".to_owned()))
    }

    /// A majority holds the lock, but some servers may not know of it: they were away, or have lost their data, or have
    /// not answered yet. Where it is free it is taken, so that another server may fail; where somebody who waits has been let
    /// in meanwhile, it stands in the queue before all others, who give back what is no majority at their next attempt. Nobody
    /// waits for what comes of that.
    fn heal(&self, name: &LockName, token: &Token, ttl: Duration, round: &Round) {
        if let Some(OwnClaim::Held { strange, .. }) = self.claims().get_mut(token) {
            *strange = standings(round).any(|(standing, _)| standing != Standing::Ours);
        }
        let knows = |answer: &Option<Response>| match answer {
            Some(Response { said: Ok(value), .. }) => reply::standing(value) == Some(Standing::Ours),
            Some(Response { said: Err(_), .. }) => true,
            None => false,
        };
        let nodes = self.members.nodes.iter().zip(&round.answers);
        let strangers: Vec<&Node> =
            nodes.filter(|(_, answer)| !knows(answer)).map(|(node, _)| node).collect();
        if strangers.is_empty() {
            return;
        }
        let Some((mode, identity, attempt)) = self.own(token) else { return };
        let identity = &*identity;
        let claim = Claim {
            name,
            token,
            mode,
            ttl,
            identity,
            run: false,
            place: FIRST,
            converts: 0,
            slack: SLACK,
            attempt,
        };
        let keys = self.members.keys(name);
        let mut lines: Vec<_> = strangers.iter().filter_map(|node| Some((*node, node.line()?))).collect();
        script::with_acquire(&claim, IfBusy::Yield, None, |argv| {
            let call = Call::new(&ACQUIRE, &keys, argv);
            lines.retain_mut(|(node, line)| node.post(line, &call).is_ok());
        });
        let claims = self.claims();
        if claims.contains_key(token) {
            // Who gives it back from now on says so behind that.
            for (_, line) in lines {
                line.to_the_front();
            }
            return;
        }
        drop(claims);
        // It was released meanwhile.
        let argv: [&[u8]; 1] = [token.as_bytes()];
        let call = Call::new(&RELEASE, &keys, &argv);
        lines.retain_mut(|(node, line)| node.post(line, &call).is_ok());
    }

    /// A lock that is held with this token: how, by whom, and its newest attempt.
    fn own(&self, token: &Token) -> Option<(Mode, Box<[u8]>, u64)> {
        match self.claims().get(token)? {
            OwnClaim::Held { mode, identity, attempt, .. } => Some((*mode, identity.clone(), *attempt)),
            OwnClaim::Waiting(..) => None,
        }
    }

    /// A run covers the claim, as a majority has said: the others need not keep its place.
    fn covered(&self, claim: &Claim<'_>, fence: u64, covered: &[Option<u64>]) -> Attempt {
        self.claims().remove(claim.token);
        if covered.contains(&None) {
            part_with(&self.members, &Hold::of(claim.name, claim.token), Purpose::Apart);
        }
        Attempt::Covered { fence }
    }

    /// Goes on with what a step of some servers has left.
    fn finish(&self, purpose: Purpose, hold: &Hold<'_>, round: &Round) {
        let is_unfinished = |round: &Round| round.values().any(|(_, value)| reply::is_unfinished(value));
        let part = || is_unfinished(&part_with(&self.members, hold, purpose));
        reply::finish(is_unfinished(round), part);
    }

    fn release_for(&self, purpose: Purpose, hold: &Hold<'_>) -> Result<Standing> {
        self.claims().remove(hold.token);
        let round = part_with(&self.members, hold, purpose);
        // The background has leases to renew, and leaves that to those who wait.
        if purpose != Purpose::Upkeep {
            self.finish(purpose, hold, &round);
        }
        verdict(&self.members, &round, true)
    }

    fn renew_for(&self, purpose: Purpose, hold: &Hold<'_>, ttl: Duration) -> Result<Standing> {
        let Hold { name, token, .. } = *hold;
        let attempt = self.claims().get(token).map_or(0, OwnClaim::attempt);
        let majority = self.members.majority();
        let round = Saying::renewal(hold, ttl, Some(attempt)).with(|argv| {
            self.members.run(&RENEW, name, argv, Kind::Renewal(purpose), |round| {
                let ours = standings(round).filter(|(standing, _)| *standing == Standing::Ours).count();
                ours >= majority || ours + round.pending() < majority
            })
        });
        let mut standing = verdict(&self.members, &round, false)?;
        if let (Standing::Ours, Some(loss)) = (&standing, grace::outlived(hold)) {
            let by_word = round.values().filter(|(_, value)| reply::is_by_word(value)).count();
            let ours = standings(&round).filter(|(standing, _)| *standing == Standing::Ours).count();
            if ours - by_word < majority {
                standing = Standing::Lost(loss);
            }
        }
        match standing {
            Standing::Ours => self.heal(name, token, ttl, &round),
            // Nobody has to release it.
            Standing::Lost(_) => drop(self.claims().remove(token)),
        }
        Ok(standing)
    }
}

impl Store for QuorumStore {
    fn attempt(&self, claim: &Claim<'_>, if_busy: IfBusy) -> Result<Attempt> {
        let before = self.claims().remove(claim.token);
        let known = claim.place != 0;
        let first = if known && if_busy == IfBusy::Queue { IfBusy::Yield } else { if_busy };
        let mut claim = self.numbered(claim);
        let mut votes = Votes::cast(&self.members, &claim, first)?;
        let mut place = claim.place;
        if let Some(fence) = votes.run(&self.members) {
            return Ok(self.covered(&claim, fence, &votes.covered));
        }
        let is_ranked = !claim.run || votes.is_ranked(&self.members);
        if votes.count() < self.members.majority() && if_busy == IfBusy::Queue && !known && is_ranked {
            place = votes.busy.iter().map(|(place, ..)| *place).max().unwrap_or_default();
            if claim.run {
                place = votes.greatest();
            }
            claim = Claim { place, ..self.numbered(&claim) };
            votes = Votes::cast(&self.members, &claim, IfBusy::Yield)?;
            if let Some(fence) = votes.run(&self.members) {
                return Ok(self.covered(&claim, fence, &votes.covered));
            }
        }
        if votes.count() >= self.members.majority() {
            return self.hold(&claim, &votes.granted);
        }
        let waiting = Waiting {
            attempt: claim.attempt,
            granted: votes.granted.clone(),
            covered: votes.covered.clone(),
        };
        if votes.unfinished {
            self.claims().insert(claim.token.clone(), OwnClaim::Waiting(waiting));
            return Ok(Attempt::Unfinished { place });
        }
        if if_busy == IfBusy::GiveUp && votes.busy.len() < self.members.nodes.len() {
            // Some have granted it, or may do so when they get to it.
            part_with(&self.members, &Hold::of(claim.name, claim.token), Purpose::Apart);
        }
        let (mut blocked_for, holder) = (votes.blocked_for(&self.members), votes.most_named());
        let (mut again, ahead) = (votes.again, votes.ahead);
        if let Some(run) = votes.covered.iter().flatten().max() {
            // The others may be about to say so, too. If not, it must wait for a later one: else it could be covered
            // by a majority as little as be let in by one.
            match before {
                Some(OwnClaim::Waiting(before)) if before.covered == votes.covered => place = place.max(*run),
                _ => {}
            }
            (blocked_for, again) = (blocked_for.min(APART), again.min(BEAT));
        }
        if if_busy != IfBusy::GiveUp {
            self.claims().insert(claim.token.clone(), OwnClaim::Waiting(waiting));
        }
        Ok(Attempt::Busy { place, blocked_for, holder, again, ahead })
    }

    fn await_grant(
        &self,
        claim: &Claim<'_>,
        slice: Duration,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Wake> {
        if interrupted() {
            return Ok(Wake::Interrupted);
        }
        let none = || vec![None; self.members.nodes.len()];
        let Waiting { attempt, mut granted, mut covered } = match self.claims().get(claim.token) {
            Some(OwnClaim::Waiting(waiting)) => waiting.clone(),
            _ => Waiting { attempt: 0, granted: none(), covered: none() },
        };
        let majority = self.members.majority();
        let lacking = majority.saturating_sub(granted.iter().flatten().count());
        let mailbox = self.members.keys(claim.name).mailbox(claim.token);
        let seconds = format!("{:.3}", slice.as_secs_f64().max(0.001));
        let call = Call::plain(&[b"BLPOP", &mailbox, seconds.as_bytes()]);
        let letters = |round: &Round| {
            round.values().filter(|(_, value)| matches!(reply::mail(value), Wake::Granted(_))).count()
        };
        let runs = |round: &Round, mut covered: Vec<Option<u64>>| {
            for (i, value) in round.values() {
                if let (Wake::Covered(run), Some(covered)) = (reply::mail(value), covered.get_mut(i)) {
                    *covered = Some(run);
                }
            }
            covered
        };
        let limit = slice + Duration::from_millis(250);
        let round = ask(&self.members.all(), &call, Kind::Sleep(interrupted), limit, |round| {
            letters(round) >= lacking
                || (claim.run && same(&runs(round, covered.clone()), majority).is_some())
                || round.errors().count() > self.members.nodes.len() - majority
        });
        if round.interrupted {
            return Ok(Wake::Interrupted);
        }
        if round.errors().count() > self.members.nodes.len() - majority {
            return Err(self.members.no_majority(&round));
        }
        for (i, value) in round.values() {
            if let (Wake::Granted(grant), Some(granted)) = (reply::mail(value), granted.get_mut(i)) {
                *granted = Some(grant.fence);
            }
        }
        covered = runs(&round, covered);
        if let Some(fence) = same(&covered, majority) {
            self.covered(claim, fence, &covered);
            return Ok(Wake::Covered(fence));
        }
        let claim = Claim { attempt, ..claim.clone() };
        if granted.iter().flatten().count() >= majority
            && let Some(fence) = confirm(&self.members, &claim, &granted)
        {
            return Ok(Wake::Granted(self.held(&claim, fence)));
        }
        Ok(Wake::Retry)
    }

    fn release(&self, hold: &Hold<'_>) -> Result<Standing> {
        self.release_for(Purpose::Holder, hold)
    }

    fn complete(&self, hold: &Hold<'_>, fence: u64) -> Result<Standing> {
        self.claims().remove(hold.token);
        let round = complete_with(&self.members, hold, fence);
        self.finish(Purpose::Holder, hold, &round);
        end_of_run(&self.members, &round)
    }

    fn give_up(&self, name: &LockName, token: &Token) -> Result<Standing> {
        self.release_for(Purpose::Apart, &Hold::of(name, token))
    }

    fn renew(&self, hold: &Hold<'_>, ttl: Duration) -> Result<Standing> {
        self.renew_for(Purpose::Holder, hold, ttl)
    }

    /// Where a server does not know of the lock yet it is queued for there, and is to be heard of again as whoever waits.
    fn renewed_for(&self, token: &Token, ttl: Duration) -> Duration {
        match self.claims().get(token) {
            Some(OwnClaim::Held { strange: true, .. }) => BEAT.min(ttl / 3),
            _ => ttl / 3,
        }
    }

    fn tend_one(&self, chore: Chore<'_>) -> Result<Standing> {
        match chore {
            Chore::Renew { hold, ttl } => self.renew_for(Purpose::Upkeep, &hold, ttl),
            Chore::Release { hold } => self.release_for(Purpose::Upkeep, &hold),
        }
    }

    fn grace(&self) -> Option<Duration> {
        self.members.grace.as_ref().map(|grace| grace.period)
    }

    /// A round is as quick as the servers are near, and those of different lanes go on beside each other.
    fn lane_of(&self, name: &LockName) -> usize {
        let sum = name.as_bytes().iter().fold(0_usize, |sum, byte| sum.wrapping_mul(31) + usize::from(*byte));
        sum % ROUNDS
    }

    fn info(&self, name: &LockName) -> Result<Option<LockReport>> {
        let reports: Vec<_> = self.members.reports(name)?.into_iter().map(|(_, report)| report).collect();
        Ok(merge::merge(&reports, self.members.nodes.len()))
    }

    /// Reads all locks of all servers, since which of them are held only the lists together tell.
    fn list(&self, prefix: &[u8], limit: usize) -> Result<Vec<LockReport>> {
        let mut lists = Vec::new();
        let mut errors = Vec::new();
        for node in &self.members.nodes {
            match self.members.alone(node).list(prefix, usize::MAX) {
                Ok(list) => lists.push(list),
                Err(error) => errors.push(error.to_string()),
            }
        }
        if lists.len() < self.members.majority() {
            return Err(self.members.too_few(errors.len(), &errors));
        }
        Ok(merge::merge_lists(&lists, self.members.nodes.len(), limit))
    }

    fn break_lock(&self, name: &LockName, meant: Option<u64>) -> Result<Broken> {
        if let Some(meant) = meant {
            return break_holder(&self.members, name, meant);
        }
        let majority = self.members.majority();
        let round = self.members.run(&BREAK, name, &[], Kind::Parting(Purpose::Apart), |round| {
            round.values().count() >= majority
        });
        if round.values().count() < majority {
            return Err(self.members.no_majority(&round));
        }
        let broken = round.values().any(|(_, value)| reply::broken(value, false) == Some(Broken::Yes));
        Ok(if broken { Broken::Yes } else { Broken::Free })
    }

    fn servers(&self) -> Vec<ServerReport> {
        self.members
            .nodes
            .iter()
            .map(|node| survey(&node.pool, &self.members.prefix, self.members.grace.as_deref()))
            .collect()
    }

    fn end_grace(&self) -> Vec<ServerReport> {
        self.members.nodes.iter().flat_map(|node| self.members.alone(node).end_grace()).collect()
    }

    fn forget(&self, name: &LockName) {
        self.members.nodes.iter().for_each(|node| self.members.alone(node).forget(name));
    }

    fn take_texts(&self, name: &LockName) -> Result<()> {
        let take = |node| self.members.alone(node).take_texts(name).err();
        let errors: Vec<_> =
            self.members.nodes.iter().filter_map(take).map(|error| error.to_string()).collect();
        if self.members.nodes.len() - errors.len() < self.members.majority() {
            return Err(self.members.too_few(errors.len(), &errors));
        }
        Ok(())
    }

    fn examine(&self) -> Vec<ServerReport> {
        self.members.nodes.iter().flat_map(|node| self.members.alone(node).examine()).collect()
    }

    fn status(&self) -> StoreStatus {
        StoreStatus::of("quorum", &self.members.label, self.members.nodes.iter().map(|node| &*node.pool))
    }

    fn server(&self) -> &str {
        &self.members.label
    }

    fn close(&self) {
        for node in &self.members.nodes {
            node.pool.clear();
        }
    }
}

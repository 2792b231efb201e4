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
//!   so do the servers, after a round or two.
//! * **on the fencing token**: a claim proposes one a little ahead of its own clock, and where clocks
//!   agree to a few milliseconds all servers take it: one round trip. Where they differ, a second
//!   round raises all to the greatest. A majority that knows the token has then a server in common
//!   with the majority of the next holder, which thus gets a greater one.
//!
//! [`round`] asks all servers at once; [`merge`] makes one report of theirs.

mod merge;
mod round;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redis::Value;

use super::redis::RedisStore;
use super::redis::reply::{self, millis};
use super::redis::route::One;
use super::redis::script::{self, ACQUIRE, BREAK, Call, INSPECT, Keys, RELEASE, RENEW, Script};
use super::redis::survey::survey;
use super::{Attempt, Broken, Claim, Grant, IfBusy, Standing, Store, StoreStatus, Token, Wake};
use crate::clock::Instant;
use crate::dsn::{Dsn, Server};
use crate::error::{Error, Loss, Result};
use crate::key::LockName;
use crate::report::{LockReport, Mode, ServerReport};
use crate::settings::Config;
use crate::wire::Pool;
use round::{Kind, Node, Round, ask};

/// How far ahead of this machine's clock a proposed fencing token is: more than the clocks of machines
/// that keep time differ, and a command takes.
const AHEAD_US: u128 = 5_000;

/// While the servers have not agreed on a holder: when to ask again, at the earliest and at the latest.
const UNDECIDED: (u64, u64) = (5, 60);

/// See [`Store`].
pub struct QuorumStore {
    nodes: Vec<Node>,
    prefix: String,
    label: String,
    limit: Duration,
    claims: Mutex<HashMap<Token, State>>,
}

/// What this process knows of a claim of its own.
enum State {
    /// It waits; these servers have granted it, which is no majority: fencing token by server.
    Waiting(Vec<Option<u64>>),
    /// It holds.
    Held(Mode, Box<[u8]>),
}

/// What all servers said to an attempt.
struct Votes {
    /// The fencing tokens of those that granted it, by server.
    granted: Vec<Option<u64>>,
    /// Of those that did not: arrival rank, what is left of the lease that blocks, who holds.
    busy: Vec<(u64, Duration, Box<[u8]>)>,
}

impl Votes {
    fn count(&self) -> usize {
        self.granted.iter().flatten().count()
    }
}

impl QuorumStore {
    /// A store on several servers. No I/O.
    pub fn new(servers: &[Server], config: &Config) -> Self {
        Self {
            nodes: servers.iter().map(|server| Node::new(Pool::new(server.clone(), config))).collect(),
            prefix: config.prefix.clone(),
            label: Dsn::Quorum(servers.to_vec()).redacted(),
            limit: config.command_timeout,
            claims: Mutex::default(),
        }
    }

    fn all(&self) -> Vec<&Node> {
        self.nodes.iter().collect()
    }

    /// The locks of one server, as if there were no others.
    fn alone(&self, node: &Node) -> RedisStore {
        RedisStore::on(Box::new(One::sharing(&node.pool)), &self.prefix)
    }

    fn majority(&self) -> usize {
        self.nodes.len() / 2 + 1
    }

    fn claims(&self) -> MutexGuard<'_, HashMap<Token, State>> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self, claim: &Claim<'_>, fence: u64) -> Grant {
        self.claims().insert(claim.token.clone(), State::Held(claim.mode, claim.identity.into()));
        Grant { fence, lease: claim.ttl }
    }

    /// Runs a script everywhere.
    fn run(
        &self,
        script: &Script,
        name: &LockName,
        argv: &[&[u8]],
        kind: Kind<'_>,
        enough: impl Fn(&Round) -> bool,
    ) -> Round {
        let keys = Keys::new(&self.prefix, name, false);
        ask(&self.all(), &Call::new(script, &keys, argv), kind, self.limit, enough)
    }

    /// So many servers failed that the others are no majority.
    fn no_majority(&self, round: &Round) -> Error {
        let mut causes: Vec<String> = round.errors().map(ToString::to_string).collect();
        let mut failed = causes.len();
        if round.pending() > 0 && round.timed_out {
            failed += round.pending();
            causes.push(format!(
                "{} gave no answer within {:.3} s (cluster_lock.command_timeout)",
                round.pending(),
                self.limit.as_secs_f64()
            ));
        }
        self.too_few(failed, &causes)
    }

    fn too_few(&self, failed: usize, causes: &[String]) -> Error {
        let (all, majority) = (self.nodes.len(), self.majority());
        self.error(format!(
            "{failed} of {all} servers failed, and {majority} are needed: {}",
            causes.join("; ")
        ))
    }

    fn error(&self, cause: String) -> Error {
        Error::Connection { server: self.label.clone(), cause }
    }

    /// One attempt everywhere.
    fn vote(&self, claim: &Claim<'_>, if_busy: IfBusy) -> Result<Votes> {
        let (all, majority) = (self.nodes.len(), self.majority());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        let fence = u64::try_from(now + AHEAD_US).ok();
        let granted = |round: &Round| round.values().filter(|(_, v)| matches!(v, Value::Int(_))).count();
        let round = script::with_acquire(claim, if_busy, fence, |argv| {
            self.run(&ACQUIRE, claim.name, argv, Kind::Step, |round| {
                let granted = granted(round);
                let (answered, failed) = (round.values().count(), round.errors().count());
                // Decided for us; decided against us; or not to be decided.
                granted >= majority
                    || (answered >= majority && granted + round.pending() < majority)
                    || failed > all - majority
            })
        });
        let mut votes = Votes { granted: vec![None; all], busy: Vec::new() };
        for (i, value) in round.values() {
            match (reply::attempt(value, claim.ttl), votes.granted.get_mut(i), self.nodes.get(i)) {
                (Some(Attempt::Held(grant)), Some(granted), _) => *granted = Some(grant.fence),
                (Some(Attempt::Busy { place, blocked_for, holder }), ..) => {
                    votes.busy.push((place, blocked_for, holder));
                }
                (None, _, Some(node)) => return Err(node.pool.nonsense("acquire", value)),
                _ => {}
            }
        }
        if votes.count() + votes.busy.len() < majority {
            return Err(self.no_majority(&round));
        }
        Ok(votes)
    }

    /// Has a majority agree that `fence` was given out, and the lease begin anew. False: there is no
    /// majority that the lock is held on.
    fn confirm(&self, name: &LockName, token: &Token, ttl: Duration, fence: u64) -> bool {
        let (ttl, fence) = (millis(ttl).to_string(), fence.to_string());
        let majority = self.majority();
        let argv: [&[u8]; 3] = [token.as_bytes(), ttl.as_bytes(), fence.as_bytes()];
        let ours = |round: &Round| round.values().filter(|(_, value)| **value == Value::Int(1)).count();
        let round = self.run(&RENEW, name, &argv, Kind::Step, |round| {
            ours(round) >= majority || ours(round) + round.pending() < majority
        });
        ours(&round) >= majority
    }

    /// A majority has granted it: agrees on the fencing token.
    fn hold(&self, claim: &Claim<'_>, granted: &[Option<u64>]) -> Result<Attempt> {
        let fence = granted.iter().flatten().max().copied().unwrap_or_default();
        let same = granted.iter().flatten().filter(|given| **given == fence).count();
        if same >= self.majority() || self.confirm(claim.name, claim.token, claim.ttl, fence) {
            return Ok(Attempt::Held(self.held(claim, fence)));
        }
        Err(self.error("the majority was lost while it agreed on the fencing token".to_owned()))
    }

    /// Takes a claim out of all servers, as far as they can be reached.
    fn part_with(&self, name: &LockName, token: &Token) -> Round {
        let majority = self.majority();
        self.run(&RELEASE, name, &[token.as_bytes()], Kind::Parting, |round| {
            standings(round).filter(|(standing, _)| *standing == Standing::Ours).count() >= majority
        })
    }

    /// What a majority says of a lock that was held.
    fn verdict(&self, round: &Round, released: bool) -> Result<Standing> {
        let mut losses: Vec<Loss> = Vec::new();
        let mut ours = 0;
        for (standing, again) in standings(round) {
            match standing {
                Standing::Ours => ours += 1,
                // As on a single server: the first try, whose reply was lost, released it.
                Standing::Lost(Loss::Superseded) if released && again => ours += 1,
                Standing::Lost(loss) => losses.push(loss),
            }
        }
        if ours >= self.majority() {
            return Ok(Standing::Ours);
        }
        let most = losses.iter().max_by_key(|loss| losses.iter().filter(|other| other == loss).count());
        match most {
            // Those that did not answer cannot make up a majority any more.
            Some(loss) if self.nodes.len() - losses.len() < self.majority() => {
                Ok(Standing::Lost(loss.clone()))
            }
            _ => Err(self.no_majority(round)),
        }
    }

    /// A majority holds the lock, but some servers do not know of it: they were away, or have lost their
    /// data. Where it is free it is taken, so that another server may fail.
    fn heal(&self, name: &LockName, token: &Token, ttl: Duration, round: &Round) {
        let strangers: Vec<&Node> = self
            .nodes
            .iter()
            .zip(&round.answers)
            .filter(|(_, answer)| {
                let said = answer.as_ref().and_then(|answer| answer.said.as_ref().ok());
                said.is_some_and(|value| *value != Value::Int(1))
            })
            .map(|(node, _)| node)
            .collect();
        let held = self.claims().get(token).and_then(|state| match state {
            State::Held(mode, identity) => Some((*mode, identity.clone())),
            State::Waiting(_) => None,
        });
        let Some((mode, identity)) = held.filter(|_| !strangers.is_empty()) else { return };
        let claim = Claim { name, token, mode, ttl, identity: &identity, place: 0, converts: 0 };
        let keys = Keys::new(&self.prefix, name, false);
        script::with_acquire(&claim, IfBusy::GiveUp, None, |argv| {
            let call = Call::new(&ACQUIRE, &keys, argv);
            ask(&strangers, &call, Kind::Step, self.limit, |round| round.pending() == 0);
        });
        if !self.claims().contains_key(token) {
            // It was released meanwhile.
            let argv: [&[u8]; 1] = [token.as_bytes()];
            let call = Call::new(&RELEASE, &keys, &argv);
            ask(&strangers, &call, Kind::Parting, self.limit, |_| true);
        }
    }

    /// When a claim that is busy should ask again at the latest.
    fn blocked_for(&self, votes: &Votes) -> Duration {
        let same = |holder: &[u8]| votes.busy.iter().filter(|(_, _, other)| **other == *holder).count();
        if !votes.busy.iter().any(|(_, _, holder)| same(holder) >= self.majority()) && votes.count() > 0 {
            let (least, most) = UNDECIDED;
            return Duration::from_millis(least + Instant::now().as_nanos() / 1000 % (most - least));
        }
        let mut left: Vec<Duration> = votes.busy.iter().map(|(_, left, _)| *left).collect();
        left.sort_unstable();
        // So many more have to come free.
        let lacking = self.majority().saturating_sub(votes.count()).max(1);
        left.get(lacking - 1).or(left.last()).copied().unwrap_or_default()
    }

    /// Takes the lock from its holder if that is the one who was given this fencing token, or came before.
    ///
    /// A server whose answer the holder did not wait for may have given it another token. So each is asked
    /// whom it has let in, and is then told to break the lock of that one, by its own token.
    fn break_holder(&self, name: &LockName, meant: u64) -> Result<Broken> {
        let reports = self.reports(name)?;
        let all: Vec<_> = reports.iter().map(|(_, report)| report.clone()).collect();
        let Some(now) = merge::merge(&all, self.nodes.len()) else { return Ok(Broken::Free) };
        // Of several readers the newest may have left.
        if now.fence > meant || (now.mode == Mode::Exclusive && now.fence != meant) {
            return Ok(Broken::Another);
        }
        let is_meant = |report: &LockReport| {
            report.holders.iter().all(|one| now.holders.iter().any(|other| other.identity == one.identity))
        };
        let mut by_fence: BTreeMap<u64, Vec<&Node>> = BTreeMap::new();
        for (i, report) in &reports {
            if let (Some(report), Some(node)) = (report.as_ref().filter(|r| is_meant(r)), self.nodes.get(*i))
            {
                by_fence.entry(report.fence).or_default().push(node);
            }
        }
        let keys = Keys::new(&self.prefix, name, false);
        let (mut broken, mut other, mut trouble) = (0, false, None);
        for (fence, nodes) in by_fence {
            let round = script::with_break(Some(fence), |argv| {
                let call = Call::new(&BREAK, &keys, argv);
                ask(&nodes, &call, Kind::Parting, self.limit, |round| round.pending() == 0)
            });
            if round.values().count() < nodes.len() {
                trouble = Some(self.no_majority(&round));
            }
            for answer in round.answers.iter().flatten() {
                match answer.said.as_ref().map(|value| reply::broken(value, answer.again)) {
                    Ok(Some(Broken::Yes)) => broken += 1,
                    Ok(Some(Broken::Another)) => other = true,
                    _ => {}
                }
            }
        }
        // The holder has no majority any more when so many are known to be without it.
        let without = broken + reports.iter().filter(|(_, report)| report.is_none()).count();
        if broken > 0 && without >= self.majority() {
            return Ok(Broken::Yes);
        }
        match trouble {
            _ if other => Ok(Broken::Another),
            Some(error) => Err(error),
            None => Ok(Broken::Free),
        }
    }

    /// The reports of all servers that answer, with the servers' numbers; `None` where nobody holds it.
    fn reports(&self, name: &LockName) -> Result<Vec<(usize, Option<LockReport>)>> {
        let majority = self.majority();
        let round = self.run(&INSPECT, name, &[], Kind::Step, |round| {
            round.pending() == 0 || round.errors().count() > self.nodes.len() - majority
        });
        if round.values().count() < majority {
            return Err(self.no_majority(&round));
        }
        Ok(round.values().map(|(i, value)| (i, reply::report(name, value).ok().flatten())).collect())
    }
}

/// What the servers say of a token, and whether they were asked twice.
fn standings(round: &Round) -> impl Iterator<Item = (Standing, bool)> {
    round
        .answers
        .iter()
        .flatten()
        .filter_map(|answer| Some((reply::standing(answer.said.as_ref().ok()?)?, answer.again)))
}

impl Store for QuorumStore {
    fn attempt(&self, claim: &Claim<'_>, if_busy: IfBusy) -> Result<Attempt> {
        self.claims().remove(claim.token);
        let known = claim.place != 0;
        let first = if known && if_busy == IfBusy::Queue { IfBusy::Yield } else { if_busy };
        let mut votes = self.vote(claim, first)?;
        let mut place = claim.place;
        if votes.count() < self.majority() && if_busy == IfBusy::Queue && !known {
            place = votes.busy.iter().map(|(place, ..)| *place).max().unwrap_or_default();
            votes = self.vote(&Claim { place, ..claim.clone() }, IfBusy::Yield)?;
        }
        if votes.count() >= self.majority() {
            return self.hold(claim, &votes.granted);
        }
        if if_busy == IfBusy::GiveUp && votes.busy.len() < self.nodes.len() {
            // Some have granted it, or may do so when they get to it.
            self.part_with(claim.name, claim.token);
        }
        let blocked_for = self.blocked_for(&votes);
        if if_busy != IfBusy::GiveUp {
            self.claims().insert(claim.token.clone(), State::Waiting(votes.granted));
        }
        let holder = votes.busy.into_iter().max_by_key(|(_, left, _)| *left);
        Ok(Attempt::Busy {
            place,
            blocked_for,
            holder: holder.map(|(.., holder)| holder).unwrap_or_default(),
        })
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
        let mut granted = match self.claims().get(claim.token) {
            Some(State::Waiting(granted)) => granted.clone(),
            _ => vec![None; self.nodes.len()],
        };
        let majority = self.majority();
        let lacking = majority.saturating_sub(granted.iter().flatten().count());
        let mailbox = Keys::new(&self.prefix, claim.name, false).mailbox(claim.token);
        let seconds = format!("{:.3}", slice.as_secs_f64().max(0.001));
        let call = Call::plain(&[b"BLPOP", &mailbox, seconds.as_bytes()]);
        let letters =
            |round: &Round| round.values().filter(|(_, value)| reply::mail(value).is_some()).count();
        let limit = slice + Duration::from_millis(250);
        let round = ask(&self.all(), &call, Kind::Sleep(interrupted), limit, |round| {
            letters(round) >= lacking || round.errors().count() > self.nodes.len() - majority
        });
        if round.interrupted {
            return Ok(Wake::Interrupted);
        }
        if round.errors().count() > self.nodes.len() - majority {
            return Err(self.no_majority(&round));
        }
        for (i, value) in round.values() {
            if let (Some(grant), Some(granted)) = (reply::mail(value), granted.get_mut(i)) {
                *granted = Some(grant.fence);
            }
        }
        let fence = granted.iter().flatten().max().copied().unwrap_or_default();
        if granted.iter().flatten().count() >= majority
            && self.confirm(claim.name, claim.token, claim.ttl, fence)
        {
            return Ok(Wake::Granted(self.held(claim, fence)));
        }
        Ok(Wake::Retry)
    }

    fn release(&self, name: &LockName, token: &Token) -> Result<Standing> {
        self.claims().remove(token);
        let round = self.part_with(name, token);
        self.verdict(&round, true)
    }

    fn renew(&self, name: &LockName, token: &Token, ttl: Duration) -> Result<Standing> {
        let text = millis(ttl).to_string();
        let majority = self.majority();
        let round = self.run(&RENEW, name, &[token.as_bytes(), text.as_bytes()], Kind::Renewal, |round| {
            let ours = standings(round).filter(|(standing, _)| *standing == Standing::Ours).count();
            ours >= majority || ours + round.pending() < majority
        });
        let standing = self.verdict(&round, false)?;
        match standing {
            Standing::Ours => self.heal(name, token, ttl, &round),
            // Nobody has to release it.
            Standing::Lost(_) => drop(self.claims().remove(token)),
        }
        Ok(standing)
    }

    fn info(&self, name: &LockName) -> Result<Option<LockReport>> {
        let reports: Vec<_> = self.reports(name)?.into_iter().map(|(_, report)| report).collect();
        Ok(merge::merge(&reports, self.nodes.len()))
    }

    /// Reads all locks of all servers, since which of them are held only the lists together tell.
    fn list(&self, prefix: &[u8], limit: usize) -> Result<Vec<LockReport>> {
        let mut lists = Vec::new();
        let mut errors = Vec::new();
        for node in &self.nodes {
            match self.alone(node).list(prefix, usize::MAX) {
                Ok(list) => lists.push(list),
                Err(error) => errors.push(error.to_string()),
            }
        }
        if lists.len() < self.majority() {
            return Err(self.too_few(errors.len(), &errors));
        }
        Ok(merge::merge_lists(&lists, self.nodes.len(), limit))
    }

    fn break_lock(&self, name: &LockName, meant: Option<u64>) -> Result<Broken> {
        if let Some(meant) = meant {
            return self.break_holder(name, meant);
        }
        let majority = self.majority();
        let round = self.run(&BREAK, name, &[], Kind::Parting, |round| round.values().count() >= majority);
        if round.values().count() < majority {
            return Err(self.no_majority(&round));
        }
        let broken = round.values().any(|(_, value)| *value == Value::Int(1));
        Ok(if broken { Broken::Yes } else { Broken::Free })
    }

    fn servers(&self) -> Vec<ServerReport> {
        self.nodes.iter().map(|node| survey(&node.pool, &self.prefix)).collect()
    }

    fn forget(&self, name: &LockName) {
        self.nodes.iter().for_each(|node| self.alone(node).forget(name));
    }

    fn examine(&self) -> Vec<ServerReport> {
        self.nodes.iter().flat_map(|node| self.alone(node).examine()).collect()
    }

    fn status(&self) -> StoreStatus {
        StoreStatus::of("quorum", &self.label, self.nodes.iter().map(|node| &*node.pool))
    }

    fn server(&self) -> &str {
        &self.label
    }

    fn close(&self) {
        for node in &self.nodes {
            node.pool.clear();
        }
    }
}

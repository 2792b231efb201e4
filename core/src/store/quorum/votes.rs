//! One attempt at all servers, counted.

use std::time::Duration;

use redis::Value;

use super::members::Members;
use super::round::{Kind, Round};
use super::verdict::standings;
use crate::clock::{Instant, millis, unix_micros};
use crate::error::Result;
use crate::report::Mode;
use crate::store::machine::{APART, BEAT};
use crate::store::redis::reply;
use crate::store::redis::script::{self, ACQUIRE, RENEW};
use crate::store::{Attempt, Claim, IfBusy, Standing};

/// How far ahead of this machine's clock a proposed fencing token is: more than the clocks of machines
/// that keep time differ, and a command takes.
const AHEAD_US: u64 = 5_000;

/// While the servers have not agreed on a holder: when to ask again, at the earliest and at the latest.
const UNDECIDED: (u64, u64) = (5, 60);

/// How often a claim has its fencing token confirmed when servers turn out to have given it a greater one: they do so again
/// only when its lease there has run out meanwhile.
const CONFIRMED: usize = 3;

/// What all servers said to an attempt.
pub(super) struct Votes {
    /// The fencing tokens of those that granted it, by server.
    pub(super) granted: Vec<Option<u64>>,
    /// Of those that say that a run covers it, that one's fencing token, by server.
    pub(super) covered: Vec<Option<u64>>,
    /// Of those that did not: arrival rank, what is left of the lease that blocks, who holds.
    pub(super) busy: Vec<(u64, Duration, Box<[u8]>)>,
    /// In what time to ask again, at the latest.
    pub(super) again: Duration,
    /// How many stand before it, where they are most.
    pub(super) ahead: u64,
    /// Some do not know yet.
    pub(super) unfinished: bool,
}

impl Votes {
    pub(super) fn count(&self) -> usize {
        self.granted.iter().flatten().count()
    }

    /// The run that covers it, as a majority says: of one that failed on the way there may be fewer.
    pub(super) fn run(&self, members: &Members) -> Option<u64> {
        same(&self.covered, members.majority())
    }

    /// The greatest that any server knows of: of ranks, of what was granted, and of runs. Majorities meet, so it is greater
    /// than the fencing token of whoever was let in before the claim came.
    pub(super) fn greatest(&self) -> u64 {
        let places = self.busy.iter().map(|(place, ..)| *place);
        let tokens = self.granted.iter().chain(&self.covered).flatten().copied();
        places.chain(tokens).max().unwrap_or_default()
    }

    /// Whether a majority has given it a rank. A server in its grace period does not: it may have forgotten who was let in.
    pub(super) fn is_ranked(&self, members: &Members) -> bool {
        self.count() + self.busy.iter().filter(|(place, ..)| *place > 0).count() >= members.majority()
    }

    /// One attempt everywhere.
    pub(super) fn cast(members: &Members, claim: &Claim<'_>, if_busy: IfBusy) -> Result<Self> {
        let (all, majority) = (members.nodes.len(), members.majority());
        let fence = Some(unix_micros().saturating_add(AHEAD_US));
        let granted = |round: &Round| round.values().filter(|(_, v)| matches!(v, Value::Int(_))).count();
        let round = script::with_acquire(claim, if_busy, fence, |argv| {
            members.run(&ACQUIRE, claim.name, argv, Kind::Step, |round| {
                let granted = granted(round);
                let (answered, failed) = (round.values().count(), round.errors().count());
                let covered = round.values().filter(|(_, v)| is_covered(v)).count();
                let undecided = covered > 0 && covered < majority && covered + round.pending() >= majority;
                // Decided for us; decided against us; or not to be decided.
                granted >= majority
                    || (answered >= majority && granted + round.pending() < majority && !undecided)
                    || failed > all - majority
            })
        });
        let mut votes = Self {
            granted: vec![None; all],
            covered: vec![None; all],
            busy: Vec::new(),
            again: Duration::MAX,
            ahead: 0,
            unfinished: false,
        };
        for (i, value) in round.values() {
            match (reply::attempt(value, claim.ttl), votes.granted.get_mut(i), members.nodes.get(i)) {
                (Some(Attempt::Held(grant)), Some(granted), _) => *granted = Some(grant.fence),
                (Some(Attempt::Busy { place, blocked_for, holder, again, ahead }), ..) => {
                    votes.busy.push((place, blocked_for, holder));
                    votes.again = votes.again.min(again);
                    votes.ahead = votes.ahead.max(ahead);
                }
                (Some(Attempt::Covered { fence }), ..) => {
                    if let Some(covered) = votes.covered.get_mut(i) {
                        *covered = Some(fence);
                    }
                }
                (Some(Attempt::Unfinished { place }), ..) => {
                    votes.busy.push((place, Duration::ZERO, Box::default()));
                    votes.unfinished = true;
                }
                (None, _, Some(node)) => return Err(node.pool.nonsense("acquire", value)),
                _ => {}
            }
        }
        if votes.count() + votes.covered.iter().flatten().count() + votes.busy.len() < majority {
            return Err(members.no_majority(&round));
        }
        if votes.count() > 0 {
            // Its turn has come, for some.
            votes.again = votes.again.min(BEAT);
        }
        Ok(votes)
    }

    /// How many say that it is held by this one.
    fn naming(&self, holder: &[u8]) -> usize {
        self.busy.iter().filter(|(_, _, other)| **other == *holder).count()
    }

    /// Whom most say that it is held by: what one of them has given somebody else is no majority.
    pub(super) fn most_named(&self) -> Box<[u8]> {
        let most = self.busy.iter().max_by_key(|(_, left, holder)| (self.naming(holder), *left));
        most.map(|(.., holder)| holder.clone()).unwrap_or_default()
    }

    /// When a claim that is busy should ask again at the latest.
    pub(super) fn blocked_for(&self, members: &Members) -> Duration {
        let agreed = |holder: &[u8]| self.naming(holder) >= members.majority();
        if !self.busy.iter().any(|(_, _, holder)| agreed(holder)) && self.count() > 0 {
            let (least, most) = UNDECIDED;
            return Duration::from_millis(least + Instant::now().as_nanos() / 1000 % (most - least));
        }
        let mut left: Vec<Duration> = self.busy.iter().map(|(_, left, _)| *left).collect();
        left.sort_unstable();
        // So many more have to come free.
        let lacking = members.majority().saturating_sub(self.count()).max(1);
        left.get(lacking - 1).or(left.last()).copied().unwrap_or_default()
    }
}

/// Whether `acquire.lua` says that a run covers the claim.
fn is_covered(value: &Value) -> bool {
    matches!(value, Value::Array(items) if items.len() == 2)
}

/// What so many say, or more.
pub(super) fn same(said: &[Option<u64>], majority: usize) -> Option<u64> {
    let count = |run: u64| said.iter().flatten().filter(|other| **other == run).count();
    said.iter().flatten().copied().find(|run| count(*run) >= majority)
}

/// The fencing token of a claim that was granted these, by server: the greatest. Writers' majorities meet, and there one of
/// two has the greater one. But readers are let in together, and the greatest of one, from here, may be that of another, from
/// there. A server gives none twice; so what a majority gave is nobody else's, and any other goes on by the number of the
/// server that gave it, for which readers' tokens have [room](APART). (Behind fifteen servers the numbers begin anew.)
pub(super) fn token(mode: Mode, granted: &[Option<u64>], majority: usize) -> u64 {
    let by_server = granted.iter().zip(1..).filter_map(|(token, by)| Some(((*token)?, by)));
    let Some((greatest, by)) = by_server.max() else { return 0 };
    // What is no multiple was agreed on before.
    if mode == Mode::Exclusive || greatest % APART != 0 || same(granted, majority) == Some(greatest) {
        return greatest;
    }
    greatest + (by - 1) % (APART - 1) + 1
}

/// Has a majority agree on the fencing token of a claim that was granted these, by server, and that the claim's newest attempt
/// counts, and the lease begin anew. A server that has given it a greater one counts when that is what is agreed on: it may
/// alone know of whoever was let in before. None: there is no majority that the lock is held on.
pub(super) fn confirm(members: &Members, claim: &Claim<'_>, granted: &[Option<u64>]) -> Option<u64> {
    let (ttl, attempt) = (millis(claim.ttl).to_string(), claim.attempt.to_string());
    let (mut granted, majority) = (granted.to_vec(), members.majority());
    // A server that knows it otherwise, because it has missed a conversion, or lost it, does not count.
    let mode: &[u8] = if claim.mode == Mode::Exclusive { b"X" } else { b"S" };
    let ours = |round: &Round| standings(round).filter(|(standing, _)| *standing == Standing::Ours).count();
    for _ in 0..CONFIRMED {
        let fence = token(claim.mode, &granted, majority);
        let text = fence.to_string();
        let argv = [claim.token.as_bytes(), ttl.as_bytes(), attempt.as_bytes(), text.as_bytes(), mode];
        let round = members.run(&RENEW, claim.name, &argv, Kind::Step, |round| {
            ours(round) >= majority || ours(round) + round.pending() < majority
        });
        if ours(&round) >= majority {
            return Some(fence);
        }
        let mut counted = ours(&round);
        for (i, value) in round.values() {
            if let (Some(given), Some(granted)) = (reply::given(value), granted.get_mut(i)) {
                *granted = Some(given);
                counted += 1;
            }
        }
        if counted < majority {
            break;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{Mode, token};

    #[test]
    fn what_no_majority_gave_to_a_reader_says_who_did() {
        let told = |mode, granted: &[u64]| {
            let granted: Vec<_> = granted.iter().map(|&token| (token > 0).then_some(token)).collect();
            token(mode, &granted, granted.len() / 2 + 1)
        };
        assert_eq!(told(Mode::Shared, &[32, 32, 0]), 32);
        assert_eq!((told(Mode::Shared, &[32, 48, 0]), told(Mode::Shared, &[48, 0, 32])), (50, 49));
        assert_eq!(told(Mode::Shared, &[32, 32, 48]), 51, "a majority gave the smaller one");
        assert_eq!(told(Mode::Shared, &[32, 50, 0]), 50, "it was agreed on, and somebody has missed it");
        assert_eq!(told(Mode::Exclusive, &[32, 48, 0]), 48);
        let mut many = [32; 33];
        many[16] = 48;
        assert_eq!(told(Mode::Shared, &many), 50);
        many[14] = 64;
        assert_eq!(told(Mode::Shared, &many), 79, "the last that there is room for");
        assert_eq!(told(Mode::Shared, &[0; 3]), 0);
    }
}

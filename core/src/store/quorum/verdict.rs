//! A lock that is given back, and what a majority says of one that was held.

use super::members::Members;
use super::round::{Kind, Round};
use crate::error::{Loss, Result};
use crate::store::redis::grace::Saying;
use crate::store::redis::reply;
use crate::store::redis::script::{self, RELEASE};
use crate::store::{Hold, Standing};
use crate::wire::Purpose;

/// What the servers say of a token, and whether they were asked twice.
pub(super) fn standings(round: &Round) -> impl Iterator<Item = (Standing, bool)> {
    by_server(round).map(|(_, standing, again)| (standing, again))
}

/// The same, with the servers' numbers.
fn by_server(round: &Round) -> impl Iterator<Item = (usize, Standing, bool)> {
    round.answers.iter().enumerate().filter_map(|(i, answer)| {
        let answer = answer.as_ref()?;
        Some((i, reply::standing(answer.said.as_ref().ok()?)?, answer.again))
    })
}

/// Those who say that it was lost, and why.
fn who_lost_it(members: &Members, round: &Round) -> Vec<String> {
    let losses = by_server(round).filter_map(|(i, standing, _)| match standing {
        Standing::Lost(loss) => Some(format!("{}: {loss}", members.nodes.get(i)?.pool.label())),
        Standing::Ours => None,
    });
    losses.collect()
}

/// What they say, counted.
struct Count {
    /// Whom it is, or was, held on.
    ours: usize,
    /// Where it waited: its holder may do so on the others, and others have been let in there.
    waited: usize,
    losses: Vec<Loss>,
    /// So many are a majority, and so many have to be without it that the others are none.
    majority: usize,
    enough: usize,
}

impl Count {
    fn of(members: &Members, round: &Round, released: bool) -> Self {
        let majority = members.majority();
        let waited = round.values().filter(|(_, value)| reply::waited(value)).count();
        let enough = members.nodes.len() + 1 - majority;
        let mut count = Self { ours: 0, waited, losses: Vec::new(), majority, enough };
        for (standing, again) in standings(round) {
            match standing {
                Standing::Ours => count.ours += 1,
                // As on a single server: the first try, whose reply was lost, released it.
                Standing::Lost(Loss::Superseded) if released && again => count.ours += 1,
                Standing::Lost(loss) => count.losses.push(loss),
            }
        }
        count.ours -= waited;
        count
    }

    fn is_ours(&self) -> bool {
        self.ours >= self.majority || self.losses.is_empty() && self.ours + self.waited >= self.majority
    }

    fn is_lost(&self) -> bool {
        !self.losses.is_empty() && self.losses.len() + self.waited >= self.enough
    }

    /// Whether those that have not answered, `pending` of them, can change nothing.
    fn is_decided(&self, pending: usize) -> bool {
        let may_come = |known: usize, needed: usize| known + self.waited + pending >= needed;
        let open = may_come(self.ours, self.majority) || may_come(self.losses.len(), self.enough);
        self.is_ours() || self.is_lost() || !open
    }
}

/// What a majority says of a lock that was held.
pub(super) fn verdict(members: &Members, round: &Round, released: bool) -> Result<Standing> {
    let count = Count::of(members, round, released);
    if count.is_ours() {
        return Ok(Standing::Ours);
    }
    let losses = &count.losses;
    let most = losses.iter().max_by_key(|loss| losses.iter().filter(|other| other == loss).count());
    match most {
        // Those that did not answer cannot make up a majority any more.
        Some(loss) if count.is_lost() => Ok(Standing::Lost(loss.clone())),
        _ => Err(members.no_majority_with(round, who_lost_it(members, round))),
    }
}

/// Gives a lock back everywhere, at the end of a run that is complete, of the holder who was given `fence`.
pub(super) fn complete_with(members: &Members, hold: &Hold<'_>, fence: u64) -> Round {
    script::with_end_of_run(hold.token, fence, |argv| {
        members.run(&RELEASE, hold.name, argv, Kind::Parting(Purpose::Holder), |round| {
            let (same, pending) = (agreeing(round), round.pending());
            // Servers that know different runs are no majority, and who has not answered yet may agree with some of them.
            let open = same + pending >= members.majority();
            same >= members.majority() || !open && Count::of(members, round, false).is_decided(pending)
        })
    })
}

/// How many say the same of a run that is complete: that it counts, or that a later one does.
fn agreeing(round: &Round) -> usize {
    let said = |what: i64| round.values().filter(|(_, value)| reply::answer(value) == Some(what)).count();
    said(reply::COUNTS).max(said(reply::LATER))
}

/// What a majority says of a run that is complete: the same, that it counts, or that a later one does.
pub(super) fn end_of_run(members: &Members, round: &Round) -> Result<Standing> {
    if agreeing(round) >= members.majority() {
        return Ok(Standing::Ours);
    }
    match verdict(members, round, false)? {
        Standing::Ours => Ok(Standing::Lost(Loss::Superseded)),
        lost @ Standing::Lost(_) => Ok(lost),
    }
}

/// Takes a claim out of all servers, as far as they can be reached, for that purpose. The background waits for no more than
/// a majority, since it tries again where that does not agree.
pub(super) fn part_with(members: &Members, hold: &Hold<'_>, purpose: Purpose) -> Round {
    let majority = members.majority();
    Saying::release(hold).with(|argv| {
        members.run(&RELEASE, hold.name, argv, Kind::Parting(purpose), |round| {
            Count::of(members, round, true).is_decided(round.pending())
                || purpose == Purpose::Upkeep && standings(round).count() >= majority
        })
    })
}

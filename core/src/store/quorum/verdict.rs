//! A lock that is given back, and what a majority says of one that was held.

use super::members::Members;
use super::round::{Kind, Round};
use crate::error::{Loss, Result};
use crate::store::redis::grace::Saying;
use crate::store::redis::reply;
use crate::store::redis::script::RELEASE;
use crate::store::{Hold, Standing};
use crate::wire::Purpose;

/// What the servers say of a token, and whether they were asked twice.
pub(super) fn standings(round: &Round) -> impl Iterator<Item = (Standing, bool)> {
    round
        .answers
        .iter()
        .flatten()
        .filter_map(|answer| Some((reply::standing(answer.said.as_ref().ok()?)?, answer.again)))
}

/// How many say that it is still held, and why it is not.
fn count(round: &Round, released: bool) -> (usize, Vec<Loss>) {
    let (mut ours, mut losses) = (0, Vec::new());
    for (standing, again) in standings(round) {
        match standing {
            Standing::Ours => ours += 1,
            // As on a single server: the first try, whose reply was lost, released it.
            Standing::Lost(Loss::Superseded) if released && again => ours += 1,
            Standing::Lost(loss) => losses.push(loss),
        }
    }
    (ours, losses)
}

/// Whether those that have not answered can change nothing of what a majority says.
fn is_decided(members: &Members, round: &Round, released: bool) -> bool {
    let (ours, losses) = count(round, released);
    let (majority, pending) = (members.majority(), round.pending());
    // So many that the others are no majority.
    let enough = members.nodes.len() + 1 - majority;
    let (lost, open) = (losses.len(), ours + pending >= majority || losses.len() + pending >= enough);
    ours >= majority || lost >= enough || !open
}

/// What a majority says of a lock that was held.
pub(super) fn verdict(members: &Members, round: &Round, released: bool) -> Result<Standing> {
    let (ours, losses) = count(round, released);
    if ours >= members.majority() {
        return Ok(Standing::Ours);
    }
    let most = losses.iter().max_by_key(|loss| losses.iter().filter(|other| other == loss).count());
    match most {
        // Those that did not answer cannot make up a majority any more.
        Some(loss) if members.nodes.len() - losses.len() < members.majority() => {
            Ok(Standing::Lost(loss.clone()))
        }
        _ => Err(members.no_majority(round)),
    }
}

/// What a majority says of a run that is complete: the same, that it counts, or that a later one does.
pub(super) fn end_of_run(members: &Members, round: &Round) -> Result<Standing> {
    let said = |what: i64| round.values().filter(|(_, value)| reply::answer(value) == Some(what)).count();
    if said(reply::COUNTS).max(said(reply::LATER)) >= members.majority() {
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
            is_decided(members, round, true)
                || purpose == Purpose::Upkeep && standings(round).count() >= majority
        })
    })
}

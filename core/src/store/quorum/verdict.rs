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

/// What a majority says of a lock that was held.
pub(super) fn verdict(members: &Members, round: &Round, released: bool) -> Result<Standing> {
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

/// Takes a claim out of all servers, as far as they can be reached, for that purpose.
pub(super) fn part_with(members: &Members, hold: &Hold<'_>, purpose: Purpose) -> Round {
    let majority = members.majority();
    Saying::release(hold).with(|argv| {
        members.run(&RELEASE, hold.name, argv, Kind::Parting(purpose), |round| {
            standings(round).filter(|(standing, _)| *standing == Standing::Ours).count() >= majority
        })
    })
}

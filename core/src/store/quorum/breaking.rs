//! A lock that is taken from a certain holder.

use std::collections::BTreeMap;

use super::members::Members;
use super::merge;
use super::round::{Kind, Node, ask};
use crate::error::Result;
use crate::key::LockName;
use crate::report::{LockReport, Mode};
use crate::store::Broken;
use crate::store::redis::reply;
use crate::store::redis::script::{self, BREAK, Call};
use crate::wire::Purpose;

/// Takes the lock from its holder if that is the one who was given this fencing token, or came before.
///
/// A server whose answer the holder did not wait for may have given it another token. So each is asked
/// whom it has let in, and is then told to break the lock of that one, by its own token.
pub(super) fn break_holder(members: &Members, name: &LockName, meant: u64) -> Result<Broken> {
    let reports = members.reports(name)?;
    let all: Vec<_> = reports.iter().map(|(_, report)| report.clone()).collect();
    let Some(now) = merge::merge(&all, members.nodes.len()) else {
        return if members.grace.is_some() { break_unseen(members, name, meant) } else { Ok(Broken::Free) };
    };
    // Of several readers the newest may have left.
    if now.fence > meant || (now.mode == Mode::Exclusive && now.fence != meant) {
        return Ok(Broken::Another);
    }
    let is_meant = |report: &LockReport| {
        report.holders.iter().all(|one| now.holders.iter().any(|other| other.identity == one.identity))
    };
    let mut by_fence: BTreeMap<u64, Vec<&Node>> = BTreeMap::new();
    for (i, report) in &reports {
        if let (Some(report), Some(node)) = (report.as_ref().filter(|r| is_meant(r)), members.nodes.get(*i)) {
            by_fence.entry(report.fence).or_default().push(node);
        }
    }
    let keys = members.keys(name);
    let (mut broken, mut other, mut trouble) = (0, false, None);
    for (fence, nodes) in by_fence {
        let round = script::with_break(Some(fence), |argv| {
            let call = Call::new(&BREAK, &keys, argv);
            ask(&nodes, &call, Kind::Parting(Purpose::Apart), members.limit, |round| round.pending() == 0)
        });
        if round.values().count() < nodes.len() {
            trouble = Some(members.no_majority(&round));
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
    let unknowing: Vec<&Node> = reports
        .iter()
        .filter(|(_, report)| report.is_none())
        .filter_map(|(i, _)| members.nodes.get(*i))
        .collect();
    let mut without = broken + unknowing.len();
    if members.grace.is_some() && !unknowing.is_empty() {
        // They may have lost their memory, and would put it back.
        let round = script::with_break(Some(meant), |argv| {
            let call = Call::new(&BREAK, &keys, argv);
            let kind = Kind::Parting(Purpose::Apart);
            ask(&unknowing, &call, kind, members.limit, |round| round.pending() == 0)
        });
        without = broken + round.values().count();
    }
    if broken > 0 && without >= members.majority() {
        return Ok(Broken::Yes);
    }
    match trouble {
        _ if other => Ok(Broken::Another),
        Some(error) => Err(error),
        None => Ok(Broken::Free),
    }
}

/// Where no majority knows of a holder: those servers that may have lost their memory, and would put one back, are told
/// that whoever was given this fencing token, or a smaller one, is broken.
fn break_unseen(members: &Members, name: &LockName, meant: u64) -> Result<Broken> {
    let kind = Kind::Parting(Purpose::Apart);
    let round = script::with_break(Some(meant), |argv| {
        members.run(&BREAK, name, argv, kind, |round| round.pending() == 0)
    });
    if round.values().count() < members.majority() {
        return Err(members.no_majority(&round));
    }
    let told = |what| round.values().filter(|(_, value)| reply::broken(value, false) == Some(what)).count();
    Ok(match (told(Broken::Yes), told(Broken::Another)) {
        (broken, _) if broken >= members.majority() => Broken::Yes,
        (_, 0) => Broken::Free,
        _ => Broken::Another,
    })
}

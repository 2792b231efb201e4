//! One report of those of several servers.

use std::collections::BTreeMap;

use crate::key::LockName;
use crate::report::{Holder, LockReport};

/// The holders that a majority of `servers` may know, given what those say that answered; `None` when
/// there is no such holder.
pub(super) fn merge(reports: &[Option<LockReport>], servers: usize) -> Option<LockReport> {
    let silent = servers - reports.len().min(servers);
    let known: Vec<&LockReport> = reports.iter().flatten().collect();
    // All servers know one holder by the same identity, and where several have the same (two shared
    // locks of one request) by the same number of them.
    let mut votes: Vec<(&Holder, usize, usize)> = Vec::new();
    for report in &known {
        for (i, holder) in report.holders.iter().enumerate() {
            let like = |other: &&Holder| other.identity == holder.identity;
            let which = report.holders.iter().take(i).filter(like).count();
            match votes.iter_mut().find(|(other, nth, _)| like(other) && *nth == which) {
                Some((newest, _, count)) => {
                    *count += 1;
                    if holder.fence > newest.fence {
                        *newest = holder;
                    }
                }
                None => votes.push((holder, which, 1)),
            }
        }
    }
    let mut holders: Vec<Holder> = votes
        .into_iter()
        .filter(|(.., count)| count + silent > servers / 2)
        .map(|(holder, ..)| holder.clone())
        .collect();
    holders.sort_by_key(|holder| holder.fence);
    // Those who wait are known to all of them, in the same order; one that was away knows less.
    let model = known.iter().max_by_key(|report| report.waiters.len())?;
    Some(LockReport {
        name: model.name.clone(),
        mode: known
            .iter()
            .find(|r| r.holders.iter().any(|h| holders.contains(h)))
            .map_or(model.mode, |r| r.mode),
        fence: holders.last()?.fence,
        ttl: holders.iter().map(|holder| holder.lease_left).max()?,
        since: holders.first()?.since,
        holders,
        waiters: model.waiters.clone(),
    })
}

/// [`merge`] for all locks that any server lists, at most `limit`, sorted by name.
pub(super) fn merge_lists(lists: &[Vec<LockReport>], servers: usize, limit: usize) -> Vec<LockReport> {
    let mut by_name: BTreeMap<&LockName, Vec<Option<LockReport>>> = BTreeMap::new();
    for report in lists.iter().flatten() {
        by_name.entry(&report.name).or_default().push(Some(report.clone()));
    }
    by_name
        .into_values()
        .filter_map(|mut reports| {
            // Who lists it not says that nobody holds it.
            reports.resize(lists.len().max(reports.len()), None);
            merge(&reports, servers)
        })
        .take(limit)
        .collect()
}

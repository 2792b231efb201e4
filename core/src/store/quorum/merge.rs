//! One report of those of several servers.

use std::collections::BTreeMap;

use crate::key::LockName;
use crate::report::{Holder, Identity, LockReport, Waiter};

/// What a majority of `servers` may agree on, given what those say that answered: who holds, who waits.
/// `None` when nobody holds it.
pub(super) fn merge(reports: &[Option<LockReport>], servers: usize) -> Option<LockReport> {
    let silent = servers - reports.len().min(servers);
    let agreed = |votes: usize| votes + silent > servers / 2;
    let known: Vec<&LockReport> = reports.iter().flatten().collect();
    let mut holders = Vec::new();
    for held in alike(known.iter().map(|report| report.holders.as_slice()), |h| &h.identity) {
        // Servers whose answer its holder did not wait for may have given it another token.
        let votes = |fence: u64| held.iter().filter(|other| other.fence == fence).count();
        let most = held.iter().max_by_key(|other| (votes(other.fence), other.fence));
        holders.extend(most.filter(|_| agreed(held.len())).map(|most| Holder::clone(most)));
    }
    holders.sort_by_key(|holder| holder.fence);
    let mut waiters = Vec::new();
    for waiting in alike(known.iter().map(|report| report.waiters.as_slice()), |w| &w.identity) {
        let last = waiting.iter().max_by(|a, b| a.since.total_cmp(&b.since));
        waiters.extend(last.filter(|_| agreed(waiting.len())).map(|last| Waiter::clone(last)));
    }
    waiters.sort_by(|a, b| a.since.total_cmp(&b.since));
    let (oldest, newest) = (holders.first()?, holders.last()?);
    let says_so = |report: &&&LockReport| report.holders.iter().any(|h| h.identity == oldest.identity);
    let model = known.iter().find(says_so)?;
    Some(LockReport {
        name: model.name.clone(),
        mode: model.mode,
        fence: newest.fence,
        ttl: holders.iter().map(|holder| holder.lease_left).max()?,
        since: oldest.since,
        holders,
        waiters,
    })
}

/// What the lists have in common: for each holder, or waiter, its entries in all of them. They have one identity,
/// and where several of one list do (two shared locks of one request) one number among them.
fn alike<'a, T: 'a>(
    lists: impl Iterator<Item = &'a [T]>,
    identity: impl Fn(&T) -> &Identity,
) -> Vec<Vec<&'a T>> {
    let mut found: Vec<(usize, Vec<&T>)> = Vec::new();
    for list in lists {
        for (i, one) in list.iter().enumerate() {
            let same = |other: &T| identity(other) == identity(one);
            let nth = list.iter().take(i).filter(|other| same(other)).count();
            match found.iter_mut().find(|(n, others)| *n == nth && others.first().is_some_and(|o| same(o))) {
                Some((_, others)) => others.push(one),
                None => found.push((nth, vec![one])),
            }
        }
    }
    found.into_iter().map(|(_, others)| others).collect()
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

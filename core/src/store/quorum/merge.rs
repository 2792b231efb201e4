//! One report of those of several servers.

use std::collections::{BTreeMap, HashMap};

use crate::key::LockName;
use crate::report::{Holder, Identity, LockReport, Waiter};

/// What a majority of `servers` may agree on, given what those say that answered: who holds, who waits.
/// `None` when nobody holds it.
pub(super) fn merge(reports: &[Option<LockReport>], servers: usize) -> Option<LockReport> {
    let silent = servers - reports.len().min(servers);
    let agreed = |votes: usize| votes + silent > servers / 2;
    let known: Vec<&LockReport> = reports.iter().flatten().collect();
    let mut holders = Vec::new();
    for held in held(&known, servers) {
        // Servers whose answer its holder did not wait for may have given it another token.
        let votes = |fence: u64| held.iter().filter(|other| other.fence == fence).count();
        let most = held.iter().max_by_key(|other| (votes(other.fence), other.fence));
        holders.extend(most.filter(|_| agreed(held.len())).map(|most| Holder::clone(most)));
    }
    holders.sort_by_key(|holder| holder.fence);
    let mut waiters = Vec::new();
    for waiting in alike(known.iter().map(|report| report.waiters.iter().collect()), |w| &w.identity) {
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

/// For each holder its entries in all reports. What a majority says of one token is one holder's; so is what another server
/// has of the same identity besides, which may have given it another token.
fn held<'a>(reports: &[&'a LockReport], servers: usize) -> Vec<Vec<&'a Holder>> {
    let mut left: Vec<Vec<&Holder>> = reports.iter().map(|report| report.holders.iter().collect()).collect();
    let same = |one: &Holder, other: &Holder| one.fence == other.fence && one.identity == other.identity;
    let mut votes: HashMap<(&Identity, u64), usize> = HashMap::new();
    for &one in left.iter().flatten() {
        *votes.entry((&one.identity, one.fence)).or_default() += 1;
    }
    let mut agreed =
        |one: &'a Holder| votes.remove(&(&one.identity, one.fence)).is_some_and(|n| n > servers / 2);
    let certain: Vec<&Holder> = left.iter().flatten().filter(|&&one| agreed(one)).copied().collect();
    let mut entries: Vec<Vec<Option<&Holder>>> = certain
        .iter()
        .map(|one| left.iter_mut().map(|list| take(list, |other| same(one, other))).collect())
        .collect();
    for (one, entries) in certain.iter().zip(&mut entries) {
        for (list, entry) in left.iter_mut().zip(entries).filter(|(_, entry)| entry.is_none()) {
            *entry = take(list, |other| other.identity == one.identity);
        }
    }
    let certain = entries.into_iter().map(|entries| entries.into_iter().flatten().collect());
    certain.chain(alike(left.into_iter(), |holder| &holder.identity)).collect()
}

fn take<'a>(list: &mut Vec<&'a Holder>, wanted: impl Fn(&Holder) -> bool) -> Option<&'a Holder> {
    let place = list.iter().position(|holder| wanted(holder))?;
    Some(list.remove(place))
}

/// What the lists have in common: for each holder, or waiter, its entries in all of them. They have one identity,
/// and where several of one list do (two shared locks of one request) one number among them.
fn alike<'a, T>(
    lists: impl Iterator<Item = Vec<&'a T>>,
    identity: impl Fn(&'a T) -> &'a Identity,
) -> Vec<Vec<&'a T>> {
    let mut found: Vec<Vec<&T>> = Vec::new();
    let mut places: HashMap<(&Identity, usize), usize> = HashMap::new();
    for list in lists {
        let mut seen: HashMap<&Identity, usize> = HashMap::new();
        for one in list {
            let nth = seen.entry(identity(one)).or_default();
            *nth += 1;
            let place = *places.entry((identity(one), *nth)).or_insert(found.len());
            match found.get_mut(place) {
                Some(others) => others.push(one),
                None => found.push(vec![one]),
            }
        }
    }
    found
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use crate::report::Mode;

    /// A server's report of readers of one request, by their tokens.
    fn readers(fences: &[u64]) -> Option<LockReport> {
        let holders: Vec<_> = fences
            .iter()
            .map(|&fence| Holder {
                identity: Identity::default(),
                since: 1.0,
                fence,
                lease_left: Duration::from_secs(1),
            })
            .collect();
        Some(LockReport {
            name: LockName::new(b"job").unwrap(),
            mode: Mode::Shared,
            fence: *fences.last()?,
            ttl: Duration::from_secs(1),
            since: 1.0,
            holders,
            waiters: Vec::new(),
        })
    }

    fn merged(reports: &[&[u64]], servers: usize) -> Vec<u64> {
        let reports: Vec<_> = reports.iter().map(|fences| readers(fences)).collect();
        merge(&reports, servers)
            .map_or_else(Vec::new, |report| report.holders.iter().map(|h| h.fence).collect())
    }

    #[test]
    fn readers_that_some_server_has_not_heard_of_are_not_taken_for_one() {
        assert_eq!(merged(&[&[10, 20], &[20], &[10]], 3), [10, 20]);
        assert_eq!(merged(&[&[10, 20], &[10, 20], &[]], 3), [10, 20]);
        assert_eq!(merged(&[&[10, 20], &[20], &[]], 3), [20], "one server is no majority");
    }

    #[test]
    fn another_token_of_a_late_server_makes_no_other_holder() {
        assert_eq!(merged(&[&[10], &[10], &[7]], 3), [10]);
        assert_eq!(merged(&[&[10], &[10], &[10], &[7]], 5), [10]);
        assert_eq!(merged(&[&[5], &[6], &[7]], 3), [7], "no two agree, and it is the same");
        assert_eq!(merged(&[&[10, 20], &[7, 20], &[10]], 3), [10, 20]);
    }
}

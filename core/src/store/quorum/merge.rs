//! One report of those of several servers.

use std::collections::{BTreeMap, HashMap};

use crate::key::LockName;
use crate::report::{Holder, Identity, LockReport, Waiter};

/// What a majority of `servers` may agree on, given what those say that answered: who holds, who waits.
/// `None` when nobody holds it. A server that has more than it tells of may agree on whom it leaves out.
///
/// How many there are: so many as a majority has, at least; those of them that are not told of are the further ones.
pub(super) fn merge(reports: &[Option<LockReport>], servers: usize) -> Option<LockReport> {
    let silent = servers - reports.len().min(servers);
    let agreed = |votes: usize| votes + silent > servers / 2;
    let known: Vec<&LockReport> = reports.iter().flatten().collect();
    let cut =
        |more: fn(&LockReport) -> usize| known.iter().map(|&report| more(report) > 0).collect::<Vec<_>>();
    let further = |cut: &[bool], all: fn(&LockReport) -> usize, told: usize| {
        let all = known.iter().map(|&report| all(report)).collect();
        if cut.contains(&true) { of_majority(all, servers, silent).saturating_sub(told) } else { 0 }
    };
    let cut_holders = cut(|report| report.more_holders);
    let mut holders = Vec::new();
    for held in held(&known, servers) {
        // Servers whose answer its holder did not wait for may have given it another token.
        let votes = |fence: u64| held.iter().filter(|(_, other)| other.fence == fence).count();
        let most = held.iter().max_by_key(|(_, other)| (votes(other.fence), other.fence));
        holders.extend(
            most.filter(|_| agreed(votes_of(&held, &cut_holders))).map(|(_, most)| Holder::clone(most)),
        );
    }
    holders.sort_by_key(|holder| holder.fence);
    let cut_waiters = cut(|report| report.more_waiters);
    let mut waiters = Vec::new();
    for waiting in alike(lists(&known, |report| &report.waiters).into_iter(), |w| &w.identity) {
        let last = waiting.iter().max_by(|(_, a), (_, b)| a.since.total_cmp(&b.since));
        let is_agreed = agreed(votes_of(&waiting, &cut_waiters));
        waiters.extend(last.filter(|_| is_agreed).map(|(_, last)| Waiter::clone(last)));
    }
    waiters.sort_by(|a, b| a.since.total_cmp(&b.since));
    let (oldest, newest) = (holders.first()?, holders.last()?);
    let says_so = |report: &&&LockReport| report.holders.iter().any(|h| h.identity == oldest.identity);
    let model = known.iter().find(says_so)?;
    let fence = if cut_holders.contains(&true) {
        // The newest is perhaps not told of.
        newest.fence.max(of_majority(known.iter().map(|report| report.fence).collect(), servers, silent))
    } else {
        newest.fence
    };
    Some(LockReport {
        name: model.name.clone(),
        mode: model.mode,
        fence,
        ttl: holders.iter().map(|holder| holder.lease_left).max()?,
        since: oldest.since,
        more_holders: further(&cut_holders, LockReport::holding, holders.len()),
        more_waiters: further(&cut_waiters, LockReport::waiting, waiters.len()),
        holders,
        waiters,
    })
}

/// What a majority has at least: of `numbers`, one for each server that has any, when those that are silent may have it.
fn of_majority<T: Copy + Default + Ord>(mut numbers: Vec<T>, servers: usize, silent: usize) -> T {
    numbers.sort_unstable();
    let others = (servers / 2).saturating_sub(silent);
    numbers.into_iter().rev().nth(others).unwrap_or_default()
}

/// What a report has of holders, or waiters, each with the number of the report.
type Entry<'a, T> = (usize, &'a T);

fn lists<'a, T>(reports: &[&'a LockReport], of: fn(&'a LockReport) -> &'a [T]) -> Vec<Vec<Entry<'a, T>>> {
    let list = |(i, &report): (usize, &&'a LockReport)| of(report).iter().map(|one| (i, one)).collect();
    reports.iter().enumerate().map(list).collect()
}

/// How many reports have it, with those that may have it: what they tell was [cut](LockReport::more_holders).
fn votes_of<T>(entries: &[Entry<'_, T>], cut: &[bool]) -> usize {
    let silent = |&(i, &cut): &(usize, &bool)| cut && entries.iter().all(|&(which, _)| which != i);
    entries.len() + cut.iter().enumerate().filter(silent).count()
}

/// For each holder its entries in all reports. What a majority says of one token is one holder's; so is what another server
/// has of the same identity besides, which may have given it another token.
fn held<'a>(reports: &[&'a LockReport], servers: usize) -> Vec<Vec<Entry<'a, Holder>>> {
    let mut left = lists(reports, |report| &report.holders);
    let same = |one: &Holder, other: &Holder| one.fence == other.fence && one.identity == other.identity;
    let mut votes: HashMap<(&Identity, u64), usize> = HashMap::new();
    for &(_, one) in left.iter().flatten() {
        *votes.entry((&one.identity, one.fence)).or_default() += 1;
    }
    let mut agreed =
        |one: &'a Holder| votes.remove(&(&one.identity, one.fence)).is_some_and(|n| n > servers / 2);
    let certain: Vec<&Holder> =
        left.iter().flatten().filter(|&&(_, one)| agreed(one)).map(|&(_, one)| one).collect();
    let mut entries: Vec<Vec<Option<Entry<'_, Holder>>>> = certain
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

fn take<'a>(
    list: &mut Vec<Entry<'a, Holder>>,
    wanted: impl Fn(&Holder) -> bool,
) -> Option<Entry<'a, Holder>> {
    let place = list.iter().position(|(_, holder)| wanted(holder))?;
    Some(list.remove(place))
}

/// What the lists have in common: for each holder, or waiter, its entries in all of them. They have one identity,
/// and where several of one list do (two shared locks of one request) one number among them.
fn alike<'a, T>(
    lists: impl Iterator<Item = Vec<Entry<'a, T>>>,
    identity: impl Fn(&'a T) -> &'a Identity,
) -> Vec<Vec<Entry<'a, T>>> {
    let mut found: Vec<Vec<Entry<'_, T>>> = Vec::new();
    let mut places: HashMap<(&Identity, usize), usize> = HashMap::new();
    for list in lists {
        let mut seen: HashMap<&Identity, usize> = HashMap::new();
        for (i, one) in list {
            let nth = seen.entry(identity(one)).or_default();
            *nth += 1;
            let place = *places.entry((identity(one), *nth)).or_insert(found.len());
            match found.get_mut(place) {
                Some(others) => others.push((i, one)),
                None => found.push(vec![(i, one)]),
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
            more_holders: 0,
            more_waiters: 0,
        })
    }

    /// A server's report of waiters, in order, and how many more it has.
    fn waiters(nodes: &[&str], more: usize) -> Option<LockReport> {
        let waiter = |(place, node): (u32, &&str)| Waiter {
            identity: Identity { node: (*node).to_owned(), ..Identity::default() },
            since: place.into(),
            mode: Mode::Exclusive,
        };
        let waiters = (0..).zip(nodes).map(waiter).collect();
        Some(LockReport { waiters, more_waiters: more, ..readers(&[10])? })
    }

    fn waiting(reports: &[Option<LockReport>]) -> (Vec<String>, usize) {
        let merged = merge(reports, 3).unwrap();
        (merged.waiters.into_iter().map(|waiter| waiter.identity.node).collect(), merged.more_waiters)
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

    #[test]
    fn whoever_a_server_does_not_tell_of_may_wait_there_all_the_same() {
        let told =
            |nodes: &[&str], more| (nodes.iter().map(|&node| node.to_owned()).collect::<Vec<_>>(), more);
        let all = [waiters(&["a", "b"], 3), waiters(&["a", "b"], 3), waiters(&["a", "b"], 3)];
        assert_eq!(waiting(&all), told(&["a", "b"], 3));
        let late = [waiters(&["a", "b"], 3), waiters(&["a", "c"], 3), waiters(&["a"], 0)];
        assert_eq!(waiting(&late), told(&["a", "b", "c"], 2), "five wait, says a majority");
        let lone = [waiters(&["a", "b"], 1), waiters(&["a"], 0), waiters(&["a"], 0)];
        assert_eq!(waiting(&lone), told(&["a"], 0), "two say that nobody else waits");
        let one_is_down = [waiters(&["a", "b"], 1), waiters(&["a"], 0)];
        assert_eq!(waiting(&one_is_down), told(&["a", "b"], 1), "the third may have all that the first has");
        let whole = [waiters(&["a", "b"], 0), waiters(&["b", "c"], 0), waiters(&["a", "c"], 0)];
        assert_eq!(waiting(&whole), told(&["a", "b", "c"], 0));
    }

    #[test]
    fn so_with_holders_whose_newest_token_is_told_all_the_same() {
        let cut = |fences: &[u64], newest: u64| {
            Some(LockReport { more_holders: 2, fence: newest, ..readers(fences)? })
        };
        let merged = merge(&[cut(&[10, 20], 50), cut(&[20, 30], 50), cut(&[10, 30], 60)], 3).unwrap();
        assert_eq!(merged.holders.iter().map(|h| h.fence).collect::<Vec<_>>(), [10, 20, 30]);
        assert_eq!((merged.more_holders, merged.fence), (1, 50));
    }
}

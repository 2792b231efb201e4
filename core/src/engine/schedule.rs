//! What is to be done when, lane by lane.
//!
//! An entry sleeps until it is due. Of those that are due the one with the earliest deadline goes first, whenever it came.
//! Everything here is logarithmic in the number of entries, of which there may be ten thousand, and nothing is done for
//! those that are not due.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::clock::Instant;

/// Whose due time is no further off goes along with those that are due. Less than the time for which a hand-over is left
/// unconfirmed.
const SOON: Duration = Duration::from_millis(25);

/// What is scheduled.
pub(super) trait Entry: Clone {
    /// Its own for as long as it is scheduled.
    fn id(&self) -> usize;

    /// When it is too late for it.
    fn deadline(&self, now: Instant) -> Instant;
}

/// When an entry's turn comes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Then.
    At(Instant),
    /// Then, and with no other at once.
    Alone(Instant),
    /// Never.
    Done,
}

pub(super) struct Schedule<E> {
    lanes: BTreeMap<usize, Queue<E>>,
    places: HashMap<usize, Place>,
}

/// By time and identity; true: it goes alone.
type Ordered<E> = BTreeMap<(Instant, usize), (E, bool)>;

struct Queue<E> {
    /// By when they are due.
    asleep: Ordered<E>,
    /// Those that are due, by deadline.
    ready: Ordered<E>,
}

/// Where an entry is.
#[derive(Clone, Copy)]
enum Place {
    Asleep(usize, Instant),
    Ready(usize, Instant),
    /// Picked, and not put back yet; by then it is due at the latest, if that was said meanwhile.
    Away(Option<Instant>),
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self { asleep: BTreeMap::new(), ready: BTreeMap::new() }
    }
}

impl<E> Default for Schedule<E> {
    fn default() -> Self {
        Self { lanes: BTreeMap::new(), places: HashMap::new() }
    }
}

impl<E: Entry> Schedule<E> {
    /// A new entry, due at `due`.
    pub(super) fn add(&mut self, lane: usize, entry: E, due: Instant) {
        self.lay(lane, entry, due, false);
    }

    fn lay(&mut self, lane: usize, entry: E, due: Instant, alone: bool) {
        let id = entry.id();
        self.places.insert(id, Place::Asleep(lane, due));
        self.lanes.entry(lane).or_default().asleep.insert((due, id), (entry, alone));
    }

    /// Removes an entry; one that has been picked is not put back.
    pub(super) fn remove(&mut self, id: usize) {
        if let Some(place) = self.places.remove(&id) {
            self.take(id, place);
        }
    }

    fn take(&mut self, id: usize, place: Place) -> Option<(E, bool)> {
        match place {
            Place::Asleep(lane, due) => self.lanes.get_mut(&lane)?.asleep.remove(&(due, id)),
            Place::Ready(lane, deadline) => self.lanes.get_mut(&lane)?.ready.remove(&(deadline, id)),
            Place::Away(_) => None,
        }
    }

    /// Has an entry be due at another time: on which lane does it sleep? One that has been picked is due by then when it
    /// is put back.
    pub(super) fn move_to(&mut self, id: usize, due: Instant) -> Option<usize> {
        let place = self.places.get(&id).copied()?;
        let lane = match place {
            Place::Asleep(lane, _) | Place::Ready(lane, _) => lane,
            Place::Away(_) => {
                self.places.insert(id, Place::Away(Some(due)));
                return None;
            }
        };
        let (entry, alone) = self.take(id, place)?;
        self.lay(lane, entry, due, alone);
        Some(lane)
    }

    /// Whether an entry is scheduled, or picked.
    pub(super) fn contains(&self, id: usize) -> bool {
        self.places.contains_key(&id)
    }

    /// When the first that sleeps on a lane is due.
    pub(super) fn first(&self, lane: usize) -> Option<Instant> {
        self.lanes.get(&lane)?.asleep.first_key_value().map(|((due, _), _)| *due)
    }

    /// Picks what is to be done now on a lane, `most` at most. Each is to be [put back](Self::put), whatever becomes of it.
    pub(super) fn pick(&mut self, lane: usize, now: Instant, most: usize) -> Vec<E> {
        let Some(queue) = self.lanes.get_mut(&lane) else { return Vec::new() };
        while let Some(first) = queue.asleep.first_entry().filter(|first| first.key().0 <= now) {
            let ((_, id), (entry, alone)) = first.remove_entry();
            let deadline = entry.deadline(now);
            self.places.insert(id, Place::Ready(lane, deadline));
            queue.ready.insert((deadline, id), (entry, alone));
        }
        let mut picked = Vec::new();
        while picked.len() < most {
            let Some(first) = queue.ready.first_entry() else { break };
            let alone = first.get().1;
            if alone && !picked.is_empty() {
                break;
            }
            picked.push(first.remove().0);
            if alone {
                break;
            }
        }
        let rest = if queue.ready.is_empty() && !picked.is_empty() { most } else { 0 };
        while picked.len() < rest {
            let soon = |key: Instant, alone: bool| key <= now + SOON && !alone;
            let next = queue.asleep.first_entry().filter(|first| soon(first.key().0, first.get().1));
            let Some(next) = next else { break };
            picked.push(next.remove().0);
        }
        for entry in &picked {
            self.places.insert(entry.id(), Place::Away(None));
        }
        picked
    }

    /// Puts back what was picked, on the lane on which it is now; unless it was removed meanwhile.
    pub(super) fn put(&mut self, lane: usize, entry: E, next: Next) {
        let id = entry.id();
        let latest = match self.places.get(&id) {
            None => return,
            Some(Place::Away(latest)) => *latest,
            Some(_) => None,
        };
        let by = |due: Instant| latest.map_or(due, |latest| latest.min(due));
        match next {
            Next::At(due) => self.lay(lane, entry, by(due), false),
            Next::Alone(due) => self.lay(lane, entry, by(due), true),
            Next::Done => drop(self.places.remove(&id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its number, and its deadline in milliseconds.
    #[derive(Clone, Debug, PartialEq)]
    struct Fake(usize, u64);

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    impl Entry for Fake {
        fn id(&self) -> usize {
            self.0
        }

        fn deadline(&self, _: Instant) -> Instant {
            at(self.1)
        }
    }

    fn picked(schedule: &mut Schedule<Fake>, lane: usize, ms: u64, most: usize) -> Vec<usize> {
        schedule.pick(lane, at(ms), most).iter().map(Entry::id).collect()
    }

    #[test]
    fn of_those_that_are_due_the_earliest_deadline_goes_first() {
        let mut s = Schedule::default();
        for (id, due, deadline) in [(1, 100, 900), (2, 200, 500), (3, 300, 700), (4, 1000, 400)] {
            s.add(0, Fake(id, deadline), at(due));
        }
        assert_eq!(s.first(0), Some(at(100)));
        assert_eq!(picked(&mut s, 0, 50, 9), [0; 0]);
        // 4 has the earliest, and is not due.
        assert_eq!(picked(&mut s, 0, 300, 2), [2, 3]);
        // What comes now, and is urgent, goes before what is late already.
        s.add(0, Fake(5, 350), at(301));
        assert_eq!(picked(&mut s, 0, 301, 1), [5]);
        assert_eq!(picked(&mut s, 0, 301, 1), [1]);
    }

    #[test]
    fn lanes_are_apart() {
        let mut s = Schedule::default();
        s.add(1, Fake(1, 10), at(1));
        s.add(2, Fake(2, 10), at(2));
        assert_eq!((s.first(1), s.first(2), s.first(3)), (Some(at(1)), Some(at(2)), None));
        assert_eq!(picked(&mut s, 2, 5, 9), [2]);
        // It has moved to another lane meanwhile.
        s.put(1, Fake(2, 10), Next::At(at(5)));
        assert_eq!(picked(&mut s, 2, 5, 9), [0; 0]);
        assert_eq!(picked(&mut s, 1, 5, 9), [1, 2]);
    }

    #[test]
    fn what_is_due_soon_goes_along_and_only_then() {
        let mut s = Schedule::default();
        s.add(0, Fake(1, 500), at(100));
        s.add(0, Fake(2, 400), at(120));
        s.add(0, Fake(3, 300), at(500));
        assert_eq!(picked(&mut s, 0, 90, 9), [0; 0]);
        assert_eq!(picked(&mut s, 0, 100, 9), [1, 2]);
    }

    #[test]
    fn one_that_goes_alone_is_picked_alone() {
        let mut s = Schedule::default();
        for id in 1..=4 {
            s.add(0, Fake(id, 100 * id as u64), at(10));
        }
        assert_eq!(picked(&mut s, 0, 10, 9), [1, 2, 3, 4]);
        for (id, next) in [(1, Next::At(at(20))), (2, Next::Alone(at(20))), (3, Next::At(at(20)))] {
            s.put(0, Fake(id, 100 * id as u64), next);
        }
        s.put(0, Fake(4, 400), Next::Done);
        assert!(!s.contains(4));
        assert_eq!(picked(&mut s, 0, 20, 9), [1]);
        assert_eq!(picked(&mut s, 0, 20, 9), [2]);
        assert_eq!(picked(&mut s, 0, 20, 9), [3]);
    }

    #[test]
    fn what_is_removed_is_gone_wherever_it_was() {
        let mut s = Schedule::default();
        for id in 1..=3 {
            s.add(0, Fake(id, 100), at(10 * id as u64));
        }
        s.remove(2);
        assert_eq!(picked(&mut s, 0, 30, 1), [1]);
        s.remove(1);
        s.put(0, Fake(1, 100), Next::At(at(40)));
        // 3 is ready.
        s.remove(3);
        assert!(picked(&mut s, 0, 99, 9).is_empty() && s.first(0).is_none());
        assert!(![1, 2, 3].iter().any(|id| s.contains(*id)));
    }

    #[test]
    fn a_sleeper_is_due_earlier_or_later_when_it_is_told_so() {
        let mut s = Schedule::default();
        s.add(7, Fake(1, 100), at(1000));
        assert_eq!(s.move_to(1, at(50)), Some(7));
        assert_eq!((s.first(7), s.move_to(2, at(50))), (Some(at(50)), None));
        assert_eq!(picked(&mut s, 7, 50, 1), [1]);
        assert_eq!(s.move_to(1, at(60)), None);
        // What is found out meanwhile is known of the time before.
        s.put(7, Fake(1, 100), Next::At(at(900)));
        assert_eq!(s.first(7), Some(at(60)));
        s.add(7, Fake(2, 80), at(55));
        assert_eq!(picked(&mut s, 7, 70, 1), [2]);
        // 1 is ready.
        assert_eq!((s.move_to(1, at(90)), s.first(7)), (Some(7), Some(at(90))));
    }
}

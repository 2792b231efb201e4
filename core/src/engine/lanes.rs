//! The background threads, one for each lane of the store.
//!
//! What has to be done for locks of one server does not wait for another server: a store says on which lane a lock is
//! ([`Store::lane_of`](crate::store::Store::lane_of)), and each lane has a thread, started with the first lease on it that
//! needs it; it ends when there has been nothing to do for [`LINGER`]. A process with one server has one. All signals
//! are blocked in them: PHP's timers and handlers belong to the threads that run PHP.
//!
//! Adding a lease wakes the thread only when that lease is due before the moment for which the thread sleeps anyway, so
//! that short locks cost no wake-up. What is due is done in batches, as many at once as the store takes in one round trip;
//! before each, the most urgent are chosen anew.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::lease_state::LeaseState;
use super::renewal::{Abandoned, Job, Work, id_of};
use super::schedule::{Entry, Next, Schedule};
use crate::clock::Instant;
use crate::key::LockName;
use crate::thread::{self, lock};

/// After so long without anything to do a thread ends.
const LINGER: Duration = Duration::from_secs(60);

/// So many tokens are released in the background at a time; what comes on top is left to its lease.
const ABANDONED: usize = 1000;

/// How soon the first such release is tried: its caller has just failed.
const RELEASE_AFTER: Duration = Duration::from_millis(100);

/// For so long the last batch tells how the next one will fare. One that has failed is tried again sooner.
const RECENT: Duration = Duration::from_secs(5);

/// At the end of the process a release that is under way is waited for no longer than this.
const LAST_RELEASE: Duration = Duration::from_millis(50);

/// The threads of an engine.
pub(super) struct Lanes(Arc<Shared>);

struct Shared {
    work: Box<dyn Work>,
    linger: Duration,
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Default)]
struct State {
    schedule: Schedule<Job>,
    lanes: BTreeMap<usize, Lane>,
    /// How many releases are in the schedule.
    abandoned: usize,
    stop: bool,
}

/// A lane, and its thread.
#[derive(Default)]
struct Lane {
    changed: Arc<Condvar>,
    thread: Option<JoinHandle<()>>,
    running: bool,
    /// For when the thread has set its alarm; `None` while it sleeps without.
    alarm: Option<Instant>,
    /// Since when a batch is under way, and whether a lease depends on it.
    step: Option<(Instant, bool)>,
    last: Option<Last>,
}

/// The last batch of a lane.
struct Last {
    ended: Instant,
    took: Duration,
    /// All of it was answered.
    answered: bool,
}

impl Lanes {
    /// No threads yet.
    pub(super) fn new(work: Box<dyn Work>) -> Self {
        Self::with(work, LINGER)
    }

    fn with(work: Box<dyn Work>, linger: Duration) -> Self {
        Self(Arc::new(Shared { work, linger, state: Mutex::default(), ended: Condvar::new() }))
    }

    /// Keeps a lease alive from `due` on.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(super) fn keep(&self, lease: &Arc<LeaseState>, due: Instant) -> std::io::Result<()> {
        let lane = self.0.work.lane_of(&lease.name);
        let mut state = self.0.lock();
        self.0.start(&mut state, lane)?;
        state.schedule.add(lane, Job::Renew(Arc::clone(lease)), due);
        state.ring(lane, due);
        Ok(())
    }

    /// Stops keeping a lease alive. A renewal that is under way may still arrive at the server.
    pub(super) fn let_go(&self, lease: &Arc<LeaseState>) {
        self.0.lock().schedule.remove(id_of(lease));
    }

    /// Whether a lease is kept alive.
    pub(super) fn keeps(&self, lease: &Arc<LeaseState>) -> bool {
        self.0.lock().schedule.contains(id_of(lease))
    }

    /// A lease that is kept alive was renewed by its holder, and is due at `due` now.
    pub(super) fn reset(&self, lease: &Arc<LeaseState>, due: Instant) {
        let mut state = self.0.lock();
        if let Some(lane) = state.schedule.move_to(id_of(lease), due) {
            state.ring(lane, due);
        }
    }

    /// Releases a token until there is an answer; [`ABANDONED`] of them at a time.
    pub(super) fn abandon(&self, abandoned: Abandoned) {
        // Without a thread, or without an end of them, its lease will run out.
        let _ = self.abandon_at(Instant::now() + RELEASE_AFTER, abandoned);
    }

    /// The same from `due` on, unless it is [spared](Lanes::spare) until then. `None`: that cannot be done.
    pub(super) fn abandon_at(&self, due: Instant, abandoned: Abandoned) -> Option<Arc<Abandoned>> {
        let abandoned = Arc::new(abandoned);
        let job = Job::Release(Arc::clone(&abandoned));
        let lane = self.0.work.lane_of(job.name());
        let mut state = self.0.lock();
        if state.abandoned >= ABANDONED || state.stop || self.0.start(&mut state, lane).is_err() {
            return None;
        }
        state.abandoned += 1;
        state.schedule.add(lane, job, due);
        state.ring(lane, due);
        Some(abandoned)
    }

    /// There is an answer: it is released no more.
    pub(super) fn spare(&self, abandoned: &Arc<Abandoned>) {
        let mut state = self.0.lock();
        let id = Job::Release(Arc::clone(abandoned)).id();
        if state.schedule.contains(id) {
            state.schedule.remove(id);
            state.abandoned -= 1;
        }
    }

    /// There will be no answer: it is released now.
    pub(super) fn hurry(&self, abandoned: &Arc<Abandoned>) {
        let mut state = self.0.lock();
        let now = Instant::now();
        if let Some(lane) = state.schedule.move_to(Job::Release(Arc::clone(abandoned)).id(), now) {
            state.ring(lane, now);
        }
    }

    /// Whether a lease of a lock that is due at `due`, and of which `left` is left, can be expected to be renewed in time:
    /// half of that is enough for what is under way, and for its own renewal.
    pub(super) fn is_prompt(&self, name: &LockName, due: Instant, left: Duration) -> bool {
        let lane = self.0.work.lane_of(name);
        let state = self.0.lock();
        let Some(lane) = state.lanes.get(&lane) else { return true };
        let now = Instant::now();
        let last = lane.last.as_ref().filter(|last| now.since(last.ended) < RECENT);
        let took = last.map_or(Duration::ZERO, |last| last.took);
        let under_way = lane.step.map_or(Duration::ZERO, |(since, _)| now.since(since));
        last.is_none_or(|last| last.answered) && due.since(now) + 2 * took.max(under_way) <= left / 2
    }

    /// Ends the threads, and waits for those that renew a lease for at most `limit`.
    pub(super) fn stop(&self, limit: Duration) {
        let mut state = self.0.lock();
        state.stop = true;
        state.lanes.values().for_each(|lane| lane.changed.notify_all());
        let now = Instant::now();
        loop {
            let waits = |lane: &&Lane| lane.running;
            let ends = |lane: &Lane| match lane.step {
                Some((_, false)) => now + limit.min(LAST_RELEASE),
                _ => now + limit,
            };
            let end = state.lanes.values().filter(waits).map(ends).max();
            let Some(end) = end.filter(|end| !end.has_passed()) else { break };
            state =
                self.0.ended.wait_timeout(state, end.remaining()).unwrap_or_else(PoisonError::into_inner).0;
        }
        let over = state.lanes.values_mut().filter(|lane| !lane.running);
        let threads: Vec<_> = over.filter_map(|lane| lane.thread.take()).collect();
        drop(state);
        for thread in threads {
            let _ = thread.join();
        }
    }
}

impl State {
    /// Something is due on a lane at `due`.
    fn ring(&mut self, lane: usize, due: Instant) {
        if let Some(lane) = self.lanes.get_mut(&lane)
            && lane.alarm.is_none_or(|alarm| due < alarm)
        {
            // Recorded at once, so that the next lease does not wake the thread again.
            lane.alarm = Some(due);
            lane.changed.notify_one();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Starts the thread of a lane, if it does not run.
    fn start(self: &Arc<Self>, state: &mut State, number: usize) -> std::io::Result<()> {
        let lane = state.lanes.entry(number).or_default();
        if lane.running || state.stop {
            return Ok(());
        }
        let shared = Arc::clone(self);
        let before = lane.thread.replace(thread::spawn("cluster_lock", move || shared.run(number))?);
        lane.running = true;
        if let Some(before) = before {
            // It has ended, but for its last instructions, for which nothing is locked.
            let _ = before.join();
        }
        Ok(())
    }

    fn run(self: &Arc<Self>, number: usize) {
        let mut state = self.lock();
        let changed = state.lanes.get(&number).map(|lane| Arc::clone(&lane.changed)).unwrap_or_default();
        while !state.stop {
            let now = Instant::now();
            let State { schedule, lanes, .. } = &mut *state;
            let Some(lane) = lanes.get_mut(&number) else { break };
            // An alarm that was set is slept out even when its lease is gone already: else a program
            // that locks and unlocks in a loop would wake this thread at every turn.
            if let Some(alarm) = lane.alarm.filter(|alarm| *alarm > now) {
                let woken = changed.wait_timeout(state, alarm.since(now));
                state = woken.unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            let picked = schedule.pick(number, now, self.work.at_once());
            if !picked.is_empty() {
                lane.step = Some((now, picked.iter().any(Job::renews)));
                drop(state);
                state = self.step(number, picked);
                continue;
            }
            lane.alarm = schedule.first(number);
            if lane.alarm.is_none() {
                let woken = changed.wait_timeout(state, self.linger);
                let (locked, waited) = woken.unwrap_or_else(PoisonError::into_inner);
                state = locked;
                if waited.timed_out() && state.lanes.get(&number).is_none_or(|lane| lane.alarm.is_none()) {
                    break;
                }
            }
        }
        if let Some(lane) = state.lanes.get_mut(&number) {
            lane.running = false;
        }
        self.ended.notify_all();
    }

    /// Carries out what was picked for a lane, and enters what has become of it. A panic, which would be a mistake of
    /// ours, must not end what else is kept alive: those that it leaves open are carried out alone, a little later.
    fn step(self: &Arc<Self>, number: usize, picked: Vec<Job>) -> MutexGuard<'_, State> {
        let mine = self.without_strays(number, picked);
        let mut nexts: Vec<Option<Next>> = vec![None; mine.len()];
        let mut told = |i: usize, next: Next| {
            if let Some(place) = nexts.get_mut(i) {
                *place = Some(next);
            }
        };
        let answered = catch_unwind(AssertUnwindSafe(|| self.work.carry_out(&mine, &mut told)));
        let at_once = mine.len() > 1 && answered.is_ok();
        let mut state = self.lock();
        for (job, next) in mine.into_iter().zip(nexts) {
            let next = next.unwrap_or_else(|| {
                let pause = if at_once { Duration::ZERO } else { job.retry_after() };
                Next::Alone(Instant::now() + pause)
            });
            if matches!((&job, next), (Job::Release(_), Next::Done)) && state.schedule.contains(job.id()) {
                state.abandoned -= 1;
            }
            state.schedule.put(number, job, next);
        }
        if let Some(lane) = state.lanes.get_mut(&number) {
            let ended = Instant::now();
            let took = lane.step.take().map_or(Duration::ZERO, |(began, _)| ended.since(began));
            lane.last = Some(Last { ended, took, answered: answered.unwrap_or(false) });
        }
        state
    }

    /// Hands on what is on another lane by now: a slot has moved, or a server was replaced. Where no thread can be started
    /// for it, it stays.
    fn without_strays(self: &Arc<Self>, number: usize, picked: Vec<Job>) -> Vec<Job> {
        let lanes: Vec<usize> = picked.iter().map(|job| self.work.lane_of(job.name())).collect();
        if lanes.iter().all(|lane| *lane == number) {
            return picked;
        }
        let mut state = self.lock();
        let (mut mine, now) = (Vec::with_capacity(picked.len()), Instant::now());
        for (job, lane) in picked.into_iter().zip(lanes) {
            if lane == number || self.start(&mut state, lane).is_err() {
                mine.push(job);
            } else {
                state.schedule.put(lane, job, Next::At(now));
                state.ring(lane, now);
            }
        }
        mine
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::renewal::Expected;
    use std::sync::mpsc::{Receiver, Sender, channel};

    use crate::report::Mode;
    use crate::store::Token;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// Does nothing but tell what it was asked for. A lock is on the lane that the first letter of its name says.
    struct Fake {
        said: Mutex<Sender<Vec<String>>>,
        carry_out: Box<dyn Fn(&str) -> Next + Send + Sync>,
    }

    impl Work for Fake {
        fn lane_of(&self, name: &LockName) -> usize {
            usize::from(name.as_bytes()[0] - b'0')
        }

        fn at_once(&self) -> usize {
            3
        }

        fn carry_out(&self, jobs: &[Job], told: &mut dyn FnMut(usize, Next)) -> bool {
            let names: Vec<String> = jobs.iter().map(|job| job.name().to_string()).collect();
            let _ = lock(&self.said).send(names.clone());
            for (number, name) in names.iter().enumerate() {
                told(number, (self.carry_out)(name));
            }
            true
        }
    }

    fn lanes(carry_out: impl Fn(&str) -> Next + Send + Sync + 'static) -> (Lanes, Receiver<Vec<String>>) {
        let (said, told) = channel();
        let work = Fake { said: Mutex::new(said), carry_out: Box::new(carry_out) };
        (Lanes::new(Box::new(work)), told)
    }

    fn lease(name: &str) -> Arc<LeaseState> {
        let name = LockName::new(name.as_bytes()).unwrap();
        let ttl = Duration::from_millis(200);
        Arc::new(LeaseState::new(name, Token::random(), Mode::Exclusive, 1, None, ttl, None))
    }

    #[test]
    fn a_lane_that_stands_still_holds_no_other_up() {
        let (go, wait) = channel::<()>();
        let wait = Mutex::new(wait);
        let (lanes, told) = lanes(move |name| {
            if name == "0 stands" {
                let _ = lock(&wait).recv();
            }
            Next::Done
        });
        let (stands, behind, well) = (lease("0 stands"), lease("0 behind"), lease("1 well"));
        lanes.keep(&stands, Instant::now()).unwrap();
        assert_eq!(told.recv_timeout(PATIENCE).unwrap(), ["0 stands"]);
        lanes.keep(&behind, Instant::now()).unwrap();
        lanes.keep(&well, Instant::now()).unwrap();
        assert_eq!(told.recv_timeout(PATIENCE).unwrap(), ["1 well"]);
        // Who gets a lock on the lane that stands cannot count on it, for longer and longer.
        let left = Duration::from_secs(2);
        let deadline = Instant::now() + PATIENCE;
        while lanes.is_prompt(&stands.name, Instant::now(), left) {
            assert!(!deadline.has_passed());
            std::thread::yield_now();
        }
        assert!(lanes.is_prompt(&well.name, Instant::now(), left));
        assert!(lanes.keeps(&stands) && lanes.keeps(&behind));
        // Released while it is renewed: it is not kept alive any more.
        lanes.let_go(&stands);
        drop(go);
        assert_eq!(told.recv_timeout(PATIENCE).unwrap(), ["0 behind"]);
        lanes.stop(PATIENCE);
        assert!(![&stands, &behind, &well].iter().any(|lease| lanes.keeps(lease)));
        assert!(told.try_recv().is_err());
    }

    #[test]
    fn a_panic_ends_neither_its_leases_renewals_nor_those_of_others() {
        let panics = Mutex::new(3);
        let (lanes, told) = lanes(move |name| {
            let mut left = panics.lock().unwrap_or_else(PoisonError::into_inner);
            assert!(name != "0 bad" || *left == 0, "as the test wants it: {}", {
                *left -= 1;
                *left
            });
            Next::Done
        });
        let (good, bad) = (lease("0 good"), lease("0 bad"));
        lanes.keep(&good, Instant::now() + Duration::from_millis(50)).unwrap();
        lanes.keep(&bad, Instant::now() + Duration::from_millis(50)).unwrap();
        let (mut good_turns, mut bad_turns) = (0, 0);
        while good_turns == 0 || bad_turns < 4 {
            let names = told.recv_timeout(PATIENCE).unwrap();
            good_turns += names.iter().filter(|name| *name == "0 good").count();
            bad_turns += names.iter().filter(|name| *name == "0 bad").count();
            assert!(bad_turns < 2 || names.len() == 1, "it takes another along: {names:?}");
        }
        lanes.stop(PATIENCE);
    }

    #[test]
    fn a_lease_changes_its_lane_when_its_lock_does() {
        /// One lock, which moves.
        struct Moving(Mutex<Sender<usize>>, std::sync::atomic::AtomicUsize);

        impl Work for Moving {
            fn lane_of(&self, _: &LockName) -> usize {
                self.1.load(std::sync::atomic::Ordering::SeqCst)
            }

            fn at_once(&self) -> usize {
                9
            }

            fn carry_out(&self, jobs: &[Job], told: &mut dyn FnMut(usize, Next)) -> bool {
                let lane = self.lane_of(jobs[0].name());
                self.1.store(lane + 1, std::sync::atomic::Ordering::SeqCst);
                let _ = lock(&self.0).send(lane);
                told(0, Next::At(Instant::now()));
                true
            }
        }

        let (said, told) = channel();
        let lanes = Lanes::new(Box::new(Moving(Mutex::new(said), 0.into())));
        let lease = lease("x");
        lanes.keep(&lease, Instant::now()).unwrap();
        for lane in 0..5 {
            assert_eq!(told.recv_timeout(PATIENCE).unwrap(), lane);
        }
        assert!(lanes.0.lock().lanes.len() >= 5);
        lanes.stop(PATIENCE);
    }

    #[test]
    fn a_thread_that_has_nothing_to_do_ends_and_is_started_again() {
        let (said, told) = channel();
        let work = Fake { said: Mutex::new(said), carry_out: Box::new(|_| Next::Done) };
        let lanes = Lanes::with(Box::new(work), Duration::from_millis(1));
        for _ in 0..3 {
            let lease = lease("0");
            lanes.keep(&lease, Instant::now()).unwrap();
            told.recv_timeout(PATIENCE).unwrap();
            let deadline = Instant::now() + PATIENCE;
            while lanes.0.lock().lanes.values().any(|lane| lane.running) {
                assert!(!deadline.has_passed());
                std::thread::yield_now();
            }
        }
        lanes.stop(PATIENCE);
    }

    #[test]
    fn no_more_tokens_are_released_in_the_background_than_can_be_counted() {
        let (lanes, told) = lanes(|_| Next::Done);
        let name = LockName::new(b"0").unwrap();
        let abandon = || {
            lanes.abandon(Abandoned::new(&name, &Token::random(), Expected::Acquire, Duration::ZERO));
        };
        (0..ABANDONED + 5).for_each(|_| abandon());
        let mut released = 0;
        while released < ABANDONED {
            released += told.recv_timeout(PATIENCE).unwrap().len();
        }
        let deadline = Instant::now() + PATIENCE;
        while lanes.0.lock().abandoned > 0 {
            assert!(!deadline.has_passed());
            std::thread::yield_now();
        }
        assert!(told.try_recv().is_err());
        abandon();
        assert_eq!(told.recv_timeout(PATIENCE).unwrap().len(), 1);
        lanes.stop(PATIENCE);
    }
}

//! What one holder does for all who want it done.

use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};

use cluster_lock_core::store::machine::SLACK;
use cluster_lock_core::store::{self, Attempt, Claim, Hold, IfBusy, Token};
use cluster_lock_core::{Acquired, Broken, Engine, Lease, Mode, Standing};

use crate::support::{Want, config, engine, name, until};
use crate::{Backend, MS, S, free_release, waiters};

/// Comes for a run of its own engine's, and waits; who it is stands in the queue, for so many that came before.
fn comes(b: &Backend, a: &Engine, lock: &'static str, before: usize) -> JoinHandle<Acquired> {
    let engine = engine(&b.dsn);
    let thread = thread::spawn(move || Want::default().for_run().ask(&engine, lock));
    until("it waits", || waiters(a, lock).len() == before + 1);
    thread
}

fn lease(acquired: Acquired) -> Lease {
    match acquired {
        Acquired::Held { lease, .. } => lease,
        other => panic!("{other:?}"),
    }
}

fn covered(acquired: Acquired) -> u64 {
    match acquired {
        Acquired::Covered { fence, .. } => fence,
        other => panic!("{other:?}"),
    }
}

/// The run under way does not cover them: it may have read before they wrote. The next one does.
pub(crate) fn many_that_come_at_once_cost_two_runs(b: &Backend) {
    let (a, c) = b.pair();
    let first = Want::default().for_run().get(&a, "runs");
    let others: Vec<_> = (0..7).map(|i| comes(b, &c, "runs", i)).collect();
    let report = c.info(&name("runs")).unwrap().unwrap();
    assert!(report.holders[0].identity.run && report.waiters.iter().all(|w| w.identity.run));
    assert!(report.waiters.iter().all(|w| w.mode == Mode::Exclusive));
    assert_eq!(first.complete().unwrap(), Standing::Ours);
    let mut others = others.into_iter();
    let second = lease(others.next().unwrap().join().unwrap());
    let fence = second.fence();
    assert_eq!(second.complete().unwrap(), Standing::Ours);
    for other in others {
        assert_eq!(covered(other.join().unwrap()), fence);
    }
    assert_eq!(c.info(&name("runs")).unwrap(), None);
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    assert_eq!((count(&a.counters().runs), count(&a.counters().runs_failed)), (1, 0));
}

/// Nor does one that only gives the lock back: whoever is next runs itself.
pub(crate) fn a_run_that_fails_covers_nobody(b: &Backend) {
    let (a, c) = b.pair();
    let first = Want::default().for_run().get(&a, "fails");
    let second = comes(b, &c, "fails", 0);
    let third = comes(b, &c, "fails", 1);
    free_release(first.release().unwrap());
    free_release(lease(second.join().unwrap()).release().unwrap());
    let third = lease(third.join().unwrap());
    assert_eq!(third.complete().unwrap(), Standing::Ours);
    assert_eq!(a.counters().runs_failed.load(Ordering::Relaxed), 1);
}

pub(crate) fn a_run_whose_lock_is_lost_covers_nobody(b: &Backend) {
    let (a, c) = b.pair();
    let first = Want::default().for_run().get(&a, "broken");
    let second = comes(b, &c, "broken", 0);
    let third = comes(b, &c, "broken", 1);
    assert_eq!(c.break_lock(&name("broken"), None).unwrap(), Broken::Yes);
    let second = lease(second.join().unwrap());
    let lost = first.complete().unwrap();
    assert!(matches!(lost, Standing::Lost(_)), "{lost:?}");
    assert!(!third.is_finished());
    let fence = second.fence();
    assert_eq!(second.complete().unwrap(), Standing::Ours);
    assert_eq!(covered(third.join().unwrap()), fence);
    assert_eq!(a.counters().runs_failed.load(Ordering::Relaxed), 1);
}

/// First come, first served; and whom a run covers takes nobody's turn.
pub(crate) fn plain_users_keep_their_turns_between_runs(b: &Backend) {
    let (a, c) = b.pair();
    let first = Want::default().for_run().get(&a, "turns");
    let second = comes(b, &c, "turns", 0);
    let plain = {
        let engine = engine(&b.dsn);
        thread::spawn(move || Want::default().ask(&engine, "turns"))
    };
    until("it waits", || waiters(&c, "turns").len() == 2);
    let third = comes(b, &c, "turns", 2);
    assert_eq!(first.complete().unwrap(), Standing::Ours);
    let second = lease(second.join().unwrap());
    assert!(!plain.is_finished() && !third.is_finished());
    let fence = second.fence();
    assert_eq!(second.complete().unwrap(), Standing::Ours);
    assert_eq!(covered(third.join().unwrap()), fence);
    let plain = lease(plain.join().unwrap());
    let fourth = comes(b, &c, "turns", 0);
    free_release(plain.release().unwrap());
    assert_eq!(lease(fourth.join().unwrap()).complete().unwrap(), Standing::Ours, "it ran itself");
}

/// Its time is up, it is interrupted and goes on in its place, or its turn comes.
pub(crate) fn a_wait_for_a_run_ends_like_any_other(b: &Backend) {
    let (a, c) = b.pair();
    let first = Want::default().for_run().get(&a, "ends");
    let want = Want::now().for_run();
    want.refused(&c, "ends");
    want.clone().within(100 * MS).refused(&c, "ends");
    assert_eq!(waiters(&a, "ends").len(), 0);
    let looks = std::sync::atomic::AtomicUsize::new(0);
    let interrupted = || looks.fetch_add(1, Ordering::Relaxed) > 0;
    let asked = Want::default().for_run().with(|how| {
        c.acquire(&name("ends"), &cluster_lock_core::Acquire { interrupted: &interrupted, ..*how })
    });
    let Ok(Acquired::Interrupted(pending)) = asked else { panic!("{asked:?}") };
    assert_eq!(first.complete().unwrap(), Standing::Ours);
    let resumed = Want::default().within(5 * S).for_run().with(|how| Engine::resume(pending, how));
    assert_eq!(lease(resumed.unwrap()).complete().unwrap(), Standing::Ours);
}

/// Its answer may be lost, and others have come and gone when it is said again.
pub(crate) fn a_run_that_nobody_waits_for_is_told_twice_the_same(b: &Backend) {
    let store = store::open(&config(&b.dsn)).unwrap();
    let (lock, token) = (name("again"), Token::random());
    let claim = Claim {
        name: &lock,
        token: &token,
        mode: Mode::Exclusive,
        run: true,
        ttl: 10 * S,
        identity: b"{}",
        place: 0,
        converts: 0,
        slack: SLACK,
        attempt: 0,
    };
    let Attempt::Held(grant) = store.attempt(&claim, IfBusy::Queue).unwrap() else { panic!("it is free") };
    assert!(matches!(store.complete(&Hold::of(&lock, &token), grant.fence + 1).unwrap(), Standing::Lost(_)));
    let token = Token::random();
    let claim = Claim { token: &token, ..claim };
    let Attempt::Held(grant) = store.attempt(&claim, IfBusy::Queue).unwrap() else { panic!("it is free") };
    for _ in 0..2 {
        assert_eq!(store.complete(&Hold::of(&lock, &token), grant.fence).unwrap(), Standing::Ours);
        free_release(Want::now().get(&b.pair().0, "again").release().unwrap());
    }
    let next = Token::random();
    let next = Claim { token: &next, ..claim.clone() };
    let Attempt::Held(later) = store.attempt(&next, IfBusy::Queue).unwrap() else { panic!("it is free") };
    assert!(later.fence > grant.fence);
    assert_eq!(store.complete(&Hold::of(&lock, next.token), later.fence).unwrap(), Standing::Ours);
    assert_eq!(
        store.complete(&Hold::of(&lock, &token), grant.fence).unwrap(),
        Standing::Ours,
        "a later one is complete"
    );
}

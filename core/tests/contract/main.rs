//! What every backend must do. One suite, run on each.
#![allow(
    clippy::needless_pass_by_value,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod runs;
#[path = "../support/mod.rs"]
mod support;

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use cluster_lock_core::{Acquire, Acquired, Broken, Engine, Error, LockName, Loss, Mode, Standing};
use runs::{
    a_run_that_fails_covers_nobody, a_run_that_nobody_waits_for_is_told_twice_the_same,
    a_run_whose_lock_is_lost_covers_nobody, a_wait_for_a_run_ends_like_any_other,
    many_that_come_at_once_cost_two_runs, plain_users_keep_their_turns_between_runs,
};
use support::cluster::ClusterSetup;
use support::sentinel::SentinelSetup;
use support::{RedisServer, Want, engine, name, quorum_dsn, until};

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

/// A backend, and what keeps it alive.
struct Backend {
    dsn: String,
    _alive: Box<dyn Any>,
}

impl Backend {
    fn redis() -> Self {
        let server = RedisServer::start(&[]);
        Self { dsn: server.unix_dsn(), _alive: Box::new(server) }
    }

    fn sentinel(options: &str) -> Self {
        let setup = SentinelSetup::start(1);
        Self { dsn: setup.dsn() + options, _alive: Box::new(setup) }
    }

    fn cluster() -> Self {
        let setup = ClusterSetup::start();
        Self { dsn: setup.dsn(), _alive: Box::new(setup) }
    }

    fn quorum() -> Self {
        let servers: Vec<_> = (0..3).map(|_| RedisServer::start(&[])).collect();
        Self { dsn: quorum_dsn(&servers), _alive: Box::new(servers) }
    }

    fn local() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dsn: format!("local://{}", dir.path().display()), _alive: Box::new(dir) }
    }

    /// Two nodes.
    fn pair(&self) -> (Engine, Engine) {
        (engine(&self.dsn), engine(&self.dsn))
    }
}

fn waiters(engine: &Engine, lock: &str) -> Vec<String> {
    engine
        .info(&name(lock))
        .unwrap()
        .map(|r| r.waiters.into_iter().map(|w| w.identity.node).collect())
        .unwrap_or_default()
}

fn free_release(standing: Standing) {
    assert!(standing == Standing::Ours, "{standing:?}");
}

fn excludes_and_hands_over(b: &Backend) {
    let (a, c) = b.pair();
    let lease = Want::default().get(&a, "x");
    assert!(lease.is_held() && lease.remaining() > 9 * S);
    Want::now().refused(&c, "x");
    let start = Instant::now();
    Want::default().within(100 * MS).refused(&c, "x");
    assert!(start.elapsed() >= 100 * MS, "{:?}", start.elapsed());
    let waiting = thread::spawn(move || {
        let lease = Want::default().get(&c, "x");
        (lease.fence(), lease.release().unwrap())
    });
    until("c waits", || waiters(&a, "x").len() == 1);
    let fence = lease.fence();
    free_release(lease.release().unwrap());
    let (next_fence, standing) = waiting.join().unwrap();
    free_release(standing);
    assert!(next_fence > fence);
    assert_eq!(a.info(&name("x")).unwrap(), None);
}

fn shares_among_readers_only(b: &Backend) {
    let (a, c) = b.pair();
    let r1 = Want::now().shared().get(&a, "rw");
    let r2 = Want::now().shared().get(&c, "rw");
    assert!(r2.fence() > r1.fence());
    Want::now().refused(&a, "rw");
    let report = a.info(&name("rw")).unwrap().unwrap();
    assert_eq!((report.mode, report.holders.len()), (Mode::Shared, 2));
    free_release(r1.release().unwrap());
    Want::now().refused(&a, "rw");
    free_release(r2.release().unwrap());
    let w = Want::now().get(&a, "rw");
    Want::now().shared().refused(&c, "rw");
    free_release(w.release().unwrap());
}

fn serves_in_order_of_arrival(b: &Backend) {
    let (a, _) = b.pair();
    let lease = Want::default().get(&a, "fifo");
    let (tell, order) = channel();
    let mut threads = Vec::new();
    for i in 0..8 {
        let (engine, tell) = (engine(&b.dsn), tell.clone());
        threads.push(thread::spawn(move || {
            let lease = Want::default().by(&i.to_string()).get(&engine, "fifo");
            tell.send(i).unwrap();
            free_release(lease.release().unwrap());
        }));
        until("the waiter queues", || waiters(&a, "fifo").len() == i + 1);
    }
    assert_eq!(waiters(&a, "fifo"), (0..8).map(|i| i.to_string()).collect::<Vec<_>>());
    free_release(lease.release().unwrap());
    for t in threads {
        t.join().unwrap();
    }
    drop(tell);
    assert_eq!(order.iter().collect::<Vec<_>>(), (0..8).collect::<Vec<_>>());
}

/// Holder W1, then R1 R2 W2 R3 wait: R1 and R2 come in together, then W2 alone, then R3.
fn readers_behind_a_waiting_writer_wait(b: &Backend) {
    let (a, _) = b.pair();
    let lease = Want::default().get(&a, "q");
    let (got, order) = channel();
    let mut go = Vec::new();
    let mut threads = Vec::new();
    for (i, (who, shared)) in
        [("r1", true), ("r2", true), ("w2", false), ("r3", true)].into_iter().enumerate()
    {
        let (engine, got, (release, released)) = (engine(&b.dsn), got.clone(), channel::<()>());
        go.push(release);
        threads.push(thread::spawn(move || {
            let want = Want::default().by(who);
            let lease = if shared { want.shared() } else { want }.get(&engine, "q");
            got.send(who).unwrap();
            released.recv().unwrap();
            free_release(lease.release().unwrap());
        }));
        until("the waiter queues", || waiters(&a, "q").len() == i + 1);
    }
    free_release(lease.release().unwrap());
    let mut first = [order.recv().unwrap(), order.recv().unwrap()];
    first.sort_unstable();
    assert_eq!(first, ["r1", "r2"]);
    assert_eq!(waiters(&a, "q"), ["w2", "r3"]);
    Want::now().shared().refused(&a, "q");
    go[0].send(()).unwrap();
    until("r1 is out", || a.info(&name("q")).unwrap().unwrap().holders.len() == 1);
    assert_eq!(waiters(&a, "q"), ["w2", "r3"]);
    go[1].send(()).unwrap();
    assert_eq!(order.recv().unwrap(), "w2");
    assert_eq!(waiters(&a, "q"), ["r3"]);
    go[2].send(()).unwrap();
    assert_eq!(order.recv().unwrap(), "r3");
    go[3].send(()).unwrap();
    for t in threads {
        t.join().unwrap();
    }
}

fn readers_go_on_when_the_writer_between_gives_up(b: &Backend) {
    let (a, c) = b.pair();
    let reader = Want::default().shared().get(&a, "gu");
    // Its time is up when the reader is behind it, however long that takes.
    let tired = Arc::new(AtomicBool::new(false));
    let writer = {
        let (engine, tired) = (engine(&b.dsn), Arc::clone(&tired));
        thread::spawn(move || {
            let asked = Want::default().with(|how| {
                let how = Acquire { interrupted: &|| tired.load(Ordering::Relaxed), ..*how };
                engine.acquire(&name("gu"), &how)
            });
            let Ok(Acquired::Interrupted(pending)) = asked else { panic!("{asked:?}") };
            let ended = Want::now().with(|how| Engine::resume(pending, how));
            assert!(matches!(ended, Ok(Acquired::TimedOut { .. })), "{ended:?}");
        })
    };
    until("the writer queues", || waiters(&a, "gu").len() == 1);
    let behind = thread::spawn(move || {
        let lease = Want::default().shared().get(&c, "gu");
        free_release(lease.release().unwrap());
    });
    until("the reader queues", || waiters(&a, "gu").len() == 2);
    tired.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    behind.join().unwrap();
    free_release(reader.release().unwrap());
    assert_eq!(a.info(&name("gu")).unwrap(), None);
}

fn renews_while_it_is_held(b: &Backend) {
    let (a, c) = b.pair();
    let lease = Want::default().ttl(300 * MS).get(&a, "renewed");
    Want::default().within(1500 * MS).refused(&c, "renewed");
    assert!(lease.is_held());
    assert!(a.counters().renewals.load(Ordering::Relaxed) >= 3);
    free_release(lease.release().unwrap());
}

fn an_unrenewed_lease_is_lost_and_the_holder_knows(b: &Backend) {
    let (a, c) = b.pair();
    let lease = Want::default().ttl(200 * MS).unrenewed().get(&a, "lost");
    let next = Want::default().within(2 * S).get(&c, "lost");
    assert!(next.fence() > lease.fence());
    assert!(!lease.is_held() && lease.remaining().is_zero());
    assert!(matches!(lease.verify(), Err(Error::Lost(Loss::Expired(_)))));
    assert!(matches!(lease.release(), Ok(Standing::Lost(Loss::Expired(_)))));
    assert!(next.is_held());
    next.verify().unwrap();
    free_release(next.release().unwrap());
}

fn max_hold_ends_renewal(b: &Backend) {
    let (a, c) = b.pair();
    let want = Want { max_hold: Some(400 * MS), ..Want::default().ttl(200 * MS) };
    let lease = want.get(&a, "max");
    let start = Instant::now();
    let next = Want::default().within(3 * S).get(&c, "max");
    assert!(start.elapsed() >= 380 * MS, "{:?}", start.elapsed());
    assert!(!lease.is_held());
    free_release(next.release().unwrap());
}

fn breaking_hands_over_and_the_holder_finds_out(b: &Backend) {
    let (a, c) = b.pair();
    assert_eq!(a.break_lock(&name("b"), None).unwrap(), Broken::Free);
    let lease = Want::default().get(&a, "b");
    let waiting = thread::spawn(move || Want::default().get(&c, "b").release().unwrap());
    until("c waits", || waiters(&a, "b").len() == 1);
    assert_eq!(a.break_lock(&name("b"), None).unwrap(), Broken::Yes);
    free_release(waiting.join().unwrap());
    let lost = lease.release().unwrap();
    assert!(matches!(lost, Standing::Lost(Loss::Broken | Loss::Superseded)), "{lost:?}");
    let readers = [Want::now().shared().get(&a, "b"), Want::now().shared().get(&a, "b")];
    assert_eq!(a.break_lock(&name("b"), None).unwrap(), Broken::Yes);
    for reader in readers {
        assert_eq!(reader.release().unwrap(), Standing::Lost(Loss::Broken));
    }
    let lease = Want::default().get(&a, "b");
    assert_eq!(a.break_lock(&name("b"), None).unwrap(), Broken::Yes);
    assert!(matches!(lease.verify(), Err(Error::Lost(Loss::Broken))));
    assert!(!lease.is_held());
}

fn a_break_that_means_a_holder_leaves_the_next_one_alone(b: &Backend) {
    let (a, c) = b.pair();
    let fence = || c.info(&name("seen")).unwrap().map(|report| report.fence);
    let breaks = |meant| c.break_lock(&name("seen"), Some(meant)).unwrap();
    let seen = Want::default().get(&a, "seen").fence();
    until("it is given back", || fence().is_none());
    assert_eq!(breaks(seen), Broken::Free);
    let next = Want::default().get(&a, "seen");
    assert_eq!(breaks(seen), Broken::Another);
    assert_eq!(breaks(u64::MAX), Broken::Another);
    next.verify().unwrap();
    assert_eq!(breaks(fence().unwrap()), Broken::Yes);
    assert_eq!(breaks(next.fence()), Broken::Free, "there is nothing left to break");
    assert!(matches!(next.verify(), Err(Error::Lost(Loss::Broken))));
    // Readers: nobody has been let in since the look. Who left meanwhile does not matter.
    let want = Want::now().shared();
    let readers = [want.get(&a, "seen"), want.clone().by("other").get(&c, "seen")];
    let before = fence().unwrap();
    let late = want.clone().by("late").get(&a, "seen");
    assert_eq!(breaks(before), Broken::Another);
    for reader in &readers {
        reader.verify().unwrap();
    }
    let before = fence().unwrap();
    free_release(late.release().unwrap());
    assert_eq!(breaks(before), Broken::Yes);
    for reader in readers {
        assert_eq!(reader.release().unwrap(), Standing::Lost(Loss::Broken));
    }
}

/// The break lets the next one in, and a second one of the same holder does not hurt that.
fn a_break_that_means_a_holder_can_be_repeated(b: &Backend) {
    let (a, c) = b.pair();
    let lease = Want::default().get(&a, "twice");
    let meant = a.info(&name("twice")).unwrap().unwrap().fence;
    let waiting = thread::spawn(move || Want::default().get(&c, "twice"));
    until("c waits", || waiters(&a, "twice").len() == 1);
    assert_eq!(a.break_lock(&name("twice"), Some(meant)).unwrap(), Broken::Yes);
    let next = waiting.join().unwrap();
    assert_eq!(a.break_lock(&name("twice"), Some(meant)).unwrap(), Broken::Another);
    next.verify().unwrap();
    free_release(next.release().unwrap());
    assert!(matches!(lease.release().unwrap(), Standing::Lost(Loss::Broken | Loss::Superseded)));
}

fn converts(b: &Backend) {
    let (a, c) = b.pair();
    let reader = Want::default().shared().get(&a, "conv");
    let convert = |lease: cluster_lock_core::Lease, want: &Want| match want.with(|how| lease.convert(how)) {
        Ok(Acquired::Held { lease, .. }) => lease,
        other => panic!("{other:?}"),
    };
    let fence = reader.fence();
    let writer = convert(reader, &Want::now());
    assert_eq!(writer.mode(), Mode::Exclusive);
    assert!(writer.fence() > fence);
    Want::now().shared().refused(&c, "conv");
    let reader = convert(writer, &Want::now().shared());
    let other = Want::now().shared().get(&c, "conv");
    // Not alone: the conversion fails, and like flock(2)'s it has given up the shared lock.
    match Want::now().with(|how| reader.convert(how)) {
        Ok(Acquired::TimedOut { .. }) => {}
        unexpected => panic!("{unexpected:?}"),
    }
    assert_eq!(a.info(&name("conv")).unwrap().unwrap().holders.len(), 1);
    free_release(other.release().unwrap());
}

fn a_wait_can_be_interrupted_given_up_or_gone_on_with(b: &Backend) {
    let (a, c) = b.pair();
    let lease = Want::default().get(&a, "int");
    let interrupt = |engine: &Engine| {
        let looks = AtomicUsize::new(0);
        let interrupted = || looks.fetch_add(1, Ordering::Relaxed) > 0;
        let outcome = Want::default().with(|how| {
            engine.acquire(&name("int"), &cluster_lock_core::Acquire { interrupted: &interrupted, ..*how })
        });
        match outcome {
            Ok(Acquired::Interrupted(pending)) => pending,
            other => panic!("{other:?}"),
        }
    };
    let first = interrupt(&c);
    let second = interrupt(&c);
    assert_eq!(waiters(&a, "int").len(), 2, "the places are kept");
    drop(second);
    assert_eq!(waiters(&a, "int").len(), 1);
    free_release(lease.release().unwrap());
    let resumed = Want::default().with(|how| Engine::resume(first, how));
    match resumed {
        Ok(Acquired::Held { lease, .. }) => free_release(lease.release().unwrap()),
        other => panic!("{other:?}"),
    }
    let late = Want::default().get(&a, "int");
    let third = interrupt(&c);
    match Want::default().within(10 * MS).with(|how| Engine::resume(third, how)) {
        Ok(Acquired::TimedOut { .. }) => {}
        other => panic!("{other:?}"),
    }
    free_release(late.release().unwrap());
}

fn any_bytes_are_a_name(b: &Backend) {
    let (a, c) = b.pair();
    let names: Vec<Vec<u8>> = vec![
        b"a}b{c".to_vec(),
        b"nul\0nul".to_vec(),
        "gr\u{fc}n \u{1f512}".into(),
        b"*?[x]".to_vec(),
        b"a:q".to_vec(),
        b"../../etc".to_vec(),
        vec![0xff; 1024],
    ];
    let mut leases = Vec::new();
    for bytes in &names {
        let lock = LockName::new(bytes).unwrap();
        match Want::now().with(|how| a.acquire(&lock, how)).unwrap() {
            Acquired::Held { lease, .. } => leases.push(lease),
            other => panic!("{lock}: {other:?}"),
        }
        let other = Want::now().with(|how| c.acquire(&lock, how)).unwrap();
        assert!(matches!(other, Acquired::TimedOut { .. }), "{lock}: {other:?}");
    }
    let mut listed: Vec<_> =
        c.list(b"", 100).unwrap().into_iter().map(|r| r.name.as_bytes().to_vec()).collect();
    listed.sort();
    let mut expected = names;
    expected.sort();
    assert_eq!(listed, expected);
    assert_eq!(c.list(b"a}", 100).unwrap().len(), 1);
    assert_eq!(c.list(b"*", 100).unwrap().len(), 1);
    assert_eq!(c.list(b"", 2).unwrap().len(), 2);
    for lease in leases {
        free_release(lease.release().unwrap());
    }
    assert!(c.list(b"", 100).unwrap().is_empty());
}

/// Keys come in no order; idle ones, which their release leaves for a minute, are among them.
fn the_first_by_name_are_listed(b: &Backend) {
    let (a, _) = b.pair();
    let want = Want::now().unrenewed().ttl(300 * S);
    let name = |i: usize| format!("first:{:04}", i * 7919 % 1500);
    let keep = |i: &usize| !(i * 7919 % 1500).is_multiple_of(3);
    let leases: Vec<_> = (0..1500).filter(keep).map(|i| want.get(&a, &name(i))).collect();
    for i in (0..1500).filter(|i| !keep(i)).step_by(5) {
        free_release(Want::now().get(&a, &name(i)).release().unwrap());
    }
    let mut all: Vec<_> = leases.iter().map(|lease| lease.name().to_string()).collect();
    all.sort();
    for limit in [1, 20, 700, usize::MAX] {
        let listed: Vec<_> = a.list(b"", limit).unwrap().iter().map(|lock| lock.name.to_string()).collect();
        assert_eq!(listed, all[..limit.min(all.len())], "the first {limit}");
    }
    assert!(a.list(b"", 0).unwrap().is_empty());
    let listed = a.list(b"first:12", 2).unwrap();
    assert_eq!(listed[0].name.to_string(), *all.iter().find(|name| name.starts_with("first:12")).unwrap());
    drop(leases);
}

fn reports_who_holds_and_who_waits(b: &Backend) {
    let (a, c) = b.pair();
    let lease = Want::default().by("node-a").get(&a, "who");
    let waiting = thread::spawn(move || {
        drop(Want::default().shared().by("node-b").get(&c, "who"));
    });
    until("c waits", || waiters(&a, "who").len() == 1);
    let report = a.info(&name("who")).unwrap().unwrap();
    assert_eq!(report.mode, Mode::Exclusive);
    assert_eq!(report.fence, lease.fence());
    assert!(report.ttl > 5 * S && report.ttl <= 10 * S);
    assert_eq!(report.holders[0].identity.node, "node-a");
    assert_eq!(report.holders[0].identity.pid, std::process::id());
    assert_eq!(report.waiters[0].identity.node, "node-b");
    assert_eq!(report.waiters[0].mode, Mode::Shared);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((report.since - now).abs() < 5.0 && (report.waiters[0].since - now).abs() < 5.0);
    drop(lease);
    waiting.join().unwrap();
}

fn who_comes_is_told_who_is_in_the_way_and_how_many_were_before(b: &Backend) {
    let (a, c) = b.pair();
    // A server of a quorum to which the first lock has not come lets another one in, which is no majority.
    for engine in [&a, &c] {
        until("all servers are connected", || {
            drop(Want::default().get(engine, "warm up"));
            engine.status().backend != "quorum" || engine.status().idle == 3
        });
    }
    let lease = Want::default().by("node-a").get(&a, "way");
    let told = |engine: &Engine, timeout| match Want::default().within(timeout).ask(engine, "way") {
        Acquired::TimedOut { blocker: Some(blocker), .. } => (blocker.holder.node, blocker.ahead),
        other => panic!("{other:?}"),
    };
    assert_eq!(told(&c, Duration::ZERO), ("node-a".to_owned(), 0), "the next");
    let queue: Vec<_> = (1..=3)
        .map(|n| {
            let c = c.clone();
            let waiting = thread::spawn(move || match Want::default().ask(&c, "way") {
                Acquired::Held { lease, blocker, .. } => (lease.release().unwrap(), blocker.unwrap().ahead),
                other => panic!("{other:?}"),
            });
            until("it waits", || waiters(&a, "way").len() == n);
            waiting
        })
        .collect();
    assert_eq!(told(&a, Duration::ZERO), ("node-a".to_owned(), 3), "at once");
    assert_eq!(told(&c, 20 * MS), ("node-a".to_owned(), 3), "after a while");
    free_release(lease.release().unwrap());
    for (place, waiting) in (0..).zip(queue) {
        let (standing, ahead) = waiting.join().unwrap();
        free_release(standing);
        assert_eq!(ahead, place, "as it was when it came");
    }
}

/// Threads on one lock: no two inside at once, fencing tokens in order, all served alike.
fn many_threads_share_one_lock(b: &Backend) {
    const THREADS: usize = 8;
    const EACH: usize = 100;
    let shared = engine(&b.dsn);
    let inside = std::sync::Arc::new(AtomicUsize::new(0));
    let (tell, fences) = channel();
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let (engine, inside, tell) = (shared.clone(), inside.clone(), tell.clone());
            thread::spawn(move || {
                for _ in 0..EACH {
                    let lease = Want::default().get(&engine, "many");
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two holders at once");
                    tell.send(lease.fence()).unwrap();
                    assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 1);
                    free_release(lease.release().unwrap());
                }
            })
        })
        .collect();
    for t in threads {
        t.join().unwrap();
    }
    drop(tell);
    let fences: Vec<u64> = fences.iter().collect();
    assert_eq!(fences.len(), THREADS * EACH);
    assert!(fences.windows(2).all(|w| w[0] < w[1]), "fencing tokens must increase");
    assert_eq!(shared.info(&name("many")).unwrap(), None);
}

macro_rules! on_each_backend {
    ($($test:ident)*) => {
        mod redis {
            $(#[test] fn $test() { super::$test(&super::Backend::redis()); })*
        }
        // What takes long to set up is set up once.
        mod sentinel {
            #[test] fn everything() { super::everything(&super::Backend::sentinel("")); }
            #[test] fn everything_acknowledged() { super::everything(&super::Backend::sentinel("?wait=1")); }
        }
        mod cluster {
            #[test] fn everything() { super::everything(&super::Backend::cluster()); }
        }
        mod quorum {
            $(#[test] fn $test() { super::$test(&super::Backend::quorum()); })*
        }
        mod local {
            $(#[test] fn $test() { super::$test(&super::Backend::local()); })*
        }
        fn everything(b: &Backend) {
            $(
                eprintln!("{}", stringify!($test));
                $test(b);
            )*
        }
    };
}

on_each_backend! {
    excludes_and_hands_over
    shares_among_readers_only
    serves_in_order_of_arrival
    readers_behind_a_waiting_writer_wait
    readers_go_on_when_the_writer_between_gives_up
    renews_while_it_is_held
    an_unrenewed_lease_is_lost_and_the_holder_knows
    max_hold_ends_renewal
    breaking_hands_over_and_the_holder_finds_out
    a_break_that_means_a_holder_leaves_the_next_one_alone
    a_break_that_means_a_holder_can_be_repeated
    converts
    a_wait_can_be_interrupted_given_up_or_gone_on_with
    any_bytes_are_a_name
    the_first_by_name_are_listed
    reports_who_holds_and_who_waits
    who_comes_is_told_who_is_in_the_way_and_how_many_were_before
    many_threads_share_one_lock
    many_that_come_at_once_cost_two_runs
    a_run_that_fails_covers_nobody
    a_run_whose_lock_is_lost_covers_nobody
    plain_users_keep_their_turns_between_runs
    a_wait_for_a_run_ends_like_any_other
    a_run_that_nobody_waits_for_is_told_twice_the_same
}

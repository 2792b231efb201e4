//! What can go wrong between us and the server, and what must come of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use cluster_lock_core::store::machine::SLACK;
use cluster_lock_core::store::{Attempt, Claim, Hold, IfBusy, RedisStore, Store, Token};
use cluster_lock_core::{Acquired, Broken, Config, Dsn, Engine, Error, Loss, Mode, Standing};
use fault_proxy::{Break, Direction, Ending, Fault, Proxy, Side};
use support::{HANG, RedisServer, Want, assert_clean, assert_tells, config, name, patient, until, waiting};

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);
const PATIENCE: Duration = HANG;

/// A server, an engine beside it, and one behind a network that can fail.
struct Net {
    server: RedisServer,
    proxy: Proxy,
    near: Engine,
    far: Engine,
}

impl Net {
    /// Nothing in it takes a time-out: one would be the machine's load.
    fn new() -> Self {
        Self::with(|config| {
            config.connect_timeout = PATIENCE;
            config.command_timeout = PATIENCE;
        })
    }

    /// Time-outs that a test can wait for, and no pause after a failure.
    fn impatient() -> Self {
        Self::with(|config| {
            config.connect_timeout = 700 * MS;
            config.command_timeout = 700 * MS;
            config.retry_after = Duration::ZERO;
        })
    }

    fn with(shape: impl FnOnce(&mut Config)) -> Self {
        let server = RedisServer::start(&[]);
        let proxy = Proxy::start(("127.0.0.1", server.port)).unwrap();
        let mut config = config(&format!("redis://{}", proxy.address()));
        shape(&mut config);
        let far = Engine::new(&config).unwrap();
        let near = patient(&server.unix_dsn());
        // With a connection in the pool, so that the next command is the first thing on the wire.
        assert_eq!(Want::now().get(&far, "warm").release().unwrap(), Standing::Ours);
        Self { server, proxy, near, far }
    }

    /// The far engine asks in a thread of its own; returns when it waits in the queue.
    fn far_waits(&self, want: Want, lock: &'static str) -> JoinHandle<Result<Acquired, Error>> {
        let before = waiting(&self.near, lock);
        let far = self.far.clone();
        let waiter = thread::spawn(move || want.with(|how| far.acquire(&name(lock), how)));
        until("the far one waits", || waiting(&self.near, lock) == before + 1);
        waiter
    }

    /// The next reply to the far engine is lost, and what follows waits for [`Fault::Pass`].
    fn lose_the_next_reply(&self) {
        self.prepare(Direction::Down, 0, Ending::Close, Fault::Hold);
    }

    fn prepare(&self, direction: Direction, after: u64, ending: Ending, then: Fault) {
        self.proxy.prepare(Break { direction, after, ending, then });
    }

    fn await_loss(&self) {
        assert!(self.proxy.await_fired(self.proxy.fired().max(1), PATIENCE), "nothing was lost");
    }

    fn assert_clean(self) {
        self.proxy.set(Fault::Pass);
        assert_clean(&self.server, &[&self.near, &self.far]);
    }
}

fn held(outcome: Result<Acquired, Error>) -> cluster_lock_core::Lease {
    match outcome.unwrap() {
        Acquired::Held { lease, .. } => lease,
        other => panic!("expected to get it, but: {other:?}"),
    }
}

fn expired(standing: &Standing) -> bool {
    matches!(standing, Standing::Lost(Loss::Expired(_)))
}

// ---- no connection ---------------------------------------------------------------------------------------------

#[test]
fn a_server_that_is_down_is_reported_then_avoided_then_found_again() {
    for retry_after in [10 * HANG, 500 * MS] {
        let net = Net::with(|config| config.retry_after = retry_after);
        net.proxy.set(Fault::Refuse);
        net.proxy.end_all(Ending::Close);
        assert_tells(Want::default().fails(&net.far, "x"), "x", &net.far, &["Connection refused"]);
        if retry_after > HANG {
            let error = Want::now().fails(&net.far, "x");
            assert_tells(error, "x", &net.far, &["refused", "cluster_lock.retry_after"]);
        } else {
            net.proxy.set(Fault::Pass);
            until("the circuit closes", || Want::now().with(|how| net.far.acquire(&name("x"), how)).is_ok());
        }
        net.assert_clean();
    }
}

#[test]
fn a_server_that_goes_down_fails_its_waiters_and_they_are_in_nobodys_way_for_long() {
    let net = Net::new();
    let lease = Want::default().get(&net.near, "x");
    let waiter = net.far_waits(Want::default(), "x");
    net.proxy.set(Fault::Refuse);
    net.proxy.end_all(Ending::Reset);
    assert_tells(waiter.join().unwrap().unwrap_err(), "x", &net.far, &["Connection refused"]);
    assert_eq!(lease.release().unwrap(), Standing::Ours);
    assert_eq!(Want::default().get(&net.near, "x").release().unwrap(), Standing::Ours);
    net.assert_clean();
}

#[test]
fn a_release_that_cannot_arrive_says_so_and_the_lease_runs_out() {
    let net = Net::impatient();
    let lease = Want::default().ttl(800 * MS).get(&net.far, "x");
    net.proxy.set(Fault::Refuse);
    net.proxy.end_all(Ending::Close);
    assert_tells(lease.release().unwrap_err(), "x", &net.far, &["Connection refused"]);
    assert_eq!(Want::default().get(&net.near, "x").release().unwrap(), Standing::Ours);
    net.assert_clean();
}

#[test]
fn a_connect_that_nobody_answers_is_given_up_after_the_connect_time_out() {
    // A full backlog: the kernel drops what else comes, as a firewall does.
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let fillers: Vec<_> = (0..4).map(|_| std::net::TcpStream::connect_timeout(&address, 100 * MS)).collect();
    assert!(fillers.iter().any(Result::is_err), "the backlog is not full");
    let mut config = config(&format!("redis://{address}"));
    config.connect_timeout = 300 * MS;
    let far = Engine::new(&config).unwrap();
    let start = Instant::now();
    let error = Want::default().fails(&far, "x");
    assert!(start.elapsed() >= 290 * MS, "{:?}", start.elapsed());
    assert_tells(error, "x", &far, &["no connection within 0.300 s", "cluster_lock.connect_timeout"]);
}

#[test]
fn a_black_hole_is_given_up_after_the_connect_time_out() {
    // Listens, and never answers: the kernel completes the connection, HELLO gets no reply.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = config(&format!("redis://{}", listener.local_addr().unwrap()));
    config.connect_timeout = 300 * MS;
    config.command_timeout = 8 * S;
    let far = Engine::new(&config).unwrap();
    let error = Want::default().fails(&far, "x");
    assert_tells(error, "x", &far, &["no answer within 0.300 s", "cluster_lock.connect_timeout"]);
}

// ---- black holes -----------------------------------------------------------------------------------------------

#[test]
fn a_partitioned_holder_knows_by_its_own_clock_before_anybody_is_let_in() {
    let net = Net::impatient();
    let lease = Want::default().ttl(2 * S).get(&net.far, "x");
    net.proxy.set(Fault::BlackHole);
    let other = Want::default().get(&net.near, "x");
    assert!(!lease.is_held(), "two holders at once");
    assert!(other.fence() > lease.fence());
    until("the renewals have failed", || net.far.counters().errors.load(Ordering::Relaxed) > 0);
    net.proxy.set(Fault::Pass);
    let standing = lease.release().unwrap();
    assert!(expired(&standing), "{standing:?}");
    assert_eq!(other.release().unwrap(), Standing::Ours);
    net.assert_clean();
}

#[test]
fn a_short_partition_costs_a_holder_nothing() {
    let net = Net::impatient();
    let lease = Want::default().ttl(60 * S).unrenewed().get(&net.far, "x");
    net.proxy.set(Fault::BlackHole);
    assert_tells(lease.verify().unwrap_err(), "x", &net.far, &["no answer within 0.700 s"]);
    assert!(lease.is_held(), "for all that is known");
    net.proxy.set(Fault::Pass);
    lease.verify().unwrap();
    assert_eq!(lease.release().unwrap(), Standing::Ours);
    net.assert_clean();
}

#[test]
fn a_partitioned_waiter_fails_within_its_time_outs() {
    let net = Net::impatient();
    let lease = Want::default().get(&net.near, "x");
    let waiter = net.far_waits(Want::default().within(60 * S), "x");
    net.proxy.set(Fault::BlackHole);
    let error = waiter.join().unwrap().unwrap_err();
    // A slice of 1.25 s at most, then one command and three connects.
    assert_tells(error, "x", &net.far, &["no answer within 0.700 s"]);
    assert_eq!(lease.release().unwrap(), Standing::Ours);
    net.assert_clean();
}

#[test]
fn a_lock_whose_grant_never_arrives_runs_out() {
    let net = Net::impatient();
    net.proxy.set_one_way(Direction::Down, Fault::BlackHole);
    let error = Want::default().ttl(S).fails(&net.far, "x");
    assert!(matches!(error, Error::Connection { .. }), "{error:?}");
    assert_tells(error, "x", &net.far, &["no answer within 0.700 s", ".command_timeout"]);
    // It was carried out: the server has let us in, again at every try that reached it.
    assert_eq!(Want::default().get(&net.near, "x").release().unwrap(), Standing::Ours);
    net.assert_clean();
}

// ---- lost replies, with a look at the server in between --------------------------------------------------------

#[test]
fn a_lost_acquire_is_asked_again() {
    for cut in [0, 3] {
        for mode in [Mode::Exclusive, Mode::Shared] {
            let net = Net::new();
            let want = Want { mode, ..Want::default() };
            net.prepare(Direction::Down, cut, Ending::Reset, Fault::Hold);
            let far = net.far.clone();
            let asking = thread::spawn(move || want.with(|how| far.acquire(&name("x"), how)));
            net.await_loss();
            let known = net.near.info(&name("x")).unwrap().unwrap();
            net.proxy.set(Fault::Pass);
            let lease = held(asking.join().unwrap());
            assert_eq!((known.fence, known.holders.len()), (lease.fence(), 1), "let in once");
            assert_eq!(lease.release().unwrap(), Standing::Ours);
            net.assert_clean();
        }
    }
}

#[test]
fn a_lost_release_is_settled_whatever_happened_meanwhile() {
    for happens in ["nothing", "another came and went", "another holds it"] {
        let net = Net::new();
        let lease = Want::default().get(&net.far, "x");
        net.lose_the_next_reply();
        let releasing = thread::spawn(move || lease.release());
        net.await_loss();
        assert_eq!(net.near.info(&name("x")).unwrap(), None, "the server has freed it");
        let other = (happens != "nothing").then(|| Want::now().get(&net.near, "x"));
        let other = other.filter(|_| happens == "another holds it");
        net.proxy.set(Fault::Pass);
        assert_eq!(releasing.join().unwrap().unwrap(), Standing::Ours, "{happens}");
        assert!(other.is_none_or(|other| other.release().unwrap() == Standing::Ours));
        net.assert_clean();
    }
}

#[test]
fn a_release_that_never_arrived_is_repeated() {
    let net = Net::new();
    let lease = Want::default().get(&net.far, "x");
    net.prepare(Direction::Up, 0, Ending::Reset, Fault::Hold);
    let releasing = thread::spawn(move || lease.release());
    net.await_loss();
    Want::now().refused(&net.near, "x");
    net.proxy.set(Fault::Pass);
    assert_eq!(releasing.join().unwrap().unwrap(), Standing::Ours);
    assert_eq!(net.near.info(&name("x")).unwrap(), None);
    net.assert_clean();
}

#[test]
fn a_lost_conversion_is_asked_again() {
    for (from, to) in [(Mode::Shared, Mode::Exclusive), (Mode::Exclusive, Mode::Shared)] {
        let net = Net::new();
        let lease = Want { mode: from, ..Want::default() }.get(&net.far, "x");
        let fence = lease.fence();
        net.lose_the_next_reply();
        let converting =
            thread::spawn(move || Want { mode: to, ..Want::default() }.with(|how| lease.convert(how)));
        net.await_loss();
        net.proxy.set(Fault::Pass);
        let lease = held(converting.join().unwrap());
        assert!(lease.mode() == to && lease.fence() > fence);
        let known = net.near.info(&name("x")).unwrap().unwrap();
        assert_eq!((known.mode, known.fence, known.holders.len()), (to, lease.fence(), 1));
        assert_eq!(lease.release().unwrap(), Standing::Ours);
        net.assert_clean();
    }
}

/// As after a time-out in a fail-over: the engine asks again later, in another call.
#[test]
fn a_release_without_an_answer_is_known_when_it_is_asked_for_again() {
    let net = Net::impatient();
    let mut config = config(&format!("redis://{}", net.proxy.address()));
    config.command_timeout = 300 * MS;
    config.retry_after = Duration::ZERO;
    let Dsn::Redis(server) = config.dsn.clone() else { panic!("not redis") };
    let store = RedisStore::new(server, &config);
    let (lock, token) = (name("x"), Token::random());
    let claim = Claim {
        name: &lock,
        token: &token,
        mode: Mode::Exclusive,
        ttl: 10 * S,
        identity: b"{}",
        place: 0,
        converts: 0,
        slack: SLACK,
        run: false,
        attempt: 0,
    };
    assert!(matches!(store.attempt(&claim, IfBusy::Queue), Ok(Attempt::Held(_))));
    // It is carried out, and no answer to it or to its repetition arrives.
    net.prepare(Direction::Down, 0, Ending::Close, Fault::Hold);
    store.release(&Hold::of(&lock, &token)).unwrap_err();
    until("it was carried out", || net.near.info(&lock).unwrap().is_none());
    for _ in 0..2 {
        drop(Want::now().get(&net.near, "x"));
    }
    net.proxy.set(Fault::Pass);
    assert_eq!(store.release(&Hold::of(&lock, &token)).unwrap(), Standing::Ours);
    // Once settled it is not believed again.
    assert_eq!(store.release(&Hold::of(&lock, &token)).unwrap(), Standing::Lost(Loss::Superseded));
    store.close();
    net.assert_clean();
}

#[test]
fn a_lost_renewal_is_repeated() {
    let net = Net::new();
    let lease = Want::default().unrenewed().get(&net.far, "x");
    net.lose_the_next_reply();
    thread::scope(|scope| {
        let verifying = scope.spawn(|| lease.verify());
        net.await_loss();
        net.proxy.set(Fault::Pass);
        verifying.join().unwrap().unwrap();
    });
    assert_eq!(lease.release().unwrap(), Standing::Ours);
    net.assert_clean();
}

#[test]
fn a_lost_break_is_not_repeated_upon_the_next_holder() {
    let net = Net::new();
    let lease = Want::default().get(&net.near, "x");
    let near = net.near.clone();
    let waiter = thread::spawn(move || Want::default().get(&near, "x"));
    until("somebody waits", || waiting(&net.near, "x") == 1);
    assert_eq!(net.far.break_lock(&name("warm"), None).unwrap(), Broken::Free, "loads the script");
    net.lose_the_next_reply();
    let far = net.far.clone();
    let breaking = thread::spawn(move || far.break_lock(&name("x"), None));
    net.await_loss();
    let other = waiter.join().unwrap();
    net.proxy.set(Fault::Pass);
    let outcome = breaking.join().unwrap();
    other.verify().expect("it was let in by the break, and nobody meant to break its lock");
    assert_tells(outcome.unwrap_err(), "x", &net.far, &["closed the connection", "cluster_lock_info"]);
    assert_eq!(other.release().unwrap(), Standing::Ours);
    assert_eq!(lease.release().unwrap(), Standing::Lost(Loss::Superseded));
    net.assert_clean();
}

#[test]
fn a_lost_break_of_a_holder_who_was_seen_is_repeated_and_hurts_nobody() {
    for somebody_waits in [false, true] {
        let net = Net::new();
        let lease = Want::default().get(&net.near, "x");
        let waiter = somebody_waits.then(|| {
            let near = net.near.clone();
            let waiter = thread::spawn(move || Want::default().get(&near, "x"));
            until("somebody waits", || waiting(&net.near, "x") == 1);
            waiter
        });
        assert_eq!(net.far.break_lock(&name("warm"), Some(1)).unwrap(), Broken::Free, "loads the script");
        let seen = net.near.info(&name("x")).unwrap().unwrap().fence;
        net.lose_the_next_reply();
        let far = net.far.clone();
        let breaking = thread::spawn(move || far.break_lock(&name("x"), Some(seen)));
        net.await_loss();
        let successor = waiter.map(|waiter| waiter.join().unwrap());
        net.proxy.set(Fault::Pass);
        assert_eq!(breaking.join().unwrap().unwrap(), Broken::Yes, "the first try has done it");
        if let Some(successor) = successor {
            successor.verify().expect("it was let in by the break");
            assert_eq!(successor.release().unwrap(), Standing::Ours);
        }
        assert!(matches!(lease.release().unwrap(), Standing::Lost(Loss::Broken | Loss::Superseded)));
        net.assert_clean();
    }
}

#[test]
fn a_lost_report_is_asked_again_or_told() {
    let net = Net::new();
    let lease = Want::default().get(&net.near, "x");
    net.prepare(Direction::Down, 10, Ending::Close, Fault::Pass);
    assert_eq!(net.far.info(&name("x")).unwrap().unwrap().fence, lease.fence());
    net.prepare(Direction::Down, 10, Ending::Close, Fault::Pass);
    match net.far.list(b"", 10) {
        Ok(reports) => assert_eq!(reports[0].fence, lease.fence()),
        Err(error) => assert_tells(error, "x", &net.far, &["closed the connection"]),
    }
    assert_eq!(net.far.list(b"", 10).unwrap().len(), 1);
    assert_eq!(lease.release().unwrap(), Standing::Ours);
    net.assert_clean();
}

#[test]
fn a_lost_hand_off_is_found_out() {
    for cut in [0, 5] {
        let net = Net::new();
        let lease = Want::default().get(&net.near, "x");
        let waiter = net.far_waits(Want::default(), "x");
        net.prepare(Direction::Down, cut, Ending::Close, Fault::Pass);
        assert_eq!(lease.release().unwrap(), Standing::Ours);
        let lease = held(waiter.join().unwrap());
        assert_eq!(lease.release().unwrap(), Standing::Ours);
        net.assert_clean();
    }
}

#[test]
fn an_answer_that_comes_too_late_is_nobody_elses_answer() {
    let net = Net::impatient();
    let lease = Want::default().get(&net.far, "mine");
    let discarded = net.far.status().discarded;
    net.proxy.set_one_way(Direction::Down, Fault::Hold);
    let error = Want::now().ttl(S).unrenewed().fails(&net.far, "late");
    assert_tells(error, "late", &net.far, &["no answer within 0.700 s"]);
    net.proxy.set(Fault::Pass);
    // The answer to "late", a fencing token, is on its way now, on a connection that must be gone.
    lease.verify().unwrap();
    let other = Want::now().get(&net.far, "other");
    assert_eq!(net.near.info(&name("other")).unwrap().unwrap().fence, other.fence());
    assert_eq!(net.far.info(&name("mine")).unwrap().unwrap().fence, lease.fence());
    assert!(net.far.status().discarded > discarded);
    for lease in [lease, other] {
        assert_eq!(lease.release().unwrap(), Standing::Ours);
    }
    drop(Want::default().get(&net.near, "late"));
    net.assert_clean();
}

#[test]
fn a_connection_that_owes_an_answer_is_not_used_again() {
    let net = Net::with(|config| {
        config.command_timeout = 700 * MS;
        config.connect_timeout = PATIENCE;
    });
    net.proxy.set_one_way(Direction::Down, Fault::Hold);
    let error = net.far.list(b"", 10).unwrap_err();
    assert!(error.to_string().contains("no answer within 0.700 s"), "{error}");
    let sent = net.proxy.carried(Direction::Up);
    let far = net.far.clone();
    let asking = thread::spawn(move || Want::now().with(|how| far.acquire(&name("x"), how)));
    until("it has sent something", || net.proxy.carried(Direction::Up) > sent);
    // The answer to the list arrives now, and before any other.
    net.proxy.set(Fault::Pass);
    let lease = held(asking.join().unwrap());
    assert_eq!(net.near.info(&name("x")).unwrap().unwrap().fence, lease.fence());
    assert_eq!(lease.release().unwrap(), Standing::Ours);
    net.assert_clean();
}

// ---- slow ------------------------------------------------------------------------------------------------------

#[test]
fn a_long_way_costs_time_and_nothing_else() {
    let net = Net::new();
    net.proxy.set(Fault::Delay(100 * MS));
    let start = Instant::now();
    let lease = Want::default().get(&net.far, "x");
    let took = start.elapsed();
    assert!(took >= 200 * MS, "{took:?}");
    // The lease began when the command left, not when its answer came.
    assert!(lease.remaining() + took <= 10 * S, "{:?}", lease.remaining());
    let near = net.near.clone();
    let waiter = thread::spawn(move || Want::default().get(&near, "x").release().unwrap());
    until("near waits", || waiting(&net.near, "x") == 1);
    assert_eq!(lease.release().unwrap(), Standing::Ours);
    assert_eq!(waiter.join().unwrap(), Standing::Ours);
    net.assert_clean();
}

/// The way there and back takes half a second: none of those who wait is taken for dead, so that all are served in turn.
#[test]
fn waiters_a_long_way_off_keep_their_turn() {
    const WAITERS: usize = 4;
    let net = Net::new();
    let lease = Want::default().ttl(60 * S).get(&net.near, "x");
    let (tell, turns) = channel();
    let mut threads = Vec::new();
    net.proxy.set(Fault::Delay(250 * MS));
    for i in 0..WAITERS {
        let (far, tell) = (net.far.clone(), tell.clone());
        threads.push(thread::spawn(move || {
            let lease = Want::default().within(10 * HANG).get(&far, "x");
            tell.send(i).unwrap();
            lease.release().unwrap()
        }));
        until("it waits", || waiting(&net.near, "x") == i + 1);
    }
    let mut redis = net.server.redis();
    let mut records = || {
        redis::cmd("HGETALL").arg("cluster_lock:{x}:w").query::<HashMap<String, String>>(&mut redis).unwrap()
    };
    for _ in 0..3 {
        let last = records();
        until("all are heard of again", || {
            assert_eq!(waiting(&net.near, "x"), WAITERS, "one of them is taken for dead");
            let now = records();
            last.iter().all(|(token, record)| now.get(token) != Some(record))
        });
    }
    assert_eq!(lease.release().unwrap(), Standing::Ours);
    for thread in threads {
        assert_eq!(thread.join().unwrap(), Standing::Ours);
    }
    drop(tell);
    assert!(turns.iter().eq(0..WAITERS), "out of turn");
    net.proxy.set(Fault::Pass);
    net.assert_clean();
}

#[test]
fn commands_that_arrive_after_they_were_given_up_run_out() {
    let net = Net::impatient();
    net.proxy.set(Fault::Delay(1500 * MS));
    let error = Want::default().ttl(S).fails(&net.far, "x");
    assert_tells(error, "x", &net.far, &["no answer within 0.700 s"]);
    until("the command arrives", || net.near.info(&name("x")).unwrap().is_some());
    assert_eq!(Want::default().get(&net.near, "x").release().unwrap(), Standing::Ours);
    net.assert_clean();
}

#[test]
fn dripping_bytes_add_up_or_run_out_of_time() {
    let net = Net::new();
    let round = || {
        let lease = Want::default().ttl(60 * S).get(&net.far, "x");
        lease.verify().unwrap();
        assert_eq!(lease.release().unwrap(), Standing::Ours);
    };
    round(); // Loads the scripts, which are long.
    net.proxy.set(Fault::Drip(Duration::from_micros(200)));
    round();
    net.assert_clean();

    let net = Net::impatient();
    net.proxy.set_one_way(Direction::Down, Fault::Drip(200 * MS));
    let error = Want::default().ttl(500 * MS).fails(&net.far, "x");
    assert_tells(error, "x", &net.far, &["no answer within 0.700 s"]);
    drop(Want::default().get(&net.near, "x"));
    net.assert_clean();
}

// ---- half open, and cut by the server --------------------------------------------------------------------------

#[test]
fn a_waiter_whose_old_connection_the_server_still_serves_gets_it() {
    let net = Net::new();
    let lease = Want::default().get(&net.near, "x");
    let waiter = net.far_waits(Want::default(), "x");
    // It asks again on a new connection; the server may put the grant into the old one.
    net.proxy.half_open(Side::Client);
    until("it is back", || net.proxy.connections() > 1 && waiting(&net.near, "x") == 1);
    assert_eq!(lease.release().unwrap(), Standing::Ours);
    let lease = held(waiter.join().unwrap());
    assert_eq!(lease.release().unwrap(), Standing::Ours);
    net.proxy.end_all(Ending::Close);
    net.assert_clean();
}

#[test]
fn a_waiter_whose_connection_is_dead_without_a_sign_gets_it() {
    let net = Net::with(|_| ());
    let lease = Want::default().get(&net.near, "x");
    let waiter = net.far_waits(Want::default(), "x");
    net.proxy.half_open(Side::Server);
    assert_eq!(lease.release().unwrap(), Standing::Ours);
    // A slice and 0.25 s, a command that is lost, and its time-out: in all far less than it would wait.
    let lease = held(waiter.join().unwrap());
    assert_eq!(lease.release().unwrap(), Standing::Ours);
    net.assert_clean();
}

#[test]
fn a_holder_whose_connection_is_half_open_releases() {
    for side in [Side::Client, Side::Server] {
        let net = Net::with(|_| ());
        let lease = Want::default().get(&net.far, "x");
        net.proxy.half_open(side);
        assert_eq!(lease.release().unwrap(), Standing::Ours, "{side:?}");
        assert_eq!(net.near.info(&name("x")).unwrap(), None);
        net.proxy.end_all(Ending::Close);
        net.assert_clean();
    }
}

#[test]
fn a_killed_connection_costs_holders_and_waiters_nothing() {
    let net = Net::new();
    let lease = Want::default().get(&net.far, "x");
    let (near, third) = (net.near.clone(), patient(&net.server.tcp_dsn()));
    let thread = |e: Engine, i: usize| {
        let waiter = thread::spawn(move || {
            let lease = Want::default().get(&e, "x");
            (i, lease.fence(), lease.release().unwrap())
        });
        until("it waits", || waiting(&net.near, "x") == i);
        waiter
    };
    let waiters = [thread(near, 1), thread(third.clone(), 2)];
    for _ in 0..3 {
        let killed = net.server.cli(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        assert!(killed.parse::<usize>().unwrap() >= 2, "{killed}");
        lease.verify().unwrap();
        let asleep = || net.server.clients().iter().filter(|line| line.contains("cmd=blpop")).count();
        until("both wait again", || asleep() == 2);
    }
    assert_eq!(lease.release().unwrap(), Standing::Ours);
    let [first, second] = waiters.map(|w| w.join().unwrap());
    assert_eq!((&first.2, &second.2), (&Standing::Ours, &Standing::Ours));
    assert!(first.1 < second.1, "the places are kept");
    assert_clean(&net.server, &[&net.near, &net.far, &third]);
}

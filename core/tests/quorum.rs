//! A majority of independent servers: some of them down, slow, empty, or with clocks of their own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use cluster_lock_core::store::machine::SLACK_MOST;
use cluster_lock_core::store::{Attempt, Claim, Hold, IfBusy, Store, Token, Wake, open};
use cluster_lock_core::{Acquired, Broken, Engine, Error, Holder, LockName, Loss, Mode, Standing};
use fault_proxy::{Direction, Ending, Fault, Proxy};
use support::{HANG, RedisServer, Want, config, engine, name, patient, quorum_dsn, until, waiting};

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

fn servers(count: usize) -> Vec<RedisServer> {
    (0..count).map(|_| RedisServer::start(&[])).collect()
}

fn error(engine: &Engine, lock: &str) -> String {
    match Want::default().within(10 * HANG).with(|how| engine.acquire(&name(lock), how)) {
        Err(e) => e.to_string(),
        Ok(other) => panic!("expected a failure: {other:?}"),
    }
}

/// Nothing is held, nobody waits, and what remains expires by itself.
fn assert_clean<'a>(servers: impl IntoIterator<Item = &'a RedisServer>) {
    for server in servers {
        let engine = engine(&server.tcp_dsn());
        until("only fencing records remain", || {
            server.keys().iter().all(|key| key.ends_with('}')) && engine.list(b"", 10).unwrap().is_empty()
        });
        for key in server.keys() {
            assert!(server.cli(&["PTTL", &key]).parse::<i64>().unwrap() > 0, "{key}");
        }
    }
}

/// How many commands a server has been sent, those within scripts not counted.
fn commands(server: &RedisServer) -> u64 {
    let stats = server.cli(&["INFO", "commandstats"]);
    let calls = |command: &str| -> u64 {
        let line = stats.lines().find_map(|l| l.strip_prefix(&format!("cmdstat_{command}:calls=")));
        line.map_or(0, |l| l.split(',').next().unwrap().parse().unwrap())
    };
    calls("eval") + calls("evalsha") + calls("blpop")
}

/// An engine with a connection to each server.
fn connected(servers: &[RedisServer]) -> Engine {
    let e = engine(&quorum_dsn(servers));
    await_connections(&e, servers);
    e
}

fn await_connections(engine: &Engine, servers: &[RedisServer]) {
    until("all servers are connected", || {
        drop(Want::default().get(engine, "warm up"));
        servers.iter().all(|server| server.cli(&["CLIENT", "LIST"]).contains("name=cluster_lock@"))
    });
}

#[test]
fn a_minority_may_be_down() {
    let mut all = servers(5);
    let (a, b) = (engine(&quorum_dsn(&all)), engine(&quorum_dsn(&all)));
    drop(Want::default().get(&a, "x"));
    all[1].stop();
    all[3].stop();
    let lease = Want::default().ttl(600 * MS).get(&a, "x");
    Want::now().refused(&b, "x");
    let waiter = thread::spawn(move || {
        let lease = Want::default().get(&b, "x");
        (lease.fence(), lease.release().unwrap())
    });
    until("b waits", || waiting(&a, "x") == 1);
    until("it was renewed", || a.counters().renewals.load(Ordering::Relaxed) > 2);
    let fence = lease.fence();
    assert_eq!(lease.release().unwrap(), Standing::Ours);
    let (next, standing) = waiter.join().unwrap();
    assert!(next > fence);
    assert_eq!(standing, Standing::Ours);
    assert_clean([&all[0], &all[2], &all[4]]);
}

#[test]
fn without_a_majority_it_fails_at_once_and_says_why() {
    let mut all = servers(5);
    let e = engine(&quorum_dsn(&all));
    drop(Want::default().get(&e, "x"));
    for server in &mut all[2..] {
        server.stop();
    }
    let began = Instant::now();
    let said = error(&e, "x");
    assert!(began.elapsed() < HANG, "it waited for its time to be up");
    assert!(said.starts_with("redis+quorum://127.0.0.1:"), "{said}");
    assert!(said.contains("3 of 5 servers failed, and 3 are needed"), "{said}");
    assert!(said.contains(&format!("redis://127.0.0.1:{}: Connection refused", all[2].port)), "{said}");
    assert_clean(&all[..2]);
    all[4].restart();
    until("three are enough", || Want::now().with(|how| e.acquire(&name("x"), how)).is_ok());
}

#[test]
fn where_one_failed_and_one_forgot_both_are_told() {
    let mut all = servers(3);
    let e = connected(&all);
    let lease = Want::default().get(&e, "x");
    all[0].cli(&["FLUSHALL"]);
    all[1].stop();
    let said = lease.release().unwrap_err().to_string();
    assert!(said.contains("1 of 3 servers failed, and 2 are needed"), "{said}");
    assert!(said.contains(&format!("redis://127.0.0.1:{}: Connection refused", all[1].port)), "{said}");
    assert!(
        said.contains(&format!("redis://127.0.0.1:{}: the server no longer knows it", all[0].port)),
        "{said}"
    );
}

#[test]
fn a_frozen_majority_is_given_up_after_one_command_time_out() {
    for fresh in [false, true] {
        let all = servers(5);
        let mut settings = config(&quorum_dsn(&all));
        settings.command_timeout = S;
        let e = Engine::new(&settings).unwrap();
        if !fresh {
            drop(Want::default().get(&e, "x"));
        }
        let frozen: Vec<_> = all[..3].iter().map(RedisServer::freeze).collect();
        // One time-out, not two; `what_it_costs` measures it.
        let said = error(&e, "x");
        drop(frozen);
        // Those of which not even the connection came say so themselves.
        assert!(said.contains("no answer within 1.000 s"), "{said}");
        assert!(said.contains("3 of 5 servers failed"), "{said}");
        // What the frozen ones did when they woke up is undone or runs out.
        until("all is well again", || Want::now().with(|how| e.acquire(&name("x"), how)).is_ok());
    }
}

#[test]
fn a_frozen_minority_costs_nobody_a_time_out() {
    let all = servers(5);
    let e = engine(&quorum_dsn(&all));
    drop(Want::default().get(&e, "x"));
    let mut settings = config(&quorum_dsn(&all));
    (settings.connect_timeout, settings.command_timeout) = (10 * HANG, 10 * HANG);
    let patient = Engine::new(&settings).unwrap();
    drop(Want::default().get(&patient, "y"));
    let frozen: Vec<_> = all[..2].iter().map(RedisServer::freeze).collect();
    let began = Instant::now();
    for _ in 0..3 {
        assert_eq!(Want::default().get(&patient, "y").release().unwrap(), Standing::Ours);
    }
    assert!(began.elapsed() < HANG, "the frozen ones were waited for");
    let began = Instant::now();
    // Long enough for connections to be given up, and made again in vain.
    while began.elapsed() < 3500 * MS {
        assert_eq!(Want::default().ttl(S).get(&e, "x").release().unwrap(), Standing::Ours);
    }
    drop(frozen);
    until("all five are asked again", || {
        drop(Want::default().ttl(S).get(&e, "x"));
        e.status().idle == 5
    });
    // What a frozen one was asked for before it was given up it does when it wakes up.
    assert_clean(&all);
}

/// Each server's last token is raised by another year: as if their clocks had nothing in common.
#[test]
fn tokens_grow_whatever_the_servers_clocks_say() {
    let all = servers(3);
    let dsn = quorum_dsn(&all);
    for (i, server) in all.iter().enumerate() {
        let ahead = 1_900_000_000_000_000_u64 + (i as u64) * 31_536_000_000_000;
        server.cli(&["SET", "cluster_lock:{x}", &format!("F- {} {ahead}", "-".repeat(32))]);
    }
    let mut last = 0;
    // The majority changes: the one that knows most is away, then another, then none.
    for away in [None, Some(2), Some(0), Some(1), None] {
        let _away = away.map(|i| all[i].freeze());
        for shared in [false, true] {
            // A new engine each time: it remembers nothing.
            let e = engine(&dsn);
            let want = if shared { Want::default().shared() } else { Want::default() };
            let lease = want.get(&e, "x");
            assert!(lease.fence() > last, "{} after {last}, without {away:?}", lease.fence());
            last = lease.fence();
            lease.release().unwrap();
        }
    }
}

#[test]
fn a_lock_whose_majority_lost_its_data_is_lost() {
    let mut all = servers(3);
    let e = patient(&quorum_dsn(&all));
    await_connections(&e, &all);
    let lease = Want::default().ttl(HANG).get(&e, "x");
    all[0].restart();
    let alone = engine(&all[0].tcp_dsn());
    until("it knows the lock again", || {
        lease.verify().unwrap();
        alone.info(&name("x")).unwrap().is_some()
    });
    // The one has learned of it again; two at once are too many.
    all[0].restart();
    all[1].restart();
    let verified = lease.verify();
    assert!(matches!(verified, Err(Error::Lost(Loss::Forgotten))), "{verified:?}");
    assert!(!lease.is_held());
    assert_eq!(lease.release().unwrap(), Standing::Lost(Loss::Forgotten));
    let lease = Want::default().get(&e, "y");
    let other = engine(&quorum_dsn(&all));
    assert_eq!(other.break_lock(&name("y"), None).unwrap(), Broken::Yes);
    assert_eq!(other.break_lock(&name("y"), None).unwrap(), Broken::Free);
    assert_eq!(lease.release().unwrap(), Standing::Lost(Loss::Broken));
}

/// A server whose last token is greater gives the same holder another one than the majority has agreed on.
#[test]
fn a_break_that_means_a_holder_takes_it_from_all_servers_whatever_tokens_they_gave() {
    let all = servers(3);
    let e = connected(&all);
    let ahead = format!("F- {} 1900000000000000", "-".repeat(32));
    for away in [None, Some(0)] {
        // The one that knows most answers last, so that the others agree without it.
        all[2].cli(&["SET", "cluster_lock:{x}", &ahead]);
        let slow = all[2].freeze();
        let lease = Want::default().unrenewed().get(&e, "x");
        drop(slow);
        let sees =
            |server: &RedisServer| engine(&server.tcp_dsn()).info(&name("x")).unwrap().map(|lock| lock.fence);
        until("it has heard of it, too", || sees(&all[2]).is_some());
        assert_ne!(sees(&all[2]), sees(&all[1]));
        let away = away.map(|i: usize| all[i].freeze());
        let other = engine(&quorum_dsn(&all));
        let fence = other.info(&name("x")).unwrap().unwrap().fence;
        assert_eq!(other.break_lock(&name("x"), Some(fence - 1)).unwrap(), Broken::Another);
        assert_eq!(other.break_lock(&name("x"), Some(fence)).unwrap(), Broken::Yes);
        assert_eq!((sees(&all[1]), sees(&all[2])), (None, None));
        drop(away);
        assert!(matches!(lease.release().unwrap(), Standing::Lost(_)));
    }
}

#[test]
fn a_server_that_was_away_learns_of_the_lock_by_its_renewal() {
    let mut all = servers(3);
    let (a, b) = (connected(&all), engine(&quorum_dsn(&all)));
    for shared in [false, true] {
        let want = Want::default().ttl(3 * S);
        let want = if shared { want.shared() } else { want };
        let lease = want.get(&a, "x");
        for i in [0, 1] {
            all[i].restart();
            let alone = engine(&all[i].tcp_dsn());
            until("it knows the lock again", || alone.info(&name("x")).unwrap().is_some());
        }
        lease.verify().unwrap();
        Want::now().refused(&b, "x");
        assert_eq!(lease.release().unwrap(), Standing::Ours);
        assert_clean(&all);
    }
}

/// It answers each question after that, and each answer is taken for that to the one before.
#[test]
fn a_server_to_which_one_question_has_not_come_is_heard_again() {
    let mut all = servers(3);
    let lossy = Proxy::start(("127.0.0.1", all[2].port)).unwrap();
    let dsn = format!("{},{}", quorum_dsn(&all[..2]), lossy.address());
    let mut settings = config(&dsn);
    settings.command_timeout = 5 * S;
    let e = Engine::new(&settings).unwrap();
    until("all are connected", || {
        drop(Want::default().get(&e, "warm up"));
        e.status().idle == 3
    });
    let renewals = || e.counters().renewals.load(Ordering::Relaxed);
    let lease = Want::default().ttl(2 * S).get(&e, "x");
    lossy.set(Fault::BlackHole);
    let before = renewals();
    until("one was swallowed", || renewals() > before);
    lossy.set(Fault::Pass);
    until("it was asked for longer than it may take", || renewals() > before + 15);
    all[0].stop();
    assert_eq!(Want::default().get(&e, "y").release().unwrap(), Standing::Ours);
    assert_eq!(lease.release().unwrap(), Standing::Ours);
}

/// Who waits asks it again before the holder does, and it lets them in.
#[test]
fn a_server_that_has_forgotten_learns_of_the_lock_although_others_wait_for_it() {
    let all = servers(3);
    let (a, b) = (connected(&all), connected(&all));
    let holder = |server: &RedisServer| engine(&server.tcp_dsn()).info(&name("x")).unwrap()?.holders.pop();
    let lets_in = |server: &RedisServer| holder(server).map(|one| one.identity.node).unwrap_or_default();
    // The waiter asks once a second, the holder says nothing by itself meanwhile.
    let lease = Want::default().by("holder").ttl(HANG).get(&a, "x");
    until("all know the holder", || all.iter().all(|server| lets_in(server) == "holder"));
    let waiter =
        thread::spawn(move || Want::default().by("waiter").within(10 * HANG).get(&b, "x").release().unwrap());
    let waits = |server: &RedisServer| waiting(&engine(&server.tcp_dsn()), "x") == 1;
    until("it waits everywhere", || all.iter().all(waits));
    // More of them than may, but one after the other.
    for server in &all {
        server.cli(&["FLUSHALL"]);
        until("the waiter is let in", || lets_in(server) == "waiter");
        lease.verify().unwrap();
        // With a full lease, and not with that of a hand-over.
        let knows = |one: Holder| one.identity.node == "holder" && one.lease_left > 20 * S;
        until("it knows the holder again", || holder(server).is_some_and(knows));
        // All know it: it is not renewed soon.
        lease.verify().unwrap();
    }
    assert!(!waiter.is_finished(), "two at once");
    assert_eq!(lease.release().unwrap(), Standing::Ours);
    assert_eq!(waiter.join().unwrap(), Standing::Ours);
    assert_clean(&all);
}

/// The others answer at once, and nobody waits for what it says.
#[test]
fn a_server_that_answers_late_learns_of_the_lock_as_well() {
    let all = servers(3);
    let far = Proxy::start(("127.0.0.1", all[2].port)).unwrap();
    let dsn = format!("{},{}", quorum_dsn(&all[..2]), far.address());
    let (a, alone) = (engine(&dsn), engine(&all[2].tcp_dsn()));
    let knows = |lock: &str| alone.info(&name(lock)).unwrap().is_some();
    until("all are connected", || {
        drop(Want::default().get(&a, "warm up"));
        a.status().idle == 3
    });
    far.set(Fault::Delay(100 * MS));
    for shared in [false, true] {
        let want = Want::default().ttl(3 * S);
        let lease = if shared { want.shared() } else { want }.get(&a, "x");
        until("it has heard of it", || knows("x"));
        all[2].cli(&["FLUSHALL"]);
        until("it knows the lock again", || knows("x"));
        assert_eq!(lease.release().unwrap(), Standing::Ours);
        until("it has heard of that, too", || !knows("x"));
    }
}

#[test]
fn waiters_survive_the_death_of_a_minority_and_of_the_holder() {
    let mut all = servers(5);
    let dsn = quorum_dsn(&all);
    let dead = Want::default().ttl(3 * S).unrenewed().get(&connected(&all), "x");
    let (tell, told) = std::sync::mpsc::channel();
    let waiters: Vec<_> = (0..4)
        .map(|i| {
            let (e, tell) = (engine(&dsn), tell.clone());
            let waiter = thread::spawn(move || {
                let lease = Want::default().by(&i.to_string()).get(&e, "x");
                tell.send((i, lease.fence())).unwrap();
                assert_eq!(lease.release().unwrap(), Standing::Ours);
            });
            let observer = engine(&dsn);
            until("it queues", || waiting(&observer, "x") == i + 1);
            waiter
        })
        .collect();
    all[0].stop();
    all[4].stop();
    for waiter in waiters {
        waiter.join().unwrap();
    }
    let order: Vec<_> = told.try_iter().collect();
    assert_eq!(order.iter().map(|(i, _)| *i).collect::<Vec<_>>(), [0, 1, 2, 3], "first come, first served");
    assert!(order.windows(2).all(|pair| pair[0].1 < pair[1].1));
    assert!(!dead.is_held());
    std::mem::forget(dead);
    assert_clean(&all[1..4]);
}

/// A server, and the way there of one client: its questions can be kept back there while its next connections lead to the
/// server at once.
struct Detour {
    near: Proxy,
    far: Proxy,
    server: RedisServer,
}

impl Detour {
    fn to(server: RedisServer) -> Self {
        let far = Proxy::start(("127.0.0.1", server.port)).unwrap();
        Self { near: Proxy::start(far.address()).unwrap(), far, server }
    }

    /// What the client asks in `ask` does not arrive, and its connections break.
    fn keep_back<T>(&self, ask: impl FnOnce() -> T) -> T {
        self.far.set_one_way(Direction::Up, Fault::Hold);
        let before = self.near.carried(Direction::Up);
        let answer = ask();
        until("it was sent", || self.near.carried(Direction::Up) > before);
        self.near.lead_to(("127.0.0.1", self.server.port)).unwrap();
        self.near.end_all(Ending::Close);
        answer
    }

    /// Now it does.
    fn let_through(&self) {
        let before = commands(&self.server);
        self.far.set(Fault::Pass);
        until("it has arrived", || commands(&self.server) > before);
    }

    fn place_of(&self, token: &Token) -> String {
        self.server.cli(&["ZSCORE", "cluster_lock:{x}:q", std::str::from_utf8(token.as_bytes()).unwrap()])
    }

    fn holder(&self) -> Option<Holder> {
        let holders = engine(&self.server.tcp_dsn()).info(&name("x")).unwrap()?.holders;
        holders.into_iter().next()
    }
}

fn claim<'a>(lock: &'a LockName, token: &'a Token, identity: &'a [u8]) -> Claim<'a> {
    let (mode, ttl) = (Mode::Exclusive, 600 * S);
    Claim {
        name: lock,
        token,
        mode,
        ttl,
        identity,
        run: false,
        place: 0,
        converts: 0,
        slack: SLACK_MOST,
        attempt: 0,
    }
}

/// A client with a connection to each server.
fn connected_store(dsn: &str) -> Box<dyn Store> {
    let store = open(&config(dsn)).unwrap();
    until("all servers are connected", || {
        let (lock, token) = (name("warm up"), Token::random());
        store.attempt(&claim(&lock, &token, b"{}"), IfBusy::GiveUp).unwrap();
        store.release(&Hold::of(&lock, &token)).unwrap();
        store.status().idle == 3
    });
    store
}

fn place(attempt: &Attempt) -> u64 {
    let Attempt::Busy { place, .. } = attempt else { panic!("not busy: {attempt:?}") };
    *place
}

/// A waiter's question is on its way to one server while its next one is answered, and the lock held with that server's
/// vote: by mail, and by an attempt. Somebody with an earlier place, who was thought dead when it was handed over, waits.
#[test]
fn a_question_that_is_late_does_not_take_the_lock_back() {
    for (mode, by_mail) in
        [(Mode::Exclusive, false), (Mode::Exclusive, true), (Mode::Shared, false), (Mode::Shared, true)]
    {
        let mut all = servers(2);
        let detour = Detour::to(RedisServer::start(&[]));
        let dsn = |port| format!("{},127.0.0.1:{port}", quorum_dsn(&all));
        let (near, direct) = (dsn(detour.near.address().port()), dsn(detour.server.port));
        let (holder, store) = (engine(&direct), connected_store(&near));
        until("all are connected", || {
            drop(Want::default().get(&holder, "warm up"));
            holder.status().idle == 3
        });
        let lease = Want::default().unrenewed().get(&holder, "x");
        until("all know the holder", || detour.holder().is_some());
        let (lock, token) = (name("x"), Token::random());
        let mut late = Claim { mode, ..claim(&lock, &token, br#"{"n":"late"}"#) };
        late.place = place(&store.attempt(&late, IfBusy::Queue).unwrap());
        until("it is in the queue there, too", || detour.place_of(&token) == late.place.to_string());
        detour.keep_back(|| place(&store.attempt(&late, IfBusy::Queue).unwrap()));
        all[0].stop();
        lease.release().unwrap();
        // Mail that does not come from both at once is a reason to ask.
        if !by_mail || store.await_grant(&late, HANG, &|| false).unwrap() == Wake::Retry {
            let attempt = store.attempt(&late, IfBusy::Queue).unwrap();
            assert!(matches!(attempt, Attempt::Held(_)), "{attempt:?}");
        }
        let held = detour.holder().unwrap();
        let (rival, token) = (open(&config(&direct)).unwrap(), Token::random());
        let early = Claim { place: late.place - 1, ..claim(&lock, &token, br#"{"n":"early"}"#) };
        place(&rival.attempt(&early, IfBusy::Queue).unwrap());
        detour.let_through();
        let after = detour.holder().unwrap();
        assert_eq!(
            (&after.identity, after.fence),
            (&held.identity, held.fence),
            "{mode:?}, by mail: {by_mail}"
        );
        // With the vote of a server that has forgotten everything it would be one majority too many.
        all[0].restart();
        let attempt = rival.attempt(&early, IfBusy::Queue).unwrap();
        assert!(matches!(attempt, Attempt::Busy { .. }), "two holders, {mode:?}, by mail: {by_mail}");
        assert_eq!(store.renew(&Hold::of(&lock, late.token), late.ttl).unwrap(), Standing::Ours);
        assert_eq!(store.release(&Hold::of(&lock, late.token)).unwrap(), Standing::Ours);
        rival.release(&Hold::of(&lock, &token)).unwrap();
    }
}

/// One server says that it covers a waiter, and the others have let nobody know: the waiter neither believes that one
/// alone, nor is kept waiting by it when it needs its vote.
#[test]
fn a_run_that_only_one_server_knows_to_be_complete_covers_nobody_and_is_in_nobodys_way() {
    let mut all = servers(3);
    let store = connected_store(&quorum_dsn(&all));
    let (lock, first, second) = (name("x"), Token::random(), Token::random());
    let for_run = |token| Claim { run: true, ..claim(&lock, token, b"{}") };
    let Attempt::Held(grant) = store.attempt(&for_run(&first), IfBusy::Queue).unwrap() else {
        panic!("it is free")
    };
    let mut waiter = for_run(&second);
    waiter.place = place(&store.attempt(&waiter, IfBusy::Queue).unwrap());
    assert!(waiter.place > grant.fence, "it came after the run had begun");
    // As if it had come before: the run covers it.
    let (later, hold) = (grant.fence + 1_000_000, Hold::of(&lock, &first));
    all[0].cli(&["SET", "cluster_lock:{x}:d", &later.to_string(), "PX", "60000"]);
    let mut asked = 0;
    while waiter.place <= later {
        let attempt = store.attempt(&waiter, IfBusy::Queue).unwrap();
        waiter.place = place(&attempt).max(waiter.place);
        asked += 1;
        assert!(asked < 10, "it waits on: {attempt:?}");
        if waiter.place == later {
            break;
        }
    }
    all[2].stop();
    assert_eq!(store.release(&hold).unwrap(), Standing::Ours);
    let attempt = store.attempt(&waiter, IfBusy::Queue).unwrap();
    assert!(matches!(attempt, Attempt::Held(_)), "{attempt:?}");
    let Attempt::Held(grant) = attempt else { return };
    assert_eq!(store.complete(&Hold::of(&lock, &second), grant.fence).unwrap(), Standing::Ours);
}

/// A later run is complete. One server has missed that, and says so before the majority has answered that knows it.
#[test]
fn a_run_that_counted_goes_on_counting_where_a_server_has_missed_the_later_one() {
    let all = servers(3);
    let far = Proxy::start(("127.0.0.1", all[2].port)).unwrap();
    let store = connected_store(&format!("{},{}", quorum_dsn(&all[..2]), far.address()));
    let (lock, token) = (name("x"), Token::random());
    let claim = Claim { run: true, ..claim(&lock, &token, b"{}") };
    let Attempt::Held(grant) = store.attempt(&claim, IfBusy::Queue).unwrap() else { panic!("it is free") };
    let hold = Hold::of(&lock, &token);
    let holds = |server: &RedisServer| engine(&server.tcp_dsn()).info(&lock).unwrap().is_some();
    until("all know of it", || all.iter().all(holds));
    assert_eq!(store.complete(&hold, grant.fence).unwrap(), Standing::Ours);
    until("all know of its end", || !all.iter().any(holds));
    let later = grant.fence + 1_000_000;
    for (server, newest) in all.iter().zip([later, grant.fence, later]) {
        server.cli(&["SET", "cluster_lock:{x}:d", &newest.to_string(), "PX", "60000"]);
    }
    far.set(Fault::Delay(100 * MS));
    assert_eq!(store.complete(&hold, grant.fence).unwrap(), Standing::Ours);
}

/// Two readers are let in together, each by another majority. What the first one got from one server, which had given out
/// more than the others, the second one got from another.
#[test]
fn readers_that_are_let_in_by_different_majorities_have_different_tokens() {
    let all = servers(3);
    for (lead, lock) in [(1, "one"), (16, "sixteen")] {
        let store = connected_store(&quorum_dsn(&all));
        let (lock, writer, tokens) = (name(lock), Token::random(), [Token::random(), Token::random()]);
        assert!(matches!(
            store.attempt(&claim(&lock, &writer, b"{}"), IfBusy::Queue).unwrap(),
            Attempt::Held(_)
        ));
        let [record, queue] = ["", ":q"].map(|part| format!("cluster_lock:{{{}}}{part}", lock.encoded()));
        let text = |token: &Token| String::from_utf8(token.as_bytes().to_vec()).unwrap();
        let waits = |server: &RedisServer, token| !server.cli(&["ZSCORE", &queue, &text(token)]).is_empty();
        let readers: Vec<_> = tokens
            .iter()
            .map(|token| {
                let mut reader = Claim { mode: Mode::Shared, ..claim(&lock, token, b"{}") };
                reader.place = place(&store.attempt(&reader, IfBusy::Queue).unwrap());
                until("it waits everywhere", || all.iter().all(|server| waits(server, token)));
                reader
            })
            .collect();
        // Tokens are ahead of the clock, so that it does not matter how quick this is.
        let last: u64 = 1_900_000_000_000_000;
        for (server, fence) in all.iter().zip([last, last + lead, last]) {
            server.cli(&["SETRANGE", &record, "36", &fence.to_string()]);
        }
        for (server, token) in [(&all[1], &tokens[1]), (&all[2], &tokens[0])] {
            server.cli(&["ZREM", &queue, &text(token)]);
        }
        assert_eq!(store.release(&Hold::of(&lock, &writer)).unwrap(), Standing::Ours);
        let fences: Vec<u64> = readers
            .iter()
            .map(|reader| {
                loop {
                    match store.await_grant(reader, HANG, &|| false).unwrap() {
                        Wake::Granted(grant) => return grant.fence,
                        Wake::Retry => {}
                        other => panic!("{other:?}"),
                    }
                }
            })
            .collect();
        assert_ne!(fences[0], fences[1], "{lead}");
        for reader in &readers {
            assert_eq!(store.release(&Hold::of(&lock, reader.token)).unwrap(), Standing::Ours);
        }
    }
}

/// Two servers have let it in by mail, and one of them has taken that back since. A third one, whose mail has not come, has
/// given it more than the others: to whoever came before, perhaps more than these two know of.
#[test]
fn a_token_that_a_majority_confirms_is_the_greatest_of_theirs() {
    let all = servers(3);
    let store = connected_store(&quorum_dsn(&all));
    for (mode, lock) in [(Mode::Exclusive, "a writer's"), (Mode::Shared, "a reader's")] {
        let (lock, writer, token) = (name(lock), Token::random(), Token::random());
        let [record, info, mailbox] =
            ["", ":i", ":m:"].map(|part| format!("cluster_lock:{{{}}}{part}", lock.encoded()));
        let text = std::str::from_utf8(token.as_bytes()).unwrap();
        let attempt = store.attempt(&claim(&lock, &writer, b"{}"), IfBusy::Queue).unwrap();
        assert!(matches!(attempt, Attempt::Held(_)));
        let mut claim = Claim { mode, ..claim(&lock, &token, b"{}") };
        claim.place = place(&store.attempt(&claim, IfBusy::Queue).unwrap());
        let waits = |server: &RedisServer| waiting(&engine(&server.tcp_dsn()), &lock.to_string()) == 1;
        until("it waits everywhere", || all.iter().all(waits));
        assert_eq!(store.release(&Hold::of(&lock, &writer)).unwrap(), Standing::Ours);
        let lets_in = |server: &RedisServer| engine(&server.tcp_dsn()).info(&lock).unwrap().is_some();
        until("all have let it in", || all.iter().all(|server| lets_in(server) && !waits(server)));
        all[0].cli(&["DEL", &record]);
        let greatest = 1_900_000_000_000_000_u64.to_string();
        all[2].cli(&["DEL", &format!("{mailbox}{text}")]);
        all[2].cli(&["SETRANGE", &record, "36", &greatest]);
        if mode == Mode::Shared {
            all[2].cli(&["HSET", &info, text, &format!("{greatest} 0 1 {{}}")]);
        }
        let granted = store.await_grant(&claim, HANG, &|| false).unwrap();
        let Wake::Granted(grant) = granted else { panic!("{granted:?}") };
        assert!(grant.fence.to_string() >= greatest, "{mode:?}: {}", grant.fence);
        assert_eq!(store.release(&Hold::of(&lock, &token)).unwrap(), Standing::Ours);
    }
}

/// What a claim asked for before it was given back does not bring it back.
#[test]
fn a_question_that_is_late_does_not_bring_back_who_has_released() {
    let all = servers(2);
    let detour = Detour::to(RedisServer::start(&[]));
    let near = format!("{},{}", quorum_dsn(&all), detour.near.address());
    let store = connected_store(&near);
    let (lock, token) = (name("x"), Token::random());
    let claim = claim(&lock, &token, b"{}");
    let held = |attempt: &Attempt| matches!(attempt, Attempt::Held(_));
    assert!(held(&store.attempt(&claim, IfBusy::Queue).unwrap()));
    until("all know the holder", || detour.holder().is_some());
    assert!(held(&detour.keep_back(|| store.attempt(&claim, IfBusy::Queue).unwrap())));
    assert_eq!(store.release(&Hold::of(&lock, &token)).unwrap(), Standing::Ours);
    until("it was given back there, too", || detour.holder().is_none());
    detour.let_through();
    assert_eq!(detour.holder(), None);
}

/// Many who come at once, over and over: no two inside, all served, tokens in order.
#[test]
fn a_crowd_agrees() {
    const CLIENTS: usize = 8;
    const EACH: usize = 40;
    let all = servers(5);
    let inside = Arc::new(AtomicUsize::new(0));
    let fences = Arc::new(Mutex::new(Vec::new()));
    let threads: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (e, inside, fences) = (engine(&quorum_dsn(&all)), inside.clone(), fences.clone());
            thread::spawn(move || {
                for _ in 0..EACH {
                    let lease = Want::default().within(30 * S).get(&e, "x");
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two holders at once");
                    fences.lock().unwrap().push(lease.fence());
                    assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 1);
                    assert_eq!(lease.release().unwrap(), Standing::Ours);
                }
            })
        })
        .collect();
    for t in threads {
        t.join().unwrap();
    }
    let fences = fences.lock().unwrap();
    assert_eq!(fences.len(), CLIENTS * EACH);
    assert!(fences.windows(2).all(|pair| pair[0] < pair[1]));
    assert_clean(&all);
}

/// One try each, all at once, of a lock that is free: at most one gets it, and nothing stays behind.
#[test]
fn those_who_do_not_wait_leave_nothing_behind() {
    let all = servers(3);
    for round in 0..20 {
        let lock = format!("x{round}");
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (e, lock) = (engine(&quorum_dsn(&all)), lock.clone());
                thread::spawn(move || match Want::now().ask(&e, &lock) {
                    Acquired::Held { lease, .. } => Some(lease),
                    _ => None,
                })
            })
            .collect();
        let held: Vec<_> = threads.into_iter().filter_map(|t| t.join().unwrap()).collect();
        assert!(held.len() <= 1);
    }
    assert_clean(&all);
}

#[test]
fn a_wait_is_no_busy_loop() {
    let all = servers(3);
    let (a, b) = (connected(&all), engine(&quorum_dsn(&all)));
    let lease = Want::default().get(&a, "x");
    // One server has forgotten the holder, and grants the lock to the waiter, which is not enough.
    all[2].cli(&["FLUSHALL"]);
    let waiter = thread::spawn(move || Want::default().get(&b, "x").release().unwrap());
    until("b waits", || waiting(&a, "x") == 1);
    let before: u64 = all.iter().map(commands).sum();
    thread::sleep(3 * S); // the measuring time
    let asked = all.iter().map(commands).sum::<u64>() - before;
    assert!(asked < 60, "{asked} commands in 3 s");
    assert_eq!(lease.release().unwrap(), Standing::Ours);
    assert_eq!(waiter.join().unwrap(), Standing::Ours);
}

#[test]
fn no_thread_or_connection_before_the_first_lock_and_none_left() {
    let all = servers(3);
    let clients = || {
        let connected = |s: &RedisServer| s.cli(&["INFO", "clients"]).lines().nth(1).unwrap().to_owned();
        all.iter().map(connected).collect::<Vec<_>>()
    };
    let before = clients();
    let e = engine(&quorum_dsn(&all));
    assert_eq!(clients(), before);
    drop(Want::default().get(&e, "x"));
    assert_eq!(e.status().backend, "quorum");
    e.shutdown();
    until("the connections are closed", || clients() == before);
}

#[test]
fn the_list_shows_each_lock_once() {
    let mut all = servers(3);
    let e = connected(&all);
    let leases: Vec<_> = (0..5).map(|i| Want::default().by(&i.to_string()).get(&e, &i.to_string())).collect();
    let shared = [Want::default().shared().get(&e, "r"), Want::default().shared().get(&e, "r")];
    // What only one server thinks is held is not.
    let stray = format!("redis://127.0.0.1:{}", all[0].port);
    let _stray = Want::default().get(&engine(&stray), "stray");
    for _ in 0..2 {
        let listed = e.list(b"", 100).unwrap();
        let names: BTreeSet<_> = listed.iter().map(|r| r.name.to_string()).collect();
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["0", "1", "2", "3", "4", "r"]);
        assert_eq!(listed.len(), 6);
        let readers = listed.iter().find(|r| r.name == name("r")).unwrap();
        assert_eq!(readers.holders.len(), 2);
        assert_eq!(e.list(b"", 2).unwrap().len(), 2);
        all[0].stop();
    }
    for lease in leases.into_iter().chain(shared) {
        assert_eq!(lease.release().unwrap(), Standing::Ours);
    }
}

/// Ratios of one run. `cargo test --release -p cluster-lock-core --test quorum -- --ignored --nocapture`
#[test]
#[ignore = "measures; wants an idle machine"]
fn what_it_costs() {
    const ROUNDS: usize = 3000;
    let median = |e: &Engine| {
        let mut times: Vec<_> = (0..ROUNDS)
            .map(|_| {
                let began = Instant::now();
                Want::default().get(e, "x").release().unwrap();
                began.elapsed()
            })
            .collect();
        times.sort_unstable();
        times[ROUNDS / 2]
    };
    let one = RedisServer::start(&[]);
    let single = median(&engine(&one.tcp_dsn()));
    for count in [3, 5] {
        let mut all = servers(count);
        let e = engine(&quorum_dsn(&all));
        let up = median(&e);
        let minority = count / 2;
        let frozen: Vec<_> = all[..minority].iter().map(RedisServer::freeze).collect();
        let mute = median(&e);
        drop(frozen);
        all[..minority].iter_mut().for_each(RedisServer::stop);
        let down = median(&e);
        let majority: Vec<_> = all[minority..=2 * minority].iter().map(RedisServer::freeze).collect();
        let began = Instant::now();
        let _ = error(&e, "x");
        let failed = began.elapsed();
        drop(majority);
        let ratio = |a: Duration, b: Duration| a.as_secs_f64() / b.as_secs_f64();
        println!(
            "quorum of {count}: lock+unlock {up:?} = {:.2} x one server; {minority} down {:.2} x, {minority} frozen {:.2} x of all up; no majority: {failed:?} of a command_timeout of 1 s",
            ratio(up, single),
            ratio(down, up),
            ratio(mute, up),
        );
    }
}

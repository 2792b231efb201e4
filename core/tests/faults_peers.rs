//! Holders and waiters that die, waiters by the thousand, names of any bytes, and a server whose clock jumps.
//!
//! Processes that are killed, stopped or forked need a process: php-tests/LifeCycle. To a server a dead one is
//! a token that is not heard of any more, which is what these tests make.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use cluster_lock_core::store::machine::SLACK;
use cluster_lock_core::store::{Attempt, Claim, Hold, IfBusy, RedisStore, Store, Token};
use cluster_lock_core::{Acquired, Dsn, Engine, Error, LockError, LockName, Loss, Mode, Standing};
use fault_proxy::{Break, Direction, Ending, Fault, Proxy};
use support::{RedisServer, Want, assert_clean, config, name, patient, until, waiting};

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

/// An exclusive claim with a lease of 10 s, by somebody who does nothing of his own accord.
fn claim<'a>(lock: &'a LockName, token: &'a Token) -> Claim<'a> {
    Claim {
        name: lock,
        token,
        mode: Mode::Exclusive,
        ttl: 10 * S,
        identity: b"{}",
        place: 0,
        converts: 0,
        slack: SLACK,
        run: false,
        attempt: 0,
    }
}

fn store(server: &RedisServer) -> RedisStore {
    let config = config(&server.unix_dsn());
    let Dsn::Redis(address) = config.dsn.clone() else { panic!("not redis") };
    RedisStore::new(address, &config)
}

/// Takes the lock, or queues for it, and is never heard of again.
fn dies_after_asking(server: &RedisServer, lock: &str, mode: Mode, ttl: Duration) -> Attempt {
    let (lock, token) = (name(lock), Token::random());
    store(server).attempt(&Claim { mode, ttl, ..claim(&lock, &token) }, IfBusy::Queue).unwrap()
}

/// Not earlier; and not never: an hour of a clock that was set back is longer than anybody waits here.
fn gets_after(e: &Engine, lock: &str, bound: Duration) {
    let start = Instant::now();
    let lease = Want::default().get(e, lock);
    let took = start.elapsed();
    assert!(took >= bound, "{took:?} should be at least {bound:?}");
    assert_eq!(lease.release().unwrap(), Standing::Ours);
}

// ---- the dead --------------------------------------------------------------------------------------------------

#[test]
fn a_dead_holder_blocks_for_its_lease_and_no_longer() {
    let server = RedisServer::start(&[]);
    let e = patient(&server.unix_dsn());
    for mode in [Mode::Exclusive, Mode::Shared] {
        let held = dies_after_asking(&server, "x", mode, 700 * MS);
        assert!(matches!(held, Attempt::Held(_)), "{held:?}");
        gets_after(&e, "x", 680 * MS);
    }
    assert_clean(&server, &[&e]);
}

#[test]
fn dead_waiters_delay_by_one_hand_off() {
    let server = RedisServer::start(&[]);
    let (e, other) = (patient(&server.unix_dsn()), patient(&server.unix_dsn()));
    let lease = Want::default().get(&e, "x");
    for _ in 0..3 {
        let queued = dies_after_asking(&server, "x", Mode::Exclusive, 10 * S);
        assert!(matches!(queued, Attempt::Busy { .. }), "{queued:?}");
    }
    let waiter = {
        let other = other.clone();
        thread::spawn(move || {
            drop(Want::default().get(&other, "x"));
            Instant::now()
        })
    };
    until("the living waiter queues", || waiting(&e, "x") == 4);
    let released = Instant::now();
    drop(lease);
    let delay = waiter.join().unwrap() - released;
    // 2.2 s of them are the hand-off to the first of the dead; one more for a machine that is busy.
    assert!(delay < 4 * S, "{delay:?}");
    assert_clean(&server, &[&e, &other]);
}

#[test]
fn a_holder_that_slept_through_its_lease_finds_out_and_disturbs_nobody() {
    let server = RedisServer::start(&[]);
    let (a, b) = (patient(&server.unix_dsn()), patient(&server.unix_dsn()));
    for mode in [Mode::Exclusive, Mode::Shared] {
        // As after SIGSTOP: nothing renews it.
        let asleep = Want { mode, ..Want::default() }.ttl(300 * MS).unrenewed().get(&a, "x");
        let other = Want::default().get(&b, "x");
        assert!(!asleep.is_held());
        assert!(matches!(asleep.verify(), Err(Error::Lost(Loss::Expired(_)))));
        assert!(matches!(asleep.release(), Ok(Standing::Lost(Loss::Expired(_)))));
        other.verify().unwrap();
        assert_eq!(other.release().unwrap(), Standing::Ours);
    }
    assert_clean(&server, &[&a, &b]);
}

#[test]
fn a_grant_that_comes_with_the_time_out_is_kept() {
    let server = RedisServer::start(&[]);
    let s = store(&server);
    let lock = name("x");
    let (a, b) = (Token::random(), Token::random());
    let claim = |token| claim(&lock, token);
    assert!(matches!(s.attempt(&claim(&a), IfBusy::Queue), Ok(Attempt::Held(_))));
    assert!(matches!(s.attempt(&claim(&b), IfBusy::Queue), Ok(Attempt::Busy { .. })));
    assert_eq!(s.release(&Hold::of(&lock, &a)).unwrap(), Standing::Ours);
    // b's time is up before it has read its mail: the last try finds that it holds the lock.
    assert!(matches!(s.attempt(&claim(&b), IfBusy::GiveUp), Ok(Attempt::Held(_))));
    assert_eq!(s.release(&Hold::of(&lock, &b)).unwrap(), Standing::Ours);
    assert_eq!(server.keys(), ["cluster_lock:{x}"]);
}

#[test]
fn a_repeated_release_is_no_error_even_when_the_next_holder_is_in() {
    let server = RedisServer::start(&[]);
    let s = store(&server);
    let lock = name("x");
    let (a, b) = (Token::random(), Token::random());
    let claim = |token| claim(&lock, token);
    s.attempt(&claim(&a), IfBusy::Queue).unwrap();
    assert_eq!(s.release(&Hold::of(&lock, &a)).unwrap(), Standing::Ours);
    assert_eq!(s.release(&Hold::of(&lock, &a)).unwrap(), Standing::Ours);
    s.attempt(&claim(&b), IfBusy::Queue).unwrap();
    assert_eq!(s.release(&Hold::of(&lock, &a)).unwrap(), Standing::Ours);
    assert_eq!(s.renew(&Hold::of(&lock, &b), S).unwrap(), Standing::Ours);
}

// ---- many ------------------------------------------------------------------------------------------------------

/// Each with a connection of its own on which it sleeps, as twenty processes of fifty threads.
#[test]
fn a_thousand_waiters_are_served_in_order() {
    const ENGINES: usize = 20;
    const EACH: usize = 50;
    let server = RedisServer::start(&[]);
    let mut patient = config(&server.unix_dsn());
    // All of them at once on two processors: slow is not broken.
    patient.command_timeout = 30 * S;
    patient.connect_timeout = 30 * S;
    let engines: Vec<Engine> = (0..ENGINES).map(|_| Engine::new(&patient).unwrap()).collect();
    let lease = Want::default().ttl(60 * S).get(&engines[0], "x");
    let mut redis = server.redis();
    let mut queued = || redis::cmd("ZCARD").arg("cluster_lock:{x}:q").query::<usize>(&mut redis).unwrap();
    let (tell, told) = channel();
    let mut threads = Vec::new();
    for i in 0..ENGINES * EACH {
        let (e, tell) = (engines[i % ENGINES].clone(), tell.clone());
        let wait = move || {
            let lease = Want::default().within(120 * S).get(&e, "x");
            tell.send((i, lease.fence())).unwrap();
            lease.release().unwrap()
        };
        threads.push(thread::Builder::new().stack_size(256 * 1024).spawn(wait).unwrap());
        until("it queues", || queued() == i + 1);
    }
    assert_eq!(lease.release().unwrap(), Standing::Ours);
    for thread in threads {
        assert_eq!(thread.join().unwrap(), Standing::Ours);
    }
    drop(tell);
    let order: Vec<(usize, u64)> = told.iter().collect();
    assert!(order.iter().map(|(i, _)| *i).eq(0..ENGINES * EACH), "out of turn: {order:?}");
    assert!(order.windows(2).all(|pair| pair[0].1 < pair[1].1), "fencing tokens must grow");
    assert_clean(&server, &engines.iter().collect::<Vec<_>>());
}

/// As if so many had asked, and been killed: they stand at the head of the queue.
fn kill_waiters(servers: &[RedisServer], lock: &str, count: u32) {
    let join = "for i = 1, ARGV[1] do local token = string.format('%032d', i) redis.call('ZADD', KEYS[1] .. ':q', i, token) \
        redis.call('HSET', KEYS[1] .. ':w', token, '01 X ' .. i .. ' {}') end \
        redis.call('PEXPIRE', KEYS[1] .. ':q', 60000) redis.call('PEXPIRE', KEYS[1] .. ':w', 60000) \
        if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('SETRANGE', KEYS[1], 1, '+') end";
    let key = format!("cluster_lock:{{{lock}}}");
    for server in servers {
        server.cli(&["EVAL", join, "1", &key, &count.to_string()]);
    }
}

/// More than any one step takes out; less than a report looks at.
#[test]
fn thousands_of_dead_waiters_keep_the_lock_from_nobody() {
    const DEAD: u32 = 900;
    let servers: Vec<RedisServer> = (0..3).map(|_| RedisServer::start(&[])).collect();
    for dsn in [servers[0].unix_dsn(), support::quorum_dsn(&servers)] {
        let (a, b) = (patient(&dsn), patient(&dsn));
        // Who gives it back goes on until whoever is next is let in.
        let lease = Want::default().get(&a, "x");
        kill_waiters(&servers, "x", DEAD);
        let other = b.clone();
        let waiter = thread::spawn(move || Want::default().get(&other, "x").release().unwrap());
        until("it waits", || waiting(&a, "x") == 1);
        assert_eq!(lease.release().unwrap(), Standing::Ours);
        assert_eq!(waiter.join().unwrap(), Standing::Ours);
        // Who asks only once does, when nobody has given it back.
        let lease = Want::default().ttl(300 * MS).unrenewed().get(&a, "x");
        kill_waiters(&servers, "x", DEAD);
        until("the lease is over", || !lease.is_held() && a.info(&name("x")).unwrap().is_none());
        assert_eq!(Want::now().get(&b, "x").release().unwrap(), Standing::Ours);
        drop(lease);
        // And who breaks it.
        let lease = Want::default().get(&a, "x");
        kill_waiters(&servers, "x", DEAD);
        a.break_lock(&name("x"), None).unwrap();
        assert_eq!(Want::now().get(&b, "x").release().unwrap(), Standing::Ours);
        assert!(lease.release().is_ok());
        // Whose lock was broken is told so, whatever there is to do.
        let lease = Want::default().unrenewed().get(&a, "x");
        b.break_lock(&name("x"), None).unwrap();
        kill_waiters(&servers, "x", DEAD);
        assert_eq!(lease.release().unwrap(), Standing::Lost(Loss::Broken));
        assert_eq!(Want::now().get(&b, "x").release().unwrap(), Standing::Ours);
    }
}

/// Three readers and a dead one are gone at once: those who come among the first sixteen by that are all called up.
#[test]
fn who_sleeps_for_long_is_called_up_when_readers_and_the_dead_before_it_have_gone() {
    const JOIN: &str = "local now = redis.call('TIME')[1] * 1000 for i = 1, #ARGV[1] do \
        local token, wants = string.format('%032d', i), string.sub(ARGV[1], i, i) \
        local alive = wants == 'D' and 1 or now + 10000 redis.call('ZADD', KEYS[1] .. ':q', i, token) \
        redis.call('HSET', KEYS[1] .. ':w', token, string.format('0%.0f %s %d {}', alive, wants == 'D' and 'X' or wants, i)) \
        end redis.call('PEXPIRE', KEYS[1] .. ':q', 60000) redis.call('PEXPIRE', KEYS[1] .. ':w', 60000) \
        redis.call('SETRANGE', KEYS[1], 1, '*')";
    let server = RedisServer::start(&[]);
    let e = patient(&server.unix_dsn());
    let lease = Want::default().get(&e, "x");
    server.cli(&["EVAL", JOIN, "1", "cluster_lock:{x}", "SSSDXXXXXXXXXXXXxx"]);
    assert_eq!(lease.release().unwrap(), Standing::Ours);
    let records = server.cli(&["HVALS", "cluster_lock:{x}:w"]);
    let wants: Vec<_> = records.lines().filter_map(|record| record.split(' ').nth(1)).collect();
    assert_eq!(wants, ["X"; 14], "{records}");
}

// ---- names -----------------------------------------------------------------------------------------------------

#[test]
fn names_of_any_bytes_survive_faults_and_reach_no_other_lock() {
    let server = RedisServer::start(&[]);
    let proxy = Proxy::start(("127.0.0.1", server.port)).unwrap();
    let (near, far) = (patient(&server.unix_dsn()), patient(&format!("redis://{}", proxy.address())));
    let longest = [b"\x00{*\xc3\xa9}\r\n:q".as_slice()].repeat(120).concat();
    let names: Vec<&[u8]> = vec![
        b"a",
        b"{a}",
        b"a}",
        b"a}:q",
        b"a:q",
        b"a:m:",
        b"{}a",
        b"}{",
        b"\0",
        b"a\0",
        b"a\0b",
        b"\r\n",
        b" ",
        "gr\u{fc}n \u{1f512}".as_bytes(),
        b"\xff\xfe",
        b"*",
        b"%00",
        b"%",
        &longest[..1023],
        &longest[..1024],
    ];
    let ask = |e: &Engine, lock: &LockName, want: Want| want.with(|how| e.acquire(lock, how));
    drop(Want::now().get(&far, "warm"));
    let mut leases = Vec::new();
    for bytes in &names {
        let lock = LockName::new(bytes).unwrap();
        // A lost reply each, and all of them held at once.
        proxy.prepare(Break {
            direction: Direction::Down,
            after: 2,
            ending: Ending::Reset,
            then: Fault::Pass,
        });
        match ask(&far, &lock, Want::default()).unwrap() {
            Acquired::Held { lease, .. } => leases.push(lease),
            other => panic!("{lock}: {other:?}"),
        }
        assert!(matches!(ask(&near, &lock, Want::now()), Ok(Acquired::TimedOut { .. })), "{lock}");
        let message = LockError { name: lock, error: Error::Deadlock }.to_string();
        assert!(!message.chars().any(char::is_control), "{message:?}");
    }
    assert_eq!(near.list(b"", 100).unwrap().len(), names.len());
    for lease in leases {
        let (lock, near) = (lease.name().clone(), near.clone());
        let waiter = {
            let lock = lock.clone();
            thread::spawn(move || Want::default().with(|how| near.acquire(&lock, how)))
        };
        until("somebody waits", || !far.info(&lock).unwrap().unwrap().waiters.is_empty());
        assert_eq!(lease.release().unwrap(), Standing::Ours, "{lock}");
        match waiter.join().unwrap().unwrap() {
            Acquired::Held { lease, .. } => assert_eq!(lease.release().unwrap(), Standing::Ours),
            other => panic!("{lock}: {other:?}"),
        }
    }
    assert!(
        LockName::new(b"").is_err() && LockName::new(&[longest.as_slice(), b"xx"].concat()[..1025]).is_err()
    );
    assert_clean(&server, &[&near, &far]);
}

// ---- the server's clock ----------------------------------------------------------------------------------------

const HOUR: i64 = 3600;

/// To the server the lease is over, so that it lets the next one in: the fence tells them apart.
#[test]
fn a_clock_that_jumps_ahead_ends_leases_and_the_fence_tells() {
    let server = &RedisServer::start_with_running_clock();
    let (a, b) = (patient(&server.unix_dsn()), patient(&server.unix_dsn()));
    for mode in [Mode::Exclusive, Mode::Shared] {
        let lease = Want { mode, ..Want::default() }.get(&a, "x");
        server.set_clock_ahead(HOUR);
        let other = Want::now().get(&b, "x");
        assert!(other.fence() > lease.fence());
        let lost = lease.verify().unwrap_err();
        assert!(matches!(lost, Error::Lost(Loss::Superseded | Loss::Forgotten)));
        assert!(lost.to_string().contains("its clock was set forward"), "{lost}");
        assert!(matches!(lease.release(), Ok(Standing::Lost(_))));
        let fence = other.fence();
        assert_eq!(other.release().unwrap(), Standing::Ours);
        // Set right again, it is behind the last token.
        server.set_clock_ahead(0);
        let next = Want::now().get(&a, "x");
        assert!(next.fence() > fence);
        assert_eq!(next.release().unwrap(), Standing::Ours);
    }
    assert_clean(server, &[&a, &b]);
}

#[test]
fn a_clock_that_jumps_costs_waiters_nothing() {
    for jump in [HOUR, -HOUR, 5 * 86_400, -5 * 86_400] {
        let server = &RedisServer::start_with_running_clock();
        let (a, b) = (patient(&server.unix_dsn()), patient(&server.unix_dsn()));
        let lease = Want::default().get(&a, "x");
        let fence = lease.fence();
        let waiter = {
            let b = b.clone();
            thread::spawn(move || {
                let lease = Want::default().get(&b, "x");
                (lease.fence(), lease.release().unwrap())
            })
        };
        until("b waits", || waiting(&a, "x") == 1);
        server.set_clock_ahead(jump);
        let standing = lease.release().unwrap();
        assert!(jump > 0 || standing == Standing::Ours, "{jump}: {standing:?}");
        let (next, standing) = waiter.join().unwrap();
        assert!(next > fence, "{jump}");
        assert_eq!(standing, Standing::Ours, "{jump}");
        assert_clean(server, &[&a, &b]);
    }
}

#[test]
fn a_clock_that_is_set_back_costs_a_holder_nothing() {
    let server = &RedisServer::start_with_running_clock();
    let e = patient(&server.unix_dsn());
    for mode in [Mode::Exclusive, Mode::Shared] {
        let lease = Want { mode, ..Want::default() }.get(&e, "x");
        server.set_clock_ahead(-HOUR);
        lease.verify().unwrap();
        Want::now().refused(&e, "x");
        let fence = lease.fence();
        assert_eq!(lease.release().unwrap(), Standing::Ours);
        let next = Want::now().get(&e, "x");
        assert!(next.fence() > fence, "{mode:?}");
        assert_eq!(next.release().unwrap(), Standing::Ours);
        server.set_clock_ahead(0);
    }
    assert_clean(server, &[&e]);
}

#[test]
fn the_dead_do_not_live_longer_when_the_clock_is_set_back() {
    let server = &RedisServer::start_with_running_clock();
    let e = patient(&server.unix_dsn());
    for mode in [Mode::Exclusive, Mode::Shared] {
        dies_after_asking(server, "x", mode, 700 * MS);
        server.set_clock_ahead(-HOUR);
        gets_after(&e, "x", Duration::ZERO);
        server.set_clock_ahead(0);
    }
    let lease = Want::now().get(&e, "y");
    for _ in 0..3 {
        dies_after_asking(server, "y", Mode::Exclusive, 700 * MS);
    }
    server.set_clock_ahead(-HOUR);
    assert_eq!(lease.release().unwrap(), Standing::Ours);
    gets_after(&e, "y", Duration::ZERO);
    assert_clean(server, &[&e]);
}

#[test]
fn tokens_grow_when_the_servers_clock_is_behind_them() {
    let server = RedisServer::start(&[]);
    let e = patient(&server.unix_dsn());
    // As after the clock was set back by a year: the last token lies in the future.
    let ahead = 1_900_000_000_000_000_u64 + 365 * 86_400_000_000;
    let record = format!("F- {} {ahead}", "-".repeat(32));
    server.cli(&["SET", "cluster_lock:{x}", &record, "EX", "60"]);
    let lease = Want::default().get(&e, "x");
    assert_eq!(lease.fence(), ahead + 1);
    drop(lease);
    // The record is kept until the clock has passed it, or it would be forgotten too early.
    let ttl: i64 = server.cli(&["PTTL", "cluster_lock:{x}"]).parse().unwrap();
    assert!(ttl > 86_400_000, "{ttl}");
    assert_eq!(Want::default().get(&e, "x").fence(), ahead + 2);
    assert_clean(&server, &[&e]);
}

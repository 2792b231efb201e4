//! Locks that are given back without waiting for the server's answer: what a thread does is carried out in its order, what
//! came of it is known in the end, and nobody holds what was given back, whatever happens on the way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use cluster_lock_core::{Broken, Config, Engine, Error, Lease, Loss, Owed, Parted, Standing};
use fault_proxy::{Break, Direction, Ending, Fault, Proxy};
use support::certificates::Certificates;
use support::cluster::ClusterSetup;
use support::{HANG, RedisServer, Want, assert_clean, config, name, patient, until, waiting};

const MS: Duration = Duration::from_millis(1);
/// Longer than any test: what comes free was given back.
const FOR_EVER: Duration = Duration::from_secs(600);

/// A server, an engine beside it, and one behind a network that can fail.
struct Way {
    server: RedisServer,
    proxy: Proxy,
    near: Engine,
    far: Engine,
}

impl Way {
    fn new() -> Self {
        Self::with(|_| ())
    }

    fn with(shape: impl FnOnce(&mut Config)) -> Self {
        let server = RedisServer::start(&[]);
        let proxy = Proxy::start(("127.0.0.1", server.port)).unwrap();
        let mut config = config(&format!("redis://{}", proxy.address()));
        (config.connect_timeout, config.command_timeout) = (HANG, HANG);
        config.retry_after = Duration::ZERO;
        shape(&mut config);
        let far = Engine::new(&config).unwrap();
        let near = patient(&server.unix_dsn());
        warm(&far, "warm");
        Self { server, proxy, near, far }
    }

    /// Time-outs that a test can wait for.
    fn impatient() -> Self {
        Self::with(|config| (config.connect_timeout, config.command_timeout) = (700 * MS, 700 * MS))
    }

    fn lose(&self, direction: Direction, ending: Ending) {
        self.proxy.prepare(Break { direction, after: 0, ending, then: Fault::Pass });
    }

    fn assert_clean(self) {
        self.proxy.set(Fault::Pass);
        assert_clean(&self.server, &[&self.near, &self.far]);
    }
}

/// The server has run the release on this thread's connection.
fn warm(engine: &Engine, lock: &str) {
    for _ in 0..2 {
        assert_eq!(Want::now().get(engine, lock).release().unwrap(), Standing::Ours);
    }
}

#[track_caller]
fn part(lease: Lease) -> Owed {
    match lease.part().unwrap() {
        Parted::Owed(owed) => owed,
        Parted::Done(standing) => panic!("it was waited for: {standing:?}"),
    }
}

#[track_caller]
fn answer(owed: &Owed) -> Standing {
    owed.answer().expect("it has been taken in").unwrap()
}

/// Others get it.
#[track_caller]
fn assert_free(engine: &Engine, lock: &str) {
    assert_eq!(Want::default().get(engine, lock).release().unwrap(), Standing::Ours);
}

#[test]
fn it_is_free_at_once_and_the_answer_comes_with_the_next_command() {
    let way = Way::new();
    let lease = Want::now().ttl(FOR_EVER).get(&way.far, "x");
    // No answer comes.
    way.proxy.set_one_way(Direction::Down, Fault::Hold);
    let owed = part(lease);
    assert_eq!((owed.name(), owed.is_own()), (&name("x"), true));
    assert_free(&way.near, "x");
    assert!(owed.answer().is_none());
    way.proxy.set(Fault::Pass);
    let next = Want::now().get(&way.far, "y");
    assert_eq!(answer(&owed), Standing::Ours);
    let owed = part(next);
    owed.settle();
    assert_eq!(answer(&owed), Standing::Ours);
    way.assert_clean();
}

#[test]
fn the_first_on_a_connection_is_waited_for_since_the_server_may_not_have_the_script() {
    let server = RedisServer::start(&[]);
    let e = patient(&server.tcp_dsn());
    for _ in 0..2 {
        assert!(matches!(Want::now().get(&e, "x").part().unwrap(), Parted::Done(Standing::Ours)));
    }
    part(Want::now().get(&e, "x")).settle();
    assert_clean(&server, &[&e]);
}

#[test]
fn what_a_thread_does_to_a_lock_is_carried_out_in_its_order_on_one_connection() {
    let way = Way::with(|config| config.pool_size = 2);
    let created = way.far.status().created;
    for _ in 0..100 {
        part(Want::now().get(&way.far, "x"));
    }
    // Reports know it, too.
    assert_eq!(way.far.info(&name("x")).unwrap(), None);
    let leases: Vec<_> = (0..5).map(|i| Want::now().get(&way.far, &format!("many{i}"))).collect();
    let owed: Vec<_> = leases.into_iter().map(part).collect();
    assert_eq!(way.far.list(b"many", 10).unwrap(), []);
    assert!(owed.iter().all(|owed| answer(owed) == Standing::Ours));
    assert_eq!(way.far.status().created, created);
    way.assert_clean();
}

#[test]
fn each_costs_the_server_what_it_costs_when_it_is_waited_for() {
    let way = Way::new();
    way.server.cli(&["CONFIG", "RESETSTAT"]);
    for _ in 0..1500 {
        let owed = part(Want::now().get(&way.far, "x"));
        owed.settle();
        assert_eq!(answer(&owed), Standing::Ours);
    }
    // Nothing was left to the background, unless this process stood still for a second, nor counted there.
    let run = scripts_run(&way.server);
    assert!((3000..3100).contains(&run), "{run}");
    way.assert_clean();
}

#[test]
fn an_encrypted_connection_owes_as_well() {
    let certificates = Certificates::make();
    let options = certificates.for_servers();
    let options: Vec<_> = options.iter().flat_map(|(option, value)| [*option, value]).collect();
    let server = RedisServer::start(&options);
    let e = patient(&format!("rediss://127.0.0.1:{}?{}", server.port, certificates.for_clients()));
    warm(&e, "warm");
    let mut all = Vec::new();
    for round in 0..200 {
        let leases: Vec<_> = (0..round % 4).map(|i| Want::now().get(&e, &format!("x{i}"))).collect();
        all.retain(|owed: &Owed| owed.answer().is_none_or(|answer| answer.unwrap() != Standing::Ours));
        all.extend(leases.into_iter().map(part));
        if round % 3 == 0 {
            thread::sleep(Duration::from_millis(round % 15));
            all.iter().for_each(Owed::settle);
        }
    }
    assert_eq!(e.info(&name("x0")).unwrap(), None);
    assert!(all.iter().all(|owed| answer(owed) == Standing::Ours));
    assert_clean(&server, &[&e]);
}

#[test]
fn so_many_answers_are_owed_and_then_one_waits() {
    let way = Way::with(|config| config.pool_size = 1);
    let leases: Vec<_> = (0..20).map(|i| Want::now().get(&way.far, &format!("x{i}"))).collect();
    let parted: Vec<_> = leases.into_iter().map(|lease| lease.part().unwrap()).collect();
    assert!(parted[..16].iter().all(|parted| matches!(parted, Parted::Owed(_))), "{parted:?}");
    assert!(matches!(&parted[16], Parted::Done(Standing::Ours)), "{parted:?}");
    assert!(matches!(&parted[17], Parted::Owed(_)), "{parted:?}");
    // There is one connection to set aside, which this thread has.
    let far = way.far.clone();
    let other = thread::spawn(move || {
        warm(&far, "y");
        matches!(Want::now().get(&far, "y").part().unwrap(), Parted::Done(Standing::Ours))
    });
    assert!(other.join().unwrap());
    way.far.info(&name("x")).unwrap();
    for parted in &parted {
        assert!(
            matches!(parted, Parted::Done(_))
                || matches!(parted, Parted::Owed(o) if answer(o) == Standing::Ours)
        );
    }
    way.assert_clean();
}

#[test]
fn threads_are_owed_apart_and_whoever_waits_for_a_lock_has_a_connection_of_its_own() {
    let way = Way::new();
    let held = Want::default().get(&way.near, "taken");
    let lease = Want::now().get(&way.far, "x");
    way.proxy.set_one_way(Direction::Down, Fault::Hold);
    let owed = part(lease);
    way.proxy.set(Fault::Pass);
    let far = way.far.clone();
    let waiter = thread::spawn(move || Want::default().get(&far, "taken").release().unwrap());
    until("it waits", || waiting(&way.near, "taken") == 1);
    assert!(owed.answer().is_none(), "another thread has read it");
    assert_eq!(held.release().unwrap(), Standing::Ours);
    assert_eq!(waiter.join().unwrap(), Standing::Ours);
    // The one that is owed something waits itself, behind that.
    let held = Want::default().get(&way.near, "taken");
    let near = way.near.clone();
    let releasing = thread::spawn(move || {
        until("it waits", || waiting(&near, "taken") == 1);
        held.release().unwrap()
    });
    let next = Want::default().get(&way.far, "taken");
    assert_eq!((releasing.join().unwrap(), answer(&owed)), (Standing::Ours, Standing::Ours));
    assert_eq!(next.release().unwrap(), Standing::Ours);
    way.assert_clean();
}

#[test]
fn a_loss_is_told_late_and_one_that_is_known_at_once() {
    let way = Way::new();
    let lease = Want::now().get(&way.far, "x");
    assert_eq!(way.near.break_lock(&name("x"), None).unwrap(), Broken::Yes);
    let owed = part(lease);
    owed.settle();
    assert_eq!(answer(&owed), Standing::Lost(Loss::Broken));
    let lease = Want::now().ttl(100 * MS).unrenewed().get(&way.far, "x");
    until("it has run out", || !lease.is_held());
    assert!(matches!(lease.part().unwrap(), Parted::Done(Standing::Lost(Loss::Expired(_)))));
    way.assert_clean();
}

#[test]
fn what_is_lost_on_the_way_is_sent_again_before_anything_else() {
    let breaks =
        [(Direction::Up, Ending::Reset), (Direction::Down, Ending::Close), (Direction::Down, Ending::Reset)];
    for (direction, ending) in breaks {
        for goes_on in [true, false] {
            let way = Way::new();
            let lease = Want::now().ttl(FOR_EVER).get(&way.far, "x");
            way.lose(direction, ending);
            let owed = part(lease);
            if goes_on {
                // Nobody has it, least of all the thread that has given it back.
                let again = Want::now().ttl(FOR_EVER).get(&way.far, "x");
                assert_eq!(again.release().unwrap(), Standing::Ours);
            } else {
                owed.settle();
            }
            assert_eq!(answer(&owed), Standing::Ours, "{direction:?} {ending:?} {goes_on}");
            assert_free(&way.near, "x");
            way.assert_clean();
        }
    }
}

#[test]
fn what_is_lost_on_the_way_the_background_sends_again_when_nobody_asks() {
    let way = Way::new();
    let lease = Want::now().ttl(FOR_EVER).get(&way.far, "x");
    way.lose(Direction::Up, Ending::Reset);
    let owed = part(lease);
    assert_free(&way.near, "x");
    // By now another has been let in since, which is no loss.
    owed.settle();
    assert_eq!(answer(&owed), Standing::Ours);
    way.assert_clean();
}

#[test]
fn an_answer_that_comes_after_the_background_has_released_it_is_no_loss() {
    let way = Way::new();
    let lane = Proxy::start(("127.0.0.1", way.server.port)).unwrap();
    // From now on new connections go another way.
    way.proxy.end_all(Ending::Close);
    way.proxy.lead_to(lane.address()).unwrap();
    warm(&way.far, "warm");
    let lease = Want::now().ttl(FOR_EVER).get(&way.far, "x");
    lane.set_one_way(Direction::Up, Fault::Hold);
    let owed = part(lease);
    way.proxy.lead_to(("127.0.0.1", way.server.port)).unwrap();
    assert_free(&way.near, "x");
    assert!(owed.answer().is_none());
    lane.set(Fault::Pass);
    owed.settle();
    assert_eq!(answer(&owed), Standing::Ours);
    way.assert_clean();
}

/// How often the server has run a script.
fn scripts_run(server: &RedisServer) -> u64 {
    let stats = server.cli(&["INFO", "commandstats"]);
    let calls = stats.split_once("cmdstat_evalsha:calls=").unwrap().1.split(',').next().unwrap();
    calls.parse().unwrap()
}

/// The background has gone once more through all that it has to do.
fn until_round_over(engine: &Engine) {
    let renewed = || engine.counters().renewals.load(Ordering::Relaxed);
    let before = renewed();
    until("a lease is renewed", || renewed() > before + 1);
}

#[test]
fn a_loss_is_told_also_when_others_have_come_since_and_the_background_has_asked_in_vain() {
    let way = Way::new();
    for (option, value) in [("slowlog-log-slower-than", "0"), ("slowlog-max-len", "100000")] {
        way.server.cli(&["CONFIG", "SET", option, value]);
    }
    let other = Want::now().ttl(1000 * MS).get(&way.far, "other");
    let lease = Want::now().ttl(FOR_EVER).get(&way.far, "x");
    assert_eq!(way.near.break_lock(&name("x"), None).unwrap(), Broken::Yes);
    // Somebody has come and gone: of what was before, the server knows nothing any more.
    assert_eq!(Want::now().get(&way.near, "x").release().unwrap(), Standing::Ours);
    way.server.cli(&["SLOWLOG", "RESET"]);
    let owed = part(lease);
    // Commands, and not what they run.
    let released = || way.server.cli(&["SLOWLOG", "GET", "-1"]).matches("\n1\ncluster_lock:{x}\n").count();
    until("the background has released it, too", || released() == 2);
    until_round_over(&way.far);
    owed.settle();
    assert_eq!(answer(&owed), Standing::Lost(Loss::Superseded));
    assert_eq!(other.release().unwrap(), Standing::Ours);
    way.assert_clean();
}

#[test]
fn a_server_that_does_not_answer_costs_one_time_out_and_keeps_nothing() {
    let way = Way::impatient();
    let leases: Vec<_> = (0..5).map(|i| Want::now().ttl(FOR_EVER).get(&way.far, &format!("x{i}"))).collect();
    let frozen = way.server.freeze();
    let owed: Vec<_> = leases.into_iter().map(part).collect();
    owed[0].settle();
    for owed in &owed {
        let error = owed.answer().unwrap().unwrap_err();
        assert!(matches!(&error, Error::Connection { cause, .. } if cause.contains("0.700 s")), "{error:?}");
    }
    drop(frozen);
    for i in 0..5 {
        assert_free(&way.near, &format!("x{i}"));
    }
    way.assert_clean();
}

#[test]
fn scripts_that_the_server_has_forgotten_are_sent_again() {
    let way = Way::new();
    way.proxy.set(Fault::Delay(150 * MS));
    let lease = Want::now().ttl(FOR_EVER).get(&way.far, "x");
    way.server.cli(&["SCRIPT", "FLUSH"]);
    // It has learned one of them again.
    let other = Want::now().get(&way.near, "other");
    let owed = part(lease);
    // It is held until then, and not found to be by the one who has given it back.
    let again = Want::now().ttl(FOR_EVER).get(&way.far, "x");
    assert_eq!(answer(&owed), Standing::Ours);
    for lease in [again, other] {
        assert_eq!(lease.release().unwrap(), Standing::Ours);
    }
    way.assert_clean();
}

#[test]
fn a_server_that_is_killed_keeps_nothing_and_one_that_comes_back_is_asked() {
    let mut server = RedisServer::start(&[]);
    let mut impatient = config(&server.tcp_dsn());
    impatient.retry_after = Duration::ZERO;
    let e = Engine::new(&impatient).unwrap();
    warm(&e, "warm");
    let lease = Want::now().ttl(FOR_EVER).get(&e, "x");
    server.stop();
    // Whether the close has been seen by now is not known.
    let told = lease.part().and_then(|parted| match parted {
        Parted::Done(standing) => Ok(standing),
        Parted::Owed(owed) => {
            owed.settle();
            owed.answer().unwrap()
        }
    });
    assert!(matches!(told, Err(Error::Connection { .. })), "{told:?}");
    server.restart();
    let lease = Want::default().get(&e, "x");
    server.restart();
    // It has lost its data, and the lock with them.
    match lease.part().unwrap() {
        Parted::Done(standing) => assert_eq!(standing, Standing::Lost(Loss::Forgotten)),
        Parted::Owed(owed) => {
            owed.settle();
            assert_eq!(answer(&owed), Standing::Lost(Loss::Forgotten));
        }
    }
    assert_clean(&server, &[&e]);
}

#[test]
fn a_server_without_its_memory_takes_the_holders_word_for_it_in_its_grace_period() {
    let server = RedisServer::start(&[]);
    let e = patient(&format!("{}?grace=600", server.tcp_dsn()));
    e.end_grace();
    warm(&e, "warm");
    for loses in ["FLUSHALL", "SCRIPT FLUSH"] {
        let lease = Want::now().ttl(FOR_EVER).get(&e, "x");
        server.cli(&["FLUSHALL"]);
        server.cli(&loses.split(' ').collect::<Vec<_>>());
        let owed = part(lease);
        owed.settle();
        assert_eq!(answer(&owed), Standing::Ours, "{loses}");
        e.end_grace();
        assert_free(&e, "x");
    }
}

#[test]
fn a_server_that_has_become_a_replica_refuses_and_is_asked_again() {
    let way = Way::new();
    let lease = Want::now().ttl(FOR_EVER).get(&way.far, "x");
    let nowhere = support::free_port().to_string();
    assert_eq!(way.server.cli(&["REPLICAOF", "127.0.0.1", &nowhere]), "OK");
    let owed = part(lease);
    owed.settle();
    let error = owed.answer().unwrap().unwrap_err();
    assert!(matches!(&error, Error::Server { cause, .. } if cause.contains("READONLY")), "{error:?}");
    assert_eq!(way.server.cli(&["REPLICAOF", "NO", "ONE"]), "OK");
    assert_free(&way.near, "x");
    way.assert_clean();
}

#[test]
fn a_lock_whose_slot_has_moved_is_released_where_it_is() {
    let setup = ClusterSetup::start();
    let e = patient(&setup.dsn());
    let slot = setup.slot("x");
    let from = setup.owner(slot);
    warm(&e, "x");
    let lease = Want::now().ttl(FOR_EVER).get(&e, "x");
    setup.begin_move(slot, from, setup.another_primary(from));
    assert!(setup.move_key("cluster_lock:{x}", from, setup.another_primary(from)));
    setup.end_move(slot, from, setup.another_primary(from));
    let owed = part(lease);
    let again = Want::now().ttl(FOR_EVER).get(&e, "x");
    assert_eq!((answer(&owed), again.release().unwrap()), (Standing::Ours, Standing::Ours));
    e.shutdown();
}

#[test]
fn an_engine_that_ends_drops_what_it_is_owed() {
    let way = Way::new();
    let lease = Want::now().get(&way.far, "x");
    let owed = part(lease);
    way.far.shutdown();
    assert_free(&way.near, "x");
    owed.settle();
    drop(owed);
    way.assert_clean();
}

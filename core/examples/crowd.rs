//! Many programs in one, for `script/bench --only scale`: so many leases that are kept alive, or so many waiters behind one
//! lock. PHP processes in such numbers would measure this machine's memory.
//!
//! ```text
//! crowd hold DSN LOCKS        takes so many locks and keeps them; "ready", and for the next line "lost L renewals R"
//! crowd wait DSN WAITERS      takes one lock, for which so many wait; "ready" when all have begun to. For each line "N" the
//!                             next N are let in, one after the other: "NANOSECONDS…" from each release to the next's start
//! ```
//! The end of stdin ends it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead, Lines, StdinLock, Write, stdin, stdout};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use cluster_lock_core::{Acquire, Acquired, Config, Dsn, Engine, Identity, Lease, LockName, Mode};

/// So many threads take the locks: at 50 ms each, one alone would need minutes.
const TAKERS: usize = 64;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, dsn, number] = arguments.as_slice() else { panic!("crowd hold|wait DSN NUMBER") };
    let config = Config { pool_size: TAKERS, ..Config::new(Dsn::parse(dsn).unwrap()) };
    let number = number.parse().unwrap();
    let lines = stdin().lock().lines();
    match what.as_str() {
        "hold" => hold(&config, number, lines),
        "wait" => wait(&config, number, lines),
        _ => panic!("crowd hold|wait"),
    }
    // Who waits still is not waited for.
    std::process::exit(0);
}

fn say(line: &str) {
    println!("{line}");
    stdout().flush().unwrap();
}

fn acquire(engine: &Engine, name: &str) -> Lease {
    let identity = Identity { node: "bench".into(), pid: std::process::id(), ..Identity::default() }.encode();
    let how = Acquire {
        mode: Mode::Exclusive,
        run: false,
        timeout: None,
        ttl: Duration::from_secs(10),
        auto_renew: true,
        max_hold: None,
        identity: &identity,
        interrupted: &|| false,
    };
    match engine.acquire(&LockName::new(name.as_bytes()).unwrap(), &how) {
        Ok(Acquired::Held { lease, .. }) => lease,
        other => panic!("{other:?}"),
    }
}

fn hold(config: &Config, number: usize, lines: Lines<StdinLock<'_>>) {
    let engine = &Engine::new(config).unwrap();
    let leases: Vec<Lease> = thread::scope(|scope| {
        let take =
            |taker| (taker..number).step_by(TAKERS).map(|i| acquire(engine, &format!("held:{i}"))).collect();
        let takers: Vec<_> =
            (0..TAKERS).map(|taker| scope.spawn(move || -> Vec<Lease> { take(taker) })).collect();
        takers.into_iter().flat_map(|taker| taker.join().unwrap()).collect()
    });
    say("ready");
    for _ in lines {
        let lost = leases.iter().filter(|lease| !lease.is_held()).count();
        say(&format!("lost {lost} renewals {}", engine.counters().renewals.load(Ordering::Relaxed)));
    }
}

/// One that waits: an engine of its own, as if it were a process.
fn waiter(config: &Config, begins: &Sender<()>, entered: &Sender<Lease>) {
    let engine = Engine::new(config).unwrap();
    begins.send(()).unwrap();
    let _ = entered.send(acquire(&engine, "crowd"));
}

fn wait(config: &Config, number: usize, lines: Lines<StdinLock<'_>>) {
    let config = &Config { pool_size: 1, ..config.clone() };
    let mut holder = acquire(&Engine::new(config).unwrap(), "crowd");
    let (tell, told) = channel();
    let (enter, entered): (Sender<Lease>, Receiver<Lease>) = channel();
    for _ in 0..number {
        let (config, tell, enter) = (config.clone(), tell.clone(), enter.clone());
        let waiter = move || waiter(&config, &tell, &enter);
        thread::Builder::new().stack_size(256 << 10).spawn(waiter).unwrap();
    }
    told.iter().take(number).for_each(drop);
    say("ready");
    for line in lines {
        let mut took = Vec::new();
        for _ in 0..line.unwrap().trim().parse().unwrap() {
            let released = Instant::now();
            holder.release().unwrap();
            holder = entered.recv().unwrap();
            took.push(released.elapsed().as_nanos().to_string());
        }
        say(&took.join(" "));
    }
}

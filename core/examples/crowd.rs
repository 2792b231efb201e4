//! Many programs in one, for `script/bench --only scale`: so many leases that are kept alive, or so many waiters behind one
//! lock. PHP processes in such numbers would measure this machine's memory.
//!
//! ```text
//! crowd hold DSN LOCKS        takes so many locks and keeps them; "ready", and for the next line "lost L renewals R"
//! crowd wait DSN WAITERS      takes one lock, for which so many wait; "ready" when all have begun to. For each line "N" the
//!                             next N are let in, one after the other: "NANOSECONDS…" from each release to the next's start
//! crowd call DSN CALLERS [SPREAD] [plain]
//!                             so many callers who want 100 ms of work done, spread over so many ms, for a run of it, or as
//!                             plain users of one lock: "runs R p50 M p99 M max M", in ms, from the call to its return
//! ```
//! The end of stdin ends it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::{BufRead, Lines, StdinLock, Write, stdin, stdout};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use cluster_lock_core::{Acquire, Acquired, Config, Dsn, Engine, Identity, Lease, LockName, Mode, Standing};

/// So many threads take the locks: at 50 ms each, one alone would need minutes.
const TAKERS: usize = 64;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, dsn, number, more @ ..] = arguments.as_slice() else {
        panic!("crowd hold|wait|call DSN NUMBER")
    };
    let config = Config { pool_size: TAKERS, ..Config::new(Dsn::parse(dsn).unwrap()) };
    let number = number.parse().unwrap();
    let lines = stdin().lock().lines();
    match what.as_str() {
        "hold" => hold(&config, number, lines),
        "wait" => wait(&config, number, lines),
        "call" => {
            let spread = more.iter().find_map(|word| word.parse().ok()).unwrap_or(0);
            call(&config, number, spread, !more.iter().any(|word| word == "plain"));
        }
        _ => panic!("crowd hold|wait|call"),
    }
    // Who waits still is not waited for.
    std::process::exit(0);
}

fn say(line: &str) {
    println!("{line}");
    stdout().flush().unwrap();
}

fn acquire(engine: &Engine, name: &str) -> Lease {
    match ask(engine, name, false) {
        Acquired::Held { lease, .. } => lease,
        other => panic!("{other:?}"),
    }
}

fn ask(engine: &Engine, name: &str, run: bool) -> Acquired {
    let identity = Identity { node: "bench".into(), pid: std::process::id(), ..Identity::default() }.encode();
    let how = Acquire {
        mode: Mode::Exclusive,
        run,
        timeout: None,
        ttl: Duration::from_secs(10),
        auto_renew: true,
        max_hold: None,
        identity: &identity,
        interrupted: &|| false,
    };
    engine.acquire(&LockName::new(name.as_bytes()).unwrap(), &how).unwrap()
}

/// What a run does.
const WORK: Duration = Duration::from_millis(100);

/// Each caller has an engine of its own, connected, as if it were a process that has locked something before.
fn call(config: &Config, number: usize, spread: u64, runs: bool) {
    let config = Config { pool_size: 1, ..config.clone() };
    let (ready, begins) = channel();
    let (tell, told) = channel();
    let go = Arc::new(Barrier::new(number + 1));
    for i in 0..number {
        let (config, ready, tell, go) = (config.clone(), ready.clone(), tell.clone(), Arc::clone(&go));
        let caller = move || {
            let engine = Engine::new(&config).unwrap();
            acquire(&engine, &format!("warm:{i}")).release().unwrap();
            ready.send(()).unwrap();
            go.wait();
            thread::sleep(
                Duration::from_millis(spread) * u32::try_from(i).unwrap() / u32::try_from(number).unwrap(),
            );
            let called = Instant::now();
            let ran = match ask(&engine, "call", runs) {
                Acquired::Held { lease, .. } => {
                    thread::sleep(WORK);
                    assert_eq!(
                        if runs { lease.complete() } else { lease.release() }.unwrap(),
                        Standing::Ours
                    );
                    true
                }
                Acquired::Covered { .. } => false,
                other => panic!("{other:?}"),
            };
            tell.send((called.elapsed(), ran)).unwrap();
        };
        thread::Builder::new().stack_size(256 << 10).spawn(caller).unwrap();
    }
    begins.iter().take(number).for_each(drop);
    go.wait();
    let mut took: Vec<(Duration, bool)> = told.iter().take(number).collect();
    took.sort_unstable();
    let ran = took.iter().filter(|(_, ran)| *ran).count();
    let at = |share: usize| took[(number - 1) * share / 100].0.as_millis();
    say(&format!("runs {ran} p50 {} p99 {} max {}", at(50), at(99), at(100)));
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

//! Real servers and short words for the tests.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs
)]

pub mod certificates;
mod clock;
pub mod cluster;
pub mod crowd;
pub mod sentinel;

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use cluster_lock_core::{
    Acquire, Acquired, Config, Dsn, Engine, Error, Identity, Lease, LockError, LockName, Mode,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// In an option: the port of the server.
pub const PORT: &str = "%PORT%";

/// A redis-server of its own, on a free port and a socket in a temporary directory.
pub struct RedisServer {
    child: Child,
    pub dir: tempfile::TempDir,
    pub port: u16,
    options: Vec<String>,
    clock: Option<clock::SetClock>,
}

impl RedisServer {
    pub fn start(options: &[&str]) -> Self {
        Self::start_on(free_port(), options)
    }

    /// On this port.
    pub fn start_on(port: u16, options: &[&str]) -> Self {
        Self::start_at(port, tempfile::tempdir().unwrap(), options, None)
    }

    /// One whose wall clock stands still until [`RedisServer::set_clock`] moves it.
    pub fn start_with_clock(unix_us: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = clock::SetClock::new(dir.path());
        clock.stand(unix_us);
        Self::start_at(free_port(), dir, &[], Some(clock))
    }

    /// One whose wall clock runs, and can be made to jump.
    pub fn start_with_running_clock() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = clock::SetClock::new(dir.path());
        Self::start_at(free_port(), dir, &[], Some(clock))
    }

    fn start_at(port: u16, dir: tempfile::TempDir, options: &[&str], clock: Option<clock::SetClock>) -> Self {
        let options: Vec<String> = options.iter().map(ToString::to_string).collect();
        let child = Self::spawn(dir.path(), port, &options, clock.as_ref());
        let server = Self { child, dir, port, options, clock };
        server.await_ready();
        server
    }

    pub fn set_clock(&self, unix_us: u64) {
        self.clock.as_ref().expect("a server started with a clock").stand(unix_us);
    }

    /// The clock jumps to so many seconds ahead of this machine's.
    pub fn set_clock_ahead(&self, seconds: i64) {
        let now = || redis::cmd("TIME").query::<(i64, i64)>(&mut self.redis()).unwrap().0;
        let before = now();
        self.clock.as_ref().expect("a server started with a clock").run(seconds);
        assert!((now() - before).abs() > 60, "the clock did not jump");
    }

    fn spawn(dir: &Path, port: u16, options: &[String], clock: Option<&clock::SetClock>) -> Child {
        Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "no"])
            .args(["--enable-debug-command", "yes"])
            .arg("--unixsocket")
            .arg(dir.join("redis.sock"))
            .arg("--dir")
            .arg(dir)
            .args(options.iter().map(|option| option.replace(PORT, &port.to_string())))
            .envs(clock.into_iter().flat_map(clock::SetClock::environment))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is needed: run script/bootstrap test")
    }

    fn await_ready(&self) {
        let deadline = Instant::now() + HANG;
        while std::os::unix::net::UnixStream::connect(self.socket()).is_err() {
            assert!(Instant::now() < deadline, "redis-server does not come up");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts again: empty, or with what was saved.
    pub fn restart(&mut self) {
        self.stop();
        let _ = std::fs::remove_file(self.socket());
        self.child = Self::spawn(self.dir.path(), self.port, &self.options, self.clock.as_ref());
        self.await_ready();
    }

    /// Stops it for as long as the result lives, as a machine that hangs: it accepts, and answers nothing.
    pub fn freeze(&self) -> Frozen {
        Frozen::new(self.pid())
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn socket(&self) -> std::path::PathBuf {
        self.dir.path().join("redis.sock")
    }

    pub fn tcp_dsn(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn unix_dsn(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }

    pub fn cli(&self, args: &[&str]) -> String {
        cli(&self.socket(), args)
    }

    /// A connection of the test's own.
    pub fn redis(&self) -> redis::Connection {
        redis::Client::open(format!("unix://{}", self.socket().display())).unwrap().get_connection().unwrap()
    }

    pub fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut self.redis()).unwrap();
        keys.sort();
        keys
    }

    /// Lines of CLIENT LIST: connections of engines, except of those that only look.
    pub fn clients(&self) -> Vec<String> {
        let list: String = redis::cmd("CLIENT").arg("LIST").query(&mut self.redis()).unwrap();
        let ours = |line: &&str| line.contains("name=cluster_lock@") && !line.contains(OBSERVER);
        list.lines().filter(ours).map(str::to_owned).collect()
    }

    /// What is wrong with the server, were it left alone by all: something is held, somebody waits,
    /// a key would stay.
    fn left_behind(&self) -> Option<String> {
        let observer = self.observer();
        let held = observer.list(b"", 10).unwrap();
        observer.shutdown();
        if !held.is_empty() {
            return Some(format!("held: {held:?}"));
        }
        let keys = self.keys();
        // Of an idle lock there is its record, and which run was the last.
        if let Some(key) = keys.iter().find(|key| !key.ends_with('}') && !key.ends_with("}:d")) {
            return Some(format!("{key} is more than an idle lock leaves"));
        }
        let mut redis = self.redis();
        let lives = |key: &&String| redis::cmd("PTTL").arg(*key).query::<i64>(&mut redis).unwrap() == -1;
        keys.iter().find(lives).map(|key| format!("{key} would stay for ever"))
    }

    /// An engine that looks, and does not count.
    pub fn observer(&self) -> Engine {
        let mut config = config(&self.unix_dsn());
        config.node = "observer".into();
        Engine::new(&config).unwrap()
    }
}

const OBSERVER: &str = "name=cluster_lock@observer:";

/// A process that is stopped for as long as this lives.
pub struct Frozen(Pid);

impl Frozen {
    pub fn new(pid: u32) -> Self {
        let pid = Pid::from_raw(pid.cast_signed());
        kill(pid, Signal::SIGSTOP).unwrap();
        Self(pid)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

/// When the engines have done their work: nothing is held, nobody waits, all keys expire, and no connections
/// are open but the idle ones of the pools; after the engines' end, none.
#[track_caller]
pub fn assert_clean(server: &RedisServer, engines: &[&Engine]) {
    let look = |what: &str, patience: Duration, mut wrong: Box<dyn FnMut() -> Option<String> + '_>| {
        let patience = Instant::now() + patience;
        loop {
            // What counts in the end is a look that was taken after that.
            let last = Instant::now() >= patience;
            let Some(wrong) = wrong() else { return };
            assert!(!last, "{what}: {wrong}");
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    // What the dead leave runs out, by the server's clock, within 2.2 s at the latest, in which a hand-off has to be
    // confirmed.
    look("the server is not clean", Duration::from_secs(4), Box::new(|| server.left_behind()));
    let mut idle = 0;
    for engine in engines {
        // The background may be at work still, whose answer it is that the caller has seen on the server.
        let lent = || Some(engine.status()).filter(|s| s.open != s.idle).map(|s| format!("{s:?}"));
        look("connections are still lent", HANG, Box::new(lent));
        idle += engine.status().idle;
    }
    let more_than = |most: usize| {
        move || Some(server.clients()).filter(|c| c.len() > most).map(|c| format!("{most} expected: {c:?}"))
    };
    look("connections beyond the idle ones", HANG, Box::new(more_than(idle)));
    for engine in engines {
        engine.shutdown();
    }
    look("connections after the end", HANG, Box::new(more_than(0)));
}

/// The whole message that a user gets; fails unless it names the lock, the server, and all of `words`.
#[track_caller]
pub fn assert_tells(error: Error, lock: &str, engine: &Engine, words: &[&str]) {
    let told = LockError { name: name(lock), error }.to_string();
    for word in [format!("lock \"{lock}\"").as_str(), engine.server()].iter().chain(words) {
        assert!(told.contains(word), "\"{word}\" is missing in: {told}");
    }
}

/// On which nobody listens now, and which no other test of this machine is given before this process ends: of two that look at
/// the same time, one would start its server where the other one's is.
/// Below those that the kernel gives to outgoing connections, of which one may have it by the time that a server starts.
pub fn free_port() -> u16 {
    static OURS: Mutex<Vec<UnixDatagram>> = Mutex::new(Vec::new());
    let random = || u16::try_from(RandomState::new().build_hasher().finish() % 20_000).unwrap();
    let mut ours = OURS.lock().unwrap();
    loop {
        let port = 12_000 + random();
        // A name that is in the same network as the port, and gone with us. PHP's tests take the same.
        let name = SocketAddr::from_abstract_name(format!("cluster_lock-port-{port}")).unwrap();
        let Ok(taken) = UnixDatagram::bind_addr(&name) else { continue };
        if is_free(port) {
            ours.push(taken);
            return port;
        }
    }
}

pub fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

/// What redis-cli prints, over a Unix socket.
pub fn cli(socket: &Path, args: &[&str]) -> String {
    let out = Command::new("redis-cli").arg("-s").arg(socket).args(args).output().expect("redis-cli");
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

/// Sends `STOP`, `KILL` …
pub fn signal(pid: u32, signal: &str) {
    let signal: Signal = format!("SIG{signal}").parse().unwrap();
    kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.stop();
    }
}

pub fn quorum_dsn(servers: &[RedisServer]) -> String {
    let hosts: Vec<_> = servers.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect();
    format!("redis+quorum://{}", hosts.join(","))
}

pub fn engine(dsn: &str) -> Engine {
    Engine::new(&config(dsn)).unwrap()
}

/// One that takes a loaded machine for slow, not for broken.
pub fn patient(dsn: &str) -> Engine {
    Engine::new(&patient_config(dsn)).unwrap()
}

pub fn patient_config(dsn: &str) -> Config {
    Config { connect_timeout: HANG, command_timeout: HANG, ..config(dsn) }
}

pub fn config(dsn: &str) -> Config {
    Config::new(Dsn::parse(dsn).unwrap())
}

pub fn name(text: &str) -> LockName {
    LockName::new(text.as_bytes()).unwrap()
}

/// A guard against what hangs, and no measure: a busy machine takes its time. Who is not to wait for its time to be up
/// gets ten times as much.
pub const HANG: Duration = Duration::from_secs(60);

/// An acquire that tests can shape.
#[derive(Clone)]
pub struct Want {
    pub mode: Mode,
    pub run: bool,
    pub timeout: Option<Duration>,
    pub ttl: Duration,
    pub auto_renew: bool,
    pub max_hold: Option<Duration>,
    pub who: String,
}

impl Default for Want {
    fn default() -> Self {
        Self {
            mode: Mode::Exclusive,
            run: false,
            timeout: Some(HANG),
            ttl: Duration::from_secs(10),
            auto_renew: true,
            max_hold: None,
            who: "test".into(),
        }
    }
}

impl Want {
    pub fn now() -> Self {
        Self { timeout: Some(Duration::ZERO), ..Self::default() }
    }

    pub fn shared(mut self) -> Self {
        self.mode = Mode::Shared;
        self
    }

    pub fn for_run(mut self) -> Self {
        self.run = true;
        self
    }

    pub fn within(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    pub fn by(mut self, who: &str) -> Self {
        self.who = who.into();
        self
    }

    pub fn unrenewed(mut self) -> Self {
        self.auto_renew = false;
        self
    }

    pub fn with<T>(&self, f: impl FnOnce(&Acquire<'_>) -> T) -> T {
        let identity =
            Identity { node: self.who.clone(), pid: std::process::id(), ..Identity::default() }.encode();
        f(&Acquire {
            mode: self.mode,
            run: self.run,
            timeout: self.timeout,
            ttl: self.ttl,
            auto_renew: self.auto_renew,
            max_hold: self.max_hold,
            identity: &identity,
            interrupted: &|| false,
        })
    }

    pub fn ask(&self, engine: &Engine, lock: &str) -> Acquired {
        self.with(|how| engine.acquire(&name(lock), how)).unwrap()
    }

    /// The error, when asking must fail.
    #[track_caller]
    pub fn fails(&self, engine: &Engine, lock: &str) -> Error {
        match self.with(|how| engine.acquire(&name(lock), how)) {
            Err(error) => error,
            Ok(other) => panic!("expected a failure for {lock}, but: {other:?}"),
        }
    }

    #[track_caller]
    pub fn get(&self, engine: &Engine, lock: &str) -> Lease {
        match self.ask(engine, lock) {
            Acquired::Held { lease, .. } => lease,
            other => panic!("expected to get {lock}, but: {other:?}"),
        }
    }

    #[track_caller]
    pub fn refused(&self, engine: &Engine, lock: &str) {
        match self.ask(engine, lock) {
            Acquired::TimedOut { .. } => {}
            other => panic!("expected a time-out for {lock}, but: {other:?}"),
        }
    }
}

/// How many wait for a lock.
pub fn waiting(engine: &Engine, lock: &str) -> usize {
    engine.info(&name(lock)).unwrap().map_or(0, |r| r.waiters.len())
}

/// Waits until something is true.
#[track_caller]
pub fn until(what: &str, condition: impl FnMut() -> bool) {
    until_within(HANG, what, condition);
}

#[track_caller]
pub fn until_within(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !condition() {
        assert!(Instant::now() < deadline, "still not true after {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The rights of one of the ACL lines that administrators are told to use: 0, the README's, for servers;
/// then docs/install.md's: 1 what a cluster and `?wait=` need besides, 2 for sentinels.
pub fn readme_rights(line: usize) -> Vec<String> {
    let text: String = ["README.md", "docs/install.md"]
        .map(|page| std::fs::read_to_string(format!("{}/../{page}", env!("CARGO_MANIFEST_DIR"))).unwrap())
        .concat();
    let line = text.lines().filter(|l| l.starts_with("ACL SETUSER cluster_lock")).nth(line).unwrap();
    let words = line.split_whitespace().skip(3).filter(|word| !word.starts_with('>'));
    words.map(str::to_owned).collect()
}

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

pub mod cluster;
pub mod crowd;
pub mod sentinel;

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cluster_lock_core::{Acquire, Acquired, Config, Dsn, Engine, Identity, Lease, LockName, Mode};

/// A redis-server of its own, on a free port and a socket in a temporary directory.
pub struct RedisServer {
    child: Child,
    pub dir: tempfile::TempDir,
    pub port: u16,
    options: Vec<String>,
}

impl RedisServer {
    pub fn start(options: &[&str]) -> Self {
        Self::start_on(free_port(), options)
    }

    pub fn start_on(port: u16, options: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options: Vec<String> = options.iter().map(ToString::to_string).collect();
        let child = Self::spawn(dir.path(), port, &options);
        let server = Self { child, dir, port, options };
        server.await_ready();
        server
    }

    fn spawn(dir: &Path, port: u16, options: &[String]) -> Child {
        Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "no"])
            .args(["--enable-debug-command", "yes"])
            .arg("--unixsocket")
            .arg(dir.join("redis.sock"))
            .arg("--dir")
            .arg(dir)
            .args(options)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is needed: run script/bootstrap")
    }

    fn await_ready(&self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while std::os::unix::net::UnixStream::connect(self.socket()).is_err() {
            assert!(Instant::now() < deadline, "redis-server does not come up");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts again, empty.
    pub fn restart(&mut self) {
        self.stop();
        let _ = std::fs::remove_file(self.socket());
        self.child = Self::spawn(self.dir.path(), self.port, &self.options);
        self.await_ready();
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
        let out =
            Command::new("redis-cli").arg("-s").arg(self.socket()).args(args).output().expect("redis-cli");
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    }

    pub fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> =
            self.cli(&["KEYS", "*"]).lines().filter(|l| !l.is_empty()).map(str::to_owned).collect();
        keys.sort();
        keys
    }
}

/// On which nobody listens now.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What redis-cli prints.
pub fn cli(port: u16, args: &[&str]) -> String {
    let out =
        Command::new("redis-cli").args(["-p", &port.to_string()]).args(args).output().expect("redis-cli");
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

pub fn signal(pid: u32, signal: &str) {
    let sent = Command::new("kill").args(["-s", signal, &pid.to_string()]).status();
    assert!(sent.unwrap().success());
}

/// Freezes a process while it lives.
pub struct Frozen(u32);

impl Frozen {
    pub fn new(pid: u32) -> Self {
        signal(pid, "STOP");
        Self(pid)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        signal(self.0, "CONT");
    }
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

pub fn config(dsn: &str) -> Config {
    Config::new(Dsn::parse(dsn).unwrap())
}

pub fn name(text: &str) -> LockName {
    LockName::new(text.as_bytes()).unwrap()
}

/// An acquire that tests can shape.
#[derive(Clone)]
pub struct Want {
    pub mode: Mode,
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
            timeout: Some(Duration::from_secs(10)),
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

    pub fn get(&self, engine: &Engine, lock: &str) -> Lease {
        match self.ask(engine, lock) {
            Acquired::Held { lease, .. } => lease,
            other => panic!("expected to get {lock}, but: {other:?}"),
        }
    }

    pub fn refused(&self, engine: &Engine, lock: &str) {
        match self.ask(engine, lock) {
            Acquired::TimedOut { .. } => {}
            other => panic!("expected a time-out for {lock}, but: {other:?}"),
        }
    }
}

/// Waits until something is true, for at most ten seconds.
pub fn until(what: &str, condition: impl FnMut() -> bool) {
    until_within(Duration::from_secs(10), what, condition);
}

pub fn until_within(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !condition() {
        assert!(Instant::now() < deadline, "still not true after {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

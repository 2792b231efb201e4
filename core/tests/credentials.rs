//! Who we are and whom we speak to: passwords that change, names to prove, servers that are greeted in another way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use cluster_lock_core::{Engine, Standing};
use support::sentinel::SentinelSetup;
use support::{HANG, RedisServer, Want, assert_clean, assert_tells, config, patient, until, waiting};

const S: Duration = Duration::from_secs(1);

/// A file for a password that changes.
struct Token {
    path: PathBuf,
    _dir: tempfile::TempDir,
}

impl Token {
    fn new(password: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let token = Self { path: dir.path().join("token"), _dir: dir };
        token.write(password);
        token
    }

    fn write(&self, password: &str) {
        // As those who mount secrets do: whole, under its name.
        let new = self.path.with_extension("new");
        fs::write(&new, format!("{password}\n")).unwrap();
        fs::rename(new, &self.path).unwrap();
    }

    fn option(&self) -> String {
        format!("password_file={}", self.path.display())
    }
}

fn errors(engine: &Engine) -> u64 {
    engine.counters().errors.load(Ordering::Relaxed)
}

#[test]
fn a_password_that_changes_is_read_anew_for_each_connection() {
    let server = RedisServer::start(&[]);
    let allow = |password: &str| {
        let password = format!(">{password}");
        let rights = ["ACL", "SETUSER", "site", "on", "resetpass", &password, "~*", "+@all"];
        assert_eq!(server.cli(&rights), "OK");
    };
    allow("first");
    let token = Token::new("first");
    for dsn in [
        server.tcp_dsn().replace("://", "://site@") + "?" + &token.option(),
        server.unix_dsn().replace("://", "://site@") + "?" + &token.option(),
    ] {
        allow("first");
        token.write("first");
        let engine = patient(&dsn);
        let lease = Want::default().ttl(3 * S).get(&engine, "x");
        let waits = {
            let engine = engine.clone();
            thread::spawn(move || Want::default().get(&engine, "x").release().unwrap())
        };
        until("it waits", || waiting(&engine, "x") == 1);
        allow("second");
        token.write("second");
        // A service whose tokens are over ends the connections that were made with them.
        server.cli(&["CLIENT", "KILL", "USER", "site"]);
        let renewals = || engine.counters().renewals.load(Ordering::Relaxed);
        let before = renewals();
        until("it is renewed", || renewals() > before + 1);
        lease.verify().unwrap();
        assert_eq!(lease.release().unwrap(), Standing::Ours);
        assert_eq!(waits.join().unwrap(), Standing::Ours);
        assert_eq!(errors(&engine), 0);
        // A file that says something else.
        token.write("hunter2");
        server.cli(&["CLIENT", "KILL", "USER", "site"]);
        let error = Want::now().fails(&engine, "x");
        assert!(!error.to_string().contains("hunter2"), "{error}");
        assert_tells(error, "x", &engine, &["WRONGPASS", "check user and password"]);
        engine.shutdown();
    }
    let engine = patient(&(server.tcp_dsn() + "?password_file=/nowhere/token"));
    assert_tells(Want::now().fails(&engine, "x"), "x", &engine, &["/nowhere/token", "No such file"]);
}

#[test]
fn sentinels_and_their_primary_have_files_of_their_own() {
    let setup = SentinelSetup::with(
        0,
        &["--requirepass", "hunter2"],
        &["requirepass 0penSesame", "sentinel auth-pass locks hunter2"],
        Some("0penSesame"),
    );
    let (servers, sentinels) = (Token::new("hunter2"), Token::new("0penSesame"));
    let engine = patient(&format!("{}?{}&sentinel_{}", setup.dsn(), servers.option(), sentinels.option()));
    assert_eq!(Want::default().get(&engine, "x").release().unwrap(), Standing::Ours);
    engine.shutdown();
}

/// A server that says what it is told to: for each connection its replies, one after the other. It tells what it was
/// asked.
fn scripted(
    connections: Vec<Vec<&'static str>>,
    between: impl Fn(usize) + Send + 'static,
) -> (u16, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = move || {
        let mut asked = Vec::new();
        let mut open = Vec::new();
        for (number, replies) in connections.into_iter().enumerate() {
            let (mut socket, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(socket.try_clone().unwrap()).lines();
            for reply in replies {
                let mut line = || lines.next().unwrap().unwrap();
                let words: usize = line().trim_start_matches('*').parse().unwrap();
                let command: Vec<_> = (0..words).map(|_| (line(), line()).1).collect();
                asked.push(command.join(" "));
                between(number);
                socket.write_all(reply.as_bytes()).unwrap();
            }
            open.push(socket);
        }
        asked
    };
    (port, thread::spawn(serve))
}

const HELLO: &str = "*2\r\n$4\r\nrole\r\n$6\r\nmaster\r\n";
const GRANTED: &str = ":1790000000000000\r\n";

#[test]
fn a_password_that_changes_while_it_is_told_is_told_once_more() {
    let token = Token::new("first");
    let path = token.path.clone();
    let (port, server) = scripted(
        vec![
            vec!["-WRONGPASS invalid username-password pair or user is disabled.\r\n"],
            vec![HELLO, GRANTED],
        ],
        move |connection| {
            if connection == 0 {
                fs::write(&path, "second").unwrap();
            }
        },
    );
    let engine = patient(&format!("redis://site@127.0.0.1:{port}?{}", token.option()));
    std::mem::forget(Want::now().unrenewed().get(&engine, "x"));
    let asked = server.join().unwrap();
    assert!(asked[0].starts_with("HELLO 2 AUTH site first SETNAME"), "{asked:?}");
    assert!(asked[1].starts_with("HELLO 2 AUTH site second SETNAME"), "{asked:?}");
}

#[test]
fn who_is_not_known_any_more_says_what_the_file_has_now() {
    for refusal in ["-NOAUTH Authentication required.\r\n", "-WRONGPASS the token has expired\r\n"] {
        let token = Token::new("first");
        let path = token.path.clone();
        let (port, server) = scripted(vec![vec![HELLO, refusal], vec![HELLO, GRANTED]], move |_| {
            fs::write(&path, "second").unwrap();
        });
        let engine = patient(&format!("redis://site@127.0.0.1:{port}?{}", token.option()));
        std::mem::forget(Want::now().unrenewed().get(&engine, "x"));
        let asked = server.join().unwrap();
        assert!(asked[0].starts_with("HELLO 2 AUTH site first SETNAME"), "{asked:?}");
        assert!(asked[2].starts_with("HELLO 2 AUTH site second SETNAME"), "{asked:?}");
    }
}

#[test]
fn a_server_proves_the_name_that_the_dsn_says() {
    let dir = tempfile::tempdir().unwrap();
    let path = |file: &str| dir.path().join(file).display().to_string();
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=s",
        ])
        .args(["-addext", "subjectAltName=DNS:redis.example", "-keyout", &path("key"), "-out", &path("pem")])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let port = support::free_port().to_string();
    let tls = ["--tls-port", &port, "--tls-auth-clients", "no", "--tls-cert-file", &path("pem")];
    let files = ["--tls-key-file", &path("key"), "--tls-ca-cert-file", &path("pem")];
    let server = RedisServer::start(&[&tls[..], &files].concat());
    let dsn = |name: &str| format!("rediss://127.0.0.1:{port}?ca={}{name}", path("pem"));
    let engine = patient(&dsn("&tls_name=redis.example"));
    assert_eq!(Want::now().get(&engine, "x").release().unwrap(), Standing::Ours);
    for other in ["", "&tls_name=other.example"] {
        let engine = patient(&dsn(other));
        assert_tells(Want::now().fails(&engine, "x"), "x", &engine, &["not valid for name"]);
    }
    assert_clean(&server, &[&engine]);
}

#[test]
fn a_server_without_hello_serves_locks() {
    let renamed = RedisServer::start(&["--rename-command", "HELLO", "", "--requirepass", "hunter2"]);
    let forbidden = RedisServer::start(&[
        "--user",
        "default",
        "on",
        "nopass",
        "~*",
        "+@all",
        "-hello",
        "-client|setname",
    ]);
    for dsn in [format!("redis://:hunter2@127.0.0.1:{}/3", renamed.port), forbidden.tcp_dsn()] {
        let engine = patient(&dsn);
        let lease = Want::default().get(&engine, "x");
        let waits = {
            let engine = engine.clone();
            thread::spawn(move || Want::default().get(&engine, "x").release().unwrap())
        };
        until("it waits", || waiting(&engine, "x") == 1);
        assert_eq!(engine.status().server_role.as_deref(), Some("master"));
        assert_eq!(lease.release().unwrap(), Standing::Ours);
        assert_eq!(waits.join().unwrap(), Standing::Ours);
        assert_eq!(errors(&engine), 0);
        assert!(engine.status().created > 1);
        engine.shutdown();
    }
    // It is known after the first connection: one refusal, and redis-cli's own.
    let info = renamed.cli(&["--no-auth-warning", "-a", "hunter2", "INFO", "errorstats"]);
    let of_greetings = info.lines().filter(|line| line.contains("_ERR:") || line.contains("_NOAUTH:"));
    let count = |line: &str| line.split('=').nth(1).unwrap().trim().parse::<u32>().unwrap();
    assert!(of_greetings.map(count).sum::<u32>() <= 2, "{info}");
    // Sentinels, and their primary, which has to say that it is one.
    let options = ["--rename-command", "HELLO", ""];
    let setup = SentinelSetup::with(0, &options, &[], None);
    let mut config = config(&setup.dsn());
    (config.connect_timeout, config.command_timeout) = (HANG, HANG);
    let engine = Engine::new(&config).unwrap();
    assert_eq!(Want::default().get(&engine, "x").release().unwrap(), Standing::Ours);
    engine.shutdown();
}

//! Each fault does what it says, between a client and a server that repeats what it hears.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use fault_proxy::{Break, Direction, Ending, Fault, Proxy, Side};

const MS: Duration = Duration::from_millis(1);
const PATIENCE: Duration = Duration::from_secs(10);

/// A server that repeats what it hears, and reports it: an empty report when the client has closed.
struct Echo {
    address: std::net::SocketAddr,
    heard: Receiver<Vec<u8>>,
}

impl Echo {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, heard) = channel();
        thread::spawn(move || {
            for mut peer in listener.incoming().map_while(Result::ok) {
                let tell = tell.clone();
                thread::spawn(move || {
                    let mut buffer = [0; 1024];
                    loop {
                        let n = peer.read(&mut buffer).unwrap_or(0);
                        let bytes = buffer[..n].to_vec();
                        if tell.send(bytes.clone()).is_err() || n == 0 {
                            return;
                        }
                        // When the client is gone, the next read says so.
                        let _ = peer.write_all(&bytes);
                    }
                });
            }
        });
        Self { address, heard }
    }

    fn next(&self) -> Vec<u8> {
        self.heard.recv_timeout(PATIENCE).unwrap()
    }
}

fn connect(proxy: &Proxy) -> TcpStream {
    let client = TcpStream::connect(proxy.address()).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client
}

fn ask(client: &mut TcpStream, text: &[u8]) -> std::io::Result<Vec<u8>> {
    client.write_all(text)?;
    let mut reply = vec![0; text.len()];
    client.read_exact(&mut reply)?;
    Ok(reply)
}

/// Nothing arrives for a moment.
fn assert_silent(client: &mut TcpStream) {
    client.set_read_timeout(Some(100 * MS)).unwrap();
    let error = client.read(&mut [0]).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
    client.set_read_timeout(Some(PATIENCE)).unwrap();
}

#[test]
fn passes_on_delays_and_drips() {
    let echo = Echo::start();
    let proxy = Proxy::start(echo.address).unwrap();
    let mut client = connect(&proxy);
    assert_eq!(ask(&mut client, b"hello").unwrap(), b"hello");
    assert_eq!((proxy.carried(Direction::Up), proxy.carried(Direction::Down)), (5, 5));
    let time = |client: &mut TcpStream| {
        let began = Instant::now();
        assert_eq!(ask(client, b"hello").unwrap(), b"hello");
        began.elapsed()
    };
    proxy.set(Fault::Delay(100 * MS));
    assert!(time(&mut client) >= 200 * MS);
    proxy.set_one_way(Direction::Down, Fault::Drip(100 * MS));
    assert!(time(&mut client) >= 500 * MS);
    proxy.set(Fault::Pass);
    time(&mut client);
}

#[test]
fn holds_and_loses() {
    let echo = Echo::start();
    let proxy = Proxy::start(echo.address).unwrap();
    let mut client = connect(&proxy);
    proxy.set(Fault::Hold);
    client.write_all(b"kept").unwrap();
    assert_silent(&mut client);
    proxy.set(Fault::Pass);
    client.read_exact(&mut [0; 4]).unwrap();
    assert_eq!(echo.next(), b"kept");

    proxy.set_one_way(Direction::Down, Fault::BlackHole);
    client.write_all(b"heard").unwrap();
    assert_eq!(echo.next(), b"heard");
    assert_silent(&mut client);
    // The server does not learn of the close before the network is back.
    proxy.set(Fault::BlackHole);
    drop(client);
    assert!(echo.heard.recv_timeout(100 * MS).is_err());
    proxy.set(Fault::Pass);
    assert_eq!(echo.next(), b"");
}

#[test]
fn refuses_and_listens_again() {
    let echo = Echo::start();
    let proxy = Proxy::start(echo.address).unwrap();
    let mut client = connect(&proxy);
    ask(&mut client, b"x").unwrap();
    for _ in 0..3 {
        proxy.set(Fault::Refuse);
        assert_eq!(TcpStream::connect(proxy.address()).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        assert_eq!(ask(&mut client, b"those that are there go on").unwrap().len(), 26);
        proxy.set(Fault::Pass);
        ask(&mut connect(&proxy), b"x").unwrap();
    }
    let address = proxy.address();
    drop(proxy);
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn ends_all_connections_at_once() {
    let echo = Echo::start();
    let proxy = Proxy::start(echo.address).unwrap();
    let (mut a, mut b) = (connect(&proxy), connect(&proxy));
    ask(&mut a, b"a").unwrap();
    ask(&mut b, b"b").unwrap();
    assert_eq!(proxy.connections(), 2);
    proxy.end_all(Ending::Close);
    assert_eq!((a.read(&mut [0]).unwrap(), b.read(&mut [0]).unwrap()), (0, 0));
    assert_eq!(proxy.connections(), 0);
    let mut c = connect(&proxy);
    ask(&mut c, b"c").unwrap();
    proxy.end_all(Ending::Reset);
    assert_eq!(c.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn breaks_after_so_many_bytes() {
    for after in 0..=5 {
        for direction in [Direction::Up, Direction::Down] {
            for ending in [Ending::Close, Ending::Reset] {
                let echo = Echo::start();
                let proxy = Proxy::start(echo.address).unwrap();
                let mut client = connect(&proxy);
                ask(&mut client, b"before").unwrap();
                assert_eq!(echo.next(), b"before");
                proxy.prepare(Break { direction, after, ending, then: Fault::Pass });
                client.write_all(b"hello").unwrap();
                let mut got = Vec::new();
                let end = client.read_to_end(&mut got);
                assert_eq!(end.is_err(), ending == Ending::Reset, "{direction:?} {end:?}");
                assert!(proxy.await_fired(1, PATIENCE));
                let expected = &b"hello"[..usize::try_from(after).unwrap()];
                match direction {
                    Direction::Down => assert_eq!(got, expected),
                    Direction::Up => {
                        let heard =
                            std::iter::from_fn(|| Some(echo.next()).filter(|bytes| !bytes.is_empty()));
                        let heard: Vec<u8> = heard.flatten().collect();
                        // A reset may overtake the bytes before it.
                        assert!(
                            heard == expected || (heard.is_empty() && ending == Ending::Reset),
                            "{heard:?}"
                        );
                    }
                }
                ask(&mut connect(&proxy), b"after").unwrap();
            }
        }
    }
}

#[test]
fn what_happens_then_is_in_force_before_the_break_is_noticed() {
    let echo = Echo::start();
    let proxy = Proxy::start(echo.address).unwrap();
    let mut client = connect(&proxy);
    let prepared = Break { direction: Direction::Down, after: 0, ending: Ending::Close, then: Fault::Refuse };
    proxy.prepare(prepared);
    assert!(ask(&mut client, b"x").is_err());
    assert_eq!(TcpStream::connect(proxy.address()).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn leaves_one_side_open() {
    let echo = Echo::start();
    let proxy = Proxy::start(echo.address).unwrap();
    let mut client = connect(&proxy);
    ask(&mut client, b"x").unwrap();
    assert_eq!(echo.next(), b"x");
    proxy.half_open(Side::Client);
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    assert!(echo.heard.recv_timeout(100 * MS).is_err(), "the server does not notice");
    proxy.end_all(Ending::Close);
    assert_eq!(echo.next(), b"");

    let mut client = connect(&proxy);
    ask(&mut client, b"x").unwrap();
    assert_eq!(echo.next(), b"x");
    proxy.half_open(Side::Server);
    assert_eq!(echo.next(), b"");
    client.write_all(b"into the void").unwrap();
    assert_silent(&mut client);
}

#[test]
fn the_binary_takes_commands() {
    let echo = Echo::start();
    let mut binary = Command::new(env!("CARGO_BIN_EXE_fault-proxy"))
        .args(["--to", &echo.address.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(binary.stdout.take().unwrap()).lines().map(Result::unwrap);
    let port: u16 = lines.next().unwrap().parse().unwrap();
    let mut orders = binary.stdin.take().unwrap();
    let mut tell = |order: &str| writeln!(orders, "{order}").unwrap();
    let connect = || {
        let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client
    };

    let commands = "delay 1 up|drip 2|hold down|black-hole|cut|reset|half-open client|half-open server|\
                    reset-after 7 up then drip 5|drop-request|refuse|pass";
    for command in commands.split('|') {
        tell(command);
        assert_eq!(lines.next().unwrap(), command);
    }
    for nonsense in ["", "delay", "delay x", "pass sideways", "cut now", "half-open", "drop-reply pass"] {
        tell(nonsense);
        let said = lines.next().unwrap();
        assert!(said.starts_with("error: "), "{nonsense}: {said}");
    }
    let mut client = connect();
    ask(&mut client, b"x").unwrap();
    tell("drop-reply then pass");
    assert_eq!(lines.next().unwrap(), "drop-reply then pass");
    assert!(ask(&mut client, b"x").is_err());
    assert_eq!(lines.next().unwrap(), "fired");
    ask(&mut connect(), b"x").unwrap();
    drop(orders);
    assert!(binary.wait().unwrap().success());
}

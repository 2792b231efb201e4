//! `delay-proxy` holds every byte back, both ways, and loses none.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

struct Proxy {
    process: Child,
    input: ChildStdin,
    port: u16,
}

impl Proxy {
    /// In front of a server that repeats what it hears.
    fn start(delay: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for peer in listener.incoming().map_while(Result::ok) {
                thread::spawn(move || std::io::copy(&mut &peer, &mut &peer));
            }
        });
        let mut process = Command::new(env!("CARGO_BIN_EXE_delay-proxy"))
            .args([server.to_string(), delay.as_nanos().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut port = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut port).unwrap();
        let input = process.stdin.take().unwrap();
        Self { process, input, port: port.trim().parse().unwrap() }
    }

    fn connect(&self) -> TcpStream {
        let client = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        client
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn round_trip(client: &mut TcpStream, said: &[u8]) -> Duration {
    let began = Instant::now();
    client.write_all(said).unwrap();
    let mut heard = vec![0; said.len()];
    client.read_exact(&mut heard).unwrap();
    assert!(heard == said, "what comes back is not what was sent");
    began.elapsed()
}

#[test]
fn a_round_trip_takes_twice_the_delay() {
    let proxy = Proxy::start(Duration::from_millis(20));
    let mut client = proxy.connect();
    assert!(round_trip(&mut client, b"PING\r\n") >= Duration::from_millis(40));
    // Longer than the proxy stays awake without traffic.
    thread::sleep(Duration::from_millis(20));
    assert!(round_trip(&mut client, b"PING\r\n") >= Duration::from_millis(40));
}

#[test]
fn a_new_delay_is_a_line_of_input() {
    let mut proxy = Proxy::start(Duration::ZERO);
    let mut client = proxy.connect();
    round_trip(&mut client, b"PING\r\n");
    proxy.input.write_all(b"30000000\n").unwrap();
    // One alone may be long on a busy machine.
    let mut delayed = || round_trip(&mut client, b"PING\r\n") >= Duration::from_millis(60);
    assert!((0..1_000).any(|_| delayed() && delayed() && delayed()), "its round trips stay short");
}

#[test]
fn no_byte_is_lost_and_none_overtakes() {
    let proxy = Proxy::start(Duration::from_millis(1));
    let (mut one, mut other) = (proxy.connect(), proxy.connect());
    let long: Vec<u8> = (0..20_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
    for _ in 0..5 {
        round_trip(&mut one, &long);
        round_trip(&mut other, b"short");
    }
}

#[test]
fn who_hangs_up_is_hung_up_on() {
    let proxy = Proxy::start(Duration::from_millis(1));
    let mut client = proxy.connect();
    round_trip(&mut client, b"PING\r\n");
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.read(&mut [0; 16]).unwrap(), 0);
    // And the others go on.
    round_trip(&mut proxy.connect(), b"PING\r\n");
}

//! A TCP proxy that delays every byte, both ways, by a fixed time: a network with a longer round trip.
//!
//!     delay-proxy TARGET_PORT ONE_WAY_DELAY_NS
//!
//! Prints the port it listens on (127.0.0.1), then serves until it is killed. Reads a new delay, one number a line,
//! from stdin.
//!
//! A timer would be late by tens of microseconds, more than what is to be measured: the proxy polls without
//! sleeping while there was traffic in the last few milliseconds, and blocks otherwise. Each chunk leaves at its
//! own arrival + delay, so chunks that follow each other closely are not held up by one another.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

const USAGE: &str = "usage: delay-proxy TARGET_PORT ONE_WAY_DELAY_NS";

/// How long after the last byte the proxy goes on polling.
const STAY_AWAKE: Duration = Duration::from_millis(5);

/// The listener's number; a pipe's is its place in the list.
const LISTENER: usize = usize::MAX;

/// The fds that have something to read, by the number given to `add`.
struct Epoll {
    fd: OwnedFd,
    events: Vec<epoll::Event>,
}

impl Epoll {
    fn new() -> io::Result<Self> {
        Ok(Self { fd: epoll::create(epoll::CreateFlags::CLOEXEC)?, events: Vec::with_capacity(64) })
    }

    fn add(&self, fd: impl AsFd, number: usize) -> io::Result<()> {
        Ok(epoll::add(&self.fd, fd, epoll::EventData::new_u64(number as u64), epoll::EventFlags::IN)?)
    }

    fn remove(&self, fd: impl AsFd) {
        // It may not be there any more.
        let _ = epoll::delete(&self.fd, fd);
    }

    fn wait(&mut self, timeout: Option<&Timespec>) -> io::Result<Vec<usize>> {
        self.events.clear();
        match epoll::wait(&self.fd, spare_capacity(&mut self.events), timeout) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(self.events.iter().filter_map(|event| usize::try_from(event.data.u64()).ok()).collect())
    }
}

/// One direction of one connection.
struct Pipe {
    from: TcpStream,
    to: TcpStream,
    waiting: VecDeque<(Instant, Vec<u8>)>,
    open: bool,
}

impl Pipe {
    /// Takes what has arrived, stamped with the time at which it has to leave.
    fn take(&mut self, delay: Duration) {
        let mut buffer = [0; 1 << 14];
        match self.from.read(&mut buffer) {
            Ok(0) => self.close(),
            Ok(n) => {
                let chunk = buffer.get(..n).unwrap_or_default().to_vec();
                self.waiting.push_back((Instant::now() + delay, chunk));
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            Err(_) => self.close(),
        }
    }

    /// Sends what is due. Lock traffic is far smaller than a socket buffer: a full one counts as a failure.
    fn send(&mut self, now: Instant) {
        while self.waiting.front().is_some_and(|(due, _)| *due <= now) {
            let Some((_, chunk)) = self.waiting.pop_front() else { return };
            if self.to.write_all(&chunk).is_err() {
                self.close();
            }
        }
    }

    fn close(&mut self) {
        self.open = false;
        self.waiting.clear();
        let _ = self.from.shutdown(std::net::Shutdown::Both);
        let _ = self.to.shutdown(std::net::Shutdown::Both);
    }
}

/// One client's two pipes, to the server and back.
fn accept(listener: &TcpListener, target: u16, epoll: &Epoll, pipes: &mut Vec<Pipe>) -> io::Result<()> {
    let (client, _) = listener.accept()?;
    let server = TcpStream::connect(("127.0.0.1", target))?;
    for (from, to) in [(&client, &server), (&server, &client)] {
        from.set_nonblocking(true)?;
        from.set_nodelay(true)?;
        let (from, to) = (from.try_clone()?, to.try_clone()?);
        epoll.add(&from, pipes.len())?;
        pipes.push(Pipe { from, to, waiting: VecDeque::new(), open: true });
    }
    Ok(())
}

fn serve(target: u16, delay: u64) -> io::Result<()> {
    let delay = Arc::new(AtomicU64::new(delay));
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    println!("{}", listener.local_addr()?.port());

    let next = Arc::clone(&delay);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            match line.trim().parse() {
                Ok(number) => next.store(number, Ordering::Relaxed),
                Err(error) => eprintln!("delay-proxy: {error}: {line}"),
            }
        }
    });

    let mut epoll = Epoll::new()?;
    epoll.add(&listener, LISTENER)?;
    let mut pipes: Vec<Pipe> = Vec::new();
    let mut last = Instant::now();
    loop {
        // Never to sleep on a chunk that waits, however long the scheduler kept us from here.
        let busy = last.elapsed() < STAY_AWAKE || pipes.iter().any(|pipe| !pipe.waiting.is_empty());
        let ready = epoll.wait(busy.then_some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
        if !ready.is_empty() {
            last = Instant::now();
        }
        for number in ready {
            if number == LISTENER {
                // A client that could not be connected finds its connection closed.
                let _ = accept(&listener, target, &epoll, &mut pipes);
            } else if let Some(pipe) = pipes.get_mut(number) {
                if pipe.open {
                    pipe.take(Duration::from_nanos(delay.load(Ordering::Relaxed)));
                } else {
                    epoll.remove(&pipe.from);
                }
            }
        }
        let now = Instant::now();
        for pipe in &mut pipes {
            pipe.send(now);
        }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [target, delay] = arguments.as_slice() else {
        eprintln!("{USAGE}");
        return ExitCode::FAILURE;
    };
    let (Ok(target), Ok(delay)) = (target.parse(), delay.parse()) else {
        eprintln!("{USAGE}");
        return ExitCode::FAILURE;
    };
    match serve(target, delay) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("delay-proxy: {error}");
            ExitCode::FAILURE
        }
    }
}

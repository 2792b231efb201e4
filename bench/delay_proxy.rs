//! A TCP proxy that delays every byte, both ways, by a fixed time: a network with a longer round trip.
//!
//!     delay_proxy TARGET_PORT ONE_WAY_DELAY_NS
//!
//! Prints the port it listens on (127.0.0.1), then serves until it is killed. Reads a new delay, one number a line,
//! from stdin. Built with `rustc -O`; it needs nothing but std.
//!
//! A timer would be late by tens of microseconds, more than what is to be measured: the proxy polls without
//! sleeping while there was traffic in the last few milliseconds, and blocks otherwise. Each chunk leaves at its
//! own arrival + delay, so chunks that follow each other closely are not held up by one another.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long after the last byte the proxy goes on polling.
const STAY_AWAKE: Duration = Duration::from_millis(5);

const EPOLLIN: u32 = 1;
const EPOLL_CTL_ADD: i32 = 1;
const EPOLL_CTL_DEL: i32 = 2;

#[repr(C)]
#[cfg_attr(target_arch = "x86_64", repr(packed))]
#[derive(Clone, Copy)]
struct EpollEvent {
    events: u32,
    data: u64,
}

unsafe extern "C" {
    fn epoll_create1(flags: i32) -> i32;
    fn epoll_ctl(epfd: i32, op: i32, fd: i32, event: *mut EpollEvent) -> i32;
    fn epoll_wait(epfd: i32, events: *mut EpollEvent, maxevents: i32, timeout: i32) -> i32;
}

/// The fds that have something to read, by the number given to `add`.
struct Epoll(RawFd);

impl Epoll {
    fn new() -> Self {
        // SAFETY: no pointers; the result is checked.
        let fd = unsafe { epoll_create1(0) };
        assert!(fd >= 0, "epoll_create1: {}", std::io::Error::last_os_error());
        Self(fd)
    }

    fn add(&self, fd: RawFd, number: usize) {
        let mut event = EpollEvent { events: EPOLLIN, data: number as u64 };
        // SAFETY: `event` outlives the call, which copies it.
        let done = unsafe { epoll_ctl(self.0, EPOLL_CTL_ADD, fd, &raw mut event) };
        assert!(done == 0, "epoll_ctl: {}", std::io::Error::last_os_error());
    }

    fn remove(&self, fd: RawFd) {
        // SAFETY: the event is not read when an fd is removed.
        unsafe { epoll_ctl(self.0, EPOLL_CTL_DEL, fd, std::ptr::null_mut()) };
    }

    fn wait(&self, timeout_ms: i32) -> Vec<usize> {
        let mut events = [EpollEvent { events: 0, data: 0 }; 64];
        // SAFETY: `events` has room for the 64 that the call may write.
        let n = unsafe { epoll_wait(self.0, events.as_mut_ptr(), 64, timeout_ms) };
        events.iter().take(n.max(0) as usize).map(|e| e.data as usize).collect()
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
        let mut buffer = [0; 65536];
        match self.from.read(&mut buffer) {
            Ok(0) => self.close(),
            Ok(n) => self.waiting.push_back((Instant::now() + delay, buffer[..n].to_vec())),
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

fn main() {
    let args: Vec<u64> = std::env::args().skip(1).map(|a| a.parse().expect("a number")).collect();
    let target = u16::try_from(args[0]).expect("a port");
    let delay = Arc::new(AtomicU64::new(args[1]));

    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("a nonblocking listener");
    println!("{}", listener.local_addr().expect("an address").port());

    let next = Arc::clone(&delay);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            next.store(line.trim().parse().expect("a number"), Ordering::Relaxed);
        }
    });

    let epoll = Epoll::new();
    epoll.add(listener.as_raw_fd(), usize::MAX);
    let mut pipes: Vec<Pipe> = Vec::new();
    let mut last = Instant::now();
    loop {
        // Never to sleep on a chunk that waits, however long the scheduler kept us from here.
        let busy = last.elapsed() < STAY_AWAKE || pipes.iter().any(|pipe| !pipe.waiting.is_empty());
        let ready = epoll.wait(if busy { 0 } else { -1 });
        if !ready.is_empty() {
            last = Instant::now();
        }
        for number in ready {
            if number == usize::MAX {
                let Ok((client, _)) = listener.accept() else { continue };
                let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else { continue };
                for (from, to) in [(&client, &server), (&server, &client)] {
                    from.set_nonblocking(true).expect("a nonblocking socket");
                    from.set_nodelay(true).expect("a socket without Nagle");
                    let from = from.try_clone().expect("a descriptor");
                    let to = to.try_clone().expect("a descriptor");
                    epoll.add(from.as_raw_fd(), pipes.len());
                    pipes.push(Pipe { from, to, waiting: VecDeque::new(), open: true });
                }
            } else if pipes[number].open {
                pipes[number].take(Duration::from_nanos(delay.load(Ordering::Relaxed)));
            } else {
                epoll.remove(pipes[number].from.as_raw_fd());
            }
        }
        let now = Instant::now();
        for pipe in &mut pipes {
            pipe.send(now);
        }
    }
}

//! One connection of a program, and the proxy's own to the server for it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::Shared;
use crate::fault::{Direction, Ending, Fault, Side};

pub(crate) struct Link {
    client: TcpStream,
    server: TcpStream,
    over: AtomicBool,
    half_open: AtomicBool,
}

/// What to do with the bytes at hand.
enum Step {
    Pass(usize),
    Lose,
    /// Pass on that many, and break the connection.
    Break(usize, Ending),
    Stop,
}

impl Link {
    pub(crate) fn new(client: TcpStream, server: TcpStream) -> std::io::Result<Self> {
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        Ok(Self { client, server, over: AtomicBool::new(false), half_open: AtomicBool::new(false) })
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    pub(crate) fn end(&self, ending: Ending) {
        // First, and once: the pumps, which wake up from this, would end it in their own way.
        if self.over.swap(true, Ordering::SeqCst) {
            return;
        }
        for socket in [&self.client, &self.server] {
            let _ = match ending {
                Ending::Close => socket.shutdown(Shutdown::Both),
                // The reset goes out with the last handle. Both pumps let go of theirs now: a shutdown of
                // the reading side ends their reads and sends nothing.
                Ending::Reset => SockRef::from(socket)
                    .set_linger(Some(Duration::ZERO))
                    .and_then(|()| socket.shutdown(Shutdown::Read)),
            };
        }
    }

    pub(crate) fn close_one(&self, side: Side) {
        self.half_open.store(true, Ordering::SeqCst);
        let _ = match side {
            Side::Client => self.client.shutdown(Shutdown::Both),
            Side::Server => self.server.shutdown(Shutdown::Both),
        };
    }

    fn is_half_open(&self) -> bool {
        self.half_open.load(Ordering::SeqCst)
    }

    /// Carries bytes one way until the connection ends.
    pub(crate) fn pump(&self, shared: &Arc<Shared>, direction: Direction) {
        let (mut from, mut to) = match direction {
            Direction::Up => (&self.client, &self.server),
            Direction::Down => (&self.server, &self.client),
        };
        let mut buffer = [0; 16 * 1024];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            let bytes = buffer.get(..n).unwrap_or_default();
            if !self.carry(shared, direction, bytes, &mut to) {
                return;
            }
        }
        self.await_news_of_the_end(shared, direction);
        if !self.is_half_open() {
            self.end(Ending::Close);
            shared.changed.notify_all();
        }
    }

    /// False when the connection is over.
    fn carry(&self, shared: &Arc<Shared>, direction: Direction, bytes: &[u8], to: &mut &TcpStream) -> bool {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.next_step(shared, direction, rest.len()) {
                Step::Pass(n) => {
                    let (now, later) = rest.split_at(n);
                    if to.write_all(now).is_err() {
                        self.end(Ending::Close);
                        return false;
                    }
                    rest = later;
                }
                Step::Lose => return true,
                Step::Break(n, ending) => {
                    let _ = to.write_all(rest.get(..n).unwrap_or_default());
                    self.end(ending);
                    shared.lock().fired += 1;
                    shared.changed.notify_all();
                    return false;
                }
                Step::Stop => return false,
            }
        }
        true
    }

    /// Waits until the fault of the moment lets something happen to the next bytes.
    fn next_step(&self, shared: &Arc<Shared>, direction: Direction, available: usize) -> Step {
        let arrived = Instant::now();
        let mut state = shared.lock();
        loop {
            if self.is_over() {
                return Step::Stop;
            }
            if self.is_half_open() {
                return Step::Lose;
            }
            let (pause, amount) = match state.flow(direction) {
                Fault::Pass | Fault::Refuse => (Duration::ZERO, available),
                Fault::Delay(pause) => (pause, available),
                Fault::Drip(pause) => (pause, 1),
                Fault::BlackHole => return Step::Lose,
                Fault::Hold => {
                    state = shared.wait(state, None);
                    continue;
                }
            };
            let left = pause.saturating_sub(arrived.elapsed());
            if !left.is_zero() {
                state = shared.wait(state, Some(left));
                continue;
            }
            let passed = match state.account(direction, amount as u64) {
                Some(broken) => {
                    drop(state);
                    shared.set(broken.then, None);
                    return Step::Break(usize::try_from(broken.after).unwrap_or(amount), broken.ending);
                }
                None => amount,
            };
            return Step::Pass(passed);
        }
    }

    /// A close travels like bytes do.
    fn await_news_of_the_end(&self, shared: &Arc<Shared>, direction: Direction) {
        let mut state = shared.lock();
        while matches!(state.flow(direction), Fault::Hold | Fault::BlackHole)
            && !self.is_over()
            && !self.is_half_open()
        {
            state = shared.wait(state, None);
        }
    }
}

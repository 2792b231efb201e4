//! A TCP proxy that fails the way networks fail, on command: for tests of what a program does then.
//!
//! ```no_run
//! use fault_proxy::{Fault, Proxy};
//!
//! let proxy = Proxy::start("127.0.0.1:6379")?;
//! // … the program connects to proxy.address() …
//! proxy.set(Fault::BlackHole);
//! # std::io::Result::Ok(())
//! ```
//!
//! # Layout
//! * [`Proxy`]: the listener, the connections, what is wrong with them at the moment.
//! * [`fault`]: the words for what can be wrong.
//! * [`command`]: the same as lines of text, for the binary.
//! * `link`: one connection; two threads carry its bytes.

pub mod command;
pub mod fault;
mod link;

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};

pub use command::Command;
pub use fault::{Break, Direction, Ending, Fault, Side};
use link::Link;

/// A proxy on a port of its own. Dropping it closes the port and all connections.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Bound and never listening: keeps the port ours while connections are refused.
    _port: Socket,
}

pub(crate) struct Shared {
    address: SocketAddr,
    target: Mutex<SocketAddr>,
    listener: Mutex<Option<Arc<TcpListener>>>,
    state: Mutex<State>,
    pub(crate) changed: Condvar,
}

pub(crate) struct State {
    up: Fault,
    down: Fault,
    prepared: Option<Break>,
    pub(crate) fired: u64,
    carried_up: u64,
    carried_down: u64,
    links: Vec<Weak<Link>>,
}

impl State {
    pub(crate) fn flow(&self, direction: Direction) -> Fault {
        match direction {
            Direction::Up => self.up,
            Direction::Down => self.down,
        }
    }

    /// Counts bytes that are about to be passed on; the break, if they are the ones for which it waits.
    pub(crate) fn account(&mut self, direction: Direction, bytes: u64) -> Option<Break> {
        let broken = self.prepared.take_if(|b| b.direction == direction && b.after <= bytes);
        if let Some(waiting) = self.prepared.as_mut().filter(|b| b.direction == direction) {
            waiting.after -= bytes;
        }
        let carried = match direction {
            Direction::Up => &mut self.carried_up,
            Direction::Down => &mut self.carried_down,
        };
        *carried += broken.map_or(bytes, |b| b.after);
        broken
    }
}

impl Proxy {
    /// A proxy to `target`, on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// The target is no address, or there is no free port.
    pub fn start(target: impl ToSocketAddrs) -> io::Result<Self> {
        Self::start_on("127.0.0.1:0", target)
    }

    /// A proxy to `target` that listens on `listen`.
    ///
    /// # Errors
    /// One of the two is no address, or the port is in use.
    pub fn start_on(listen: impl ToSocketAddrs, target: impl ToSocketAddrs) -> io::Result<Self> {
        let (listen, target) = (resolve(listen)?, resolve(target)?);
        let port = Socket::new(Domain::for_address(listen), Type::STREAM, None)?;
        port.set_reuse_address(true)?;
        port.bind(&listen.into())?;
        let address = port.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let state = State {
            up: Fault::Pass,
            down: Fault::Pass,
            prepared: None,
            fired: 0,
            carried_up: 0,
            carried_down: 0,
            links: Vec::new(),
        };
        let shared = Arc::new(Shared {
            address,
            target: Mutex::new(target),
            listener: Mutex::default(),
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        shared.accept()?;
        Ok(Self { address, shared, _port: port })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on new connections lead to another server, as after an address has been given to it. Those that
    /// there are stay with the one that they have.
    ///
    /// # Errors
    /// The target is no address.
    pub fn lead_to(&self, target: impl ToSocketAddrs) -> io::Result<()> {
        *self.shared.target.lock().unwrap_or_else(PoisonError::into_inner) = resolve(target)?;
        Ok(())
    }

    /// From now on this happens in both directions. A break that was prepared is forgotten.
    pub fn set(&self, fault: Fault) {
        self.shared.set(fault, None);
    }

    /// From now on this happens in one direction, and nothing in the other.
    pub fn set_one_way(&self, direction: Direction, fault: Fault) {
        self.shared.set(fault, Some(direction));
    }

    /// A connection will break: see [`Break`]. The fault of the moment stays until then.
    pub fn prepare(&self, prepared: Break) {
        self.shared.lock().prepared = Some(prepared);
    }

    /// How many breaks have happened.
    pub fn fired(&self) -> u64 {
        self.shared.lock().fired
    }

    /// Waits until `count` breaks have happened since the start; false when `limit` passes before.
    pub fn await_fired(&self, count: u64, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut state = self.shared.lock();
        while state.fired < count {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.shared.wait(state, Some(left));
        }
        true
    }

    /// Ends all connections; new ones are made as ever.
    pub fn end_all(&self, ending: Ending) {
        for link in self.shared.links() {
            link.end(ending);
        }
        self.shared.changed.notify_all();
    }

    /// Closes one side of all connections. The other side stays open and is told nothing any more.
    pub fn half_open(&self, closed: Side) {
        for link in self.shared.links() {
            link.close_one(closed);
        }
        self.shared.changed.notify_all();
    }

    /// Bytes passed on since the start.
    pub fn carried(&self, direction: Direction) -> u64 {
        let state = self.shared.lock();
        match direction {
            Direction::Up => state.carried_up,
            Direction::Down => state.carried_down,
        }
    }

    /// Connections of the moment.
    pub fn connections(&self) -> usize {
        self.shared.links().len()
    }

    /// Carries out a command of the binary.
    pub fn apply(&self, command: Command) {
        match command {
            Command::Set(fault, direction) => self.shared.set(fault, direction),
            Command::End(ending) => self.end_all(ending),
            Command::HalfOpen(side) => self.half_open(side),
            Command::Prepare(prepared) => self.prepare(prepared),
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.refuse();
        self.end_all(Ending::Close);
    }
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn wait<'a>(
        &self,
        state: MutexGuard<'a, State>,
        limit: Option<Duration>,
    ) -> MutexGuard<'a, State> {
        match limit {
            None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(limit) => self.changed.wait_timeout(state, limit).unwrap_or_else(PoisonError::into_inner).0,
        }
    }

    pub(crate) fn set(self: &Arc<Self>, fault: Fault, direction: Option<Direction>) {
        // Before the state changes: who sees the new state finds the port as it is then.
        if fault == Fault::Refuse {
            self.refuse();
        } else if let Err(e) = self.accept() {
            // The port is kept bound, so this takes a machine out of descriptors: the connects fail.
            eprintln!("fault-proxy: {}: {e}", self.address);
        }
        let mut state = self.lock();
        state.up = if direction == Some(Direction::Down) { Fault::Pass } else { fault };
        state.down = if direction == Some(Direction::Up) { Fault::Pass } else { fault };
        state.prepared = None;
        drop(state);
        self.changed.notify_all();
    }

    fn links(&self) -> Vec<Arc<Link>> {
        let mut state = self.lock();
        state.links.retain(|link| link.upgrade().is_some_and(|link| !link.is_over()));
        state.links.iter().filter_map(Weak::upgrade).collect()
    }

    /// Listens, if it does not yet.
    fn accept(self: &Arc<Self>) -> io::Result<()> {
        let mut listening = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        if listening.is_none() {
            let listener = Arc::new(TcpListener::bind(self.address)?);
            *listening = Some(Arc::clone(&listener));
            let shared = Arc::clone(self);
            thread::spawn(move || {
                while let Ok((client, _)) = listener.accept() {
                    // A server that is down closes the connection to it; so does this one.
                    let target = *shared.target.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Ok(server) = TcpStream::connect(target) {
                        let _ = shared.join(client, server);
                    }
                }
            });
        }
        Ok(())
    }

    /// Stops listening: new connections are refused by the kernel.
    fn refuse(&self) {
        let listening = self.listener.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(listener) = listening {
            // Wakes the thread in accept(), which has the last handle then.
            let _ = SockRef::from(&*listener).shutdown(Shutdown::Read);
        }
    }

    fn join(self: &Arc<Self>, client: TcpStream, server: TcpStream) -> io::Result<()> {
        let link = Arc::new(Link::new(client, server)?);
        self.lock().links.push(Arc::downgrade(&link));
        for direction in [Direction::Up, Direction::Down] {
            let (link, shared) = (Arc::clone(&link), Arc::clone(self));
            thread::Builder::new().stack_size(64 * 1024).spawn(move || link.pump(&shared, direction))?;
        }
        Ok(())
    }
}

fn resolve(address: impl ToSocketAddrs) -> io::Result<SocketAddr> {
    address.to_socket_addrs()?.next().ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

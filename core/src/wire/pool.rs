//! The connections of one process to one server.
//!
//! A connection is lent to one caller at a time and judged by what happened: any failure drops
//! it. There is no ping; one that lay idle is looked at for a close by the peer, which costs no
//! round trip. Short commands share `pool_size` connections at a time, and what holders say of their locks has as many
//! for itself; a waiter, which may hold its connection for minutes, and the background threads, which must never queue
//! behind anyone, are not counted. When a server says that it is not the primary, all connections are dropped that were
//! made before: an address may lead to another one by now. After a failed connect everyone fails at once for
//! `retry_after`: the circuit breaker. Who holds a lock cannot wait so long, and passes it now and then: [`Purpose`].

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

use super::connection::Connection;
use super::dial::Dialer;
use super::fault::Fault;
use super::greeting::Greeting;
use crate::clock::Instant;
use crate::dsn::{Address, Password, Server};
use crate::error::{Error, Result};
use crate::settings::Config;
use crate::text;
use crate::thread::lock;

/// An idle connection is looked at before use when it has lain for longer than this. Short, because
/// a command that was sent into a connection closed before has an unknown outcome for no reason.
const CHECK_AFTER: Duration = Duration::from_millis(10);

/// It has not lain idle.
fn is_fresh(connection: &Connection) -> bool {
    connection.idle_for() < CHECK_AFTER
}

/// For so long at most holders, and those who find out which server is whose, avoid a server that could not be reached.
const AVOIDED: Duration = Duration::from_secs(1);

/// The same for the background threads, of which there is one a server (of a quorum: a few).
const AVOIDED_BY_UPKEEP: Duration = Duration::from_millis(100);

/// What a connection is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A short command of a caller: one of `pool_size`.
    Command,
    /// A caller releases or renews what it holds: one of `pool_size` others, so that nobody who wants a lock is in the
    /// way of who gives it back. Passes the circuit breaker once a second, one caller at a time: of many that release
    /// at once one waits for a server that does not answer.
    Holder,
    /// The background threads' renewals and releases: not counted. They pass the circuit breaker ten times a second.
    Upkeep,
    /// Which server keeps what: not counted, one a process at a time. Passes the circuit breaker once a second.
    Inquiry,
    /// A wait: not counted.
    Apart,
}

impl Purpose {
    /// For how long a server is avoided that could not be reached.
    fn avoids(self, retry_after: Duration) -> Duration {
        match self {
            Self::Command | Self::Apart => retry_after,
            Self::Holder | Self::Inquiry => retry_after.min(AVOIDED),
            Self::Upkeep => retry_after.min(AVOIDED_BY_UPKEEP),
        }
    }
}

/// Connections to one server.
pub struct Pool {
    dialer: Dialer,
    label: String,
    size: usize,
    command_timeout: Duration,
    retry_after: Duration,
    state: Mutex<Inventory>,
    command_freed: Condvar,
    holder_freed: Condvar,
}

/// What there is, and what was.
#[derive(Default)]
struct Inventory {
    idle: VecDeque<Connection>,
    /// Those that owe answers, oldest first: [`Connection::post`].
    late: VecDeque<Connection>,
    /// Those that owe a thread answers, and are lent to nobody else: [`Loan::set_aside`].
    aside: Vec<(ThreadId, Connection)>,
    open: usize,
    /// How often a server was left because it is not the primary. What was lent before is not taken back.
    generation: u64,
    commands: Lent,
    holders: Lent,
    created: u64,
    discarded: u64,
    greeting: Greeting,
    broken_circuit: Option<(Instant, String)>,
    /// A holder tries to connect although the circuit is broken.
    trial: bool,
}

/// Connections of a kind that is counted.
#[derive(Default)]
struct Lent {
    now: usize,
    /// Callers that wait for one of those to end. Waking nobody would be a system call, too.
    queued: usize,
}

impl Inventory {
    fn lent(&mut self, purpose: Purpose) -> Option<&mut Lent> {
        match purpose {
            Purpose::Command => Some(&mut self.commands),
            Purpose::Holder => Some(&mut self.holders),
            Purpose::Upkeep | Purpose::Inquiry | Purpose::Apart => None,
        }
    }

    /// Why this purpose does not try to connect, if so, and for how long it will not.
    fn avoided(&self, purpose: Purpose, pool: &Pool) -> Option<(&str, Duration)> {
        let (when, cause) = self.broken_circuit.as_ref()?;
        let left = (*when + purpose.avoids(pool.retry_after)).remaining();
        if left.is_zero() && purpose == Purpose::Holder && self.trial && self.is_broken(pool) {
            return Some((cause, pool.dialer.connect_timeout()));
        }
        (!left.is_zero()).then_some((cause, left))
    }

    /// The circuit is broken, for those who do not pass it.
    fn is_broken(&self, pool: &Pool) -> bool {
        self.broken_circuit.as_ref().is_some_and(|(when, _)| !(*when + pool.retry_after).has_passed())
    }
}

/// The numbers of a pool.
#[derive(Clone, Debug, Default)]
pub struct PoolStatus {
    /// Connections that exist now.
    pub open: usize,
    /// Of these, not lent.
    pub idle: usize,
    /// Made since the start.
    pub created: u64,
    /// Dropped since the start.
    pub discarded: u64,
    /// What the server said of itself at the last connect.
    pub greeting: Greeting,
}

/// A connection on loan. Dropping it gives it back, or drops it when it is not healthy.
pub struct Loan<'a> {
    pool: &'a Pool,
    connection: Option<Connection>,
    purpose: Purpose,
    /// The pool's, when the connection was taken or begun to be made.
    generation: u64,
    /// It is the one holder that tries to connect.
    trial: bool,
    /// See [`Loan::to_the_front`].
    first: bool,
}

impl Pool {
    /// A pool without connections. No I/O.
    pub fn new(server: Server, config: &Config) -> Self {
        let label = server.to_string();
        // CLIENT SETNAME takes printable ASCII without blanks.
        let node: String = config.node.chars().filter(char::is_ascii_graphic).take(64).collect();
        let client_name = format!("cluster_lock@{node}:{}", std::process::id());
        Self {
            dialer: Dialer::new(server, config.connect_timeout, config.command_timeout, client_name),
            label,
            size: config.pool_size.max(1),
            command_timeout: config.command_timeout,
            retry_after: config.retry_after,
            state: Mutex::default(),
            command_freed: Condvar::new(),
            holder_freed: Condvar::new(),
        }
    }

    /// Where the server listens.
    pub fn address(&self) -> &Address {
        &self.dialer.server().address
    }

    /// Whether what was refused on one connection may be granted on the next: that leads to another server by now, or says
    /// the password that the file has by now.
    pub fn may_answer_otherwise(&self, fault: &Fault) -> bool {
        let reads_password_anew = matches!(self.dialer.server().password, Some(Password::File(_)));
        fault.is_of_no_primary() || reads_password_anew && fault.is_unauthenticated()
    }

    /// The server, without credentials.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The longest wait for the answer to one command.
    pub fn command_timeout(&self) -> Duration {
        self.command_timeout
    }

    /// Borrows a connection, making one where none is idle.
    ///
    /// # Errors
    /// The server cannot be reached, could not be reached less than `retry_after` ago (for some purposes, less than a
    /// part of that), or all `pool_size` connections stayed in use for the whole command time-out.
    pub fn get(&self, purpose: Purpose) -> Result<Loan<'_>> {
        let mut state = self.admit(purpose)?;
        // From here on dropping the loan undoes the count.
        let mut loan = self.lend(None, purpose, state.generation);
        while let Some(connection) = state.idle.pop_back() {
            if is_fresh(&connection) || connection.is_quiet() {
                loan.connection = Some(connection);
                return Ok(loan);
            }
            state.open -= 1;
            state.discarded += 1;
        }
        if let Some((cause, left)) = state.avoided(purpose, self) {
            let cause = format!(
                "{cause}; not tried again for another {:.1} s (cluster_lock.retry_after)",
                left.as_secs_f64()
            );
            drop(state);
            return Err(self.error(cause));
        }
        loan.trial = purpose == Purpose::Holder && state.is_broken(self);
        state.trial |= loan.trial;
        drop(state);
        loan.connection = Some(self.connect()?);
        Ok(loan)
    }

    /// Borrows the connection that this thread has [set aside](Loan::set_aside); `None`: there is none any more.
    ///
    /// # Errors
    /// All `pool_size` connections stayed in use for the whole command time-out.
    pub fn resume(&self, purpose: Purpose) -> Result<Option<Loan<'_>>> {
        let mut state = self.admit(purpose)?;
        let mine = thread::current().id();
        let place = state.aside.iter().position(|(thread, _)| *thread == mine);
        let connection = place.map(|place| state.aside.swap_remove(place).1);
        let generation = state.generation;
        drop(state);
        let loan = self.lend(connection, purpose, generation);
        Ok(Some(loan).filter(|loan| loan.connection.is_some()))
    }

    /// Whether one more connection may be set aside: `pool_size` of them at a time.
    pub fn has_room_aside(&self) -> bool {
        self.lock().aside.len() < self.size
    }

    /// Waits until one more connection may be lent for this purpose, and counts it.
    fn admit(&self, purpose: Purpose) -> Result<MutexGuard<'_, Inventory>> {
        let mut state = self.lock();
        let Some(freed) = self.freed(purpose) else { return Ok(state) };
        let mut deadline = None;
        while let Some(lent) = state.lent(purpose) {
            if lent.now < self.size {
                lent.now += 1;
                break;
            }
            let left = deadline.get_or_insert_with(|| Instant::now() + self.command_timeout).remaining();
            if left.is_zero() {
                return Err(self.error(format!(
                    "all {} connections of this process stayed in use for {:.3} s (cluster_lock.pool_size)",
                    self.size,
                    self.command_timeout.as_secs_f64()
                )));
            }
            lent.queued += 1;
            state = freed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            if let Some(lent) = state.lent(purpose) {
                lent.queued -= 1;
            }
        }
        Ok(state)
    }

    fn freed(&self, purpose: Purpose) -> Option<&Condvar> {
        match purpose {
            Purpose::Command => Some(&self.command_freed),
            Purpose::Holder => Some(&self.holder_freed),
            Purpose::Upkeep | Purpose::Inquiry | Purpose::Apart => None,
        }
    }

    /// A connection that is there, or `None`; no round trip. One that owes answers comes first:
    /// what is posted behind another command is carried out after it.
    ///
    /// `free`: only one that owes none.
    pub fn at_hand(&self, free: bool) -> Option<Loan<'_>> {
        let mut state = self.lock();
        let connection = loop {
            let owing = if free { None } else { state.late.pop_front() };
            if let Some(mut late) = owing {
                // What has arrived meanwhile nobody waits for any more.
                let alive = late.gather().is_ok();
                let is_late = late.late_by() > self.command_timeout;
                if alive && !is_late && late.owing_for() <= self.command_timeout {
                    break late;
                }
                if alive && is_late {
                    let cause = format!("no answer within {:.3} s", late.late_by().as_secs_f64());
                    state.broken_circuit = Some((Instant::now(), cause));
                }
            } else {
                let idle = state.idle.pop_back()?;
                if is_fresh(&idle) || idle.is_quiet() {
                    break idle;
                }
            }
            state.open -= 1;
            state.discarded += 1;
        };
        Some(self.lend(Some(connection), Purpose::Apart, state.generation))
    }

    /// A loan that is counted already: of this connection, or of one that has yet to be found.
    fn lend(&self, connection: Option<Connection>, purpose: Purpose, generation: u64) -> Loan<'_> {
        Loan { pool: self, connection, purpose, generation, trial: false, first: false }
    }

    /// Why no connection is tried at present for this purpose, if so: one has failed a short while ago.
    pub fn shunned(&self, purpose: Purpose) -> Option<Error> {
        let state = self.lock();
        let (cause, _) = state.avoided(purpose, self)?;
        Some(self.error(cause.to_owned()))
    }

    fn connect(&self) -> Result<Connection> {
        let opened = self.dialer.open();
        let mut state = self.lock();
        match opened {
            Ok((connection, greeting)) => {
                state.open += 1;
                state.created += 1;
                state.greeting = greeting;
                state.broken_circuit = None;
                Ok(connection)
            }
            Err(fault) => {
                let error = self.explain(fault);
                if let Error::Connection { cause, .. } | Error::Server { cause, .. } = &error {
                    state.broken_circuit = Some((Instant::now(), cause.clone()));
                }
                Err(error)
            }
        }
    }

    /// Says in words what a fault means, and what to do about it where that is known.
    pub fn explain(&self, fault: Fault) -> Error {
        let foreign = fault.is_foreign_key();
        let (lua, command, right) = (fault.lacks_lua(), fault.lacks_command(), fault.lacks_right());
        let unknown = fault.is_unauthenticated();
        match fault {
            Fault::Broken(cause) => self.error(cause),
            Fault::Refused(code, text) => {
                let hint = match code.as_str() {
                    _ if foreign => {
                        " (something else has written to this lock's keys: cluster_lock_break() clears them)"
                    }
                    _ if lua => {
                        " (every lock is a Lua script, and this server was built or started without Lua: it needs that)"
                    }
                    _ if command => {
                        " (locks need this command: a rename-command in the server's configuration, or a proxy before it, \
                         takes it away)"
                    }
                    "NOSCRIPT" => {
                        " (it was sent the whole script: a proxy in between does not pass scripts on as they are)"
                    }
                    _ if right => " (the ACL user lacks a right: see the ACL line in cluster_lock's README)",
                    _ if unknown => " (check user and password in cluster_lock.dsn)",
                    "READONLY" => {
                        " (this server is a replica: point cluster_lock.dsn at the primary, or at its sentinels)"
                    }
                    "OOM" => " (the server is full: raise maxmemory, or give locks a server of their own)",
                    "LOADING" => " (the server is starting; try again)",
                    "BUSY" => " (another script blocks the server: SCRIPT KILL)",
                    "MISCONF" => " (the server cannot save to its disk and refuses writes)",
                    "MOVED" | "ASK" | "CLUSTERDOWN" => " (a Redis Cluster: use redis+cluster://)",
                    _ => "",
                };
                Error::Server { server: self.label.clone(), cause: format!("{code} {text}{hint}") }
            }
        }
    }

    /// An answer that no server of the kind that we know gives.
    pub fn nonsense(&self, what: &str, answer: &redis::Value) -> Error {
        Error::Server {
            server: self.label.clone(),
            cause: format!("unexpected answer to {what}: {}", text::said(&format!("{answer:?}"))),
        }
    }

    fn error(&self, cause: String) -> Error {
        Error::Connection { server: self.label.clone(), cause }
    }

    /// Drops idle connections: one of their kind just failed, so the server may have restarted.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// The numbers of now.
    pub fn status(&self) -> PoolStatus {
        let state = self.lock();
        PoolStatus {
            open: state.open,
            idle: state.idle.len(),
            created: state.created,
            discarded: state.discarded,
            greeting: state.greeting.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inventory> {
        lock(&self.state)
    }
}

impl Inventory {
    /// Drops what is not lent.
    fn clear(&mut self) {
        let gone = self.idle.len() + self.late.len() + self.aside.len();
        self.open -= gone;
        self.discarded += u64::try_from(gone).unwrap_or_default();
        self.idle.clear();
        self.late.clear();
        self.aside.clear();
    }
}

impl Loan<'_> {
    /// Takes the connection out of the pool, for good.
    #[allow(clippy::expect_used, clippy::missing_panics_doc)] // a loan holds one until it is dropped
    pub fn keep(mut self) -> Connection {
        self.pool.lock().open -= 1;
        self.connection.take().expect("a loan holds a connection")
    }

    /// Whether it has not lain idle for long enough to be looked at before it is used.
    pub fn is_fresh(&self) -> bool {
        is_fresh(self)
    }

    /// Gives it back as the one on which the next command is [posted](Pool::at_hand), behind what has been posted on it.
    pub fn to_the_front(mut self) {
        self.first = true;
    }

    /// Gives it back for this thread alone, which is owed answers on it: [`Pool::resume`]. Dropped with the idle ones.
    pub fn set_aside(mut self) {
        let mut state = self.pool.lock();
        if self.generation == state.generation
            && let Some(connection) = self.connection.take_if(|connection| connection.is_healthy())
        {
            state.aside.push((thread::current().id(), connection));
        }
        // What is not set aside is dropped as ever, which locks the pool again.
        drop(state);
    }
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.lock();
        if let Some(connection) = self.connection.take() {
            let current = self.generation == state.generation;
            let good = current && connection.is_healthy();
            if current && connection.is_deposed() {
                self.pool.dialer.leave(&connection);
                state.generation += 1;
                state.clear();
            }
            if good && connection.owed() > 0 && state.late.len() < self.pool.size {
                if self.first { state.late.push_front(connection) } else { state.late.push_back(connection) }
            } else if good && connection.owed() == 0 && state.idle.len() + state.aside.len() < self.pool.size
            {
                state.idle.push_back(connection);
            } else {
                state.open -= 1;
                state.discarded += 1;
            }
        }
        if self.trial {
            state.trial = false;
        }
        if let (Some(lent), Some(freed)) = (state.lent(self.purpose), self.pool.freed(self.purpose)) {
            lent.now -= 1;
            if lent.queued > 0 {
                freed.notify_one();
            }
        }
    }
}

impl Deref for Loan<'_> {
    type Target = Connection;

    #[allow(clippy::expect_used)] // a loan without a connection never leaves this module
    fn deref(&self) -> &Connection {
        self.connection.as_ref().expect("a loan holds a connection")
    }
}

impl DerefMut for Loan<'_> {
    #[allow(clippy::expect_used)]
    fn deref_mut(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("a loan holds a connection")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use crate::dsn::Dsn;

    fn pool(port: u16, shape: impl FnOnce(&mut Config)) -> Pool {
        let dsn = Dsn::parse(&format!("redis://127.0.0.1:{port}")).unwrap();
        let Dsn::Redis(server) = dsn.clone() else { panic!("{dsn:?}") };
        let mut config = Config::new(dsn);
        shape(&mut config);
        Pool::new(server, &config)
    }

    /// A server that greets whoever comes, and says no more.
    fn greeter() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let mut guests = Vec::new();
            while let Ok((mut guest, _)) = listener.accept() {
                assert!(guest.read(&mut [0; 1024]).unwrap() > 0);
                guest.write_all(b"*0\r\n").unwrap();
                guests.push(guest);
            }
        });
        port
    }

    #[test]
    fn whoever_gives_back_does_not_queue_behind_those_who_ask() {
        let pool = pool(greeter(), |config| {
            config.pool_size = 1;
            config.connect_timeout = Duration::from_secs(60);
            config.command_timeout = Duration::from_millis(20);
        });
        let asks = pool.get(Purpose::Command).unwrap();
        let full = |purpose| pool.get(purpose).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(full(Purpose::Command).contains("cluster_lock.pool_size"));
        let gives_back = pool.get(Purpose::Holder).unwrap();
        assert!(full(Purpose::Holder).contains("cluster_lock.pool_size"));
        // What the background does is not counted at all.
        let upkeep: Vec<_> = (0..3).map(|_| pool.get(Purpose::Upkeep).unwrap()).collect();
        drop(gives_back);
        drop(pool.get(Purpose::Holder).unwrap());
        assert!(full(Purpose::Command).contains("cluster_lock.pool_size"));
        drop((asks, upkeep));
        drop(pool.get(Purpose::Command).unwrap());
        assert!(pool.status().idle == 1 && pool.status().open == 1, "{:?}", pool.status());
    }

    #[test]
    fn holders_pass_a_broken_circuit_each_kind_at_its_own_pace() {
        // Shorter than any machine has been up that has come to run this: no moment lies before its boot.
        let retry_after = Duration::from_secs(20);
        let pool = pool(1, |config| config.retry_after = retry_after);
        let shunned = |purpose| pool.shunned(purpose).is_some();
        let all = [Purpose::Command, Purpose::Apart, Purpose::Holder, Purpose::Inquiry, Purpose::Upkeep];
        assert_eq!(all.map(shunned), [false; 5]);
        let broken = |ago| pool.lock().broken_circuit = Some((Instant::now() - ago, "gone".into()));
        // One that has just failed will have failed a moment ago in an hour, too, as far as this test is concerned.
        pool.lock().broken_circuit = Some((Instant::now() + Duration::from_secs(3600), "gone".into()));
        assert_eq!(all.map(shunned), [true; 5]);
        broken(AVOIDED_BY_UPKEEP);
        assert_eq!((shunned(Purpose::Command), shunned(Purpose::Upkeep)), (true, false));
        broken(AVOIDED);
        assert_eq!(all.map(shunned), [true, true, false, false, false]);
        // One holder tries; the others do not wait for it, and the background does not wait for them.
        pool.lock().trial = true;
        assert_eq!(all.map(shunned), [true, true, true, false, false]);
        broken(retry_after);
        assert_eq!(all.map(shunned), [false; 5]);
    }
}

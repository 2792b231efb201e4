//! One connection to a server: Redis' protocol over TCP, TLS or a Unix socket.
//!
//! The redis crate parses the replies. The socket is ours, because the crate's own
//! connection hides its descriptor (a waiter must sleep in `poll(2)`, so that a signal ends the
//! wait; an idle connection must be looked at without a round trip), and because after a time-out
//! it counts replies to skip, which goes wrong when half a reply has been read. Here any failure
//! makes a connection unusable for good. Commands are packed here, too, into one buffer that is used
//! again: the crate's own builder allocates a dozen times for each.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use redis::{Parser, RedisResult, Value};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::RecvFlags;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::clock::Instant;
use crate::dsn::{Address, Server, TlsFiles};
use crate::text;

/// Why an exchange failed. After anything but [`Fault::Refused`] the connection is unusable.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The socket failed, the peer closed it, time ran out, or the reply made no sense.
    Broken(String),
    /// The server answered with an error: its code (`NOSCRIPT`, `WRONGPASS`, …) and text.
    Refused(String, String),
}

impl Fault {
    /// Whether the server answered with this error code.
    pub fn is(&self, code: &str) -> bool {
        matches!(self, Self::Refused(other, _) if other == code)
    }

    /// Something else has written to the keys of a lock.
    pub fn is_foreign_key(&self) -> bool {
        matches!(self, Self::Refused(code, text)
            if code == "NOTALOCK" || code == "WRONGTYPE" || text.contains("WRONGTYPE"))
    }
}

/// What the server said of itself when the connection was made, if it did.
#[derive(Debug, Clone, Default)]
pub struct Greeting {
    /// Its version.
    pub version: Option<String>,
    /// `master` or `replica`.
    pub role: Option<String>,
}

/// How a wait for data ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// There is something to read.
    Ready,
    /// The time is up.
    TimedOut,
    /// `interrupted` said so.
    Interrupted,
}

/// The longest reply, in bytes: tens of thousands of waiters. What a server sends beyond that is a
/// mistake, or an attack on this process's memory.
const MAX_REPLY: u64 = 16 << 20;

/// A connection that has been authenticated.
pub struct Connection {
    io: Io,
    parser: Parser,
    packed: Vec<u8>,
    timeout: Duration,
    healthy: bool,
    idle_since: Instant,
    /// Commands that were posted and not answered yet, and since when one is due.
    owed: usize,
    owed_since: Instant,
    /// Parts of their replies.
    inbox: Vec<u8>,
}

/// What a server's error says, fit for a message. A server that does not know a command repeats what it
/// was sent: passwords and tokens.
fn refused(code: &str, details: &str) -> Fault {
    let details = details.split(", with args").next().unwrap_or_default();
    let (code, details) = within_script(details).filter(|_| code == "ERR").unwrap_or((code, details));
    Fault::Refused(text::said(code), text::said(details))
}

/// The error of a command that a script called. Redis before 7 wraps it:
/// `ERR Error running script (call to f_…): @user_script: 284: -READONLY You can't write against a read only replica.`
fn within_script(details: &str) -> Option<(&str, &str)> {
    let (_, inner) = details.strip_prefix("Error running script")?.split_once("@user_script: ")?;
    let (_line, inner) = inner.split_once(": ")?;
    let (code, text) = inner.strip_prefix('-').unwrap_or(inner).split_once(' ')?;
    (code.len() > 1 && code.bytes().all(|b| b.is_ascii_uppercase())).then_some((code, text))
}

/// A greeting's failure, in which the password may be repeated.
fn without_password(fault: Fault, server: &Server) -> Fault {
    let password = server.password.as_ref().map(crate::dsn::Secret::reveal).filter(|p| !p.is_empty());
    match (fault, password) {
        (Fault::Refused(code, details), Some(password)) => {
            Fault::Refused(code.replace(password, "***"), details.replace(password, "***"))
        }
        (fault, _) => fault,
    }
}

impl Connection {
    /// Connects, and says HELLO with credentials, database and a name for `CLIENT LIST`: one
    /// round trip after the connection is made.
    ///
    /// # Errors
    /// What failed, in words without credentials.
    pub fn open(
        server: &Server,
        tls: Option<&Arc<ClientConfig>>,
        connect_timeout: Duration,
        command_timeout: Duration,
        name: &str,
    ) -> Result<(Self, Greeting), Fault> {
        let deadline = Instant::now() + connect_timeout;
        let mut outcome = Self::open_once(server, tls, deadline, connect_timeout, name);
        // A connection that was made and broke at once (CLIENT KILL, a proxy that restarts) says nothing
        // of the next one.
        if let Err((true, Fault::Broken(_))) = outcome
            && !deadline.has_passed()
        {
            outcome = Self::open_once(server, tls, deadline, connect_timeout, name);
        }
        let (mut connection, greeting) = outcome.map_err(|(_, fault)| fault)?;
        connection.timeout = command_timeout;
        connection.io.socket().raw.set_timeouts(command_timeout).map_err(|e| broken(&e))?;
        Ok((connection, greeting))
    }

    /// An error comes with whether the connection had been made.
    fn open_once(
        server: &Server,
        tls: Option<&Arc<ClientConfig>>,
        deadline: Instant,
        connect_timeout: Duration,
        name: &str,
    ) -> Result<(Self, Greeting), (bool, Fault)> {
        let raw = connect(&server.address, deadline, connect_timeout).map_err(|e| (false, broken(&e)))?;
        Self::shake_hands(raw, server, tls, deadline, connect_timeout, name).map_err(|fault| (true, fault))
    }

    fn shake_hands(
        raw: Raw,
        server: &Server,
        tls: Option<&Arc<ClientConfig>>,
        deadline: Instant,
        connect_timeout: Duration,
        name: &str,
    ) -> Result<(Self, Greeting), Fault> {
        // Handshake and greeting belong to the connect.
        let left = deadline.remaining().max(Duration::from_millis(1));
        raw.set_timeouts(left).map_err(|e| broken(&e))?;
        let socket = Socket { raw, deadline, check: true, patient: true };
        let io = match (tls, &server.address) {
            (Some(config), Address::Tcp(host, _)) => {
                let host =
                    ServerName::try_from(host.clone()).map_err(|e| Fault::Broken(format!("TLS: {e}")))?;
                let session = ClientConnection::new(Arc::clone(config), host)
                    .map_err(|e| Fault::Broken(format!("TLS: {e}")))?;
                Io::Tls(Box::new(StreamOwned::new(session, socket)))
            }
            _ => Io::Plain(socket),
        };
        let mut connection = Self {
            io,
            parser: Parser::new(),
            packed: Vec::new(),
            timeout: connect_timeout,
            healthy: true,
            idle_since: Instant::now(),
            owed: 0,
            owed_since: deadline,
            inbox: Vec::new(),
        };
        let greeting = connection.greet(server, name, deadline)?;
        Ok((connection, greeting))
    }

    fn greet(&mut self, server: &Server, name: &str, deadline: Instant) -> Result<Greeting, Fault> {
        let mut hello: Vec<&[u8]> = vec![b"HELLO", b"2"];
        if let Some(password) = &server.password {
            let user = server.user.as_deref().unwrap_or("default");
            hello.extend([b"AUTH".as_slice(), user.as_bytes(), password.reveal().as_bytes()]);
        }
        hello.extend([b"SETNAME".as_slice(), name.as_bytes()]);
        self.begin();
        self.add(&hello);
        if server.database != 0 {
            self.add(&[b"SELECT", server.database.to_string().as_bytes()]);
        }
        self.io.socket().deadline = deadline;
        self.write()?;
        // Its buffer has held the password.
        self.packed = Vec::new();
        let greeting = greeting(&self.read().map_err(|fault| without_password(fault, server))?);
        if server.database != 0 {
            self.read()?;
        }
        Ok(greeting)
    }

    /// Sends a command and reads its reply, within the command time-out.
    pub fn call(&mut self, command: &[&[u8]]) -> Result<Value, Fault> {
        self.begin();
        self.add(command);
        self.send()?;
        self.read_one()
    }

    /// Reads the only reply that is outstanding. An integer, which a free lock is answered by, is
    /// read here: the crate's parser clears 8 KiB and allocates for it.
    fn read_one(&mut self) -> Result<Value, Fault> {
        let mut buffer = [0u8; 64];
        self.io.socket().check = false;
        let length = self.io.read(&mut buffer).map_err(|e| self.explain(&e))?;
        let received = buffer.get(..length).unwrap_or_default();
        if let Some(number) = integer(received) {
            self.healthy = true;
            return Ok(Value::Int(number));
        }
        if received.is_empty() {
            return Err(Fault::Broken("the server closed the connection".into()));
        }
        self.parse(received)
    }

    /// Starts a batch of commands.
    pub fn begin(&mut self) {
        self.packed.clear();
    }

    /// Adds a command to the batch.
    pub fn add(&mut self, command: &[&[u8]]) {
        let mut decimal = itoa::Buffer::new();
        let mut number = |packed: &mut Vec<u8>, kind: u8, n: usize| {
            packed.push(kind);
            packed.extend_from_slice(decimal.format(n).as_bytes());
            packed.extend_from_slice(b"\r\n");
        };
        number(&mut self.packed, b'*', command.len());
        for word in command {
            number(&mut self.packed, b'$', word.len());
            self.packed.extend_from_slice(word);
            self.packed.extend_from_slice(b"\r\n");
        }
    }

    /// Sends the batch. Every command's reply must be received before the next batch.
    pub fn send(&mut self) -> Result<(), Fault> {
        let now = Instant::now();
        self.idle_since = now;
        self.io.socket().deadline = now + self.timeout;
        self.write()
    }

    /// Reads the reply to a command that was sent, within the command time-out from now.
    pub fn receive(&mut self) -> Result<Value, Fault> {
        self.io.socket().deadline = Instant::now() + self.timeout;
        self.read()
    }

    /// Sends a command whose reply is [`Connection::gather`]ed, perhaps much later. The server answers
    /// what was posted in this order.
    pub fn post(&mut self, command: &[&[u8]]) -> Result<(), Fault> {
        self.begin();
        self.add(command);
        self.send()?;
        // It is outstanding, but it is known what comes before it.
        self.healthy = true;
        if self.owed == 0 {
            self.owed_since = self.idle_since;
        }
        self.owed += 1;
        Ok(())
    }

    /// Replies to what was posted that have arrived by now, without waiting.
    pub fn gather(&mut self) -> Result<Vec<Result<Value, Fault>>, Fault> {
        let mut replies = Vec::new();
        while replies.len() < self.owed {
            // Twice as much each time, since a reply that is not there whole is looked at from its start.
            let start = self.inbox.len();
            self.inbox.resize(start + start.max(4096), 0);
            self.io.socket().patient = false;
            let read = self.io.read(self.inbox.get_mut(start..).unwrap_or_default());
            self.io.socket().patient = true;
            self.inbox.truncate(start + read.as_ref().copied().unwrap_or(0));
            match read {
                Ok(0) if replies.is_empty() => {
                    self.healthy = false;
                    return Err(Fault::Broken("the server closed the connection".into()));
                }
                Ok(0) => break,
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => {
                    self.healthy = false;
                    return Err(broken(&e));
                }
            }
            self.split(&mut replies)?;
        }
        if !replies.is_empty() {
            self.owed = self.owed.saturating_sub(replies.len());
            self.owed_since = Instant::now();
        }
        Ok(replies)
    }

    /// Takes whole replies out of the inbox.
    fn split(&mut self, replies: &mut Vec<Result<Value, Fault>>) -> Result<(), Fault> {
        loop {
            let length = match reply_length(&self.inbox, 0) {
                Ok(Some(length)) => length,
                Ok(None) if self.inbox.len() as u64 <= MAX_REPLY => return Ok(()),
                _ => {
                    self.healthy = false;
                    return Err(Fault::Broken("the reply could not be read".into()));
                }
            };
            let reply = redis::parse_redis_value(self.inbox.get(..length).unwrap_or_default());
            self.inbox.drain(..length);
            match self.judge(reply) {
                Err(broken @ Fault::Broken(_)) => {
                    self.healthy = false;
                    return Err(broken);
                }
                reply => replies.push(reply),
            }
        }
    }

    /// How many posted commands are unanswered.
    pub fn owed(&self) -> usize {
        self.owed
    }

    /// For how long the server has owed an answer; zero when it owes none.
    pub fn late_by(&self) -> Duration {
        if self.owed == 0 { Duration::ZERO } else { Instant::now().since(self.owed_since) }
    }

    /// Its socket, to wait for.
    pub fn socket(&self) -> BorrowedFd<'_> {
        match &self.io {
            Io::Plain(socket) => socket.raw.as_fd(),
            Io::Tls(tls) => tls.sock.raw.as_fd(),
        }
    }

    /// Sleeps until a reply arrives, for at most `limit`. `interrupted` is looked at whenever a
    /// signal arrives.
    pub fn wait_readable(
        &mut self,
        limit: Duration,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Readiness, Fault> {
        let deadline = Instant::now() + limit;
        loop {
            match readable(self.io.socket().raw.as_fd(), deadline.remaining()) {
                Ok(true) => return Ok(Readiness::Ready),
                Ok(false) if deadline.has_passed() => return Ok(Readiness::TimedOut),
                Err(rustix::io::Errno::INTR) if interrupted() => return Ok(Readiness::Interrupted),
                Ok(false) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => {
                    self.healthy = false;
                    return Err(broken(&e.into()));
                }
            }
        }
    }

    /// Whether it may be used again.
    pub fn is_healthy(&self) -> bool {
        self.healthy
    }

    /// Marks it unusable: a reply is outstanding that nobody will read.
    pub fn poison(&mut self) {
        self.healthy = false;
    }

    /// How long ago it was last used.
    pub fn idle_for(&self) -> Duration {
        Instant::now().since(self.idle_since)
    }

    /// Looks, without a round trip, whether the peer closed it or sent what nobody asked for.
    pub fn is_quiet(&self) -> bool {
        let mut byte = [0u8; 1];
        rustix::net::recv(self.socket(), &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT)
            .is_err_and(|e| e == rustix::io::Errno::AGAIN)
    }

    fn write(&mut self) -> Result<(), Fault> {
        // A command stays outstanding until its reply has been read whole.
        self.healthy = false;
        self.io.socket().check = false;
        self.io.write_all(&self.packed).and_then(|()| self.io.flush()).map_err(|e| self.explain(&e))
    }

    fn read(&mut self) -> Result<Value, Fault> {
        self.io.socket().check = false;
        self.parse(&[])
    }

    /// Reads a reply that may have begun with `received`.
    fn parse(&mut self, received: &[u8]) -> Result<Value, Fault> {
        let mut reply = received.chain(&mut self.io).take(MAX_REPLY);
        let parsed = self.parser.parse_value(&mut reply);
        if parsed.is_err() && reply.limit() == 0 {
            return Err(Fault::Broken(format!("the reply is too long: more than {MAX_REPLY} bytes")));
        }
        self.judge(parsed)
    }

    fn judge(&mut self, reply: RedisResult<Value>) -> Result<Value, Fault> {
        match reply {
            Ok(Value::ServerError(e)) => {
                self.healthy = true;
                Err(refused(e.code(), e.details().unwrap_or_default()))
            }
            Ok(value) => {
                self.healthy = true;
                Ok(value)
            }
            Err(e) if e.is_timeout() => Err(self.explain(&io::ErrorKind::TimedOut.into())),
            Err(e) if e.is_connection_dropped() => {
                Err(Fault::Broken("the server closed the connection".into()))
            }
            Err(e) => {
                Err(Fault::Broken(format!("the reply could not be read: {}", text::said(&e.to_string()))))
            }
        }
    }

    fn explain(&self, error: &io::Error) -> Fault {
        match error.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Fault::Broken(format!(
                "no answer within {:.3} s (cluster_lock.connect_timeout and .command_timeout)",
                self.timeout.as_secs_f64()
            )),
            _ => broken(error),
        }
    }
}

/// The trust and identity of a TLS connection. Made once for all connections of a pool.
///
/// # Errors
/// Which file cannot be used, and why.
pub fn tls_config(files: &TlsFiles) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    if let Some(ca) = &files.ca {
        let pem = |e: &dyn std::fmt::Display| format!("TLS: ca={}: {e}", text::path(ca));
        for certificate in CertificateDer::pem_file_iter(ca).map_err(|e| pem(&e))? {
            roots.add(certificate.map_err(|e| pem(&e))?).map_err(|e| pem(&e))?;
        }
        if roots.is_empty() {
            return Err(pem(&"it contains no certificate"));
        }
    } else {
        // Some of a system's certificates may be unreadable; the others still count.
        for certificate in rustls_native_certs::load_native_certs().certs {
            let _ = roots.add(certificate);
        }
        if roots.is_empty() {
            return Err("TLS: this system has no certificates; install ca-certificates or give ?ca=".into());
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| format!("TLS: {e}"))?
        .with_root_certificates(roots);
    let config = match (&files.cert, &files.key) {
        (Some(cert), Some(key)) => {
            let chain = CertificateDer::pem_file_iter(cert)
                .and_then(Iterator::collect)
                .map_err(|e| format!("TLS: cert={}: {e}", text::path(cert)))?;
            let private = PrivateKeyDer::from_pem_file(key)
                .map_err(|e| format!("TLS: key={}: {e}", text::path(key)))?;
            builder.with_client_auth_cert(chain, private).map_err(|e| format!("TLS: {e}"))?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

/// The length of the first whole reply in `bytes`; `None` while it is not there whole.
fn reply_length(bytes: &[u8], depth: u8) -> Result<Option<usize>, ()> {
    let Some(line) = bytes.windows(2).position(|pair| pair == b"\r\n") else { return Ok(None) };
    let (kind, text) = bytes.get(..line).and_then(<[u8]>::split_first).ok_or(())?;
    let mut end = line + 2;
    let number = || std::str::from_utf8(text).ok().and_then(|text| text.parse::<i64>().ok()).ok_or(());
    match kind {
        b'+' | b'-' | b':' => {}
        b'$' => {
            // Nil has no body.
            if let Ok(length) = usize::try_from(number()?) {
                end = end.checked_add(length).and_then(|end| end.checked_add(2)).ok_or(())?;
            }
        }
        b'*' if depth < 8 => {
            for _ in 0..number()? {
                match reply_length(bytes.get(end..).unwrap_or_default(), depth + 1)? {
                    Some(length) => end += length,
                    None => return Ok(None),
                }
            }
        }
        _ => return Err(()),
    }
    Ok((end <= bytes.len()).then_some(end))
}

/// A whole integer reply: `:123\r\n`.
fn integer(reply: &[u8]) -> Option<i64> {
    let digits = reply.strip_prefix(b":")?.strip_suffix(b"\r\n")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn greeting(hello: &Value) -> Greeting {
    let mut greeting = Greeting::default();
    if let Value::Array(items) = hello {
        for pair in items.chunks_exact(2) {
            if let [Value::BulkString(name), Value::BulkString(value)] = pair {
                let value = Some(text::said(&String::from_utf8_lossy(value))).filter(|text| !text.is_empty());
                match name.as_slice() {
                    b"version" => greeting.version = value,
                    b"role" => greeting.role = value,
                    _ => {}
                }
            }
        }
    }
    greeting
}

fn broken(error: &io::Error) -> Fault {
    Fault::Broken(text::said(&text::os_error(error)))
}

fn connect(address: &Address, deadline: Instant, limit: Duration) -> io::Result<Raw> {
    let (host, port) = match address {
        Address::Unix(path) => return connect_unix(path, deadline, limit),
        Address::Tcp(host, port) => (host.as_str(), *port),
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
    for candidate in (host, port).to_socket_addrs()? {
        let left = deadline.remaining();
        if left.is_zero() {
            last = io::ErrorKind::TimedOut.into();
            break;
        }
        match TcpStream::connect_timeout(&candidate, left) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                let keepalive = socket2::TcpKeepalive::new()
                    .with_time(Duration::from_secs(60))
                    .with_interval(Duration::from_secs(15));
                socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
                return Ok(Raw::Tcp(stream));
            }
            Err(e) => last = e,
        }
    }
    Err(if last.kind() == io::ErrorKind::TimedOut { not_connected(limit) } else { last })
}

/// A server that does not get round to accepting lets connect(2) wait for as long as a send may take.
fn connect_unix(path: &Path, deadline: Instant, limit: Duration) -> io::Result<Raw> {
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
    let address = socket2::SockAddr::unix(path)?;
    loop {
        let left = deadline.remaining();
        if left.is_zero() {
            return Err(not_connected(limit));
        }
        socket.set_write_timeout(Some(left))?;
        match socket.connect(&address) {
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            outcome => return outcome.map(|()| Raw::Unix(OwnedFd::from(socket).into())),
        }
    }
}

fn not_connected(limit: Duration) -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionAborted,
        format!("no connection within {:.3} s (cluster_lock.connect_timeout)", limit.as_secs_f64()),
    )
}

fn readable(fd: BorrowedFd<'_>, limit: Duration) -> rustix::io::Result<bool> {
    let limit = Timespec {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: limit.subsec_nanos().into(),
    };
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    Ok(poll(&mut fds, Some(&limit))? > 0)
}

enum Raw {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Raw {
    fn set_timeouts(&self, limit: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(s) => s.set_read_timeout(Some(limit)).and_then(|()| s.set_write_timeout(Some(limit))),
            Self::Unix(s) => s.set_read_timeout(Some(limit)).and_then(|()| s.set_write_timeout(Some(limit))),
        }
    }
}

impl AsFd for Raw {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(s) => s.as_fd(),
            Self::Unix(s) => s.as_fd(),
        }
    }
}

/// A socket whose reads and writes go on after a signal, up to a deadline: a peer that drips
/// bytes cannot hold a command for longer than its time-out.
struct Socket {
    raw: Raw,
    deadline: Instant,
    /// Not the first step of an exchange: look at the clock.
    check: bool,
    /// Whether a read waits for data.
    patient: bool,
}

impl Socket {
    fn until_deadline<T>(&mut self, mut step: impl FnMut(&mut Raw) -> io::Result<T>) -> io::Result<T> {
        loop {
            if std::mem::replace(&mut self.check, true) && self.deadline.has_passed() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            match step(&mut self.raw) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.patient {
            return Ok(rustix::net::recv(self.raw.as_fd(), buffer, RecvFlags::DONTWAIT)?.0);
        }
        self.until_deadline(|raw| match raw {
            Raw::Tcp(s) => s.read(buffer),
            Raw::Unix(s) => s.read(buffer),
        })
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.until_deadline(|raw| match raw {
            Raw::Tcp(s) => s.write(bytes),
            Raw::Unix(s) => s.write(bytes),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum Io {
    Plain(Socket),
    Tls(Box<StreamOwned<ClientConnection, Socket>>),
}

impl Io {
    fn socket(&mut self) -> &mut Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => tls.get_mut(),
        }
    }
}

impl Read for Io {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(s) => s.read(buffer),
            Self::Tls(s) => s.read(buffer),
        }
    }
}

impl Write for Io {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(s) => s.write(bytes),
            Self::Tls(s) => s.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(s) => s.flush(),
            Self::Tls(s) => s.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;
    use std::thread;

    #[test]
    fn an_error_within_a_script_is_known_by_its_own_code() {
        let inner = |code: &str, details: &str| match refused(code, details) {
            Fault::Refused(code, text) => (code, text),
            Fault::Broken(why) => panic!("{why}"),
        };
        let of = |code: &str, text: &str| (code.to_owned(), text.to_owned());
        let wrapped = "Error running script (call to f_5b3): @user_script: 284: -OOM command not allowed";
        assert_eq!(inner("ERR", wrapped), of("OOM", "command not allowed"));
        let wrapped = "Error running script (call to f_5b3): @user_script: 7: WRONGTYPE Operation against";
        assert_eq!(inner("ERR", wrapped), of("WRONGTYPE", "Operation against"));
        // Lua's own, and those of other commands.
        for own in
            ["Error running script (call to f_5b3): @user_script: 7: attempt to index nil", "unknown command"]
        {
            assert_eq!(inner("ERR", own), of("ERR", own));
        }
        assert_eq!(inner("READONLY", "You can't write"), of("READONLY", "You can't write"));
    }

    type Replies = &'static [&'static [&'static [u8]]];

    /// A connection to a peer that answers each command with the next of `replies`, a piece at a time.
    fn talk(replies: Replies) -> Connection {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        thread::spawn(move || {
            let mut buffer = [0; 1024];
            for reply in replies {
                assert!(theirs.read(&mut buffer).unwrap() > 0);
                for piece in *reply {
                    theirs.write_all(piece).unwrap();
                    // Lets the piece arrive on its own; that it does is not needed, only likely.
                    thread::sleep(Duration::from_millis(5));
                }
            }
        });
        let raw = Raw::Unix(ours);
        raw.set_timeouts(Duration::from_millis(300)).unwrap();
        let deadline = Instant::now();
        Connection {
            io: Io::Plain(Socket { raw, deadline, check: false, patient: true }),
            parser: Parser::new(),
            packed: Vec::new(),
            timeout: Duration::from_millis(300),
            healthy: true,
            idle_since: deadline,
            owed: 0,
            owed_since: deadline,
            inbox: Vec::new(),
        }
    }

    fn ask(connection: &mut Connection) -> Result<Value, Fault> {
        connection.call(&[b"PING"])
    }

    #[test]
    fn replies_arrive_whole_or_in_pieces() {
        let mut c = talk(&[
            &[b":12\r\n"],
            &[b":-1", b"234\r\n"],
            &[b"*2\r\n:1\r\n$3\r\na", b"bc\r\n"],
            &[b"$-1\r\n"],
            &[b"+OK\r\n"],
        ]);
        assert_eq!(ask(&mut c).unwrap(), Value::Int(12));
        assert_eq!(ask(&mut c).unwrap(), Value::Int(-1234));
        let expected = Value::Array(vec![Value::Int(1), Value::BulkString(b"abc".to_vec())]);
        assert_eq!(ask(&mut c).unwrap(), expected);
        assert_eq!(ask(&mut c).unwrap(), Value::Nil);
        assert_eq!(ask(&mut c).unwrap(), Value::Okay);
        assert!(c.is_healthy());
    }

    #[test]
    fn an_error_reply_leaves_it_healthy() {
        let mut c = talk(&[&[b"-NOPERM no", b"t you\r\n"], &[b":1\r\n"]]);
        match ask(&mut c) {
            Err(Fault::Refused(code, text)) => {
                assert_eq!((code.as_str(), text.as_str()), ("NOPERM", "not you"));
            }
            other => panic!("{other:?}"),
        }
        assert!(c.is_healthy());
        assert_eq!(ask(&mut c).unwrap(), Value::Int(1));
    }

    #[test]
    fn an_error_reply_is_escaped_cut_and_says_nothing_that_was_sent() {
        let mut c = talk(&[
            &[b"-ERR unknown command 'EVALSHA', with args beginning with: 'my-token'\r\n"],
            &[b"-B\x1b[2JAD a\nb \xc2\x9b ", &[b'x'; 4000], b"\r\n"],
            &[b"-", &[b'C'; 4000], b"\r\n"],
        ]);
        let mut refusal = || match ask(&mut c) {
            Err(Fault::Refused(code, text)) => (code, text),
            other => panic!("{other:?}"),
        };
        assert_eq!(refusal(), ("ERR".into(), "unknown command 'EVALSHA'".into()));
        let (code, text) = refusal();
        assert_eq!(code, "B\\u{1b}[2JAD");
        assert!(text.starts_with("a\\nb \\u{9b} xxx") && text.len() < 500, "{text}");
        assert!(refusal().0.len() < 500);
    }

    #[test]
    fn what_breaks_it_breaks_it_for_good() {
        // Cut in the middle, no answer, nonsense.
        let broken: [Replies; 4] = [&[&[b":1"]], &[&[b"$5\r\nab"]], &[], &[&[b"?what\r\n"]]];
        for replies in broken {
            let mut c = talk(replies);
            assert!(matches!(ask(&mut c), Err(Fault::Broken(_))), "{replies:?}");
            assert!(!c.is_healthy(), "{replies:?}");
        }
    }

    #[test]
    fn one_that_breaks_at_its_greeting_is_made_again_once() {
        for (breaks, opens) in [(0, true), (1, true), (2, false)] {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = Address::Tcp("127.0.0.1".into(), listener.local_addr().unwrap().port());
            let peer = thread::spawn(move || {
                for _ in 0..breaks {
                    drop(listener.accept().unwrap());
                }
                if opens {
                    let (mut socket, _) = listener.accept().unwrap();
                    assert!(socket.read(&mut [0; 1024]).unwrap() > 0);
                    socket.write_all(b"*2\r\n$4\r\nrole\r\n$6\r\nmaster\r\n").unwrap();
                }
            });
            let server = Server { address, tls: None, user: None, password: None, database: 0 };
            let limit = Duration::from_secs(5);
            let opened = Connection::open(&server, None, limit, limit, "test");
            assert_eq!(opened.map(|(_, greeting)| greeting.role).ok(), opens.then(|| Some("master".into())));
            peer.join().unwrap();
        }
    }

    #[test]
    fn posted_commands_are_answered_in_order_and_later() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut c = talk(&[]);
        c.io =
            Io::Plain(Socket { raw: Raw::Unix(ours), deadline: Instant::now(), check: false, patient: true });
        c.post(&[b"A"]).unwrap();
        assert!(c.gather().unwrap().is_empty());
        c.post(&[b"B"]).unwrap();
        c.post(&[b"C"]).unwrap();
        assert_eq!(c.owed(), 3);
        theirs.write_all(b":1\r\n*2\r\n$1\r\na\r\n").unwrap();
        let first: Vec<_> = c.gather().unwrap().into_iter().map(Result::unwrap).collect();
        assert_eq!(first, [Value::Int(1)]);
        theirs.write_all(b":7\r\n-ERR no\r\n").unwrap();
        let rest = c.gather().unwrap();
        let pair = Value::Array(vec![Value::BulkString(b"a".to_vec()), Value::Int(7)]);
        assert_eq!(rest[0].as_ref().unwrap(), &pair);
        assert!(rest[1].as_ref().unwrap_err().is("ERR"));
        assert!(c.owed() == 0 && c.is_healthy() && c.late_by().is_zero());
        drop(theirs);
        c.post(&[b"D"]).unwrap_err();
        assert!(!c.is_healthy());
    }

    #[test]
    fn the_length_of_a_reply() {
        let whole: [&[u8]; 6] = [
            b"+OK\r\n",
            b":-1\r\n",
            b"$-1\r\n",
            b"$3\r\na\r\n\r\n",
            b"*-1\r\n",
            b"*2\r\n*1\r\n:1\r\n$0\r\n\r\n",
        ];
        for reply in whole {
            let more = [reply, b"+next"].concat();
            assert_eq!(reply_length(&more, 0), Ok(Some(reply.len())), "{reply:?}");
            for cut in 0..reply.len() {
                assert_eq!(reply_length(&reply[..cut], 0), Ok(None), "{reply:?} {cut}");
            }
        }
        let wrong: [&[u8]; 4] = [b"?\r\n", b"\r\n", b"$x\r\n", b"*1\r\n!\r\n"];
        for reply in wrong {
            assert_eq!(reply_length(reply, 0), Err(()), "{reply:?}");
        }
        assert_eq!(reply_length(&b"*1\r\n".repeat(9), 0), Err(()));
    }

    #[test]
    fn a_unix_socket_that_accepts_nobody_does_not_outlast_the_time_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("full.sock");
        let listener = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        listener.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
        listener.listen(0).unwrap();
        let _waiting = UnixStream::connect(&path).unwrap();
        let limit = Duration::from_millis(200);
        let (said, answer) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let outcome = connect(&Address::Unix(path), Instant::now() + limit, limit);
            said.send(outcome.err().map(|e| e.to_string()))
        });
        let error = answer.recv_timeout(Duration::from_secs(10)).unwrap().unwrap();
        assert!(error.contains("connect_timeout"), "{error}");
    }

    #[test]
    fn a_reply_without_end_is_not_kept() {
        let endless = [
            ("$9999999999\r\n", "x".repeat(1 << 16)),
            ("*9999999999\r\n", format!("$1000\r\n{}\r\n", "x".repeat(1000))),
        ];
        for (begin, more) in endless {
            let mut c = talk(&[]);
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let limit = Duration::from_secs(20);
            ours.set_read_timeout(Some(limit)).unwrap();
            c.io = Io::Plain(Socket {
                raw: Raw::Unix(ours),
                deadline: Instant::now(),
                check: false,
                patient: true,
            });
            c.timeout = limit;
            let flood = thread::spawn(move || {
                let mut sent = begin.len();
                theirs.write_all(begin.as_bytes()).unwrap();
                while theirs.write_all(more.as_bytes()).is_ok() {
                    sent += more.len();
                }
                sent
            });
            let Err(Fault::Broken(why)) = ask(&mut c) else { panic!("{begin:?} has an answer") };
            assert!(why.contains("too long"), "{begin:?}: {why}");
            assert!(!c.is_healthy());
            drop(c);
            assert!(u64::try_from(flood.join().unwrap()).unwrap() < 2 * MAX_REPLY, "{begin:?}");
        }
    }

    #[test]
    fn a_reply_nested_without_end_does_not_exhaust_the_renewal_threads_stack() {
        let nested = |kind: &str| kind.repeat(1_000).into_bytes();
        for reply in [
            nested("*1\r\n"),
            nested("*2\r\n:1\r\n"),
            nested("%1\r\n:1\r\n"),
            nested(">2\r\n+a\r\n"),
            nested("|1\r\n:1\r\n"),
        ] {
            let parse = move || Parser::new().parse_value(reply.as_slice()).is_err();
            let thread = thread::Builder::new().stack_size(crate::thread::STACK).spawn(parse).unwrap();
            assert!(thread.join().unwrap());
        }
    }

    #[test]
    fn a_peer_that_drips_does_not_outlast_the_time_out() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut c = talk(&[]);
        let raw = Raw::Unix(ours);
        raw.set_timeouts(Duration::from_millis(300)).unwrap();
        c.io = Io::Plain(Socket { raw, deadline: Instant::now(), check: false, patient: true });
        let drip = thread::spawn(move || {
            theirs.write_all(b"$10000\r\n").unwrap();
            while theirs.write_all(b"x").is_ok() {
                thread::sleep(Duration::from_millis(20));
            }
        });
        let began = Instant::now();
        assert!(matches!(ask(&mut c), Err(Fault::Broken(_))));
        // All of it takes 200 s.
        assert!(Instant::now().since(began) < Duration::from_secs(60));
        drop(c);
        drip.join().unwrap();
    }
}

//! How a connection to a server is made: the name, the socket, TLS, the greeting; all within the connect time-out.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use once_cell::sync::OnceCell;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::connection::Connection;
use super::fault::Fault;
use super::greeting::{Greeting, Login, greet};
use super::name::Name;
use super::race;
use super::socket::{Io, Raw, Socket};
use super::tls::tls_config;
use crate::clock::Instant;
use crate::dsn::{Address, Password, Secret, Server};
use crate::text;

/// Makes connections to one server, and remembers what it has learned of the way.
pub struct Dialer {
    server: Server,
    /// Where it leads; `None` for a Unix socket.
    name: Option<Name>,
    tls: OnceCell<Arc<ClientConfig>>,
    connect_timeout: Duration,
    command_timeout: Duration,
    client_name: String,
    /// The server has no `HELLO` for us.
    plain: AtomicBool,
}

impl Dialer {
    /// To `server`, which is told `client_name`, for `CLIENT LIST`: printable ASCII without blanks. No I/O.
    pub fn new(
        server: Server,
        connect_timeout: Duration,
        command_timeout: Duration,
        client_name: String,
    ) -> Self {
        let name = match &server.address {
            Address::Tcp(host, port) => Some(Name::new(host, *port)),
            Address::Unix(_) => None,
        };
        Self {
            server,
            name,
            tls: OnceCell::new(),
            connect_timeout,
            command_timeout,
            client_name,
            plain: AtomicBool::new(false),
        }
    }

    /// The server.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// The longest wait for a connection.
    pub(super) fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    /// Makes a connection, within the connect time-out, and says HELLO with credentials, database and a name: one round
    /// trip after the connection is made, and one more the first time that a server has no HELLO. A password that stands
    /// in a file is read now. The connection's commands have the command time-out.
    ///
    /// # Errors
    /// What failed, in words without credentials.
    pub fn open(&self) -> Result<(Connection, Greeting), Fault> {
        let tls = self.tls().map_err(Fault::Broken)?;
        let deadline = Instant::now() + self.connect_timeout;
        let mut password = self.password()?;
        let mut outcome = self.open_once(tls, password.as_ref(), deadline);
        let again = match &outcome {
            // A connection that was made and broke at once (CLIENT KILL, a proxy that restarts) says nothing
            // of the next one.
            Err((true, Fault::Broken(_))) => true,
            // The password may have changed since it was read.
            Err((_, fault)) if fault.is_unauthenticated() => {
                let before = std::mem::replace(&mut password, self.password()?);
                before != password
            }
            _ => false,
        };
        if again && !deadline.has_passed() {
            outcome = self.open_once(tls, password.as_ref(), deadline);
        }
        let (mut connection, greeting) = outcome.map_err(|(_, fault)| fault)?;
        connection.set_timeout(self.command_timeout).map_err(|e| Fault::of(&e))?;
        Ok((connection, greeting))
    }

    /// The server has said on this connection that it is not the primary: the next one leads elsewhere, unless the name
    /// still says the same.
    pub(super) fn leave(&self, connection: &Connection) {
        if let (Some(name), Some(peer)) = (&self.name, connection.peer()) {
            name.leave(peer);
        }
    }

    fn password(&self) -> Result<Option<Secret>, Fault> {
        self.server.password.as_ref().map(Password::now).transpose().map_err(Fault::Broken)
    }

    fn tls(&self) -> Result<Option<&Arc<ClientConfig>>, String> {
        match &self.server.tls {
            None => Ok(None),
            Some(files) => self.tls.get_or_try_init(|| tls_config(files)).map(Some),
        }
    }

    /// An error comes with whether the connection had been made.
    fn open_once(
        &self,
        tls: Option<&Arc<ClientConfig>>,
        password: Option<&Secret>,
        deadline: Instant,
    ) -> Result<(Connection, Greeting), (bool, Fault)> {
        let (raw, peer) = self.connect(deadline).map_err(|e| (false, Fault::of(&e)))?;
        let greeted = self.shake_hands(raw, peer, tls, password, deadline);
        if let (Some(name), Some(peer)) = (&self.name, peer) {
            match &greeted {
                Ok(_) => name.remember(peer),
                Err(fault) if fault.is_of_no_primary() => name.leave(peer),
                Err(Fault::Broken(_)) => name.doubt(peer),
                Err(Fault::Refused(..)) => {}
            }
        }
        greeted.map_err(|fault| (true, fault))
    }

    fn connect(&self, deadline: Instant) -> io::Result<(Raw, Option<SocketAddr>)> {
        let limit = self.connect_timeout;
        match (&self.server.address, &self.name) {
            (Address::Tcp(host, _), Some(name)) => {
                let addresses = name.addresses(deadline, limit).map_err(|e| {
                    in_time(limit, e, &format!(": \"{}\" has not been resolved", text::said(host)))
                })?;
                let (stream, peer) =
                    race::connect(&addresses, deadline).map_err(|e| in_time(limit, e, ""))?;
                stream.set_nodelay(true)?;
                let keepalive = socket2::TcpKeepalive::new()
                    .with_time(Duration::from_secs(60))
                    .with_interval(Duration::from_secs(15));
                socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
                Ok((Raw::Tcp(stream), Some(peer)))
            }
            (Address::Unix(path), _) => {
                let raw = connect_unix(path, deadline).map_err(|e| in_time(limit, e, ""))?;
                Ok((raw, None))
            }
            (Address::Tcp(..), None) => Err(io::ErrorKind::AddrNotAvailable.into()),
        }
    }

    fn shake_hands(
        &self,
        raw: Raw,
        peer: Option<SocketAddr>,
        tls: Option<&Arc<ClientConfig>>,
        password: Option<&Secret>,
        deadline: Instant,
    ) -> Result<(Connection, Greeting), Fault> {
        // Handshake and greeting belong to the connect.
        let left = deadline.remaining().max(Duration::from_millis(1));
        raw.set_timeouts(left).map_err(|e| Fault::of(&e))?;
        let socket = Socket { raw, deadline, check: true, patient: true };
        let io = match (tls, &self.server.address) {
            (Some(config), Address::Tcp(host, _)) => {
                let named = self.server.tls.as_ref().and_then(|tls| tls.name.as_ref()).unwrap_or(host);
                let host =
                    ServerName::try_from(named.clone()).map_err(|e| Fault::Broken(format!("TLS: {e}")))?;
                let session = ClientConnection::new(Arc::clone(config), host)
                    .map_err(|e| Fault::Broken(format!("TLS: {e}")))?;
                Io::Tls(Box::new(StreamOwned::new(session, socket)))
            }
            _ => Io::Plain(socket),
        };
        let mut connection = Connection::over(io, peer, self.connect_timeout);
        let login = Login {
            user: self.server.user.as_deref(),
            password,
            database: self.server.database,
            name: &self.client_name,
        };
        let greeting = greet(&mut connection, &login, &self.plain, deadline)?;
        Ok((connection, greeting))
    }
}

/// What it means that the time is up.
fn in_time(limit: Duration, error: io::Error, more: &str) -> io::Error {
    if error.kind() != io::ErrorKind::TimedOut {
        return error;
    }
    let limit = limit.as_secs_f64();
    io::Error::other(format!("no connection within {limit:.3} s (cluster_lock.connect_timeout){more}"))
}

/// A server that does not get round to accepting lets connect(2) wait for as long as a send may take.
fn connect_unix(path: &Path, deadline: Instant) -> io::Result<Raw> {
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
    let address = socket2::SockAddr::unix(path)?;
    loop {
        let left = deadline.remaining();
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_write_timeout(Some(left))?;
        match socket.connect(&address) {
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            outcome => return outcome.map(|()| Raw::Unix(OwnedFd::from(socket).into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::{Mutex, mpsc};
    use std::thread::{self, JoinHandle};

    use crate::thread::lock;
    use crate::wire::race::tests::BlackHole;

    const LONG: Duration = Duration::from_secs(60);

    const HELLO: &[u8] = b"*2\r\n$4\r\nrole\r\n$6\r\nmaster\r\n";

    /// How to speak to a server there, and nothing more.
    fn server(address: Address) -> Server {
        let dsn = crate::Dsn::parse("redis://h").unwrap();
        let crate::Dsn::Redis(server) = dsn else { panic!("{dsn:?}") };
        server.at(address)
    }

    fn dialer(address: Address, limit: Duration) -> Dialer {
        Dialer::new(server(address), limit, limit, "test".into())
    }

    /// To a name whose addresses are what this list says at the moment.
    fn dialer_to(list: &Arc<Mutex<io::Result<Vec<SocketAddr>>>>, limit: Duration) -> Dialer {
        let list = Arc::clone(list);
        let look_up = move |_: &str, _| match &*lock(&list) {
            Ok(addresses) => Ok(addresses.clone()),
            Err(e) => Err(io::Error::new(e.kind(), e.to_string())),
        };
        let name = Some(Name::asking("a.test", 1, Box::new(look_up)));
        Dialer { name, ..dialer(Address::Tcp("a.test".into(), 1), limit) }
    }

    /// Greets all who come, for as long as the result lives.
    fn peer() -> (SocketAddr, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let serve = move || {
            while let Ok((mut socket, _)) = listener.accept() {
                if socket.read(&mut [0; 1024]).unwrap() == 0 {
                    break;
                }
                socket.write_all(HELLO).unwrap();
            }
        };
        (address, thread::spawn(serve))
    }

    fn end((address, thread): (SocketAddr, JoinHandle<()>)) {
        drop(std::net::TcpStream::connect(address).unwrap());
        thread.join().unwrap();
    }

    fn opens(dialer: &Dialer) -> Result<Option<SocketAddr>, String> {
        match dialer.open() {
            Ok((connection, _)) => Ok(connection.peer()),
            Err(fault) => Err(format!("{fault:?}")),
        }
    }

    #[test]
    fn a_unix_socket_that_accepts_nobody_does_not_outlast_the_time_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("full.sock");
        let listener = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        listener.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
        listener.listen(0).unwrap();
        let _waiting = std::os::unix::net::UnixStream::connect(&path).unwrap();
        let (said, answer) = mpsc::channel();
        thread::spawn(move || said.send(opens(&dialer(Address::Unix(path), Duration::from_millis(200)))));
        let error = answer.recv_timeout(LONG).unwrap().unwrap_err();
        assert!(error.contains("connect_timeout"), "{error}");
    }

    #[test]
    fn one_that_breaks_at_its_greeting_is_made_again_once() {
        for (breaks, opens) in [(0, true), (1, true), (2, false)] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = Address::Tcp("127.0.0.1".into(), listener.local_addr().unwrap().port());
            let peer = thread::spawn(move || {
                for _ in 0..breaks {
                    drop(listener.accept().unwrap());
                }
                if opens {
                    let (mut socket, _) = listener.accept().unwrap();
                    assert!(socket.read(&mut [0; 1024]).unwrap() > 0);
                    socket.write_all(HELLO).unwrap();
                }
            });
            let opened = dialer(address, LONG).open();
            assert_eq!(opened.map(|(_, greeting)| greeting.role).ok(), opens.then(|| Some("master".into())));
            peer.join().unwrap();
        }
    }

    #[test]
    fn a_black_hole_among_the_addresses_of_a_name_costs_no_connection() {
        let (hole, good) = (BlackHole::at("127.0.0.5:0".parse().unwrap()), peer());
        let list = Arc::new(Mutex::new(Ok(vec![hole.address(), good.0])));
        let dialer = dialer_to(&list, LONG);
        assert_eq!(opens(&dialer).unwrap(), Some(good.0));
        // From now on it is tried first, and known by heart.
        let addresses = dialer.name.as_ref().unwrap().addresses(Instant::now() + LONG, LONG).unwrap();
        assert_eq!(addresses, [good.0, hole.address()]);
        *lock(&list) = Err(io::Error::other("Temporary failure in name resolution"));
        assert_eq!(opens(&dialer).unwrap(), Some(good.0));
        end(good);
    }

    #[test]
    fn a_peer_that_does_not_greet_is_passed_over() {
        let (mute, good) = (TcpListener::bind("127.0.0.1:0").unwrap(), peer());
        let address = mute.local_addr().unwrap();
        let closing = thread::spawn(move || drop(mute.accept().unwrap()));
        let list = Arc::new(Mutex::new(Ok(vec![address, good.0])));
        assert_eq!(opens(&dialer_to(&list, LONG)).unwrap(), Some(good.0));
        closing.join().unwrap();
        end(good);
    }

    #[test]
    fn a_server_that_is_left_is_not_gone_back_to_unless_the_name_says_so() {
        let (old, new) = (peer(), peer());
        let list = Arc::new(Mutex::new(Ok(vec![old.0])));
        let dialer = dialer_to(&list, LONG);
        let (connection, _) = dialer.open().unwrap();
        dialer.leave(&connection);
        *lock(&list) = Err(io::Error::other("Temporary failure in name resolution"));
        let error = opens(&dialer).unwrap_err();
        assert!(error.contains("Temporary failure"), "{error}");
        *lock(&list) = Ok(vec![old.0, new.0]);
        assert_eq!(opens(&dialer).unwrap(), Some(new.0));
        *lock(&list) = Ok(vec![old.0]);
        assert_eq!(opens(&dialer).unwrap(), Some(old.0));
        end(old);
        end(new);
    }

    #[test]
    fn a_name_service_that_says_nothing_is_told() {
        let (release, released) = mpsc::channel::<()>();
        let released = Mutex::new(released);
        let look_up = move |_: &str, _| {
            let _ = lock(&released).recv();
            Ok(Vec::new())
        };
        let name = Some(Name::asking("a.test", 1, Box::new(look_up)));
        let limit = Duration::from_millis(20);
        let dialer = Dialer { name, ..dialer(Address::Tcp("a.test".into(), 1), limit) };
        let error = opens(&dialer).unwrap_err();
        assert!(error.contains("a.test") && error.contains("connect_timeout"), "{error}");
        drop(release);
    }
}

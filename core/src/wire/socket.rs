//! A socket: TCP, Unix domain, and TLS over one.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::net::RecvFlags;
use rustls::{ClientConnection, StreamOwned};

use crate::clock::Instant;
use crate::dsn::Address;

/// Connects, within `limit`, which ends at `deadline`.
pub(super) fn connect(address: &Address, deadline: Instant, limit: Duration) -> io::Result<Raw> {
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

/// A socket as the kernel has it.
pub(super) enum Raw {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Raw {
    pub(super) fn set_timeouts(&self, limit: Duration) -> io::Result<()> {
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
pub(super) struct Socket {
    pub(super) raw: Raw,
    pub(super) deadline: Instant,
    /// Not the first step of an exchange: look at the clock.
    pub(super) check: bool,
    /// Whether a read waits for data.
    pub(super) patient: bool,
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

/// What a connection reads and writes.
pub(super) enum Io {
    Plain(Socket),
    Tls(Box<StreamOwned<ClientConnection, Socket>>),
}

impl Io {
    pub(super) fn socket(&mut self) -> &mut Socket {
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
        std::thread::spawn(move || {
            let outcome = connect(&Address::Unix(path), Instant::now() + limit, limit);
            said.send(outcome.err().map(|e| e.to_string()))
        });
        let error = answer.recv_timeout(Duration::from_secs(10)).unwrap().unwrap();
        assert!(error.contains("connect_timeout"), "{error}");
    }
}

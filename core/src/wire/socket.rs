//! A socket: TCP, Unix domain, and TLS over one.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::RecvFlags;
use rustls::{ClientConnection, StreamOwned};

use crate::clock::Instant;

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

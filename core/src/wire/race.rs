//! The first of a server's addresses to answer: RFC 8305, "Happy Eyeballs".
//!
//! An address that does not answer is not waited for before the next one is tried: attempts begin one after the other,
//! a moment apart, at once after one that failed, and the first connection that is made is taken.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use socket2::{Domain, Socket, Type};

use crate::clock::Instant;
use crate::poll;

/// The "Connection Attempt Delay".
const DELAY: Duration = Duration::from_millis(250);

/// What a part of a connect may take of the time for all of it, so that others are left their share.
pub(super) fn share(limit: Duration) -> Duration {
    DELAY.min(limit / 4)
}

/// Connects to one of `addresses`, which are tried in this order, and tells to which.
///
/// # Errors
/// That of the last attempt that failed; [`io::ErrorKind::TimedOut`].
pub(super) fn connect(addresses: &[SocketAddr], deadline: Instant) -> io::Result<(TcpStream, SocketAddr)> {
    // Each of them has begun before the time is up, and has some of it left.
    let parts = u32::try_from(addresses.len()).unwrap_or(u32::MAX).saturating_add(1);
    let delay = DELAY.min(deadline.remaining() / parts);
    let mut rest = addresses.iter();
    let mut next = rest.next();
    let mut due = Instant::now();
    let mut attempts: Vec<(Socket, SocketAddr)> = Vec::new();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
    loop {
        while let Some(address) = next
            && (attempts.is_empty() || due.has_passed())
        {
            match begin(*address) {
                Ok(socket) => {
                    attempts.push((socket, *address));
                    due = Instant::now() + delay;
                }
                Err(e) => last = e,
            }
            next = rest.next();
        }
        if attempts.is_empty() {
            return Err(last);
        }
        if deadline.has_passed() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let alarm = if next.is_some() { deadline.min(due) } else { deadline };
        let mut sockets: Vec<_> =
            attempts.iter().map(|(socket, _)| PollFd::new(socket, PollFlags::OUT)).collect();
        match poll::among(&mut sockets, alarm.remaining()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        let ready: Vec<bool> = sockets.iter().map(|socket| !socket.revents().is_empty()).collect();
        drop(sockets);
        for i in (0..ready.len()).rev().filter(|i| ready.get(*i) == Some(&true)) {
            let (socket, address) = attempts.remove(i);
            match socket.take_error()? {
                None => {
                    socket.set_nonblocking(false)?;
                    return Ok((socket.into(), address));
                }
                Some(e) => {
                    last = e;
                    due = Instant::now();
                }
            }
        }
    }
}

/// Has the kernel begin a connection.
fn begin(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&address.into()) {
        Err(e) if e.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => {}
        Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
        outcome => outcome?,
    }
    Ok(socket)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpListener};

    const LONG: Duration = Duration::from_secs(60);

    /// Where packets to a port of this machine vanish: its listener's queue is full, and is never emptied.
    pub(in crate::wire) struct BlackHole {
        listener: Socket,
        _waiting: Vec<Socket>,
    }

    impl BlackHole {
        pub(in crate::wire) fn at(address: SocketAddr) -> Self {
            let listener = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
            listener.set_reuse_address(true).unwrap();
            listener.bind(&address.into()).unwrap();
            listener.listen(0).unwrap();
            let address = listener.local_addr().unwrap().as_socket().unwrap();
            let mut waiting = Vec::new();
            loop {
                let socket = begin(address).unwrap();
                let made =
                    poll::among(&mut [PollFd::new(&socket, PollFlags::OUT)], Duration::from_millis(100));
                waiting.push(socket);
                if made == Ok(0) {
                    return Self { listener, _waiting: waiting };
                }
            }
        }

        pub(in crate::wire) fn address(&self) -> SocketAddr {
            self.listener.local_addr().unwrap().as_socket().unwrap()
        }
    }

    fn on(last: u8) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0))
    }

    fn connect_within(addresses: &[SocketAddr], limit: Duration) -> io::Result<SocketAddr> {
        connect(addresses, Instant::now() + limit).map(|(_, address)| address)
    }

    #[test]
    fn an_address_that_does_not_answer_does_not_keep_from_the_next() {
        let (hole, other) = (BlackHole::at(on(2)), BlackHole::at(on(3)));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let good = listener.local_addr().unwrap();
        assert_eq!(connect_within(&[hole.address(), other.address(), good], LONG).unwrap(), good);
        let error =
            connect_within(&[hole.address(), other.address()], Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn one_that_refuses_is_followed_by_the_next() {
        let refusing = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let good = listener.local_addr().unwrap();
        assert_eq!(connect_within(&[refusing, good], LONG).unwrap(), good);
        assert_eq!(connect_within(&[good, refusing], LONG).unwrap(), good);
        let hole = BlackHole::at(on(4));
        assert_eq!(connect_within(&[hole.address(), refusing, good], LONG).unwrap(), good);
        let error = connect_within(&[refusing, refusing], LONG).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(connect_within(&[], LONG).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}

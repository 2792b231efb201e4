//! One connection to a server: Redis' protocol over TCP, TLS or a Unix socket.
//!
//! The redis crate parses the replies. The socket is ours, because the crate's own
//! connection hides its descriptor (a waiter must sleep in `poll(2)`, so that a signal ends the
//! wait; an idle connection must be looked at without a round trip), and because after a time-out
//! it counts replies to skip, which goes wrong when half a reply has been read. Here any failure
//! makes a connection unusable for good. Commands are packed here, too, into one buffer that is used
//! again: the crate's own builder allocates a dozen times for each.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use redis::{Parser, RedisResult, Value};
use rustix::net::RecvFlags;

use super::fault::Fault;
use super::resp;
use super::socket::Io;
use crate::clock::Instant;
use crate::poll::{self, Readiness};
use crate::text;

/// The longest reply, in bytes: more than all holders and waiters that a report tells of. What a server
/// sends beyond that is a mistake, or an attack on this process's memory.
const MAX_REPLY: u64 = 16 << 20;

/// A connection that has been authenticated.
pub struct Connection {
    io: Io,
    peer: Option<SocketAddr>,
    parser: Parser,
    packed: Vec<u8>,
    timeout: Duration,
    healthy: bool,
    /// See [`Connection::is_deposed`].
    deposed: bool,
    /// See [`Connection::lacked_script`].
    lacks_script: bool,
    idle_since: Instant,
    /// Commands that were posted and not answered yet, and since when one is due.
    owed: usize,
    owed_since: Instant,
    /// Since when it has owed any without a break.
    owing_since: Instant,
    /// Parts of their replies.
    inbox: Vec<u8>,
    /// See [`Connection::has_run`].
    scripts: u32,
}

impl Connection {
    /// Over what has been connected, to `peer` if it is TCP. It is to be greeted.
    pub(super) fn over(io: Io, peer: Option<SocketAddr>, timeout: Duration) -> Self {
        let now = Instant::now();
        Self {
            io,
            peer,
            parser: Parser::new(),
            packed: Vec::new(),
            timeout,
            healthy: true,
            deposed: false,
            lacks_script: false,
            idle_since: now,
            owed: 0,
            owed_since: now,
            owing_since: now,
            inbox: Vec::new(),
            scripts: 0,
        }
    }

    /// The longest wait for the answer to a command from now on.
    pub(super) fn set_timeout(&mut self, timeout: Duration) -> io::Result<()> {
        self.timeout = timeout;
        self.io.socket().raw.set_timeouts(timeout)
    }

    /// Where it leads; `None` for a Unix socket.
    pub(super) fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// Sends commands and reads their replies, until `deadline`; one round trip. What was sent is not kept.
    pub(super) fn converse(
        &mut self,
        commands: &[&[&[u8]]],
        deadline: Instant,
    ) -> Result<Vec<Result<Value, Fault>>, Fault> {
        self.begin();
        for command in commands {
            self.add(command);
        }
        self.io.socket().deadline = deadline;
        let sent = self.write();
        // Its buffer may have held a password.
        self.packed = Vec::new();
        sent?;
        let mut replies = Vec::new();
        for _ in commands {
            match self.read() {
                Err(broken @ Fault::Broken(_)) => {
                    self.healthy = false;
                    return match replies.into_iter().find(Result::is_err) {
                        // Who is refused may be shown the door.
                        Some(Err(refused)) => Err(refused),
                        _ => Err(broken),
                    };
                }
                reply => replies.push(reply),
            }
        }
        Ok(replies)
    }

    /// Sends a command and reads its reply, within the command time-out. One round trip.
    ///
    /// # Errors
    /// What failed, or what the server refused.
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
        if let Some(number) = resp::integer(received) {
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
        resp::pack(&mut self.packed, command);
    }

    /// Sends the batch. Every command's reply must be received before the next batch.
    ///
    /// # Errors
    /// [`Fault::Broken`].
    pub fn send(&mut self) -> Result<(), Fault> {
        let now = Instant::now();
        self.idle_since = now;
        self.io.socket().deadline = now + self.timeout;
        self.write()
    }

    /// Reads the reply to a command that was sent, within the command time-out from now.
    ///
    /// # Errors
    /// What failed, or what the server refused.
    pub fn receive(&mut self) -> Result<Value, Fault> {
        self.io.socket().deadline = Instant::now() + self.timeout;
        self.read()
    }

    /// Sends a command whose reply is [`Connection::gather`]ed, perhaps much later. The server answers
    /// what was posted in this order.
    ///
    /// # Errors
    /// [`Fault::Broken`].
    pub fn post(&mut self, command: &[&[u8]]) -> Result<(), Fault> {
        self.begin();
        self.add(command);
        self.send()?;
        // It is outstanding, but it is known what comes before it.
        self.healthy = true;
        if self.owed == 0 {
            (self.owed_since, self.owing_since) = (self.idle_since, self.idle_since);
        }
        self.owed += 1;
        Ok(())
    }

    /// Replies to what was posted that have arrived by now, without waiting.
    ///
    /// # Errors
    /// [`Fault::Broken`]; what the server refused is among the replies.
    pub fn gather(&mut self) -> Result<Vec<Result<Value, Fault>>, Fault> {
        let mut replies = Vec::new();
        self.take_in(false, &mut replies)?;
        Ok(replies)
    }

    /// Adds to `replies` those to all that was posted; waits for them within the command time-out since the last of it.
    ///
    /// # Errors
    /// As [`Connection::gather`]. Those that have come until then are in `replies`.
    pub fn collect(&mut self, replies: &mut Vec<Result<Value, Fault>>) -> Result<(), Fault> {
        self.io.socket().check = false;
        self.take_in(true, replies)
    }

    fn take_in(&mut self, patient: bool, replies: &mut Vec<Result<Value, Fault>>) -> Result<(), Fault> {
        let mut any = false;
        while self.owed > 0 {
            // Twice as much each time, since a reply that is not there whole is looked at from its start.
            let start = self.inbox.len();
            self.inbox.resize(start + start.max(4096), 0);
            self.io.socket().patient = patient;
            let read = self.io.read(self.inbox.get_mut(start..).unwrap_or_default());
            self.io.socket().patient = true;
            self.inbox.truncate(start + read.as_ref().copied().unwrap_or(0));
            match read {
                Ok(0) if patient || !any => {
                    self.healthy = false;
                    return Err(Fault::Broken("the server closed the connection".into()));
                }
                Ok(0) => break,
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock && !patient => break,
                Err(e) => {
                    self.healthy = false;
                    return Err(self.explain(&e));
                }
            }
            let before = replies.len();
            let split = self.split(replies);
            let came = replies.len() - before;
            if came > self.owed || came == self.owed && !self.inbox.is_empty() {
                // Whose reply is which?
                self.healthy = false;
                replies.truncate(before);
                return Err(Fault::Broken("the reply could not be read".into()));
            }
            if came > 0 {
                any = true;
                self.owed -= came;
                self.owed_since = Instant::now();
            }
            split?;
        }
        Ok(())
    }

    /// Takes whole replies out of the inbox.
    fn split(&mut self, replies: &mut Vec<Result<Value, Fault>>) -> Result<(), Fault> {
        loop {
            let length = match resp::length(&self.inbox, 0) {
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

    /// For how long there has been no moment in which it owed nothing. Where a question was swallowed on its way the answer to
    /// the next one is taken for that to this one, and so on: each comes at once, and none in time.
    pub fn owing_for(&self) -> Duration {
        if self.owed == 0 { Duration::ZERO } else { Instant::now().since(self.owing_since) }
    }

    /// The server has run on it, by their digests, the scripts with these bits.
    pub fn has_run(&self, scripts: u32) -> bool {
        self.scripts & scripts == scripts
    }

    /// See [`Connection::has_run`].
    pub fn ran(&mut self, scripts: u32) {
        self.scripts |= scripts;
    }

    /// Whether the server has said on it that it does not know a digest, since this was asked for the last time: also to a
    /// question of which nobody has read the answer.
    pub fn lacked_script(&mut self) -> bool {
        std::mem::take(&mut self.lacks_script)
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
    ///
    /// # Errors
    /// [`Fault::Broken`].
    pub fn wait_readable(
        &mut self,
        limit: Duration,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Readiness, Fault> {
        poll::until_readable(self.socket(), limit, interrupted).map_err(|e| {
            self.healthy = false;
            Fault::of(&e.into())
        })
    }

    /// Whether it may be used again.
    pub fn is_healthy(&self) -> bool {
        self.healthy && !self.deposed
    }

    /// Whether the server has said on it that it is not the primary: [`Fault::is_of_no_primary`].
    pub fn is_deposed(&self) -> bool {
        self.deposed
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
                let fault = Fault::refused(e.code(), e.details().unwrap_or_default());
                self.deposed |= fault.is_of_no_primary();
                self.lacks_script |= fault.is("NOSCRIPT");
                Err(fault)
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
            _ => Fault::of(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::socket::{Raw, Socket};
    use std::os::unix::net::UnixStream;
    use std::thread;

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
        let socket = Socket { raw, deadline: Instant::now(), check: false, patient: true };
        Connection::over(Io::Plain(socket), None, Duration::from_millis(300))
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
    fn what_says_that_it_is_no_primary_is_not_used_again() {
        let mut c = talk(&[&[b"-READONLY You can't write\r\n"], &[b":1\r\n"]]);
        assert!(ask(&mut c).unwrap_err().is_of_no_primary());
        assert_eq!(ask(&mut c).unwrap(), Value::Int(1));
        assert!(c.is_deposed() && !c.is_healthy());
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
    fn what_was_posted_is_collected_as_far_as_it_comes_and_more_than_that_is_nobodys() {
        let connected = || {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let mut c = talk(&[]);
            let socket =
                Socket { raw: Raw::Unix(ours), deadline: Instant::now(), check: false, patient: true };
            c.io = Io::Plain(socket);
            c.post(&[b"A"]).unwrap();
            c.post(&[b"B"]).unwrap();
            (c, theirs)
        };
        let mut replies = Vec::new();
        let (mut c, mut theirs) = connected();
        let slow = thread::spawn(move || {
            for piece in [&b":1\r\n-ERR n"[..], b"o\r", b"\n"] {
                theirs.write_all(piece).unwrap();
                thread::yield_now();
            }
            theirs
        });
        c.collect(&mut replies).unwrap();
        let mut theirs = slow.join().unwrap();
        assert!(
            matches!(replies.as_slice(), [Ok(Value::Int(1)), Err(fault)] if fault.is("ERR")),
            "{replies:?}"
        );
        assert!(c.owed() == 0 && c.is_healthy());
        replies.clear();
        c.post(&[b"C"]).unwrap();
        theirs.write_all(b":3\r\n:4\r\n").unwrap();
        let more = c.collect(&mut replies);
        assert!(matches!(more, Err(Fault::Broken(_))) && !c.is_healthy(), "{more:?}");
        assert!(replies.is_empty(), "{replies:?}");
        let (mut c, mut theirs) = connected();
        theirs.write_all(b":1\r\n").unwrap();
        drop(theirs);
        let broken = c.collect(&mut replies);
        assert!(matches!(broken, Err(Fault::Broken(_))) && !c.is_healthy(), "{broken:?}");
        assert!(matches!(replies.as_slice(), [Ok(Value::Int(1))]), "{replies:?}");
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

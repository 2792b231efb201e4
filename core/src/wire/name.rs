//! Where a server's name leads, now and the last time.
//!
//! `getaddrinfo(3)` takes as long as it likes, and cannot be ended. So it is asked by a thread, at most one for a name at
//! a time, which is waited for no longer than a connect may take; a thread that is left to itself tells what it has
//! learned to whoever asks next, and ends. It owns what it touches, blocks all signals, and holds no lock while it asks,
//! so it may outlive its engine, and need not be waited for at the end of the process.
//!
//! What the name says now counts. While it says nothing (no answer, an error) the addresses that it had last do, the one
//! first to which the last connection was made: a server does not become unreachable because the name service is. Not so
//! after [`Name::leave`]: then only a question that was put afterwards counts.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::race;
use crate::clock::Instant;
use crate::thread::{self, lock};

/// So many addresses of a name are tried, and so many are remembered as doubtful.
const MOST: usize = 16;

/// Asks for the addresses of a name.
type LookUp = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// A host and a port.
pub(super) enum Name {
    /// An address, which needs no asking.
    Literal(SocketAddr),
    /// A name.
    Host(Arc<Host>),
}

pub(super) struct Host {
    name: String,
    port: u16,
    look_up: Box<LookUp>,
    memory: Mutex<Memory>,
    answered: Condvar,
}

/// Questions are counted. One is under way while fewer have been answered than put.
#[derive(Default)]
struct Memory {
    put: u64,
    answered: u64,
    /// Since when the one is under way.
    since: Option<Instant>,
    /// Why the last one failed, if it did.
    failure: Option<(io::ErrorKind, String)>,
    /// What the last one that did not fail has said.
    known: Vec<SocketAddr>,
    /// Questions up to this one do not count: they were put before the server was left.
    stale: u64,
    /// Where the last connection was made.
    good: Option<SocketAddr>,
    /// Where one was made in vain, the last one last.
    doubtful: Vec<SocketAddr>,
}

impl Name {
    pub(super) fn new(host: &str, port: u16) -> Self {
        match host.parse::<IpAddr>() {
            Ok(address) => Self::Literal((address, port).into()),
            Err(_) => {
                Self::asking(host, port, Box::new(|host, port| Ok((host, port).to_socket_addrs()?.collect())))
            }
        }
    }

    /// A name of which `look_up` tells the addresses.
    pub(super) fn asking(host: &str, port: u16, look_up: Box<LookUp>) -> Self {
        Self::Host(Arc::new(Host {
            name: host.to_owned(),
            port,
            look_up,
            memory: Mutex::default(),
            answered: Condvar::new(),
        }))
    }

    /// Its addresses, the most promising first, families in turn; at most [`MOST`].
    ///
    /// `limit` is the time for all of a connect, which ends at `deadline`.
    ///
    /// # Errors
    /// What the name service says; [`io::ErrorKind::TimedOut`].
    pub(super) fn addresses(&self, deadline: Instant, limit: Duration) -> io::Result<Vec<SocketAddr>> {
        match self {
            Self::Literal(address) => Ok(vec![*address]),
            Self::Host(host) => host.addresses(deadline, limit),
        }
    }

    /// A connection was made there.
    pub(super) fn remember(&self, address: SocketAddr) {
        if let Self::Host(host) = self {
            let mut memory = host.lock();
            memory.good = Some(address);
            memory.doubtful.retain(|other| *other != address);
        }
    }

    /// Whoever is there does not greet: other addresses of the name come first from now on.
    pub(super) fn doubt(&self, address: SocketAddr) {
        if let Self::Host(host) = self {
            host.lock().doubt(address);
        }
    }

    /// Whoever is there is not the server that is looked for. What the name has said until now does not count.
    pub(super) fn leave(&self, address: SocketAddr) {
        if let Self::Host(host) = self {
            let mut memory = host.lock();
            memory.doubt(address);
            memory.known.clear();
            memory.stale = memory.put;
        }
    }
}

impl Host {
    fn lock(&self) -> MutexGuard<'_, Memory> {
        lock(&self.memory)
    }

    fn addresses(self: &Arc<Self>, deadline: Instant, limit: Duration) -> io::Result<Vec<SocketAddr>> {
        let mut memory = self.lock();
        let running = memory.put > memory.answered && memory.put > memory.stale;
        let wanted = if running { memory.put } else { memory.put + 1 };
        while memory.answered < wanted {
            if memory.put == memory.answered {
                memory = self.ask(memory);
                continue;
            }
            let mut alarm = deadline;
            if !memory.known.is_empty() {
                let patience = memory.since.unwrap_or(deadline) + race::share(limit);
                alarm = alarm.min(patience);
            }
            let left = alarm.remaining();
            if left.is_zero() {
                break;
            }
            memory = self.answered.wait_timeout(memory, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        match &memory.failure {
            _ if !memory.known.is_empty() => Ok(memory.ordered()),
            _ if memory.answered < wanted => Err(io::ErrorKind::TimedOut.into()),
            Some((kind, text)) => Err(io::Error::new(*kind, text.clone())),
            None => Err(io::Error::new(io::ErrorKind::NotFound, "the host name has no address")),
        }
    }

    /// Puts the question.
    fn ask<'a>(self: &'a Arc<Self>, mut memory: MutexGuard<'a, Memory>) -> MutexGuard<'a, Memory> {
        memory.put += 1;
        memory.since = Some(Instant::now());
        drop(memory);
        let host = Arc::clone(self);
        if thread::spawn("cluster_lock", move || host.look_up()).is_err() {
            // There can be no thread. Then it takes what it takes.
            self.look_up();
        }
        self.lock()
    }

    fn look_up(&self) {
        let said = catch_unwind(AssertUnwindSafe(|| (self.look_up)(&self.name, self.port)));
        let said = said.unwrap_or_else(|_| Err(io::ErrorKind::Other.into()));
        let mut memory = self.lock();
        memory.answered = memory.put;
        memory.since = None;
        if memory.put > memory.stale {
            match said {
                Ok(addresses) => {
                    memory.known = in_turn(&addresses);
                    memory.failure = None;
                }
                Err(error) => memory.failure = Some((error.kind(), error.to_string())),
            }
        }
        drop(memory);
        self.answered.notify_all();
    }
}

impl Memory {
    fn doubt(&mut self, address: SocketAddr) {
        self.good = self.good.filter(|good| *good != address);
        self.doubtful.retain(|other| *other != address);
        self.doubtful.push(address);
        if self.doubtful.len() > MOST {
            self.doubtful.remove(0);
        }
    }

    fn ordered(&self) -> Vec<SocketAddr> {
        let mut addresses = self.known.clone();
        let doubts = |address: &SocketAddr| self.doubtful.iter().position(|other| other == address);
        addresses.sort_by_key(|address| {
            (doubts(address).map_or(0, |place| place + 1), self.good != Some(*address))
        });
        addresses.truncate(MOST);
        addresses
    }
}

/// Each address once, and the two families in turn, beginning with that of the first: RFC 8305, 4.
fn in_turn(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut once: Vec<SocketAddr> = Vec::new();
    for address in addresses {
        if !once.contains(address) {
            once.push(*address);
        }
    }
    let Some(first) = once.first().map(SocketAddr::is_ipv6) else { return once };
    let (ones, others): (Vec<_>, Vec<_>) = once.into_iter().partition(|address| address.is_ipv6() == first);
    let mut turns = Vec::new();
    let (mut ones, mut others) = (ones.into_iter(), others.into_iter());
    loop {
        let pair = [ones.next(), others.next()];
        if pair == [None, None] {
            return turns;
        }
        turns.extend(pair.into_iter().flatten());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    const LONG: Duration = Duration::from_secs(60);

    type Said = io::Result<Vec<SocketAddr>>;

    fn at(text: &str) -> SocketAddr {
        format!("{text}:1").parse().unwrap()
    }

    /// A name whose questions are told, and answered, by the test.
    fn name() -> (Name, Receiver<()>, Sender<Said>) {
        let ((asked, questions), (answer, answers)) = (channel(), channel::<Said>());
        let answers = Mutex::new(answers);
        let look_up = move |host: &str, port| {
            assert_eq!((host, port), ("a.test", 1));
            asked.send(()).unwrap();
            lock(&answers).recv().unwrap_or_else(|_| Ok(Vec::new()))
        };
        (Name::asking("a.test", 1, Box::new(look_up)), questions, answer)
    }

    fn ask(name: &Name, limit: Duration) -> Said {
        name.addresses(Instant::now() + limit, limit)
    }

    fn outage() -> Said {
        Err(io::Error::other("Temporary failure in name resolution"))
    }

    #[test]
    fn an_address_is_not_asked_for() {
        for text in ["127.0.0.1", "::1"] {
            let name = Name::new(text, 1);
            assert!(matches!(name, Name::Literal(_)));
            assert_eq!(ask(&name, LONG).unwrap(), [SocketAddr::new(text.parse().unwrap(), 1)]);
        }
    }

    #[test]
    fn families_take_turns() {
        let all = ["[::1]", "[::2]", "[::1]", "[::3]", "10.0.0.1", "10.0.0.2"].map(at);
        assert_eq!(in_turn(&all), ["[::1]", "10.0.0.1", "[::2]", "10.0.0.2", "[::3]"].map(at));
        assert_eq!(in_turn(&[]), []);
        assert_eq!(in_turn(&[at("10.0.0.1")]), [at("10.0.0.1")]);
    }

    #[test]
    fn the_last_good_address_comes_first_and_doubtful_ones_last() {
        let (name, _questions, answer) = name();
        let all = ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(at);
        let [one, two, three] = all;
        let ask = || {
            answer.send(Ok(all.to_vec())).unwrap();
            ask(&name, LONG).unwrap()
        };
        assert_eq!(ask(), all);
        name.remember(three);
        assert_eq!(ask(), [three, one, two]);
        name.doubt(three);
        assert_eq!(ask(), [one, two, three]);
        name.doubt(one);
        assert_eq!(ask(), [two, three, one]);
        name.remember(three);
        assert_eq!(ask(), [three, two, one]);
        // Not if the name does not say it any more.
        answer.send(Ok(vec![two])).unwrap();
        assert_eq!(self::ask(&name, LONG).unwrap(), [two]);
    }

    #[test]
    fn what_the_name_said_last_holds_through_an_outage() {
        let (name, questions, answer) = name();
        answer.send(outage()).unwrap();
        let error = ask(&name, LONG).unwrap_err();
        assert!(error.to_string().contains("Temporary failure"), "{error}");
        answer.send(Ok(vec![at("10.0.0.1")])).unwrap();
        assert_eq!(ask(&name, LONG).unwrap(), [at("10.0.0.1")]);
        answer.send(outage()).unwrap();
        assert_eq!(ask(&name, LONG).unwrap(), [at("10.0.0.1")]);
        // A name service that does not answer; whoever comes later does not begin to wait anew, nor ask anew.
        for _ in 0..3 {
            assert_eq!(ask(&name, Duration::from_millis(40)).unwrap(), [at("10.0.0.1")]);
        }
        (0..4).for_each(|_| questions.recv_timeout(LONG).unwrap());
        assert_eq!(questions.try_iter().count(), 0);
        // The answer that comes late is for those who come later.
        answer.send(Ok(vec![at("10.0.0.2")])).unwrap();
        assert_eq!(ask(&name, LONG).unwrap(), [at("10.0.0.2")]);
    }

    #[test]
    fn a_name_service_that_does_not_answer_costs_no_more_than_a_connect() {
        let (name, questions, _answer) = name();
        for _ in 0..3 {
            let error = ask(&name, Duration::from_millis(10)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        }
        questions.recv_timeout(LONG).unwrap();
        assert_eq!(questions.try_iter().count(), 0);
    }

    #[test]
    fn a_server_that_was_left_is_found_again_only_if_the_name_still_says_it() {
        let (name, questions, answer) = name();
        let (old, new) = (at("10.0.0.1"), at("10.0.0.2"));
        answer.send(Ok(vec![old])).unwrap();
        assert_eq!(ask(&name, LONG).unwrap(), [old]);
        name.remember(old);
        // Asked before it was left, answered afterwards: that does not count, and it is asked once more.
        assert_eq!(ask(&name, Duration::from_millis(10)).unwrap(), [old]);
        name.leave(old);
        answer.send(Ok(vec![old])).unwrap();
        answer.send(Ok(vec![new, old])).unwrap();
        assert_eq!(ask(&name, LONG).unwrap(), [new, old]);
        assert_eq!(questions.try_iter().count(), 3);
        name.leave(new);
        answer.send(outage()).unwrap();
        ask(&name, LONG).unwrap_err();
        answer.send(Ok(vec![new])).unwrap();
        assert_eq!(ask(&name, LONG).unwrap(), [new]);
    }

    #[test]
    fn many_ask_at_once_and_the_name_service_is_asked_once() {
        let (name, questions, answer) = name();
        std::thread::scope(|scope| {
            let askers: Vec<_> = (0..20).map(|_| scope.spawn(|| ask(&name, LONG).unwrap())).collect();
            questions.recv_timeout(LONG).unwrap();
            // Those who come after the answer ask anew.
            for _ in 0..20 {
                answer.send(Ok(vec![at("10.0.0.1")])).unwrap();
            }
            for asker in askers {
                assert_eq!(asker.join().unwrap(), [at("10.0.0.1")]);
            }
        });
    }
}

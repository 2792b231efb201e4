//! One question to several servers at once.
//!
//! The question is sent to all of them before any answer is read, so that it costs the time of the
//! slowest that is waited for, and not the sum. Answers that come later than that are read when the
//! connection is used next. A connection that has yet to be made is made by a thread of its own:
//! nobody waits for a server that does not answer while others do. If what it was wanted for was to
//! give a lock back, the thread says that, too.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redis::Value;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd};
use rustix::io::Errno;

use crate::clock::Instant;
use crate::error::{Error, Result};
use crate::poll;
use crate::store::redis::script::Call;
use crate::thread::{self, lock};
use crate::wire::Fault;
use crate::wire::{Loan, Pool, Purpose};

/// How long a connection that is being made is waited for when enough servers have answered: so that a
/// process's first lock is not held by the barest majority.
const TO_JOIN: Duration = Duration::from_millis(20);

/// Whoever has been waited for in vain by a round that had its majority is not waited for again for so long by those of the
/// background: many renewals would wait for it, one after the other.
const IN_VAIN: Duration = Duration::from_secs(1);

/// What nobody waits for is not said to a server that owes so many answers on a connection.
const OWED: usize = 100;

/// So many commands are kept for a connection that is being made. What comes on top is left to the lease.
const LAST_WORDS: usize = 256;

/// How long the others' mail is waited for when there is enough: what all holders release at once
/// arrives almost at once, and a connection that still waits for mail is lost.
const MAIL_TOGETHER: Duration = Duration::from_millis(10);

/// When mail has come, but not from enough servers, how long until there is reason to ask.
const MAIL_APART: Duration = Duration::from_millis(30);

/// One of the servers.
pub(super) struct Node {
    pub(super) pool: Arc<Pool>,
    maker: Arc<Mutex<Maker>>,
    /// The scripts that it was sent in full: nobody may be there any more to send one again when it
    /// says that it does not know the digest.
    told: AtomicU32,
    /// When it was waited for [in vain](IN_VAIN) for the last time, in nanoseconds; 0: never.
    in_vain: AtomicU64,
}

/// The thread that makes a connection, and who waits for it.
#[derive(Default)]
struct Maker {
    /// Since when there is one.
    running: Option<Instant>,
    watchers: Vec<Arc<OwnedFd>>,
    /// Commands to send once there is a connection.
    last_words: Vec<Vec<Vec<u8>>>,
}

impl Maker {
    fn end(&mut self) {
        self.running = None;
        self.last_words.clear();
        for watcher in self.watchers.drain(..) {
            let _ = rustix::io::write(&*watcher, &1u64.to_ne_bytes());
        }
    }
}

/// Ends the making of a connection, also when it panics.
struct Made {
    maker: Arc<Mutex<Maker>>,
    over: bool,
}

impl Made {
    /// There is a connection: says the last words on it, and hands it in at the moment from which no more of them are taken.
    fn say_them_on(&mut self, mut loan: Loan<'_>) {
        loop {
            let mut maker = lock(&self.maker);
            let commands = std::mem::take(&mut maker.last_words);
            if commands.is_empty() {
                drop(loan);
                maker.end();
                self.over = true;
                return;
            }
            drop(maker);
            for command in commands {
                let words: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
                if loan.post(&words).is_err() {
                    return;
                }
            }
        }
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        if !self.over {
            lock(&self.maker).end();
        }
    }
}

impl Node {
    pub(super) fn new(pool: Pool) -> Self {
        Self {
            pool: Arc::new(pool),
            maker: Arc::default(),
            told: AtomicU32::new(0),
            in_vain: AtomicU64::new(0),
        }
    }

    /// Has a connection made, and `watcher` told of the end of that, good or bad.
    fn connect(&self, purpose: Purpose, watcher: &Arc<OwnedFd>) {
        let mut maker = lock(&self.maker);
        maker.watchers.push(Arc::clone(watcher));
        if maker.running.is_some() {
            return;
        }
        maker.running = Some(Instant::now());
        drop(maker);
        let pool = Arc::clone(&self.pool);
        let mut made = Made { maker: Arc::clone(&self.maker), over: false };
        // When there can be no thread, dropping `made` says that it is over.
        let _ = thread::spawn("cluster_lock", move || {
            // What went wrong the pool knows.
            if let Ok(loan) = pool.get(purpose) {
                made.say_them_on(loan);
            }
        });
    }

    /// Sends a command behind what the connection owes.
    pub(super) fn post(&self, loan: &mut Loan<'_>, call: &Call<'_>) -> std::result::Result<(), Fault> {
        if call.bit() == 0 || self.told.fetch_or(call.bit(), Ordering::Relaxed) & call.bit() != 0 {
            return loan.post(call.words());
        }
        let mut call = call.clone();
        call.spell_out();
        loan.post(call.words())
    }

    /// For how long a connection has been being made.
    fn connecting_for(&self) -> Duration {
        lock(&self.maker).running.map_or(Duration::ZERO, |since| Instant::now().since(since))
    }

    /// Has it said as soon as there is a connection. Not if that fails: then the server is down.
    fn say_later(&self, call: &Call<'_>) {
        let mut maker = lock(&self.maker);
        if maker.running.is_some() {
            if maker.last_words.len() < LAST_WORDS {
                maker.last_words.push(call.words().iter().map(|word| word.to_vec()).collect());
            }
            return;
        }
        drop(maker);
        // It has been made in this moment.
        if let Some(mut loan) = self.at_hand(false) {
            let _ = loan.post(call.words());
        }
    }

    /// A connection on which something can be [posted](Node::post) now, behind what it owes: if there is one, and that is not
    /// too much already.
    pub(super) fn line(&self) -> Option<Loan<'_>> {
        self.at_hand(false).filter(|loan| loan.owed() < OWED)
    }

    /// See [`Pool::at_hand`].
    fn at_hand(&self, free: bool) -> Option<Loan<'_>> {
        let mut loan = self.pool.at_hand(free)?;
        if loan.lacked_script() {
            self.told.store(0, Ordering::Relaxed);
        }
        Some(loan)
    }

    /// Whether it is [not waited for](IN_VAIN) at present.
    fn is_slow(&self) -> bool {
        let since = self.in_vain.load(Ordering::Relaxed);
        since != 0 && !(Instant::from_nanos(since) + IN_VAIN).has_passed()
    }

    fn was_waited_for_in_vain(&self) {
        self.in_vain.store(Instant::now().as_nanos(), Ordering::Relaxed);
    }
}

/// What kind of question it is.
#[derive(Clone, Copy)]
pub(super) enum Kind<'a> {
    /// A step on a lock.
    Step,
    /// A step on a lock, where it is good to know what all of them say, for a holder or the background.
    Renewal(Purpose),
    /// The last word on it: it goes to all servers that can be reached, if need be later, and those
    /// that have been silent for long are not waited for.
    Parting(Purpose),
    /// A wait for mail, which ends when this is true: after a signal, or when it is looked at once a second.
    Sleep(&'a dyn Fn() -> bool),
}

impl Kind<'_> {
    /// What a connection that has yet to be made is wanted for.
    fn purpose(self) -> Purpose {
        match self {
            Kind::Step | Kind::Sleep(_) => Purpose::Apart,
            Kind::Renewal(purpose) | Kind::Parting(purpose) => purpose,
        }
    }

    /// When it has its majority, the others are given a [moment](TO_JOIN) to answer, too.
    fn lets_join(self) -> bool {
        matches!(self, Kind::Renewal(_) | Kind::Parting(Purpose::Upkeep))
    }
}

/// What one server said.
pub(super) struct Response {
    pub(super) said: Result<Value>,
    /// It was asked twice, and may have carried it out twice.
    pub(super) again: bool,
}

/// How a round stands.
#[derive(Default)]
pub(super) struct Round {
    /// In the servers' order; `None` while one has not answered.
    pub(super) answers: Vec<Option<Response>>,
    /// The wait was interrupted.
    pub(super) interrupted: bool,
    /// The time ran out before there were enough.
    pub(super) timed_out: bool,
}

impl Round {
    /// What was answered.
    pub(super) fn values(&self) -> impl Iterator<Item = (usize, &Value)> {
        self.answers
            .iter()
            .enumerate()
            .filter_map(|(i, answer)| Some((i, answer.as_ref()?.said.as_ref().ok()?)))
    }

    /// What went wrong.
    pub(super) fn errors(&self) -> impl Iterator<Item = &Error> {
        self.answers.iter().flatten().filter_map(|answer| answer.said.as_ref().err())
    }

    /// How many have not answered yet.
    pub(super) fn pending(&self) -> usize {
        self.answers.iter().filter(|answer| answer.is_none()).count()
    }
}

/// Where one server is in a round.
#[allow(clippy::large_enum_variant)] // there are a handful of them
enum Seat<'a> {
    /// Its connection is being made.
    Connecting,
    /// It was asked; `skip` answers to earlier questions come first.
    Asked { loan: Loan<'a>, skip: usize, silent: bool },
    /// There is an answer, good or bad.
    Done,
}

struct Table<'a> {
    nodes: &'a [&'a Node],
    call: &'a Call<'a>,
    kind: Kind<'a>,
    seats: Vec<Seat<'a>>,
    retried: Vec<bool>,
    /// Who has been sent the script itself, because it did not know the digest.
    spelled_out: Vec<usize>,
    round: Round,
    /// Wakes this round when a connection has been made.
    made: Option<Arc<OwnedFd>>,
}

/// Asks `nodes`, for at most `limit`, until `enough`. Who has not answered by then is `None`.
pub(super) fn ask(
    nodes: &[&Node],
    call: &Call<'_>,
    kind: Kind<'_>,
    limit: Duration,
    enough: impl Fn(&Round) -> bool,
) -> Round {
    let mut table = Table {
        nodes,
        call,
        kind,
        seats: nodes.iter().map(|_| Seat::Done).collect(),
        retried: vec![false; nodes.len()],
        spelled_out: Vec::new(),
        round: Round { answers: nodes.iter().map(|_| None).collect(), ..Round::default() },
        made: None,
    };
    for i in 0..nodes.len() {
        table.begin(i);
    }
    let mut deadline = Instant::now() + limit;
    let (mut sufficed, mut joins, mut mailed) = (false, false, false);
    while !table.all_done() {
        let first = !sufficed && enough(&table.round);
        sufficed |= first;
        let mut alarm = deadline;
        match kind {
            Kind::Step if sufficed => match table.joining() {
                Some(left) => alarm = deadline.min(Instant::now() + left),
                None => break,
            },
            _ if kind.lets_join() && first => {
                joins = table.may_join();
                let left = if joins { TO_JOIN } else { Duration::ZERO };
                deadline = deadline.min(Instant::now() + left);
                alarm = deadline;
            }
            Kind::Renewal(Purpose::Upkeep) | Kind::Parting(Purpose::Upkeep) if !sufficed => {
                if table.is_hopeless() {
                    break;
                }
                if table.has_slow() {
                    alarm = deadline.min(Instant::now() + TO_JOIN);
                }
            }
            Kind::Parting(_) if !kind.lets_join() && table.is_known(sufficed) => break,
            Kind::Step | Kind::Renewal(_) | Kind::Parting(_) => {}
            Kind::Sleep(_) => {
                if first {
                    deadline = deadline.min(Instant::now() + MAIL_TOGETHER);
                } else if !mailed && !sufficed && table.some_mail() {
                    mailed = true;
                    let jitter = Duration::from_nanos(Instant::now().as_nanos() % 20_000_000);
                    deadline = deadline.min(Instant::now() + MAIL_APART + jitter);
                }
                alarm = Instant::now() + poll::until_look(deadline.remaining());
            }
        }
        if deadline.has_passed() {
            table.round.timed_out = !sufficed;
            if joins {
                table.absent().for_each(|(_, node)| node.was_waited_for_in_vain());
            }
            break;
        }
        if !table.step(alarm) {
            break;
        }
    }
    table.end()
}

impl<'a> Table<'a> {
    fn seat(&mut self, i: usize, seat: Seat<'a>) {
        if let Some(place) = self.seats.get_mut(i) {
            *place = seat;
        }
    }

    fn answer(&mut self, i: usize, said: Result<Value>) {
        let again = self.retried.get(i).copied().unwrap_or_default();
        if let Some(place) = self.round.answers.get_mut(i) {
            *place = Some(Response { said, again });
        }
        self.seat(i, Seat::Done);
    }

    /// Asks one server, or has a connection to it made.
    fn begin(&mut self, i: usize) {
        let Some(node) = self.nodes.get(i) else { return };
        let sleep = matches!(self.kind, Kind::Sleep(_));
        if let Some(mut loan) = node.at_hand(sleep) {
            let (skip, late_by) = (loan.owed(), loan.late_by());
            match node.post(&mut loan, self.call) {
                Ok(()) => {
                    let silent = late_by > node.pool.command_timeout() / 2;
                    self.seat(i, Seat::Asked { loan, skip, silent });
                }
                Err(fault) => {
                    drop(loan);
                    self.broken(i, fault);
                }
            }
        } else if let Some(error) = node.pool.shunned(self.kind.purpose()) {
            self.answer(i, Err(error));
        } else {
            match self.bell() {
                Ok(made) => {
                    node.connect(self.kind.purpose(), &made);
                    self.seat(i, Seat::Connecting);
                }
                Err(e) => self.answer(i, Err(node.pool.explain(Fault::Broken(e.to_string())))),
            }
        }
    }

    fn bell(&mut self) -> rustix::io::Result<Arc<OwnedFd>> {
        if let Some(made) = &self.made {
            return Ok(Arc::clone(made));
        }
        let made = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        self.made = Some(Arc::clone(&made));
        Ok(made)
    }

    /// A connection broke: the question is put once more, on a new one.
    fn broken(&mut self, i: usize, fault: Fault) {
        let Some(node) = self.nodes.get(i) else { return };
        node.pool.clear();
        node.told.store(0, Ordering::Relaxed);
        match self.retried.get_mut(i) {
            Some(retried) if !*retried && self.call.is_idempotent() => {
                *retried = true;
                self.begin(i);
            }
            _ => self.answer(i, Err(node.pool.explain(fault))),
        }
    }

    /// Sleeps until something arrives, and reads it. False: the wait was interrupted, or cannot go on.
    fn step(&mut self, deadline: Instant) -> bool {
        let mut places = Vec::with_capacity(self.seats.len() + 1);
        let mut fds = Vec::with_capacity(self.seats.len() + 1);
        let mut connecting = false;
        for (i, seat) in self.seats.iter().enumerate() {
            match seat {
                Seat::Asked { loan, .. } => {
                    places.push(i);
                    fds.push(PollFd::from_borrowed_fd(loan.socket(), PollFlags::IN));
                }
                Seat::Connecting => connecting = true,
                Seat::Done => {}
            }
        }
        if let Some(made) = self.made.as_ref().filter(|_| connecting) {
            fds.push(PollFd::from_borrowed_fd(made.as_fd(), PollFlags::IN));
        }
        match (poll::among(&mut fds, deadline.remaining()), self.kind) {
            (Err(Errno::INTR) | Ok(0), Kind::Sleep(interrupted)) if interrupted() => {
                self.round.interrupted = true;
                return false;
            }
            (Err(Errno::INTR), _) => return true,
            (Err(_), _) => return false,
            (Ok(_), _) => {}
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        for (i, _) in places.iter().zip(&ready).filter(|(_, ready)| **ready) {
            self.read(*i);
        }
        if ready.len() > places.len() && ready.last() == Some(&true) {
            if let Some(made) = &self.made {
                let _ = rustix::io::read(&**made, &mut [0u8; 8]);
            }
            for i in 0..self.seats.len() {
                if matches!(self.seats.get(i), Some(Seat::Connecting)) {
                    self.begin(i);
                }
            }
        }
        true
    }

    fn read(&mut self, i: usize) {
        let (Some(Seat::Asked { loan, skip, .. }), Some(node)) = (self.seats.get_mut(i), self.nodes.get(i))
        else {
            return;
        };
        let replies = match loan.gather() {
            Ok(replies) => replies,
            Err(fault) => {
                self.seat(i, Seat::Done);
                return self.broken(i, fault);
            }
        };
        let mine = replies.len().checked_sub(*skip + 1);
        *skip = skip.saturating_sub(replies.len());
        if mine.is_none() {
            return;
        }
        match replies.into_iter().next_back() {
            Some(Err(fault)) if fault.is("NOSCRIPT") && !self.spelled_out.contains(&i) => {
                self.spelled_out.push(i);
                node.told.store(0, Ordering::Relaxed);
                let mut call = self.call.clone();
                call.spell_out();
                if let Err(fault) = loan.post(call.words()) {
                    self.seat(i, Seat::Done);
                    self.broken(i, fault);
                }
            }
            // Its address may lead to another server by now, as that of one that was replaced; or the password has changed.
            Some(Err(fault)) if node.pool.may_answer_otherwise(&fault) => {
                self.seat(i, Seat::Done);
                self.broken(i, fault);
            }
            Some(reply) => self.answer(i, reply.map_err(|fault| node.pool.explain(fault))),
            None => {}
        }
    }

    fn all_done(&self) -> bool {
        self.seats.iter().all(|seat| matches!(seat, Seat::Done))
    }

    /// Who has not answered yet.
    fn absent(&self) -> impl Iterator<Item = (&Seat<'a>, &'a Node)> {
        let seats = self.seats.iter().zip(self.nodes.iter().copied());
        seats.filter(|(seat, _)| !matches!(seat, Seat::Done))
    }

    /// Who has not answered may do so in a moment.
    fn may_join(&self) -> bool {
        self.absent().any(|(_, node)| !node.is_slow())
    }

    fn has_slow(&self) -> bool {
        self.absent().any(|(_, node)| node.is_slow())
    }

    /// The background has others to tend: it does not wait for an answer that has been due for long, nor for long where those
    /// of others came when they were due.
    fn is_hopeless(&self) -> bool {
        self.absent().all(|(seat, node)| {
            let slow = node.is_slow();
            let limit = node.pool.command_timeout() / if slow { 4 } else { 2 };
            match seat {
                Seat::Connecting => node.connecting_for() > limit,
                Seat::Asked { loan, silent, .. } => *silent || slow && loan.late_by() > limit,
                Seat::Done => true,
            }
        })
    }

    /// How much longer to wait for connections that have just begun to be made.
    fn joining(&self) -> Option<Duration> {
        let seats = self.seats.iter().zip(self.nodes).filter(|(seat, _)| matches!(seat, Seat::Connecting));
        seats
            .map(|(_, node)| TO_JOIN.saturating_sub(node.connecting_for()))
            .max()
            .filter(|left| !left.is_zero())
    }

    /// There are enough answers, or none is left that is worth waiting for.
    fn is_known(&self, enough: bool) -> bool {
        enough
            || self.seats.iter().zip(self.nodes).all(|(seat, node)| match seat {
                Seat::Connecting => node.connecting_for() > node.pool.command_timeout() / 2,
                Seat::Asked { silent, .. } => *silent,
                Seat::Done => true,
            })
    }

    fn some_mail(&self) -> bool {
        self.round.values().any(|(_, value)| *value != Value::Nil)
    }

    /// Who has not answered keeps its connection, unless that sleeps.
    fn end(mut self) -> Round {
        for (seat, node) in self.seats.iter_mut().zip(self.nodes) {
            match (seat, self.kind) {
                (Seat::Asked { loan, .. }, Kind::Sleep(_)) => loan.poison(),
                (Seat::Connecting, Kind::Parting(_)) => {
                    let mut call = self.call.clone();
                    call.spell_out();
                    node.say_later(&call);
                }
                _ => {}
            }
        }
        self.round
    }
}

//! Clients, network and server as a system of small steps. Time is in ticks of one second, the same for all.
//!
//! A client does what `engine/wait.rs` does: it asks, sleeps until there is mail or its slice is over, asks again,
//! gives up at its time-out, confirms and renews its lease, releases; after an unknown outcome it asks
//! again once, and then releases. Time passes only when nobody has anything to do at this moment, so every
//! delay is a fault: a packet that takes a second, a connection that breaks (and whose request may arrive
//! all the same, in a while), mail that is lost, a process that is stopped or dies. Faults are counted.

mod client;
mod server;

use std::time::Duration;

use cluster_lock_core::store::Token;
use cluster_lock_core::store::machine::{Machine, Now, WORK};
use cluster_lock_core::{Identity, LockName, Mode};

use crate::mutant::Mutant;

pub(crate) const TICK_MS: u64 = 1000;
pub(crate) const LEASE: Duration = Duration::from_secs(3);
const LEASE_MS: u64 = 3000;
const MARGIN_MS: u64 = 2;
const CONFIRM_NOW_MS: u64 = 500;
/// How long a lock may be of use to nobody because of one fault, in ticks: a lease and a second.
const LONGEST_STUCK: u8 = 4;
/// In how many ticks a request may still arrive whose connection has broken.
const ORPHAN_LIFE: u8 = 2;
/// A grace period, in ticks: a lease.
const GRACE: u8 = 3;
/// The longest sleep, in ticks; whatever blocks, it blocks for a part of one.
const SLICE: u8 = 1;

/// A lock that is wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Want {
    pub(crate) mode: Mode,
    /// What it is converted to when it is held.
    pub(crate) then: Option<Mode>,
    /// For a run.
    pub(crate) run: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Packets that take long, connections that break, mail that is lost.
    Network,
    /// A client that is stopped, or dies.
    Process,
    /// An administrator breaks the lock; all data is lost.
    Server,
    /// The server's clock is set back. (Leases are counted by another one here.)
    Clock,
}

/// What is checked.
pub(crate) struct System {
    /// What each client asks for, one after the other.
    pub(crate) wants: Vec<Vec<Want>>,
    /// Each client's time-out in ticks.
    pub(crate) timeouts: Vec<Option<u8>>,
    /// The most faults in one history, and which kinds.
    pub(crate) faults: u8,
    pub(crate) kinds: &'static [Fault],
    /// Whether leases are renewed, and for how many ticks a lock is held at most.
    pub(crate) renews: bool,
    pub(crate) longest_hold: u8,
    /// Whether the work of a run may fail.
    pub(crate) fails: bool,
    /// Whether a server that has lost its data lets nobody in for a while.
    pub(crate) grace: bool,
    pub(crate) mutant: Option<Mutant>,
    /// How much a step does at most: of one dead waiter, or one that is let in.
    pub(crate) work: i64,
    pub(crate) tokens: Vec<Token>,
    pub(crate) name: LockName,
    pub(crate) identities: Vec<Box<[u8]>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) now: u8,
    pub(crate) machine: Machine,
    /// Whether the server knows the lock's name.
    known: bool,
    /// When its grace period is over, as far as it has begun; whether what it knows is only what was put back.
    born: Option<u8>,
    unsure: bool,
    mail: Vec<Option<Mail>>,
    pub(crate) clients: Vec<Client>,
    /// Requests of broken connections, and until when they may arrive.
    orphans: Vec<(u8, u8, Request)>,
    pub(crate) faults_left: u8,
    /// Raised when the server loses its data: the clock goes on meanwhile.
    flushes: u8,
    /// How often the server's clock was set back.
    set_back: u8,
    arrivals: u8,
    last_fence: u64,
    /// The runs that count.
    complete: Vec<u64>,
    /// For how many ticks somebody has been waiting while the lock was of use to nobody.
    stuck: u8,
    /// What went wrong.
    pub(crate) flaw: Option<&'static str>,
    work: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Mail {
    token: u8,
    fence: u64,
    /// It says that this holder's run covers the waiter.
    covers: bool,
    /// In the waiter's socket: neither expires nor can be deleted.
    popped: bool,
    until_ms: u64,
    delay: Delay,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Delay {
    None,
    /// May take a tick.
    Slow,
    Over,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Client {
    round: u8,
    converted: bool,
    /// The fencing token of the lock that it has, as it knows.
    fence: u64,
    phase: Phase,
    call: Option<Call>,
    renewal: Option<Call>,
    stopped_until: Option<u8>,
    pub(crate) dead: bool,
    /// No fault has touched it.
    clean: bool,
    /// An administrator or the server's loss took its lock away, and it cannot know yet.
    excused: bool,
    arrived: Option<u8>,
    gave_up: bool,
    granted: Option<(u8, u64)>,
    /// The newest fencing token that had been given out when it was called.
    called: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Idle,
    Asking { sent: u8, place: u64, deadline: Option<u8>, last: bool },
    Queued { sent: u8, place: u64, deadline: Option<u8>, slice_end: u8 },
    Holding { since: u8, end_ms: u64, due: Option<u8> },
    Releasing,
    Finished,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Call {
    request: Request,
    sent: u8,
    tries: u8,
    answer: Option<Answer>,
    delay: Delay,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Request {
    Attempt {
        token: u8,
        mode: Mode,
        place: u64,
        last: bool,
        converts: u64,
    },
    Renew {
        token: u8,
        held: Option<(Mode, u64)>,
    },
    /// With the fencing token of a run that is complete.
    Release {
        token: u8,
        held: Option<(Mode, u64)>,
        run: Option<u64>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Answer {
    Held {
        fence: u64,
    },
    Busy {
        place: u64,
    },
    Covered {
        run: u64,
    },
    /// There is more to be done than one step may do.
    Unfinished {
        place: u64,
    },
    Ours,
    Lost,
}

/// A connection of a client: the one that asks, or the one that renews.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Line {
    Main,
    Renewal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    Start(usize),
    Serve(usize, Line),
    Reply(usize, Line),
    Mail(usize),
    SliceOver(usize),
    Renew(usize),
    Release(usize),
    /// Its work fails.
    Fail(usize),
    Convert(usize),
    Continue(usize),
    Tick,
    /// A request of a broken connection arrives.
    Orphan(usize),
    Slow(usize, Line),
    SlowMail(usize),
    Break(usize, Line),
    LoseMail(usize),
    Stop(usize, u8),
    Die(usize),
    BreakLock,
    Flush,
    SetBack,
}

impl System {
    pub(crate) fn new(wants: &[&[Want]], faults: u8) -> Self {
        let count = wants.iter().map(|w| w.len()).sum();
        let mut tokens: Vec<Token> = (0..count).map(|_| Token::random()).collect();
        // So that every run explores the same states: places that are equal go by token.
        tokens.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
        let identity = |i: usize| Identity { node: i.to_string(), ..Identity::default() }.encode();
        Self {
            wants: wants.iter().map(|w| w.to_vec()).collect(),
            timeouts: vec![None; wants.len()],
            faults,
            kinds: &[Fault::Network, Fault::Process],
            renews: true,
            longest_hold: 2,
            fails: false,
            grace: false,
            mutant: None,
            work: WORK,
            tokens,
            name: LockName::new(b"lock").unwrap(),
            identities: (0..wants.len()).map(identity).collect(),
        }
    }

    pub(crate) fn initial(&self) -> State {
        let client = Client {
            round: 0,
            converted: false,
            fence: 0,
            phase: Phase::Idle,
            call: None,
            renewal: None,
            stopped_until: None,
            dead: false,
            clean: true,
            excused: false,
            arrived: None,
            gave_up: false,
            granted: None,
            called: 0,
        };
        State {
            now: 0,
            machine: Machine::default(),
            known: false,
            // Nobody has ever held anything.
            born: Some(0),
            unsure: false,
            mail: vec![None; self.wants.len()],
            clients: vec![client; self.wants.len()],
            orphans: Vec::new(),
            faults_left: self.faults,
            flushes: 0,
            set_back: 0,
            arrivals: 0,
            last_fence: 0,
            complete: Vec::new(),
            stuck: 0,
            flaw: None,
            work: self.work,
        }
    }

    fn token(&self, client: usize, round: u8) -> u8 {
        let before: usize = self.wants[..client].iter().map(Vec::len).sum();
        u8::try_from(before).unwrap() + round
    }

    fn want(&self, i: usize, client: &Client) -> Want {
        self.wants[i][usize::from(client.round)]
    }

    fn mode(&self, i: usize, client: &Client) -> Mode {
        let want = self.want(i, client);
        want.then.filter(|_| client.converted).unwrap_or(want.mode)
    }

    fn owner(&self, token: u8) -> usize {
        (0..self.wants.len()).rev().find(|&i| self.token(i, 0) <= token).unwrap()
    }

    pub(crate) fn actions(&self, s: &State, out: &mut Vec<Action>) {
        if s.flaw.is_some() {
            return;
        }
        let mut busy = false;
        for (i, c) in s.clients.iter().enumerate() {
            let runs = !c.dead && c.stopped_until.is_none();
            for (line, call) in [(Line::Main, &c.call), (Line::Renewal, &c.renewal)] {
                let Some(call) = call else { continue };
                busy |= call.delay != Delay::Slow && (runs || call.answer.is_none());
                if call.answer.is_none() {
                    out.push(Action::Serve(i, line));
                } else if runs {
                    out.push(Action::Reply(i, line));
                }
            }
            if c.stopped_until.is_some_and(|until| until <= s.now) {
                busy = true;
                out.push(Action::Continue(i));
            }
            if !runs {
                continue;
            }
            match c.phase {
                Phase::Idle => out.push(Action::Start(i)),
                Phase::Queued { slice_end, .. } => {
                    let mail = s.mail[i].as_ref().filter(|m| m.popped);
                    if mail.is_some() {
                        out.push(Action::Mail(i));
                    }
                    // What has arrived is read.
                    if slice_end <= s.now && mail.is_none_or(|m| m.delay != Delay::None) {
                        out.push(Action::SliceOver(i));
                    }
                    busy |= slice_end <= s.now || mail.is_some_and(|m| m.delay != Delay::Slow);
                }
                Phase::Holding { since, due, .. } => {
                    let must_release = since + self.longest_hold <= s.now;
                    out.push(Action::Release(i));
                    if self.want(i, c).run && self.fails {
                        out.push(Action::Fail(i));
                    }
                    if !c.converted && self.want(i, c).then.is_some() {
                        out.push(Action::Convert(i));
                    }
                    let must_renew = c.renewal.is_none() && due.is_some_and(|due| due <= s.now);
                    if must_renew {
                        out.push(Action::Renew(i));
                    }
                    busy |= must_release || must_renew;
                }
                Phase::Asking { .. } | Phase::Releasing | Phase::Finished => {}
            }
            busy |= c.phase == Phase::Idle;
        }
        for k in 0..s.orphans.len() {
            out.push(Action::Orphan(k));
        }
        if !busy && s.clients.iter().any(|c| !c.dead && c.phase != Phase::Finished) {
            out.push(Action::Tick);
        }
        if s.faults_left > 0 {
            self.fault_actions(s, out);
        }
    }

    fn fault_actions(&self, s: &State, out: &mut Vec<Action>) {
        for (i, c) in s.clients.iter().enumerate().filter(|(_, c)| !c.dead && c.stopped_until.is_none()) {
            if self.kinds.contains(&Fault::Network) {
                for (line, call) in [(Line::Main, &c.call), (Line::Renewal, &c.renewal)] {
                    let Some(call) = call else { continue };
                    out.push(Action::Break(i, line));
                    if call.delay == Delay::None {
                        out.push(Action::Slow(i, line));
                    }
                }
                if let Some(mail) = &s.mail[i] {
                    out.push(Action::LoseMail(i));
                    if mail.popped && mail.delay == Delay::None {
                        out.push(Action::SlowMail(i));
                    }
                }
            }
            if self.kinds.contains(&Fault::Process) && !matches!(c.phase, Phase::Idle | Phase::Finished) {
                out.extend([Action::Die(i), Action::Stop(i, 2), Action::Stop(i, 4)]);
            }
        }
        if self.kinds.contains(&Fault::Server) && s.known {
            out.extend([Action::BreakLock, Action::Flush]);
        }
        if self.kinds.contains(&Fault::Clock) && s.known {
            out.push(Action::SetBack);
        }
    }

    pub(crate) fn step(&self, s: &mut State, action: Action) {
        match action {
            Action::Start(i) => {
                // Else it would be told apart for nothing.
                if self.want(i, &s.clients[i]).run {
                    s.clients[i].called = s.last_fence;
                }
                self.ask(s, i, 0, self.timeouts[i].map(|t| s.now + t));
            }
            Action::Serve(i, line) => {
                let request = s.line(i, line).as_ref().unwrap().request;
                if let Request::Attempt { .. } = request {
                    // From here on it knows.
                    s.clients[i].excused = false;
                }
                let answer = self.serve(s, request);
                s.line(i, line).as_mut().unwrap().answer = Some(answer);
            }
            Action::Reply(i, line) => {
                let call = s.line(i, line).take().unwrap();
                self.reply(s, i, &call);
            }
            Action::Mail(i) => self.read_mail(s, i),
            Action::SliceOver(i) => self.ask_again(s, i),
            Action::Renew(i) => self.renew(s, i),
            Action::Release(i) => self.release(s, i, true),
            Action::Fail(i) => self.release(s, i, false),
            Action::Convert(i) => {
                s.clients[i].converted = true;
                s.abandon_renewal(i);
                self.ask(s, i, 0, self.timeouts[i].map(|t| s.now + t));
            }
            Action::Continue(i) => s.clients[i].stopped_until = None,
            Action::Tick => self.tick(s),
            Action::Orphan(k) => {
                let (_, _, request) = s.orphans.remove(k);
                self.serve(s, request);
            }
            fault => {
                s.faults_left -= 1;
                self.fault(s, fault);
            }
        }
    }

    fn fault(&self, s: &mut State, fault: Action) {
        match fault {
            Action::Slow(i, line) => {
                s.clients[i].clean = false;
                s.line(i, line).as_mut().unwrap().delay = Delay::Slow;
            }
            Action::SlowMail(i) => {
                s.clients[i].clean = false;
                s.mail[i].as_mut().unwrap().delay = Delay::Slow;
            }
            Action::LoseMail(i) => {
                s.clients[i].clean = false;
                s.mail[i] = None;
            }
            Action::Break(i, line) => {
                s.clients[i].clean = false;
                let call = s.line(i, line).take().unwrap();
                if call.answer.is_none() {
                    s.orphan(i, call.request, ORPHAN_LIFE);
                }
                self.broken(s, i, line, &call);
            }
            Action::Stop(i, ticks) => {
                s.clients[i].clean = false;
                s.clients[i].stopped_until = Some(s.now + ticks);
            }
            Action::Die(i) => {
                let client = &mut s.clients[i];
                (client.dead, client.clean) = (true, false);
                for call in [client.call.take(), client.renewal.take()].into_iter().flatten() {
                    if call.answer.is_none() {
                        s.orphan(i, call.request, 0);
                    }
                }
            }
            Action::BreakLock => {
                let now = self.look(s);
                self.excuse_holders(s);
                if now.grace_ms > 0 {
                    // Those too of whom nothing is known.
                    s.clients.iter_mut().for_each(|client| client.excused |= client.granted.is_some());
                }
                (s.known, s.unsure) = (true, false);
                let (_, effects) = s.machine.break_lock(now, None);
                let grants = self.post(s, now, effects);
                self.granted(s, grants);
            }
            Action::Flush => {
                if !self.grace {
                    self.excuse_holders(s);
                }
                for client in &mut s.clients {
                    client.excused |= client.granted.is_some() && !self.grace;
                    client.clean = false;
                }
                s.machine = Machine::default();
                (s.known, s.born, s.unsure) = (false, None, false);
                s.flushes += 1;
                s.mail.iter_mut().for_each(|mail| *mail = mail.take().filter(|m| m.popped));
            }
            Action::SetBack => s.set_back += 1,
            other => unreachable!("{other:?} is no fault"),
        }
    }

    /// The server's time, with what is left of its grace period where that matters.
    fn look(&self, s: &mut State) -> Now {
        let now = s.server_time();
        if !self.grace || s.known && !s.unsure {
            return now;
        }
        let over = *s.born.get_or_insert(s.now + GRACE);
        let over = if self.mutant == Some(Mutant::NoGrace) { 0 } else { over };
        Now { grace_ms: u64::from(over.saturating_sub(s.now)) * TICK_MS, ..now }
    }

    /// The lock's record was written, if anything is known of it.
    fn saved(&self, s: &mut State, now: Now) {
        let held = s.machine.report(now, &self.name, 1).is_some();
        if now.grace_ms == 0 || held || s.machine.fence() > 0 {
            (s.known, s.unsure) = (true, now.grace_ms > 0);
            if self.mutant == Some(Mutant::LeftIsFree) && !held {
                s.unsure = false;
            }
        }
    }

    fn excuse_holders(&self, s: &mut State) {
        let Some(report) = s.machine.report(s.server_time(), &self.name, usize::MAX) else { return };
        for holder in report.holders {
            s.clients[holder.identity.node.parse::<usize>().unwrap()].excused = true;
        }
    }

    /// No two that, by their own clocks, have the lock, except readers.
    pub(crate) fn excludes(&self, s: &State) -> bool {
        let holders = s.clients.iter().enumerate().filter(|(_, c)| !c.dead && !c.excused && s.believes(c));
        let modes: Vec<Mode> = holders.map(|(i, c)| self.mode(i, c)).collect();
        modes.len() < 2 || modes.iter().all(|mode| *mode == Mode::Shared)
    }

    fn tick(&self, s: &mut State) {
        let report = s.machine.report(s.server_time(), &self.name, usize::MAX);
        let holds = |i: usize| {
            let mut holders = report.iter().flat_map(|r| &r.holders);
            holders.any(|h| h.identity.node == i.to_string())
        };
        let waits = |c: &Client| matches!(c.phase, Phase::Queued { .. } | Phase::Asking { .. });
        for (i, c) in s.clients.iter().enumerate() {
            if c.clean && matches!(c.phase, Phase::Queued { .. }) && (report.is_none() || holds(i)) {
                s.flaw = Some("a waiter whose turn it is sleeps on");
            }
        }
        let waiting = s.clients.iter().any(|c| !c.dead && c.stopped_until.is_none() && waits(c));
        let of_use =
            s.clients.iter().any(|c| !c.dead && matches!(c.phase, Phase::Holding { .. }) && s.believes(c));
        s.stuck = if waiting && !of_use { s.stuck + 1 } else { 0 };
        if s.stuck > LONGEST_STUCK * (self.faults - s.faults_left) {
            s.flaw = Some("the lock is of use to nobody for too long");
        }
        s.now += 1;
        let (now, now_ms) = (s.now, s.now_ms());
        s.orphans.retain(|(_, until, _)| *until >= now);
        for mail in &mut s.mail {
            *mail = mail.take().filter(|m| m.popped || now_ms <= m.until_ms);
            if let Some(mail) = mail.as_mut().filter(|m| m.delay == Delay::Slow) {
                mail.delay = Delay::Over;
            }
        }
        for client in &mut s.clients {
            for call in [&mut client.call, &mut client.renewal].into_iter().flatten() {
                if call.delay == Delay::Slow {
                    call.delay = Delay::Over;
                }
            }
        }
    }
}

impl State {
    fn server_time(&self) -> Now {
        Now {
            lease_ms: self.now_ms(),
            unix_us: 1000 + u64::from(self.now) * 100 + u64::from(self.flushes) * 50
                - u64::from(self.set_back) * 250,
            work: self.work,
            grace_ms: 0,
        }
    }

    fn call(&mut self, i: usize, line: Line, request: Request) {
        let sent = self.now;
        *self.line(i, line) = Some(Call { request, sent, tries: 1, answer: None, delay: Delay::None });
    }

    /// A renewal under way may still arrive.
    fn abandon_renewal(&mut self, i: usize) {
        if let Some(call) = self.clients[i].renewal.take()
            && call.answer.is_none()
        {
            self.orphan(i, call.request, 0);
        }
    }

    fn now_ms(&self) -> u64 {
        u64::from(self.now) * TICK_MS
    }

    fn line(&mut self, i: usize, line: Line) -> &mut Option<Call> {
        let client = &mut self.clients[i];
        match line {
            Line::Main => &mut client.call,
            Line::Renewal => &mut client.renewal,
        }
    }

    fn orphan(&mut self, i: usize, request: Request, life: u8) {
        self.orphans.push((u8::try_from(i).unwrap(), self.now + life, request));
        self.orphans.sort_by_key(|orphan| format!("{orphan:?}"));
    }

    /// Whether a client, by its own clock, has the lock.
    pub(crate) fn believes(&self, client: &Client) -> bool {
        matches!(client.phase, Phase::Holding { end_ms, .. } if self.now_ms() < end_ms)
    }

    pub(crate) fn all_finished(&self) -> bool {
        self.clients.iter().all(|c| c.dead || c.phase == Phase::Finished)
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.machine.is_idle() && self.mail.iter().all(Option::is_none)
    }
}

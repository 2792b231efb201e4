//! Claims on a quorum: each asks three servers at once, and counts. What a claim does is what `store/quorum` does; a server
//! is the state machine of the product.
//!
//! So that there is an end to it, time stands still: no lease runs out, nobody dies, and whoever has got the lock keeps it.
//! What a claim asks of the first two servers arrives at one after the other, before it asks again; what it asks of the
//! third one, which is far, whenever it likes. There a question of the second claim may be late: it leaves the order in
//! which they were asked when a connection breaks, itself or a copy of it, if it was put again.

use cluster_lock_core::store::machine::{Machine, Now, SLACK, WORK};
use cluster_lock_core::store::{Attempt, Claim, IfBusy, Token};
use cluster_lock_core::{Identity, LockName, Mode, Standing};
use stateright::{Model, Property};

use crate::mutant::Mutant;
use crate::system::LEASE;
use crate::{END, EXCLUSION};

const SERVERS: usize = 3;
const MAJORITY: usize = 2;
const FAR: usize = 2;
const CLAIMS: usize = 3;
const LATE: usize = 1;
/// What the servers' clocks say. They differ: where they agree, whoever comes later gets the greater rank of all servers,
/// because ranks are greater than the fencing tokens before them, and no question that is late does harm.
const CLOCKS: [u64; SERVERS] = [100, 50, 150];

/// What is checked.
pub(crate) struct Quorum {
    /// How often each claim asks at most.
    attempts: [u8; CLAIMS],
    /// How many questions are late in one history at most.
    late: u8,
    /// Whether the first claim holds the lock, and the second one waits for it, when the third one comes. Else there is no
    /// first one.
    held: bool,
    mutant: Option<Mutant>,
    tokens: Vec<Token>,
    name: LockName,
    identity: Box<[u8]>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    servers: Vec<Server>,
    claims: Vec<Own>,
    /// What the far server may get from the second claim yet.
    late: Vec<Question>,
    late_left: u8,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Server {
    machine: Machine,
    /// Whether there is mail, by claim.
    mail: [bool; CLAIMS],
    /// What is on its way here, by claim.
    lines: [Vec<Question>; CLAIMS],
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Own {
    phase: Phase,
    /// How many questions there have been, and how many of them were attempts.
    asked: u8,
    attempt: u8,
    place: u64,
    /// What the servers have said to the newest question.
    answers: [Option<Said>; SERVERS],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Idle,
    Asking { first: bool },
    Waiting,
    Confirming,
    Holding,
    Finished,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Question {
    number: u8,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum What {
    Attempt { attempt: u8, place: u64, yields: bool },
    Confirm { attempt: u8 },
    Release,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Said {
    Yes,
    No { place: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    Start(usize),
    /// A server gets to the next question of a claim.
    Serve(usize, usize),
    ServeLate(usize),
    /// A claim has heard of a majority.
    Count(usize),
    Mail(usize, usize),
    Confirm(usize),
    AskAgain(usize),
    /// The first claim's.
    Release,
    /// A question is late: alone, or a copy of it.
    Late,
    LateCopy,
}

impl Quorum {
    pub(crate) fn new(attempts: [u8; CLAIMS], late: u8, held: bool, mutant: Option<Mutant>) -> Self {
        let mut tokens: Vec<Token> = (0..CLAIMS).map(|_| Token::random()).collect();
        // Places that are equal go by token.
        tokens.sort_by(|a, b| b.as_bytes().cmp(a.as_bytes()));
        let (name, identity) = (LockName::new(b"lock").unwrap(), Identity::default().encode());
        Self { attempts, late, held, mutant, tokens, name, identity }
    }

    fn ask(s: &mut State, i: usize, what: What) {
        let claim = &mut s.claims[i];
        claim.asked += 1;
        claim.answers = [None; SERVERS];
        let question = Question { number: claim.asked, what };
        s.servers.iter_mut().for_each(|server| server.lines[i].push(question));
    }

    fn attempt(s: &mut State, i: usize, yields: bool) {
        let claim = &mut s.claims[i];
        claim.attempt += 1;
        claim.phase = Phase::Asking { first: !yields };
        let what = What::Attempt { attempt: claim.attempt, place: claim.place, yields };
        Self::ask(s, i, what);
    }

    fn serve_all(&self, s: &mut State, i: usize) {
        (0..SERVERS).for_each(|at| self.serve_next(s, i, at));
        Self::count(s, i);
    }

    fn serve_next(&self, s: &mut State, i: usize, at: usize) {
        let question = s.servers[at].lines[i].remove(0);
        self.serve(s, i, at, question);
    }

    fn serve(&self, s: &mut State, i: usize, at: usize, question: Question) {
        let now = Now { lease_ms: 1, unix_us: CLOCKS[at], work: WORK, grace_ms: 0 };
        let server = &mut s.servers[at];
        let unnumbered = self.mutant == Some(Mutant::LateQuestions);
        let (said, effects) = match question.what {
            What::Attempt { attempt, place, yields } => {
                let claim = Claim {
                    name: &self.name,
                    token: &self.tokens[i],
                    mode: Mode::Exclusive,
                    ttl: LEASE,
                    identity: &self.identity,
                    place,
                    converts: 0,
                    slack: SLACK,
                    run: false,
                    attempt: if unnumbered { 0 } else { attempt.into() },
                };
                // Mail of before is lost: the attempt itself says what has been granted.
                server.mail[i] = false;
                let if_busy = if yields { IfBusy::Yield } else { IfBusy::Queue };
                match server.machine.attempt(now, &claim, if_busy) {
                    (Attempt::Held(_), effects) => (Said::Yes, effects),
                    (Attempt::Busy { place, .. } | Attempt::Unfinished { place }, effects) => {
                        (Said::No { place }, effects)
                    }
                    (Attempt::Covered { .. }, _) => unreachable!("nobody wants it for a run"),
                }
            }
            What::Confirm { attempt } => {
                let none = unnumbered || self.mutant == Some(Mutant::ConfirmsNoAttempt);
                let attempt = if none { 0 } else { attempt.into() };
                let token = self.tokens[i].as_bytes();
                let (standing, effects) = server.machine.renew(now, token, LEASE, attempt, None, true);
                (if standing == Standing::Ours { Said::Yes } else { Said::No { place: 0 } }, effects)
            }
            What::Release => {
                let (_, effects) = server.machine.release(now, self.tokens[i].as_bytes(), None, None, true);
                (Said::Yes, effects)
            }
        };
        for (token, _) in effects.mail {
            let whose = self.tokens.iter().position(|t| t.as_bytes() == token.as_bytes()).unwrap();
            server.mail[whose] = true;
        }
        let claim = &mut s.claims[i];
        if claim.asked == question.number {
            claim.answers[at] = Some(said);
        }
    }

    fn count(s: &mut State, i: usize) {
        let claim = &mut s.claims[i];
        match claim.phase {
            _ if claim.said_yes() >= MAJORITY => claim.phase = Phase::Holding,
            Phase::Asking { first: true } => {
                claim.place = claim.answers.iter().flatten().filter_map(Said::place).max().unwrap();
                Self::attempt(s, i, true);
            }
            Phase::Asking { .. } => claim.phase = Phase::Waiting,
            _ => Self::attempt(s, i, true),
        }
    }
}

impl Said {
    fn place(&self) -> Option<u64> {
        if let Self::No { place } = self { Some(*place) } else { None }
    }
}

impl Own {
    fn said_yes(&self) -> usize {
        self.answers.iter().flatten().filter(|said| **said == Said::Yes).count()
    }
}

impl Model for Quorum {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let claim = Own { phase: Phase::Idle, asked: 0, attempt: 0, place: 0, answers: [None; SERVERS] };
        let (servers, claims) = (vec![Server::default(); SERVERS], vec![claim; CLAIMS]);
        let mut s = State { servers, claims, late: Vec::new(), late_left: self.late };
        if self.held {
            Self::attempt(&mut s, 0, false);
            self.serve_all(&mut s, 0);
            Self::attempt(&mut s, 1, false);
            self.serve_all(&mut s, 1);
            self.serve_all(&mut s, 1);
        } else {
            s.claims[0].phase = Phase::Finished;
        }
        vec![s]
    }

    fn actions(&self, s: &State, out: &mut Vec<Action>) {
        for (i, claim) in s.claims.iter().enumerate() {
            let answered = claim.answers.iter().take(FAR).flatten().count();
            let asks_again = claim.attempt < self.attempts[i];
            match claim.phase {
                Phase::Idle => out.push(Action::Start(i)),
                Phase::Asking { .. } | Phase::Confirming if answered == FAR => {
                    let further = matches!(claim.phase, Phase::Asking { first: false }) || asks_again;
                    if claim.said_yes() >= MAJORITY || further {
                        out.push(Action::Count(i));
                    }
                }
                Phase::Waiting => {
                    let mail = (0..SERVERS).filter(|&at| s.servers[at].mail[i]);
                    out.extend(mail.map(|at| Action::Mail(i, at)));
                    if claim.said_yes() >= MAJORITY {
                        out.push(Action::Confirm(i));
                    } else if asks_again {
                        out.push(Action::AskAgain(i));
                    }
                }
                Phase::Holding if i == 0 => out.push(Action::Release),
                Phase::Asking { .. } | Phase::Confirming | Phase::Holding | Phase::Finished => {}
            }
            for (at, server) in s.servers.iter().enumerate() {
                if !server.lines[i].is_empty() && (at != 1 || s.servers[0].lines[i].is_empty()) {
                    out.push(Action::Serve(i, at));
                }
            }
        }
        let next = s.servers[FAR].lines[LATE].first();
        if s.late_left > 0 && next.is_some_and(|next| matches!(next.what, What::Attempt { .. })) {
            out.extend([Action::Late, Action::LateCopy]);
        }
        out.extend((0..s.late.len()).map(Action::ServeLate));
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        let s = &mut next;
        match action {
            Action::Start(i) => Self::attempt(s, i, false),
            Action::Serve(i, at) => self.serve_next(s, i, at),
            Action::ServeLate(k) => {
                let question = s.late.remove(k);
                self.serve(s, LATE, FAR, question);
            }
            Action::Count(i) => Self::count(s, i),
            Action::Mail(i, at) => {
                s.servers[at].mail[i] = false;
                s.claims[i].answers[at] = Some(Said::Yes);
            }
            Action::Confirm(i) => {
                s.claims[i].phase = Phase::Confirming;
                let attempt = s.claims[i].attempt;
                Self::ask(s, i, What::Confirm { attempt });
            }
            Action::AskAgain(i) => Self::attempt(s, i, true),
            Action::Release => {
                s.claims[0].phase = Phase::Finished;
                Self::ask(s, 0, What::Release);
            }
            Action::Late | Action::LateCopy => {
                let line = &mut s.servers[FAR].lines[LATE];
                s.late.push(if action == Action::Late { line.remove(0) } else { line[0] });
                s.late_left -= 1;
            }
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(EXCLUSION, |_: &Self, s: &State| {
                s.claims.iter().filter(|claim| claim.phase == Phase::Holding).count() < 2
            }),
            Property::sometimes(END, |_: &Self, s: &State| {
                s.claims[0].phase == Phase::Finished && s.claims[LATE].phase == Phase::Holding
            }),
        ]
    }
}

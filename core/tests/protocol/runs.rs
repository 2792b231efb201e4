//! Runs on a quorum: each claim asks three servers at once, and counts. What a claim does is what `store/quorum` does, with
//! mail; a server is the state machine of the product. Claims die, answers get lost, the lock is broken, and the servers'
//! clocks differ.
//!
//! So that there is an end to it, time stands still: nobody's lease runs out but that of who has died, and each claim asks a
//! few times. Each has another majority near, and gets to these two servers one after the other; to the third one, which is
//! far, whenever it likes. A server that has lost its data, and what a renewal tells those that have missed a lock, are not
//! in here.

use cluster_lock_core::clock::Instant;
use cluster_lock_core::store::machine::{Effects, Machine, Now, SLACK, WORK};
use cluster_lock_core::store::{Attempt, Claim, IfBusy, Reclaim, Token};
use cluster_lock_core::{Identity, LockName, Mode, Standing};
use stateright::{Model, Property};

use crate::mutant::Mutant;
use crate::system::LEASE;
use crate::{END, EXCLUSION, RULES};

const SERVERS: usize = 3;
const MAJORITY: usize = 2;

/// What is checked.
pub(crate) struct Runs {
    /// How often each claim asks at most.
    pub(crate) attempts: Vec<u8>,
    /// What the servers' clocks say.
    pub(crate) clocks: [u64; SERVERS],
    /// For how many of the claims the third server is far: the others' questions come to all three at the same time.
    pub(crate) far: usize,
    /// Whether another claim's question may come between the two servers that are near.
    pub(crate) apart: bool,
    /// Whether the first claim's run is under way when the others come.
    pub(crate) held: bool,
    /// Whether the work of a run may fail.
    pub(crate) fails: bool,
    /// How many claims die, answers get lost, and administrators break the lock, at most.
    pub(crate) deaths: u8,
    pub(crate) failures: u8,
    pub(crate) breaks: u8,
    /// What has happened already.
    pub(crate) before: &'static [Action],
    pub(crate) mutant: Option<Mutant>,
    pub(crate) tokens: Vec<Token>,
    pub(crate) name: LockName,
    pub(crate) identity: Box<[u8]>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    servers: Vec<Server>,
    claims: Vec<Own>,
    /// The runs' fencing tokens, in the order in which they began.
    begun: Vec<u64>,
    deaths_left: u8,
    failures_left: u8,
    breaks_left: u8,
    /// What went wrong.
    pub(crate) flaw: Option<&'static str>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Server {
    machine: Machine,
    /// By claim.
    mail: Vec<Option<Said>>,
    /// What is on its way here, by claim.
    lines: Vec<Vec<Question>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Own {
    phase: Phase,
    /// How many questions there have been, and how many of them were attempts.
    asked: u8,
    attempt: u8,
    place: u64,
    /// What the servers have said to the newest question, and in mail since.
    answers: [Option<Said>; SERVERS],
    /// Who said to the attempt before that a run covers it.
    covered_before: [Option<u64>; SERVERS],
    /// How many runs had begun when it was called.
    called: usize,
    fence: u64,
    /// An administrator has broken its lock.
    broken: bool,
    /// Somebody else was let in before it said that its run was complete.
    overtaken: bool,
    was_covered: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Idle,
    Asking {
        first: bool,
    },
    Waiting,
    /// By mail: when that comes to nothing it asks again.
    Confirming {
        by_mail: bool,
    },
    Running,
    Completing,
    Finished,
    Dead,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Question {
    number: u8,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum What {
    Attempt { attempt: u8, place: u64, yields: bool },
    Confirm { attempt: u8, fence: u64 },
    Complete { fence: u64 },
    Release,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Said {
    Granted {
        fence: u64,
    },
    Busy {
        place: u64,
    },
    Covered {
        run: u64,
    },
    Ours,
    /// Of a run: a later one counts.
    Later,
    Lost,
    /// The connection broke.
    Error,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    Start(usize),
    /// A server gets to the next question of a claim.
    Serve(usize, usize),
    /// The same, and its answer gets lost, or so does the question.
    Lose(usize, usize, bool),
    Mail(usize, usize),
    AskAgain(usize),
    /// Its run is complete, or has failed.
    Complete(usize),
    Fail(usize),
    Die(usize),
    /// A server finds it dead.
    Forget(usize, usize),
    Break,
}

impl Runs {
    pub(crate) fn new(attempts: &[u8], clocks: [u64; SERVERS]) -> Self {
        let mut tokens: Vec<Token> = attempts.iter().map(|_| Token::random()).collect();
        tokens.sort_by(|a, b| b.as_bytes().cmp(a.as_bytes()));
        let (name, identity) = (LockName::new(b"lock").unwrap(), Identity::default().encode());
        let (far, apart, held, fails, mutant) = (attempts.len(), false, true, false, None);
        let attempts = attempts.to_vec();
        Self {
            attempts,
            clocks,
            far,
            apart,
            held,
            fails,
            deaths: 0,
            failures: 0,
            breaks: 0,
            before: &[],
            mutant,
            tokens,
            name,
            identity,
        }
    }

    fn now(&self, at: usize) -> Now {
        Now { lease_ms: 1, unix_us: self.clocks[at], work: WORK, grace_ms: 0 }
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

    fn part(s: &mut State, i: usize) {
        s.claims[i].phase = Phase::Finished;
        Self::ask(s, i, What::Release);
    }

    /// A server gets to a claim's next question. When that is lost, or its answer, the claim knows that the connection broke.
    fn serve_next(&self, s: &mut State, i: usize, at: usize, arrives: bool, is_answered: bool) {
        let question = s.servers[at].lines[i].remove(0);
        let said = if arrives { self.serve(s, i, at, question.what) } else { Said::Error };
        let claim = &mut s.claims[i];
        if claim.asked == question.number && claim.phase != Phase::Dead {
            claim.answers[at] = Some(if is_answered { said } else { Said::Error });
            // Whether it counts now or later is no difference: nobody knows of that before it asks again.
            if claim.is_decided() {
                self.count(s, i);
            }
        }
    }

    fn serve(&self, s: &mut State, i: usize, at: usize, what: What) -> Said {
        let (now, token) = (self.now(at), self.tokens[i].as_bytes());
        let server = &mut s.servers[at];
        let (said, effects) = match what {
            What::Attempt { attempt, place, yields } => {
                let place = self
                    .mutant
                    .map_or(place, |mutant| mutant.place(&server.machine, now, Mode::Exclusive, place));
                let claim = Claim {
                    name: &self.name,
                    token: &self.tokens[i],
                    mode: Mode::Exclusive,
                    ttl: LEASE,
                    identity: &self.identity,
                    place,
                    converts: 0,
                    slack: SLACK,
                    run: true,
                    attempt: attempt.into(),
                };
                let hidden = self.mutant.map_or(0, |mutant| mutant.hides_run(&mut server.machine));
                server.mail[i] = None;
                let if_busy = if yields { IfBusy::Yield } else { IfBusy::Queue };
                let (answer, effects) = server.machine.attempt(now, &claim, if_busy);
                Mutant::shows_run(&mut server.machine, hidden);
                let said = match answer {
                    Attempt::Held(grant) => Said::Granted { fence: grant.fence },
                    Attempt::Covered { fence } => Said::Covered { run: fence },
                    Attempt::Busy { place, .. } | Attempt::Unfinished { place } => Said::Busy { place },
                };
                if matches!(said, Said::Busy { place } if place < server.machine.run()) {
                    s.flaw = Some("nobody tells a waiter that a run covers it");
                }
                (said, effects)
            }
            What::Confirm { attempt, fence } => {
                let until = Instant::from_nanos(u64::MAX);
                let known = Reclaim { mode: Mode::Exclusive, fence, identity: &self.identity, until };
                let (standing, effects) =
                    server.machine.renew(now, token, LEASE, attempt.into(), Some(&known), true);
                let given = fence_of(&server.machine);
                let said = match standing {
                    Standing::Ours if given > fence && self.mutant != Some(Mutant::ConfirmsLess) => {
                        Said::Granted { fence: given }
                    }
                    Standing::Ours => Said::Ours,
                    Standing::Lost(_) => Said::Lost,
                };
                (said, effects)
            }
            What::Complete { fence } => {
                if let Some(mutant) = self.mutant {
                    mutant.complete(&mut server.machine, Some(fence));
                }
                let (standing, effects) = server.machine.release(now, token, Some(fence), None, true);
                let said = match standing {
                    Standing::Ours if server.machine.run() == fence => Said::Ours,
                    Standing::Ours => Said::Later,
                    Standing::Lost(_) => Said::Lost,
                };
                (said, effects)
            }
            What::Release => {
                let (standing, effects) = server.machine.release(now, token, None, None, true);
                (if standing == Standing::Ours { Said::Ours } else { Said::Lost }, effects)
            }
        };
        self.post(server, effects);
        said
    }

    fn post(&self, server: &mut Server, effects: Effects) {
        let granted =
            effects.mail.into_iter().map(|(token, grant)| (token, Said::Granted { fence: grant.fence }));
        let covered = effects.covered.into_iter().map(|(token, run)| (token, Said::Covered { run }));
        for (token, letter) in granted.chain(covered) {
            let whose = self.tokens.iter().position(|t| t.as_bytes() == token.as_bytes()).unwrap();
            server.mail[whose] = Some(letter);
        }
    }

    fn begin(s: &mut State, i: usize) {
        for claim in s.claims.iter_mut().filter(|claim| claim.phase == Phase::Running) {
            claim.overtaken = true;
        }
        s.claims[i].phase = Phase::Running;
        let fence = s.claims[i].fence;
        if s.begun.last().is_some_and(|last| *last >= fence) {
            s.flaw = Some("a fencing token that is not greater than all before");
        }
        s.begun.push(fence);
    }

    fn covered(s: &mut State, i: usize, run: u64) {
        let began = s.begun.iter().position(|fence| *fence == run);
        if began.is_none_or(|began| began < s.claims[i].called) {
            s.flaw = Some("covered by a run that began before the call");
        }
        let runner = s.claims.iter().find(|claim| claim.fence == run);
        if runner.is_some_and(|runner| runner.overtaken || runner.phase == Phase::Running) {
            s.flaw = Some("covered by a run that does not count");
        }
        s.claims[i].was_covered = true;
        if s.claims[i].covered().contains(&None) {
            Self::part(s, i);
        } else {
            s.claims[i].phase = Phase::Finished;
        }
    }

    /// What an attempt has come to.
    fn attempted(&self, s: &mut State, i: usize, first: bool) {
        let claim = &mut s.claims[i];
        if let Some(run) = same(&claim.covered()) {
            return Self::covered(s, i, run);
        }
        let (granted, covered) = (claim.granted(), claim.covered());
        let votes = granted.iter().flatten().count();
        let places = claim.answers.iter().flatten().filter_map(|said| match said {
            Said::Busy { place } => Some(*place),
            _ => None,
        });
        let ranked = votes + places.clone().filter(|place| *place > 0).count();
        if votes + places.clone().count() + covered.iter().flatten().count() < MAJORITY {
            return Self::part(s, i);
        }
        if votes >= MAJORITY {
            return Self::hold(s, i, false);
        }
        if first && ranked >= MAJORITY {
            let known = granted.iter().chain(&covered).flatten().copied();
            let known = known.filter(|_| self.mutant != Some(Mutant::RankOfTheBusy));
            claim.place = places.chain(known).max().unwrap();
            return Self::attempt(s, i, true);
        }
        // Others may be about to say so, too; if not, it must wait for a later one.
        if covered.iter().any(Option::is_some) && claim.covered_before == covered {
            claim.place = claim.place.max(covered.iter().flatten().max().copied().unwrap());
        }
        claim.covered_before = covered;
        claim.phase = Phase::Waiting;
    }

    /// A majority has let it in.
    fn hold(s: &mut State, i: usize, by_mail: bool) {
        let claim = &mut s.claims[i];
        let granted = claim.granted();
        claim.fence = granted.iter().flatten().max().copied().unwrap();
        if !by_mail && same(&granted) == Some(claim.fence) {
            return Self::begin(s, i);
        }
        claim.phase = Phase::Confirming { by_mail };
        let what = What::Confirm { attempt: claim.attempt, fence: claim.fence };
        Self::ask(s, i, what);
    }

    fn count(&self, s: &mut State, i: usize) {
        let claim = &mut s.claims[i];
        let said = |what: Said| claim.answers.iter().flatten().filter(|said| **said == what).count();
        match claim.phase {
            Phase::Asking { first } => self.attempted(s, i, first),
            Phase::Confirming { .. } if said(Said::Ours) >= MAJORITY => Self::begin(s, i),
            Phase::Confirming { .. }
                if said(Said::Ours) + claim.granted().iter().flatten().count() >= MAJORITY =>
            {
                // A server has given it more than that.
                claim.fence = claim.granted().iter().flatten().max().copied().unwrap();
                let what = What::Confirm { attempt: claim.attempt, fence: claim.fence };
                Self::ask(s, i, what);
            }
            Phase::Confirming { by_mail: true } if claim.attempt < self.attempts[i] => {
                Self::attempt(s, i, true);
            }
            Phase::Confirming { .. } => Self::part(s, i),
            _ => {
                if said(Said::Ours) >= MAJORITY && claim.overtaken {
                    s.flaw = Some("a run counts whose holder had lost the lock");
                }
                claim.phase = Phase::Finished;
            }
        }
    }
}

/// The fencing token of a server's holder.
fn fence_of(machine: &Machine) -> u64 {
    serde_json::to_value(machine).unwrap()["writer"]["fence"].as_u64().unwrap_or_default()
}

/// What a majority says.
fn same(said: &[Option<u64>]) -> Option<u64> {
    let count = |one: u64| said.iter().flatten().filter(|other| **other == one).count();
    said.iter().flatten().copied().find(|one| count(*one) >= MAJORITY)
}

impl Own {
    fn granted(&self) -> [Option<u64>; SERVERS] {
        self.answers.map(|said| match said {
            Some(Said::Granted { fence }) => Some(fence),
            _ => None,
        })
    }

    fn covered(&self) -> [Option<u64>; SERVERS] {
        self.answers.map(|said| match said {
            Some(Said::Covered { run }) => Some(run),
            _ => None,
        })
    }

    /// Whether it has heard enough.
    fn is_decided(&self) -> bool {
        let pending = self.answers.iter().filter(|said| said.is_none()).count();
        let failed = self.answers.iter().filter(|said| **said == Some(Said::Error)).count();
        let said = |what: Said| self.answers.iter().flatten().filter(|said| **said == what).count();
        let open = |count: usize| count < MAJORITY && count + pending >= MAJORITY;
        match self.phase {
            Phase::Asking { .. } => {
                let granted = self.granted().iter().flatten().count();
                let covered = self.covered().iter().flatten().count();
                let answered = SERVERS - pending - failed;
                granted >= MAJORITY
                    || (answered >= MAJORITY && !open(granted) && !(covered > 0 && open(covered)))
                    || failed > SERVERS - MAJORITY
            }
            Phase::Confirming { .. } => !open(said(Said::Ours)),
            Phase::Completing => {
                let counts = said(Said::Ours).max(said(Said::Later));
                counts >= MAJORITY || pending == 0
            }
            _ => false,
        }
    }
}

impl Model for Runs {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let claim = Own {
            phase: Phase::Idle,
            asked: 0,
            attempt: 0,
            place: 0,
            answers: [None; SERVERS],
            covered_before: [None; SERVERS],
            called: 0,
            fence: 0,
            broken: false,
            overtaken: false,
            was_covered: false,
        };
        let count = self.tokens.len();
        let server =
            Server { machine: Machine::default(), mail: vec![None; count], lines: vec![Vec::new(); count] };
        let mut s = State {
            servers: vec![server; SERVERS],
            claims: vec![claim; count],
            begun: Vec::new(),
            deaths_left: self.deaths,
            failures_left: self.failures,
            breaks_left: self.breaks,
            flaw: None,
        };
        if self.held {
            Self::attempt(&mut s, 0, false);
            while s.claims[0].phase != Phase::Running {
                (0..MAJORITY).for_each(|at| self.serve_next(&mut s, 0, at, true, true));
            }
        }
        for action in self.before {
            s = self.next_state(&s, *action).unwrap();
        }
        vec![s]
    }

    fn actions(&self, s: &State, out: &mut Vec<Action>) {
        if s.flaw.is_some() {
            return;
        }
        for (i, claim) in s.claims.iter().enumerate() {
            match claim.phase {
                Phase::Idle => out.push(Action::Start(i)),
                Phase::Waiting => {
                    let mail = (0..SERVERS).filter(|&at| s.servers[at].mail[i].is_some());
                    out.extend(mail.map(|at| Action::Mail(i, at)));
                    if claim.attempt < self.attempts[i] {
                        out.push(Action::AskAgain(i));
                    }
                }
                Phase::Running => {
                    out.push(Action::Complete(i));
                    if self.fails {
                        out.push(Action::Fail(i));
                    }
                }
                _ => {}
            }
            let is_over = matches!(claim.phase, Phase::Dead | Phase::Finished | Phase::Idle);
            if !is_over && s.deaths_left > 0 {
                out.push(Action::Die(i));
            }
            // Those that are near, the second behind the first; and the third.
            let near = [i % SERVERS, (i + 1) % SERVERS];
            for (at, server) in s.servers.iter().enumerate() {
                if server.lines[i].is_empty() {
                    if claim.phase == Phase::Dead && server.machine_knows(&self.tokens[i]) {
                        out.push(Action::Forget(i, at));
                    }
                } else if at != near[1] || s.servers[near[0]].lines[i].is_empty() {
                    out.push(Action::Serve(i, at));
                    if s.failures_left > 0 && !is_over {
                        out.extend([Action::Lose(i, at, false), Action::Lose(i, at, true)]);
                    }
                }
            }
        }
        if s.breaks_left > 0 && s.claims.iter().any(|claim| claim.phase == Phase::Running) {
            out.push(Action::Break);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        let s = &mut next;
        match action {
            Action::Start(i) => {
                s.claims[i].called = s.begun.len();
                Self::attempt(s, i, false);
            }
            Action::Serve(i, at) => {
                self.serve_next(s, i, at, true, true);
                let together = if i < self.far { 1..MAJORITY } else { 1..SERVERS };
                for next in together.map(|next| (i + next) % SERVERS) {
                    if at == i % SERVERS && !self.apart && !s.servers[next].lines[i].is_empty() {
                        self.serve_next(s, i, next, true, true);
                    }
                }
            }
            Action::Lose(i, at, arrives) => {
                self.serve_next(s, i, at, arrives, false);
                s.failures_left -= 1;
            }
            Action::Mail(i, at) => {
                let letter = s.servers[at].mail[i].take();
                s.claims[i].answers[at] = letter;
                if let Some(run) = same(&s.claims[i].covered()) {
                    Self::covered(s, i, run);
                } else if s.claims[i].granted().iter().flatten().count() >= MAJORITY {
                    Self::hold(s, i, true);
                }
            }
            Action::AskAgain(i) => Self::attempt(s, i, true),
            Action::Complete(i) => {
                s.claims[i].phase = Phase::Completing;
                let fence = s.claims[i].fence;
                Self::ask(s, i, What::Complete { fence });
            }
            Action::Fail(i) => Self::part(s, i),
            Action::Die(i) => {
                s.claims[i].phase = Phase::Dead;
                s.deaths_left -= 1;
            }
            Action::Forget(i, at) => {
                let (now, token) = (self.now(at), self.tokens[i].as_bytes());
                let (_, effects) = s.servers[at].machine.release(now, token, None, None, true);
                self.post(&mut s.servers[at], effects);
            }
            Action::Break => {
                for at in 0..SERVERS {
                    let (_, effects) = s.servers[at].machine.break_lock(self.now(at), None);
                    self.post(&mut s.servers[at], effects);
                }
                for claim in s.claims.iter_mut().filter(|claim| claim.phase == Phase::Running) {
                    claim.broken = true;
                }
                s.breaks_left -= 1;
            }
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(EXCLUSION, |_: &Self, s: &State| {
                s.claims.iter().filter(|claim| claim.phase == Phase::Running && !claim.broken).count() < 2
            }),
            Property::always(RULES, |_: &Self, s: &State| s.flaw.is_none()),
            Property::sometimes(END, |_: &Self, s: &State| {
                s.claims.iter().any(|claim| claim.was_covered) || s.claims.len() == 2 && s.begun.len() == 2
            }),
        ]
    }
}

impl Server {
    /// Whether it has it for a holder or a waiter.
    fn machine_knows(&self, token: &Token) -> bool {
        let machine = serde_json::to_value(&self.machine).unwrap();
        let token = std::str::from_utf8(token.as_bytes()).unwrap();
        let waits = machine["queue"].as_array().unwrap().iter().any(|waiter| waiter["token"] == token);
        waits || machine["writer"]["token"] == token
    }
}

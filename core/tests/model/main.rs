//! The Lua scripts against the state machine: random histories on a real server whose clock is set, the
//! same answers to the microsecond.
//!
//! A history has clients that come, wait, sleep through their turn, die and are replaced; commands that
//! arrive again, at once (a lost reply) or after others came and went; an administrator; a server that
//! loses mail, single keys or everything; and a clock that jumps, also backwards.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod reference;
#[path = "../support/mod.rs"]
mod support;

use std::collections::HashMap;
use std::time::Duration;

use cluster_lock_core::store::machine::Now;
use cluster_lock_core::store::{Attempt, Claim, IfBusy, Store, Token, Wake, open};
use cluster_lock_core::{Identity, LockName};
use proptest::prelude::*;
use reference::{Part, Reference, mode};
use support::{RedisServer, config};

const CLIENTS: usize = 4;
const BEGINNING: u64 = 1_780_000_000_000_000;
/// `RETAIN` of `common.lua`, and the longest lease here.
const RETAIN_MS: u64 = 60_000;
const MAX_LEASE_MS: u64 = 60_000;

#[derive(Clone, Debug)]
enum Step {
    Attempt {
        client: usize,
        shared: bool,
        if_busy: IfBusy,
        ttl: Duration,
    },
    Release {
        client: usize,
    },
    Renew {
        client: usize,
        ttl: Duration,
    },
    /// Of whoever holds it, or of this client, by the fencing token that it was given last.
    Break {
        seen: Option<usize>,
    },
    /// An earlier command arrives again: the newest for 0.
    Again {
        back: usize,
    },
    ReadMail {
        client: usize,
    },
    LoseMail {
        client: usize,
    },
    /// A client dies; another one takes its place.
    Replace {
        client: usize,
    },
    Evict(Part),
    FlushAll,
    Pass {
        us: u64,
    },
    SetBack {
        us: u64,
    },
}

/// A command, so that it can be sent again.
#[derive(Clone, Debug)]
enum Command {
    Attempt {
        client: usize,
        token: Token,
        shared: bool,
        if_busy: IfBusy,
        ttl: Duration,
        place: u64,
        converts: u64,
    },
    Release {
        token: Token,
    },
    Renew {
        token: Token,
        ttl: Duration,
    },
    Break {
        meant: Option<u64>,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let client = 0..CLIENTS;
    let ttl = prop_oneof![100..5000u64, Just(10_000), Just(MAX_LEASE_MS)].prop_map(Duration::from_millis);
    // Within a step's own time; up to a slice, a waiter's and a grant's life; leases; idle names.
    let us = prop_oneof![
        2 => 1..1000u64,
        4 => (1..2500u64).prop_map(|ms| ms * 1000),
        2 => (1..12_000u64).prop_map(|ms| ms * 1000),
        1 => (50_000..200_000u64).prop_map(|ms| ms * 1000),
    ];
    let if_busy = prop_oneof![7 => Just(IfBusy::Queue), 2 => Just(IfBusy::GiveUp), 1 => Just(IfBusy::Yield)];
    prop_oneof![
        12 => (client.clone(), any::<bool>(), if_busy, ttl.clone())
            .prop_map(|(client, shared, if_busy, ttl)| Step::Attempt { client, shared, if_busy, ttl }),
        6 => client.clone().prop_map(|client| Step::Release { client }),
        2 => (client.clone(), ttl).prop_map(|(client, ttl)| Step::Renew { client, ttl }),
        2 => prop::option::of(client.clone()).prop_map(|seen| Step::Break { seen }),
        3 => (0..8usize).prop_map(|back| Step::Again { back }),
        6 => client.clone().prop_map(|client| Step::ReadMail { client }),
        1 => client.clone().prop_map(|client| Step::LoseMail { client }),
        1 => client.prop_map(|client| Step::Replace { client }),
        1 => prop::sample::select(&Part::ALL[..]).prop_map(Step::Evict),
        1 => Just(Step::FlushAll),
        8 => us.clone().prop_map(|us| Step::Pass { us }),
        1 => us.prop_map(|us| Step::SetBack { us }),
    ]
}

/// The server, and a connection of the test's own to look behind the scripts.
struct Lab {
    server: RedisServer,
    store: Box<dyn Store>,
    eye: redis::Connection,
}

impl Lab {
    fn new() -> Self {
        let server = RedisServer::start_with_clock(BEGINNING);
        let store = open(&config(&server.unix_dsn())).unwrap();
        let eye = redis::Client::open(server.unix_dsn()).unwrap().get_connection().unwrap();
        Self { server, store, eye }
    }

    fn ask<T: redis::FromRedisValue>(&mut self, words: &[&str]) -> T {
        redis::cmd(words[0]).arg(&words[1..]).query(&mut self.eye).unwrap()
    }

    /// All keys with what is left of their lives in ms.
    fn keys(&mut self) -> Vec<(String, i64)> {
        let look = "local all = {} for _, key in ipairs(redis.call('KEYS', '*')) do \
            all[#all + 1] = {key, redis.call('PTTL', key)} end return all";
        self.ask(&["EVAL", look, "0"])
    }
}

/// One lock's history, on the server and in the reference.
struct History<'a> {
    lab: &'a mut Lab,
    lock: LockName,
    key: String,
    reference: Reference,
    tokens: Vec<Token>,
    places: [u64; CLIENTS],
    identities: Vec<Box<[u8]>>,
    sent: Vec<Command>,
    now_us: u64,
    /// The latest and the earliest moment so far.
    latest_us: u64,
    earliest_us: u64,
    last_fence: u64,
    record_lost: bool,
    fences: HashMap<String, u64>,
    last_answer: Option<Attempt>,
    context: String,
}

impl<'a> History<'a> {
    fn new(lab: &'a mut Lab) -> Self {
        let () = lab.ask(&["FLUSHALL"]);
        lab.server.set_clock(BEGINNING);
        let lock = LockName::new(b"lock").unwrap();
        let identity = |i: usize| Identity { node: i.to_string(), ..Identity::default() }.encode();
        Self {
            lab,
            key: format!("cluster_lock:{{{}}}", lock.encoded()),
            lock,
            reference: Reference::default(),
            tokens: (0..CLIENTS).map(|_| Token::random()).collect(),
            places: [0; CLIENTS],
            identities: (0..CLIENTS).map(identity).collect(),
            sent: Vec::new(),
            now_us: BEGINNING,
            latest_us: BEGINNING,
            earliest_us: BEGINNING,
            last_fence: 0,
            record_lost: false,
            fences: HashMap::new(),
            last_answer: None,
            context: String::new(),
        }
    }

    fn now(&self) -> Now {
        Now { lease_ms: self.now_us / 1000, unix_us: self.now_us }
    }

    fn set_clock(&mut self, unix_us: u64) {
        self.now_us = unix_us;
        self.latest_us = self.latest_us.max(unix_us);
        self.earliest_us = self.earliest_us.min(unix_us);
        self.lab.server.set_clock(unix_us);
        self.look();
    }

    /// Every key expires, within bounds, and none while somebody needs it.
    fn look(&mut self) {
        let keys = self.lab.keys();
        // A clock that was set back prolongs what was stored before, and must: fencing tokens are ahead of it.
        let set_back = (self.latest_us - self.earliest_us).div_ceil(1000);
        let bound = i64::try_from(RETAIN_MS + MAX_LEASE_MS + 2 * set_back).unwrap();
        for (key, left) in &keys {
            assert!((0..=bound).contains(left), "{}: {key} lives for {left} ms more", self.context);
        }
        let now = self.now();
        self.reference.expire_mail(now);
        for part in Part::ALL {
            let key = format!("{}{}", self.key, part.suffix());
            if self.reference.has(part) && !keys.iter().any(|(k, _)| *k == key) {
                self.reference.expire(now, part);
                self.record_lost |= part == Part::Record;
            }
        }
        for token in self.tokens.clone() {
            let box_ = format!("{}:m:{}", self.key, reference::text(token.as_bytes()));
            let there = keys.iter().any(|(k, _)| *k == box_);
            if self.reference.mail(token.as_bytes()).is_some() {
                assert!(there, "{}: mail has gone", self.context);
            }
        }
    }

    /// Fencing tokens grow in the order of the grants.
    fn check_fences(&mut self) {
        let mut grants = std::mem::take(&mut self.reference.grants);
        grants.sort();
        for (fence, token) in grants {
            let again = self.fences.insert(token, fence) == Some(fence);
            // With the record the last token is gone: then the clock alone makes the next one greater,
            // unless that was set back besides.
            let hopeless = !again && std::mem::take(&mut self.record_lost) && self.now_us <= self.last_fence;
            let grows = again || hopeless || fence > self.last_fence;
            assert!(grows, "{}: {fence} after {}", self.context, self.last_fence);
            self.last_fence = if hopeless { fence } else { self.last_fence.max(fence) };
        }
    }

    fn send(&mut self, command: &Command) {
        let (now, context) = (self.now(), self.context.clone());
        match command {
            Command::Attempt { client, token, shared, if_busy, ttl, place, converts } => {
                let claim = Claim {
                    name: &self.lock,
                    token,
                    mode: mode(*shared),
                    ttl: *ttl,
                    identity: &self.identities[*client],
                    place: *place,
                    converts: *converts,
                };
                let expected = self.reference.attempt(now, &claim, *if_busy);
                let actual = self.lab.store.attempt(&claim, *if_busy).unwrap();
                assert_eq!(actual, expected, "{context}");
                self.last_answer = Some(actual.clone());
                let mine = self.tokens[*client] == *token;
                match actual {
                    Attempt::Held(_) => self.places[*client] = 0,
                    Attempt::Busy { place, .. } if mine => {
                        self.places[*client] = if *if_busy == IfBusy::GiveUp { 0 } else { place };
                    }
                    Attempt::Busy { .. } => {}
                }
            }
            Command::Release { token } => {
                let expected = self.reference.release(now, token.as_bytes());
                assert_eq!(self.lab.store.release(&self.lock, token).unwrap(), expected, "{context}");
            }
            Command::Renew { token, ttl } => {
                let expected = self.reference.renew(now, token.as_bytes(), *ttl);
                assert_eq!(self.lab.store.renew(&self.lock, token, *ttl).unwrap(), expected, "{context}");
            }
            Command::Break { meant } => {
                let expected = self.reference.break_lock(now, *meant);
                assert_eq!(self.lab.store.break_lock(&self.lock, *meant).unwrap(), expected, "{context}");
            }
        }
        self.check_fences();
    }

    fn step(&mut self, step: &Step) {
        // No two commands in the same microsecond.
        self.now_us += 30;
        self.set_clock(self.now_us);
        let command = match *step {
            Step::Attempt { client, shared, if_busy, ttl } => Command::Attempt {
                client,
                token: self.tokens[client].clone(),
                shared,
                if_busy,
                ttl,
                place: self.places[client],
                converts: self.fence_of(client),
            },
            Step::Release { client } => Command::Release { token: self.tokens[client].clone() },
            Step::Renew { client, ttl } => Command::Renew { token: self.tokens[client].clone(), ttl },
            Step::Break { seen } => Command::Break { meant: seen.map(|client| self.fence_of(client).max(1)) },
            Step::Again { back } => match self.sent.iter().rev().nth(back) {
                Some(command) => command.clone(),
                None => return,
            },
            Step::ReadMail { client } => return self.read_mail(client),
            Step::LoseMail { client } => {
                let token = self.tokens[client].clone();
                let mailbox = self.mailbox(&token);
                self.reference.lose_mail(token.as_bytes());
                return self.lab.ask(&["DEL", &mailbox]);
            }
            Step::Replace { client } => {
                self.tokens[client] = Token::random();
                self.places[client] = 0;
                return;
            }
            Step::Evict(part) => {
                self.reference.evict(part);
                self.record_lost |= part == Part::Record;
                return self.lab.ask(&["DEL", &format!("{}{}", self.key, part.suffix())]);
            }
            Step::FlushAll => {
                self.reference.flush();
                self.record_lost = true;
                return self.lab.ask(&["FLUSHALL"]);
            }
            Step::Pass { us } => return self.set_clock(self.now_us + us),
            Step::SetBack { us } => return self.set_clock(self.now_us - us),
        };
        self.send(&command);
        self.sent.push(command);
    }

    /// The fencing token that a client was given last; 0: none.
    fn fence_of(&self, client: usize) -> u64 {
        self.fences.get(&reference::text(self.tokens[client].as_bytes())).copied().unwrap_or(0)
    }

    fn mailbox(&self, token: &Token) -> String {
        format!("{}:m:{}", self.key, reference::text(token.as_bytes()))
    }

    fn read_mail(&mut self, client: usize) {
        let token = self.tokens[client].clone();
        let Some(grant) = self.reference.mail(token.as_bytes()) else { return };
        let claim = Claim {
            name: &self.lock,
            token: &token,
            mode: mode(false),
            ttl: Duration::from_secs(1),
            identity: &[],
            place: 0,
            converts: 0,
        };
        let wake = self.lab.store.await_grant(&claim, Duration::from_secs(1), &|| false).unwrap();
        assert_eq!(wake, Wake::Granted(grant), "{}", self.context);
        self.reference.lose_mail(token.as_bytes());
        self.places[client] = 0;
    }

    fn run(&mut self, steps: &[Step]) {
        self.run_through(steps);
        self.context = "at the end".into();
        for token in self.tokens.clone() {
            self.send(&Command::Release { token });
        }
        self.set_clock(
            self.latest_us + (RETAIN_MS + MAX_LEASE_MS + 1) * 1000 + 2 * (self.latest_us - self.earliest_us),
        );
        assert_eq!(self.lab.keys(), [], "after everything has run out");
        self.send(&Command::Break { meant: None });
        assert!(self.reference.is_idle());
    }

    fn run_through(&mut self, steps: &[Step]) {
        for (i, step) in steps.iter().enumerate() {
            self.context = format!("step {i}: {step:?}");
            self.step(step);
            self.look();
            let (actual, expected) =
                (self.lab.store.info(&self.lock).unwrap(), self.reference.report(self.now(), &self.lock));
            assert_eq!(actual, expected, "{}", self.context);
        }
    }
}

#[test]
fn scripts_do_what_the_model_does() {
    let cases = std::env::var("MODEL_CASES").map_or(400, |cases| cases.parse().unwrap());
    let lab = std::cell::RefCell::new(Lab::new());
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    runner
        .run(&prop::collection::vec(step(), 1..60), |steps| {
            History::new(&mut lab.borrow_mut()).run(&steps);
            Ok(())
        })
        .unwrap();
}

const SHORT: Duration = Duration::from_millis(500);
const SECOND: u64 = 1_000_000;
const BREAK: Step = Step::Break { seen: None };

const fn wants(client: usize, shared: bool) -> Step {
    Step::Attempt { client, shared, if_busy: IfBusy::Queue, ttl: SHORT }
}

/// A history that once went wrong, and how its last command must be answered.
fn history(steps: &[Step]) -> Attempt {
    let mut lab = Lab::new();
    let mut history = History::new(&mut lab);
    history.run(steps);
    history.last_answer.take().unwrap()
}

fn held(answer: &Attempt) -> bool {
    matches!(answer, Attempt::Held(_))
}

#[test]
fn a_dead_holder_does_not_block_for_as_long_as_the_clock_was_set_back() {
    for shared in [false, true] {
        let steps = [
            wants(0, shared),
            Step::SetBack { us: 3600 * SECOND },
            wants(1, false),
            Step::Pass { us: SECOND },
        ];
        assert!(held(&history(&[&steps[..], &[wants(1, false)]].concat())));
    }
}

#[test]
fn what_is_left_of_a_lease_is_at_most_the_lease_after_the_clock_was_set_back() {
    for shared in [false, true] {
        let mut lab = Lab::new();
        let mut history = History::new(&mut lab);
        history.run_through(&[
            wants(0, shared),
            Step::Pass { us: SECOND / 10 },
            Step::SetBack { us: 3600 * SECOND },
        ]);
        let report = history.lab.store.info(&history.lock).unwrap().unwrap();
        let left = report.holders[0].lease_left;
        assert!(left <= SHORT && report.ttl == left, "shared: {shared}, {left:?} of {SHORT:?}");
    }
}

#[test]
fn a_dead_waiter_does_not_either() {
    let steps = [
        wants(0, false),
        wants(1, false),
        Step::SetBack { us: 3600 * SECOND },
        Step::Release { client: 0 },
        wants(2, false),
    ];
    assert!(held(&history(&steps)));
}

#[test]
fn readers_of_an_evicted_record_do_not_come_back() {
    let renew = Step::Renew { client: 0, ttl: SHORT };
    let steps =
        [wants(0, true), Step::Evict(Part::Record), wants(1, true), renew, Step::Release { client: 1 }];
    assert!(held(&history(&[&steps[..], &[wants(2, false)]].concat())));
}

#[test]
fn a_reader_whose_record_was_evicted_gets_a_new_fencing_token() {
    let Attempt::Held(grant) = history(&[wants(0, true), Step::Evict(Part::Info), wants(0, true)]) else {
        panic!("not held")
    };
    assert!(grant.fence > BEGINNING);
}

#[test]
fn who_is_let_in_when_a_lease_has_run_out_is_not_broken_with_the_dead_holder() {
    let steps = [
        wants(0, false),
        wants(1, false),
        wants(2, false),
        Step::Pass { us: SECOND },
        BREAK,
        wants(1, false),
    ];
    assert!(held(&history(&steps)));
}

#[test]
fn a_lock_that_was_broken_after_its_record_was_evicted_is_recorded() {
    let steps = [wants(0, false), wants(1, false), Step::Evict(Part::Record), BREAK, wants(2, false)];
    assert!(!held(&history(&steps)));
}

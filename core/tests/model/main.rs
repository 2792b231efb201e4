//! The Lua scripts against the state machine: random histories on a real server whose clock is set, the
//! same answers to the microsecond.
//!
//! A history has clients that come, wait, sleep through their turn, die and are replaced; commands that
//! arrive again, at once (a lost reply) or after others came and went, or only then, and attempts with numbers,
//! as a quorum's; an administrator; a server that
//! loses mail, single keys or everything; and a clock that jumps, also backwards.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::struct_excessive_bools,
    missing_docs
)]

mod reference;
#[path = "../support/mod.rs"]
mod support;

use std::collections::HashMap;
use std::time::Duration;

use cluster_lock_core::clock::Instant;
use cluster_lock_core::store::machine::{Now, SLACK, WORK};
use cluster_lock_core::store::{Attempt, Claim, Hold, IfBusy, Reclaim, Store, Token, Wake, open};
use cluster_lock_core::{Broken, Identity, LockName, Loss, Mode, Standing};
use proptest::prelude::*;
use reference::{Kind, Part, Reference, mode};
use support::{RedisServer, config};

const CLIENTS: usize = 4;
const BEGINNING: u64 = 1_780_000_000_000_000;
/// `RETAIN` of `common.lua`, and the longest lease here.
const RETAIN_MS: u64 = 60_000;
const MAX_LEASE_MS: u64 = 60_000;
/// Where there is one: the longest lease then.
const GRACE: Duration = Duration::from_secs(12);

#[derive(Clone, Debug)]
enum Step {
    Attempt {
        client: usize,
        shared: bool,
        if_busy: IfBusy,
        ttl: Duration,
        slack: Duration,
    },
    Release {
        client: usize,
    },
    /// A client's run is complete.
    Complete {
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
    /// A client asks, and that does not arrive yet.
    Late {
        client: usize,
        shared: bool,
        if_busy: IfBusy,
    },
    /// An earlier command arrives again, or at last: the newest for 0.
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
    /// So many come to a lock that is held, and are never heard of again.
    Crowd {
        count: u64,
        kind: Kind,
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
        run: bool,
        if_busy: IfBusy,
        ttl: Duration,
        place: u64,
        converts: u64,
        slack: Duration,
        attempt: u64,
    },
    Release {
        token: Token,
        said: Option<Held>,
    },
    Complete {
        token: Token,
        fence: u64,
        said: Option<Held>,
    },
    Renew {
        token: Token,
        ttl: Duration,
        attempt: u64,
        said: Option<Held>,
        /// When, by the client's own clock.
        sent_us: u64,
    },
    Break {
        meant: Option<u64>,
    },
}

/// What a client believes to hold.
#[derive(Clone, Copy, Debug)]
struct Held {
    client: usize,
    mode: Mode,
    fence: u64,
    /// The end of its lease, by its own clock, in us.
    until_us: u64,
}

/// A step; the server loses everything so often.
fn step(flush: u32) -> impl Strategy<Value = Step> {
    let client = 0..CLIENTS;
    let ttl = prop_oneof![100..5000u64, Just(10_000), Just(MAX_LEASE_MS)].prop_map(Duration::from_millis);
    // Within a step's own time; up to a slice, a waiter's and a grant's life; leases; idle names.
    let us = prop_oneof![
        2 => 1..1000u64,
        4 => (1..2500u64).prop_map(|ms| ms * 1000),
        2 => (1..12_000u64).prop_map(|ms| ms * 1000),
        1 => (50_000..200_000u64).prop_map(|ms| ms * 1000),
    ];
    // The last is more than the server takes.
    let slack = prop_oneof![5 => Just(SLACK), 1 => (800..7000u64).prop_map(Duration::from_millis)];
    let if_busy = prop_oneof![7 => Just(IfBusy::Queue), 2 => Just(IfBusy::GiveUp), 1 => Just(IfBusy::Yield)];
    prop_oneof![
        12 => (client.clone(), any::<bool>(), if_busy, ttl.clone(), slack)
            .prop_map(|(client, shared, if_busy, ttl, slack)| Step::Attempt { client, shared, if_busy, ttl, slack }),
        6 => client.clone().prop_map(|client| Step::Release { client }),
        4 => client.clone().prop_map(|client| Step::Complete { client }),
        2 => (client.clone(), ttl).prop_map(|(client, ttl)| Step::Renew { client, ttl }),
        2 => prop::option::of(client.clone()).prop_map(|seen| Step::Break { seen }),
        2 => (client.clone(), any::<bool>(), prop_oneof![Just(IfBusy::Queue), Just(IfBusy::Yield)])
            .prop_map(|(client, shared, if_busy)| Step::Late { client, shared, if_busy }),
        4 => (0..8usize).prop_map(|back| Step::Again { back }),
        6 => client.clone().prop_map(|client| Step::ReadMail { client }),
        1 => client.clone().prop_map(|client| Step::LoseMail { client }),
        1 => client.prop_map(|client| Step::Replace { client }),
        // More readers than one step lets in. (More dead than it buries cost too much time here.)
        1 => (
            prop_oneof![3 => Just(3), 1 => Just(40)],
            prop::sample::select(vec![Kind::Exclusive, Kind::Shared, Kind::Run]),
        )
            .prop_map(|(count, kind)| Step::Crowd { count, kind }),
        1 => prop::sample::select(&Part::LOST[..]).prop_map(Step::Evict),
        flush => Just(Step::FlushAll),
        8 => us.clone().prop_map(|us| Step::Pass { us }),
        1 => us.prop_map(|us| Step::SetBack { us }),
    ]
}

/// The server, and a connection of the test's own to look behind the scripts.
struct Lab {
    server: RedisServer,
    store: Box<dyn Store>,
    /// The same with a grace period.
    graced: Box<dyn Store>,
    eye: redis::Connection,
}

impl Lab {
    fn new() -> Self {
        let server = RedisServer::start_with_clock(BEGINNING);
        let store = open(&config(&server.unix_dsn())).unwrap();
        let graced = open(&config(&format!("{}?grace={}", server.unix_dsn(), GRACE.as_secs()))).unwrap();
        let eye = redis::Client::open(server.unix_dsn()).unwrap().get_connection().unwrap();
        Self { server, store, graced, eye }
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
    /// It is on a quorum: attempts are numbered. How many there were, and each client's newest.
    numbered: bool,
    /// Some of the clients want it for runs.
    runs: bool,
    /// So many commands have been carried out.
    time: u64,
    /// When a token was given a rank, and when a fencing token was given out.
    arrivals: HashMap<(String, u64), u64>,
    granted: HashMap<u64, u64>,
    /// Something of the data was lost.
    lossy: bool,
    /// With a grace period, in which only those are believed who hold it.
    graced: bool,
    /// The clients' own clock, which is never set back; what they hold by it; when they were let in by mail.
    own_us: u64,
    held: [Option<Held>; CLIENTS],
    mailed_us: [Option<u64>; CLIENTS],
    /// A conversion of theirs is on its way, and nobody waits for its answer: what they hold is not known.
    converting: [bool; CLIENTS],
    attempts: u64,
    newest: [u64; CLIENTS],
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
            numbered: false,
            runs: false,
            time: 0,
            arrivals: HashMap::new(),
            granted: HashMap::new(),
            lossy: false,
            graced: false,
            own_us: 0,
            held: [None; CLIENTS],
            mailed_us: [None; CLIENTS],
            converting: [false; CLIENTS],
            attempts: 0,
            newest: [0; CLIENTS],
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

    fn graced(mut self) -> Self {
        self.graced = true;
        self.reference.period_ms = u64::try_from(GRACE.as_millis()).unwrap();
        self
    }

    fn now(&self) -> Now {
        Now { lease_ms: self.now_us / 1000, unix_us: self.now_us, work: WORK, grace_ms: 0 }
    }

    fn set_clock(&mut self, unix_us: u64) {
        self.now_us = unix_us;
        self.latest_us = self.latest_us.max(unix_us);
        self.earliest_us = self.earliest_us.min(unix_us);
        self.lab.server.set_clock(unix_us);
        self.reference.clock_was_set(self.now());
        self.look();
    }

    /// Every key expires, within bounds, and none while somebody needs it.
    fn look(&mut self) {
        let keys = self.lab.keys();
        // A clock that was set back prolongs what was stored before, and must: fencing tokens are ahead of it.
        let set_back = (self.latest_us - self.earliest_us).div_ceil(1000);
        let bound = i64::try_from(RETAIN_MS + MAX_LEASE_MS + 2 * set_back).unwrap();
        for (key, left) in keys.iter().filter(|(key, _)| key != BORN) {
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
            if !again {
                self.granted.insert(fence, self.time);
            }
            // With the record the last token is gone: then the clock alone makes the next one greater,
            // unless that was set back besides.
            let hopeless = !again && std::mem::take(&mut self.record_lost) && self.now_us <= self.last_fence;
            let grows = again || hopeless || fence > self.last_fence;
            assert!(grows, "{}: {fence} after {}", self.context, self.last_fence);
            self.last_fence = if hopeless { fence } else { self.last_fence.max(fence) };
        }
    }

    /// A run covers only those who came before its holder was let in.
    fn check_covers(&mut self) {
        for (token, place, run) in std::mem::take(&mut self.reference.covers) {
            let (arrived, granted) = (self.arrivals[&(token, place)], self.granted[&run]);
            assert!(
                place < run && arrived <= granted,
                "{}: arrived {arrived}, granted {granted}",
                self.context
            );
        }
    }

    /// And all of those.
    fn check_runners(&self, run: u64) {
        for runner in self.reference.runners().into_iter().filter(|_| !self.lossy) {
            let (arrived, granted) = (self.arrivals[&runner], self.granted[&run]);
            assert!(arrived > granted, "{}: arrived {arrived}, granted {granted}", self.context);
        }
    }

    fn store(&self) -> &dyn Store {
        if self.graced { &*self.lab.graced } else { &*self.lab.store }
    }

    /// `first`: its sender waits for the answer.
    fn send(&mut self, command: &Command, first: bool) {
        self.time += 1;
        let (now, context) = (self.now(), self.context.clone());
        match command {
            Command::Attempt {
                client,
                token,
                shared,
                run,
                if_busy,
                ttl,
                place,
                converts,
                slack,
                attempt,
            } => {
                let claim = Claim {
                    name: &self.lock,
                    token,
                    mode: mode(*shared),
                    run: *run,
                    ttl: *ttl,
                    identity: &self.identities[*client],
                    place: *place,
                    converts: *converts,
                    slack: *slack,
                    attempt: *attempt,
                };
                let expected = self.reference.attempt(now, &claim, *if_busy);
                let actual = self.store().attempt(&claim, *if_busy).unwrap();
                assert_eq!(actual, expected, "{context}");
                if let (true, Attempt::Held(grant)) = (first, &actual) {
                    self.let_in(*client, mode(*shared), grant.fence, self.own_us + us(*ttl));
                }
                self.last_answer = Some(actual.clone());
                let mine = self.tokens[*client] == *token;
                if let Attempt::Busy { place, .. } | Attempt::Unfinished { place } = actual {
                    self.arrivals.entry((reference::text(token.as_bytes()), place)).or_insert(self.time);
                }
                match actual {
                    Attempt::Held(_) => self.places[*client] = 0,
                    Attempt::Covered { .. } if mine => self.places[*client] = 0,
                    Attempt::Busy { place, .. } if mine => {
                        self.places[*client] = if *if_busy == IfBusy::GiveUp { 0 } else { place };
                    }
                    Attempt::Unfinished { place } if mine => self.places[*client] = place,
                    Attempt::Busy { .. } | Attempt::Unfinished { .. } | Attempt::Covered { .. } => {}
                }
            }
            Command::Release { token, said } => {
                let identity = said.map(|said| self.identities[said.client].clone());
                let reclaim = reclaim(*said, identity.as_deref());
                let expected = self.reference.release(now, token.as_bytes(), None, reclaim.as_ref());
                let hold = Hold { name: &self.lock, token, reclaim };
                assert_eq!(self.store().release(&hold).unwrap(), expected, "{context}");
            }
            Command::Complete { token, fence, said } => {
                let identity = said.map(|said| self.identities[said.client].clone());
                let reclaim = reclaim(*said, identity.as_deref());
                let holds = self.reference.is_held_by(token.as_bytes(), *fence);
                // Where there is a grace period, who says this is believed as any other holder.
                let saying =
                    Reclaim { mode: Mode::Exclusive, fence: *fence, identity: b"", until: Instant::now() };
                let expected = self.reference.release(now, token.as_bytes(), Some(*fence), Some(&saying));
                let hold = Hold { name: &self.lock, token, reclaim };
                assert_eq!(self.store().complete(&hold, *fence).unwrap(), expected, "{context}");
                // Plain users do not say that: their fencing tokens may be smaller than the ranks of those who wait.
                let own = self.tokens.iter().position(|own| own == token);
                if holds && own.is_some_and(|client| self.runs(client)) {
                    self.check_runners(*fence);
                }
            }
            Command::Renew { token, ttl, attempt, said, sent_us } => {
                let identity = said.map(|said| self.identities[said.client].clone());
                let reclaim = reclaim(*said, identity.as_deref());
                let expected = self.reference.renew(now, token.as_bytes(), *ttl, *attempt, reclaim.as_ref());
                let actual = if *attempt == 0 {
                    self.store().renew(&Hold { name: &self.lock, token, reclaim }, *ttl).unwrap()
                } else {
                    self.renew_numbered(token, *ttl, *attempt, *said)
                };
                assert_eq!(actual, expected, "{context}");
                self.renewed(token, *said, &actual, first, sent_us + us(*ttl));
            }
            Command::Break { meant } => {
                let expected = self.reference.break_lock(now, *meant);
                assert_eq!(self.store().break_lock(&self.lock, *meant).unwrap(), expected, "{context}");
                if expected == Broken::Yes {
                    self.held = [None; CLIENTS];
                }
            }
        }
        self.check_fences();
        self.check_covers();
        for (client, token) in self.tokens.iter().enumerate() {
            let granted = matches!(self.reference.mail(token.as_bytes()), Some(Wake::Granted(_)));
            let mailed = &mut self.mailed_us[client];
            *mailed = if granted { mailed.or(Some(self.own_us)) } else { None };
        }
    }

    fn let_in(&mut self, client: usize, mode: Mode, fence: u64, until_us: u64) {
        if !self.converting[client] {
            self.held[client] = Some(Held { client, mode, fence, until_us });
        }
    }

    /// What follows for the client from the answer to a renewal.
    fn renewed(&mut self, token: &Token, said: Option<Held>, told: &Standing, first: bool, until_us: u64) {
        let Some(client) = self.tokens.iter().position(|own| own == token) else { return };
        let (held, own_us) = (&mut self.held[client], self.own_us);
        if first && *told != Standing::Ours {
            *held = None;
        }
        // It has been converted meanwhile, or is over: whatever comes is too late.
        let same =
            |held: &&mut Held| said.is_some_and(|said| said.fence == held.fence) && held.until_us > own_us;
        if let Some(held) = held.as_mut().filter(|held| *told == Standing::Ours && same(held)) {
            held.until_us = until_us;
        }
    }

    /// A command that is late sets the lease that it was sent with, also one shorter than what was asked for since: that
    /// has nothing to do with what is lost.
    fn shorten(&mut self, command: &Command) {
        let (Command::Attempt { token, ttl, .. } | Command::Renew { token, ttl, .. }) = command else {
            return;
        };
        let until_us = self.own_us + us(*ttl);
        if let Some(client) = self.tokens.iter().position(|own| own == token)
            && let Some(held) = &mut self.held[client]
        {
            held.until_us = held.until_us.min(until_us);
        }
    }

    /// Nobody holds it beside a writer, by the clients' own clock.
    fn check_holders(&self) {
        // A server counts whole milliseconds; what a holder takes off its lease is more than one.
        let sure = |held: &&Held| held.until_us > self.own_us + 1000;
        let holders: Vec<_> = self.held.iter().flatten().filter(sure).collect();
        let alone = holders.len() <= 1 || holders.iter().all(|held| held.mode == Mode::Shared);
        assert!(alone, "{}: they hold it together: {holders:?}", self.context);
    }

    fn said(&self, client: usize) -> Option<Held> {
        self.held[client].filter(|held| self.graced && held.until_us > self.own_us)
    }

    fn step(&mut self, step: &Step) {
        // No two commands in the same microsecond.
        self.now_us += 30;
        self.own_us += 30;
        self.set_clock(self.now_us);
        let command = match *step {
            Step::Attempt { client, shared, if_busy, ttl, slack } => {
                self.attempt(client, shared, if_busy, self.longest(ttl), slack)
            }
            Step::Late { client, shared, if_busy } => {
                let late = self.attempt(client, shared, if_busy, self.longest(SHORT), SLACK);
                self.converting[client] |= self.fence_of(client) > 0;
                return self.sent.push(late);
            }
            Step::Release { client } => {
                let said = self.said(client);
                self.held[client] = None;
                let token = self.tokens[client].clone();
                if self.graced {
                    // A token that was released is not used again: a late release would take the lock from it.
                    self.replace(client);
                }
                Command::Release { token, said }
            }
            Step::Complete { client } => {
                let (fence, said) = (self.fence_of(client).max(1), self.said(client));
                if self.graced && said.is_none() {
                    return;
                }
                self.held[client] = None;
                let token = self.tokens[client].clone();
                if self.graced {
                    self.replace(client);
                }
                Command::Complete { token, fence, said }
            }
            Step::Renew { client, ttl } => Command::Renew {
                token: self.tokens[client].clone(),
                ttl: self.longest(ttl),
                attempt: self.newest[client],
                said: self.said(client),
                sent_us: self.own_us,
            },
            Step::Break { seen } => Command::Break { meant: seen.map(|client| self.fence_of(client).max(1)) },
            Step::Again { back } => match self.sent.iter().rev().nth(back) {
                Some(command) => {
                    let command = command.clone();
                    self.shorten(&command);
                    self.send(&command, false);
                    return self.sent.push(command);
                }
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
                self.replace(client);
                return;
            }
            Step::Crowd { count, kind } => return self.crowd(count, kind),
            Step::Evict(part) => {
                self.reference.evict(part);
                self.record_lost |= part == Part::Record;
                self.lossy = true;
                // Of one lock alone nobody knows that anything is missing.
                self.held = [None; CLIENTS];
                let key = |part: Part| format!("{}{}", self.key, part.suffix());
                let besides = if part == Part::Queue { Part::Runners } else { part };
                let (lost, besides) = (key(part), key(besides));
                return self.lab.ask(&["DEL", &lost, &besides]);
            }
            Step::FlushAll => {
                self.reference.flush();
                (self.record_lost, self.lossy) = (true, true);
                return self.lab.ask(&["FLUSHALL"]);
            }
            Step::Pass { us } => {
                self.own_us += us;
                return self.set_clock(self.now_us + us);
            }
            Step::SetBack { us } => return self.set_clock(self.now_us - us),
        };
        self.send(&command, true);
        self.sent.push(command);
    }

    fn replace(&mut self, client: usize) {
        self.tokens[client] = Token::random();
        self.places[client] = 0;
        self.newest[client] = 0;
        (self.held[client], self.mailed_us[client]) = (None, None);
        self.converting[client] = false;
    }

    /// The longest lease that there may be.
    fn longest(&self, ttl: Duration) -> Duration {
        if self.graced { ttl.min(GRACE) } else { ttl }
    }

    fn attempt(
        &mut self,
        client: usize,
        shared: bool,
        if_busy: IfBusy,
        ttl: Duration,
        slack: Duration,
    ) -> Command {
        if self.numbered {
            self.attempts += 1;
            self.newest[client] = self.attempts;
        }
        // To ask is to hold nothing before the answer.
        self.held[client] = None;
        // Only a quorum yields.
        let if_busy =
            if self.graced && !self.numbered && if_busy == IfBusy::Yield { IfBusy::Queue } else { if_busy };
        Command::Attempt {
            client,
            token: self.tokens[client].clone(),
            shared: shared && !self.runs(client),
            run: self.runs(client),
            if_busy,
            ttl: self.longest(ttl),
            place: self.places[client],
            converts: self.fence_of(client),
            slack,
            attempt: self.newest[client],
        }
    }

    /// Whether it wants the lock for runs.
    fn runs(&self, client: usize) -> bool {
        self.runs && client >= CLIENTS / 2
    }

    /// As a quorum asks each of its servers.
    fn renew_numbered(&mut self, token: &Token, ttl: Duration, attempt: u64, said: Option<Held>) -> Standing {
        let renew = include_str!("../../src/store/scripts/renew.lua")
            .replace("--#include common.lua", include_str!("../../src/store/scripts/common.lua"));
        let (key, token) = (self.key.clone(), reference::text(token.as_bytes()));
        let (ttl, attempt) = (ttl.as_millis().to_string(), attempt.to_string());
        let mut words = vec!["EVAL", &renew, "1", &key, &token, &ttl, &attempt];
        let fence = said.map_or(String::new(), |said| said.fence.to_string());
        let identity = said.map_or(String::new(), |said| {
            let identity = reference::text(&self.identities[said.client]);
            format!("{attempt} {identity}")
        });
        let period = GRACE.as_millis().to_string();
        if let Some(said) = said {
            words.extend([
                fence.as_str(),
                if said.mode == Mode::Exclusive { "X" } else { "S" },
                identity.as_str(),
            ]);
        }
        if self.graced {
            words[2] = "2";
            words.insert(4, BORN);
            words.push(&period);
        }
        match self.lab.ask(&words) {
            1 => Standing::Ours,
            // By its word alone, perhaps.
            5 if self.graced => Standing::Ours,
            2 => Standing::Lost(Loss::Broken),
            3 => Standing::Lost(Loss::Forgotten),
            4 => Standing::Lost(Loss::Superseded),
            other => panic!("{}: {other}", self.context),
        }
    }

    /// As if each of them had asked.
    fn crowd(&mut self, count: u64, kind: Kind) {
        let Some((tokens, until_ms)) = self.reference.crowd(self.now(), count, kind) else { return };
        self.time += 1;
        for (token, place) in self.reference.runners() {
            self.arrivals.entry((token, place)).or_insert(self.time);
        }
        let join = "local key = KEYS[1] local last = redis.call('ZRANGE', key .. ':q', -1, -1, 'WITHSCORES')[2] or 0 \
            local fence = tonumber(string.sub(redis.call('GET', key), 37, 52)) \
            local first = math.max(tonumber(ARGV[1]), last + 1, fence + 1) for i = 5, #ARGV do local place = first + i - 5 \
            redis.call('ZADD', key .. ':q', place, ARGV[i]) redis.call('HSET', key .. ':w', ARGV[i], \
            string.format('0%s %s %.0f %s', ARGV[2], ARGV[3], place, ARGV[4])) \
            if ARGV[3] == 'O' then redis.call('ZADD', key .. ':o', place, ARGV[i]) end end \
            redis.call('PEXPIRE', key .. ':o', 60000) \
            redis.call('PEXPIRE', key .. ':q', 60000) redis.call('PEXPIRE', key .. ':w', 60000) \
            local flag = redis.call('GETRANGE', key, 1, 1) \
            if ARGV[3] == 'O' and flag ~= '?' then flag = (flag == '*' or flag == 'O') and 'O' or 'o' \
            elseif flag == '-' then flag = '+' end redis.call('SETRANGE', key, 1, flag)";
        let (key, now_us, until_ms) = (self.key.clone(), self.now_us.to_string(), until_ms.to_string());
        let crowd = reference::text(reference::CROWD);
        let mode = match kind {
            Kind::Exclusive => "X",
            Kind::Shared => "S",
            Kind::Run => "O",
        };
        let mut words = vec!["EVAL", join, "1", &key, &now_us, &until_ms, mode, &crowd];
        words.extend(tokens.iter().map(String::as_str));
        let () = self.lab.ask(&words);
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
        let Some(letter) = self.reference.mail(token.as_bytes()) else { return };
        let claim = Claim {
            name: &self.lock,
            token: &token,
            mode: mode(false),
            ttl: Duration::from_secs(1),
            identity: &[],
            place: 0,
            converts: 0,
            slack: SLACK,
            run: false,
            attempt: 0,
        };
        let wake = self.store().await_grant(&claim, Duration::from_secs(1), &|| false).unwrap();
        assert_eq!(wake, letter, "{}", self.context);
        self.reference.read_mail(token.as_bytes());
        if let Wake::Granted(grant) = letter {
            self.places[client] = 0;
            let mailed_us = self.mailed_us[client].unwrap();
            // On a quorum it does not count before it is confirmed. Whoever was broken meanwhile finds out later.
            if let Some(mode) = self.reference.holds(token.as_bytes()).filter(|_| !self.numbered) {
                self.let_in(client, mode, grant.fence, mailed_us + us(grant.lease));
            }
        }
    }

    fn run(&mut self, steps: &[Step]) {
        self.run_through(steps);
        self.context = "at the end".into();
        for token in self.tokens.clone() {
            self.send(&Command::Release { token, said: None }, true);
        }
        self.set_clock(
            self.latest_us + (RETAIN_MS + MAX_LEASE_MS + 1) * 1000 + 2 * (self.latest_us - self.earliest_us),
        );
        let mut keys = self.lab.keys();
        keys.retain(|(key, _)| key != BORN);
        assert_eq!(keys, [], "after everything has run out");
        self.send(&Command::Break { meant: None }, true);
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
            if self.graced {
                self.check_holders();
            }
        }
    }
}

/// The key in which the server keeps when its grace period is over.
const BORN: &str = "cluster_lock:{}:born";

fn us(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap()
}

/// What a client says of what it holds.
fn reclaim(said: Option<Held>, identity: Option<&[u8]>) -> Option<Reclaim<'_>> {
    let (said, identity) = (said?, identity?);
    Some(Reclaim { mode: said.mode, fence: said.fence, identity, until: Instant::now() + GRACE })
}

/// Random histories of less than `most` steps, in which all is lost with the weight `flush`; on servers with a
/// grace period or without.
fn check_histories(flush: u32, most: usize, graced: bool) {
    let cases = std::env::var("MODEL_CASES").map_or(400, |cases| cases.parse().unwrap());
    let lab = std::cell::RefCell::new(Lab::new());
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    runner
        .run(
            &(any::<(bool, bool)>(), prop::collection::vec(step(flush), 1..most)),
            |((numbered, runs), steps)| {
                let mut lab = lab.borrow_mut();
                let history = History { numbered, runs, ..History::new(&mut lab) };
                if graced { history.graced() } else { history }.run(&steps);
                Ok(())
            },
        )
        .unwrap();
}

#[test]
fn scripts_do_what_the_model_does() {
    check_histories(1, 60, false);
}

/// A server that loses everything, again and again, and lets nobody in for a while.
#[test]
fn with_a_grace_period_nobody_holds_it_beside_a_writer_whatever_is_lost() {
    check_histories(4, 80, true);
}

const SHORT: Duration = Duration::from_millis(500);
const LONG: Duration = Duration::from_secs(10);
const SECOND: u64 = 1_000_000;
const BREAK: Step = Step::Break { seen: None };

const fn wants(client: usize, shared: bool) -> Step {
    Step::Attempt { client, shared, if_busy: IfBusy::Queue, ttl: SHORT, slack: SLACK }
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

/// Ranks and fencing tokens are one order, whatever the server's clock says.
#[test]
fn who_comes_after_a_grant_has_a_greater_rank_than_its_fencing_token() {
    let mut lab = Lab::new();
    let mut history = History::new(&mut lab);
    history.run_through(&[wants(0, false), Step::SetBack { us: 3600 * SECOND }, wants(1, false)]);
    let Some(Attempt::Busy { place, .. }) = history.last_answer else { panic!("{:?}", history.last_answer) };
    assert!(place > history.last_fence, "{place} after {}", history.last_fence);
    history.run(&[]);
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

const fn long(client: usize, shared: bool) -> Step {
    Step::Attempt { client, shared, if_busy: IfBusy::Queue, ttl: LONG, slack: SLACK }
}

const fn crowd(count: u64, shared: bool) -> Step {
    Step::Crowd { count, kind: if shared { Kind::Shared } else { Kind::Exclusive } }
}

/// A crowd that wants a run does not make a record certain that was put back in a grace period.
#[test]
fn who_waits_for_a_run_does_not_end_a_grace_period() {
    let mut lab = Lab::new();
    History::new(&mut lab).graced().run_through(&[
        Step::Break { seen: None },
        wants(0, true),
        Step::FlushAll,
        Step::Renew { client: 0, ttl: LONG },
        Step::Crowd { count: 3, kind: Kind::Run },
        wants(1, false),
    ]);
}

/// Their queue is forgotten long before the clock is again where it was when they came.
#[test]
fn who_died_before_the_clock_was_set_back_is_forgotten_meanwhile() {
    for back in [59, 190] {
        for touch in [wants(1, false), Step::Renew { client: 0, ttl: LONG }] {
            let _ = history(&[
                long(0, false),
                crowd(3, false),
                Step::SetBack { us: back * SECOND },
                touch,
                Step::Pass { us: (back - 5) * SECOND },
                Step::Pass { us: 6 * SECOND },
            ]);
        }
    }
}

/// More than three steps bury: the one that gives the lock back, and those that go on with it.
#[test]
fn who_waits_behind_many_dead_is_let_in() {
    let steps = [
        long(0, false),
        crowd(1000, false),
        Step::Pass { us: 2 * SECOND },
        wants(1, false),
        Step::Release { client: 0 },
        wants(1, false),
    ];
    assert!(held(&history(&steps)));
}

/// Whoever gave it back is gone: who waits goes on, and so does whoever comes; the last in turn.
#[test]
fn a_step_that_leaves_work_says_so_and_nobody_is_overtaken() {
    let mut lab = Lab::new();
    let mut history = History::new(&mut lab);
    let late =
        |client| Step::Attempt { client, shared: false, if_busy: IfBusy::GiveUp, ttl: LONG, slack: SLACK };
    history.run_through(&[
        Step::Attempt { client: 0, shared: false, if_busy: IfBusy::Queue, ttl: 5 * SHORT, slack: SLACK },
        crowd(900, false),
        Step::Pass { us: 1_900_000 },
        wants(1, false),
        Step::Pass { us: 700_000 },
        late(2),
    ]);
    assert!(matches!(history.last_answer, Some(Attempt::Unfinished { .. })), "{:?}", history.last_answer);
    history.run_through(&[late(2), wants(1, false)]);
    assert!(matches!(history.last_answer, Some(Attempt::Unfinished { .. })), "{:?}", history.last_answer);
    history.run_through(&[late(2)]);
    assert!(
        matches!(history.last_answer, Some(Attempt::Busy { .. })),
        "overtaken: {:?}",
        history.last_answer
    );
    history.run_through(&[wants(1, false)]);
    assert!(held(&history.last_answer.clone().unwrap()));
    history.run(&[]);
}

/// A lock that nobody holds, and for which nobody has been found who is next.
#[test]
fn whoever_comes_to_a_lock_with_work_left_does_not_overtake() {
    let mut lab = Lab::new();
    let mut history = History::new(&mut lab);
    history.run_through(&[
        long(0, false),
        crowd(1000, false),
        Step::Pass { us: 2 * SECOND },
        wants(1, false),
    ]);
    let key = history.key.clone();
    let release = include_str!("../../src/store/scripts/release.lua")
        .replace("--#include common.lua", include_str!("../../src/store/scripts/common.lua"));
    // One step, by somebody who does not go on.
    let token = reference::text(history.tokens[0].as_bytes());
    assert_eq!(history.lab.ask::<i64>(&["EVAL", &release, "1", &key, &token]), 11);
    let record: String = history.lab.ask(&["GET", &key]);
    assert!(record.starts_with("F*"), "{record}");
    let claim = |client: usize| {
        let (name, token) = (&history.lock, &history.tokens[client]);
        Claim {
            name,
            token,
            mode: mode(false),
            ttl: LONG,
            identity: b"{}",
            place: 0,
            converts: 0,
            slack: SLACK,
            run: false,
            attempt: 0,
        }
    };
    for _ in 0..2 {
        let answer = history.lab.store.attempt(&claim(2), IfBusy::Queue).unwrap();
        assert!(matches!(answer, Attempt::Unfinished { .. }), "{answer:?}");
    }
    let answer = history.lab.store.attempt(&claim(2), IfBusy::Queue).unwrap();
    assert!(matches!(answer, Attempt::Busy { .. }), "{answer:?}");
    assert!(held(&history.lab.store.attempt(&claim(1), IfBusy::Queue).unwrap()));
}

/// The one who gives it back lets all of them in, some in each step, and none of those behind the writer.
#[test]
fn many_readers_are_let_in_in_several_steps() {
    let mut lab = Lab::new();
    let mut history = History::new(&mut lab);
    history.run_through(&[
        long(0, false),
        long(1, true),
        crowd(100, true),
        long(2, false),
        long(3, true),
        Step::Release { client: 0 },
    ]);
    let report = history.lab.store.info(&history.lock).unwrap().unwrap();
    assert_eq!((report.holders.len(), report.waiters.len()), (101, 2));
    history.run(&[]);
}

/// The dead among the readers, too, are taken out in several steps.
#[test]
fn many_dead_readers_are_in_nobodys_way() {
    let steps = [
        long(0, false),
        crowd(400, true),
        Step::Release { client: 0 },
        Step::Pass { us: 3 * SECOND },
        wants(1, false),
        wants(1, false),
    ];
    assert!(held(&history(&steps)));
}

const RUNNERS: Step = Step::Crowd { count: 600, kind: Kind::Run };

/// Two clients of it want the lock for runs.
fn runs(lab: &mut Lab) -> History<'_> {
    History { runs: true, ..History::new(lab) }
}

impl History<'_> {
    fn letter(&self, client: usize) -> Option<Wake> {
        self.reference.mail(self.tokens[client].as_bytes())
    }
}

/// More than two steps tell: the holder goes on with it. The server's clock, which is set back, changes nothing.
#[test]
fn a_run_covers_all_who_came_before_it_in_several_steps() {
    let mut lab = Lab::new();
    let mut history = runs(&mut lab);
    history.run_through(&[
        long(0, false),
        long(2, false),
        RUNNERS,
        Step::SetBack { us: 10 * SECOND },
        long(3, false),
        Step::Release { client: 0 },
    ]);
    assert!(matches!(history.letter(2), Some(Wake::Granted(_))), "{:?}", history.letter(2));
    history.run_through(&[long(2, false), Step::Complete { client: 2 }]);
    assert_eq!(history.letter(3), Some(Wake::Covered(history.fence_of(2))));
    assert_eq!(history.reference.runners(), []);
    history.run_through(&[Step::ReadMail { client: 3 }]);
    history.run(&[]);
}

#[test]
fn a_run_covers_nobody_who_came_after_it_began() {
    let mut lab = Lab::new();
    let mut history = runs(&mut lab);
    history.run_through(&[
        long(2, false),
        Step::SetBack { us: 3600 * SECOND },
        long(3, false),
        Step::Complete { client: 2 },
    ]);
    assert!(matches!(history.letter(3), Some(Wake::Granted(_))), "{:?}", history.letter(3));
    history.run(&[]);
}

/// Plain users keep their turns, and their releases cover nobody.
#[test]
fn who_only_gives_the_lock_back_covers_nobody() {
    let mut lab = Lab::new();
    let mut history = runs(&mut lab);
    history.run_through(&[
        long(0, false),
        long(2, false),
        long(1, false),
        long(3, false),
        Step::Release { client: 0 },
        long(2, false),
        Step::Release { client: 2 },
        long(1, false),
    ]);
    assert!(held(&history.last_answer.clone().unwrap()), "it is a plain user's turn");
    assert_eq!(history.letter(3), None);
    history.run_through(&[Step::Release { client: 1 }]);
    assert!(matches!(history.letter(3), Some(Wake::Granted(_))), "{:?}", history.letter(3));
    history.run(&[]);
}

/// Who has not read its mail, or has lost it, is told when it asks again; who asks as if it came now waits.
#[test]
fn who_asks_again_is_told_that_a_run_covers_it() {
    for lost in [false, true] {
        let mut lab = Lab::new();
        let mut history = runs(&mut lab);
        history.run_through(&[
            long(0, false),
            long(2, false),
            long(3, false),
            Step::Release { client: 0 },
            long(2, false),
            Step::Complete { client: 2 },
        ]);
        if lost {
            history.run_through(&[Step::LoseMail { client: 3 }]);
        }
        history.run_through(&[long(3, false)]);
        let fence = history.fence_of(2);
        assert_eq!(history.last_answer, Some(Attempt::Covered { fence }));
        history.run_through(&[long(0, false), long(3, false)]);
        assert!(matches!(history.last_answer, Some(Attempt::Busy { .. })), "{:?}", history.last_answer);
        history.run(&[]);
    }
}

/// The end of a run that is said again says the same, whoever came since; that of one whose lock was lost does not count.
#[test]
fn the_end_of_a_run_is_repeated_and_a_former_holder_does_not_say_it() {
    let mut lab = Lab::new();
    let mut history = runs(&mut lab);
    history.run_through(&[long(2, false), Step::Complete { client: 2 }, long(0, false)]);
    let complete = |history: &History<'_>, client: usize| {
        let (token, fence) = (&history.tokens[client], history.fence_of(client));
        history.lab.store.complete(&Hold::of(&history.lock, token), fence).unwrap()
    };
    assert_eq!(complete(&history, 2), Standing::Ours, "said again");
    history.run_through(&[
        Step::Release { client: 0 },
        wants(3, false),
        Step::Pass { us: SECOND },
        wants(0, false),
        long(2, false),
    ]);
    assert_eq!(complete(&history, 3), Standing::Lost(Loss::Superseded), "its lease had run out");
    assert_eq!(history.letter(2), None);
    history.run_through(&[Step::Release { client: 0 }, long(2, false), Step::Complete { client: 2 }]);
    assert_eq!(complete(&history, 3), Standing::Ours, "a later run is complete");
    history.run(&[]);
}

/// Ranks and tokens go on when all of the record but the newest run is lost, and the clock is set back besides.
#[test]
fn a_run_is_not_taken_for_a_later_one_when_the_record_is_lost() {
    let mut lab = Lab::new();
    let mut history = runs(&mut lab);
    history.run_through(&[
        long(2, false),
        Step::Complete { client: 2 },
        Step::Evict(Part::Record),
        Step::SetBack { us: 3600 * SECOND },
        long(0, false),
        long(3, false),
    ]);
    let run = history.fence_of(2);
    assert!(matches!(history.last_answer, Some(Attempt::Busy { place, .. }) if place > run));
    history.run_through(&[Step::Release { client: 0 }, long(3, false)]);
    assert!(held(&history.last_answer.clone().unwrap()));
    assert!(history.fence_of(3) > run);
    history.run(&[]);
}

/// Those who find a dead holder are the first of a queue: who sleeps for longer than they do is told to ask again.
#[test]
fn who_sleeps_for_long_and_comes_among_the_first_is_called_up() {
    let mut lab = Lab::new();
    let mut history = History::new(&mut lab);
    history.run_through(&[
        long(0, false),
        crowd(200, false),
        wants(1, false),
        Step::Pass { us: 2 * SECOND },
        wants(2, false),
    ]);
    let Some(Attempt::Busy { again, .. }) = history.last_answer else { panic!("{:?}", history.last_answer) };
    assert!(again > Duration::from_secs(2), "{again:?}");
    history.run_through(&[Step::Release { client: 0 }]);
    let letter = |client: usize| history.reference.mail(history.tokens[client].as_bytes());
    assert!(matches!(letter(1), Some(Wake::Granted(_))), "its turn has come: {:?}", letter(1));
    assert_eq!(letter(2), Some(Wake::Retry), "it is called up");
    history.run_through(&[Step::ReadMail { client: 1 }, Step::ReadMail { client: 2 }]);
    history.run(&[]);
}

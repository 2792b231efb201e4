//! A lock that clients of two versions want, on a real server whose clock is set: what each of them does when, in order,
//! without a pause.

use redis::{Connection, Value, cmd};

use crate::support::RedisServer;
use crate::version::{KEY, Version};

const BEGINNING: u64 = 1_780_000_000_000_000;
/// What `common.lua` says of them, in us: how often the first waiters are heard of, when who is not is dead, and how long
/// a lock is handed over for.
pub(crate) const BEAT: u64 = 1_000_000;
pub(crate) const DEAD: u64 = 1_800_000;
const GRANT: u64 = 2_200_000;
/// When the lease that one has by mail is made a full one, in us.
const CONFIRMS: u64 = 50_000;
const RETAIN_MS: u64 = 60_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Exclusive,
    Shared,
    /// Exclusively, for a run; of a version that has none: exclusively.
    Run,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It renews, and gives the lock back.
    Lives,
    /// It gives it back, whether its lease is over or not.
    NeverRenews,
    /// After so many ms of waiting, if it waits for so long.
    Dies(u64),
    /// With the lock.
    DiesHolding,
    /// After so many ms of waiting.
    GivesUp(u64),
}

/// One client, that comes once. All in ms.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visit {
    pub(crate) old: bool,
    pub(crate) kind: Kind,
    pub(crate) comes: u64,
    pub(crate) holds: u64,
    pub(crate) lease: u64,
    pub(crate) fate: Fate,
    /// Instead of giving it back it makes of a shared lock an exclusive one, or the other way round, for as long again.
    pub(crate) converts: bool,
}

/// An administrator's break.
#[derive(Clone, Debug)]
pub(crate) struct Break {
    pub(crate) old: bool,
    pub(crate) at: u64,
    /// Of the holder who was seen, by the versions that know that.
    pub(crate) seen: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Coming,
    Waiting { asks: u64 },
    Holding { until: u64, releases: u64, renews: u64 },
    Gone,
}

struct Client {
    visit: Visit,
    token: String,
    place: u64,
    stage: Stage,
    dead: bool,
    /// Which event it was; who has a smaller one came before.
    came: u64,
    came_us: u64,
    heard_us: u64,
    /// It is to be heard of less often than the first ones.
    far: bool,
    fence: u64,
    broken: bool,
    superseded: bool,
    served: bool,
}

impl Client {
    fn holds(&self, now: u64) -> bool {
        matches!(self.stage, Stage::Holding { until, .. } if until > now)
    }

    fn waits(&self) -> bool {
        !self.dead && matches!(self.stage, Stage::Waiting { .. })
    }
}

/// What is known not to hold between two versions; docs/upgrading.md says it to users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// The old one takes no notice of who waits for a run: such a waiter comes again, within its beat.
    pub(crate) drops_runs: bool,
    /// The old one knows nothing of waiters beyond the first sixteen, who are heard of less often: they come again, too.
    pub(crate) drops_far: bool,
    /// The old one believes for so much longer, in us, that a waiter of the new one lives.
    pub(crate) believes: u64,
}

pub(crate) struct History<'a> {
    server: &'a RedisServer,
    redis: &'a mut Connection,
    old: &'a Version,
    new: &'a Version,
    pub(crate) limits: Limits,
    clients: Vec<Client>,
    breaks: Vec<Break>,
    now: u64,
    events: u64,
    newest_fence: u64,
    /// By fencing token: which event it was given out by.
    granted: Vec<(u64, u64)>,
    free_since: Option<u64>,
    /// The longest time, in us, in which nobody held the lock and somebody waited for it.
    pub(crate) longest_free: u64,
    log: Vec<String>,
}

impl<'a> History<'a> {
    pub(crate) fn new(
        server: &'a RedisServer,
        redis: &'a mut Connection,
        (old, new, limits): (&'a Version, &'a Version, Limits),
        visits: &[Visit],
        breaks: &[Break],
    ) -> Self {
        let () = cmd("FLUSHALL").query(redis).unwrap();
        let clients = visits.iter().enumerate().map(|(i, visit)| Client {
            visit: *visit,
            token: format!("{i:032x}"),
            place: 0,
            stage: Stage::Coming,
            dead: false,
            came: 0,
            came_us: 0,
            heard_us: 0,
            far: false,
            fence: 0,
            broken: false,
            superseded: false,
            served: false,
        });
        let (clients, breaks) = (clients.collect(), breaks.to_vec());
        let (now, log, granted) = (BEGINNING, Vec::new(), Vec::new());
        let (events, newest_fence, free_since, longest_free) = (0, 0, None, 0);
        let mut all = Self {
            server,
            redis,
            old,
            new,
            limits,
            clients,
            breaks,
            now,
            events,
            newest_fence,
            granted,
            free_since,
            longest_free,
            log,
        };
        all.at(BEGINNING);
        all
    }

    fn at(&mut self, us: u64) {
        self.now = us.max(self.now + 1);
        self.server.set_clock(self.now);
    }

    #[track_caller]
    fn check(&self, holds: bool, what: &str) {
        assert!(holds, "{what}, {} us after the beginning:\n{}", self.now - BEGINNING, self.log.join("\n"));
    }

    fn note(&mut self, what: &str) {
        self.log.push(format!("{:>9} {what}", self.now - BEGINNING));
    }

    fn ask(&mut self, old: bool, step: &str, client: Option<usize>, besides: &[(&str, String)]) -> Value {
        let version = if old { self.old } else { self.new };
        let mut said = vec![("many", "100".to_owned())];
        if let Some(c) = client.map(|i| &self.clients[i]) {
            let mode = match c.visit.kind {
                Kind::Shared => "S",
                Kind::Run if version.has_runs() => "O",
                Kind::Run | Kind::Exclusive => "X",
            };
            said.extend([
                ("token", c.token.clone()),
                ("mode", mode.to_owned()),
                ("lease", c.visit.lease.to_string()),
                ("place", c.place.to_string()),
                ("identity", r#"{"n":"node","p":1}"#.to_owned()),
                ("keep", (c.visit.lease + RETAIN_MS).to_string()),
                ("slack", "800".to_owned()),
                ("fence", c.fence.to_string()),
            ]);
        }
        said.extend(besides.iter().cloned());
        let value = version.ask(step, &said, self.redis);
        let who = client.map_or("administrator".to_owned(), |i| format!("{i} {:?}", self.clients[i].visit));
        self.note(&format!("{}: {step} of {who}: {value:?}", version.name));
        value
    }

    /// Whose turn is promised, while both versions are about.
    fn counts(&self, client: &Client) -> bool {
        let limits = self.limits;
        let unknown = limits.drops_runs && client.visit.kind == Kind::Run || limits.drops_far && client.far;
        client.visit.old || !unknown
    }

    /// When something happens to a client next.
    fn next(client: &Client) -> Option<u64> {
        let ms = |ms: u64| ms * 1000;
        match client.stage {
            Stage::Gone => None,
            Stage::Coming => Some(BEGINNING + ms(client.visit.comes)),
            Stage::Holding { until, .. } if client.dead => Some(until),
            Stage::Holding { releases, renews, .. } => Some(releases.min(renews)),
            Stage::Waiting { .. } if client.dead => None,
            Stage::Waiting { asks } => Some(match client.visit.fate {
                Fate::Dies(after) | Fate::GivesUp(after) => asks.min(client.came_us + ms(after)),
                _ => asks,
            }),
        }
    }

    /// Lives through it all.
    pub(crate) fn run(mut self) -> Self {
        self.live_until(u64::MAX);
        let waiting = self.clients.iter().any(|c| !c.dead && c.stage != Stage::Gone);
        self.check(!waiting, "somebody has not been served");
        self.leaves_nothing();
        self
    }

    /// What happens in so many us after the beginning.
    pub(crate) fn live_until(&mut self, us: u64) {
        loop {
            let first_break = self.breaks.iter().map(|b| BEGINNING + b.at * 1000).min();
            let next = (0..self.clients.len()).filter_map(|i| Some((Self::next(&self.clients[i])?, i))).min();
            let Some((at, who)) = next.filter(|(at, _)| at - BEGINNING <= us) else { break };
            self.events += 1;
            self.check(self.events < 20_000, "it does not come to an end");
            if let Some(first) = first_break.filter(|first| *first <= at) {
                self.at(first);
                self.breaks_it(first);
            } else {
                self.at(at);
                self.goes_on(who);
            }
            self.read_mail(None);
            self.look();
        }
        if us < u64::MAX {
            self.at(BEGINNING + us);
        }
    }

    fn breaks_it(&mut self, first: u64) {
        let at = self.breaks.iter().position(|b| BEGINNING + b.at * 1000 == first).unwrap();
        let Break { old, seen, .. } = self.breaks.remove(at);
        let now = self.now;
        let held = self.clients.iter().any(|c| c.holds(now) && !c.broken);
        let version = if old { self.old } else { self.new };
        let step = if seen && version.knows("take") { "take" } else { "break" };
        let answer = self.ask(old, step, None, &[("fence", self.newest_fence.to_string())]);
        // 4: nobody did, and who did before was broken.
        let said = matches!(answer, Value::Int(said) if said == i64::from(held) || !held && said == 4);
        self.check(said, "a break says something else than what it did");
        for client in &mut self.clients {
            client.broken |= matches!(client.stage, Stage::Holding { .. });
            if client.dead && client.broken {
                client.stage = Stage::Gone;
            }
        }
    }

    fn goes_on(&mut self, i: usize) {
        let client = &self.clients[i];
        let (fate, waited) = (client.visit.fate, (self.now - client.came_us.min(self.now)) / 1000);
        match client.stage {
            Stage::Gone => {}
            Stage::Coming => {
                self.clients[i].came = self.events;
                self.clients[i].came_us = self.now;
                self.asks(i, "Q");
            }
            Stage::Waiting { .. } => match fate {
                Fate::Dies(after) if waited >= after => self.clients[i].dead = true,
                Fate::GivesUp(after) if waited >= after => self.asks(i, "G"),
                _ => self.asks(i, "Q"),
            },
            Stage::Holding { .. } if client.dead => self.clients[i].stage = Stage::Gone,
            Stage::Holding { releases, .. } if releases <= self.now => {
                if client.visit.converts && client.holds(self.now) && !client.broken {
                    self.converts(i);
                } else {
                    self.releases(i);
                }
            }
            Stage::Holding { until, releases, .. } => {
                if until > self.now && !client.broken {
                    self.asks_once_more(i);
                }
                let client = &self.clients[i];
                let answer = self.ask(client.visit.old, "renew", Some(i), &[]);
                let client = &self.clients[i];
                let ours = until > self.now && !client.broken;
                self.check(!ours || answer == Value::Int(1), "a lease that is not over is not renewed");
                self.check(!client.broken || answer != Value::Int(1), "what was broken is renewed");
                let lease = client.visit.lease * 1000;
                let goes_on = ours && client.visit.fate != Fate::NeverRenews;
                let renews = if goes_on { self.now + lease / 3 } else { u64::MAX };
                let until = if ours { self.now + lease } else { 0 };
                self.clients[i].stage = Stage::Holding { until, releases, renews };
            }
        }
    }

    /// As if the answer had been lost: a holder is told the same.
    fn asks_once_more(&mut self, i: usize) {
        let client = &self.clients[i];
        let (old, fence) = (client.visit.old, client.fence.cast_signed());
        let answer = self.ask(old, "acquire", Some(i), &[("busy", "Q".to_owned())]);
        self.check(answer == Value::Int(fence), "who holds it is given another fencing token");
    }

    /// What it holds becomes the other mode: down at once, up by leaving the readers and waiting its turn.
    fn converts(&mut self, i: usize) {
        let client = &mut self.clients[i];
        client.visit.converts = false;
        if client.visit.kind == Kind::Shared {
            client.visit.kind = Kind::Exclusive;
            (client.came, client.came_us) = (self.events, self.now);
        } else {
            client.visit.kind = Kind::Shared;
        }
        client.place = 0;
        self.asks_for(i, "convert", "Q");
    }

    fn asks(&mut self, i: usize, busy: &str) {
        self.asks_for(i, "acquire", busy);
    }

    fn asks_for(&mut self, i: usize, step: &str, busy: &str) {
        let old = self.clients[i].visit.old;
        let answer = self.ask(old, step, Some(i), &[("busy", busy.to_owned())]);
        let (now, lease) = (self.now, self.clients[i].visit.lease * 1000);
        self.clients[i].heard_us = now;
        let items = match answer {
            Value::Int(fence) => return self.read_mail(Some((fence.cast_unsigned(), lease, lease / 3, i))),
            Value::Array(items) => items,
            other => panic!("{other:?}"),
        };
        match items.as_slice() {
            [Value::Int(run), Value::BulkString(_)] => self.is_covered(i, run.cast_unsigned()),
            [Value::Int(place), Value::Int(left), Value::BulkString(_), more @ ..] => {
                self.clients[i].place = place.cast_unsigned();
                let again = match more.first() {
                    Some(Value::Int(ms)) => ms.cast_unsigned() * 1000,
                    _ => BEAT,
                };
                self.clients[i].far = again > BEAT;
                let left = u64::try_from(*left + 5).unwrap_or(0) * 1000;
                let asks = now + if again <= BEAT { again.min(left) } else { again };
                self.clients[i].stage = if busy == "G" { Stage::Gone } else { Stage::Waiting { asks } };
            }
            other => panic!("{other:?}"),
        }
    }

    fn releases(&mut self, i: usize) {
        let client = &self.clients[i];
        let (old, own) = (client.visit.old, client.holds(self.now) && !client.broken);
        let version = if old { self.old } else { self.new };
        let runs = client.visit.kind == Kind::Run && version.has_runs();
        let answer = self.ask(old, if runs { "complete" } else { "release" }, Some(i), &[]);
        let Value::Int(said) = answer else { panic!("{answer:?}") };
        let client = &self.clients[i];
        let gone = client.broken || client.superseded;
        self.check(!own || said % 10 == 1, "a lock is not given back to whom it belongs");
        self.check(!gone || said % 10 != 1, "who has lost a lock is told that it was its own");
        self.clients[i].stage = Stage::Gone;
        self.clients[i].served = true;
        self.read_mail(None);
        let now = self.now;
        let held = self.clients.iter().any(|c| c.holds(now) && !c.broken);
        let someone = self.clients.iter().any(|c| c.waits() && self.counts(c) && self.in_time(c));
        self.check(!own || held || !someone, "a release wakes nobody, though somebody waits");
        let began =
            self.granted.iter().find(|(fence, _)| *fence == self.clients[i].fence).map(|(_, event)| *event);
        let left =
            self.clients.iter().any(|c| c.waits() && c.visit.kind == Kind::Run && Some(c.came) < began);
        let counts = runs && said % 10 == 1 && !self.limits.drops_runs;
        self.check(!counts || !left, "a run that is complete does not cover who came before it began");
    }

    /// It was heard of within its beat.
    fn in_time(&self, client: &Client) -> bool {
        self.now <= client.heard_us + BEAT
    }

    /// Everybody looks into their mailbox: who is let in by one step, one of them perhaps by its `answer`, is so in the
    /// order of the fencing tokens. Of each: the fencing token, the lease, when to renew, and who.
    fn read_mail(&mut self, answer: Option<(u64, u64, u64, usize)>) {
        let mut letters = Vec::from_iter(answer);
        for i in 0..self.clients.len() {
            let client = &self.clients[i];
            let key = format!("{KEY}:m:{}", client.token);
            if !matches!(client.stage, Stage::Waiting { .. }) || answer.is_some_and(|(_, _, _, me)| me == i) {
                continue;
            }
            let left: i64 = cmd("PTTL").arg(&key).query(self.redis).unwrap();
            let letter: Option<String> = cmd("LPOP").arg(key).query(self.redis).unwrap();
            if let Some(letter) = letter {
                let (fence, lease) = letter.split_once(' ').unwrap();
                self.check(left >= lease.parse().unwrap(), "a letter is gone before what it gives is over");
                letters.push((fence.parse().unwrap(), lease.parse::<u64>().unwrap() * 1000, CONFIRMS, i));
            }
        }
        letters.sort_unstable();
        // Whoever is let in by the same step waits no more.
        let stages: Vec<Stage> = letters.iter().map(|(_, _, _, i)| self.clients[*i].stage).collect();
        for (_, lease, _, i) in &letters {
            if *lease > 0 {
                self.clients[*i].stage = Stage::Gone;
            }
        }
        for ((fence, lease, renews, i), stage) in letters.into_iter().zip(stages) {
            self.clients[i].stage = stage;
            match (fence, lease) {
                (0, 0) if self.clients[i].dead => {}
                (0, 0) => self.clients[i].stage = Stage::Waiting { asks: self.now },
                (run, 0) => self.is_covered(i, run),
                (fence, lease) => {
                    let by_mail = answer.is_none_or(|(_, _, _, me)| me != i);
                    self.check(
                        !by_mail || lease == GRANT,
                        "a hand-over is for another time than what is agreed",
                    );
                    let dead_for = self.now - self.clients[i].heard_us;
                    let more = if self.clients[i].visit.old { 0 } else { self.limits.believes };
                    self.check(dead_for <= DEAD + more, "who is dead was let in");
                    self.note(&format!("{i} is let in: {fence}"));
                    self.let_in(i, fence, lease, renews);
                }
            }
        }
    }

    fn let_in(&mut self, i: usize, fence: u64, lease: u64, renews: u64) {
        let (now, shared) = (self.now, self.clients[i].visit.kind == Kind::Shared);
        let others = self.clients.iter().enumerate().filter(|(j, _)| *j != i);
        let beside = |c: &Client| c.holds(now) && !c.broken && !(shared && c.visit.kind == Kind::Shared);
        let two = others.clone().any(|(_, c)| beside(c));
        let came = self.clients[i].came;
        let overtaken = others.clone().any(|(_, c)| {
            c.waits() && self.counts(c) && self.counts(&self.clients[i]) && c.came < came && self.in_time(c)
        });
        self.check(!two, "two hold it");
        self.check(fence > self.newest_fence, "a fencing token does not grow");
        self.check(!overtaken, "somebody who came before waits still");
        self.newest_fence = fence;
        self.granted.push((fence, self.events));
        for (j, other) in self.clients.iter_mut().enumerate() {
            if j != i && !(shared && other.visit.kind == Kind::Shared) {
                other.superseded |= matches!(other.stage, Stage::Holding { .. });
            }
        }
        let client = &mut self.clients[i];
        client.fence = fence;
        client.dead |= client.visit.fate == Fate::DiesHolding;
        let renews = if client.visit.fate == Fate::NeverRenews && renews != CONFIRMS {
            u64::MAX
        } else {
            now + renews
        };
        let releases = now + client.visit.holds * 1000;
        client.stage = Stage::Holding { until: now + lease, releases, renews };
    }

    fn is_covered(&mut self, i: usize, run: u64) {
        let granted = self.granted.iter().find(|(fence, _)| *fence == run).map(|(_, event)| *event);
        let client = &self.clients[i];
        let sound = client.visit.kind == Kind::Run && granted.is_some_and(|event| client.came < event);
        self.check(sound, "a run covers who came after it began");
        self.note(&format!("{i} is covered by {run}"));
        self.clients[i].stage = Stage::Gone;
        self.clients[i].served = true;
    }

    /// For how long nobody has held the lock although somebody waits.
    fn look(&mut self) {
        let now = self.now;
        let held = self.clients.iter().any(|c| c.holds(now) && !c.broken);
        if held || !self.clients.iter().any(Client::waits) {
            self.free_since = None;
        } else {
            let since = *self.free_since.get_or_insert(now);
            self.longest_free = self.longest_free.max(now - since);
        }
    }

    /// In how many of its holders' hands it has been.
    pub(crate) fn served(&self) -> usize {
        self.clients.iter().filter(|c| c.served).count()
    }

    /// Every key expires by itself, and each version can tell what is there.
    fn leaves_nothing(&mut self) {
        self.ask(true, "inspect", None, &[]);
        self.ask(false, "inspect", None, &[]);
        let keys: Vec<String> = cmd("KEYS").arg("*").query(self.redis).unwrap();
        for key in keys {
            let left: i64 = cmd("PTTL").arg(&key).query(self.redis).unwrap();
            self.check(left >= 0, &format!("{key} stays for ever"));
        }
    }
}

//! The locks of a server: a report of one, and of those that are held, found among all keys of its database.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;

use super::RedisStore;
use super::reply::{self, NotALock};
use super::script::{Call, INSPECT};
use crate::clock::Instant;
use crate::error::Result;
use crate::key::{LockName, encode_into};
use crate::report::{LockReport, TOLD_OF_EACH};
use crate::store::first::First;
use crate::wire::{Fault, Loan, Pool, Purpose};

/// Locks inspected in one round trip. The server turns to others after each 16 KiB of commands that it has read, which
/// are about a hundred of these.
const AT_ONCE: usize = 1000;

/// How many keys a step of a `SCAN` goes through, for which it stands still: 0.6 to 0.9 us for each.
///
/// A near server is asked for few: it is back at its work within a millisecond. Of one that is far away that would take
/// ages, at one round trip each (a million keys, 50 ms away: 50 s); so a step may take it a fifth of that way, which leaves
/// the server to others for five sixths of the time.
struct Stride {
    keys: usize,
    /// The shortest round trip that was seen.
    way: Option<Duration>,
}

impl Stride {
    const LEAST: usize = 1000;
    const MOST: usize = 16_000;
    /// So much longer than a step is the way there and back.
    const SHARE: u32 = 5;

    fn new() -> Self {
        Self { keys: Self::LEAST, way: None }
    }

    /// A round trip took so long in which the server had nothing to do.
    fn learn_way(&mut self, took: Duration) {
        self.way = Some(self.way.map_or(took, |way| way.min(took)));
    }

    /// Chooses the next step, after one that took so long, with the way.
    fn next(&mut self, took: Duration) {
        self.learn_way(took);
        let way = self.way.unwrap_or(took);
        let (own, allowed) = (took.saturating_sub(way), way / Self::SHARE);
        if own > allowed {
            self.keys = (self.keys / 2).max(Self::LEAST);
        } else if own * 2 <= allowed {
            self.keys = (self.keys * 2).min(Self::MOST);
        }
    }

    /// One step from `cursor` through the keys that match.
    fn step(
        &mut self,
        connection: &mut Loan<'_>,
        cursor: &[u8],
        pattern: &str,
    ) -> std::result::Result<Value, Fault> {
        if self.way.is_none() && cursor != START {
            // TIME, because who may lock may ask for it. Whose keys are few is asked once, and not this.
            let began = Instant::now();
            connection.call(&[b"TIME"])?;
            self.learn_way(Instant::now().since(began));
        }
        let (began, count) = (Instant::now(), self.keys.to_string());
        let scan: [&[u8]; 8] =
            [b"SCAN", cursor, b"MATCH", pattern.as_bytes(), b"COUNT", count.as_bytes(), b"TYPE", b"string"];
        let reply = connection.call(&scan)?;
        if cursor != START {
            self.next(Instant::now().since(began));
        }
        Ok(reply)
    }
}

/// The cursor from which a `SCAN` starts, and which it returns at the end.
const START: &[u8] = b"0";

impl RedisStore {
    /// Shows the held locks on one server to `first`. All keys of the database are gone
    /// through, because they come in no order.
    pub(super) fn list_of(&self, pool: &Arc<Pool>, prefix: &[u8], first: &mut First) -> Result<()> {
        let start = format!("{}{{", self.prefix);
        // Neither the prefix nor an encoded name contains a glob character.
        let mut pattern = start.clone();
        encode_into(&mut pattern, prefix);
        pattern.push_str("*}");
        let (mut stride, mut cursor, mut asked) = (Stride::new(), START.to_vec(), false);
        loop {
            let mut connection = pool.get(Purpose::Command)?;
            let step = stride.step(&mut connection, &cursor, &pattern);
            drop(connection);
            let reply = step.map_err(|fault| pool.explain(fault))?;
            let Value::Array(parts) = &reply else {
                return Err(pool.nonsense("SCAN", &reply));
            };
            let [Value::BulkString(next), Value::Array(keys)] = parts.as_slice() else {
                return Err(pool.nonsense("SCAN", &reply));
            };
            let mut names = Vec::new();
            for key in keys {
                if let Value::BulkString(key) = key
                    && let Some(rest) = key.strip_prefix(start.as_bytes())
                    && let Some(name) = rest.strip_suffix(b"}").and_then(LockName::decode)
                    && first.wants(&name)
                {
                    names.push(name);
                }
            }
            if next == START && !asked && names.is_empty() {
                // Without locks nothing has shown yet that they could be looked at.
                names.extend(self.trial_name_on(pool));
            }
            asked |= !names.is_empty();
            for names in names.chunks(AT_ONCE) {
                self.inspect_all(pool, names)?.into_iter().for_each(|report| first.add(report));
            }
            if next == START {
                return Ok(());
            }
            cursor.clone_from(next);
        }
    }

    /// A report that tells of so many holders and waiters at most.
    pub(super) fn inspect(&self, name: &LockName, most: usize) -> Result<Option<LockReport>> {
        let ran = self.run(Purpose::Command, &INSPECT, name, &[most.to_string().as_bytes()])?;
        reply::report(name, &ran.value).map_err(|NotALock| {
            let fault = Fault::Refused("NOTALOCK".into(), "the record of this lock cannot be read".into());
            self.explain(&ran.pool, fault, &self.keys(name))
        })
    }

    /// Inspects many locks of one server in one round trip.
    fn inspect_all(&self, pool: &Pool, names: &[LockName]) -> Result<Vec<LockReport>> {
        let mut connection = pool.get(Purpose::Command)?;
        let explain = |fault| pool.explain(fault);
        let most = TOLD_OF_EACH.to_string();
        let argv = [most.as_bytes()];
        connection.begin();
        for name in names {
            connection.add(Call::new(&INSPECT, &self.keys(name), &argv).words());
        }
        connection.send().map_err(explain)?;
        let mut reports = Vec::new();
        let mut again = Vec::new();
        for name in names {
            match connection.receive() {
                Ok(value) => reports.extend(reply::report(name, &value).ok().flatten()),
                // That is no lock, whatever stands there.
                Err(fault) if fault.is_foreign_key() => {}
                // The script is not known there, or the lock has moved to another server.
                Err(Fault::Refused(..)) => again.push(name),
                Err(fault) => {
                    // Replies to the rest of the batch are still on their way.
                    connection.poison();
                    return Err(explain(fault));
                }
            }
        }
        for name in again {
            match Call::new(&INSPECT, &self.keys(name), &argv).run(&mut connection) {
                Ok(value) => reports.extend(reply::report(name, &value).ok().flatten()),
                Err(fault) if fault.is_foreign_key() => {}
                Err(_) => reports.extend(self.inspect(name, TOLD_OF_EACH)?),
            }
        }
        Ok(reports)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that is so far away and takes so long for a thousand keys: in how many steps it is through with `keys`,
    /// and the longest time that one takes it.
    fn walk(way: Duration, thousand: Duration, keys: usize) -> (usize, Duration) {
        let mut stride = Stride::new();
        stride.learn_way(way);
        let (mut left, mut steps, mut longest) = (keys, 0, Duration::ZERO);
        while left > 0 {
            let own = thousand * u32::try_from(stride.keys).unwrap() / 1000;
            longest = longest.max(own);
            left = left.saturating_sub(stride.keys);
            steps += 1;
            stride.next(way + own);
        }
        (steps, longest)
    }

    const MILLION: usize = 1_000_000;
    const US: Duration = Duration::from_micros(1);

    #[test]
    fn a_near_server_stands_still_no_longer_than_for_the_shortest_step() {
        for way in [30 * US, 200 * US, 1000 * US] {
            assert_eq!(walk(way, 800 * US, MILLION), (1000, 800 * US), "{way:?}");
        }
    }

    #[test]
    fn a_far_server_is_asked_seldom_and_has_most_of_its_time_for_others() {
        for (way, steps) in [(10_000 * US, 501), (50_000 * US, 128), (200_000 * US, 66)] {
            let (taken, longest) = walk(way, 800 * US, MILLION);
            assert!(taken <= steps, "{way:?}: {taken}");
            assert!(longest <= way / Stride::SHARE, "{way:?}: {longest:?}");
        }
    }

    #[test]
    fn a_server_that_gets_slow_is_asked_for_less_and_for_more_when_that_has_passed() {
        let mut stride = Stride::new();
        stride.learn_way(50_000 * US);
        for _ in 0..10 {
            stride.next(50_000 * US);
        }
        assert_eq!(stride.keys, Stride::MOST);
        stride.next(80_000 * US);
        assert_eq!(stride.keys, Stride::MOST / 2);
        for _ in 0..10 {
            stride.next(80_000 * US);
        }
        assert_eq!(stride.keys, Stride::LEAST);
        stride.next(50_000 * US);
        assert_eq!(stride.keys, 2 * Stride::LEAST);
    }

    #[test]
    fn a_first_round_trip_that_was_delayed_is_forgotten_with_the_next() {
        let mut stride = Stride::new();
        stride.learn_way(500_000 * US);
        stride.next(900 * US);
        stride.next(1700 * US);
        assert_eq!(stride.keys, Stride::LEAST, "it is near after all");
    }
}

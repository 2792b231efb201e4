//! Chores of the background, many in one round trip.
//!
//! They are sent pipelined on one connection. What one of them needs beyond that (another server, an explanation) it
//! gets as a command of its own. A connection that breaks before all are answered is followed by one of them as a
//! command of its own, which finds out what has become of the server, for all.

use std::sync::Arc;

use redis::Value;

use super::RedisStore;
use super::grace::Saying;
use super::script::{Call, Keys, RELEASE, RENEW, Script};
use crate::clock::Instant;
use crate::error::{Error, Result};
use crate::store::{Chore, Standing, Store};
use crate::wire::{Connection, Fault, Pool, Purpose};

/// A chore that is part of a batch: its number, and what is sent for it.
struct Item<'a> {
    number: usize,
    chore: Chore<'a>,
    keys: Keys,
    saying: Saying<'a>,
}

impl<'a> Item<'a> {
    fn script(&self) -> &'static Script {
        match self.chore {
            Chore::Renew { .. } => &RENEW,
            Chore::Release { .. } => &RELEASE,
        }
    }

    fn token(&self) -> &'a [u8] {
        self.chore.hold().token.as_bytes()
    }

    fn call(&self) -> Call<'_> {
        Call::new(self.script(), &self.keys, self.saying.words().as_slice())
    }
}

/// The answers to a batch as far as they came, and how many replicas have it all.
struct Answers {
    scripts: Vec<std::result::Result<Value, Fault>>,
    replicas: Option<i64>,
    /// All of them came.
    whole: bool,
}

impl RedisStore {
    /// [`Store::tend`](crate::store::Store::tend).
    pub(super) fn tend_many(&self, chores: &[Chore<'_>], told: &mut dyn FnMut(usize, Result<Standing>)) {
        let mut open: Vec<Item<'_>> = chores
            .iter()
            .enumerate()
            .map(|(number, chore)| {
                let saying = match chore {
                    Chore::Renew { hold, ttl } => Saying::renewal(hold, *ttl, None),
                    Chore::Release { hold } => Saying::release(hold),
                };
                Item { number, chore: *chore, keys: self.keys(chore.hold().name), saying }
            })
            .collect();
        // What one of them finds out alone is good for the others, which are sent together once more: there is another
        // connection, another primary, the script is known.
        for _ in 0..2 {
            if open.len() > 1 {
                open = self.send_together(open, told);
            }
            if open.is_empty() {
                return;
            }
            let first = open.remove(0);
            let outcome = self.tend_one(first.chore);
            if let Err(error @ (Error::Connection { .. } | Error::FailingOver { .. })) = &outcome {
                for item in &open {
                    told(item.number, Err(error.clone()));
                }
                open.clear();
            }
            told(first.number, outcome);
        }
    }

    /// Sends all that are on the first one's server, and tells what was answered. Those remain that were not answered, or
    /// refused; those of other servers have to go alone.
    fn send_together<'a>(
        &self,
        mut items: Vec<Item<'a>>,
        told: &mut dyn FnMut(usize, Result<Standing>),
    ) -> Vec<Item<'a>> {
        let server_of = |item: &Item<'_>| self.route.server_of(item.keys.lock.as_bytes());
        let Some(Ok(pool)) = items.first().map(server_of) else { return items };
        if self.route.moves_slots() {
            items.retain(|item| server_of(item).is_ok_and(|other| Arc::ptr_eq(&other, &pool)));
        }
        let answers = match pool.get(Purpose::Upkeep) {
            Ok(mut connection) => self.exchange(&items, &mut connection, &pool),
            Err(_) => return items,
        };
        let short = match (answers.replicas, &self.replicas) {
            (Some(count), Some(replicas)) => replicas.too_few(count),
            _ => None,
        };
        let mut unacknowledged = None;
        let mut answered = answers.scripts.into_iter();
        items.retain(|item| {
            let answer = match answered.next() {
                Some(Ok(answer)) => answer,
                Some(Err(_)) => return true,
                None => {
                    self.left_unanswered(item.script(), item.token(), &pool);
                    return true;
                }
            };
            let outcome = match item.chore {
                Chore::Release { hold } => self.settled(hold.token, &answer, &pool),
                // Whether the replicas have it is not known.
                Chore::Renew { .. } if self.replicas.is_some() && !answers.whole => return true,
                Chore::Renew { hold, .. } => match (Self::renewed(&hold, &answer, &pool), &short) {
                    (Ok(Standing::Ours), Some(short)) => {
                        let error = unacknowledged
                            .get_or_insert_with(|| self.unacknowledged(hold.name, &pool, short.clone()));
                        Err(error.clone())
                    }
                    (standing, _) => standing,
                },
            };
            told(item.number, outcome);
            false
        });
        if !answers.whole {
            // Others of its kind may be broken, too.
            pool.clear();
        }
        items
    }

    /// Sends the batch, and reads what comes within the command time-out.
    fn exchange(&self, items: &[Item<'_>], connection: &mut Connection, pool: &Pool) -> Answers {
        let mut answers = Answers { scripts: Vec::with_capacity(items.len()), replicas: None, whole: false };
        let deadline = Instant::now() + pool.command_timeout();
        connection.begin();
        for item in items {
            connection.add(item.call().words());
        }
        if let Some(replicas) = &self.replicas {
            connection.add(&replicas.question());
        }
        if connection.send().is_err() {
            return answers;
        }
        for _ in items {
            match connection.receive() {
                Err(Fault::Broken(_)) => {
                    // Replies to the rest of the batch may still be on their way.
                    connection.poison();
                    return answers;
                }
                answer => answers.scripts.push(answer),
            }
            if deadline.has_passed() && answers.scripts.len() < items.len() {
                // Each byte comes in time, and all of them together do not.
                connection.poison();
                return answers;
            }
        }
        if self.replicas.is_some() {
            let Ok(Value::Int(count)) = connection.receive() else {
                connection.poison();
                return answers;
            };
            answers.replicas = Some(count);
        }
        answers.whole = true;
        answers
    }
}

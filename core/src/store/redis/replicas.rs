//! `?wait=N`: what a server does counts when so many replicas have it, too.

use std::time::Duration;

use redis::Value;

use super::script::Call;
use crate::clock::millis;
use crate::settings::Config;
use crate::wire::{Connection, Fault};

/// The longest wait for the replicas. A waiter must be heard of in between: with the wait for its turn
/// this must stay below `DEAD` of `common.lua`.
const LIMIT: Duration = Duration::from_millis(500);

/// How many replicas, and how long they may take.
pub(crate) struct Replicas {
    number: i64,
    words: [String; 2],
}

impl Replicas {
    /// `None`: nothing is waited for.
    pub(crate) fn new(number: u32, config: &Config) -> Option<Self> {
        let limit = millis(LIMIT.min(config.command_timeout / 2)).max(1);
        (number > 0).then(|| Self { number: number.into(), words: [number.to_string(), limit.to_string()] })
    }

    /// Runs a script, and waits for the replicas in the same batch: what the script returned, and how
    /// many have it.
    pub(crate) fn run(&self, call: &mut Call, connection: &mut Connection) -> Result<(Value, i64), Fault> {
        match self.batch(call, connection) {
            Err(fault) if fault.is("NOSCRIPT") => {
                call.spell_out();
                self.batch(call, connection)
            }
            other => other,
        }
    }

    /// The command that waits for them, and tells how many have what was sent before it.
    pub(crate) fn question(&self) -> [&[u8]; 3] {
        let [number, limit] = &self.words;
        [b"WAIT", number.as_bytes(), limit.as_bytes()]
    }

    fn batch(&self, call: &Call, connection: &mut Connection) -> Result<(Value, i64), Fault> {
        connection.begin();
        connection.add(call.words());
        connection.add(&self.question());
        connection.send()?;
        let value = match connection.receive() {
            Err(broken @ Fault::Broken(_)) => return Err(broken),
            other => other,
        };
        let waited = match connection.receive() {
            Err(broken @ Fault::Broken(_)) => {
                connection.poison();
                return Err(broken);
            }
            other => other,
        };
        match (value?, waited?) {
            (value, Value::Int(count)) => Ok((value, count)),
            (_, other) => Err(Fault::Broken(format!("unexpected answer to WAIT: {other:?}"))),
        }
    }

    /// What it means that only so many have it; `None` if they are enough.
    pub(crate) fn too_few(&self, count: i64) -> Option<Fault> {
        let [number, limit] = &self.words;
        (count < self.number).then(|| {
            let text = format!(
                "only {count} of {number} replicas acknowledged it within {limit} ms (?wait={number} in \
                 cluster_lock.dsn: see that so many are connected and keep up)"
            );
            Fault::Refused("NOREPLICAS".into(), text)
        })
    }
}

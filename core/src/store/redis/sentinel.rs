//! The primary that sentinels name.
//!
//! They are asked at the first lock, and again whenever the primary fails, or refuses in a way that a
//! replica does. What they say is not enough: a sentinel may not have heard of the last fail-over, or
//! name a replica that is just being promoted. So the server itself must say that it is a primary.
//!
//! That is not enough either: a primary that was frozen, or replaced on purpose, goes on for about ten
//! seconds before the sentinels make it a replica, and knows nothing of its successor. So one
//! connection to a sentinel subscribes to the news of a switch. Nobody waits for it; before a command
//! it is looked at, without a round trip, whether something has arrived.
//!
//! When no sentinel can be asked nobody can be made the primary either, as far as can be known. So the
//! one that was it stays it, as long as it says so.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use redis::Value;

use super::inquiry::Inquiry;
use super::route::{Next, Route, Servers};
use crate::clock::Instant;
use crate::dsn::{Address, Sentinel};
use crate::error::{Error, Result};
use crate::settings::Config;
use crate::store::StoreStatus;
use crate::thread::lock;
use crate::wire::{Connection, Fault};
use crate::wire::{Pool, Purpose};

/// When no sentinel could be asked although the primary is well: how long until the next try.
const ON_ITS_OWN: Duration = Duration::from_secs(5);

/// How often the sentinels are asked when there is news before they have been understood.
const TRIES: u32 = 3;

pub(crate) struct SentinelRoute {
    label: String,
    master: String,
    sentinels: Vec<Pool>,
    /// The one that is asked first: it was right the last time.
    reliable: AtomicUsize,
    servers: Servers,
    known: Mutex<Option<Known>>,
    inquiry: Inquiry<Arc<Pool>>,
}

struct Known {
    primary: Arc<Pool>,
    until: Until,
}

/// How long that holds.
#[allow(clippy::large_enum_variant)] // there is one of it
enum Until {
    /// Until the sentinel with this number tells something on this connection.
    News(usize, Connection),
    /// No sentinel could be asked; then they are asked again.
    Moment(Instant),
}

impl SentinelRoute {
    pub(crate) fn new(dsn: &Sentinel, config: &Config) -> Self {
        // A sentinel that does not answer is to cost no more than a server that does not.
        let hasty = Config { command_timeout: config.connect_timeout, ..config.clone() };
        let sentinels: Vec<_> = dsn.sentinels.iter().map(|s| Pool::new(s.clone(), &hasty)).collect();
        // Each of many processes keeps a connection to one of them.
        let first = usize::try_from(std::process::id()).unwrap_or_default() % sentinels.len().max(1);
        Self {
            label: config.dsn.redacted(),
            master: dsn.master.clone(),
            sentinels,
            reliable: AtomicUsize::new(first),
            servers: Servers::new(dsn.primary.clone(), config),
            known: Mutex::new(None),
            inquiry: Inquiry::new(),
        }
    }

    fn known(&self) -> MutexGuard<'_, Option<Known>> {
        lock(&self.known)
    }

    /// The primary, unless there is news.
    fn primary(&self) -> Option<Arc<Pool>> {
        let known = self.known();
        let Known { primary, until } = known.as_ref()?;
        #[cfg(feature = "sabotage")]
        if super::sabotage::is("deaf") {
            return Some(Arc::clone(primary));
        }
        let good = match until {
            Until::News(_, connection) => connection.is_quiet(),
            Until::Moment(moment) => !moment.has_passed(),
        };
        good.then(|| Arc::clone(primary))
    }

    /// Who is the primary, now that `suspect` may not be it any more?
    fn instead(&self, suspect: &Arc<Pool>) -> Result<Arc<Pool>> {
        // Somebody else may have found out already.
        self.primary().filter(|pool| !Arc::ptr_eq(pool, suspect)).map_or_else(|| self.ask(), Ok)
    }

    /// Who was the primary when it was asked may answer late, having been frozen, and not be it any
    /// more: then there is news.
    fn ask(&self) -> Result<Arc<Pool>> {
        let mut found = self.ask_once()?;
        for _ in 1..TRIES {
            if self.is_known(&found) {
                break;
            }
            found = self.ask_once()?;
        }
        Ok(found)
    }

    fn is_known(&self, pool: &Arc<Pool>) -> bool {
        self.primary().is_some_and(|primary| Arc::ptr_eq(&primary, pool))
    }

    fn ask_once(&self) -> Result<Arc<Pool>> {
        let ask = || {
            let (before, news) = match self.known().take() {
                None => (None, None),
                Some(Known { primary, until: Until::Moment(_) }) => (Some(primary), None),
                Some(Known { primary, until: Until::News(i, connection) }) => {
                    (Some(primary), Some((i, connection)))
                }
            };
            let found = match (self.find(news), before) {
                (Err(Error::Connection { .. }), Some(primary)) if is_primary(&primary).is_ok() => {
                    Ok(Known { primary, until: Until::Moment(Instant::now() + ON_ITS_OWN) })
                }
                (found, _) => found,
            };
            self.servers.clear_all_but(found.as_ref().ok().map(|known| &known.primary));
            let known = found?;
            let primary = Arc::clone(&known.primary);
            *self.known() = Some(known);
            Ok(primary)
        };
        self.inquiry.answer(ask, |pool| self.is_known(pool))
    }

    /// Asks the sentinels. `news` is the connection to one of them.
    fn find(&self, mut news: Option<(usize, Connection)>) -> Result<Known> {
        let mut silent = Vec::new();
        let (mut refused, mut unusable) = (None, None);
        let mut named = Vec::new();
        let first = self.reliable.load(Ordering::Relaxed);
        for (i, sentinel) in self.sentinels.iter().enumerate().cycle().skip(first).take(self.sentinels.len())
        {
            let news = news.take_if(|(number, _)| *number == i);
            match self.named_by(sentinel, news.map(|(_, connection)| connection)) {
                Ok((address, _)) if named.contains(&address) => {}
                Ok((address, news)) => {
                    let pool = self.servers.at(&address);
                    named.push(address);
                    match is_primary(&pool) {
                        Ok(()) => {
                            self.reliable.store(i, Ordering::Relaxed);
                            return Ok(Known { primary: pool, until: Until::News(i, news) });
                        }
                        Err(error) => unusable = Some(error),
                    }
                }
                Err(Error::Connection { cause, .. }) => silent.push(format!("{}: {cause}", sentinel.label())),
                Err(error) => refused = Some(error),
            }
        }
        Err(unusable.or(refused).unwrap_or_else(|| Error::Connection {
            server: self.label.clone(),
            cause: format!("no sentinel can be asked for the primary ({})", silent.join("; ")),
        }))
    }

    /// The address that a sentinel gives, and the connection on which it will tell when that changes:
    /// `news`, if that is still good. Of both, the subscription is the first, so that nothing is missed.
    fn named_by(&self, sentinel: &Pool, news: Option<Connection>) -> Result<(Address, Connection)> {
        let explain = |fault| sentinel.explain(fault);
        let news = match news {
            Some(news) if news.is_quiet() => news,
            _ => {
                let mut news = sentinel.get(Purpose::Inquiry)?.keep();
                news.call(&[b"SUBSCRIBE", b"+switch-master"]).map_err(explain)?;
                news
            }
        };
        let question: [&[u8]; 3] = [b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", self.master.as_bytes()];
        let answer = sentinel.get(Purpose::Inquiry)?.keep().call(&question).map_err(explain)?;
        let address = match &answer {
            Value::Nil => {
                return Err(Error::Server {
                    server: sentinel.label().to_owned(),
                    cause: format!(
                        "this sentinel knows no primary named \"{}\" (check cluster_lock.dsn)",
                        self.master
                    ),
                });
            }
            Value::Array(parts) => match parts.as_slice() {
                [Value::BulkString(host), Value::BulkString(port)] => {
                    let port = std::str::from_utf8(port).ok().and_then(|port| port.parse().ok());
                    port.map(|port| Address::Tcp(String::from_utf8_lossy(host).into_owned(), port))
                }
                _ => None,
            },
            _ => None,
        };
        let address =
            address.ok_or_else(|| sentinel.nonsense("SENTINEL GET-MASTER-ADDR-BY-NAME", &answer))?;
        Ok((address, news))
    }
}

/// Whether a server says so itself. What it said earlier does not count, so this makes a new
/// connection, which stays in the pool.
fn is_primary(pool: &Pool) -> Result<()> {
    pool.clear();
    match pool.get(Purpose::Inquiry) {
        Ok(_) if pool.status().greeting.is_primary() => Ok(()),
        Ok(_) => Err(failing_over(pool, "it says that it is a replica")),
        Err(Error::Connection { cause, .. }) => Err(failing_over(pool, &cause)),
        Err(error) => Err(error),
    }
}

fn failing_over(pool: &Pool, cause: &str) -> Error {
    let server = pool.label().to_owned();
    Error::FailingOver { server, cause: format!("{cause}; the sentinels name no other primary yet") }
}

impl Route for SentinelRoute {
    fn server_of(&self, _: &[u8]) -> Result<Arc<Pool>> {
        self.primary().map_or_else(|| self.ask(), Ok)
    }

    fn servers(&self) -> Result<Vec<Arc<Pool>>> {
        self.server_of(b"").map(|pool| vec![pool])
    }

    fn gone(&self, pool: &Arc<Pool>, error: Error) -> Error {
        match (self.instead(pool), error) {
            (Ok(_), Error::Connection { cause, .. }) => failing_over(pool, &cause),
            (Err(error), _) | (Ok(_), error) => error,
        }
    }

    fn after(&self, pool: &Arc<Pool>, _: &[u8], fault: &Fault) -> Next {
        let broken = match fault {
            Fault::Broken(_) => true,
            refused if refused.is_of_no_primary() => false,
            Fault::Refused(..) => return Next::GiveUp,
        };
        pool.clear();
        match self.instead(pool) {
            // It is the primary, and means what it said.
            Ok(same) if !broken && Arc::ptr_eq(&same, pool) => Next::GiveUp,
            Ok(pool) => Next::Again(pool),
            Err(error) => Next::Fail(error),
        }
    }

    fn explain(&self, pool: &Pool, fault: Fault) -> Error {
        let passes = fault.is_of_no_primary();
        match fault {
            Fault::Broken(cause) => failing_over(pool, &cause),
            Fault::Refused(code, text) if passes => failing_over(pool, &format!("{code} {text}")),
            refused @ Fault::Refused(..) => pool.explain(refused),
        }
    }

    fn status(&self) -> StoreStatus {
        let mut pools = self.servers.all();
        if let Some(known) = self.known().as_ref() {
            // The primary speaks for all.
            pools.sort_by_key(|pool| !Arc::ptr_eq(pool, &known.primary));
        }
        StoreStatus::of("sentinel", self.label(), pools.iter().map(|pool| &**pool))
    }

    fn label(&self) -> &str {
        &self.label
    }

    fn close(&self) {
        *self.known() = None;
        self.servers.clear_all_but(None);
    }
}

//! Redis Cluster: each lock on the primary that serves its hash slot.
//!
//! The map of the slots is read at the first lock from any server that answers, and again when a server
//! says that a slot has moved, or fails.

use std::sync::{Arc, Mutex, MutexGuard};

use crc::{CRC_16_XMODEM, Crc};
use redis::Value;

use super::inquiry::Inquiry;
use super::route::{Next, Route, Servers};
use crate::dsn::{Address, Cluster};
use crate::error::{Error, Result};
use crate::settings::Config;
use crate::store::{LANES, StoreStatus};
use crate::thread::lock;
use crate::wire::Fault;
use crate::wire::{Pool, Purpose};

const SLOTS: u16 = 16384;

/// Refusals that end when the slot has arrived where it is moved to.
const ON_THE_MOVE: [&str; 4] = ["MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN"];

/// Whether a refusal ends by itself: also when a replica has taken over.
fn is_for_now(fault: &Fault) -> bool {
    fault.is_of_no_primary() || ON_THE_MOVE.iter().any(|code| fault.is(code))
}

/// The hash slot of a key: that of its first `{…}`, if there is something in it.
fn slot_of(key: &[u8]) -> u16 {
    const CRC16: Crc<u16> = Crc::<u16>::new(&CRC_16_XMODEM);
    let tag = key.iter().position(|&b| b == b'{').and_then(|open| {
        let rest = key.get(open + 1..)?;
        let end = rest.iter().position(|&b| b == b'}')?;
        rest.get(..end).filter(|tag| !tag.is_empty())
    });
    CRC16.checksum(tag.unwrap_or(key)) % SLOTS
}

pub(crate) struct ClusterRoute {
    label: String,
    seeds: Vec<Arc<Pool>>,
    servers: Servers,
    map: Mutex<Map>,
    inquiry: Inquiry<()>,
}

/// Who serves which slot.
#[derive(Default)]
struct Map {
    primaries: Vec<Arc<Pool>>,
    /// For each slot a number in `primaries`, from 1; 0 is nobody. Empty before the first lock.
    slots: Vec<u16>,
}

impl Map {
    fn owner(&self, slot: u16) -> Option<Arc<Pool>> {
        let number = self.slots.get(usize::from(slot)).copied().filter(|number| *number > 0)?;
        self.primaries.get(usize::from(number) - 1).cloned()
    }

    fn assign(&mut self, slots: impl Iterator<Item = u16>, to: &Arc<Pool>) {
        let known = self.primaries.iter().position(|pool| Arc::ptr_eq(pool, to));
        let index = known.unwrap_or_else(|| {
            self.primaries.push(Arc::clone(to));
            self.primaries.len() - 1
        });
        self.slots.resize(SLOTS.into(), 0);
        for slot in slots {
            if let Some(owner) = self.slots.get_mut(usize::from(slot)) {
                *owner = u16::try_from(index + 1).unwrap_or_default();
            }
        }
    }
}

impl ClusterRoute {
    pub(crate) fn new(dsn: &Cluster, config: &Config) -> Option<Self> {
        let servers = Servers::new(dsn.seeds.first()?.clone(), config);
        Some(Self {
            label: config.dsn.redacted(),
            seeds: dsn.seeds.iter().map(|seed| servers.at(&seed.address)).collect(),
            servers,
            map: Mutex::default(),
            inquiry: Inquiry::new(),
        })
    }

    fn map(&self) -> MutexGuard<'_, Map> {
        lock(&self.map)
    }

    /// Reads the map anew: from `first`, then from all that are known, and from `suspect` only when
    /// nobody else answers.
    fn refresh(&self, first: Option<&Arc<Pool>>, suspect: Option<&Arc<Pool>>) -> Result<()> {
        #[cfg(feature = "sabotage")]
        if super::sabotage::is("map") && !self.map().slots.is_empty() {
            return Ok(());
        }
        let ask = || {
            let mut order: Vec<Arc<Pool>> = Vec::new();
            let known = self.map().primaries.clone();
            let is =
                |pool: &Arc<Pool>, other: Option<&Arc<Pool>>| other.is_some_and(|o| Arc::ptr_eq(o, pool));
            let unsuspected = known.iter().chain(&self.seeds).filter(|pool| !is(pool, suspect));
            for pool in first.into_iter().chain(unsuspected).chain(suspect) {
                if !order.iter().any(|other| Arc::ptr_eq(other, pool)) {
                    order.push(Arc::clone(pool));
                }
            }
            let mut silent = Vec::new();
            let mut refused = None;
            for pool in &order {
                match self.map_of(pool) {
                    Ok(map) => {
                        *self.map() = map;
                        return Ok(());
                    }
                    Err(Error::Connection { cause, .. }) => silent.push(format!("{}: {cause}", pool.label())),
                    Err(error) => refused = Some(error),
                }
            }
            Err(refused.unwrap_or_else(|| Error::Connection {
                server: self.label.clone(),
                cause: format!("no server of the cluster can be reached ({})", silent.join("; ")),
            }))
        };
        self.inquiry.answer(ask, |()| true)
    }

    fn unserved_slots(&self, one: u16, others: usize) -> Error {
        let cause = match others {
            0 => format!("no server of the cluster serves hash slot {one}"),
            _ => format!("no server of the cluster serves hash slot {one} and {others} others"),
        };
        Error::FailingOver { server: self.label.clone(), cause }
    }

    /// The map as one server sees it.
    fn map_of(&self, pool: &Arc<Pool>) -> Result<Map> {
        let answer =
            pool.get(Purpose::Inquiry)?.call(&[b"CLUSTER", b"SLOTS"]).map_err(|fault| pool.explain(fault))?;
        let map = self.read(&answer, pool.address());
        map.ok_or_else(|| pool.nonsense("CLUSTER SLOTS", &answer))
    }

    /// Reads the answer to `CLUSTER SLOTS`: `[first, last, [host, port, …], replicas…]` for every range.
    fn read(&self, answer: &Value, asked: &Address) -> Option<Map> {
        let mut map = Map::default();
        let Value::Array(ranges) = answer else { return None };
        for range in ranges {
            let Value::Array(range) = range else { return None };
            let [Value::Int(first), Value::Int(last), Value::Array(primary), ..] = range.as_slice() else {
                return None;
            };
            let [host, Value::Int(port), ..] = primary.as_slice() else { return None };
            let host = match host {
                Value::BulkString(host) => std::str::from_utf8(host).ok()?,
                // The server does not know its own address; we do.
                Value::Nil => "",
                _ => return None,
            };
            let Some(address) = address(host, u16::try_from(*port).ok()?, asked) else { continue };
            let slots = u16::try_from(*first).ok()?..=u16::try_from(*last).ok()?;
            map.assign(slots, &self.servers.at(&address));
        }
        Some(map)
    }
}

/// An announced address. Without a host it is that of the server that was asked; `?` is unknown.
fn address(host: &str, port: u16, asked: &Address) -> Option<Address> {
    match (host, asked) {
        ("?", _) => None,
        ("", Address::Tcp(host, _)) => Some(Address::Tcp(host.clone(), port)),
        (host, _) => Some(Address::Tcp(host.to_owned(), port)),
    }
}

/// What `MOVED` says: `slot host:port`.
fn moved_to(text: &str, asked: &Address) -> Option<(u16, Address)> {
    let (slot, place) = text.split_once(' ')?;
    let (host, port) = place.rsplit_once(':')?;
    Some((slot.parse().ok()?, address(host, port.parse().ok()?, asked)?))
}

fn failing_over(pool: &Pool, cause: &str) -> Error {
    let server = pool.label().to_owned();
    Error::FailingOver { server, cause: format!("{cause}; no other server of the cluster has its locks yet") }
}

impl Route for ClusterRoute {
    fn server_of(&self, key: &[u8]) -> Result<Arc<Pool>> {
        let slot = slot_of(key);
        // Not in one expression, which would keep the map locked.
        let known = self.map().owner(slot);
        if let Some(pool) = known {
            return Ok(pool);
        }
        self.refresh(None, None)?;
        self.map().owner(slot).ok_or_else(|| self.unserved_slots(slot, 0))
    }

    /// A lane a server, in a cluster of up to 63. Those whose server is not known have one to themselves: to find out may
    /// take long.
    fn lane_of(&self, key: &[u8]) -> usize {
        let owner = self.map().owner(slot_of(key));
        let number = owner.and_then(|owner| self.servers.number_of(&owner));
        number.map_or(0, |number| 1 + number % (LANES - 1))
    }

    /// As they are now: whoever has not locked since knows of no change.
    fn servers(&self) -> Result<Vec<Arc<Pool>>> {
        let fresh = self.refresh(None, None);
        let primaries = self.map().primaries.clone();
        if primaries.is_empty() {
            fresh?;
            return self.unserved().map_or(Ok(primaries), Err);
        }
        Ok(primaries)
    }

    fn unserved(&self) -> Option<Error> {
        let map = self.map();
        let mut slots = (0..SLOTS).filter(|slot| map.owner(*slot).is_none());
        let first = slots.next()?;
        Some(self.unserved_slots(first, slots.count()))
    }

    fn gone(&self, pool: &Arc<Pool>, error: Error) -> Error {
        match (self.refresh(None, Some(pool)), error) {
            (Ok(()), Error::Connection { cause, .. }) => failing_over(pool, &cause),
            (Err(error), _) | (Ok(()), error) => error,
        }
    }

    fn after(&self, pool: &Arc<Pool>, key: &[u8], fault: &Fault) -> Next {
        #[cfg(feature = "sabotage")]
        if super::sabotage::is("map") && fault.is("MOVED") {
            return Next::GiveUp;
        }
        match fault {
            Fault::Broken(_) => {
                pool.clear();
                match self.refresh(None, Some(pool)).and_then(|()| self.server_of(key)) {
                    Ok(pool) => Next::Again(pool),
                    Err(error) => Next::Fail(error),
                }
            }
            Fault::Refused(code, text) if code == "MOVED" => match moved_to(text, pool.address()) {
                Some((slot, address)) => {
                    let owner = self.servers.at(&address);
                    self.map().assign(std::iter::once(slot), &owner);
                    // Others have moved with it, perhaps. If nobody tells, this one is known.
                    let _ = self.refresh(Some(&owner), Some(pool));
                    Next::Again(self.map().owner(slot).unwrap_or(owner))
                }
                None => Next::GiveUp,
            },
            Fault::Refused(code, _) if code == "ASK" || code == "TRYAGAIN" => Next::GiveUp,
            refused if is_for_now(refused) => {
                match self.refresh(None, Some(pool)).and_then(|()| self.server_of(key)) {
                    Ok(other) if !Arc::ptr_eq(&other, pool) => Next::Again(other),
                    _ => Next::GiveUp,
                }
            }
            Fault::Refused(..) => Next::GiveUp,
        }
    }

    fn explain(&self, pool: &Pool, fault: Fault) -> Error {
        let passes = is_for_now(&fault);
        match fault {
            Fault::Broken(cause) => failing_over(pool, &cause),
            Fault::Refused(code, text) if passes => failing_over(pool, &format!("{code} {text}")),
            refused @ Fault::Refused(..) => pool.explain(refused),
        }
    }

    fn moves_slots(&self) -> bool {
        true
    }

    fn status(&self) -> StoreStatus {
        let primaries = self.map().primaries.clone();
        let mut pools = self.servers.all();
        pools.sort_by_key(|pool| !primaries.iter().any(|primary| Arc::ptr_eq(pool, primary)));
        StoreStatus::of("cluster", self.label(), pools.iter().map(|pool| &**pool))
    }

    fn label(&self) -> &str {
        &self.label
    }

    fn close(&self) {
        self.servers.clear_all_but(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(slot_of(b"123456789"), 0x31C3);
        assert_eq!(slot_of(b"{user1000}.following"), slot_of(b"user1000"));
        assert_eq!(slot_of(b"foo{{bar}}zap"), slot_of(b"{bar"));
        assert_eq!(slot_of(b"foo{bar}{zap}"), slot_of(b"bar"));
        assert_eq!(slot_of(b"foo{}{bar}"), 8363);
    }

    #[test]
    fn where_a_slot_has_moved() {
        let asked = Address::Tcp("10.0.0.1".into(), 7000);
        let to = |host: &str, port| Some((3999, Address::Tcp(host.into(), port)));
        assert_eq!(moved_to("3999 127.0.0.1:6381", &asked), to("127.0.0.1", 6381));
        assert_eq!(moved_to("3999 ::1:6381", &asked), to("::1", 6381));
        assert_eq!(moved_to("3999 :6381", &asked), to("10.0.0.1", 6381));
        assert_eq!(moved_to("3999 ?:6381", &asked), None);
        assert_eq!(moved_to("nonsense", &asked), None);
    }
}

//! What is asked without a hold: who holds and waits, the servers and the state of this process, as PHP arrays; and what
//! an administrator breaks.
//!
//! Building an array may hit PHP's memory limit, which longjmps, or ends the script when our function has returned: the
//! request's table must not be borrowed then, so everything is collected first.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cluster_lock_core::store::StoreStatus;
use cluster_lock_core::{
    Broken, Call, Counters, Engine, Grace, Holder, Identity, Lease, LockReport, ServerReport, Waiter,
};
use ext_php_rs::binary::Binary;
use ext_php_rs::boxed::ZBox;
use ext_php_rs::error::Result;
use ext_php_rs::types::ZendHashTable;

use crate::arguments::{self, Checked};
use crate::reply::{Class, Reply, Value, int};
use crate::settings::Refused;
use crate::words::{self, about};
use crate::{counters, php, request, settings};

type Table = Result<ZBox<ZendHashTable>>;

fn load(counter: &AtomicU64) -> i64 {
    int(counter.load(Ordering::Relaxed))
}

fn nanos(counter: &AtomicU64) -> f64 {
    Duration::from_nanos(counter.load(Ordering::Relaxed)).as_secs_f64()
}

fn array(table: Table) -> Reply {
    match table {
        Ok(table) => Value::Array(table).into(),
        Err(error) => Reply::throw(Class::Error, format!("cluster_lock: {error}")),
    }
}

/// `cluster_lock_info()`
pub(crate) fn info(name: &[u8]) -> Checked {
    let name = arguments::name(1, name)?;
    Ok(match settings::engine().and_then(|engine| engine.info(&name)) {
        Ok(Some(lock)) => array(report(lock)),
        Ok(None) => Value::Null.into(),
        Err(error) => Reply::from(Value::Null).warn(about(&name, error)),
    })
}

/// `cluster_lock_list()`
pub(crate) fn list(prefix: &[u8], limit: i64) -> Checked {
    let limit = arguments::limit(2, limit)?;
    Ok(match settings::engine().and_then(|engine| engine.list(prefix, limit)) {
        Ok(locks) => array(tables(locks.into_iter().map(report))),
        Err(error) => Reply::from(Value::Array(ZendHashTable::new())).warn(words::not_listed(&error)),
    })
}

fn tables(items: impl Iterator<Item = Table>) -> Table {
    let mut list = ZendHashTable::new();
    for item in items {
        list.push(item?)?;
        if php::is_out_of_memory() {
            break;
        }
    }
    Ok(list)
}

fn report(lock: LockReport) -> Table {
    let mut table = ZendHashTable::new();
    table.insert("name", Binary::new(lock.name.as_bytes().to_vec()))?;
    table.insert("mode", lock.mode.as_str())?;
    table.insert("fence", int(lock.fence))?;
    table.insert("ttl", lock.ttl.as_secs_f64())?;
    table.insert("since", lock.since)?;
    table.insert("holders", tables(lock.holders.into_iter().map(holder))?)?;
    table.insert("waiters", tables(lock.waiters.into_iter().map(waiter))?)?;
    table.insert("more_holders", int(lock.more_holders))?;
    table.insert("more_waiters", int(lock.more_waiters))?;
    Ok(table)
}

fn holder(holder: Holder) -> Table {
    let Identity { node, pid, sapi, script, request_uri, run, call } = holder.identity;
    let mut table = ZendHashTable::new();
    table.insert("node", node)?;
    table.insert("pid", i64::from(pid))?;
    table.insert("sapi", sapi)?;
    table.insert("script", script)?;
    table.insert("request_uri", request_uri)?;
    table.insert("since", holder.since)?;
    table.insert("fence", int(holder.fence))?;
    table.insert("run", run)?;
    add_call(&mut table, call)?;
    Ok(table)
}

fn waiter(waiter: Waiter) -> Table {
    let mut table = ZendHashTable::new();
    table.insert("node", waiter.identity.node)?;
    table.insert("pid", i64::from(waiter.identity.pid))?;
    table.insert("since", waiter.since)?;
    table.insert("mode", waiter.mode.as_str())?;
    table.insert("run", waiter.identity.run)?;
    add_call(&mut table, waiter.identity.call)?;
    Ok(table)
}

fn add_call(table: &mut ZendHashTable, call: Call) -> Result<()> {
    let Call { function, file, line } = call;
    table.insert("function", function)?;
    table.insert("file", file)?;
    table.insert("line", i64::from(line))
}

/// `cluster_lock_break()`
pub(crate) fn break_lock(name: &[u8], fence: Option<i64>) -> Checked {
    let name = arguments::name(1, name)?;
    let meant = fence.map(|fence| arguments::fence(2, fence)).transpose()?;
    Ok(match settings::engine().and_then(|engine| engine.break_lock(&name, meant)) {
        Ok(broken) => (broken == Broken::Yes).into(),
        Err(error) => Reply::failed(about(&name, error)),
    })
}

/// `cluster_lock_servers()`. A server that cannot be asked is an answer, too.
pub(crate) fn servers() -> Reply {
    let reports = settings::engine().map_or_else(
        |error| {
            let server = settings::with(|settings| settings.backend().1.to_owned());
            vec![ServerReport { server, error: Some(error.to_string()), ..ServerReport::default() }]
        },
        Engine::examine,
    );
    array(tables(reports.into_iter().map(server)))
}

fn server(report: ServerReport) -> Table {
    let mut table = ZendHashTable::new();
    table.insert("server", report.server)?;
    table.insert("error", report.error)?;
    table.insert("round_trip", report.round_trip.map(|time| time.as_secs_f64()))?;
    table.insert("clock_ahead", report.clock_ahead)?;
    table.insert("version", report.version)?;
    table.insert("role", report.role)?;
    table.insert("maxmemory", report.maxmemory.map(int))?;
    table.insert("maxmemory_policy", report.maxmemory_policy)?;
    table.insert("used_memory", report.used_memory.map(int))?;
    table.insert("evicted_keys", report.evicted_keys.map(int))?;
    table.insert("append_only", report.append_only)?;
    table.insert("replicas", report.replicas.map(int))?;
    table.insert("sampled_keys", report.sampled_keys.map(int))?;
    table.insert("foreign_keys", report.foreign_keys.map(int))?;
    table.insert("grace", report.grace.map(Grace::as_str))?;
    table.insert("grace_left", report.grace.and_then(Grace::left).map(|left| left.as_secs_f64()))?;
    Ok(table)
}

/// `cluster_lock_status()`. Neither connects nor makes an engine.
pub(crate) fn status() -> Reply {
    let held = request::with(|request| request.leases().map(Hold::of).collect());
    let engine = settings::existing_engine();
    let store = engine.map(Engine::status).unwrap_or_default();
    let unused = Counters::default();
    let counters = engine.map_or(&unused, |engine| engine.counters());
    array(status_table(&store, counters, held))
}

/// What is told of one held lock.
struct Hold {
    name: Vec<u8>,
    mode: &'static str,
    fence: i64,
    remaining: f64,
}

impl Hold {
    fn of(lease: &Lease) -> Self {
        Self {
            name: lease.name().as_bytes().to_vec(),
            mode: lease.mode().as_str(),
            fence: int(lease.fence()),
            remaining: lease.remaining().as_secs_f64(),
        }
    }

    fn table(self) -> Table {
        let mut table = ZendHashTable::new();
        table.insert("name", Binary::new(self.name))?;
        table.insert("mode", self.mode)?;
        table.insert("fence", self.fence)?;
        table.insert("remaining", self.remaining)?;
        Ok(table)
    }
}

fn status_table(store: &StoreStatus, counters: &Counters, held: Vec<Hold>) -> Table {
    let (backend, dsn, size) = settings::with(|settings| {
        let (backend, dsn) = settings.backend();
        (backend, dsn.to_owned(), settings.values.pool_size)
    });
    let mut table = ZendHashTable::new();
    table.insert("version", env!("CARGO_PKG_VERSION"))?;
    table.insert("backend", backend)?;
    table.insert("dsn", dsn)?;
    table.insert("server_version", store.server_version.clone())?;
    table.insert("server_role", store.server_role.clone())?;
    table.insert("pool", pool(store, size)?)?;
    table.insert("hook", hook()?)?;
    table.insert("refused", tables(settings::refused().into_iter().map(refused))?)?;
    table.insert("held", tables(held.into_iter().map(Hold::table))?)?;
    table.insert("counters", counts(counters)?)?;
    Ok(table)
}

fn pool(store: &StoreStatus, size: usize) -> Table {
    let mut table = ZendHashTable::new();
    table.insert("open", int(store.open))?;
    table.insert("idle", int(store.idle))?;
    table.insert("created", int(store.created))?;
    table.insert("discarded", int(store.discarded))?;
    table.insert("size", int(size))?;
    Ok(table)
}

/// A setting with a value that it cannot have.
fn refused(one: Refused) -> Table {
    let mut table = ZendHashTable::new();
    table.insert("setting", one.setting)?;
    table.insert("value", one.value)?;
    table.insert("message", one.message)?;
    Ok(table)
}

/// Whether `flock()` is intercepted, and where.
fn hook() -> Table {
    let (active, paths, exclude, mode) = settings::with(|s| {
        (
            !s.values.intercept.is_empty(),
            s.intercept_text.clone(),
            s.exclude_text.clone(),
            s.values.flock_mode,
        )
    });
    let mut table = ZendHashTable::new();
    table.insert("active", active && php::is_hooked())?;
    table.insert("intercept", paths)?;
    table.insert("intercept_exclude", exclude)?;
    table.insert("flock_mode", mode.as_str())?;
    Ok(table)
}

fn counts(counters: &Counters) -> Table {
    let mut table = ZendHashTable::new();
    table.insert("acquired", load(&counters.acquired))?;
    table.insert("contended", load(&counters.contended))?;
    table.insert("timed_out", load(&counters.timed_out))?;
    table.insert("lost", load(&counters.lost))?;
    table.insert("errors", load(&counters.errors))?;
    table.insert("wait_total", nanos(&counters.wait_nanos))?;
    table.insert("wait_max", nanos(&counters.wait_max_nanos))?;
    table.insert("renewals", load(&counters.renewals))?;
    table.insert("runs", load(&counters.runs))?;
    table.insert("runs_failed", load(&counters.runs_failed))?;
    table.insert("covered", load(&counters.covered))?;
    for (name, count) in counters::all() {
        table.insert(name, count)?;
    }
    Ok(table)
}

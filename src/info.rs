//! What is asked without a hold: who holds and waits, the servers and the state of this process, as PHP arrays; and what
//! an administrator breaks.
//!
//! Building an array may hit PHP's memory limit, which longjmps, or ends the script when our function has returned. So
//! everything is collected first, and [`array`] builds from what others own: nothing that would have to be dropped is made
//! on the way.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cluster_lock_core::store::StoreStatus;
use cluster_lock_core::{
    Broken, Call, Counters, Engine, Grace, Holder, Identity, Lease, LockReport, ServerReport, Waiter,
};
use ext_php_rs::boxed::ZBox;
use ext_php_rs::error::Result;
use ext_php_rs::types::{ZendHashTable, ZendStr, Zval};
use ext_php_rs::zend::{CatchError, try_catch};

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

/// The array that this builds; or, when PHP has to end the script in its middle, that it has to.
fn array(build: impl FnOnce() -> Table) -> Reply {
    match try_catch(AssertUnwindSafe(build)) {
        Ok(Ok(table)) => Value::Array(table).into(),
        Ok(Err(error)) => Reply::throw(Class::Error, format!("cluster_lock: {error}")),
        Err(CatchError::Bailout) => Value::Bailout.into(),
        Err(error) => Reply::throw(Class::Error, words::internal(&error.to_string())),
    }
}

/// Bytes as a string of PHP's.
fn binary(bytes: &[u8]) -> Zval {
    let mut zval = Zval::new();
    zval.set_zend_string(ZendStr::new(bytes, false));
    zval
}

/// `cluster_lock_info()`
pub(crate) fn info(name: &[u8]) -> Checked {
    let name = arguments::name(1, name)?;
    Ok(match settings::engine().and_then(|engine| engine.info(&name)) {
        Ok(Some(lock)) => array(|| report(&lock)),
        Ok(None) => Value::Null.into(),
        Err(error) => Reply::from(Value::Null).warn(about(&name, error)),
    })
}

/// `cluster_lock_list()`
pub(crate) fn list(prefix: &[u8], limit: i64) -> Checked {
    let limit = arguments::limit(2, limit)?;
    Ok(match settings::engine().and_then(|engine| engine.list(prefix, limit)) {
        Ok(locks) => array(|| tables(&locks, report)),
        Err(error) => array(|| Ok(ZendHashTable::new())).warn(words::not_listed(&error)),
    })
}

fn tables<T>(items: &[T], table: impl Fn(&T) -> Table) -> Table {
    let mut list = ZendHashTable::new();
    for item in items {
        list.push(table(item)?)?;
        if php::is_out_of_memory() {
            break;
        }
    }
    Ok(list)
}

fn report(lock: &LockReport) -> Table {
    let mut table = ZendHashTable::new();
    table.insert("name", binary(lock.name.as_bytes()))?;
    table.insert("mode", lock.mode.as_str())?;
    table.insert("fence", int(lock.fence))?;
    table.insert("ttl", lock.ttl.as_secs_f64())?;
    table.insert("since", lock.since)?;
    table.insert("holders", tables(&lock.holders, holder)?)?;
    table.insert("waiters", tables(&lock.waiters, waiter)?)?;
    table.insert("more_holders", int(lock.more_holders))?;
    table.insert("more_waiters", int(lock.more_waiters))?;
    Ok(table)
}

fn holder(holder: &Holder) -> Table {
    let Identity { node, pid, sapi, script, request_uri, run, call } = &holder.identity;
    let mut table = ZendHashTable::new();
    table.insert("node", node.as_str())?;
    table.insert("pid", i64::from(*pid))?;
    table.insert("sapi", sapi.as_str())?;
    table.insert("script", script.as_str())?;
    table.insert("request_uri", request_uri.as_str())?;
    table.insert("since", holder.since)?;
    table.insert("fence", int(holder.fence))?;
    table.insert("run", *run)?;
    add_call(&mut table, call)?;
    Ok(table)
}

fn waiter(waiter: &Waiter) -> Table {
    let mut table = ZendHashTable::new();
    table.insert("node", waiter.identity.node.as_str())?;
    table.insert("pid", i64::from(waiter.identity.pid))?;
    table.insert("since", waiter.since)?;
    table.insert("mode", waiter.mode.as_str())?;
    table.insert("run", waiter.identity.run)?;
    add_call(&mut table, &waiter.identity.call)?;
    Ok(table)
}

fn add_call(table: &mut ZendHashTable, call: &Call) -> Result<()> {
    table.insert("function", call.function.as_str())?;
    table.insert("file", call.file.as_str())?;
    table.insert("line", i64::from(call.line))
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
    array(|| tables(&reports, server))
}

fn server(report: &ServerReport) -> Table {
    let mut table = ZendHashTable::new();
    table.insert("server", report.server.as_str())?;
    table.insert("error", report.error.as_deref())?;
    table.insert("round_trip", report.round_trip.map(|time| time.as_secs_f64()))?;
    table.insert("clock_ahead", report.clock_ahead)?;
    table.insert("version", report.version.as_deref())?;
    table.insert("role", report.role.as_deref())?;
    table.insert("maxmemory", report.maxmemory.map(int))?;
    table.insert("maxmemory_policy", report.maxmemory_policy.as_deref())?;
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
    let held: Vec<Hold> = request::with(|request| request.leases().map(Hold::of).collect());
    let configured = Configured::now();
    let engine = settings::existing_engine();
    let store = engine.map(Engine::status).unwrap_or_default();
    let unused = Counters::default();
    let counters = engine.map_or(&unused, |engine| engine.counters());
    array(|| status_table(&configured, &store, counters, &held))
}

/// What is told of the settings.
struct Configured {
    backend: &'static str,
    dsn: String,
    size: usize,
    intercepts: bool,
    intercept: String,
    exclude: String,
    flock_mode: &'static str,
    refused: Vec<Refused>,
}

impl Configured {
    fn now() -> Self {
        settings::with(|s| {
            let (backend, dsn) = s.backend();
            Self {
                backend,
                dsn: dsn.to_owned(),
                size: s.values.pool_size,
                intercepts: !s.values.intercept.is_empty(),
                intercept: s.intercept_text.clone(),
                exclude: s.exclude_text.clone(),
                flock_mode: s.values.flock_mode.as_str(),
                refused: settings::refused(),
            }
        })
    }
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

    fn table(&self) -> Table {
        let mut table = ZendHashTable::new();
        table.insert("name", binary(&self.name))?;
        table.insert("mode", self.mode)?;
        table.insert("fence", self.fence)?;
        table.insert("remaining", self.remaining)?;
        Ok(table)
    }
}

fn status_table(configured: &Configured, store: &StoreStatus, counters: &Counters, held: &[Hold]) -> Table {
    let mut table = ZendHashTable::new();
    table.insert("version", env!("CARGO_PKG_VERSION"))?;
    table.insert("backend", configured.backend)?;
    table.insert("dsn", configured.dsn.as_str())?;
    table.insert("server_version", store.server_version.as_deref())?;
    table.insert("server_role", store.server_role.as_deref())?;
    table.insert("pool", pool(store, configured.size)?)?;
    table.insert("hook", hook(configured)?)?;
    table.insert("refused", tables(&configured.refused, refused)?)?;
    table.insert("held", tables(held, Hold::table)?)?;
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
fn refused(one: &Refused) -> Table {
    let mut table = ZendHashTable::new();
    table.insert("setting", one.setting.as_str())?;
    table.insert("value", one.value.as_str())?;
    table.insert("message", one.message.as_str())?;
    Ok(table)
}

/// Whether `flock()` is intercepted, and where.
fn hook(configured: &Configured) -> Table {
    let mut table = ZendHashTable::new();
    table.insert("active", configured.intercepts && php::is_hooked())?;
    table.insert("intercept", configured.intercept.as_str())?;
    table.insert("intercept_exclude", configured.exclude.as_str())?;
    table.insert("flock_mode", configured.flock_mode)?;
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

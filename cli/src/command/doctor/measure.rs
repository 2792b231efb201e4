//! How long `flock()` takes in a directory, beside the cluster lock in the same run.
//!
//! On this node alone: two open files of one machine. What a waiter on *another* node waits for, polling above
//! all, is not measured here.

use std::fs::File;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use cluster_lock_core::{Acquire, Acquired, Engine, Identity, Lease, LockName, Mode};
use rustix::fs::{FlockOperation, flock};
use rustix::io::{Errno, retry_on_intr};
use serde::Serialize;

use crate::units::span;

/// How long the lock is held while another waits for it.
const HOLD: Duration = Duration::from_millis(50);
/// A waiter that has not got it by then is not waited for any longer.
const LIMIT: Duration = Duration::from_secs(4);
/// Free locks are taken for so long, and contended ones no longer.
const SPEND: Duration = Duration::from_millis(300);
const ROUNDS: usize = 5;

/// Seconds: the middle ones of several.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Times {
    /// Taking a free lock, and giving it back.
    #[serde(rename = "free_seconds")]
    pub(crate) free: f64,
    /// From giving it back until the next has it; `None`: not within the limit.
    #[serde(rename = "hand_off_seconds")]
    pub(crate) hand_off: Option<f64>,
}

/// Both beside each other, in words.
pub(crate) fn compare(flock: Times, cluster: Option<Times>) -> String {
    let span = |seconds: f64| span(Duration::from_secs_f64(seconds));
    let waits =
        |times: Times| times.hand_off.map_or_else(|| format!("more than {} s", LIMIT.as_secs()), span);
    let Some(cluster) = cluster else {
        return format!(
            "measured on this node alone: flock() {}, handed over after {}",
            span(flock.free),
            waits(flock)
        );
    };
    let ratio = |flock: f64, cluster: f64| {
        let ratio = flock / cluster;
        let digits = if ratio >= 10.0 { 0 } else { 1 + usize::from(ratio < 1.0) };
        format!("{ratio:.digits$} ×")
    };
    let handed = match (flock.hand_off, cluster.hand_off) {
        (Some(flock), Some(cluster)) => format!(" ({})", ratio(flock, cluster)),
        _ => String::new(),
    };
    format!(
        "measured on this node alone: free, flock() {} and the cluster lock {} ({}); handed over after {} and {}{handed}. \
         From node to node flock() may take longer",
        span(flock.free),
        span(cluster.free),
        ratio(flock.free, cluster.free),
        waits(flock),
        waits(cluster),
    )
}

/// `flock()` in a directory.
///
/// # Errors
/// No file can be made there, or the kernel refuses to lock it.
pub(crate) fn by_kernel(directory: &Path) -> Result<Times, Refusal> {
    let file = tempfile::Builder::new()
        .prefix(".cluster-lock-doctor-")
        .tempfile_in(directory)
        .map_err(|error| Refusal::NoFile(error.to_string()))?;
    let other = file.reopen().map_err(|error| Refusal::NoFile(error.to_string()))?;
    let lock =
        |file: &File| retry_on_intr(|| flock(file, FlockOperation::LockExclusive)).map_err(Refusal::NoLock);
    let unlock = |file: &File| retry_on_intr(|| flock(file, FlockOperation::Unlock)).map_err(Refusal::NoLock);
    let free = repeat(|| {
        let began = Instant::now();
        lock(file.as_file())?;
        unlock(file.as_file())?;
        Ok(began.elapsed())
    })?;
    let mut other = Some(other);
    let hand_off = hand_offs(|| {
        lock(file.as_file())?;
        let Some(waiting) = other.take() else { return Ok(None) };
        let (send, receive) = mpsc::channel();
        // Where nobody wakes it, it ends with this process.
        thread::spawn(move || {
            let _ = send.send(None);
            let outcome = retry_on_intr(|| flock(&waiting, FlockOperation::LockExclusive));
            let got = Instant::now();
            let _ = retry_on_intr(|| flock(&waiting, FlockOperation::Unlock));
            let _ = send.send(Some((outcome, got, waiting)));
        });
        let _ = receive.recv();
        thread::sleep(HOLD);
        let released = Instant::now();
        unlock(file.as_file())?;
        match receive.recv_timeout(LIMIT) {
            Ok(Some((outcome, got, waiting))) => {
                outcome.map_err(Refusal::NoLock)?;
                other = Some(waiting);
                Ok(Some(got.saturating_duration_since(released)))
            }
            _ => Ok(None),
        }
    })?;
    Ok(Times { free, hand_off })
}

/// The cluster lock, on a name that nobody else uses.
///
/// # Errors
/// The server's, in words.
pub(crate) fn by_cluster(engine: &Engine, node: &str) -> Result<Times, String> {
    let name = format!("doctor:{}:{}", node, std::process::id());
    let name = LockName::new(name.as_bytes()).map_err(|error| error.to_string())?;
    let identity = Identity {
        node: node.to_owned(),
        pid: std::process::id(),
        sapi: "cluster-lock".into(),
        script: "doctor".into(),
        ..Identity::default()
    };
    let identity = identity.encode();
    let free = repeat(|| {
        let began = Instant::now();
        release(take(engine, &name, &identity)?)?;
        Ok::<_, String>(began.elapsed())
    })?;
    let hand_off = hand_offs(|| {
        let held = take(engine, &name, &identity)?;
        thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                let lease = take(engine, &name, &identity)?;
                let got = Instant::now();
                release(lease)?;
                Ok::<_, String>(got)
            });
            thread::sleep(HOLD);
            let released = Instant::now();
            release(held)?;
            let got = waiter.join().map_err(|_| "the waiter has failed".to_owned())??;
            Ok::<_, String>(Some(got.saturating_duration_since(released)))
        })
    })?;
    Ok(Times { free, hand_off })
}

/// Why `flock()` could not be measured.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Refusal {
    /// It is not ours to write there.
    NoFile(String),
    /// The lock itself failed.
    NoLock(Errno),
}

fn take(engine: &Engine, name: &LockName, identity: &[u8]) -> Result<Lease, String> {
    let how = Acquire {
        mode: Mode::Exclusive,
        run: false,
        timeout: Some(LIMIT),
        ttl: Duration::from_secs(10),
        auto_renew: false,
        max_hold: None,
        identity,
        interrupted: &|| false,
    };
    match engine.acquire(name, &how) {
        Ok(Acquired::Held { lease, .. }) => Ok(lease),
        Ok(_) => Err(format!("a lock was not handed over within {} s", LIMIT.as_secs())),
        Err(error) => Err(error.to_string()),
    }
}

fn release(lease: Lease) -> Result<(), String> {
    lease.release().map(drop).map_err(|error| error.to_string())
}

/// The middle of many tries, in seconds.
fn repeat<E>(mut once: impl FnMut() -> Result<Duration, E>) -> Result<f64, E> {
    // The first one makes a connection, or asks for attributes.
    once()?;
    let began = Instant::now();
    let mut times = Vec::new();
    while times.len() < ROUNDS || (began.elapsed() < SPEND && times.len() < 1000) {
        times.push(once()?);
    }
    Ok(median(times).unwrap_or_default())
}

/// The middle of a few hand-offs; fewer where one takes long. `None` ends it.
fn hand_offs<E>(mut once: impl FnMut() -> Result<Option<Duration>, E>) -> Result<Option<f64>, E> {
    let began = Instant::now();
    let mut times = Vec::new();
    while times.len() < ROUNDS && (times.is_empty() || began.elapsed() < SPEND) {
        match once()? {
            Some(time) => times.push(time),
            None => break,
        }
    }
    Ok(median(times))
}

fn median(mut times: Vec<Duration>) -> Option<f64> {
    times.sort();
    times.get(times.len() / 2).map(Duration::as_secs_f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flock_is_measured_and_nothing_stays() {
        let dir = tempfile::tempdir().unwrap();
        let times = by_kernel(dir.path()).unwrap();
        assert!(times.free > 0.0 && times.hand_off.is_some(), "{times:?}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn where_nothing_can_be_written_nothing_is_measured() {
        assert!(matches!(by_kernel(Path::new("/proc/self")), Err(Refusal::NoFile(_))));
        assert!(matches!(by_kernel(Path::new("/no/such/directory")), Err(Refusal::NoFile(_))));
    }

    #[test]
    fn the_cluster_lock_is_measured() {
        let dir = tempfile::tempdir().unwrap();
        let dsn = format!("local://{}", dir.path().display());
        let config = cluster_lock_core::Config::new(cluster_lock_core::Dsn::parse(&dsn).unwrap());
        let engine = Engine::new(&config).unwrap();
        let times = by_cluster(&engine, "node").unwrap();
        assert!(times.free > 0.0 && times.hand_off.is_some(), "{times:?}");
    }

    #[test]
    fn a_waiter_that_is_never_woken_ends_the_measurement() {
        let mut calls = 0;
        let none: Result<_, ()> = hand_offs(|| {
            calls += 1;
            Ok(None)
        });
        assert_eq!((none, calls), (Ok(None), 1));
    }
}

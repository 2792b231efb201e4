//! Names of temporary files, and the removal of those whose writers were killed.
//!
//! `.NAME.HOST.PID.RANDOM.cluster_lock.tmp`: NAME is the target's (shortened, with a digest, where
//! it is too long), HOST tells apart what process ids mean something to whom: it is made from the
//! node name, the boot and the PID namespace. A temporary file is stale when its last write is an
//! hour old and its process is dead; for a process that cannot be asked (another node, another
//! container, before a reboot), when its last write is a day old. A process id used again merely
//! puts off the removal.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs;
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Dir, FileType, Stat, statat, unlinkat};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use rustix::rand::{GetRandomFlags, getrandom};
use sha1_smol::Sha1;

use super::target::Place;

const SUFFIX: &[u8] = b".cluster_lock.tmp";
/// The longest part of a target's name that, with all the rest, fits the 255 bytes of a name.
const MAX_NAME: usize = 200;
/// Seconds since the last write after which a dead process's file is stale.
const STALE_HERE: i64 = 3_600;
/// The same for a process that cannot be asked.
const STALE_ELSEWHERE: i64 = 86_400;
/// A directory is searched at a process's first write to it, then at most this often: reading
/// ten thousand names costs more than the write.
const SCAN_INTERVAL: Duration = Duration::from_secs(60);
/// The most directories whose last search is remembered.
const MAX_SCANS: usize = 256;
/// The most temporary files that are remembered of a directory.
const MAX_FOUND: usize = 1000;

/// A name for a new temporary file.
pub(super) fn fresh_name(target: &CStr, pid: u32) -> Result<CString, Errno> {
    let mut random = [0; 8];
    getrandom(&mut random, GetRandomFlags::empty())?;
    let mut name = prefix(target.to_bytes());
    let random = u64::from_ne_bytes(random);
    name.extend_from_slice(format!("{:08x}.{pid}.{random:016x}", host()).as_bytes());
    name.extend_from_slice(SUFFIX);
    CString::new(name).map_err(|_| Errno::INVAL)
}

/// How the names of a target's temporary files begin.
fn prefix(target: &[u8]) -> Vec<u8> {
    let mut out = b".".to_vec();
    if target.len() <= MAX_NAME {
        out.extend_from_slice(target);
    } else {
        // Cut between characters: some file systems insist on valid UTF-8.
        let mut end = MAX_NAME - 17;
        while end > MAX_NAME - 21 && target.get(end).is_some_and(|b| b & 0xC0 == 0x80) {
            end -= 1;
        }
        out.extend_from_slice(target.get(..end).unwrap_or_default());
        out.push(b'~');
        let digest = Sha1::from(target).digest().to_string();
        out.extend_from_slice(digest.as_bytes().get(..16).unwrap_or_default());
    }
    out.push(b'.');
    out
}

/// The host and process that made a temporary file of this target; `None` for any other name.
fn parse(entry: &[u8], prefix: &[u8]) -> Option<(u32, u32)> {
    let middle = entry.strip_prefix(prefix)?.strip_suffix(SUFFIX)?;
    let mut parts = str::from_utf8(middle).ok()?.split('.');
    let (host, pid, random) = (parts.next()?, parts.next()?, parts.next()?);
    let host_id = u32::from_str_radix(host, 16).ok()?;
    let pid_id: u32 = pid.parse().ok()?;
    let random_id = u64::from_str_radix(random, 16).ok()?;
    // Written as we write it, to the letter: no upper case, no signs, no more and no fewer digits.
    let ours = parts.next().is_none()
        && host == format!("{host_id:08x}")
        && pid == pid_id.to_string()
        && random == format!("{random_id:016x}");
    ours.then_some((host_id, pid_id))
}

/// Removes stale temporary files of this target. Best effort: what cannot be removed now is left for
/// the next time.
pub(super) fn clean(place: &Place) {
    let Some(names) = temporary_files(place) else { return };
    let prefix = prefix(place.name().to_bytes());
    let ours = names.iter().filter_map(|name| Some((name, parse(name.to_bytes(), &prefix)?)));
    // By the file server's clock, which also stamps the temporary files: ours may differ.
    let mut now = None;
    for (name, (host_id, pid)) in ours {
        let stat = |name: &CStr| statat(place.dir(), name, AtFlags::SYMLINK_NOFOLLOW);
        let Ok(found) = stat(name) else { continue };
        if now.is_none() {
            now = stat(place.name()).ok().map(|replaced| replaced.st_ctime);
        }
        if now.is_some_and(|now| is_stale(&found, now, host_id, pid)) {
            let _ = unlinkat(place.dir(), name, AtFlags::empty());
        }
    }
}

fn is_stale(stat: &Stat, now: i64, host_id: u32, pid: u32) -> bool {
    let age = now.saturating_sub(stat.st_mtime);
    let old_enough =
        if host_id == host() { age > STALE_HERE && !is_alive(pid) } else { age > STALE_ELSEWHERE };
    old_enough && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

fn is_alive(pid: u32) -> bool {
    match i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // Only "no such process" is certain: "not permitted" means that there is one.
        Some(pid) => test_kill_process(pid) != Err(Errno::SRCH),
        None => true,
    }
}

/// The temporary files, of any target, that a search of this directory has found.
type Names = Arc<[CString]>;

/// One search: by which process, when, and what it found.
type Search = (u32, Instant, Names);

/// What the last search of the directory found; a new one when that is a while ago.
fn temporary_files(place: &Place) -> Option<Names> {
    static SEARCHES: Mutex<Option<HashMap<PathBuf, Search>>> = Mutex::new(None);
    // Never waits: in a forked child the lock may be held by a thread that does not exist.
    let mut searches = SEARCHES.try_lock().ok()?;
    let searches = searches.get_or_insert_default();
    let (pid, now) = (process::id(), Instant::now());
    let recent = |(by, at, _): &Search| *by == pid && now.saturating_duration_since(*at) < SCAN_INTERVAL;
    if let Some(search) = searches.get(place.dir_path()).filter(|search| recent(search)) {
        return Some(Arc::clone(&search.2));
    }
    if searches.len() >= MAX_SCANS {
        searches.retain(|_, search| recent(search));
    }
    if searches.len() >= MAX_SCANS {
        searches.clear();
    }
    let entries = Dir::read_from(place.dir()).ok()?;
    let names: Names = entries
        .flatten()
        .map(|entry| entry.file_name().to_owned())
        .filter(|name| name.to_bytes().ends_with(SUFFIX))
        .take(MAX_FOUND)
        .collect();
    searches.insert(place.dir_path().to_path_buf(), (pid, now, Arc::clone(&names)));
    Some(names)
}

/// What process ids on this machine, since this boot, in this container are told apart by.
fn host() -> u32 {
    // An atomic and not a OnceLock, which a forked child could find half initialised for ever.
    static HOST: AtomicU64 = AtomicU64::new(0);
    const KNOWN: u64 = 1 << 32;
    let cached = HOST.load(Ordering::Relaxed);
    let id = if cached & KNOWN == 0 {
        let mut sha = Sha1::new();
        sha.update(rustix::system::uname().nodename().to_bytes());
        sha.update(&fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default());
        let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        sha.update(namespace.as_os_str().as_encoded_bytes());
        let [a, b, c, d, ..] = sha.digest().bytes();
        let id = u64::from(u32::from_be_bytes([a, b, c, d]));
        HOST.store(id | KNOWN, Ordering::Relaxed);
        id
    } else {
        cached
    };
    u32::try_from(id & (KNOWN - 1)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_name_is_recognised_as_this_targets_and_only_its() {
        let name = fresh_name(c"a.css", 4711).unwrap();
        let parsed = |target: &[u8]| parse(name.as_bytes(), &prefix(target));
        assert_eq!(parsed(b"a.css"), Some((host(), 4711)));
        assert_eq!(parsed(b"a"), None);
        assert_eq!(parsed(b"b.css"), None);
        assert_ne!(name, fresh_name(c"a.css", 4711).unwrap());
    }

    #[test]
    fn names_that_only_resemble_ours_are_not_recognised() {
        let is_ours = |name: &str| parse(name.as_bytes(), &prefix(b"a")).is_some();
        assert!(is_ours(".a.0123abcd.12.0123456789abcdef.cluster_lock.tmp"));
        for other in [
            ".a.0123abcd.12.0123456789abcdef.cluster_lock.tmp2",
            ".a.0123abcd.12.0123456789abcdef.tmp",
            ".a.0123ABCD.12.0123456789abcdef.cluster_lock.tmp",
            ".a.123abcd.12.0123456789abcdef.cluster_lock.tmp",
            ".a.0123abcd.+12.0123456789abcdef.cluster_lock.tmp",
            ".a.0123abcd.012.0123456789abcdef.cluster_lock.tmp",
            ".a.0123abcd.12.123456789abcdef.cluster_lock.tmp",
            ".a.0123abcd.12.0123456789abcdef.x.cluster_lock.tmp",
            ".a.b.0123abcd.12.0123456789abcdef.cluster_lock.tmp",
            "a.0123abcd.12.0123456789abcdef.cluster_lock.tmp",
            ".a.cluster_lock.tmp",
        ] {
            assert!(!is_ours(other), "{other}");
        }
    }

    #[test]
    fn long_names_fit_stay_apart_and_are_cut_between_characters() {
        let long = |last: &str| CString::new(format!("{}{last}", "x".repeat(254))).unwrap();
        let (a, b) = (long("a"), long("b"));
        let name = fresh_name(&a, u32::MAX).unwrap();
        assert!(name.as_bytes().len() <= 255, "{}", name.as_bytes().len());
        assert!(parse(name.as_bytes(), &prefix(a.as_bytes())).is_some());
        assert!(parse(name.as_bytes(), &prefix(b.as_bytes())).is_none());
        for shift in 0..4 {
            let name = format!("{}{}", "x".repeat(shift), "€".repeat(84));
            assert!(str::from_utf8(&prefix(name.as_bytes())).is_ok(), "shift {shift}");
        }
    }

    #[test]
    fn another_hosts_file_is_stale_only_after_a_day() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let stat = rustix::fs::stat(file.path()).unwrap();
        let (dead, alive) = (0x7FFF_FFFF, process::id());
        let stale = |age, host, pid| is_stale(&stat, stat.st_mtime + age, host, pid);
        assert!(stale(3_700, host(), dead));
        assert!(!stale(3_500, host(), dead));
        assert!(!stale(100_000, host(), alive));
        assert!(!stale(3_700, host() ^ 1, dead));
        assert!(!stale(80_000, host() ^ 1, dead));
        assert!(stale(90_000, host() ^ 1, alive));
    }
}

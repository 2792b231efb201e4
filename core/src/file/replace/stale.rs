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
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Dir, FileType, SeekFrom, Stat, seek, statat, unlinkat};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use rustix::rand::{GetRandomFlags, getrandom};
use sha1_smol::Sha1;

use super::target::Place;

const SUFFIX: &[u8] = b".cluster_lock.tmp";
/// The longest part of a target's name that, with all the rest, fits the 255 bytes of a name.
const MAX_NAME: usize = 200;
/// Seconds since the last write after which the file of a process that is known to be dead is stale.
const STALE_HERE: i64 = 3_600;
/// Seconds since the last write after which the file of a process that cannot be asked (on another node, say) is stale.
const STALE_ELSEWHERE: i64 = 86_400;
/// A directory is searched from its beginning at a process's first write to it, then at most this often.
const SCAN_INTERVAL: Duration = Duration::from_secs(60);
/// The most names that one write reads of the directory: reading ten thousand costs more than the write.
/// The process's next write goes on from there. So of a larger directory a process that writes once sees
/// the beginning only.
const MAX_NAMES: usize = 1000;
/// The most temporary files that one write looks at.
const MAX_FOUND: usize = 100;
/// The most directories whose last search is remembered.
const MAX_SCANS: usize = 256;

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

/// The host and process that made a temporary file, of whatever target; `None` for any other name.
fn parse(entry: &[u8]) -> Option<(u32, u32)> {
    let rest = entry.strip_prefix(b".")?.strip_suffix(SUFFIX)?;
    let mut parts = rest.rsplitn(4, |&byte| byte == b'.');
    let (random, pid, host) = (parts.next()?, parts.next()?, parts.next()?);
    let target = parts.next()?;
    let (random, pid, host) =
        (str::from_utf8(random).ok()?, str::from_utf8(pid).ok()?, str::from_utf8(host).ok()?);
    let host_id = u32::from_str_radix(host, 16).ok()?;
    let pid_id: u32 = pid.parse().ok()?;
    let random_id = u64::from_str_radix(random, 16).ok()?;
    // Written as we write it, to the letter: no upper case, no signs, no more and no fewer digits.
    let ours = !target.is_empty()
        && host == format!("{host_id:08x}")
        && pid == pid_id.to_string()
        && random == format!("{random_id:016x}");
    ours.then_some((host_id, pid_id))
}

/// After a write: removes stale temporary files from its directory, those of any target, for a plugin may
/// give each file a new name. Best effort: what cannot be removed now is left for the next time.
pub(super) fn clean(place: &Place) {
    static SEARCHES: Mutex<Option<HashMap<PathBuf, Search>>> = Mutex::new(None);
    // Never waits: in a forked child the lock may be held by a thread that does not exist.
    let Ok(mut searches) = SEARCHES.try_lock() else { return };
    let searches = searches.get_or_insert_default();
    let (pid, now) = (process::id(), Instant::now());
    let recent =
        |search: &Search| search.by == pid && now.saturating_duration_since(search.begun) < SCAN_INTERVAL;
    let search = match searches.get(place.dir_path()).copied() {
        // Unfinished, it goes on, however long ago it began.
        Some(search @ Search { by, next: Some(_), .. }) if by == pid => search,
        Some(search) if recent(&search) => return,
        _ => Search { by: pid, begun: now, next: Some(0) },
    };
    if searches.len() >= MAX_SCANS {
        searches.retain(|_, search| recent(search));
    }
    if searches.len() >= MAX_SCANS {
        searches.clear();
    }
    let (names, next) = search.next.and_then(|from| read_part(place, from)).unwrap_or_default();
    searches.insert(place.dir_path().to_path_buf(), Search { next, ..search });
    remove_stale(place, &names);
}

/// One search of a directory: by which process, when it began, and from which position it goes on; it has
/// come to the end where there is none.
#[derive(Clone, Copy)]
struct Search {
    by: u32,
    begun: Instant,
    next: Option<u64>,
}

/// A temporary file: its name, and the host and process that made it.
type Found = (CString, u32, u32);

/// The temporary files in the part of the directory that begins at this position, and where the next part
/// begins.
fn read_part(place: &Place, from: u64) -> Option<(Vec<Found>, Option<u64>)> {
    let dir = Dir::read_from(place.dir()).ok()?;
    seek(dir.fd().ok()?, SeekFrom::Start(from)).ok()?;
    let mut found = Vec::new();
    for (read, entry) in dir.enumerate() {
        let entry = entry.ok()?;
        if let Some((host_id, pid)) = parse(entry.file_name().to_bytes()) {
            found.push((entry.file_name().to_owned(), host_id, pid));
        }
        if read + 1 == MAX_NAMES || found.len() == MAX_FOUND {
            return Some((found, u64::try_from(entry.offset()).ok()));
        }
    }
    Some((found, None))
}

fn remove_stale(place: &Place, found: &[Found]) {
    if found.is_empty() {
        return;
    }
    let stat = |name: &CStr| statat(place.dir(), name, AtFlags::SYMLINK_NOFOLLOW);
    // By the file server's clock, which also stamps the temporary files: ours may differ.
    let Ok(now) = stat(place.name()).map(|written| written.st_ctime) else { return };
    for (name, host_id, pid) in found {
        if stat(name).is_ok_and(|temp| is_stale(&temp, now, *host_id, *pid)) {
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
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_fresh_name_is_recognised_whatever_its_target() {
        for target in [c"a.css", c"a", c".a", c"..a..", c"a.0123abcd.12.0123456789abcdef", c"\xff"] {
            let name = fresh_name(target, 4711).unwrap();
            assert_eq!(parse(name.as_bytes()), Some((host(), 4711)), "{name:?}");
            assert_ne!(name, fresh_name(target, 4711).unwrap());
        }
    }

    #[test]
    fn names_that_only_resemble_ours_are_not_recognised() {
        let is_ours = |name: &str| parse(name.as_bytes()).is_some();
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
            "..0123abcd.12.0123456789abcdef.cluster_lock.tmp",
            ".0123abcd.12.0123456789abcdef.cluster_lock.tmp",
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
        assert!(parse(name.as_bytes()).is_some());
        assert_ne!(prefix(a.as_bytes()), prefix(b.as_bytes()));
        for shift in 0..4 {
            let name = format!("{}{}", "x".repeat(shift), "€".repeat(84));
            assert!(str::from_utf8(&prefix(name.as_bytes())).is_ok(), "shift {shift}");
        }
    }

    #[test]
    fn a_large_directory_is_read_in_parts_that_together_are_the_whole() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| fs::write(dir.path().join(name), "").unwrap();
        (0..2 * MAX_NAMES).for_each(|i| file(&i.to_string()));
        let temps: Vec<_> = (0..20).map(|pid| fresh_name(c"a", pid).unwrap()).collect();
        for temp in &temps {
            file(temp.to_str().unwrap());
        }
        let target = super::super::Target::resolve(&dir.path().join("a")).unwrap();
        let (mut next, mut parts, mut found) = (Some(0), 0, Vec::new());
        while let Some(from) = next {
            let (part, rest) = read_part(target.place(), from).unwrap();
            found.extend(part.into_iter().map(|(name, ..)| name));
            (next, parts) = (rest, parts + 1);
        }
        assert_eq!(parts, 3);
        assert_eq!(BTreeSet::from_iter(found), BTreeSet::from_iter(temps));
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

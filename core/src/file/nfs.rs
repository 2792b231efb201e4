//! Network file systems: which files are on one, and what a client's cache has to be told.
//!
//! A kernel lock on a network file is also a cache barrier: the client forgets what it has cached
//! when it takes the lock, and sends what it has written before it gives the lock back. A lock that
//! the kernel does not know of has to do both by itself. Measured with two NFS clients that
//! increment one counter through handles that stay open, under a correct mutual exclusion alone: of
//! 300 increments 150 survived. With [`refresh`] after acquiring and [`flush`] before releasing,
//! all; with one half of either, not all (`lab/nfs` measures it again).

use std::cell::RefCell;
use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{Advice, AtFlags, CWD, StatxFlags, fadvise, fdatasync, fstatfs, readlink, statx};
use rustix::io::{Errno, retry_on_intr};

/// File systems whose server is another machine, by `statfs` magic. FUSE is not among them: it
/// hides local and remote ones behind the same number.
const NETWORK: [u64; 10] = [
    0x6969,      // NFS
    0x517B,      // SMB
    0xFF53_4D42, // CIFS
    0xFE53_4D42, // SMB2
    0x00C3_6400, // Ceph
    0x5346_414F, // AFS
    0x7375_7245, // Coda
    0x0102_1997, // 9P
    0x0BD0_0BD0, // Lustre
    0x4750_4653, // GPFS
];

/// How long a device's kind is remembered. Asking an NFS client is a round trip to its server; a
/// device number may be given to another mount some day.
const REMEMBERED: Duration = Duration::from_secs(60);

struct Mount {
    device: (u32, u32),
    network: bool,
    until: Instant,
}

thread_local! {
    static KNOWN: RefCell<Vec<Mount>> = const { RefCell::new(Vec::new()) };
}

/// Whether the file's server is another machine. At most one round trip to it per minute, thread
/// and mount.
pub fn is_network(file: impl AsFd) -> bool {
    // A local file system always knows. One that does not is a client whose server is out of reach, or
    // has deleted the file (ESTALE).
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let Ok(stat) = statx(&file, c"", flags, StatxFlags::TYPE) else { return true };
    let device = (stat.stx_dev_major, stat.stx_dev_minor);
    let now = Instant::now();
    KNOWN.with_borrow_mut(|known| {
        known.retain(|k| k.until > now);
        if let Some(k) = known.iter().find(|k| k.device == device) {
            return k.network;
        }
        let Ok(fs) = fstatfs(&file) else { return true };
        // Some platforms sign-extend the 32-bit magic number.
        let network = NETWORK.contains(&u64::try_from(fs.f_type & 0xFFFF_FFFF).unwrap_or(0));
        known.push(Mount { device, network, until: now + REMEMBERED });
        network
    })
}

/// How often a name is looked up again that leads to a file which is gone.
const LOOKS: usize = 40;

/// Looks up a name, and again while that fails because it leads to a file that another node has replaced since this one has
/// seen it (ESTALE). Linux does so once; where files are replaced one after the other that is too little.
///
/// # Errors
/// Those of `look_up`; ESTALE after 40 more tries.
pub(crate) fn looked_up<T>(mut look_up: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    for _ in 0..LOOKS {
        match look_up() {
            Err(Errno::STALE) => {}
            outcome => return outcome,
        }
    }
    look_up()
}

/// Makes the client forget what it has cached of an open file: what is read from here on is what
/// the server has. One round trip.
///
/// In this order: the attributes first, then the pages. Pages alone leave a stale size, and with it
/// short reads of a file that has grown; attributes alone leave stale data (measured: 200 of 300).
///
/// # Errors
/// The server's, such as ESTALE when the file is gone.
pub fn refresh(file: impl AsFd) -> Result<(), Errno> {
    retry_on_intr(|| {
        statx(&file, c"", AtFlags::EMPTY_PATH | AtFlags::STATX_FORCE_SYNC, StatxFlags::BASIC_STATS)
    })?;
    fadvise(&file, 0, None, Advice::DontNeed)
}

/// Sends what was written to the server, and learns what became of it. After a node was cut off
/// its `write` still succeeds, and so do unlock and close; this is where it is told.
///
/// # Errors
/// Those of all writes through this handle since the last call.
pub fn flush(file: impl AsFd) -> Result<(), Errno> {
    match retry_on_intr(|| fdatasync(&file)) {
        // This file system has no such thing.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(()),
        outcome => outcome,
    }
}

/// Makes this node ask the server about a path: whether it exists, and its attributes. One round
/// trip for its directory and one for itself; also one for every directory on the way that this
/// node has not seen yet, and the same again for the target of a symbolic link.
pub fn refresh_path(path: &Path) {
    refresh_entry(path);
    if let (Ok(link), Some(parent)) = (readlink(path, Vec::new()), path.parent()) {
        refresh_entry(&parent.join(OsStr::from_bytes(link.as_bytes())));
    }
}

/// The directory first: a client remembers that a name did not exist as long as it believes that
/// the directory is unchanged.
fn refresh_entry(path: &Path) {
    let ask = |path: &Path| {
        retry_on_intr(|| statx(CWD, path, AtFlags::STATX_FORCE_SYNC, StatxFlags::BASIC_STATS)).map(drop)
    };
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty())
        && ask(parent) == Err(Errno::NOENT)
    {
        refresh_entry(parent);
        let _ = ask(parent);
    }
    let _ = ask(path);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn local_files_are_not_on_the_network() {
        assert!(!is_network(File::open("/proc/self/stat").unwrap()));
        assert!(!is_network(tempfile::tempfile().unwrap()));
    }

    #[test]
    fn a_refreshed_file_is_the_same_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "data").unwrap();
        let open = File::open(file.path()).unwrap();
        refresh(&open).unwrap();
        flush(&open).unwrap();
        refresh_path(file.path());
        assert_eq!(std::io::read_to_string(open).unwrap(), "data");
    }

    #[test]
    fn a_name_is_looked_up_until_it_leads_to_a_file_that_is_there() {
        let mut answers = [Errno::STALE, Errno::STALE, Errno::ACCESS, Errno::STALE].into_iter();
        assert_eq!(looked_up(|| answers.next().map_or(Ok(()), Err)), Err(Errno::ACCESS));
        assert_eq!(looked_up(|| answers.next().map_or(Ok(()), Err)), Ok(()));
        let mut looks = 0;
        let gone = looked_up(|| {
            looks += 1;
            Err::<(), _>(Errno::STALE)
        });
        assert_eq!((gone, looks), (Err(Errno::STALE), LOOKS + 1));
    }

    #[test]
    fn a_path_that_is_not_there_is_no_trouble() {
        refresh_path(Path::new("/no/such/directory/at/all"));
        refresh_path(Path::new("relative"));
        refresh_path(Path::new(""));
    }
}

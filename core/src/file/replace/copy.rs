//! Bytes from one descriptor to another, and to the disk.

use std::os::fd::OwnedFd;

use rustix::fs::{copy_file_range, fdatasync, fsync};
use rustix::io::{Errno, read, retry_on_intr, write};

use crate::file::nfs;

/// Copies everything from the present offset of `from` to its end. The error says which step.
pub(super) fn contents(from: &OwnedFd, to: &OwnedFd) -> std::result::Result<(), (&'static str, Errno)> {
    // In the kernel, or on the file server, or by sharing blocks, as far as that is possible.
    loop {
        match copy_file_range(from, None, to, None, 1 << 30) {
            Ok(n) if n > 0 => {}
            Err(Errno::INTR) => {}
            // The end, or "not between these file systems". Both offsets stand where it stopped:
            // the loop below carries on from there and meets the end, or the real error, itself.
            Ok(_) | Err(_) => break,
        }
    }
    let mut buffer = vec![0; 1 << 16];
    loop {
        match read(from, &mut *buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => {
                let data = buffer.get(..n).unwrap_or_default();
                write_all(to, data).map_err(|e| ("cannot write the copy of the old content", e))?;
            }
            Err(Errno::INTR) => {}
            Err(e) => return Err(("cannot read the old content", e)),
        }
    }
}

/// Writes all of it, however many calls that takes.
pub(super) fn write_all(to: &OwnedFd, mut data: &[u8]) -> std::result::Result<(), Errno> {
    while !data.is_empty() {
        match write(to, data) {
            Ok(0) => return Err(Errno::IO),
            Ok(n) => data = data.get(n..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Syncs a file. One that need not be durable is sent to the server all the same where there is one: before its name
/// is, or other nodes would see an empty file.
pub(super) fn synced(file: &OwnedFd, durable: bool) -> std::result::Result<(), Errno> {
    match (durable, nfs::is_network(file)) {
        (true, _) => retry_on_intr(|| fsync(file)),
        (false, true) => retry_on_intr(|| fdatasync(file)),
        (false, false) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};

    fn copied(from: File) -> Vec<u8> {
        let to = tempfile::NamedTempFile::new().unwrap();
        contents(&from.into(), &to.reopen().unwrap().into()).unwrap();
        fs::read(to.path()).unwrap()
    }

    #[test]
    fn what_copy_file_range_cannot_copy_is_read_and_written() {
        // It returns 0 or an error for files of procfs, whatever they contain.
        assert_eq!(copied(File::open("/proc/version").unwrap()), fs::read("/proc/version").unwrap());
    }

    #[test]
    fn a_large_file_is_copied_whole() {
        let from = tempfile::NamedTempFile::new().unwrap();
        let content: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        fs::write(from.path(), &content).unwrap();
        assert_eq!(copied(File::open(from.path()).unwrap()), content);
    }

    #[test]
    fn an_error_names_its_step() {
        let to = tempfile::NamedTempFile::new().unwrap();
        let directory = File::open("/").unwrap().into();
        let outcome = contents(&directory, &to.reopen().unwrap().into());
        assert_eq!(outcome, Err(("cannot read the old content", Errno::ISDIR)));
        let full = File::options().write(true).open("/dev/full").unwrap().into();
        assert_eq!(write_all(&full, b"x"), Err(Errno::NOSPC));
    }
}

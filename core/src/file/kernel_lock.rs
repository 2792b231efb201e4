//! The kernel's own lock on an open file.

use std::os::fd::AsFd;

use rustix::fs::{FlockOperation, flock};
use rustix::io::{Errno, retry_on_intr};

use crate::report::Mode;

/// How a try for the kernel's lock ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelLock {
    /// Held.
    Held,
    /// Another open file has it.
    Taken,
    /// The file is open for reading only and the lock exclusive, or for writing only and shared: NFS
    /// gives none then, where a local file system would.
    NotOpenForIt,
}

/// Tries the kernel's lock, as flock(2). A lock held already is converted.
///
/// # Errors
/// The kernel's.
pub fn try_kernel_lock(file: impl AsFd, mode: Mode) -> std::result::Result<KernelLock, Errno> {
    let operation = match mode {
        Mode::Exclusive => FlockOperation::NonBlockingLockExclusive,
        Mode::Shared => FlockOperation::NonBlockingLockShared,
    };
    match retry_on_intr(|| flock(&file, operation)) {
        Ok(()) => Ok(KernelLock::Held),
        Err(Errno::WOULDBLOCK) => Ok(KernelLock::Taken),
        Err(Errno::BADF) => Ok(KernelLock::NotOpenForIt),
        Err(e) => Err(e),
    }
}

/// Gives the kernel's lock back.
///
/// # Errors
/// The kernel's.
pub fn kernel_unlock(file: impl AsFd) -> std::result::Result<(), Errno> {
    retry_on_intr(|| flock(&file, FlockOperation::Unlock))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_locks_exclude_and_convert() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (a, b) = (file.reopen().unwrap(), file.reopen().unwrap());
        assert_eq!(try_kernel_lock(&a, Mode::Shared), Ok(KernelLock::Held));
        assert_eq!(try_kernel_lock(&b, Mode::Shared), Ok(KernelLock::Held));
        assert_eq!(try_kernel_lock(&a, Mode::Exclusive), Ok(KernelLock::Taken));
        kernel_unlock(&b).unwrap();
        assert_eq!(try_kernel_lock(&a, Mode::Exclusive), Ok(KernelLock::Held));
        assert_eq!(try_kernel_lock(&b, Mode::Shared), Ok(KernelLock::Taken));
    }
}

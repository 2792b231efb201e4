//! The write into a file that no rename can replace, because it is a mount point by itself.
//!
//! By then the new content is complete, in the temporary file. Room for it is reserved before the first byte, as
//! far as the file system can do that. Then the old content is written over, and cut last: a reader without the lock
//! may see the new beginning with the old end, but never an empty file.

use std::ffi::CStr;

use rustix::fs::{FallocateFlags, Mode, OFlags, fallocate, fstat, ftruncate, openat};
use rustix::io::{Errno, retry_on_intr};

use super::copy::{self, synced};
use super::target::{Place, check_type, reason};
use crate::error::Result;

/// Writes the content of `temp` into the target. `verify` is asked as the very last thing before the first byte; its
/// error is returned as it is, and nothing is written.
pub(super) fn write(
    place: &Place,
    temp: &CStr,
    durable: bool,
    verify: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let open = |name, access| retry_on_intr(|| openat(place.dir(), name, flags | access, Mode::empty()));
    let new = open(temp, OFlags::RDONLY).map_err(|e| place.failed("cannot read the new content", e))?;
    let length = fstat(&new).map_err(|e| place.failed("cannot read the new content", e))?.st_size;
    let length = u64::try_from(length).unwrap_or_default();
    let file =
        open(place.name(), OFlags::WRONLY).map_err(|e| place.failed("cannot open the existing file", e))?;
    let stat = fstat(&file).map_err(|e| place.failed("cannot examine the existing file", e))?;
    check_type(stat.st_mode).map_err(|cause| place.error(cause))?;
    if length > 0
        && let Err(e @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) =
            retry_on_intr(|| fallocate(&file, FallocateFlags::KEEP_SIZE, 0, length))
    {
        return Err(place.failed("cannot write", e));
    }

    verify()?;
    let half = |e| {
        let what = "was being written in place, and is neither the old file nor the new one now";
        place.error(format!("{what}: {}", reason(e)))
    };
    copy::contents(&new, &file).map_err(|(_, e)| half(e))?;
    retry_on_intr(|| ftruncate(&file, length)).map_err(half)?;
    synced(&file, durable).map_err(half)?;
    nix::unistd::close(file).map_err(|e| half(Errno::from_raw_os_error(e as i32)))
}

//! Sleeping until something can be read.

use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::clock::Instant;

/// How a wait for data ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// There is something to read.
    Ready,
    /// The time is up.
    TimedOut,
    /// `interrupted` said so.
    Interrupted,
}

/// Sleeps until there is something to read, for at most `limit`. `interrupted` is looked at whenever a signal arrives.
///
/// # Errors
/// The kernel's.
pub(crate) fn until_readable(
    file: impl AsFd,
    limit: Duration,
    interrupted: &dyn Fn() -> bool,
) -> Result<Readiness, Errno> {
    let deadline = Instant::now() + limit;
    loop {
        match among(&mut [PollFd::new(&file, PollFlags::IN)], deadline.remaining()) {
            Ok(1..) => return Ok(Readiness::Ready),
            Ok(0) if deadline.has_passed() => return Ok(Readiness::TimedOut),
            Err(Errno::INTR) if interrupted() => return Ok(Readiness::Interrupted),
            Ok(0) | Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
}

/// Sleeps until something happens to one of several descriptors, for at most `limit`: to how many it did.
///
/// # Errors
/// The kernel's; [`Errno::INTR`] after a signal.
pub(crate) fn among(descriptors: &mut [PollFd<'_>], limit: Duration) -> Result<usize, Errno> {
    let limit = Timespec {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: limit.subsec_nanos().into(),
    };
    poll(descriptors, Some(&limit))
}

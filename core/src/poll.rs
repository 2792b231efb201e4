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

/// How often a long sleep looks whether it is to end.
const LOOK: Duration = Duration::from_secs(1);

/// For how long to sleep of what is `left` until the next look. What is over soon anyway is slept out: to be interrupted
/// costs a connection, and who is just about to ask again is then heard of for the longer.
pub(crate) fn until_look(left: Duration) -> Duration {
    if left > LOOK + LOOK / 2 { LOOK } else { left }
}

/// Sleeps until there is something to read, for at most `limit`. `interrupted` is looked at whenever a signal arrives,
/// and once a second or so.
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
        match among(&mut [PollFd::new(&file, PollFlags::IN)], until_look(deadline.remaining())) {
            Ok(1..) => return Ok(Readiness::Ready),
            Ok(0) if deadline.has_passed() => return Ok(Readiness::TimedOut),
            Ok(0) | Err(Errno::INTR) if interrupted() => return Ok(Readiness::Interrupted),
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::os::unix::net::UnixStream;

    /// No signal arrives, and nothing to read.
    #[test]
    fn a_long_sleep_looks_whether_it_is_to_end() {
        let (quiet, _other) = UnixStream::pair().unwrap();
        let looks = Cell::new(0);
        let second = || looks.replace(looks.get() + 1) == 1;
        let ended = until_readable(&quiet, Duration::from_secs(60), &second).unwrap();
        assert_eq!((ended, looks.get()), (Readiness::Interrupted, 2));
        let never = || unreachable!("it is over soon");
        assert_eq!(until_readable(&quiet, LOOK, &never).unwrap(), Readiness::TimedOut);
    }
}

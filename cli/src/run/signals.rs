//! Signals, and the command's end, as events.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::Cause;

/// Those that are passed on.
const PASSED_ON: [i32; 6] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2];

/// What happens while the command runs.
#[derive(Debug)]
pub(super) enum Event {
    /// It has ended, and can be waited for.
    Ended,
    /// A signal for us.
    Signal {
        /// Which.
        number: i32,
        /// The kernel sent it, to all of the terminal's foreground: somebody pressed ^C.
        by_terminal: bool,
    },
}

/// All signals that came since [`Signals::catch`].
pub(super) struct Signals {
    first: Arc<AtomicUsize>,
    events: Receiver<Event>,
    sender: Sender<Event>,
}

impl Signals {
    /// From here on signals end nobody; they are events.
    pub(super) fn catch() -> io::Result<Self> {
        let first = Arc::new(AtomicUsize::new(0));
        let ignored = ignored()?;
        // What whoever started us has switched off (nohup) stays so, for the command, too.
        let caught: Vec<i32> =
            PASSED_ON.into_iter().filter(|signal| ignored >> (signal - 1) & 1 == 0).collect();
        // By the handler itself, so that a wait that the signal ends finds it set.
        for &signal in &caught {
            signal_hook::flag::register_usize(signal, Arc::clone(&first), signal.unsigned_abs() as usize)?;
        }
        let mut caught = SignalsInfo::<WithOrigin>::new(caught)?;
        let (sender, events) = channel();
        let tell = sender.clone();
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            for origin in &mut caught {
                let by_terminal = origin.cause == Cause::Kernel;
                if tell.send(Event::Signal { number: origin.signal, by_terminal }).is_err() {
                    break;
                }
            }
        })?;
        Ok(Self { first, events, sender })
    }

    /// A signal that has come, if any has.
    pub(super) fn first(&self) -> Option<u8> {
        u8::try_from(self.first.load(Ordering::Relaxed)).ok().filter(|signal| *signal > 0)
    }

    /// For the events of others.
    pub(super) fn sender(&self) -> Sender<Event> {
        self.sender.clone()
    }

    pub(super) fn next(&self, limit: Duration) -> Result<Event, RecvTimeoutError> {
        self.events.recv_timeout(limit)
    }
}

/// A bit for each signal that this process ignores; the lowest is that of signal 1.
fn ignored() -> io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .ok_or_else(|| io::Error::other("/proc/self/status does not tell which signals are ignored"))
}

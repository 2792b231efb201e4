//! Signals, and the command's end, as events; and how to end as a signal ends others.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::emulate_default_handler;
use signal_hook::low_level::siginfo::Cause;

/// Those that are passed on.
pub(super) const PASSED_ON: [i32; 6] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2];

/// How long one kill(2) may take to reach all whom it is sent to.
const SPREAD: Duration = Duration::from_millis(100);

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
    /// Which have come.
    come: Vec<(i32, Arc<AtomicBool>)>,
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
        let mut come = Vec::new();
        for &signal in &caught {
            let has_come = Arc::new(AtomicBool::new(false));
            signal_hook::flag::register(signal, Arc::clone(&has_come))?;
            come.push((signal, has_come));
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
        Ok(Self { first, come, events, sender })
    }

    /// A signal that has come, if any has.
    pub(super) fn first(&self) -> Option<u8> {
        u8::try_from(self.first.load(Ordering::Relaxed)).ok().filter(|signal| *signal > 0)
    }

    /// Whether this one has come, or comes now. One that is sent to several does not reach all at the same time,
    /// and the command's end may be known before.
    pub(super) fn has_come(&self, number: i32) -> bool {
        let Some((_, has_come)) = self.come.iter().find(|(signal, _)| *signal == number) else {
            return false;
        };
        let until = Instant::now() + SPREAD;
        while !has_come.load(Ordering::Relaxed) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.next(left).is_err() {
                break;
            }
        }
        has_come.load(Ordering::Relaxed)
    }

    /// For the events of others.
    pub(super) fn sender(&self) -> Sender<Event> {
        self.sender.clone()
    }

    pub(super) fn next(&self, limit: Duration) -> Result<Event, RecvTimeoutError> {
        self.events.recv_timeout(limit)
    }
}

/// Ends this process as the signal would have ended it, had it not been caught: whoever waits for it, a shell above
/// all, sees that. Returns when that fails.
pub(crate) fn die_of(number: u8) {
    // Of a core file nobody would have any use, and a password may stand in it.
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let _ = setrlimit(Resource::Core, none);
    let _ = emulate_default_handler(i32::from(number));
}

/// A bit for each signal that this process ignores; the lowest is that of signal 1.
fn ignored() -> io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .ok_or_else(|| io::Error::other("/proc/self/status does not tell which signals are ignored"))
}

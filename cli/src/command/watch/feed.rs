//! Looks at the server, in a thread of its own, so that keys work while a server does not answer.
//!
//! A look at thousands of locks costs the server something, and it is to keep the locks. So all of them are looked at
//! the less often the more they are ([`pause`]), and in between those that are on the screen.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use cluster_lock_core::{Broken, Engine, LockName, LockReport};

use crate::lock::another;
use crate::outcome::{Failure, Result};
use crate::servers::ahead;
use crate::units::now;

/// So many locks are shown at most.
const MOST: usize = 10_000;

/// How often the server's clock is compared with ours.
const CLOCK: Duration = Duration::from_secs(60);

/// So many holders and waiters are read in a second, on average, and in one look at what is on the screen: about 1 % of
/// what a server can do.
const A_SECOND: usize = 500;

/// What was found out.
#[derive(Debug)]
pub(super) enum News {
    /// What is held, at this time of the server.
    Locks(Vec<LockReport>, f64),
    /// What has become of some of them, at this time of the server.
    Some(Vec<(LockName, Option<LockReport>)>, f64),
    /// The server cannot be asked.
    Trouble(String),
    /// A lock was broken, or not: in words.
    Broken(String),
}

enum Order {
    Look,
    Break(LockName, u64),
}

pub(super) struct Feed {
    orders: Sender<Order>,
    news: Receiver<News>,
    shown: Arc<Mutex<Vec<LockName>>>,
}

/// How much there was to read.
fn size(locks: &[LockReport]) -> usize {
    locks.iter().map(of_one).sum()
}

fn of_one(lock: &LockReport) -> usize {
    (lock.holders.len() + lock.waiters.len()).max(1)
}

/// How long after a look at all of them the next one comes.
pub(super) fn pause(interval: Duration, locks: &[LockReport]) -> Duration {
    let second = u32::try_from(A_SECOND).unwrap_or(u32::MAX);
    interval.max(Duration::from_secs(1) * u32::try_from(size(locks)).unwrap_or(u32::MAX) / second)
}

impl Feed {
    /// The first look is made here.
    ///
    /// # Errors
    /// It fails: the wrong server, most likely.
    pub(super) fn start(engine: Engine, prefix: &[u8], interval: Duration) -> Result<Self> {
        let (order, orders) = channel();
        let (tell, news) = channel();
        let prefix = prefix.to_vec();
        let shown = Arc::new(Mutex::new(Vec::new()));
        let first = engine.list(&prefix, MOST)?;
        let mut clock = (ahead(&engine.servers()), Instant::now());
        let mut next = Instant::now() + pause(interval, &first);
        let _ = tell.send(News::Locks(first, now() + clock.0));
        let on_screen = Arc::clone(&shown);
        thread::Builder::new()
            .name("feed".into())
            .spawn(move || {
                loop {
                    let order = orders.recv_timeout(interval);
                    let at_once = order.is_ok();
                    match order {
                        Ok(Order::Break(name, fence)) => {
                            let outcome = broken(&engine, &name, fence, now() + clock.0);
                            let _ = tell.send(News::Broken(format!("lock \"{name}\": {outcome}")));
                        }
                        Ok(Order::Look) | Err(RecvTimeoutError::Timeout) => {}
                        Err(RecvTimeoutError::Disconnected) => return engine.shutdown(),
                    }
                    if clock.1.elapsed() >= CLOCK {
                        clock = (ahead(&engine.servers()), Instant::now());
                    }
                    let news = if at_once || Instant::now() >= next {
                        engine.list(&prefix, MOST).map(|locks| {
                            next = Instant::now() + pause(interval, &locks);
                            News::Locks(locks, now() + clock.0)
                        })
                    } else {
                        let names = on_screen.lock().map(|names| names.clone()).unwrap_or_default();
                        look_at(&engine, names).map(|some| News::Some(some, now() + clock.0))
                    };
                    if tell.send(news.unwrap_or_else(|error| News::Trouble(error.to_string()))).is_err() {
                        return engine.shutdown();
                    }
                }
            })
            .map_err(Failure::system("a thread"))?;
        Ok(Self { orders: order, news, shown })
    }

    /// These are on the screen.
    pub(super) fn shown(&self, names: Vec<LockName>) {
        if let Ok(mut shown) = self.shown.lock() {
            *shown = names;
        }
    }

    /// All that has arrived.
    pub(super) fn news(&self) -> impl Iterator<Item = News> {
        self.news.try_iter()
    }

    pub(super) fn look(&self) {
        let _ = self.orders.send(Order::Look);
    }

    /// Breaks a lock, if nobody has been let in since the holder with this fencing token.
    pub(super) fn break_lock(&self, name: LockName, fence: u64) {
        let _ = self.orders.send(Order::Break(name, fence));
    }
}

/// Breaks a lock, and says what has come of that.
fn broken(engine: &Engine, name: &LockName, fence: u64, now: f64) -> String {
    match engine.break_lock(name, Some(fence)) {
        Ok(Broken::Yes) => "it is broken".into(),
        Ok(Broken::Free) => "it was released meanwhile".into(),
        Ok(Broken::Another) => another(engine.info(name).ok().flatten().as_ref(), now),
        Err(error) => format!("it is not broken: {error}"),
    }
}

/// What has become of these; of the first of them, when many wait for them.
fn look_at(
    engine: &Engine,
    names: Vec<LockName>,
) -> cluster_lock_core::Result<Vec<(LockName, Option<LockReport>)>> {
    let mut read = 0;
    let mut found = Vec::new();
    for name in names {
        if read > A_SECOND {
            break;
        }
        let lock = engine.info(&name)?;
        read += lock.as_ref().map_or(1, of_one);
        found.push((name, lock));
    }
    Ok(found)
}

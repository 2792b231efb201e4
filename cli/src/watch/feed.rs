//! Looks at the server, in a thread of its own, so that keys work while a server does not answer.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use cluster_lock_core::{Broken, Engine, LockName, LockReport};

use crate::break_lock::another;
use crate::outcome::{Failure, Result};
use crate::status::ahead;
use crate::units::now;

/// So many locks are shown at most.
const MOST: usize = 10_000;

/// How often the server's clock is compared with ours.
const CLOCK: Duration = Duration::from_secs(60);

/// What was found out.
#[derive(Debug)]
pub(super) enum News {
    /// What is held, at this time of the server.
    Locks(Vec<LockReport>, f64),
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
        let first = engine.list(&prefix, MOST)?;
        let mut clock = (ahead(&engine.servers()), Instant::now());
        let _ = tell.send(News::Locks(first, now() + clock.0));
        thread::Builder::new()
            .name("feed".into())
            .spawn(move || {
                loop {
                    match orders.recv_timeout(interval) {
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
                    let news = match engine.list(&prefix, MOST) {
                        Ok(locks) => News::Locks(locks, now() + clock.0),
                        Err(error) => News::Trouble(error.to_string()),
                    };
                    if tell.send(news).is_err() {
                        return engine.shutdown();
                    }
                }
            })
            .map_err(Failure::system("a thread"))?;
        Ok(Self { orders: order, news })
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

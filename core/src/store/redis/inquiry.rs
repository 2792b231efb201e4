//! What many want to know at once is asked once: one asks, the others wait for its answer.

use std::sync::Mutex;
use std::time::Duration;

use crate::clock::Instant;
use crate::error::Result;
use crate::thread::lock;

/// For so long an answer counts as new. What a fail-over changes is asked for in a loop, by every
/// waiter of a process.
const FRESH: Duration = Duration::from_millis(100);

/// A question, and its last answer.
pub(crate) struct Inquiry<T> {
    asking: Mutex<()>,
    last: Mutex<Last<T>>,
}

struct Last<T> {
    /// How many answers there were.
    count: u64,
    answer: Option<(Instant, Result<T>)>,
}

impl<T: Clone> Inquiry<T> {
    pub(crate) fn new() -> Self {
        Self { asking: Mutex::new(()), last: Mutex::new(Last { count: 0, answer: None }) }
    }

    /// What `ask` answers; or what somebody else was told while we waited for our turn, or a moment
    /// ago, if that `holds` still.
    ///
    /// # Errors
    /// Those of `ask`.
    pub(crate) fn answer(
        &self,
        ask: impl FnOnce() -> Result<T>,
        holds: impl FnOnce(&T) -> bool,
    ) -> Result<T> {
        let before = lock(&self.last).count;
        let _one_at_a_time = lock(&self.asking);
        {
            let last = lock(&self.last);
            if let Some((when, answer)) = &last.answer
                && (last.count != before || !(*when + FRESH).has_passed())
                && answer.as_ref().map_or(true, holds)
            {
                return answer.clone();
            }
        }
        let answer = ask();
        let mut last = lock(&self.last);
        last.count += 1;
        last.answer = Some((Instant::now(), answer.clone()));
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread;

    #[test]
    fn many_ask_once() {
        let (inquiry, asked) = (Arc::new(Inquiry::new()), Arc::new(AtomicU32::new(0)));
        let threads: Vec<_> = (0..20)
            .map(|_| {
                let (inquiry, asked) = (Arc::clone(&inquiry), Arc::clone(&asked));
                thread::spawn(move || {
                    let ask = || {
                        asked.fetch_add(1, Ordering::Relaxed);
                        thread::sleep(FRESH / 2);
                        Ok(7)
                    };
                    inquiry.answer(ask, |_| true)
                })
            })
            .collect();
        for thread in threads {
            assert_eq!(thread.join().unwrap().unwrap(), 7);
        }
        // Twice if this machine needed so long to start the threads that the first answer grew old.
        assert!(asked.load(Ordering::Relaxed) <= 2);
    }

    #[test]
    fn an_answer_grows_old() {
        let inquiry = Inquiry::new();
        assert_eq!(inquiry.answer(|| Ok(1), |_| true).unwrap(), 1);
        thread::sleep(FRESH);
        assert_eq!(inquiry.answer(|| Ok(2), |_| true).unwrap(), 2);
    }

    #[test]
    fn an_answer_that_does_not_hold_any_more_is_not_given() {
        let inquiry = Inquiry::new();
        assert_eq!(inquiry.answer(|| Ok(1), |_| true).unwrap(), 1);
        assert_eq!(inquiry.answer(|| Ok(2), |answer| *answer != 1).unwrap(), 2);
    }
}

//! What is shown, and what keys do to it. Knows neither terminal nor server.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use cluster_lock_core::{LockName, LockReport};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::feed::{News, pause};
use crate::lock::longest_wait;
use crate::units::between;

/// What follows from a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Stay,
    Leave,
    /// Look at the server now.
    Look,
    /// Break this lock of the holder with this fencing token; the question has been answered.
    Break(LockName, u64),
}

#[derive(Debug)]
pub(super) struct App {
    pub(super) server: String,
    /// Longest wait first, then longest hold.
    pub(super) locks: Vec<LockReport>,
    /// The server's time at the last look.
    pub(super) now: f64,
    /// By name, because the order changes.
    chosen: Option<LockName>,
    /// Whether holders and waiters of the chosen one are shown.
    pub(super) details: bool,
    /// The lock that may be broken, as it was when the question was put: that is whose holder is meant.
    pub(super) question: Option<LockReport>,
    /// How often the user wants to see something new.
    pub(super) interval: Duration,
    /// How often all locks are looked at.
    pub(super) every: Duration,
    /// The first line on the screen.
    pub(super) top: usize,
    /// What went wrong at the last look.
    pub(super) trouble: Option<String>,
    /// What was done last.
    pub(super) message: Option<String>,
}

impl App {
    pub(super) fn new(server: String, interval: Duration) -> Self {
        Self {
            server,
            interval,
            every: interval,
            top: 0,
            locks: Vec::new(),
            now: 0.0,
            chosen: None,
            details: false,
            question: None,
            trouble: None,
            message: None,
        }
    }

    pub(super) fn learn(&mut self, news: News) {
        match news {
            News::Locks(locks, now) => {
                self.every = pause(self.interval, &locks);
                self.show(locks, now);
            }
            News::Some(some, now) => {
                let mut some: BTreeMap<_, _> = some.into_iter().collect();
                let locks = self.locks.iter().filter_map(|lock| match some.remove(&lock.name) {
                    Some(news) => news,
                    None => Some(lock.clone()),
                });
                self.show(locks.collect(), now);
            }
            News::Trouble(trouble) => self.trouble = Some(trouble),
            News::Broken(message) => self.message = Some(message),
        }
    }

    fn show(&mut self, mut locks: Vec<LockReport>, now: f64) {
        locks.sort_by_key(|lock| Reverse((longest_wait(lock, now), between(lock.since, now))));
        let place = self.place();
        (self.locks, self.now, self.trouble) = (locks, now, None);
        if self.place().is_none() {
            // It is gone: the one that moved up to its place.
            self.choose(place.unwrap_or_default());
        }
    }

    /// Which line is chosen.
    pub(super) fn place(&self) -> Option<usize> {
        let chosen = self.chosen.as_ref()?;
        self.locks.iter().position(|lock| lock.name == *chosen)
    }

    pub(super) fn chosen(&self) -> Option<&LockReport> {
        self.locks.get(self.place()?)
    }

    fn choose(&mut self, place: usize) {
        let place = place.min(self.locks.len().saturating_sub(1));
        self.chosen = self.locks.get(place).map(|lock| lock.name.clone());
    }

    /// The lines that are on the screen, when there is room for so many.
    pub(super) fn visible(&mut self, room: usize) -> &[LockReport] {
        let place = self.place().unwrap_or_default();
        let last = self.locks.len().saturating_sub(room);
        self.top = self.top.min(place).max((place + 1).saturating_sub(room)).min(last);
        self.locks.get(self.top..).map_or(&[], |rest| rest.get(..room).unwrap_or(rest))
    }

    pub(super) fn press(&mut self, key: KeyEvent) -> Step {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        if control && matches!(key.code, KeyCode::Char('c' | 'd')) {
            return Step::Leave;
        }
        if let Some(lock) = self.question.take() {
            if matches!(key.code, KeyCode::Char('y' | 'Y')) {
                return Step::Break(lock.name, lock.fence);
            }
            self.message = Some("nothing was done".into());
            return Step::Stay;
        }
        self.message = None;
        let place = self.place().unwrap_or_default();
        match key.code {
            KeyCode::Esc if self.details => self.details = false,
            KeyCode::Char('q') | KeyCode::Esc => return Step::Leave,
            KeyCode::Char('r' | ' ') => return Step::Look,
            KeyCode::Char('b') => self.question = self.chosen().cloned(),
            KeyCode::Enter => self.details = !self.details,
            KeyCode::Up | KeyCode::Char('k') => self.choose(place.saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => self.choose(place + 1),
            KeyCode::PageUp => self.choose(place.saturating_sub(10)),
            KeyCode::PageDown => self.choose(place + 10),
            KeyCode::Home => self.choose(0),
            KeyCode::End => self.choose(usize::MAX),
            _ => {}
        }
        Step::Stay
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster_lock_core::{Identity, Mode, Waiter};

    fn lock(name: &str, since: f64, waits: &[f64]) -> LockReport {
        let waiter =
            |since: &f64| Waiter { identity: Identity::default(), since: *since, mode: Mode::Exclusive };
        LockReport {
            name: LockName::new(name.as_bytes()).unwrap(),
            mode: Mode::Exclusive,
            fence: 1,
            ttl: Duration::from_secs(10),
            since,
            holders: Vec::new(),
            waiters: waits.iter().map(waiter).collect(),
            more_holders: 0,
            more_waiters: 0,
        }
    }

    fn names(app: &App) -> Vec<String> {
        app.locks.iter().map(|lock| lock.name.to_string()).collect()
    }

    fn press(app: &mut App, code: KeyCode) -> Step {
        app.press(code.into())
    }

    fn app() -> App {
        let mut app = App::new("redis://h".into(), Duration::from_secs(1));
        let locks =
            vec![lock("idle", 1.0, &[]), lock("short", 50.0, &[99.0]), lock("long", 60.0, &[95.0, 97.0])];
        app.learn(News::Locks(locks, 100.0));
        app
    }

    #[test]
    fn who_waits_longest_comes_first() {
        assert_eq!(names(&app()), ["long", "short", "idle"]);
    }

    #[test]
    fn the_choice_stays_with_its_lock_and_moves_on_when_that_is_gone() {
        let mut app = app();
        press(&mut app, KeyCode::Down);
        assert_eq!(app.chosen().unwrap().name.to_string(), "short");
        app.learn(News::Locks(vec![lock("new", 1.0, &[90.0]), lock("short", 50.0, &[])], 101.0));
        assert_eq!((app.place(), names(&app)[1].as_str()), (Some(1), "short"));
        app.learn(News::Locks(vec![lock("new", 1.0, &[])], 102.0));
        assert_eq!(app.place(), Some(0));
        app.learn(News::Locks(vec![], 103.0));
        assert_eq!((app.place(), press(&mut app, KeyCode::Down)), (None, Step::Stay));
    }

    #[test]
    fn what_is_known_of_some_leaves_the_others() {
        let mut app = app();
        let name = |name: &str| LockName::new(name.as_bytes()).unwrap();
        let some = vec![
            (name("idle"), Some(lock("idle", 1.0, &[80.0]))),
            (name("long"), None),
            (name("unknown"), Some(lock("unknown", 1.0, &[]))),
        ];
        app.learn(News::Some(some, 102.0));
        assert_eq!((names(&app), app.now), (vec!["idle".to_owned(), "short".into()], 102.0));
    }

    #[test]
    fn the_more_there_are_the_less_often_all_are_looked_at() {
        let second = Duration::from_secs(1);
        let many: Vec<LockReport> = (0..5000).map(|n| lock(&n.to_string(), 1.0, &[])).collect();
        assert_eq!(pause(second, &many), 10 * second);
        assert_eq!(pause(second, &many[..100]), second);
        assert_eq!(pause(60 * second, &many), 60 * second);
        assert_eq!(pause(second, &[lock("wanted", 1.0, &vec![1.0; 5000])]), 10 * second);
    }

    #[test]
    fn lines_follow_the_choice() {
        let mut app = app();
        let many = (0..100).map(|n| lock(&format!("{n:02}"), f64::from(n), &[])).collect();
        app.learn(News::Locks(many, 100.0));
        let seen = |app: &mut App| {
            let lines = app.visible(10);
            (lines.first().unwrap().name.to_string(), lines.last().unwrap().name.to_string())
        };
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(seen(&mut app), pair("00", "09"));
        for (key, first, last) in [
            (KeyCode::PageDown, "01", "10"),
            (KeyCode::Up, "01", "10"),
            (KeyCode::End, "90", "99"),
            (KeyCode::Up, "90", "99"),
            (KeyCode::Home, "00", "09"),
        ] {
            press(&mut app, key);
            assert_eq!(seen(&mut app), pair(first, last), "{key:?}");
        }
        assert_eq!(app.visible(200).len(), 100);
        assert!(app.visible(0).is_empty());
    }

    #[test]
    fn nothing_is_broken_without_a_yes_and_then_what_was_asked_about() {
        let mut app = app();
        press(&mut app, KeyCode::Char('b'));
        assert!(app.question.is_some());
        assert_eq!(press(&mut app, KeyCode::Enter), Step::Stay);
        assert_eq!(app.question, None);
        press(&mut app, KeyCode::Char('b'));
        // The order changes while the question stands, and so does the holder.
        let next = LockReport { fence: 2, ..lock("long", 60.0, &[95.0]) };
        app.learn(News::Locks(vec![lock("other", 1.0, &[1.0]), next], 110.0));
        let expected = LockName::new(b"long").unwrap();
        assert_eq!(press(&mut app, KeyCode::Char('y')), Step::Break(expected, 1));
    }

    #[test]
    fn keys_that_leave() {
        for code in [KeyCode::Char('q'), KeyCode::Esc] {
            assert_eq!(press(&mut app(), code), Step::Leave);
        }
        let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        let mut app = app();
        press(&mut app, KeyCode::Char('b'));
        assert_eq!(app.press(control_c), Step::Leave);
    }
}

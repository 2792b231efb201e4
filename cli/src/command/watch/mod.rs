//! `watch`: the locks as they are now, and now, and now.

mod app;
mod draw;
mod feed;
mod screen;

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyEventKind};
use ratatui::crossterm::style::force_color_output;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::command::list;
use crate::outcome::{Failure, Outcome, Result};
use crate::output::Output;
use crate::target::Target;
use crate::units::seconds;
use app::{App, Step};
use feed::Feed;
use screen::Screen;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Sorted by who waits longest, then by who holds longest. Where there are more than some hundred, all are looked at less \
often (the second line says how often), and those on the screen as often as wanted; r looks at all. Keys: up and down (or k and j) choose, Enter shows holders and waiters, b breaks \
the lock after a question, r looks at once, q leaves. Where standard output is no terminal, and \
with --json, it prints once what list prints.")]
pub(crate) struct Args {
    /// Only locks whose names begin with this
    #[arg(id = "names", value_name = "PREFIX", default_value = "", hide_default_value = true)]
    prefix: OsString,

    /// Look again after so many seconds
    #[arg(short = 'n', long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    interval: Duration,
}

/// How often keys, signals and news are looked for.
const TICK: Duration = Duration::from_millis(50);

pub(crate) fn run(args: &Args, target: &Target, out: &Output) -> Result<Outcome> {
    if out.json || !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return list::once(&args.prefix, target, out);
    }
    let ended_by = Arc::new(AtomicUsize::new(0));
    for signal in [SIGTERM, SIGHUP, SIGINT] {
        signal_hook::flag::register_usize(signal, Arc::clone(&ended_by), signal.unsigned_abs() as usize)
            .map_err(Failure::system("signal handlers"))?;
    }
    // The first look is a plain one: whoever names the wrong server reads so on the screen that stays.
    let engine = target.engine()?;
    let interval = args.interval.max(TICK);
    let feed = Feed::start(engine, args.prefix.as_bytes(), interval)?;
    let mut app = App::new(target.config.dsn.redacted(), interval);
    if out.has_colour() {
        // Whoever says so wants it in spite of NO_COLOR, which the library looks at by itself.
        force_color_output(true);
    }
    let mut screen = Screen::enter().map_err(Failure::system("the terminal"))?;
    let outcome = show(&mut app, &feed, &mut screen, &ended_by, out.has_colour());
    screen.leave();
    outcome.map_err(Failure::system("the terminal"))
}

fn show(
    app: &mut App,
    feed: &Feed,
    screen: &mut Screen,
    ended_by: &AtomicUsize,
    has_colour: bool,
) -> io::Result<Outcome> {
    let mut is_new = true;
    loop {
        if let Ok(signal @ 1..) = u8::try_from(ended_by.load(Ordering::Relaxed)) {
            return Ok(Outcome::Signal(signal));
        }
        for news in feed.news() {
            app.learn(news);
            is_new = true;
        }
        if std::mem::take(&mut is_new) {
            screen.draw(|frame| {
                feed.shown(draw::draw(app, frame));
                if !has_colour {
                    draw::bleach(frame);
                }
            })?;
        }
        if !event::poll(TICK)? {
            continue;
        }
        // A key, or another size.
        is_new = true;
        if let Event::Key(key) = event::read()?
            && key.kind != KeyEventKind::Release
        {
            match app.press(key) {
                Step::Stay => {}
                Step::Leave => return Ok(Outcome::Yes),
                Step::Look => feed.look(),
                Step::Break(name, fence) => feed.break_lock(name, fence),
            }
        }
    }
}

//! How it looks. Everything that others wrote has been made printable.

use cluster_lock_core::{Identity, LockName, LockReport, text};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Clear, Paragraph, Row, Table, TableState, Wrap};

use super::app::App;
use crate::lock::{doing, held, longest_wait, mode, process};
use crate::table::fit;
use crate::units::{between, span};

/// Returns the names of the locks that are on the screen now.
pub(super) fn draw(app: &mut App, frame: &mut Frame<'_>) -> Vec<LockName> {
    let half = frame.area().height / 2;
    let room = usize::from(half.saturating_sub(2));
    let width = usize::from(frame.area().width);
    let details = app.chosen().filter(|_| app.details).map(|lock| about(lock, app.now, room, width));
    let below = details.as_ref().map_or(0, |lines| u16::try_from(lines.len()).unwrap_or(u16::MAX) + 1);
    let [head, table, more, foot] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Min(3),
        Constraint::Length(below.min(half)),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(title(app)), head);
    let shown = locks(app, frame, table);
    if let Some(lines) = details {
        frame.render_widget(
            Paragraph::new(lines).block(Block::new().borders(ratatui::widgets::Borders::TOP)),
            more,
        );
    }
    frame.render_widget(Paragraph::new(footer(app)), foot);
    if let Some(lock) = &app.question {
        question(frame, &format!("Break lock \"{}\"? {}", lock.name, held(lock, app.now)));
    }
    shown
}

/// Takes the colours away; bold and reversed stay, by which the chosen line is known.
pub(super) fn bleach(frame: &mut Frame<'_>) {
    for cell in &mut frame.buffer_mut().content {
        (cell.fg, cell.bg) = (Color::Reset, Color::Reset);
    }
}

fn title(app: &App) -> Vec<Line<'_>> {
    let waiters: usize = app.locks.iter().map(LockReport::waiting).sum();
    let longest = app.locks.iter().filter_map(|lock| longest_wait(lock, app.now)).max();
    let longest = longest.map_or_else(String::new, |longest| format!(", the longest for {}", span(longest)));
    let seldom = app.every > app.interval;
    let often = if seldom {
        format!(" (those below as they are now, all every {})", span(app.every))
    } else {
        String::new()
    };
    let second = match &app.trouble {
        Some(trouble) => Line::from(text::said(trouble)).style(Style::new().fg(Color::Red)),
        None => Line::from(format!("{} held, {waiters} waiting{longest}{often}", app.locks.len())),
    };
    vec![Line::from(app.server.as_str()).bold(), second]
}

fn footer(app: &App) -> Line<'_> {
    match &app.message {
        Some(message) => Line::from(message.as_str()).style(Style::new().fg(Color::Yellow)),
        None => {
            Line::from(" ↑↓ choose   Enter holders and waiters   b break   r look now   q leave ").reversed()
        }
    }
}

fn locks(app: &mut App, frame: &mut Frame<'_>, area: Rect) -> Vec<LockName> {
    let wide = area.width >= 100;
    let titles = ["NAME", "MODE", "NODE", "PID", "WHAT", "CALL", "HELD", "LEASE", "WAITING", "LONGEST"];
    let optional = |width| Constraint::Length(if wide { width } else { 0 });
    let calls = area.width >= 140;
    let widths = [
        Constraint::Fill(3),
        Constraint::Length(4),
        Constraint::Fill(1),
        Constraint::Length(8),
        Constraint::Fill(if wide { 2 } else { 1 }),
        if calls { Constraint::Fill(4) } else { Constraint::Length(0) },
        Constraint::Length(10),
        optional(7),
        Constraint::Length(7),
        Constraint::Length(10),
    ];
    // As the table does it: what is cut, we cut, so that the end of a path is seen.
    let places = Layout::horizontal(widths).spacing(1).split(area);
    let room = |column: usize| places.get(column).map_or(0, |place| usize::from(place.width));
    // Only what is seen is made into lines: there may be thousands.
    let (now, chosen) = (app.now, app.place());
    let visible = app.visible(usize::from(area.height.saturating_sub(1)));
    let shown = visible.iter().map(|lock| lock.name.clone()).collect();
    let rows: Vec<Row<'_>> =
        visible.iter().map(|lock| row(lock, now, wide, [room(0), room(4), room(5)])).collect();
    let table = Table::new(rows, widths)
        .header(Row::new(titles).bold())
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::new().with_selected(chosen.and_then(|place| place.checked_sub(app.top)));
    frame.render_stateful_widget(table, area, &mut state);
    shown
}

fn row(lock: &LockReport, now: f64, wide: bool, [name, what, call]: [usize; 3]) -> Row<'static> {
    let first = lock.holders.first().map(|holder| &holder.identity);
    let more = match lock.holding() {
        0 | 1 => String::new(),
        n => format!(" +{}", n - 1),
    };
    let wait = longest_wait(lock, now);
    let style = if wait.is_some() { Style::new().fg(Color::Yellow) } else { Style::new() };
    Row::new([
        Cell::from(fit(&lock.name.to_string(), name)),
        Cell::from(first.map_or("", |who| mode(lock.mode, who))),
        Cell::from(first.map_or_else(String::new, |who| text::said(&who.node)) + &more),
        Cell::from(first.map_or_else(String::new, |who| who.pid.to_string())),
        Cell::from(fit(&first.map_or_else(String::new, doing), what)),
        Cell::from(if call > 0 {
            fit(&first.map_or_else(String::new, |who| who.call.to_string()), call)
        } else {
            String::new()
        }),
        Cell::from(span(between(lock.since, now))),
        Cell::from(if wide { span(lock.ttl) } else { String::new() }),
        Cell::from(lock.waiting().to_string()),
        Cell::from(wait.map_or_else(String::new, span)),
    ])
    .style(style)
}

/// The lock, and whom there is room for of those who hold it and wait for it, each with the code that asks.
fn about(lock: &LockReport, now: f64, room: usize, width: usize) -> Vec<Line<'static>> {
    let told = |line: String, identity: &Identity, style: Style| {
        let call = format!("       in {}", identity.call);
        let call = (!identity.call.is_unknown()).then(|| fit(&call, width));
        let lines = std::iter::once(line).chain(call);
        lines.map(|line| Line::from(Span::styled(line, style))).collect::<Vec<_>>()
    };
    let holders = lock.holders.iter().map(|holder| {
        let line = format!(
            "holds  {} for {}, lease left {}, fence {}",
            process(&holder.identity),
            span(between(holder.since, now)),
            span(holder.lease_left),
            holder.fence
        );
        told(line, &holder.identity, Style::new())
    });
    let waiters = lock.waiters.iter().map(|waiter| {
        let long = span(between(waiter.since, now));
        let line = format!(
            "waits  {} for {long} ({})",
            process(&waiter.identity),
            mode(waiter.mode, &waiter.identity)
        );
        told(line, &waiter.identity, Style::new().fg(Color::Yellow))
    });
    let all = lock.holding() + lock.waiting();
    let (mut lines, mut shown) = (vec![Line::from(lock.name.to_string()).bold()], 0);
    for one in holders.chain(waiters) {
        // Besides the head, and a line for those whom there is no room for.
        let room = if shown + 1 == all { room + 1 } else { room };
        if lines.len() + one.len() > room {
            break;
        }
        lines.extend(one);
        shown += 1;
    }
    let others = all - shown;
    if others > 0 {
        let (hold, wait) = (lock.holding(), lock.waiting());
        lines.push(Line::from(format!("and {others} more: {hold} in all hold it, {wait} wait")));
    }
    lines
}

fn question(frame: &mut Frame<'_>, text: &str) {
    let area = frame.area();
    let (width, height) = (area.width.min(76), area.height.min(8));
    let place = Rect::new((area.width - width) / 2, (area.height - height) / 2, width, height);
    let style = Style::new().fg(Color::White).bg(Color::Red);
    let block = Block::bordered().title_bottom(" y breaks it, any other key does not ");
    frame.render_widget(Clear, place);
    frame.render_widget(
        Paragraph::new(text.to_owned()).wrap(Wrap { trim: false }).block(block).style(style),
        place,
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use cluster_lock_core::{Call, Holder, Mode, Waiter};

    #[test]
    fn whom_there_is_no_room_for_is_counted() {
        let holder = Holder {
            identity: Identity::default(),
            since: 1.0,
            fence: 1,
            lease_left: Duration::from_secs(1),
        };
        let waiter = Waiter { identity: Identity::default(), since: 2.0, mode: Mode::Exclusive };
        let mut lock = LockReport {
            name: LockName::new(b"job").unwrap(),
            mode: Mode::Exclusive,
            fence: 1,
            ttl: Duration::from_secs(1),
            since: 1.0,
            holders: vec![holder],
            waiters: vec![waiter; 9],
            more_holders: 0,
            more_waiters: 0,
        };
        let told = |lock: &LockReport, room| {
            let lines = about(lock, 3.0, room, 80);
            (lines.len(), lines.last().unwrap().to_string())
        };
        assert_eq!(told(&lock, 10), (11, "waits  an unknown node pid 0 - for 1.0 s (EX)".into()));
        assert_eq!(told(&lock, 5), (6, "and 6 more: 1 in all hold it, 9 wait".into()));
        assert_eq!(told(&lock, 0), (2, "and 10 more: 1 in all hold it, 9 wait".into()));
        for waiter in &mut lock.waiters {
            waiter.identity.call = Call { function: "f".into(), file: "/x".repeat(50) + "/end.php", line: 7 };
        }
        // The holder has a line, each waiter two.
        assert_eq!(told(&lock, 19).0, 20);
        assert_eq!(told(&lock, 18), (19, "and 1 more: 1 in all hold it, 9 wait".into()));
        let call = about(&lock, 3.0, 19, 80).pop().unwrap().to_string();
        assert!(call.starts_with("       in f() at /x") && call.ends_with("/end.php:7"), "{call}");
        assert_eq!(call.chars().count(), 80);
        for waiter in &mut lock.waiters {
            waiter.identity.call = Call::default();
        }
        lock.more_waiters = 70_000;
        assert_eq!(told(&lock, 99), (12, "and 70000 more: 1 in all hold it, 70009 wait".into()));
    }
}

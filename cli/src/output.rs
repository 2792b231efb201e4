//! What is printed, and how: text for people, one JSON object for programs.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use serde::Serialize;

use crate::json;
use crate::options::{OutputArgs, When};
use crate::outcome::{Failure, Outcome, Result};
use crate::style::Style;
use crate::table::Table;

/// Where answers go, and in which form.
#[derive(Debug)]
pub(crate) struct Output {
    /// Programs read it.
    pub(crate) json: bool,
    colour: bool,
    /// The terminal's width, if it is one.
    width: Option<usize>,
}

fn wants_colour(when: When, is_terminal: bool) -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    match when {
        When::Always => true,
        When::Never => false,
        When::Auto => {
            is_terminal && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
        }
    }
}

impl Output {
    pub(crate) fn new(args: &OutputArgs) -> Self {
        let stdout = io::stdout();
        let is_terminal = stdout.is_terminal();
        let width = rustix::termios::tcgetwinsize(&stdout).ok().map(|size| usize::from(size.ws_col));
        Self {
            json: args.json,
            colour: wants_colour(args.color, is_terminal),
            width: width.filter(|width| is_terminal && *width > 0),
        }
    }

    /// Whether colours are wanted.
    pub(crate) fn has_colour(&self) -> bool {
        self.colour
    }

    /// The text in this style, if colours are wanted.
    pub(crate) fn paint(&self, style: Style, text: impl fmt::Display) -> String {
        let code = style.code();
        if self.colour && !code.is_empty() { format!("{code}{text}\x1b[0m") } else { text.to_string() }
    }

    /// A line of text. Whatever others wrote in it has gone through [`cluster_lock_core::text`] before.
    pub(crate) fn line(&self, text: impl fmt::Display) -> Result<()> {
        self.bytes(format!("{text}\n").as_bytes())
    }

    /// One JSON object, on a line.
    pub(crate) fn object(&self, object: &impl Serialize) -> Result<()> {
        self.line(json::line(object)?)
    }

    /// A table as wide as the terminal; as wide as it gets where there is none, or where that is `wide`.
    pub(crate) fn table(&self, table: &Table, wide: bool) -> Result<()> {
        let width = if wide { None } else { self.width };
        table.lines(width, |style, text| self.paint(style, text)).iter().try_for_each(|line| self.line(line))
    }

    /// As it is.
    #[allow(clippy::unused_self)] // who has an Output may write
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| {
            if error.kind() == io::ErrorKind::BrokenPipe {
                Failure::Closed
            } else {
                Failure::System("standard output".into(), error)
            }
        })
    }

    /// A remark on standard error, not part of the answer.
    #[allow(clippy::unused_self)]
    pub(crate) fn note(&self, text: impl fmt::Display) {
        let _ = writeln!(io::stderr(), "cluster-lock: {text}");
    }

    /// One JSON object on standard error, where standard output is somebody else's.
    #[allow(clippy::unused_self)]
    pub(crate) fn aside(&self, object: &impl Serialize) -> Result<()> {
        writeln!(io::stderr(), "{}", json::line(object)?).map_err(Failure::system("standard error"))
    }

    /// Reports a failure in words on standard error.
    pub(crate) fn report(&self, failure: &Failure) {
        self.note(failure);
        if let Some(hint) = failure.hint() {
            self.note(hint);
        }
    }

    /// Reports a failure that ends the command: in words, and as an object if objects are wanted.
    pub(crate) fn failure(&self, failure: &Failure) -> ExitCode {
        if matches!(failure, Failure::Closed) {
            return Outcome::Yes.code().into(); // as after `| head -1`
        }
        self.report(failure);
        if self.json {
            let _ = self.object(&json::Failed::from(failure));
        }
        ExitCode::from(failure.code())
    }
}

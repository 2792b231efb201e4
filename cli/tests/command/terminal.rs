//! A terminal, with a screen that can be read.

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use nix::pty::{Winsize, openpty};
use nix::sys::termios::{Termios, tcgetattr};

use crate::calling::code_of;
use crate::support::until;

pub(crate) const ROWS: u16 = 24;

/// A program that sits at a terminal of its own.
pub(crate) struct Terminal {
    pub(crate) child: Child,
    keys: File,
    /// Kept open, so that its settings can be asked for when the program has ended.
    line: OwnedFd,
    before: Termios,
    screen: Arc<Mutex<vt100::Parser>>,
    raw: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Terminal {
    pub(crate) fn start(program: &Command, args: &[&str]) -> Self {
        Self::wide(program, args, 100)
    }

    /// So many columns wide.
    pub(crate) fn wide(program: &Command, args: &[&str], columns: u16) -> Self {
        let size = Winsize { ws_row: ROWS, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(&size, None).unwrap();
        let before = tcgetattr(&pty.slave).unwrap();
        // Makes it the controlling terminal, so that ^C is a signal; also where whoever started this test ignores it, as
        // nohup and a shell's "&" do.
        let mut command = Command::new("setsid");
        command
            .args(["--ctty", "--wait", "/usr/bin/env", "--default-signal"])
            .arg(program.get_program())
            .args(program.get_args())
            .args(args)
            .env("TERM", "xterm-256color");
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let end = || pty.slave.try_clone().unwrap();
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let (rows, wide) = (NonZero::new(ROWS).unwrap(), NonZero::new(columns).unwrap());
        let screen = Arc::new(Mutex::new(vt100::Parser::new(rows, wide, 0)));
        let raw = Arc::new(Mutex::new(Vec::new()));
        let mut output = File::from(pty.master.try_clone().unwrap());
        let (shown, kept) = (Arc::clone(&screen), Arc::clone(&raw));
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = output.read(&mut buffer) {
                shown.lock().unwrap().process(&buffer[..n]);
                kept.lock().unwrap().extend_from_slice(&buffer[..n]);
            }
        });
        Self { child, keys: pty.master.into(), line: pty.slave, before, screen, raw, reader: Some(reader) }
    }

    pub(crate) fn text(&self) -> String {
        self.screen.lock().unwrap().screen().contents()
    }

    /// Whether anything on it has a colour.
    pub(crate) fn has_colour(&self) -> bool {
        let parser = self.screen.lock().unwrap();
        let (_, columns) = parser.screen().size();
        let cells = (0..ROWS).flat_map(|row| (0..columns.get()).map(move |column| (row, column)));
        cells
            .filter_map(|(row, column)| parser.screen().cell(row, column))
            .any(|cell| (cell.fgcolor(), cell.bgcolor()) != (vt100::Color::Default, vt100::Color::Default))
    }

    /// All that was ever sent to it.
    pub(crate) fn raw(&self) -> Vec<u8> {
        self.raw.lock().unwrap().clone()
    }

    /// Waits until this is to be read on it.
    #[track_caller]
    pub(crate) fn shows(&self, text: &str) {
        until(&format!("\"{text}\" is on the screen"), || self.text().contains(text));
    }

    pub(crate) fn types(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for its end, and has its code ([`code_of`]); all that it has sent has been read then.
    pub(crate) fn ends(&mut self) -> i32 {
        let code = code_of(self.child.wait().unwrap());
        // What was sent last has arrived when what we send ourselves has.
        let mark = "\u{1}the end\u{1}";
        File::from(self.line.try_clone().unwrap()).write_all(mark.as_bytes()).unwrap();
        until("all has been read", || {
            let raw = self.raw.lock().unwrap();
            raw.windows(mark.len()).any(|window| window == mark.as_bytes())
        });
        code
    }

    /// What the user finds who comes back to it.
    #[track_caller]
    pub(crate) fn is_as_before(&self) {
        assert_eq!(tcgetattr(&self.line).unwrap(), self.before, "the terminal's settings");
        let parser = self.screen.lock().unwrap();
        let screen = parser.screen();
        assert!(!screen.alternate_screen(), "the other screen is still there");
        assert!(!screen.hide_cursor(), "the cursor is gone");
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // setsid has a child of its own in between; a terminal that hangs up ends both.
        let _ = self.child.kill();
        let _ = self.child.wait();
        drop(self.reader.take());
    }
}

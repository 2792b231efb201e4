//! The terminal, which gets back what it was, however we leave.

use std::io;

use ratatui::{DefaultTerminal, Frame};

/// The whole screen, ours while this lives. A panic gives it back, too: ratatui's hook sees to that.
pub(super) struct Screen(Option<DefaultTerminal>);

impl Screen {
    pub(super) fn enter() -> io::Result<Self> {
        match ratatui::try_init() {
            Ok(terminal) => Ok(Self(Some(terminal))),
            Err(error) => {
                // Half done, perhaps.
                let _ = ratatui::try_restore();
                Err(error)
            }
        }
    }

    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        match &mut self.0 {
            Some(terminal) => terminal.draw(draw).map(|_| ()),
            None => Ok(()),
        }
    }

    /// Gives the screen back.
    pub(super) fn leave(&mut self) {
        if let Some(mut terminal) = self.0.take() {
            let _ = terminal.show_cursor();
            let _ = ratatui::try_restore();
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.leave();
    }
}

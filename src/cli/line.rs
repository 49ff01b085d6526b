//! What is shown of work that goes on: one line that is written over on a
//! terminal, elsewhere lines.

use std::io::{IsTerminal, Write};

/// The line, on the standard error.
#[derive(Debug)]
pub(super) struct Line {
    terminal: bool,
    open: bool,
}

impl Line {
    pub(super) fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), open: false }
    }

    pub(super) const fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Shows a text in place of the last one. Nobody loses anything when it cannot be shown.
    pub(super) fn show(&mut self, text: &str) {
        let mut out = std::io::stderr();
        if self.terminal {
            drop(write!(out, "\r\x1b[K{text}").and_then(|()| out.flush()));
            self.open = true;
        } else {
            drop(writeln!(out, "{text}"));
        }
    }

    /// Shows a text that stays.
    pub(super) fn keep(&mut self, text: &str) {
        self.show(text);
        self.end();
    }

    /// What follows stands on a line of its own.
    pub(super) fn end(&mut self) {
        if std::mem::take(&mut self.open) {
            drop(writeln!(std::io::stderr()));
        }
    }

    /// Takes away whatever stands in the line of a terminal: the program ends here.
    pub(super) fn break_off() {
        Self { open: true, ..Self::new() }.clear();
    }

    /// Takes the text away.
    pub(super) fn clear(&mut self) {
        if std::mem::take(&mut self.open) && self.terminal {
            let mut out = std::io::stderr();
            drop(write!(out, "\r\x1b[K").and_then(|()| out.flush()));
        }
    }
}

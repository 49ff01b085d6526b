use std::io::{self, Write};

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use crossterm::style::Print;
use crossterm::terminal::{
    self, Clear, ClearType, DisableLineWrap, EnableLineWrap, EnterAlternateScreen,
    LeaveAlternateScreen,
};
use crossterm::{execute, queue};
use tokio::sync::mpsc;

/// What somebody at the terminal wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Leave,
    /// Look, or draw, again.
    Again,
}

/// A terminal that is ours until this is dropped, which gives it back as it was.
#[derive(Debug)]
pub(super) struct Screen;

impl Screen {
    /// Takes the terminal; what is typed comes from the channel.
    pub(super) fn open() -> io::Result<(Self, mpsc::Receiver<Key>)> {
        terminal::enable_raw_mode()?;
        // From here on dropping it gives the terminal back.
        let screen = Self;
        execute!(io::stdout(), EnterAlternateScreen, Hide, DisableLineWrap)?;
        let (keys, typed) = mpsc::channel(16);
        // Reading blocks for as long as nobody types, so it has a thread of its own, which ends with the process.
        std::thread::Builder::new().name("keys".to_owned()).spawn(move || {
            while let Ok(event) = event::read() {
                if meaning(&event).is_some_and(|key| keys.blocking_send(key).is_err()) {
                    return;
                }
            }
        })?;
        Ok((screen, typed))
    }

    /// Shows these lines, as many as there is room for.
    #[expect(clippy::unused_self, reason = "only who has the terminal may draw on it")]
    pub(super) fn draw(&mut self, lines: &[String]) -> io::Result<()> {
        let (_, rows) = terminal::size()?;
        let mut page = Vec::new();
        for (row, line) in (0..rows).zip(lines) {
            queue!(page, MoveTo(0, row), Print(line), Clear(ClearType::UntilNewLine))?;
        }
        if let Some(below) = u16::try_from(lines.len()).ok().filter(|below| *below < rows) {
            queue!(page, MoveTo(0, below), Clear(ClearType::FromCursorDown))?;
        }
        let mut out = io::stdout();
        out.write_all(&page)?;
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing back.
        drop(execute!(io::stdout(), EnableLineWrap, Show, LeaveAlternateScreen));
        drop(terminal::disable_raw_mode());
    }
}

fn meaning(event: &Event) -> Option<Key> {
    match event {
        Event::Key(key) if key.kind == KeyEventKind::Press => Some(match key.code {
            KeyCode::Char('q' | 'Q') | KeyCode::Esc => Key::Leave,
            // In raw mode the terminal makes no signal of it.
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Key::Leave,
            _ => Key::Again,
        }),
        Event::Resize(_, _) => Some(Key::Again),
        _ => None,
    }
}

//! The terminal while a live view has it, and how it is given back: always, whatever ends the view.

use std::{
    io::{self, Stdout, Write as _, stdout},
    panic,
    sync::{
        Once,
        atomic::{AtomicBool, Ordering},
    },
};

use crossterm::{
    cursor::Show,
    event::{DisableMouseCapture, EnableMouseCapture},
    execute,
    terminal::{
        EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode, size,
    },
};
use ratatui::{
    Frame, Terminal,
    backend::CrosstermBackend,
    layout::{Position, Rect},
};
use rustix::process::{Signal, getpid, kill_current_process_group, kill_process};

use crate::warnings;

/// Whether the terminal is ours. One for the process: so is the terminal.
static OURS: AtomicBool = AtomicBool::new(false);

/// A terminal with the alternate screen, unbuffered input and the mouse. Dropping it gives it back.
pub(crate) struct TerminalScreen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    mouse: bool,
}

impl TerminalScreen {
    /// Takes the terminal.
    pub(crate) fn open(mouse: bool) -> io::Result<Self> {
        restore_on_panic();
        let mut screen = Self { terminal: Terminal::new(CrosstermBackend::new(stdout()))?, mouse };
        screen.take()?;
        Ok(screen)
    }

    /// Takes the terminal, if it is not ours already, and forgets what was drawn: a shell may have had it.
    pub(crate) fn take(&mut self) -> io::Result<()> {
        // Before anything else: what fails half-way is given back too.
        OURS.store(true, Ordering::SeqCst);
        warnings::hold();
        // A shell may have changed the terminal's modes, and only what is not raw is made raw.
        disable_raw_mode()?;
        enable_raw_mode()?;
        execute!(stdout(), EnterAlternateScreen)?;
        if self.mouse {
            execute!(stdout(), EnableMouseCapture)?;
        }
        // Not `clear`, which asks the terminal where the cursor is, and waits for the answer.
        let area = Rect::from((Position::ORIGIN, self.terminal.size()?));
        self.terminal.resize(area)
    }

    /// Draws a frame.
    pub(crate) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        if !OURS.load(Ordering::SeqCst) {
            // Something panicked in the background, and has given it back.
            self.take()?;
        }
        self.terminal.draw(draw).map(drop)
    }

    /// Columns and lines.
    pub(crate) fn size() -> io::Result<(u16, u16)> {
        size()
    }

    /// Gives the terminal back and stops this process, with all of its group where somebody has asked by
    /// a key, as the terminal itself would have done; takes it again when the process goes on.
    pub(crate) fn suspend(&mut self, whole_group: bool) -> io::Result<()> {
        give_back();
        if whole_group {
            // We catch it ourselves.
            kill_current_process_group(Signal::TSTP)?;
        }
        kill_process(getpid(), Signal::STOP)?;
        self.take()
    }
}

impl Drop for TerminalScreen {
    fn drop(&mut self) {
        give_back();
    }
}

fn give_back() {
    if !OURS.swap(false, Ordering::SeqCst) {
        return;
    }
    // A terminal that has gone away needs nothing.
    let _ = execute!(stdout(), DisableMouseCapture, LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
    let _ = stdout().flush();
    warnings::release();
}

/// A panic says why on a terminal that can show it, also where it ends the process at once.
fn restore_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            give_back();
            before(info);
        }));
    });
}

#[cfg(test)]
mod tests {
    use std::{env, process::Command};

    use super::*;

    /// Not for itself: the test below runs it on a terminal of its own.
    #[test]
    #[ignore = "panics, on a terminal"]
    fn panics_with_the_screen_open() {
        let mut screen = TerminalScreen::open(true).unwrap();
        screen.draw(|_| {}).unwrap();
        panic!("as it was told to");
    }

    #[test]
    fn a_panic_gives_the_terminal_back() {
        let test = env::current_exe().unwrap();
        let line = format!(
            "stty -g; {} --ignored --exact --nocapture cli::screen::tests::panics_with_the_screen_open; stty -g",
            test.display()
        );
        // util-linux: a terminal for a command.
        let output = Command::new("script")
            .args(["--quiet", "--return", "--command", &line, "/dev/null"])
            .env_remove("LD_LIBRARY_PATH")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines.first(), lines.last(), "{said}");
        let (before, after) = said.rsplit_once("\x1b[?1049l").expect("the screen was left");
        assert!(before.contains("\x1b[?1049h"), "{said}");
        assert!(!before.contains("as it was told to") && after.contains("as it was told to"));
        assert!(before.rfind("\x1b[?1000l") > before.rfind("\x1b[?1000h"), "the mouse: {said}");
    }
}

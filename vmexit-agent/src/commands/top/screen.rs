//! The terminal of a live view. It is restored whatever ends the view, also a panic.

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

/// Whether this process has taken its terminal.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The terminal, with the alternate screen, raw input and the mouse. Dropping it restores the terminal.
pub(crate) struct TerminalScreen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    mouse: bool,
}

impl TerminalScreen {
    /// Takes the terminal.
    ///
    /// # Errors
    /// The terminal can't be read or written.
    pub(crate) fn open(mouse: bool) -> io::Result<Self> {
        restore_on_panic();
        let mut screen = Self { terminal: Terminal::new(CrosstermBackend::new(stdout()))?, mouse };
        screen.take()?;
        Ok(screen)
    }

    /// Takes the terminal and marks the whole screen for redrawing, as another program may have used it.
    ///
    /// # Errors
    /// The terminal can't be read or written.
    pub(crate) fn take(&mut self) -> io::Result<()> {
        // First, so that the terminal is restored if a later step fails.
        TAKEN.store(true, Ordering::SeqCst);
        warnings::hold();
        // A shell may have changed the modes, and raw mode is only set if it is recorded as off.
        disable_raw_mode()?;
        enable_raw_mode()?;
        execute!(stdout(), EnterAlternateScreen)?;
        if self.mouse {
            execute!(stdout(), EnableMouseCapture)?;
        }
        // Not `clear`, which asks the terminal for the cursor position and waits for the answer.
        let area = Rect::from((Position::ORIGIN, self.terminal.size()?));
        self.terminal.resize(area)
    }

    /// Draws a frame.
    ///
    /// # Errors
    /// The terminal can't be written.
    pub(crate) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        if !TAKEN.load(Ordering::SeqCst) {
            // A panic in another thread has restored it.
            self.take()?;
        }
        self.terminal.draw(draw).map(drop)
    }

    /// Columns and lines of the terminal.
    ///
    /// # Errors
    /// The size can't be read.
    pub(crate) fn size() -> io::Result<(u16, u16)> {
        size()
    }

    /// Restores the terminal and stops this process; takes the terminal again when the process continues. Suspending by
    /// a key stops the whole process group, as the terminal itself would.
    ///
    /// # Errors
    /// The signal can't be sent, or the terminal can't be used.
    pub(crate) fn suspend(&mut self, whole_group: bool) -> io::Result<()> {
        restore();
        if whole_group {
            // This process catches the signal, and stops below.
            kill_current_process_group(Signal::TSTP)?;
        }
        kill_process(getpid(), Signal::STOP)?;
        self.take()
    }
}

impl Drop for TerminalScreen {
    fn drop(&mut self) {
        restore();
    }
}

/// Restores the terminal, if it was taken.
fn restore() {
    if !TAKEN.swap(false, Ordering::SeqCst) {
        return;
    }
    // If the terminal is gone, there is nothing to restore.
    let _ = execute!(stdout(), DisableMouseCapture, LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
    let _ = stdout().flush();
    warnings::release();
}

/// Restores the terminal before the message of a panic is printed, also if the panic aborts the process.
fn restore_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            restore();
            before(info);
        }));
    });
}

#[cfg(test)]
mod tests {
    use std::{env, process::Command};

    use super::*;

    /// Helper: the test below runs it on a terminal of its own.
    #[test]
    #[ignore = "panics, on a terminal"]
    fn helper_panics_with_open_screen() {
        let mut screen = TerminalScreen::open(true).unwrap();
        screen.draw(|_| {}).unwrap();
        panic!("expected panic");
    }

    #[test]
    fn panic_restores_terminal() {
        let test = env::current_exe().unwrap();
        let line = format!(
            "stty -g; {} --ignored --exact --nocapture commands::top::screen::tests::helper_panics_with_open_screen; stty -g",
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
        assert!(!before.contains("expected panic") && after.contains("expected panic"));
        assert!(before.rfind("\x1b[?1000l") > before.rfind("\x1b[?1000h"), "the mouse: {said}");
    }
}

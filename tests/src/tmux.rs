//! Terminals for programs that need one: a tmux session on this machine, and shell functions for the same in a
//! lab.

use std::{
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

/// Time between two checks of the screen while waiting.
const POLL: Duration = Duration::from_millis(50);

/// A tmux session with a shell. It ends when the value is dropped.
#[derive(Debug)]
pub struct Tmux {
    directory: TempDir,
}

impl Tmux {
    /// Starts a session with so many columns and lines.
    ///
    /// # Errors
    ///
    /// When tmux can't be run.
    pub fn start(columns: u16, lines: u16) -> Result<Self> {
        let tmux = Self { directory: tempfile::Builder::new().prefix("vmexit-tmux-").tempdir()? };
        let (columns, lines) = (columns.to_string(), lines.to_string());
        tmux.run(&["new-session", "-d", "-x", &columns, "-y", &lines, "env PS1='$ ' sh"])?;
        Ok(tmux)
    }

    /// Sends keys, by tmux's names for them.
    ///
    /// # Errors
    ///
    /// When tmux fails.
    pub fn press(&self, keys: &[&str]) -> Result<()> {
        self.run(&[&["send-keys"], keys].concat()).map(drop)
    }

    /// Types a line and Enter.
    ///
    /// # Errors
    ///
    /// When tmux fails.
    pub fn line(&self, line: &str) -> Result<()> {
        self.press(&["-l", "--", line])?;
        self.press(&["Enter"])
    }

    /// Text on the screen, without blanks at the ends of lines.
    ///
    /// # Errors
    ///
    /// When tmux fails.
    pub fn screen(&self) -> Result<String> {
        self.run(&["capture-pane", "-p"])
    }

    /// Text on the screen with all scrollback. The alternate screen has none.
    ///
    /// # Errors
    ///
    /// When tmux fails.
    pub fn history(&self) -> Result<String> {
        self.run(&["capture-pane", "-p", "-S", "-"])
    }

    /// Changes the size of the terminal.
    ///
    /// # Errors
    ///
    /// When tmux fails.
    pub fn resize(&self, columns: u16, lines: u16) -> Result<()> {
        let (columns, lines) = (columns.to_string(), lines.to_string());
        self.run(&["resize-window", "-x", &columns, "-y", &lines]).map(drop)
    }

    /// Value of a tmux format variable of the terminal, such as `alternate_on` or `mouse_any_flag`.
    ///
    /// # Errors
    ///
    /// When tmux fails.
    pub fn property(&self, name: &str) -> Result<String> {
        let format = format!("#{{{name}}}");
        Ok(self.run(&["display-message", "-p", &format])?.trim().to_owned())
    }

    /// Waits until the screen is as wanted, and returns its text.
    ///
    /// # Errors
    ///
    /// When that takes longer than 30 s; the error has the text on the screen.
    pub fn wait(&self, what: &str, wanted: impl Fn(&str) -> bool) -> Result<String> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let screen = self.screen()?;
            if wanted(&screen) {
                return Ok(screen);
            }
            ensure!(Instant::now() < deadline, "no {what} on the screen:\n{screen}");
            sleep(POLL);
        }
    }

    fn run(&self, arguments: &[&str]) -> Result<String> {
        let mut tmux = Command::new("tmux");
        // A separate server without a configuration file.
        tmux.arg("-u")
            .arg("-S")
            .arg(self.directory.path().join("socket"))
            .args(["-f", "/dev/null"]);
        let output = tmux.args(arguments).env_remove("TMUX").output().context("tmux must run")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "tmux {arguments:?}: {said}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        // The server may have ended with its shell.
        let _ = self.run(&["kill-server"]);
    }
}

/// Number in a table on a screen: the word at this index after the first occurrence of the row's name.
pub fn figure(screen: &str, row: &str, words: usize) -> Option<u64> {
    let behind = screen.lines().find_map(|line| line.split_once(row))?.1;
    behind.split_whitespace().nth(words)?.replace(',', "").parse().ok()
}

/// Shell functions for a lab's script:
///
/// - `terminal COLUMNS LINES COMMAND` starts a command in a terminal.
/// - `press KEY…` sends keys.
/// - `screen` prints the text on the screen; `screen -e` with its colours.
/// - `wait_screen PATTERN` waits until the pattern is on the screen.
pub fn functions() -> &'static str {
    r#"
export LC_CTYPE=C.UTF-8
mux() { tmux -u -S /tmp/tmux -f /dev/null "$@"; }
terminal() { mux new-session -d -x "$1" -y "$2" "$3"; }
press() { mux send-keys "$@"; }
screen() { mux capture-pane -p "$@"; }
wait_screen() { until screen | grep -q -- "$1"; do sleep 0.2; done; }
"#
}

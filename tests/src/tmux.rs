//! Terminals for what needs one: tmux on this machine, to be driven by keys and read like a screen, and
//! the same as shell functions for a lab's script.

use std::{
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

/// How often the screen is looked at while waiting.
const POLL: Duration = Duration::from_millis(50);

/// A shell in a terminal of its own. It ends when this is dropped.
#[derive(Debug)]
pub struct Tmux {
    directory: TempDir,
}

impl Tmux {
    /// Starts a shell in a terminal of so many columns and lines.
    pub fn start(columns: u16, lines: u16) -> Result<Self> {
        let tmux = Self { directory: tempfile::Builder::new().prefix("vmexit-tmux-").tempdir()? };
        let (columns, lines) = (columns.to_string(), lines.to_string());
        tmux.run(&["new-session", "-d", "-x", &columns, "-y", &lines, "env PS1='$ ' sh"])?;
        Ok(tmux)
    }

    /// Presses keys, by tmux's names for them.
    pub fn press(&self, keys: &[&str]) -> Result<()> {
        self.run(&[&["send-keys"], keys].concat()).map(drop)
    }

    /// Types a line.
    pub fn line(&self, line: &str) -> Result<()> {
        self.press(&["-l", "--", line])?;
        self.press(&["Enter"])
    }

    /// What is on the screen, without blanks at the ends of lines.
    pub fn screen(&self) -> Result<String> {
        self.run(&["capture-pane", "-p"])
    }

    /// The same with all that has scrolled out of sight, which the alternate screen has not.
    pub fn history(&self) -> Result<String> {
        self.run(&["capture-pane", "-p", "-S", "-"])
    }

    /// Changes its size.
    pub fn resize(&self, columns: u16, lines: u16) -> Result<()> {
        let (columns, lines) = (columns.to_string(), lines.to_string());
        self.run(&["resize-window", "-x", &columns, "-y", &lines]).map(drop)
    }

    /// A property of the terminal, by tmux's name for it: `alternate_on`, `mouse_any_flag` …
    pub fn property(&self, name: &str) -> Result<String> {
        let format = format!("#{{{name}}}");
        Ok(self.run(&["display-message", "-p", &format])?.trim().to_owned())
    }

    /// Waits until the screen is as wanted; the screen then, or an error that shows it.
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
        // A server of its own, with nobody's configuration.
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
        // It may have ended with its shell.
        let _ = self.run(&["kill-server"]);
    }
}

/// A number of a table on a screen: so many words behind the first place where a row's name is.
pub fn figure(screen: &str, row: &str, words: usize) -> Option<u64> {
    let behind = screen.lines().find_map(|line| line.split_once(row))?.1;
    behind.split_whitespace().nth(words)?.replace(',', "").parse().ok()
}

/// For a lab's script: `terminal COLUMNS LINES COMMAND` starts a command in a terminal, `press KEY…` presses
/// keys, `screen` prints what is on the screen, `screen -e` with its colours, and `wait_screen PATTERN` waits
/// until that is on it.
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

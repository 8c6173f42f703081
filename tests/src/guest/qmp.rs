//! A minimal QMP client to start and stop a guest.
//!
//! A connection runs one command at a time and skips events. A command fails when QEMU does not answer within
//! [`Qmp::PATIENCE`].

use std::{
    io::{self, BufRead, BufReader, ErrorKind, Write},
    os::unix::net::UnixStream,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// A QMP connection that is ready for commands.
#[derive(Debug)]
pub struct Qmp {
    stream: BufReader<UnixStream>,
}

impl Qmp {
    /// Longest wait for an answer, and for the socket.
    pub const PATIENCE: Duration = Duration::from_secs(10);

    /// Connects to a socket. Waits for the socket if QEMU has not created it yet.
    ///
    /// # Errors
    ///
    /// When there is no socket in time or QEMU does not greet.
    pub fn connect(socket: &Path) -> Result<Self> {
        let stream = Self::wait_for(socket)
            .with_context(|| format!("cannot connect to QMP at {}", socket.display()))?;
        stream.set_read_timeout(Some(Self::PATIENCE))?;
        stream.set_write_timeout(Some(Self::PATIENCE))?;
        let mut qmp = Self { stream: BufReader::new(stream) };
        let greeting = qmp.receive().context("no QMP greeting")?;
        if greeting.get("QMP").is_none() {
            bail!("not a QMP socket: it greets with {greeting}");
        }
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Runs a command and returns its result.
    ///
    /// # Errors
    ///
    /// When QEMU does not answer in time or answers with an error.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let request = json!({ "execute": command, "arguments": arguments });
        writeln!(self.stream.get_mut(), "{request}")
            .with_context(|| format!("cannot send the QMP command {command}"))?;
        let deadline = Instant::now() + Self::PATIENCE;
        while Instant::now() < deadline {
            let mut answer = self
                .receive()
                .with_context(|| format!("no answer to the QMP command {command}"))?;
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
            if let Some(error) = answer.get("error") {
                bail!("QMP command {command} failed: {error}");
            }
            // All other messages are events.
        }
        bail!("no answer to the QMP command {command}, only events")
    }

    /// Runs a command of the human monitor and returns its text.
    ///
    /// # Errors
    ///
    /// See [`Self::execute`].
    pub fn human(&mut self, line: &str) -> Result<String> {
        let text = self.execute("human-monitor-command", json!({ "command-line": line }))?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    fn wait_for(socket: &Path) -> io::Result<UnixStream> {
        let deadline = Instant::now() + Self::PATIENCE;
        loop {
            let result = UnixStream::connect(socket);
            let early = result.as_ref().is_err_and(|error| {
                matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused)
            });
            if !early || Instant::now() >= deadline {
                return result;
            }
            sleep(Duration::from_millis(5));
        }
    }

    fn receive(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            bail!("QEMU closed the connection");
        }
        Ok(serde_json::from_str(&line)?)
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixListener, thread};

    use super::*;

    /// A QEMU that answers each request with the next of `answers`.
    fn serve(answers: &'static [&'static str]) -> (tempfile::TempDir, Result<Qmp>) {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("qmp");
        let listener = UnixListener::bind(&socket).unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut requests = BufReader::new(stream.try_clone().unwrap()).lines();
            for (index, answer) in answers.iter().enumerate() {
                if index > 0 {
                    requests.next();
                }
                writeln!(stream, "{answer}").unwrap();
            }
            requests.next();
        });
        let qmp = Qmp::connect(&socket);
        (directory, qmp)
    }

    #[test]
    fn qmp_commands_skip_events_and_report_errors() {
        let (_directory, qmp) = serve(&[
            r#"{"QMP": {}}"#,
            r#"{"return": {}}"#,
            "{\"event\": \"RESUME\"}\n{\"return\": \"text\"}",
            r#"{"error": {"desc": "no such command"}}"#,
        ]);
        let mut qmp = qmp.unwrap();
        assert_eq!(qmp.human("info name").unwrap(), "text");
        let error = qmp.execute("nonsense", json!({})).unwrap_err().to_string();
        assert!(error.contains("nonsense") && error.contains("no such command"), "{error}");
    }

    #[test]
    fn qmp_connect_to_other_protocol_is_refused() {
        let (_directory, qmp) = serve(&[r#"{"hello": 1}"#]);
        assert!(qmp.unwrap_err().to_string().contains("not a QMP socket"));
    }
}

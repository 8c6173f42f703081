//! A QMP client that runs one command of the human monitor, on a connection to an untrusted peer.
//!
//! Nothing is sent before the peer has sent QEMU's greeting. The protocol: QEMU's `docs/interop/qmp-spec.rst`.

use std::{io, time::Duration};

use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    time::{Instant, timeout_at},
};
use vmexit_core::escape::safe;

use super::message::Messages;

/// Maximum size of a greeting, bytes; QEMU's has some 200.
const MAX_GREETING: usize = 16 << 10;

/// Maximum size of an answer, bytes. The memory tree of a VM with 64 PCI devices has 50 kB.
pub(super) const MAX_ANSWER: usize = 2 << 20;

/// Maximum size of all events before the answer, bytes. A guest can cause events; QEMU limits their rate
/// (`monitor_qapi_event_conf`, `monitor/monitor.c`).
const MAX_EVENT_BYTES: usize = 1 << 20;
/// Maximum number of events before the answer.
const MAX_EVENTS: usize = 1000;

/// Reason why a peer did not answer.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// No greeting in time.
    #[error(
        "no greeting within {0:.1?}: another program may be connected, as a QMP socket serves one at a \
         time, or QEMU hangs"
    )]
    NoGreeting(Duration),
    /// A greeting, but no answer in time.
    #[error("no answer within {0:.1?}")]
    NoAnswer(Duration),
    /// The connection was closed before the answer.
    #[error("it closed the connection before it had answered")]
    Closed,
    /// A greeting, answer or event is longer than this, bytes.
    #[error("it sent a message of more than {0} bytes")]
    TooLong(usize),
    /// Too many events before the answer.
    #[error("it sent too many events and no answer")]
    OnlyEvents,
    /// A message is not QMP.
    #[error("it does not speak QMP")]
    Garbage,
    /// The answer has the ID of no command that was sent.
    #[error("it answered a command that was not sent")]
    NotAsked,
    /// QEMU's error message, safe to print.
    #[error("QEMU refused: {0}")]
    Refused(String),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
}

/// The first message. QEMU's version and capabilities are not used.
#[derive(Deserialize)]
struct Greeting {
    #[serde(rename = "QMP")]
    _qmp: IgnoredAny,
}

/// A later message. Only the needed fields are parsed, as a small message can expand to much memory.
#[derive(Deserialize)]
struct Message<T> {
    id: Option<u64>,
    event: Option<IgnoredAny>,
    #[serde(rename = "return")]
    value: Option<T>,
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    desc: String,
}

/// Runs `command` in QEMU's human monitor and returns its output, whose lines end in `\r\n`. `begun` is the start of
/// `within`, which connecting has a share in; messages name the time since then. Needs some 10 MiB at most:
/// the answer as received, while it is unescaped, and as text.
///
/// # Errors
/// The peer does not answer within the time and size limits, or not as QEMU does.
pub(super) async fn human_monitor<S>(
    stream: S,
    command: &str,
    begun: Instant,
    within: Duration,
) -> Result<String, QmpError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let deadline = begun + within;
    let mut messages = Messages::new(stream);
    let greeting = timeout_at(deadline, messages.next(MAX_GREETING))
        .await
        .map_err(|_| QmpError::NoGreeting(begun.elapsed()))??;
    parse::<Greeting>(greeting)?;
    let question = async {
        let _: IgnoredAny = ask(&mut messages, 1, r#""qmp_capabilities""#).await?;
        let command = serde_json::Value::from(command);
        let command =
            format!(r#""human-monitor-command", "arguments": {{"command-line": {command}}}"#);
        ask(&mut messages, 2, &command).await
    };
    timeout_at(deadline, question).await.map_err(|_| QmpError::NoAnswer(begun.elapsed()))?
}

/// Runs a command, given as JSON with its arguments, and returns its result.
async fn ask<S, T>(messages: &mut Messages<S>, id: u64, command: &str) -> Result<T, QmpError>
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: DeserializeOwned,
{
    let question = format!("{{\"execute\": {command}, \"id\": {id}}}\n");
    messages.stream().write_all(question.as_bytes()).await?;
    let mut events_left = MAX_EVENT_BYTES;
    for _ in 0..MAX_EVENTS {
        let bytes = messages.next(MAX_ANSWER).await?;
        let length = bytes.len();
        let message: Message<T> = parse(bytes)?;
        match message {
            // QEMU's error for a command that it can't parse has no ID.
            Message { id: None, error: Some(refusal), .. } => return Err(refusal.into()),
            Message { id: Some(its), error: Some(refusal), .. } if its == id => {
                return Err(refusal.into());
            }
            Message { id: Some(its), value: Some(value), error: None, .. } if its == id => {
                return Ok(value);
            }
            Message { event: Some(_), value: None, error: None, .. } => {
                events_left = events_left.checked_sub(length).ok_or(QmpError::OnlyEvents)?;
            }
            Message { value: None, error: None, .. } => return Err(QmpError::Garbage),
            Message { .. } => return Err(QmpError::NotAsked),
        }
    }
    Err(QmpError::OnlyEvents)
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, QmpError> {
    serde_json::from_slice(bytes).map_err(|_| QmpError::Garbage)
}

impl From<Refusal> for QmpError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(safe(&refusal.desc))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt as _, duplex};

    use super::*;

    const GREETING: &str = r#"{"QMP": {"version": {}, "capabilities": ["oob"]}}"#;

    /// Asks a peer that sends these bytes at once and then waits. Returns what the peer received, and the result.
    async fn ask_peer_sending(bytes: &[u8]) -> (String, Result<String, QmpError>) {
        let (ours, mut theirs) = duplex(1 << 20);
        theirs.write_all(bytes).await.unwrap();
        let patience = Duration::from_millis(10);
        let answer = human_monitor(ours, "info \"x\"", Instant::now(), patience).await;
        let mut asked = String::new();
        theirs.read_to_string(&mut asked).await.unwrap();
        (asked, answer)
    }

    async fn outcome(messages: &[&str]) -> Result<String, QmpError> {
        ask_peer_sending(messages.join("\n").as_bytes()).await.1
    }

    #[tokio::test]
    async fn human_monitor_returns_answer_to_its_command() {
        let answers = [
            GREETING,
            r#"{"return": {}, "id": 1}"#,
            r#"{"timestamp": {"seconds": 1}, "event": "RESUME", "data": {}}"#,
            "{\n    \"id\": 2,\n    \"return\": \"a\\r\\nb\"\n}\n",
        ];
        let (asked, answer) = ask_peer_sending(answers.join("\r\n").as_bytes()).await;
        assert_eq!(answer.unwrap(), "a\r\nb");
        let asked: Vec<serde_json::Value> =
            asked.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(asked[0]["execute"], "qmp_capabilities");
        assert_eq!(asked[1]["execute"], "human-monitor-command");
        assert_eq!(asked[1]["arguments"]["command-line"], "info \"x\"");
    }

    #[tokio::test]
    async fn human_monitor_sends_nothing_without_greeting() {
        for bytes in ["", "{", "SSH-2.0-OpenSSH_9.2\r\n", r#"{"hello": 1}"#, "HTTP/1.1 400 Bad\r\n"]
        {
            let (asked, answer) = ask_peer_sending(bytes.as_bytes()).await;
            assert!(asked.is_empty() && answer.is_err(), "{bytes}: {asked} {answer:?}");
        }
    }

    #[tokio::test]
    async fn human_monitor_after_slow_connect_names_time_waited() {
        let begun = Instant::now().checked_sub(Duration::from_secs(2)).unwrap();
        for (messages, says) in
            [("", "no greeting within 2.0s"), (GREETING, "no answer within 2.0s")]
        {
            let (ours, mut theirs) = duplex(1 << 20);
            theirs.write_all(messages.as_bytes()).await.unwrap();
            let answer = human_monitor(ours, "info", begun, Duration::from_secs(2)).await;
            let error = answer.unwrap_err().to_string();
            assert!(error.starts_with(says), "{error}");
        }
    }

    #[tokio::test]
    async fn human_monitor_rejects_answers_to_other_commands() {
        for wrong in [
            r#"{"return": {}, "id": 7}"#,
            r#"{"return": {}}"#,
            r#"{"error": {"class": "x", "desc": "y"}, "id": 7}"#,
        ] {
            let error = outcome(&[GREETING, wrong]).await.unwrap_err();
            assert!(matches!(error, QmpError::NotAsked), "{wrong}: {error}");
        }
        for none in ["{}", r#"{"id": 1}"#, r#"{"id": "1", "return": {}}"#, r#"{"error": 1}"#] {
            let error = outcome(&[GREETING, none]).await.unwrap_err();
            assert!(matches!(error, QmpError::Garbage), "{none}: {error}");
        }
        let refusal = r#"{"error": {"class": "GenericError", "desc": "no \u001b[31m"}, "id": 1}"#;
        for refusal in [refusal.to_owned(), refusal.replace(", \"id\": 1", "")] {
            let error = outcome(&[GREETING, &refusal]).await.unwrap_err();
            assert_eq!(error.to_string(), r"QEMU refused: no \u{1b}[31m");
        }
    }

    #[tokio::test]
    async fn human_monitor_rejects_small_messages_that_expand() {
        let deep = format!(r#"{{"return": {}{}, "id": 2}}"#, "[".repeat(9999), "]".repeat(9999));
        let wide = format!(r#"{{"return": [{}0], "id": 2}}"#, "[],".repeat(9999));
        let twice = r#"{"id": 1, "id": 1, "return": {}}"#;
        let ready = r#"{"return": {}, "id": 1}"#;
        for messages in
            [&[GREETING, ready, &deep][..], &[GREETING, ready, &wide], &[GREETING, twice]]
        {
            let error = outcome(messages).await.unwrap_err();
            assert!(matches!(error, QmpError::Garbage), "{error}");
        }
    }

    proptest! {
        #[test]
        fn human_monitor_of_any_bytes_is_an_error(
            greets in any::<bool>(),
            junk in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..200),
                "[\\[\\]{}\",:0-9a-z\\\\ ]{0,200}".prop_map(String::into_bytes),
                "\\{\"(id|event|error|return|QMP)\": [0-9\"{}a-z]{0,20}\\}".prop_map(String::into_bytes),
            ],
        ) {
            let mut bytes = if greets { GREETING.as_bytes().to_vec() } else { Vec::new() };
            bytes.extend(junk);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let (_, answer) = runtime.block_on(ask_peer_sending(&bytes));
            prop_assert!(answer.is_err());
        }
    }
}

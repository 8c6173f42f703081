//! A QMP client for one question, put to a peer who may do anything: hang, flood, lie.
//!
//! In comes a connected stream, out the text that a command of the human monitor printed. Nothing is
//! sent before the peer has greeted as QEMU does, and the connection is closed with the answer.
//! The protocol: QEMU's `docs/interop/qmp-spec.rst`.

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

/// Bytes of a greeting; QEMU's has some 200.
const LONGEST_GREETING: usize = 16 << 10;

/// Bytes of an answer. The memory tree of a VM with 64 PCI devices has 50 kB.
const LONGEST_ANSWER: usize = 8 << 20;

/// Bytes of all events before the answer, and how many: they tell of the guest, which may cause
/// them. QEMU limits the rate of those that a guest can make (`monitor_qapi_event_conf`,
/// `monitor/monitor.c`).
const LONGEST_EVENTS: usize = 1 << 20;
const MOST_EVENTS: usize = 1000;

/// Why a peer did not answer.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// It did not greet in time.
    #[error(
        "no greeting within {0:.1?}: another program may be connected, as a QMP socket serves one at a \
         time, or QEMU hangs"
    )]
    NoGreeting(Duration),
    /// It greeted, but did not answer in time.
    #[error("no answer within {0:.1?}")]
    NoAnswer(Duration),
    /// It closed the connection first.
    #[error("it closed the connection before it had answered")]
    Closed,
    /// One greeting, answer or event is longer than this, bytes.
    #[error("it sent a message of more than {0} bytes")]
    TooLong(usize),
    /// There was no end to events.
    #[error("it sent events without end, but no answer")]
    OnlyEvents,
    /// What it sent is not QMP.
    #[error("what it sent is not QMP")]
    Garbage,
    /// It answered another question.
    #[error("it answered a question that was not asked")]
    NotAsked,
    /// QEMU refused; its reason, safe to print.
    #[error("QEMU refused: {0}")]
    Refused(String),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
}

/// The first message. What QEMU says of itself does not matter here.
#[derive(Deserialize)]
struct Greeting {
    #[serde(rename = "QMP")]
    _qmp: IgnoredAny,
}

/// Any later message, with as little taken from it as possible: a small message can ask for much
/// memory.
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

/// Puts one `command` to QEMU's human monitor; the text that it printed, with lines that end in
/// `\r\n`. Takes at most until `within` from now, and at the worst some 40 MiB meanwhile: the answer
/// as received, while it is unescaped, and as text.
pub(super) async fn human<S>(stream: S, command: &str, within: Duration) -> Result<String, QmpError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let deadline = Instant::now() + within;
    let mut messages = Messages::new(stream);
    let greeting = timeout_at(deadline, messages.next(LONGEST_GREETING))
        .await
        .map_err(|_| QmpError::NoGreeting(within))??;
    parse::<Greeting>(greeting)?;
    let question = async {
        let _: IgnoredAny = ask(&mut messages, 1, r#""qmp_capabilities""#).await?;
        let command = serde_json::Value::from(command);
        let command =
            format!(r#""human-monitor-command", "arguments": {{"command-line": {command}}}"#);
        ask(&mut messages, 2, &command).await
    };
    timeout_at(deadline, question).await.map_err(|_| QmpError::NoAnswer(within))?
}

/// Runs one command, `what` in JSON, and returns what it returned.
async fn ask<S, T>(messages: &mut Messages<S>, id: u64, what: &str) -> Result<T, QmpError>
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: DeserializeOwned,
{
    let question = format!("{{\"execute\": {what}, \"id\": {id}}}\n");
    messages.stream().write_all(question.as_bytes()).await?;
    let mut events_left = LONGEST_EVENTS;
    for _ in 0..MOST_EVENTS {
        let bytes = messages.next(LONGEST_ANSWER).await?;
        let length = bytes.len();
        let message: Message<T> = parse(bytes)?;
        match message {
            // A question that can't be read has no id that could be repeated.
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

    /// Asks a peer that sends all this at once, and then waits; what it was asked, and the outcome.
    async fn ask_one_that_sends(bytes: &[u8]) -> (String, Result<String, QmpError>) {
        let (ours, mut theirs) = duplex(1 << 20);
        theirs.write_all(bytes).await.unwrap();
        let answer = human(ours, "info \"x\"", Duration::from_millis(10)).await;
        let mut asked = String::new();
        theirs.read_to_string(&mut asked).await.unwrap();
        (asked, answer)
    }

    async fn outcome(messages: &[&str]) -> Result<String, QmpError> {
        ask_one_that_sends(messages.join("\n").as_bytes()).await.1
    }

    #[tokio::test]
    async fn one_question_and_its_answer() {
        let answers = [
            GREETING,
            r#"{"return": {}, "id": 1}"#,
            r#"{"timestamp": {"seconds": 1}, "event": "RESUME", "data": {}}"#,
            "{\n    \"id\": 2,\n    \"return\": \"a\\r\\nb\"\n}\n",
        ];
        let (asked, answer) = ask_one_that_sends(answers.join("\r\n").as_bytes()).await;
        assert_eq!(answer.unwrap(), "a\r\nb");
        let asked: Vec<serde_json::Value> =
            asked.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(asked[0]["execute"], "qmp_capabilities");
        assert_eq!(asked[1]["execute"], "human-monitor-command");
        assert_eq!(asked[1]["arguments"]["command-line"], "info \"x\"");
    }

    #[tokio::test]
    async fn nothing_is_said_to_one_who_does_not_greet() {
        for bytes in ["", "{", "SSH-2.0-OpenSSH_9.2\r\n", r#"{"hello": 1}"#, "HTTP/1.1 400 Bad\r\n"]
        {
            let (asked, answer) = ask_one_that_sends(bytes.as_bytes()).await;
            assert!(asked.is_empty() && answer.is_err(), "{bytes}: {asked} {answer:?}");
        }
    }

    #[tokio::test]
    async fn answers_to_other_questions() {
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
    async fn small_messages_that_ask_for_much() {
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
        fn no_bytes_do_harm(
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
            let (_, answer) = runtime.block_on(ask_one_that_sends(&bytes));
            prop_assert!(answer.is_err());
        }
    }
}

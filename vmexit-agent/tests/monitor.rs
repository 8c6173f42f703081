//! Tests of [`memory_tree`] with hostile peers on the QMP socket: each gives a specific error, within time and memory
//! limits. The listener is this process, whose ID the VM has.

#![allow(clippy::unwrap_used, reason = "a test may panic, and so may its helpers")]

use std::{
    path::Path,
    process,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
};
use vmexit::monitor::{Failure, MonitorError, MonitorOptions, QmpError, Virsh, memory_tree};
use vmexit_core::vm::{Address, Monitor, Vm};

/// Time limit for a peer that does not answer.
const PATIENCE: Duration = Duration::from_millis(500);
/// Time limit for a peer that sends too much, which other limits stop.
const LONG: Duration = Duration::from_secs(20);
const GREETING: &[u8] = b"{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n";
const READY: &[u8] = b"{\"return\": {}, \"id\": 1}\r\n";
const EVENT: &[u8] = b"{\"event\": \"RTC_CHANGE\", \"data\": {\"offset\": 0}}\r\n";
/// Answers of a good peer. The event needs no command.
const TREE: &[&[u8]] = &[
    GREETING,
    READY,
    b"{\"event\": \"RESUME\"}\n{\"return\": \"0-f (prio 0, i/o): x\", \"id\": 2}",
];
const MIB: usize = 1 << 20;

/// Behaviour of a peer after a connection.
#[derive(Clone, Copy)]
struct Peer {
    /// Messages: the first is sent at once, each other one after a command.
    answers: &'static [&'static [u8]],
    then: Then,
}

/// Behaviour after the last message.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    Hangs,
    Closes,
    /// Sends this without end.
    Floods(&'static [u8]),
}

impl Peer {
    /// Serves one connection; returns the bytes that the client received.
    async fn serve(self, listener: UnixListener) -> usize {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        let mut sent = 0;
        for (index, answer) in self.answers.iter().enumerate() {
            if index > 0 && stream.read_line(&mut String::new()).await.unwrap_or(0) == 0 {
                return sent;
            }
            sent += send(&mut stream, answer).await;
        }
        match self.then {
            Then::Hangs => while stream.read_line(&mut String::new()).await.is_ok_and(|n| n > 0) {},
            Then::Closes => {}
            Then::Floods(with) => {
                let chunk = with.repeat(1 + 10_000 / with.len());
                loop {
                    match send(&mut stream, &chunk).await {
                        0 => break,
                        more => sent += more,
                    }
                }
            }
        }
        sent
    }
}

async fn send(stream: &mut BufReader<UnixStream>, bytes: &[u8]) -> usize {
    stream.write_all(bytes).await.map_or(0, |()| bytes.len())
}

fn vm(monitors: Vec<Monitor>) -> Vm {
    let name = "win\x1b10".to_owned();
    Vm { pid: process::id(), name, vcpus: 1, monitors, ..Vm::default() }
}

fn at(path: &Path) -> Monitor {
    Monitor::Qmp(Address::Path(path.to_owned()))
}

fn options(patience: Duration) -> MonitorOptions {
    MonitorOptions { patience, virsh: Virsh::Skip }
}

/// Asks a VM whose monitor is this peer; returns the result, the bytes received, and the time.
async fn ask(peer: Peer) -> (Result<String, MonitorError>, usize, Duration) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("qmp");
    let listener = UnixListener::bind(&path).unwrap();
    let served = tokio::spawn(peer.serve(listener));
    let begun = Instant::now();
    let patience = if peer.then == Then::Hangs { PATIENCE } else { LONG };
    let answer = memory_tree(&vm(vec![at(&path)]), &options(patience)).await;
    let took = begun.elapsed();
    (answer, served.await.unwrap(), took)
}

#[tokio::test]
async fn memory_tree_of_bad_peers_fails_within_time_and_size_limits() {
    type Is = fn(&QmpError) -> bool;
    let floods = |answers, with| Peer { answers, then: Then::Floods(with) };
    let hangs = |answers| Peer { answers, then: Then::Hangs };
    let closes = |answers| Peer { answers, then: Then::Closes };
    let peers: [(&str, Peer, Is, usize); 15] = [
        ("hangs", hangs(&[]), |e| matches!(e, QmpError::NoGreeting(_)), 0),
        ("hangs within", hangs(&[b"{\"QMP\""]), |e| matches!(e, QmpError::NoGreeting(_)), 0),
        ("greets", hangs(&[GREETING]), |e| matches!(e, QmpError::NoAnswer(_)), 0),
        ("is ready", hangs(&[GREETING, READY]), |e| matches!(e, QmpError::NoAnswer(_)), 0),
        ("closes", closes(&[]), |e| matches!(e, QmpError::Closed), 0),
        (
            "closes within",
            closes(&[GREETING, READY, b"{\"return\": \"Fl"]),
            |e| matches!(e, QmpError::Closed | QmpError::Io(_)),
            0,
        ),
        ("other service", hangs(&[b"220 mail ESMTP\r\n"]), |e| matches!(e, QmpError::Garbage), 0),
        ("no greeting", hangs(&[b"{\"return\": {}}"]), |e| matches!(e, QmpError::Garbage), 0),
        (
            "not UTF-8",
            hangs(&[GREETING, READY, b"{\"return\": \"\xff\", \"id\": 2}"]),
            |e| matches!(e, QmpError::Garbage),
            0,
        ),
        (
            "not text",
            hangs(&[GREETING, READY, b"{\"return\": {}, \"id\": 2}"]),
            |e| matches!(e, QmpError::Garbage),
            0,
        ),
        (
            "refuses",
            hangs(&[GREETING, READY, b"{\"error\": {\"desc\": \"no\"}, \"id\": 2}"]),
            |e| matches!(e, QmpError::Refused(why) if why == "no"),
            0,
        ),
        ("endless greeting", floods(&[b"{"], b"[["), |e| matches!(e, QmpError::TooLong(_)), 1),
        ("endless space", floods(&[], b"\n"), |e| matches!(e, QmpError::TooLong(_)), 1),
        ("events", floods(&[GREETING], EVENT), |e| matches!(e, QmpError::OnlyEvents), 2),
        (
            "endless line",
            floods(&[GREETING, READY, b"{\"return\": \""], b"FlatView"),
            |e| matches!(e, QmpError::TooLong(_)),
            9,
        ),
    ];
    for (name, peer, is, mib) in peers {
        let (answer, taken, took) = ask(peer).await;
        let mut error = answer.expect_err(name);
        let most = if peer.then == Then::Hangs { 4 * PATIENCE } else { LONG / 2 };
        assert!(took < most, "{name}: {took:?}");
        assert!(taken <= mib * MIB + MIB / 2, "{name}: took {taken} bytes");
        let says = error.to_string();
        assert!(says.starts_with(r"the devices of VM win\u{1b}10 can't be asked for: QMP at /"));
        assert!(!says.contains(char::is_control), "{name}: {says}");
        match error.tried.remove(0).1 {
            Failure::Qmp(error) => assert!(is(&error), "{name}: {error}"),
            other => panic!("{name}: {other}"),
        }
    }
}

#[tokio::test]
async fn memory_tree_of_other_answer_is_an_error() {
    let answers: &[&[u8]] =
        &[GREETING, READY, b"{\"return\": \"unknown option -f\\r\\n\", \"id\": 2}"];
    let (answer, ..) = ask(Peer { answers, then: Then::Hangs }).await;
    let says = answer.unwrap_err().to_string();
    assert!(says.ends_with(": the answer is not a memory tree: unknown option -f"), "{says}");
}

#[tokio::test]
async fn memory_tree_tries_all_monitors_and_reports_failures() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("qmp");
    let [missing, plain] = ["missing", "plain"].map(|name| directory.path().join(name));
    std::fs::write(&plain, "").unwrap();
    let listener = UnixListener::bind(&path).unwrap();
    let served = tokio::spawn(Peer { answers: TREE, then: Then::Hangs }.serve(listener));
    let vm = |last: Monitor| vm(vec![at(&missing), at(&plain), last]);
    assert_eq!(memory_tree(&vm(at(&path)), &options(LONG)).await.unwrap(), "0-f (prio 0, i/o): x");
    served.await.unwrap();

    let libvirt = vm(Monitor::Libvirt("win10".to_owned()));
    let says = memory_tree(&libvirt, &options(LONG)).await.unwrap_err().to_string();
    let failures: Vec<&str> = says.split("; ").collect();
    assert!(
        failures[0]
            .ends_with("/missing: it can't be reached: No such file or directory (os error 2)")
    );
    assert!(failures[1].ends_with("/plain: it is not a socket"), "{says}");
    assert!(failures[2].starts_with("libvirt domain win10: not asked"), "{says}");
}

#[tokio::test]
async fn memory_tree_without_monitor_names_the_option() {
    let says = memory_tree(&vm(Vec::new()), &options(LONG)).await.unwrap_err().to_string();
    assert!(says.contains("no QMP socket") && says.contains("-qmp unix:PATH"), "{says}");
}

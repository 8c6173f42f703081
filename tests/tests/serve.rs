//! `vmexit serve` on this machine: exact metrics, hostile clients, capabilities, and systemd's protocol.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::{fs::PermissionsExt as _, net::UnixDatagram},
    path::Path,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use vmexit_tests::{
    agent,
    guest::{BareGuest, Expected, Qemu, RunningGuest, vcpus::Vcpus},
    hostile::HostileClients,
    served::{Served, ports, samples},
};

const PATIENCE: Duration = Duration::from_secs(60);

/// Starts a guest, paused.
fn paused(name: &str, guest: &BareGuest) -> RunningGuest {
    let mut running = Qemu::native(name).paused().start(guest).unwrap();
    drop(running.qmp().unwrap());
    running
}

/// Demands exact counts of a guest's port accesses.
fn assert_exact(served: &Served, vm: &str, expected: &Expected) {
    let accesses = served.samples("vmexit_accesses_total").unwrap();
    assert_eq!(ports(&accesses, vm), served.expected_ports(expected).unwrap());
}

#[test]
fn metrics_match_guest_counts() {
    const ROUNDS: u64 = 40;
    let guest = BareGuest::sampler().rounds(ROUNDS as u32);
    let mut running = paused("served", &guest);
    let served = Served::start(&["-i", "100ms"]).unwrap();
    running.resume().unwrap();
    running.wait_dots(ROUNDS, PATIENCE).unwrap();
    sleep(Duration::from_millis(600));
    assert_exact(
        &served,
        "served",
        &guest.expected(ROUNDS).with_missed_hlts(running.missed_hlts()),
    );

    let text = served.get("/metrics").unwrap();
    assert!(!text.contains("# EOF"));
    let accept = "Accept: application/openmetrics-text;version=1.0.0,*/*;q=0.1\r\n";
    let request = format!("GET /metrics HTTP/1.1\r\nHost: x\r\n{accept}Connection: close\r\n\r\n");
    let open = served.ask(&request).unwrap();
    assert!(open.head.contains("application/openmetrics-text"), "{}", open.head);
    assert!(open.body.ends_with("# EOF\n"));
    for lost in samples(&text, "vmexit_lost_total") {
        assert_eq!(lost.1, 0.0, "{lost:?}");
    }
    let info = samples(&text, "vmexit_vm_info");
    let pid = running.pid().to_string();
    assert!(info.iter().any(|(labels, _)| labels["vm"] == "served" && labels["pid"] == pid));
    assert_eq!(served.get("/healthz").unwrap(), "ok\n");
    assert!(served.get("/").unwrap().contains("served"));
    let request =
        "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    assert_eq!(served.ask(request).unwrap().status, 405);
    assert_eq!(served.end().unwrap(), Some(0));
}

#[test]
fn serve_with_hostile_clients_stays_exact_and_small() {
    const ROUNDS: u64 = 200;
    let guest = BareGuest::sampler().rounds(ROUNDS as u32);
    let mut running = paused("besieged", &guest);
    let served = Served::start(&["-i", "100ms"]).unwrap();
    // More connections than are accepted, all with an incomplete request.
    let mut slow: Vec<TcpStream> =
        (0..1_000).filter_map(|_| TcpStream::connect(served.address).ok()).collect();
    for stream in &mut slow {
        let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nX-");
    }
    running.resume().unwrap();
    running.wait_dots(ROUNDS, PATIENCE).unwrap();
    drop(slow);
    // An endless request line, and a large body.
    let address = served.address;
    let flood = std::thread::spawn(move || {
        let piece = vec![b'a'; 1 << 16];
        for start in ["GET /", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n"] {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
            let mut left = stream.write_all(start.as_bytes()).map_or(0, |()| 160);
            while left > 0 && stream.write_all(&piece).is_ok() {
                left -= 1;
            }
        }
    });
    flood.join().unwrap();
    let begun = Instant::now();
    let answered = loop {
        // Refused until the accepted connections are closed.
        if let Ok(mut stream) = TcpStream::connect(address) {
            let _ =
                stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            let mut answer = String::new();
            if stream.read_to_string(&mut answer).is_ok() && answer.ends_with("ok\n") {
                break true;
            }
        }
        if begun.elapsed() > Duration::from_secs(20) {
            break false;
        }
        sleep(Duration::from_millis(100));
    };
    assert!(answered);
    sleep(Duration::from_millis(600));
    assert_exact(
        &served,
        "besieged",
        &guest.expected(ROUNDS).with_missed_hlts(running.missed_hlts()),
    );
    let resident = served.most_resident_kib().unwrap();
    println!("{resident} KiB at most");
    assert!(resident < 64 << 10, "{resident} KiB");
    assert_eq!(served.end().unwrap(), Some(0));
}

/// Demands that each of so many scrapes is answered within a second, body included.
fn assert_scrapes_are_quick(served: &Served, scrapes: u32) {
    let mut times: Vec<Duration> = Vec::new();
    for scrape in 0..scrapes {
        let begun = Instant::now();
        let answer = served.get("/metrics").unwrap_or_else(|error| panic!("{scrape}: {error:#}"));
        times.push(begun.elapsed());
        assert!(answer.contains("vmexit_intervals_total"), "{answer}");
        assert!(begun.elapsed() < Duration::from_secs(1), "{scrape}: {times:?}");
        sleep(Duration::from_millis(100));
    }
    println!("{:?} at most", times.iter().max());
}

#[test]
fn serve_among_1000_hostile_connections_answers_each_scrape_within_a_second() {
    let served = Served::start(&["-i", "100ms"]).unwrap();
    let hostile = HostileClients::start(served.address, 1_000);
    sleep(Duration::from_secs(2));
    assert_scrapes_are_quick(&served, 40);
    let opened = hostile.end();
    println!("{opened} hostile connections");
    assert!(opened >= 1_000, "{opened}");
    assert_eq!(served.end().unwrap(), Some(0));
}

#[test]
fn serve_without_free_descriptors_answers_each_scrape_within_a_second() {
    let served = Served::start(&["-i", "100ms"]).unwrap();
    let limit = served.descriptors().unwrap() + 12;
    let limit = format!("--nofile={limit}:{limit}");
    let pid = served.pid().to_string();
    let limited = Command::new("prlimit").args(["--pid", &pid, &limit]).status().unwrap();
    assert!(limited.success());
    let hostile = HostileClients::start(served.address, 200);
    sleep(Duration::from_secs(2));
    assert_scrapes_are_quick(&served, 20);
    drop(hostile);
    assert_eq!(served.end().unwrap(), Some(0));
}

/// Writes to a pipe that nobody reads, without waiting, until it is full.
fn full_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    // What fits into a pipe (pipe(7)).
    writer.write_all(&[b'x'; 1 << 16]).unwrap();
    (reader, writer)
}

#[test]
fn serve_with_standard_error_that_nobody_reads_counts_answers_and_ends() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (reader, writer) = full_pipe();
    let mut command = agent::command(&["serve", "-i", "100ms", "--listen"]).unwrap();
    command.arg(address.to_string()).env("RUST_LOG", "debug").stderr(writer);
    let mut child = command.spawn().unwrap();
    drop(command);
    let intervals = || {
        let mut stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(samples(&answer, "vmexit_intervals_total").first()?.1)
    };
    let begun = Instant::now();
    while intervals().is_none_or(|intervals| intervals < 10.0) {
        if begun.elapsed() > Duration::from_secs(20) {
            child.kill().unwrap();
            panic!("it does not count");
        }
        sleep(Duration::from_millis(100));
    }
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap().success());
    let begun = Instant::now();
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if begun.elapsed() > Duration::from_secs(5) => {
                child.kill().unwrap();
                panic!("it does not end");
            }
            None => sleep(Duration::from_millis(20)),
        }
    };
    assert_eq!(status.code(), Some(0));
    drop(reader);
}

#[test]
fn serve_with_many_threads_over_limit_writes_few_lines() {
    let served = Served::start(&["-i", "100ms", "--max-vcpus", "1"]).unwrap();
    let vcpus = Vcpus::start(Path::new(env!("CARGO_BIN_EXE_vmexit-vcpus")), 200).unwrap();
    sleep(Duration::from_secs(2));
    let said = served.said();
    // Twenty of one kind; with the monitor's warnings of these VMs, two kinds.
    assert!(said.contains("raise --max-vcpus") && said.lines().count() <= 40, "{said}");
    drop(vcpus);
    assert_eq!(served.end().unwrap(), Some(0));
}

/// Capability bits (include/uapi/linux/capability.h).
const DAC_OVERRIDE: u64 = 1 << 1;
const DAC_READ_SEARCH: u64 = 1 << 2;
const SYS_PTRACE: u64 = 1 << 19;
const BPF: u64 = 1 << 39;
/// Capabilities to identify the VMs of all users.
const NAME: u64 = SYS_PTRACE | DAC_READ_SEARCH;

/// Effective, permitted and bounding set of capabilities.
fn capabilities(served: &Served) -> [u64; 3] {
    ["CapEff", "CapPrm", "CapBnd"]
        .map(|set| u64::from_str_radix(&served.status(set).unwrap(), 16).unwrap())
}

#[test]
fn serve_after_attach_drops_capabilities() {
    let served = Served::start(&["-i", "100ms"]).unwrap();
    assert_eq!(capabilities(&served), [BPF | NAME | DAC_OVERRIDE; 3]);
    // No thread has more, whenever it was started.
    for thread in fs::read_dir(format!("/proc/{}/task", served.pid())).unwrap() {
        let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        let sets = status.lines().filter_map(|line| line.strip_prefix("Cap")?.split_once(":\t"));
        for (set, bits) in sets {
            let bits = u64::from_str_radix(bits, 16).unwrap();
            assert_eq!(bits & !(BPF | NAME | DAC_OVERRIDE), 0, "{set}: {status}");
        }
    }
    drop(served);
    let served = Served::start(&["-i", "100ms", "--devices", "guess"]).unwrap();
    assert_eq!(capabilities(&served), [BPF | NAME; 3]);
    assert_eq!(served.end().unwrap(), Some(0));
}

#[test]
fn serve_as_user_with_four_capabilities_stays_exact() {
    const ROUNDS: u64 = 20;
    let guest = BareGuest::sampler().rounds(ROUNDS as u32);
    let mut running = paused("unprivileged", &guest);
    // A copy that any user may run.
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("vmexit");
    fs::copy(agent::program().unwrap(), &program).unwrap();
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(directory.path(), open).unwrap();
    let capabilities = "+bpf,+perfmon,+sys_ptrace,+dac_read_search";
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--no-new-privs"]);
    command.args(["--inh-caps", capabilities, "--ambient-caps", capabilities]).arg(&program);
    let served = Served::start_by(command, &["-i", "100ms"]).unwrap();
    assert!(served.status("Uid").unwrap().starts_with("65534"));
    assert_eq!(u64::from_str_radix(&served.status("CapEff").unwrap(), 16), Ok(BPF | NAME));
    running.resume().unwrap();
    running.wait_dots(ROUNDS, PATIENCE).unwrap();
    sleep(Duration::from_millis(600));
    assert_exact(
        &served,
        "unprivileged",
        &guest.expected(ROUNDS).with_missed_hlts(running.missed_hlts()),
    );
    assert_eq!(served.end().unwrap(), Some(0));
}

#[test]
fn serve_notifies_systemd_of_ready_watchdog_and_stop() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = agent::command(&[]).unwrap();
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "400000");
    let served = Served::start_by(command, &["-i", "1h"]).unwrap();
    let next = || {
        let mut message = [0; 256];
        let length = socket.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    assert!(next().contains("READY=1"));
    // Watchdog messages come at half the required time, whatever the interval.
    let begun = Instant::now();
    for _ in 0..5 {
        assert!(next().contains("WATCHDOG=1"));
    }
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(served.end().unwrap(), Some(0));
    let rest = std::iter::repeat_with(next).take(20).find(|message| message.contains("STOPPING=1"));
    assert!(rest.is_some());
}

//! The agent on AMD exits, in the lab: against the guest's own ground truth, KVM's own counter and
//! `perf kvm stat`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{path::Path, time::Duration};

use vmexit_tests::{
    agent::{self, Report, Row},
    guest::{BareGuest, Direction, Expected, Qemu, address},
    lab::{Kernel, Lab, default_cache},
};

const ROUNDS: u64 = 60;

fn lab(guest: &BareGuest) -> Lab {
    // A newer kernel than the machine's own for those who ask: VMEXIT_LAB_KERNEL=6.12.
    let version = std::env::var("VMEXIT_LAB_KERNEL").ok();
    let kernel = Kernel::find(&default_cache(), version.as_deref()).unwrap();
    Lab::new(kernel)
        .qemu()
        .binary("/usr/bin/vmexit", agent::program().unwrap())
        .file(format!("/tmp/{}", Qemu::ROM), guest.rom(), 0o644)
        .timeout(Duration::from_secs(240))
}

/// Starts the guest, halted until something says `cont` to file descriptor 3, and defines what the
/// scripts below use: `kvm`, KVM's own directory of this VM, and waiting for the guest and the agent.
fn start(name: &str) -> String {
    let qemu = Qemu::nested(name).paused().arg("-monitor").arg("stdio").shell(Path::new("/tmp"));
    format!(
        r#"
set -e
mkfifo /tmp/monitor
{qemu} < /tmp/monitor > /tmp/qemu.log 2>&1 &
exec 3> /tmp/monitor
until kvm=$(ls -d /sys/kernel/debug/kvm/*-* 2> /dev/null); do sleep 0.1; done
pid=${{kvm##*/}}
pid=${{pid%-*}}
dots() {{ tr -cd . < /tmp/{serial} | wc -c; }}
missed() {{ tr -cd - < /tmp/{serial} | wc -c; }}
wait_dots() {{ until [ "$(dots)" -ge "$1" ]; do sleep 0.2; done; }}
attached() {{ [ "$(cat /proc/$1/fdinfo/* 2> /dev/null | grep -c link_type)" -ge 3 ]; }}
wait_attached() {{ until attached "$1"; do kill -0 "$1"; sleep 0.1; done; sleep 1; }}
"#,
        serial = Qemu::SERIAL,
    )
}

/// What the script printed under a heading of the form `== name`.
fn section<'a>(output: &'a str, name: &str) -> &'a str {
    let (_, rest) = output
        .split_once(&format!("== {name}\n"))
        .unwrap_or_else(|| panic!("no section '{name}' in {output}"));
    rest.split("\n== ").next().unwrap_or(rest).trim()
}

fn number(output: &str, name: &str) -> u64 {
    section(output, name).parse().unwrap_or_else(|_| panic!("no number in section '{name}'"))
}

fn run(guest: &BareGuest, lab: impl FnOnce(Lab) -> Lab, script: &str) -> String {
    let run = lab(self::lab(guest)).run(script).unwrap_or_else(|error| panic!("{error}"));
    let stderr = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.code, 0, "{stderr}\n{}", String::from_utf8_lossy(&run.stdout));
    String::from_utf8(run.stdout).unwrap()
}

fn samples(row: Option<Row<'_>>) -> u64 {
    row.map_or(0, |row| row.samples().unwrap())
}

/// Every exit that a guest can't avoid, by the names that Linux has for them on AMD.
fn assert_exact(report: &Report, vm: &str, expected: &Expected) {
    for (&(port, direction), &count) in &expected.ports {
        let row = report.port(vm, port, direction).unwrap();
        assert_eq!(samples(row), count, "{port:#x} {direction:?}");
    }
    assert_eq!(report.ports(vm).unwrap().len(), expected.ports.len());
    for (reason, count) in
        [("io", expected.io()), ("cpuid", expected.cpuid), ("msr", expected.msr())]
    {
        assert_eq!(report.exits_for(vm, reason).unwrap(), count, "{reason}");
    }
}

#[test]
fn counts_on_raw_tracepoints_are_the_guests_own_and_kvms_own() {
    counts_are_the_guests_own_and_kvms_own("raw");
}

#[test]
fn counts_on_classic_tracepoints_are_the_guests_own_and_kvms_own() {
    counts_are_the_guests_own_and_kvms_own("classic");
}

fn counts_are_the_guests_own_and_kvms_own(tracepoints: &str) {
    let guest = BareGuest::demo().rounds(ROUNDS as u32);
    let script = start("exact")
        + &format!(
            r#"
vmexit capture -q -d 10m -f json -o /tmp/report.json --tracepoints {tracepoints} &
agent=$!
wait_attached $agent
before=$(cat $kvm/exits)
echo cont >&3
wait_dots {ROUNDS}
sleep 2
after=$(cat $kvm/exits)
kill -INT $agent
wait $agent
echo "== dots"; dots
echo "== missed"; missed
echo "== exits"; echo $((after - before))
echo "== report"; cat /tmp/report.json
"#
        );
    let output = run(&guest, |lab| lab, &script);
    let report = Report::parse(section(&output, "report").as_bytes()).unwrap();

    println!("{}, KVM's own counter: {}", report.accounting(), number(&output, "exits"));
    let rounds = number(&output, "dots");
    assert_eq!(rounds, ROUNDS);
    let mut expected = guest.expected(rounds).with_missed_hlts(number(&output, "missed"));
    assert_exact(&report, "exact", &expected);
    // The last HLT never ends.
    expected.hlt -= 1;
    assert_eq!(report.exits_for("exact", "hlt").unwrap(), expected.hlt);
    assert_eq!(report.count("/accounting/open").unwrap(), 1);

    let observed = report.count("/accounting/observed").unwrap();
    let exits = report.exits("exact").unwrap();
    let recorded: u64 = exits.iter().map(|row| row.samples().unwrap()).sum();
    assert_eq!(observed, recorded + 1, "nothing is lost");
    assert_eq!(report.count("/accounting/recorded").unwrap(), recorded);
    assert_eq!(report.count("/accounting/unaccounted").unwrap(), 0);
    assert_eq!(observed, number(&output, "exits"), "KVM's own counter");
    assert_eq!(report.text("/source").unwrap(), "exits");
    assert_eq!(report.text("/host/vendor").unwrap(), "svm");
}

#[test]
fn a_running_guest_keeps_its_ratio() {
    let guest = BareGuest::demo();
    let script = start("endless")
        + "
echo cont >&3
wait_dots 3
vmexit capture -q -d 5s -f json > /tmp/report.json
echo '== missed'; missed
echo '== report'; cat /tmp/report.json
";
    let output = run(&guest, |lab| lab, &script);
    let report = Report::parse(section(&output, "report").as_bytes()).unwrap();
    let port = |port, direction| samples(report.port("endless", port, direction).unwrap());
    let each = guest.per_round();
    let rtc = (address::RTC_INDEX, Direction::Out);
    let rounds = port(rtc.0, rtc.1) / each.ports[&rtc];
    assert!(rounds > 3, "{rounds} rounds in 5 s");
    let missed = number(&output, "missed");
    let near = |what: &str, seen: u64, each: u64| {
        // It began and ended within a round; a dash on the serial port stands for a HLT.
        let range = (rounds - 1) * each - missed..=(rounds + 2) * each + missed;
        assert!(range.contains(&seen), "{what}: {seen} in {rounds} rounds of {each}");
    };
    for (&(number, direction), &count) in &each.ports {
        near(&format!("{number:#x} {direction:?}"), port(number, direction), count);
    }
    for (reason, count) in [("cpuid", each.cpuid), ("msr", each.msr()), ("hlt", each.hlt)] {
        near(reason, report.exits_for("endless", reason).unwrap(), count);
    }
}

/// `perf kvm stat report`'s rows: name, samples, and the average time in µs.
fn perf_rows(report: &str) -> Vec<(String, u64, f64)> {
    report
        .lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let percent = words.iter().position(|word| word.ends_with('%'))?;
            let samples = words.get(percent.checked_sub(1)?)?.parse().ok()?;
            let name = words[..percent - 1].join(" ");
            let times: Vec<f64> =
                words.iter().filter_map(|word| word.strip_suffix("us")?.parse().ok()).collect();
            Some((name, samples, *times.get(2)?))
        })
        .collect()
}

#[test]
fn perf_agrees_on_counts_and_not_on_the_time_of_a_port_read() {
    let guest = BareGuest::demo().rounds(ROUNDS as u32);
    let script = start("beside-perf")
        + &format!(
            r#"
cd /tmp
vmexit capture -q -d 10m -f json -o /tmp/report.json &
agent=$!
perf kvm stat record -p $pid -o /tmp/perf.data > /tmp/perf.log 2>&1 &
perf=$!
wait_attached $agent
# perf has begun when its buffers are there.
until [ -s /tmp/perf.data ]; do kill -0 $perf; sleep 0.2; done
sleep 3
echo cont >&3
wait_dots {ROUNDS}
sleep 2
kill -INT $agent $perf
wait $agent
wait $perf || true
echo "== vmexit"; perf kvm -i /tmp/perf.data stat report --event=vmexit 2>&1
echo "== ioport"; perf kvm -i /tmp/perf.data stat report --event=ioport 2>&1
echo "== report"; cat /tmp/report.json
"#
        );
    let output = run(&guest, Lab::perf, &script);
    let report = Report::parse(section(&output, "report").as_bytes()).unwrap();
    let close = |what: &str, ours: u64, perfs: u64| {
        assert!(ours.abs_diff(perfs) * 100 <= perfs, "{what}: {ours} here, {perfs} in perf");
    };

    let by_reason = perf_rows(section(&output, "vmexit"));
    assert!(by_reason.len() >= 5, "perf's report: {output}");
    for (reason, samples, _) in &by_reason {
        // One of a handful is more than a percent.
        if *samples >= 100 {
            close(reason, report.exits_for("beside-perf", reason).unwrap(), *samples);
        }
    }
    let by_port = perf_rows(section(&output, "ioport"));
    assert!(by_port.len() >= 4, "perf's report: {output}");
    let mut perf_read_us = None;
    for (name, perfs, average_us) in by_port {
        let (number, direction) = name.split_once(':').unwrap();
        let number = u16::from_str_radix(number.trim_start_matches("0x"), 16).unwrap();
        let direction = if direction == "PIN" { Direction::In } else { Direction::Out };
        let ours = samples(report.port("beside-perf", number, direction).unwrap());
        close(&name, ours, perfs);
        if (number, direction) == (address::PM_TIMER, Direction::In) {
            perf_read_us = Some(average_us);
        }
    }

    // perf's clock for a port starts at kvm_pio, which a read reports when QEMU has answered.
    let average = |row: Row<'_>| row.count("avg_ns").unwrap() as f64 / 1e3;
    let exits = report.exits("beside-perf").unwrap();
    let io = average(*exits.iter().find(|row| row.reason() == Some("io")).unwrap());
    let read =
        average(report.port("beside-perf", address::PM_TIMER, Direction::In).unwrap().unwrap());
    let perf = perf_read_us.expect("perf has 0x608:PIN");
    println!("average of IN 0x608: {read:.1} µs, of io {io:.1} µs; perf says {perf:.1} µs");
    assert!((0.5..2.0).contains(&(read / io)), "a read takes {read} µs, an io exit {io} µs");
    assert!(read > 2.0 * perf, "a read takes {read} µs, perf's tail {perf} µs");
}

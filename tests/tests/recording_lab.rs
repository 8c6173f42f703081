//! Recordings, end to end in the AMD lab: what is written there says here what the guest did, and what
//! perf has recorded beside it says the same once it is imported.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{fs, time::Duration};

use vmexit_tests::{
    agent::{self, Report},
    apart::ensure_failed,
    guest::BareGuest,
    lab::{Lab, Vendor},
    scenario::{self, Printed, beside_perf, start},
};

const ROUNDS: u64 = 60;

fn run(guest: &BareGuest, lab: impl FnOnce(Lab) -> Lab, script: &str) -> Printed {
    let lab = lab(scenario::lab(Vendor::Amd, guest).unwrap().timeout(Duration::from_secs(240)));
    Printed::by(&lab, script).unwrap_or_else(|error| panic!("{error:#}"))
}

#[test]
fn a_recording_tells_here_what_happened_there() {
    let guest = BareGuest::sampler().rounds(ROUNDS as u32);
    let script = start("recorded")
        + &format!(
            r#"
vmexit capture -q -d 10m -o /tmp/there.vmexit &
agent=$!
wait_attached $agent
echo cont >&3
wait_dots {ROUNDS}
sleep 2
kill -INT $agent
wait $agent
echo "== missed"; missed
echo "== json"; vmexit report -f json --by vcpu /tmp/there.vmexit
echo "== text"; vmexit report --sort samples /tmp/there.vmexit
echo "== csv"; vmexit report -f csv --event ioport /tmp/there.vmexit | tr -d '\r'
echo "== file"; base64 /tmp/there.vmexit
"#
        );
    let printed = run(&guest, |lab| lab, &script);
    let report = Report::parse(printed.section("json").unwrap().as_bytes()).unwrap();
    let expected = guest.expected(ROUNDS).with_missed_hlts(printed.number("missed").unwrap());
    report.ensure_ports("recorded", &expected).unwrap();
    report.ensure_registers("recorded", &expected).unwrap();
    assert_eq!(report.count("/accounting/unaccounted").unwrap(), 0);

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("here.vmexit");
    fs::write(&file, decoded(printed.section("file").unwrap())).unwrap();
    let path = file.to_str().unwrap();
    for (section, options) in [
        ("json", vec!["-f", "json", "--by", "vcpu"]),
        ("text", vec!["--sort", "samples"]),
        ("csv", vec!["-f", "csv", "--event", "ioport"]),
    ] {
        let arguments = [vec!["report", path], options].concat();
        let output = agent::command(&arguments).unwrap().output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let here = String::from_utf8(output.stdout).unwrap().replace('\r', "");
        assert_eq!(here.trim(), printed.section(section).unwrap(), "{section}");
    }

    let diff = agent::command(&["diff", path, path]).unwrap().output().unwrap();
    let text = String::from_utf8(diff.stdout).unwrap();
    assert!(text.contains("within noise") && !text.contains("saved"), "{text}");
    let unknown = agent::command(&["report", path, "--vm", "absent"]).unwrap().output().unwrap();
    ensure_failed(&unknown, 6, "no VM answers to 'absent'; there are: recorded (").unwrap();
    fs::write(&file, &fs::read(&file).unwrap()[..500]).unwrap();
    let cut = agent::command(&["diff", path, path]).unwrap().output().unwrap();
    ensure_failed(&cut, 8, "can't be read: it ends too early").unwrap();
    fs::remove_file(&file).unwrap();
    let nothing = agent::command(&["report", path]).unwrap().output().unwrap();
    ensure_failed(&nothing, 8, "No such file").unwrap();
}

#[test]
fn a_clock_that_is_set_costs_no_interval_and_makes_none_up() {
    // Some intervals between the times at which it is set.
    const LONG: u64 = 10 * ROUNDS;
    let guest = BareGuest::sampler().rounds(LONG as u32);
    let [first, second] = [LONG / 3, LONG * 2 / 3];
    let script = start("stepped")
        + &format!(
            r#"
vmexit record /tmp/night --every 500ms 2> /tmp/said &
agent=$!
wait_attached $agent
up() {{ cut -d ' ' -f 1 /proc/uptime; }}
ago() {{ date -u -d @$(($(date +%s) - $1)) +%Y-%m-%dT%H:%M:%SZ; }}
set_by() {{ date -s @$(($(date +%s) + $1)) > /dev/null; }}
half=1800
before=$(ago $half); earlier=$(ago $((3 * half))); after=$(ago -$half)
from=$(up)
echo cont >&3
wait_dots {first}
set_by -3600
wait_dots {second}
set_by 7200
wait_dots {LONG}
sleep 2
kill -TERM $agent
wait $agent
to=$(up)
echo "== seconds"; echo "$to $from" | awk '{{ print $1 - $2 }}'
echo "== missed"; missed
echo "== said"; grep -v "recording into" /tmp/said || true
report() {{ vmexit report /tmp/night -f json "$@"; }}
echo "== all"; report
echo "== as it was"; report --since $before --until $after
echo "== set back"; report --since $earlier --until $before
echo "== set forth"; report --since $after
"#
        );
    let printed = run(&guest, |lab| lab, &script);
    let of = |section: &str| Report::parse(printed.section(section).unwrap().as_bytes()).unwrap();
    assert_eq!(printed.section("said").unwrap(), "");
    let all = of("all");
    let expected = guest.expected(LONG).with_missed_hlts(printed.number("missed").unwrap());
    all.ensure_ports("stepped", &expected).unwrap();
    assert_eq!(all.count("/accounting/unaccounted").unwrap(), 0);
    assert_eq!(all.number("/span/unwatched_seconds").unwrap(), 0.0);
    let seconds = all.number("/span/seconds").unwrap();
    let took: f64 = printed.section("seconds").unwrap().parse().unwrap();
    // It had begun some time before.
    println!("{seconds} s, of which {took} were looked at");
    assert!(seconds >= took - 1.0 && seconds < took + 10.0, "{seconds}, not {took} s");
    let parts = ["as it was", "set back", "set forth"]
        .map(|part| of(part).count("/accounting/observed").unwrap());
    assert!(parts.iter().all(|&part| part > 0), "{parts:?}");
    assert_eq!(parts.iter().sum::<u64>(), all.count("/accounting/observed").unwrap());
}

/// Base64 as busybox writes it.
fn decoded(text: &str) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text.bytes().filter_map(|c| DIGITS.iter().position(|&digit| digit == c));
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_usize, 0_u32);
    for digit in digits {
        (bits, held) = (bits << 6 | digit, held + 6);
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    bytes
}

#[test]
fn what_perf_has_recorded_says_the_same() {
    let guest = BareGuest::demo().rounds(ROUNDS as u32);
    let script = beside_perf("imported", ROUNDS)
        + r#"
perf script --header -F +pid --ns --show-lost-events -i /tmp/perf.data > /tmp/perf.txt 2> /tmp/script.log
echo "== imported"; vmexit import perf /tmp/perf.txt -f json 2> /tmp/import.log
echo "== warnings"; cat /tmp/import.log
echo "== piped"; perf script -i /tmp/perf.data 2> /dev/null | vmexit import perf - -o /tmp/perf.vmexit 2>&1
echo "== report"; cat /tmp/report.json
echo "== read"; vmexit report -f json /tmp/perf.vmexit
"#;
    let printed = run(&guest, Lab::perf, &script);
    let ours = printed.report().unwrap();
    let of = |section: &str| Report::parse(printed.section(section).unwrap().as_bytes()).unwrap();
    let imported = of("imported");
    println!("{}", imported.accounting());
    assert_eq!(printed.section("warnings").unwrap(), "");
    assert_eq!(imported.text("/host/vendor").unwrap(), "svm");
    assert_eq!(imported.text("/host/kernel").unwrap(), ours.text("/host/kernel").unwrap());
    assert_eq!(imported.count("/accounting/unaccounted").unwrap(), 0);

    // Without processes in the text all is one VM's, which is what there is.
    assert!(printed.section("piped").unwrap().contains("-F +pid"));
    let name = imported.text("/vms/0/name").unwrap();
    for (report, name) in [(&imported, name), (&of("read"), "perf")] {
        let rows = ours.ports("imported").unwrap();
        assert!(rows.len() >= 4, "{rows:?}");
        for row in rows {
            let number = row.number().unwrap();
            let same = report.detail(name, "ioport", number, row.direction()).unwrap().unwrap();
            close(&format!("port {number:#x}"), row.samples().unwrap(), same.samples().unwrap());
            // Both time an access from its exit to its entry.
            let averages = [row, same].map(|row| row.count("avg_ns").unwrap() as f64);
            let ratio = averages[0] / averages[1];
            assert!((0.5..2.0).contains(&ratio), "port {number:#x}: {averages:?} ns");
        }
        for reason in ["io", "cpuid", "msr"] {
            let both = [(&ours, "imported"), (report, name)]
                .map(|(report, vm)| report.exits_for(vm, reason).unwrap());
            assert!(both[0] > 0);
            close(reason, both[0], both[1]);
        }
    }
}

/// perf loses some where its buffer is full.
fn close(what: &str, ours: u64, perfs: u64) {
    assert!(ours.abs_diff(perfs) * 100 <= ours, "{what}: {ours} here, {perfs} of perf's");
}

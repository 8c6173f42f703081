//! The AMD lab: the result of a run, and each kind of failure.
//!
//! These tests need QEMU, and the network on the first run. They fail without.

use std::time::{Duration, Instant};

use vmexit_tests::lab::{Lab, LabError, LabKernel, Stream, default_cache};

fn lab() -> Result<Lab, LabError> {
    Ok(Lab::new(LabKernel::find(&default_cache(), None)?))
}

#[test]
fn lab_script_returns_streams_and_exit_code() {
    let script = "cat /root/bytes; echo to stderr >&2; test -c /dev/kvm || exit 1; \
                  test -r /sys/kernel/btf/kvm || exit 2; test -d /sys/kernel/tracing/events/kvm || exit 3; \
                  sleep 1000 & exit 7";
    let bytes: Vec<u8> = (0..=255).cycle().take(10_000).collect();
    let mut streamed = Vec::new();
    let run = lab()
        .unwrap()
        .file("/root/bytes", bytes.clone(), 0o644)
        .run_streaming(script, |stream, new| {
            if stream == Stream::Stdout {
                streamed.extend_from_slice(new);
            }
        })
        .unwrap();
    assert_eq!(run.code, 7, "{run:?}");
    assert_eq!(run.stdout, bytes);
    assert_eq!(streamed, bytes);
    assert_eq!(run.stderr, b"to stderr\n");
}

#[test]
fn lab_script_over_time_limit_is_stopped() {
    let limit = Duration::from_secs(15);
    let begin = Instant::now();
    let error = lab().unwrap().timeout(limit).run("echo started; sleep 1000").unwrap_err();
    assert!(matches!(error, LabError::Hung { .. }), "{error}");
    assert!(error.to_string().contains("started"), "{error}");
    assert!(begin.elapsed() < limit * 2);
}

#[test]
fn lab_crash_is_an_error() {
    let error = lab().unwrap().run("echo c > /proc/sysrq-trigger; exit 0").unwrap_err();
    assert!(matches!(error, LabError::Crashed { .. }), "{error}");
    assert!(error.to_string().contains("sysrq triggered crash"), "{error}");
}

#[test]
fn lab_early_power_off_has_no_verdict() {
    let error = lab().unwrap().run("echo last words; poweroff -f").unwrap_err();
    assert!(matches!(error, LabError::NoVerdict { .. }), "{error}");
}

#[test]
fn lab_instruction_clock_sleep_takes_no_host_time() {
    let begin = Instant::now();
    let script = "before=$(cut -d. -f1 /proc/uptime); sleep 1000; \
                  echo $(($(cut -d. -f1 /proc/uptime) - before))";
    let run = lab().unwrap().instruction_clock().run(script).unwrap();
    let slept: u64 = String::from_utf8(run.stdout).unwrap().trim().parse().unwrap();
    assert!((999..=1_001).contains(&slept), "{slept} s");
    assert!(begin.elapsed() < Duration::from_secs(100));
}

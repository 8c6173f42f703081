//! Directories of recordings: retention, size limits, and the state after the writer was killed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may panic, and so may its helpers"
)]

mod made_up;

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use made_up::{PID, SECOND, report_of};
use vmexit_core::{
    measurement::{Began, Measurement},
    store::{
        MeasurementSum,
        archive::{self, Archive, Limits, Period, Recorder},
    },
    timing::Timing,
    vm,
};
use vmexit_view::TableOptions;

/// Limits that no test here reaches.
const DAY: Limits = Limits { retention: Duration::from_secs(24 * 3600), bytes: 1 << 30 };

/// Start of the first made-up recording.
fn epoch() -> SystemTime {
    made_up::windows().start.unwrap()
}

/// The interval that starts a number of seconds after [`epoch`], as a recorder gets it.
fn at(seconds: u64) -> Measurement {
    let recording = made_up::windows();
    Measurement {
        start: Some(epoch() + Duration::from_secs(seconds)),
        began: Some(Began { boot: "one".into(), ns: (100 + seconds) * SECOND }),
        steps: Vec::new(),
        ..recording
    }
}

/// Recordings in a directory, sorted by name.
fn files(directory: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        all.filter(|path| path.extension().is_some_and(|end| end == "vmexit")).collect();
    files.sort();
    files
}

/// Size of all recordings in a directory, bytes.
fn bytes(directory: &Path) -> u64 {
    files(directory).iter().map(|path| fs::metadata(path).unwrap().len()).sum()
}

/// Starts of the recorded intervals in a period, seconds after [`epoch`].
fn starts(directory: &Path, period: Period) -> Vec<u64> {
    let all = Archive::open(directory).unwrap().recordings(period);
    all.map(|one| one.unwrap().start.unwrap().duration_since(epoch()).unwrap().as_secs()).collect()
}

fn from_to(since: u64, until: u64) -> Period {
    let time = |seconds| Some(epoch() + Duration::from_secs(seconds));
    Period { since: time(since), until: time(until) }
}

fn summed(recordings: impl IntoIterator<Item = Measurement>) -> Measurement {
    let mut sum = MeasurementSum::default();
    recordings.into_iter().for_each(|one| sum.add(one).unwrap());
    sum.finish().unwrap()
}

#[test]
fn archive_period_is_sum_of_its_intervals() {
    let directory = tempfile::tempdir().unwrap();
    let mut recorder = Recorder::open(directory.path(), DAY).unwrap();
    for second in (0..60).step_by(10) {
        recorder.write(&at(second)).unwrap();
    }
    assert_eq!(starts(directory.path(), Period::default()), [0, 10, 20, 30, 40, 50]);
    assert_eq!(starts(directory.path(), from_to(10, 30)), [10, 20]);
    // Intervals that overlap the period.
    assert_eq!(starts(directory.path(), from_to(19, 21)), [10, 20]);
    assert!(starts(directory.path(), from_to(60, 70)).is_empty());

    let found = archive::recordings(directory.path(), from_to(10, 40)).unwrap();
    let sum = summed(found.map(Result::unwrap));
    let (one, three) = (report_of(&at(0)), report_of(&sum));
    assert_eq!(sum.interval.span_ns, 30 * SECOND);
    assert_eq!((sum.interval.unwatched_ns, sum.steps.len()), (0, 3));
    assert_eq!(three.accounting.observed, 3 * one.accounting.observed);
    assert_eq!(three.accounting.unaccounted, 0);
    let (one, three) = (&one.vms[0], &three.vms[0]);
    assert_eq!(three.total.handled_ns, 3 * one.total.handled_ns);
    assert!((three.total.per_second - one.total.per_second).abs() < 1e-9);
    for (one, three) in one.tables.exits.iter().zip(&three.tables.exits) {
        assert_eq!((&one.reason, 3 * one.stats.samples), (&three.reason, three.stats.samples));
        assert_eq!(one.stats.p99_ns, three.stats.p99_ns);
        assert_eq!((one.stats.min_ns, one.stats.max_ns), (three.stats.min_ns, three.stats.max_ns));
    }
    let steps: u64 =
        three.series.iter().flat_map(|step| &step.parts).map(|part| part.samples).sum();
    assert_eq!(steps, three.total.samples);
}

#[test]
fn archive_cut_at_any_byte_loses_only_last_interval() {
    let directory = tempfile::tempdir().unwrap();
    let mut recorder = Recorder::open(directory.path(), DAY).unwrap();
    let mut ends = Vec::new();
    for second in [0, 10, 20] {
        recorder.write(&at(second)).unwrap();
        ends.push(bytes(directory.path()));
    }
    drop(recorder);
    let [file] = files(directory.path()).try_into().unwrap();
    let whole = fs::read(&file).unwrap();
    for cut in 0..=whole.len() {
        fs::write(&file, &whole[..cut]).unwrap();
        let complete = ends.iter().filter(|&&end| end <= cut as u64).count();
        assert_eq!(starts(directory.path(), Period::default()).len(), complete, "{cut}");
        // As the only file, one without a complete interval is an error.
        if cut > 0 {
            let alone = archive::recordings(&file, Period::default()).unwrap();
            let read: Vec<_> = alone.collect();
            assert_eq!(read.iter().filter(|one| one.is_ok()).count(), complete, "{cut}");
            assert_eq!(read.iter().any(Result::is_err), complete == 0, "{cut}");
        }
    }
    // The next recorder starts a new file.
    fs::write(&file, &whole[..whole.len() - 1]).unwrap();
    Recorder::open(directory.path(), DAY).unwrap().write(&at(30)).unwrap();
    assert_eq!(starts(directory.path(), Period::default()), [0, 10, 30]);
}

#[test]
fn archive_retention_deletes_oldest_files() {
    let directory = tempfile::tempdir().unwrap();
    let limits = Limits { retention: Duration::from_secs(600), ..DAY };
    let mut recorder = Recorder::open(directory.path(), limits).unwrap();
    for second in (0..3_600).step_by(10) {
        // The clock is set back by more than a day, and later forward again.
        let off = if (1_000..2_000).contains(&second) { 86_400 } else { 200_000 };
        let mut interval = at(second);
        interval.start = Some(epoch() + Duration::from_secs(second + off));
        recorder.write(&interval).unwrap();
        let kept = Archive::open(directory.path()).unwrap().recordings(Period::default()).count();
        let recorded = second / 10 + 1;
        // Files are deleted as a whole; each has a minute.
        assert!((recorded.min(60)..=recorded.min(67)).contains(&(kept as u64)), "{second}: {kept}");
    }
    let last = Archive::open(directory.path()).unwrap().recordings(Period::default()).last();
    assert_eq!(last.unwrap().unwrap().began.unwrap().ns, (100 + 3_590) * SECOND);
}

#[test]
fn archive_size_never_exceeds_limit() {
    let directory = tempfile::tempdir().unwrap();
    let one = vmexit_core::store::file::write(&at(0)).unwrap().len() as u64;
    let limits = Limits { bytes: one * 50, ..DAY };
    let mut recorder = Recorder::open(directory.path(), limits).unwrap();
    for n in 0..200 {
        recorder.write(&at(10 * n)).unwrap();
        assert!(bytes(directory.path()) <= limits.bytes, "{n}");
    }
    assert!(bytes(directory.path()) > limits.bytes * 9 / 10);
    drop(recorder);
    // A lower limit takes effect at once.
    let limits = Limits { bytes: one * 10, ..DAY };
    let mut recorder = Recorder::open(directory.path(), limits).unwrap();
    assert!(bytes(directory.path()) <= limits.bytes);
    recorder.write(&at(3_000)).unwrap();
    drop(recorder);
    let limits = Limits { bytes: one / 2, ..DAY };
    let mut recorder = Recorder::open(directory.path(), limits).unwrap();
    let error = recorder.write(&at(3_010)).unwrap_err();
    assert!(error.to_string().contains("more than the limit"), "{error}");
}

#[test]
fn archive_second_recorder_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let first = Recorder::open(directory.path(), DAY).unwrap();
    let error = Recorder::open(directory.path(), DAY).unwrap_err();
    assert_eq!(error.to_string(), "another vmexit is recording to this directory");
    drop(first);
    Recorder::open(directory.path(), DAY).unwrap();
}

#[test]
fn archive_foreign_files_are_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let (alien, damaged) = (directory.path().join("notes.txt"), "000001-20260102T030405Z.vmexit");
    fs::write(&alien, "mine").unwrap();
    fs::write(directory.path().join(damaged), "no recording").unwrap();
    let limits = Limits { retention: Duration::from_secs(1), ..DAY };
    let mut recorder = Recorder::open(directory.path(), limits).unwrap();
    recorder.write(&at(0)).unwrap();
    assert!(alien.exists());
    let all: Vec<_> =
        Archive::open(directory.path()).unwrap().recordings(Period::default()).collect();
    let (path, error) = all[0].as_ref().unwrap_err();
    assert!(path.ends_with(damaged) && error.to_string().starts_with("not a vmexit recording"));
    assert!(all[1].is_ok());
}

#[test]
fn archive_gap_across_clock_change_is_exact() {
    // A gap of ten seconds in which the clock is set forward by an hour.
    let mut later = at(20);
    later.start = later.start.map(|start| start + Duration::from_secs(3_600));
    let sum = summed([at(0), later.clone()]);
    assert_eq!((sum.interval.span_ns, sum.interval.unwatched_ns), (20 * SECOND, 10 * SECOND));
    let unwatched: Vec<u64> = sum.steps.iter().map(|step| step.unwatched_ns / SECOND).collect();
    assert_eq!(unwatched, [0, 10, 0]);
    let text = String::from_utf8(
        vmexit_view::render(
            report_of(&sum),
            &TableOptions::default(),
            vmexit_view::ReportFormat::Text,
        )
        .unwrap()
        .to_vec(),
    )
    .unwrap();
    assert!(text.contains("(watched 20.00 of 30.00 s, rates are estimates)"), "{text}");
    // After a reboot the monotonic clock starts again, so the length of the gap is taken from the time of day.
    later.began = Some(Began { boot: "two".into(), ns: 0 });
    let sum = summed([at(0), later]);
    assert_eq!(sum.interval.unwatched_ns, 3_610 * SECOND);
}

#[test]
fn archive_period_across_clock_change_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let mut recorder = Recorder::open(directory.path(), DAY).unwrap();
    // Times of day, ten seconds apart: the clock is set forward by an hour, then back by two.
    let clock = [7_200, 7_210, 10_820, 10_830, 3_640, 3_650];
    for (second, time) in (0..).step_by(10).zip(clock) {
        let mut interval = at(second);
        interval.start = Some(epoch() + Duration::from_secs(time));
        recorder.write(&interval).unwrap();
    }
    drop(recorder);
    for period in clock.chunks(2) {
        assert_eq!(starts(directory.path(), from_to(period[0], period[1] + 10)), period);
    }
    assert_eq!(starts(directory.path(), Period::default()), clock);
}

#[test]
fn archive_reused_pid_is_separate_vms() {
    let other = |seconds, name: &str| {
        let mut recording = at(seconds);
        recording.vms = vec![vm::Vm { name: name.into(), ..recording.vms[0].clone() }];
        recording
    };
    let sum = summed([at(0), other(10, "db2"), at(20), other(30, "db2"), other(40, "db3")]);
    let report = report_of(&sum);
    let mut vms: Vec<(&str, u32, u64)> =
        report.vms.iter().map(|vm| (vm.name.as_str(), vm.pid, vm.total.samples)).collect();
    vms.sort_unstable();
    let one = report_of(&at(0)).vms[0].total.samples;
    let alias = (1 << 22) + 1;
    assert_eq!(vms, [("db2", alias, 2 * one), ("db3", alias + 1, one), ("win10", PID, 2 * one)]);
    assert!(report.vms.iter().all(|vm| !vm.series.is_empty()));

    // One of the summands has both VMs already.
    let sum = summed([summed([at(0), other(10, "db2")]), other(20, "db3")]);
    let mut vms: Vec<(&str, u32)> = sum.vms.iter().map(|vm| (vm.name.as_str(), vm.pid)).collect();
    vms.sort_unstable();
    assert_eq!(vms, [("db2", alias), ("db3", alias + 1), ("win10", PID)]);
}

#[test]
fn archive_sum_of_a_day_has_bounded_steps() {
    let day = (0..8_640).map(|n| {
        let mut interval = at(10 * n);
        interval.interval.vcpus.truncate(1);
        interval.interval.vcpus[0].details.clear();
        interval
    });
    let sum = summed(day);
    assert!((120..=240).contains(&sum.steps.len()), "{}", sum.steps.len());
    let spans: Vec<u64> = sum.steps.iter().map(|step| step.span_ns / SECOND).collect();
    let (last, others) = spans.split_last().unwrap();
    assert!(others.iter().all(|span| span == &others[0]) && *last <= others[0], "{spans:?}");
    assert_eq!(spans.iter().sum::<u64>(), 86_400);
}

#[test]
fn archive_sum_of_differing_timing_weighs_times() {
    let mut some = at(10);
    some.timing = Timing::OneIn(10);
    for vcpu in &mut some.interval.vcpus {
        for row in vcpu.reasons.iter_mut().chain(&mut vcpu.details) {
            (row.timed, row.total_ns) = (row.timed.div_ceil(10), row.total_ns.div_ceil(10));
            row.durations = None;
        }
    }
    let sum = summed([at(0), some]);
    assert_eq!(sum.timing, Timing::Varies);
    let (one, two) = (report_of(&at(0)), report_of(&sum));
    let ratio = two.vms[0].total.handled_ns as f64 / one.vms[0].total.handled_ns as f64;
    assert!((1.99..2.01).contains(&ratio), "{ratio}");
}

/// A directory that only this user may write to.
fn private_directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
    directory
}

#[test]
fn archive_directory_others_may_write_to_is_refused() {
    let directory = private_directory();
    for (mode, is_refused) in [(0o777, true), (0o1777, true), (0o755, false), (0o700, false)] {
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(mode)).unwrap();
        let opened = Recorder::open(directory.path(), DAY);
        assert_eq!(opened.is_err(), is_refused, "{mode:o}");
        if let Err(error) = opened {
            assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
            assert!(error.to_string().starts_with("every user may write"), "{error}");
        }
    }
}

#[test]
fn archive_links_are_not_followed() {
    let directory = private_directory();
    let (real, link) = (directory.path().join("real"), directory.path().join("link"));
    fs::create_dir(&real).unwrap();
    symlink(&real, &link).unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o1777)).unwrap();
    for path in [link.clone(), link.join(""), link.join(".")] {
        let error = Recorder::open(&path, DAY).unwrap_err();
        assert!(error.to_string().contains("others could change"), "{error}");
    }
    // As systemd makes it.
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    Recorder::open(&link, DAY).unwrap();
    fs::remove_file(real.join(".lock")).unwrap();
    let target = directory.path().join("target");
    symlink(&target, real.join(".lock")).unwrap();
    let error = Recorder::open(&real, DAY).unwrap_err();
    assert!(error.to_string().contains("links are not followed"), "{error}");
    assert!(!target.exists());
}

#[test]
fn archive_fifo_is_no_recording() {
    let directory = private_directory();
    let name = "000001-20260102T030405Z.vmexit";
    let made = std::process::Command::new("mkfifo").arg(directory.path().join(name)).status();
    assert!(made.unwrap().success());
    symlink("/dev/zero", directory.path().join("000002-20260102T030405Z.vmexit")).unwrap();
    assert!(starts(directory.path(), Period::default()).is_empty());
    let mut recorder = Recorder::open(directory.path(), DAY).unwrap();
    recorder.write(&at(0)).unwrap();
    assert_eq!(starts(directory.path(), Period::default()), [0]);
}

#[test]
fn archive_number_without_successor_is_refused() {
    let directory = private_directory();
    let last = format!("{}-20260102T030405Z.vmexit", u64::MAX);
    fs::write(directory.path().join(&last), "").unwrap();
    let error = Recorder::open(directory.path(), DAY).unwrap_err();
    assert!(error.to_string().contains("move that file away"), "{error}");
}

#[test]
fn archive_interval_beyond_size_is_left_out_and_others_follow() {
    let directory = private_directory();
    let one = vmexit_core::store::file::write(&at(0)).unwrap().len() as u64;
    let mut recorder = Recorder::open(directory.path(), Limits { bytes: one * 2, ..DAY }).unwrap();
    let mut large = at(10);
    large.vms[0].name =
        (0..20_000u32).map(|n| char::from(b'a' + (n * n % 251 % 26) as u8)).collect();
    large.interval.vcpus = (0..100).flat_map(|_| large.interval.vcpus.clone()).collect();
    assert_eq!(recorder.write(&large).unwrap_err().kind(), std::io::ErrorKind::FileTooLarge);
    recorder.write(&at(20)).unwrap();
    assert_eq!(starts(directory.path(), Period::default()), [20]);
}

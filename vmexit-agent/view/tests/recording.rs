//! Recordings as files: a recording that was written reads back equal, and any other file is an error with a message.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may panic, and so may its helpers"
)]

mod made_up;

use std::{
    collections::BTreeMap,
    fs,
    io::{BufReader, Read as _, Write as _},
    path::Path,
    sync::LazyLock,
};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use made_up::{rendered, report_of, sample_files};
use proptest::prelude::*;
use serde_json::{Value, json};
use vmexit_core::{
    choice::Choice as _,
    device::{Map, mtree::MemoryTree},
    diff::Diff,
    event::Event,
    measurement::Measurement,
    report::ExitReporting,
    store::file::{self, FileError},
    vm::{Address, Monitor},
};
use vmexit_view::{By, Figure, Format, ReportFormat, TableOptions};

const FORMATS: [ReportFormat; 3] = [ReportFormat::Text, ReportFormat::Json, ReportFormat::Csv];

fn all_options() -> Vec<TableOptions> {
    let mut all = Vec::new();
    for by in [By::Vm, By::Vcpu] {
        for (sort, ..) in Figure::CHOICES {
            for rows in [None, Some(2)] {
                all.push(TableOptions { by, sort: *sort, rows });
            }
        }
    }
    all
}

fn text(file: &[u8]) -> String {
    let mut text = String::new();
    GzDecoder::new(file).read_to_string(&mut text).unwrap();
    text
}

fn compressed(text: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(text).unwrap();
    gzip.finish().unwrap()
}

/// Result of reading a recording after a change to its JSON.
fn changed(change: impl FnOnce(&mut Value)) -> Result<Measurement, FileError> {
    let mut value: Value =
        serde_json::from_str(&text(&file::write(&made_up::windows()).unwrap())).unwrap();
    change(&mut value);
    file::read(compressed(value.to_string().as_bytes()).as_slice())
}

/// A recording with QEMU's memory tree, cut to the devices that were accessed.
fn with_devices() -> Measurement {
    let tree = include_str!("../../tests/fixtures/mtree/7.2-q35.txt");
    let known: BTreeMap<u32, Map> =
        [(made_up::PID, Map::Asked(MemoryTree::parse(tree).unwrap()))].into();
    let mut recording = made_up::windows();
    recording.update_maps(&known);
    recording
}

#[test]
fn recording_round_trip_renders_the_same() {
    for recording in [made_up::windows(), made_up::silent(), with_devices()] {
        let file = file::write(&recording).unwrap();
        let back = file::read(file.as_slice()).unwrap();
        assert_eq!(back, recording);
        for options in all_options() {
            for format in FORMATS {
                assert_eq!(rendered(&back, options, format), rendered(&recording, options, format));
            }
        }
    }
}

#[test]
fn recording_keeps_only_accessed_devices() {
    let recording = with_devices();
    let tree = include_str!("../../tests/fixtures/mtree/7.2-q35.txt");
    let all = Map::Asked(MemoryTree::parse(tree).unwrap());
    let whole = Measurement { maps: [(made_up::PID, all)].into(), ..recording.clone() };
    let format = ReportFormat::Json;
    assert_eq!(
        rendered(&recording, TableOptions::default(), format),
        rendered(&whole, TableOptions::default(), format)
    );
    let Map::Asked(kept) = &recording.maps[&made_up::PID] else { panic!("a guess") };
    assert_eq!((kept.io.regions().len(), kept.memory.regions().len()), (2, 2), "{kept:?}");
}

#[test]
fn recording_file_starts_with_format_and_version() {
    let text = text(&file::write(&made_up::windows()).unwrap());
    assert!(
        text.starts_with(r#"{"format":"vmexit recording","version":2,"vmexit":""#),
        "{text:.100}"
    );
    assert!(text.contains(r#""key":"port 0x608 in 4""#), "{text}");
}

#[test]
fn recording_file_has_no_command_line() {
    let mut recording = made_up::windows();
    recording.vms[0].monitors = vec![Monitor::Qmp(Address::Path("/run/hush".into()))];
    let file = file::write(&recording).unwrap();
    assert!(!text(&file).contains("hush"));
    assert!(recording.vms[0].without_secrets().monitors.is_empty());
}

#[test]
fn recording_of_version_1_is_that_of_version_2() {
    let read = |path: &Path| file::read(fs::read(path).unwrap().as_slice()).unwrap();
    let mut pairs = 0;
    for older in sample_files() {
        let name = older.file_name().unwrap().to_str().unwrap();
        let Some(name) = name.strip_prefix("1-") else { continue };
        let newer = older.with_file_name(format!("2-{name}"));
        if newer.exists() {
            assert_eq!(read(&older), read(&newer), "{name}");
            pairs += 1;
        }
    }
    assert!(pairs >= 2, "{pairs}");
}

#[test]
fn recording_samples_of_all_versions_are_read() {
    for path in sample_files() {
        let file = fs::read(&path).unwrap();
        let recording =
            file::read(file.as_slice()).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        let report = report_of(&recording);
        insta::assert_snapshot!(
            format!("sample_{}", path.file_stem().unwrap().to_str().unwrap()),
            rendered(
                &recording,
                TableOptions { rows: Some(5), ..TableOptions::default() },
                ReportFormat::Text
            )
        );
        assert_eq!(report.accounting.unaccounted, 0, "{path:?}");
        assert_ne!(report.source, ExitReporting::Nothing, "{path:?}");
        // The current version writes an equal recording.
        let again = file::read(file::write(&recording).unwrap().as_slice()).unwrap();
        assert_eq!(again, recording);
    }
}

#[test]
fn recording_filters_drop_other_vms_and_events() {
    let mut recording = made_up::windows();
    recording.retain_events(&[Event::Vmexit, Event::Msr].into());
    let report = report_of(&recording);
    assert_eq!(report.vms[0].tables.details.keys().collect::<Vec<_>>(), [&Event::Msr]);
    assert_eq!((report.vms[0].total.userspace_ns, report.vms[0].total.halts), (None, None));
    recording.retain_vms(&[1].into());
    assert!(report_of(&recording).vms.is_empty());
}

#[test]
fn recording_of_other_format_is_refused() {
    let report = rendered(&made_up::windows(), TableOptions::default(), ReportFormat::Json);
    for foreign in [
        b"".as_slice(),
        b"\x7fELF",
        report.as_bytes(),
        &compressed(b""),
        &compressed(b"[1]"),
        &compressed(report.as_bytes()),
        &compressed(br#"{"format":"something else","version":1}"#),
    ] {
        let error = file::read(foreign).unwrap_err();
        assert!(matches!(error, FileError::Foreign), "{error}");
    }
    let error = changed(|value| {
        value["version"] = 3.into();
        value["interval"] = json!("of another shape");
    });
    assert_eq!(
        error.unwrap_err().to_string(),
        "recording format version 3, but this vmexit reads up to version 2: use the vmexit that wrote it, \
         or a newer one"
    );
}

#[test]
fn recording_cut_short_is_truncated() {
    let file = file::write(&with_devices()).unwrap();
    for length in [11, 100, file.len() / 2, file.len() - 9, file.len() - 8, file.len() - 1] {
        let error = file::read(&file[..length]).unwrap_err();
        assert!(matches!(error, FileError::Truncated), "{length}: {error}");
    }
}

#[test]
fn recording_with_invalid_values_is_damaged() {
    type Change = fn(&mut Value);
    let changes: [(&str, Change); 13] = [
        ("key", |value| {
            value["interval"]["vcpus"][0]["details"][0]["key"] = "port 0x10608 in 4".into();
        }),
        ("negative", |value| value["interval"]["vcpus"][0]["observed"] = (-1).into()),
        ("fraction", |value| value["interval"]["span_ns"] = 0.5.into()),
        ("large", |value| value["interval"]["vcpus"][0]["observed"] = u64::MAX.into()),
        ("open", |value| value["interval"]["vcpus"][0]["opened"] = 999_999.into()),
        ("times", |value| {
            for row in 0..2 {
                value["interval"]["vcpus"][0]["reasons"][row]["total_ns"] = u64::MAX.into();
            }
        }),
        ("misplaced", |value| {
            let row = value["interval"]["vcpus"][0]["reasons"][0].clone();
            value["interval"]["vcpus"][0]["details"][0] = row;
        }),
        ("buckets", |value| {
            value["interval"]["vcpus"][0]["reasons"][0]["durations"] = json!([[65, 1]]);
        }),
        ("start", |value| value["start"] = "yesterday\u{1b}[2J".into()),
        ("event", |value| value["events"] = json!(["everything"])),
        ("timing", |value| value["timing"] = "1/0".into()),
        ("missing", |value| value["interval"]["vcpus"][0]["thread"] = Value::Null),
        ("region", |value| {
            let region = json!({"name": "x", "owner": null, "start": 5, "end": 4, "offset": 0,
                "kind": "io", "nonvolatile": false});
            value["maps"] = json!({"1": {"asked": {"io": [region], "memory": []}}});
        }),
    ];
    for (name, change) in changes {
        let error = changed(change).expect_err(name);
        let message = error.to_string();
        assert!(matches!(error, FileError::Damaged(_)), "{name}: {message}");
        assert!(!message.contains(char::is_control), "{message:?}");
    }
    let many = changed(|value| {
        let row = value["interval"]["vcpus"][0]["details"][0].clone();
        value["interval"]["vcpus"][0]["details"] = vec![row; 2_000].into();
    });
    assert!(matches!(many, Err(FileError::Damaged(_))));
    let names = changed(|value| value["reasons"]["vmx"] = vec![json!([1, "x"]); 5_000].into());
    assert!(matches!(names, Err(FileError::Damaged(_))));
    assert!(changed(|value| value["something_new"] = json!([1])).is_ok());
}

#[test]
fn recording_expanded_size_is_bounded() {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    let spaces = vec![b' '; 1 << 20];
    (0..257).for_each(|_| gzip.write_all(&spaces).unwrap());
    let bomb = gzip.finish().unwrap();
    assert!(bomb.len() < 2 << 20);
    assert!(matches!(file::read(bomb.as_slice()), Err(FileError::Expands)));
    // The same in many small recordings.
    let mut one: Value =
        serde_json::from_str(&text(&file::write(&made_up::windows()).unwrap())).unwrap();
    one["new"] = " ".repeat(1 << 20).into();
    let many = compressed(one.to_string().as_bytes()).repeat(20);
    assert!(matches!(file::read(many.as_slice()), Err(FileError::Expands)));
    // Not compressed at all.
    let mut gzip = GzEncoder::new(Vec::new(), Compression::none());
    (0..65).for_each(|_| gzip.write_all(&spaces).unwrap());
    let large = gzip.finish().unwrap();
    assert!(matches!(file::read(large.as_slice()), Err(FileError::TooLarge)));
    // An endless text in the header of a gzip file: its name.
    let endless = [0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 0].chain(std::io::repeat(b'a'));
    assert!(file::read(BufReader::new(endless)).is_err());
}

#[test]
fn recording_with_deep_nesting_is_refused() {
    for open in ["[", r#"{"a":"#] {
        let nested = format!(
            r#"{{"format":"vmexit recording","version":1,"interval":{}"#,
            open.repeat(1 << 20)
        );
        assert!(file::read(compressed(nested.as_bytes()).as_slice()).is_err());
        let ignored = format!(r#"{{"new":{},"format":"vmexit recording""#, open.repeat(1 << 20));
        assert!(file::read(compressed(ignored.as_bytes()).as_slice()).is_err());
    }
}

/// Contents of recordings to mutate.
static REAL: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let mut files: Vec<Vec<u8>> =
        sample_files().into_iter().map(|path| fs::read(path).unwrap()).collect();
    files.push(file::write(&with_devices()).unwrap());
    files
});

/// Renders and compares a file, if it can be read as a recording.
fn render_if_read(file: &[u8]) {
    if let Ok(recording) = file::read(file) {
        for format in FORMATS {
            rendered(&recording, TableOptions { by: By::Vcpu, ..TableOptions::default() }, format);
        }
        let diff = Diff::between(&recording, &made_up::windows(), None);
        for format in [Format::Text, Format::Json] {
            vmexit_view::diff(&diff, format).unwrap();
        }
    }
}

/// Values of JSON: numbers at limits, strings that are keys, and arbitrary text.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "18446744073709551615",
            "9223372036854775807",
            "4611686018427387904",
            "2305843009213693952",
            "0",
            "-1",
            "1e999",
            "NaN",
            "0.1",
            "null",
            "true",
            "\"\"",
            "[]",
            "{}",
            "[[64,1]]",
            "\"port 0x1 in 1\"",
            "\"other reason\"",
            "\"reason 0x1e\"",
            "\"other mmio\"",
        ])
        .prop_map(str::to_owned),
        any::<u64>().prop_map(|number| number.to_string()),
        any::<String>(),
    ]
}

/// Byte ranges of the values in JSON.
fn values(text: &str) -> Vec<(usize, usize)> {
    let starts = text.match_indices(':').map(|(at, _)| at + 1);
    let end = |from: usize| text[from..].find([',', '}', ']']).map_or(text.len(), |at| from + at);
    starts.map(|from| (from, end(from))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn recording_of_any_bytes_does_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
        prop_assert!(file::read(bytes.as_slice()).is_err());
        prop_assert!(file::read([b"\x1f\x8b\x08\0".as_slice(), &bytes].concat().as_slice()).is_err());
        prop_assert!(file::read(compressed(&bytes).as_slice()).is_err());
    }

    #[test]
    fn recording_with_mutated_bytes_does_not_panic(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut file: Vec<u8> = which.get(REAL.as_slice()).clone();
        for (at, byte) in changes {
            let at = at.index(file.len());
            file[at] = byte;
        }
        if let Some(cut) = cut {
            file.truncate(cut.index(file.len()));
        }
        render_if_read(&file);
    }

    #[test]
    fn recording_with_mutated_values_does_not_panic(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), piece()), 1..6),
    ) {
        let file: &Vec<u8> = which.get(REAL.as_slice());
        let mut text = text(file);
        for (at, piece) in changes {
            let values = values(&text);
            let (from, to) = values[at.index(values.len())];
            text.replace_range(from..to, &piece);
        }
        render_if_read(&compressed(text.as_bytes()));
    }
}

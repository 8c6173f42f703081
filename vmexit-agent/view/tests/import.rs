//! Import of `perf script` output: a real one, made-up ones, and arbitrary text.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::io::Read as _;

use flate2::read::GzDecoder;
use proptest::prelude::*;
use vmexit_core::{
    event::Event,
    finding,
    import::{ImportError, Imported, perf},
    report::{ExitReporting, Report, Scope},
    store::file,
    vendor::Vendor,
    vm::Vmm,
};
use vmexit_view::{ReportFormat, TableOptions};

fn imported(text: &str) -> Imported {
    perf(text.as_bytes()).unwrap()
}

fn report(imported: &Imported) -> Report {
    finding::report(&imported.recording, Scope::default())
}

/// Number of exits for a reason, and their mean time, nanoseconds.
fn exits(report: &Report, reason: &str) -> (u64, Option<u64>) {
    let exit = report.vms[0].tables.exits.iter().find(|exit| exit.reason == reason);
    exit.map_or((0, None), |exit| (exit.stats.samples, exit.stats.avg_ns))
}

/// Output of perf on a host with Linux 6.1 and SVM.
fn real() -> String {
    let file = include_bytes!("../../tests/fixtures/perf/6.1-amd.txt.gz");
    let mut text = String::new();
    GzDecoder::new(file.as_slice()).read_to_string(&mut text).unwrap();
    text
}

const INTEL: &str = "\
# hostname : node7
# os release : 5.4.0-200-generic
# nrcpus online : 16
   CPU 0/KVM  2471/2478  [003] 100.000000: kvm:kvm_entry: vcpu 0
   CPU 0/KVM  2471/2478  [003] 100.000010: kvm:kvm_exit: reason IO_INSTRUCTION rip 0xf info 6080003 0
   CPU 0/KVM  2471/2478  [003] 100.000020: kvm:kvm_pio: pio_read at 0x608 size 4 count 1 val 0x1
   CPU 1/KVM  2471/2479  [004] 100.000021: kvm:kvm_exit: reason EPT_MISCONFIG rip 0xf info 0 0
   CPU 0/KVM  2471/2478  [003] 100.000022: kvm:kvm_entry: vcpu 0
   CPU 1/KVM  2471/2479  [004] 100.000025: kvm:kvm_mmio: mmio unsatisfied-read len 4 gpa 0xfed000f0 val 0x0
   CPU 1/KVM  2471/2479  [004] 100.000030: kvm:kvm_mmio: mmio read len 4 gpa 0xfed000f0 val 0x1
   CPU 1/KVM  2471/2479  [004] 100.000041: kvm:kvm_entry: vcpu 1
   CPU 0/KVM  2471/2478  [003] 100.000050: kvm:kvm_exit: reason MSR_WRITE rip 0xf info 0 0
   CPU 0/KVM  2471/2478  [003] 100.000051: kvm:kvm_msr: msr_write 6e0 = 0x1
   CPU 0/KVM  2471/2478  [003] 100.000060: kvm:kvm_exit: reason HLT rip 0xf info 0 0
   CPU 0/KVM  2471/2478  [003] 100.000070: kvm:kvm_apic: apic_write APIC_EOI = 0x0
   CPU 0/KVM  2471/2478  [003] 101.000060: kvm:kvm_entry: vcpu 0
   CPU 1/KVM  2471/2479  [004] 101.000070: kvm:kvm_exit: reason IO_INSTRUCTION rip 0xf info 0 0
   CPU 1/KVM  2471/2479  [004] 101.000071: kvm:kvm_pio: pio_write at 0x3f8 size 1 count 16 val 0x1 (...)
     fc_vcpu 0   90/91    [001] 101.000072: kvm:kvm_pio: pio_read at 0x71 size 1 count 1 val 0x1
   CPU 0/KVM  2471/2478  [003] 101.000072: PERF_RECORD_LOST lost 12
this is no event
";

#[test]
fn import_counts_exit_at_its_entry() {
    let imported = imported(INTEL);
    let report = report(&imported);
    assert_eq!((report.source, report.host.vendor), (ExitReporting::Exits, Some(Vendor::Vmx)));
    assert_eq!(
        (report.host.name.as_str(), report.host.kernel.as_str()),
        ("node7", "5.4.0-200-generic")
    );
    assert_eq!((report.host.cpus, report.span.start.as_deref()), (16, None));
    assert!((report.span.seconds - 1.000_072).abs() < 1e-9);
    assert_eq!(exits(&report, "IO_INSTRUCTION"), (1, Some(12_000)));
    assert_eq!(exits(&report, "EPT_MISCONFIG"), (1, Some(20_000)));
    assert_eq!(exits(&report, "HLT"), (1, Some(1_000_000_000)));
    assert_eq!(exits(&report, "MSR_WRITE"), (0, None), "an exit without an entry");
    let vm = &report.vms[0];
    assert_eq!((vm.name.as_str(), vm.pid), ("pid 2471", 2471));
    assert_eq!(
        vm.vcpus.iter().map(|vcpu| (vcpu.id, vcpu.tid)).collect::<Vec<_>>(),
        [(Some(0), 2478), (Some(1), 2479)]
    );
    let timer = &vm.tables.details[&Event::Ioport][0];
    assert_eq!(
        (timer.subject.number, timer.stats.avg_ns, timer.stats.samples),
        (Some(0x608), Some(12_000), 1)
    );
    assert_eq!(timer.subject.device.as_ref().unwrap().to_string(), "acpi-tmr?");
    let hpet = &vm.tables.details[&Event::Mmio][0];
    assert_eq!((hpet.subject.number, hpet.stats.avg_ns), (Some(0xfed0_00f0), Some(20_000)));
    assert!(!vm.tables.details.contains_key(&Event::Msr));

    let accounting = &report.accounting;
    assert_eq!((accounting.observed, accounting.recorded, accounting.in_flight), (5, 3, 1));
    assert_eq!((accounting.lost.no_entry, accounting.unaccounted, accounting.unmatched), (1, 0, 1));
    assert_eq!(accounting.missed["perf"], 12);
    assert_eq!(
        (imported.unparsed_lines, imported.ignored_events, imported.unknown_reasons),
        (1, 1, 0)
    );
    assert_eq!(imported.example.as_deref(), Some("this is no event"));
    let vmms: Vec<_> = imported.recording.vms.iter().map(|vm| (vm.pid, vm.vmm)).collect();
    assert_eq!(vmms, [(90, Vmm::Firecracker), (2471, Vmm::Qemu)]);
}

#[test]
fn import_without_pids_is_one_vm() {
    let imported = imported(&INTEL.replace("2471/", "").replace("90/", ""));
    assert!(!imported.has_pids);
    let report = report(&imported);
    assert_eq!((report.vms.len(), report.vms[0].pid, report.vms[0].vcpus.len()), (1, 0, 3));
}

#[test]
fn import_of_unnamed_exit_counts_as_other() {
    let text = "q 1/2 [0] 1.0: kvm:kvm_exit: vcpu 0 reason news rip 0xf\n\
                q 1/2 [0] 2.0: kvm:kvm_entry: vcpu 0, rip 0xf\n";
    let imported = imported(text);
    assert_eq!(imported.unknown_reasons, 1);
    assert_eq!(exits(&report(&imported), "other"), (1, Some(1_000_000_000)));
}

#[test]
fn import_round_trips_through_file() {
    for text in [INTEL, &real()] {
        let imported = imported(text);
        let back = file::read(file::write(&imported.recording).unwrap().as_slice()).unwrap();
        assert_eq!(back, imported.recording);
    }
}

#[test]
fn import_of_real_trace_matches_its_events() {
    let text = real();
    let imported = imported(&text);
    assert_eq!(
        (imported.unparsed_lines, imported.unknown_reasons),
        (0, 0),
        "{:?}",
        imported.example
    );
    let mut report = report(&imported);
    // The snapshot outlives versions.
    report.version = "0.1.0".into();
    let events = |event: &str| text.lines().filter(|line| line.contains(event)).count() as u64;
    assert_eq!(report.accounting.observed, events("kvm:kvm_exit:"));
    let ports = report.vms[0].tables.details[&Event::Ioport].iter();
    assert_eq!(ports.map(|row| row.accesses).sum::<u64>(), events("kvm:kvm_pio:"));
    assert_eq!(report.accounting.unaccounted, 0);
    let text =
        vmexit_view::render(report.clone(), &TableOptions::default(), ReportFormat::Text).unwrap();
    insta::assert_snapshot!(String::from_utf8(text.to_vec()).unwrap());
}

#[test]
fn import_of_other_file_is_an_error() {
    assert!(matches!(perf(b"PERFILE2\x68\0\0\0".as_slice()), Err(ImportError::Binary)));
    for text in
        ["", "\n\n", "# hostname : x\n", "some text\nin lines", "q 1 [0] 1.0: kvm:kvm_apic: x"]
    {
        assert!(matches!(perf(text.as_bytes()), Err(ImportError::Nothing(_))), "{text}");
    }
}

#[test]
fn import_of_endless_line_keeps_no_text() {
    let text = INTEL.as_bytes().chain(std::io::repeat(b'x').take(64 << 20)).chain(b"\n".as_slice());
    let imported = perf(std::io::BufReader::new(text)).unwrap();
    assert_eq!(imported.unparsed_lines, 2);
    assert!(imported.example.unwrap().len() < 100);
}

#[test]
fn import_of_many_ports_is_bounded() {
    let mut text = String::new();
    for port in 0..5_000 {
        text += &format!(
            "q 1/2 [0] {port}.0: kvm:kvm_exit: vcpu 0 reason io rip 0x0\n\
             q 1/2 [0] {port}.1: kvm:kvm_pio: pio_read at {port:#x} size 1 count 1 val 0x0\n\
             q 1/2 [0] {port}.2: kvm:kvm_entry: vcpu 0, rip 0x0\n"
        );
    }
    let imported = imported(&text);
    let report = report(&imported);
    let rows = &report.vms[0].tables.details[&Event::Ioport];
    assert!(rows.len() < 600, "{}", rows.len());
    assert_eq!(rows.iter().map(|row| row.stats.samples).sum::<u64>(), 5_000);
    assert!(rows.iter().any(|row| row.subject.number.is_none()));
    assert!(file::read(file::write(&imported.recording).unwrap().as_slice()).is_ok());
}

/// Nearly valid lines: valid events with arbitrary numbers.
fn nearly_valid() -> impl Strategy<Value = String> {
    let number = || {
        prop_oneof![
            Just("18446744073709551615".to_owned()),
            Just("4294967295".to_owned()),
            Just("9999999999".to_owned()),
            any::<u16>().prop_map(|number| number.to_string()),
            any::<u32>().prop_map(|number| format!("{number:#x}")),
        ]
    };
    let event = prop::sample::select(vec![
        "kvm_exit: vcpu N reason io rip N info1 N",
        "kvm_exit: reason UNKNOWN (N) rip N",
        "kvm_exit: vcpu N reason N rip N",
        "kvm_entry: vcpu N, rip N",
        "kvm_pio: pio_write at N size N count N val N (...)",
        "kvm_mmio: mmio read len N gpa N val N",
        "kvm_msr: msr_write N = N (#GP)",
        "kvm_N: N",
    ]);
    (event, prop::collection::vec(number(), 9), any::<bool>()).prop_map(
        |(event, numbers, by_pid)| {
            let head = if by_pid { "q N/N [N] N.N: kvm:" } else { "CPU N/KVM N [N] N.N: kvm:" };
            let mut numbers = numbers.into_iter().cycle();
            let line = format!("{head}{event}");
            line.split('N').fold(String::new(), |line, piece| {
                if line.is_empty() {
                    piece.to_owned()
                } else {
                    line + &numbers.next().unwrap() + piece
                }
            })
        },
    )
}

/// Writes, reads and renders a text, if it can be imported.
fn render_if_imported(text: &[u8]) {
    if let Ok(imported) = perf(text) {
        let file = file::write(&imported.recording).unwrap();
        assert_eq!(file::read(file.as_slice()).unwrap(), imported.recording);
        let report = report(&imported);
        assert_eq!(report.accounting.unaccounted, 0);
        for format in [ReportFormat::Text, ReportFormat::Json, ReportFormat::Csv] {
            vmexit_view::render(report.clone(), &TableOptions::default(), format).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn import_of_any_bytes_does_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
        render_if_imported(&bytes);
    }

    #[test]
    fn import_of_nearly_valid_lines_does_not_panic(lines in prop::collection::vec(nearly_valid(), 1..40)) {
        render_if_imported(lines.join("\n").as_bytes());
    }

    #[test]
    fn import_of_mutated_text_does_not_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..30),
    ) {
        let mut text = INTEL.as_bytes().to_vec();
        for (at, byte) in changes {
            let at = at.index(text.len());
            text[at] = byte;
        }
        render_if_imported(&text);
    }
}

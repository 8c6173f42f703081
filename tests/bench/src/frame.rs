//! Mode `frame`: cost of one frame of the live view on a large host, from two snapshots to the bytes for the terminal.
//! The snapshots are made up.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    time::SystemTime,
};

use anyhow::{Context as _, Result};
use ratatui::{Terminal, TerminalOptions, Viewport, backend::CrosstermBackend, layout::Rect};
use serde::Serialize;
use vmexit_common::{key::Key, stats::StatsRow, vcpu::ISA_SVM};
use vmexit_core::{
    counters::{Interval, RowReading, Snapshot, Thread, VcpuReading},
    event::Event,
    finding,
    host::Host,
    measurement::{Measurement, VERSION},
    reason::Names,
    report::{Scope, Selection},
    timing::Timing,
    vendor::Vendor,
    vm::Vm,
};
use vmexit_view::top::{Action, FrameData, Settings, State, Theme, draw};

use crate::{made_up, poll::cpu_ns};

const VMS: u32 = 500;
const VCPUS: u32 = 16;

/// Ports that each vCPU accesses. Its rows are these and five made-up exit reasons.
const PORTS: u64 = 20;

/// Columns and lines of the terminal.
const SIZE: (u16, u16) = (200, 50);

/// Number of measured frames.
const FRAMES: u64 = 50;

/// Cost of a frame.
#[derive(Debug, Serialize)]
pub(crate) struct Framed {
    vms: u32,
    vcpus: u32,
    rows: usize,
    /// CPU time by screen: the list of VMs, and one VM.
    screens: BTreeMap<&'static str, FrameStages>,
}

/// Mean CPU time of the stages of a frame, nanoseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct FrameStages {
    subtract: u64,
    build: u64,
    draw: u64,
}

/// Measures frames of both screens.
///
/// # Errors
///
/// When a frame can't be drawn.
pub(crate) fn frame() -> Result<Framed> {
    let guests: BTreeMap<u32, Vm> = (1..=VMS)
        .map(|pid| (pid, Vm { pid, name: format!("vm-{pid:03}"), ..Vm::default() }))
        .collect();
    let readings = [snapshot(1), snapshot(2)];
    let rows = readings[0].vcpus.iter().map(|vcpu| vcpu.reasons.len() + vcpu.details.len()).sum();
    let mut screens = BTreeMap::new();
    for (name, opens) in [("all VMs", false), ("one VM", true)] {
        screens.insert(name, frames(&readings, &guests, opens)?);
    }
    Ok(Framed { vms: VMS, vcpus: VMS * VCPUS, rows, screens })
}

fn frames(
    readings: &[Snapshot; 2],
    guests: &BTreeMap<u32, Vm>,
    opens: bool,
) -> Result<FrameStages> {
    let [before, after] = readings;
    let interval = Interval::between(before, after);
    let frame_data = |report| FrameData {
        time: SystemTime::UNIX_EPOCH,
        interval: report,
        cumulative: None,
        ended: BTreeSet::new(),
    };
    let scope = Scope { vms: Selection::None, ..Scope::default() };
    let first = measurement(interval, guests);
    let report = || frame_data(finding::report(&first, scope));
    let mut state = State::new(Settings::default(), report(), SIZE);
    state.update(report());
    if opens {
        state.apply(Action::Open);
    }
    let backend = CrosstermBackend::new(io::sink());
    let viewport = Viewport::Fixed(Rect::new(0, 0, SIZE.0, SIZE.1));
    let mut terminal = Terminal::with_options(backend, TerminalOptions { viewport })?;
    let (theme, mut sum) = (Theme::default(), FrameStages::default());
    for _ in 0..FRAMES {
        let start = cpu_ns();
        let interval = Interval::between(before, after);
        let subtracted = cpu_ns();
        // It is freed after the frame: the session keeps it until the next one.
        let measurement = measurement(interval, guests);
        let report = finding::report(&measurement, state.scope());
        let built = cpu_ns();
        state.update(frame_data(report));
        terminal.draw(|frame| draw(frame, &state, &theme))?;
        sum.subtract += subtracted - start;
        sum.build += built - subtracted;
        sum.draw += cpu_ns() - built;
    }
    let mean = |ns: u64| ns.checked_div(FRAMES).context("no frame");
    Ok(FrameStages {
        subtract: mean(sum.subtract)?,
        build: mean(sum.build)?,
        draw: mean(sum.draw)?,
    })
}

/// Measurement that a session makes of an interval.
fn measurement(interval: Interval, guests: &BTreeMap<u32, Vm>) -> Measurement {
    Measurement {
        version: VERSION.into(),
        host: Host {
            name: "made-up".into(),
            kernel: "6.1".into(),
            cpus: 128,
            vendor: Some(Vendor::Svm),
            kvm_module: Some("kvm_amd".into()),
        },
        start: Some(SystemTime::UNIX_EPOCH),
        began: None,
        interrupted: false,
        timing: Timing::All,
        sampling: None,
        events: Event::ALL.into(),
        reasons: Names::default(),
        vms: guests.values().map(Vm::without_secrets).collect(),
        maps: BTreeMap::new(),
        interval,
        steps: Vec::new(),
    }
}

/// A snapshot after so many seconds, with durations of the first VM.
fn snapshot(seconds: u64) -> Snapshot {
    let vcpu = |pid: u32, id: u32| VcpuReading {
        thread: Thread { pid, tid: pid * VCPUS + id, since_ns: 1 },
        vcpu_id: Some(id),
        isa: ISA_SVM,
        details: (0..PORTS)
            .map(|port| RowReading {
                place: port as u16,
                row: StatsRow {
                    key: Key::pio(0x600 + port, 0, 4).0,
                    unmatched: seconds * (port + 1) * u64::from(pid % 97 + id + 1),
                    ..StatsRow::default()
                },
                durations: (pid == 1).then(Box::default),
                ..RowReading::default()
            })
            .collect(),
        ..VcpuReading::default()
    };
    let vcpus = (1..=VMS).flat_map(|pid| (0..VCPUS).map(move |id| vcpu(pid, id))).collect();
    let mut snapshot = Snapshot { at_ns: seconds * 1_000_000_000, vcpus, ..Snapshot::default() };
    made_up::add_times(&mut snapshot);
    snapshot
}

//! The live view without a terminal. Its input is a recorded run and key presses; the screens are compared with
//! snapshots.

mod keys;
mod random;
mod recorded;
mod screens;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime},
};

use crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers};
use ratatui::{Terminal, backend::TestBackend};
use vmexit_core::{
    counters::{Interval, Snapshot},
    finding,
    host::Host,
    measurement::Measurement,
    reason::Names,
    report::{Report, Scope},
    timing::Timing,
    vendor::Vendor,
    vm,
};

use super::{Effect, FrameData, Settings, State, Theme, draw, state::TableId};

/// A live view with its input.
pub(super) struct Bench {
    pub(super) state: State,
    /// Snapshots since the baseline; the last interval is displayed.
    pub(super) snapshots: Vec<Snapshot>,
    /// VMs by process ID.
    pub(super) guests: BTreeMap<u32, vm::Vm>,
    /// Process IDs of VMs that have ended.
    pub(super) ended: BTreeSet<u32>,
    pub(super) vendor: Option<Vendor>,
}

impl Bench {
    /// A live view after these readings, on a terminal of `size` columns and lines.
    pub(super) fn of(guests: Vec<vm::Vm>, readings: Vec<Snapshot>, size: (u16, u16)) -> Self {
        let guests = guests.into_iter().map(|vm| (vm.pid, vm)).collect();
        let silent = readings.iter().all(|reading| reading.vcpus.iter().all(|vcpu| vcpu.isa == 0));
        let vendor = (!silent).then_some(Vendor::Svm);
        let snapshots = vec![Snapshot::default()];
        let empty = frame_data(&snapshots, &guests, vendor, Scope::default(), false);
        let state = State::new(Settings::default(), empty, size);
        let mut bench = Self { state, snapshots, guests, ended: BTreeSet::new(), vendor };
        readings.into_iter().for_each(|snapshot| bench.read(snapshot));
        bench
    }

    /// Adds a reading, and displays it unless the view is paused.
    pub(super) fn read(&mut self, snapshot: Snapshot) {
        self.snapshots.push(snapshot);
        if !self.state.is_paused() {
            self.state.update(self.frame_data());
        }
    }

    /// Reports of the last reading.
    fn frame_data(&self) -> FrameData {
        let (scope, cumulative) = (self.state.scope(), self.state.is_cumulative());
        let data = frame_data(&self.snapshots, &self.guests, self.vendor, scope, cumulative);
        FrameData { ended: self.ended.clone(), ..data }
    }

    /// Presses keys, given as characters: `\n` is Enter, `\t` Tab, `\x1b` Escape, `\x08` Backspace. Returns the effect of
    /// the last one.
    pub(super) fn press(&mut self, keys: &str) -> Effect {
        let mut last = Effect::None;
        for c in keys.chars() {
            let code = match c {
                '\n' => KeyCode::Enter,
                '\t' => KeyCode::Tab,
                '\x1b' => KeyCode::Esc,
                '\x08' => KeyCode::Backspace,
                c => KeyCode::Char(c),
            };
            last = self.handle(&Event::Key(KeyEvent::new(code, KeyModifiers::NONE)));
        }
        last
    }

    /// Handles an event of the terminal, and carries out its effect.
    pub(super) fn handle(&mut self, event: &Event) -> Effect {
        let effect = self.state.handle(event);
        match effect {
            Effect::Show | Effect::Refresh => self.state.refresh(self.frame_data()),
            Effect::Reset => {
                let last = self.snapshots.pop().unwrap_or_default();
                self.snapshots = vec![last.clone(), last];
                self.state.refresh(self.frame_data());
            }
            _ => {}
        }
        effect
    }

    /// Text of the screen.
    pub(super) fn screen(&self) -> String {
        self.drawn().to_string()
    }

    /// The screen with its styles.
    pub(super) fn drawn(&self) -> TestBackend {
        let area = self.state.area();
        let mut terminal = Terminal::new(TestBackend::new(area.width, area.height)).unwrap();
        terminal.draw(|frame| draw(frame, &self.state, &Theme::default())).unwrap();
        terminal.backend().clone()
    }

    /// Label of the selected row.
    pub(super) fn selected(&self) -> Option<String> {
        let rows = self.state.rows();
        rows.get(self.state.cursor().0).map(|row| row.label.clone())
    }

    /// The displayed table.
    pub(super) fn table(&self) -> TableId {
        self.state.table()
    }
}

fn frame_data(
    snapshots: &[Snapshot],
    guests: &BTreeMap<u32, vm::Vm>,
    vendor: Option<Vendor>,
    scope: Scope,
    cumulative: bool,
) -> FrameData {
    let (first, last) = (&snapshots[0], &snapshots[snapshots.len() - 1]);
    let previous = &snapshots[snapshots.len().saturating_sub(2)];
    let report = |from: &Snapshot| report(&Interval::between(from, last), guests, vendor, scope);
    FrameData {
        time: SystemTime::UNIX_EPOCH + Duration::from_nanos(1_767_323_045_000_000_000 + last.at_ns),
        interval: report(previous),
        cumulative: cumulative.then(|| report(first)),
        ended: BTreeSet::new(),
    }
}

fn report(
    interval: &Interval,
    guests: &BTreeMap<u32, vm::Vm>,
    vendor: Option<Vendor>,
    scope: Scope,
) -> Report {
    let host = Host {
        name: "lab".into(),
        kernel: "6.1.0".into(),
        cpus: 8,
        vendor,
        kvm_module: Some(if vendor.is_some() { "kvm_amd" } else { "kvm_other" }.into()),
    };
    let measurement = Measurement {
        version: "0.1.0".into(),
        host,
        start: Some(SystemTime::UNIX_EPOCH),
        began: None,
        interrupted: false,
        timing: Timing::All,
        sampling: None,
        events: vmexit_core::event::Event::ALL.into(),
        reasons: Names::default(),
        vms: guests.values().cloned().collect(),
        maps: BTreeMap::new(),
        interval: interval.clone(),
        steps: Vec::new(),
    };
    finding::report(&measurement, scope)
}

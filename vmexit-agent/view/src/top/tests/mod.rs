//! The live view without a terminal: a recorded run goes in, keys are pressed, and what is drawn is held
//! against what was drawn before.

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
    measurement::{Measurement, VERSION},
    reason::Names,
    report::{Report, Scope},
    timing::Timing,
    vendor::Vendor,
    vm,
};

use super::{Effect, FrameData, Settings, State, Theme, draw, state::TableId};

/// A live view and what it looks at: snapshots, the latest of which is shown.
pub(super) struct Bench {
    pub(super) state: State,
    pub(super) snapshots: Vec<Snapshot>,
    pub(super) guests: BTreeMap<u32, vm::Vm>,
    pub(super) ended: BTreeSet<u32>,
    pub(super) vendor: Option<Vendor>,
    pub(super) saved: usize,
}

impl Bench {
    /// Looks at a recorded run for so many intervals.
    pub(super) fn of(guests: Vec<vm::Vm>, snapshots: Vec<Snapshot>, size: (u16, u16)) -> Self {
        let guests = guests.into_iter().map(|vm| (vm.pid, vm)).collect();
        let silent = snapshots.iter().all(|look| look.vcpus.iter().all(|vcpu| vcpu.isa == 0));
        let vendor = (!silent).then_some(Vendor::Svm);
        let (snapshots, rest) = (vec![Snapshot::default()], snapshots);
        let nothing = look(&snapshots, &guests, vendor, Scope::default(), false);
        let state = State::new(Settings::default(), nothing, size);
        let ended = BTreeSet::new();
        let mut bench = Self { state, snapshots, guests, ended, vendor, saved: 0 };
        rest.into_iter().for_each(|snapshot| bench.tick(snapshot));
        bench
    }

    /// Shows another reading.
    pub(super) fn tick(&mut self, snapshot: Snapshot) {
        self.snapshots.push(snapshot);
        if !self.state.is_paused() {
            self.state.update(self.look());
        }
    }

    pub(super) fn look(&self) -> FrameData {
        let (scope, cumulative) = (self.state.scope(), self.state.is_cumulative());
        let look = look(&self.snapshots, &self.guests, self.vendor, scope, cumulative);
        FrameData { ended: self.ended.clone(), ..look }
    }

    /// Presses keys: characters, and `\n`, `\t`, `\x1b`, `\x08` for those that have no other.
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

    pub(super) fn handle(&mut self, event: &Event) -> Effect {
        let effect = self.state.handle(event);
        match effect {
            Effect::Show | Effect::Refresh => self.state.refresh(self.look()),
            Effect::Reset => {
                let last = self.snapshots.pop().unwrap_or_default();
                self.snapshots = vec![last.clone(), last];
                self.state.refresh(self.look());
            }
            Effect::Save => self.saved += 1,
            _ => {}
        }
        effect
    }

    /// What is on a screen of the view's size.
    pub(super) fn screen(&self) -> String {
        self.drawn().to_string()
    }

    pub(super) fn drawn(&self) -> TestBackend {
        let area = self.state.area();
        let mut terminal = Terminal::new(TestBackend::new(area.width, area.height)).unwrap();
        terminal.draw(|frame| draw(frame, &self.state, &Theme::default())).unwrap();
        terminal.backend().clone()
    }

    /// What the selected row is of.
    pub(super) fn selected(&self) -> Option<String> {
        let rows = self.state.rows();
        rows.get(self.state.cursor().0).map(|row| row.label.clone())
    }

    pub(super) fn table(&self) -> TableId {
        self.state.table()
    }
}

fn look(
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
        version: VERSION.into(),
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

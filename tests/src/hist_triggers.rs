//! The kernel's own sums of a tracepoint's events, by histogram triggers (`Documentation/trace/histogram.rst`).
//! No eBPF program is involved.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};

use crate::scenario::Printed;

/// Accesses by number (a port, address, register or leaf) and direction; `true` is a write.
pub type AccessCounts = BTreeMap<(u64, bool), u64>;

/// A histogram trigger on one of KVM's tracepoints (`arch/x86/kvm/trace.h` and `include/trace/events/kvm.h` of
/// the kernel), and the agent's table of the same events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistTrigger {
    /// Name of the agent's table.
    pub table: &'static str,
    /// Name of the tracepoint.
    event: &'static str,
    /// Field with the port, address, register or leaf.
    number: &'static str,
    /// Field with the direction, its value for a read, its value for a write.
    direction: Option<(&'static str, u64, u64)>,
    /// Field to sum up, or `hitcount` for the number of events.
    sum: &'static str,
}

/// Triggers for all tables of accesses. An MMIO read that userspace answers fires `kvm_mmio` twice: with type
/// 0 (`KVM_TRACE_MMIO_READ_UNSATISFIED`) when it begins, which is left out, and with type 1.
pub const ALL: [HistTrigger; 4] = [
    HistTrigger {
        table: "ioport",
        event: "kvm_pio",
        number: "port",
        direction: Some(("rw", 0, 1)),
        sum: "count",
    },
    HistTrigger {
        table: "mmio",
        event: "kvm_mmio",
        number: "gpa",
        direction: Some(("type", 1, 2)),
        sum: "hitcount",
    },
    HistTrigger {
        table: "msr",
        event: "kvm_msr",
        number: "ecx",
        direction: Some(("write", 0, 1)),
        sum: "hitcount",
    },
    HistTrigger {
        table: "cpuid",
        event: "kvm_cpuid",
        number: "function",
        direction: None,
        sum: "hitcount",
    },
];

/// Script that sets all triggers.
pub fn start() -> String {
    let line = |HistTrigger { event, number, direction, sum, .. }: HistTrigger| {
        let keys = direction.map_or(number.to_owned(), |(field, ..)| format!("{number},{field}"));
        format!(
            "echo 'hist:keys={keys}:vals={sum}' > /sys/kernel/tracing/events/kvm/{event}/trigger\n"
        )
    };
    ALL.map(line).concat()
}

/// Script that prints the histogram of each trigger, as a section with the name of its tracepoint.
pub fn print() -> String {
    let line = |HistTrigger { event, .. }: HistTrigger| {
        format!("echo; echo '== {event}'; cat /sys/kernel/tracing/events/kvm/{event}/hist\n")
    };
    ALL.map(line).concat()
}

impl HistTrigger {
    /// Accesses in the trigger's section of a script's output.
    ///
    /// # Errors
    ///
    /// When the section is missing, is not a histogram, or says that the kernel dropped events.
    pub fn accesses(&self, printed: &Printed) -> Result<AccessCounts> {
        self.parse(printed.section(self.event)?)
    }

    fn parse(&self, text: &str) -> Result<AccessCounts> {
        let mut accesses = AccessCounts::new();
        for line in text.lines().filter(|line| line.starts_with('{')) {
            let number = |name: &str| {
                let mut words = line.split_whitespace();
                words.find(|word| word.strip_suffix(':') == Some(name))?;
                words.next()?.trim_end_matches(',').parse::<u64>().ok()
            };
            let number = |name: &str| number(name).with_context(|| format!("no {name}: {line}"));
            let written = match self.direction {
                None => false,
                Some((field, read, write)) => match number(field)? {
                    value if value == read => false,
                    value if value == write => true,
                    _ => continue,
                },
            };
            let before = accesses.insert((number(self.number)?, written), number(self.sum)?);
            ensure!(before.is_none(), "twice: {line}");
        }
        let dropped = text.lines().find_map(|line| line.trim().strip_prefix("Dropped: "));
        ensure!(dropped == Some("0"), "{}: {dropped:?} events dropped: {text}", self.event);
        Ok(accesses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIO: &str = "# event histogram
#
# trigger info: hist:keys=port,rw:vals=hitcount,count:sort=hitcount:size=2048 [active]
#

{ port:       1544, rw:          0 } hitcount:        780  count:        780
{ port:      22529, rw:          1 } hitcount:         60  count:       1020

Totals:
    Hits: 840
    Entries: 2
    Dropped: 0
";

    #[test]
    fn hist_trigger_output_parses_by_number_and_direction() {
        let expected = [((0x608, false), 780), ((0x5801, true), 1_020)];
        assert_eq!(ALL[0].parse(PIO).unwrap(), expected.into());
    }

    #[test]
    fn hist_trigger_skips_unsatisfied_mmio_read() {
        let text = "{ gpa: 4275044592, type: 0 } hitcount: 9\n\
                    { gpa: 4275044592, type: 1 } hitcount: 8\n    Dropped: 0\n";
        assert_eq!(ALL[1].parse(text).unwrap(), [((0xfed0_00f0, false), 8)].into());
    }

    #[test]
    fn hist_trigger_with_dropped_events_is_an_error() {
        assert!(ALL[0].parse(&PIO.replace("Dropped: 0", "Dropped: 3")).is_err());
        assert!(ALL[0].parse("").is_err());
        assert!(ALL[0].parse(&PIO.replace(" count: ", " many: ")).is_err());
    }

    #[test]
    fn hist_trigger_script_names_fields() {
        let script = start();
        assert!(script.contains("'hist:keys=ecx,write:vals=hitcount' > "), "{script}");
        assert!(script.contains("'hist:keys=function:vals=hitcount' > "), "{script}");
    }
}

//! One line of `perf script`: thread, time and event.
//!
//! ```text
//!  CPU 0/KVM   109 [000]    36.271964:   kvm:kvm_exit: vcpu 0 reason io rip 0xf0271 info1 0x6080270 …
//!  CPU 0/KVM   109/112 [000] 36.271971364: kvm:kvm_pio: pio_read at 0x608 size 4 count 1 val 0x1f
//! ```
//!
//! The text after the event's name comes from the kernel (`TP_printk`, arch/x86/kvm/trace.h) or
//! from libtraceevent's plugin. Kernels append fields to it, so only the needed part is parsed.

use vmexit_common::key::Key;

use super::reason;
use crate::vendor::Vendor;

/// One event of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PerfLine<'a> {
    /// Thread name.
    pub comm: &'a str,
    /// Process ID, if the trace has it.
    pub pid: Option<u32>,
    /// Thread ID.
    pub tid: u32,
    /// CPU number, if the trace has it.
    pub cpu: Option<u32>,
    /// Time on perf's clock, nanoseconds.
    pub ns: u64,
    /// The event.
    pub event: ParsedEvent,
}

/// An event and those of its fields that are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ParsedEvent {
    /// Guest exit.
    Exit { vcpu: Option<u32>, vendor: Option<Vendor>, code: Option<u32> },
    /// Guest entry.
    Entry { vcpu: Option<u32> },
    /// Access that an exit is for, and how many were made.
    Access { key: Key, times: u64 },
    /// Read whose value is still missing; another event follows with the value.
    PendingRead,
    /// Another KVM event.
    Other,
}

impl<'a> PerfLine<'a> {
    /// Parses a line; `None` if it is not a KVM event.
    pub(super) fn of(line: &'a str) -> Option<Self> {
        // The thread name before it can contain anything.
        let at = line.rfind("kvm:kvm_")?;
        let (event, text) = line[at + "kvm:".len()..].split_once(':')?;
        let event = parse_event(event, text.trim())?;
        let mut before = line[..at].split_ascii_whitespace().rev().peekable();
        // A sample period can follow the time; flags can follow the CPU.
        let ns = before.find_map(time)?;
        let (mut cpu, mut ids) = (None, None);
        for word in before {
            if let Some(number) = word.strip_prefix('[').and_then(|word| word.strip_suffix(']')) {
                cpu = Some(number.parse().ok()?);
            } else if let Some(found) = self::ids(word) {
                ids = Some((found, word));
                break;
            }
        }
        let ((pid, tid), word) = ids?;
        let start = word.as_ptr() as usize - line.as_ptr() as usize;
        Some(Self { comm: line[..start].trim(), pid, tid, cpu, ns, event })
    }
}

/// Process and thread ID: `109` or `109/112`.
fn ids(word: &str) -> Option<(Option<u32>, u32)> {
    match word.split_once('/') {
        Some((pid, tid)) => Some((Some(pid.parse().ok()?), tid.parse().ok()?)),
        None => Some((None, word.parse().ok()?)),
    }
}

/// Time: `36.271964:`, with six or nine decimals.
fn time(word: &str) -> Option<u64> {
    let (seconds, part) = word.strip_suffix(':')?.split_once('.')?;
    if part.is_empty() || part.len() > 9 || !part.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let seconds: u64 = seconds.parse().ok()?;
    let part = part.parse::<u64>().ok()? * 10_u64.pow(9 - part.len() as u32);
    seconds.checked_mul(1_000_000_000)?.checked_add(part)
}

/// The event of a name and its text; `None` if the text has an unexpected form.
fn parse_event(event: &str, text: &str) -> Option<ParsedEvent> {
    match event {
        "kvm_exit" => exit(text),
        "kvm_entry" => Some(ParsedEvent::Entry { vcpu: number_after(text, "vcpu ") }),
        "kvm_pio" => pio(text),
        "kvm_mmio" => mmio(text),
        "kvm_msr" => msr(text),
        _ => Some(ParsedEvent::Other),
    }
}

fn exit(text: &str) -> Option<ParsedEvent> {
    let vcpu = number_after(text, "vcpu ");
    let (vendor, code) = match text.split_once("reason ") {
        Some((_, rest)) => {
            let name = rest.split(" rip ").next().unwrap_or(rest).trim();
            reason::of_text(name).map_or((None, None), |(vendor, code)| (vendor, Some(code)))
        }
        // libtraceevent failed to parse the kernel's format and prints the raw fields.
        None => {
            let field = |name| number_after(text, name);
            let isa = field(" isa=").and_then(Vendor::of_isa);
            (isa, Some(field(" exit_reason=")?))
        }
    };
    Some(ParsedEvent::Exit { vcpu, vendor, code })
}

/// `pio_read at 0x608 size 4 count 1 val 0x1f`
fn pio(text: &str) -> Option<ParsedEvent> {
    let write = match text.split(' ').next()? {
        "pio_read" => 0,
        "pio_write" => 1,
        _ => return None,
    };
    let port = u16::try_from(number_after(text, " at ")?).ok()?;
    let (size, times) = (number_after(text, " size ")?, number_after(text, " count ")?);
    let size = u64::from(size).clamp(1, 8);
    Some(ParsedEvent::Access {
        key: Key::pio(port.into(), write, size),
        times: times.max(1).into(),
    })
}

/// `mmio read len 4 gpa 0xfed000f0 val 0x1f`
fn mmio(text: &str) -> Option<ParsedEvent> {
    let write = match text.strip_prefix("mmio ")?.split(' ').next()? {
        "unsatisfied-read" => return Some(ParsedEvent::PendingRead),
        "read" => 0,
        "write" => 1,
        _ => return None,
    };
    let size = number_after(text, " len ")?.clamp(1, 8);
    let key = Key::mmio(long_after(text, " gpa ")?, write, size.into());
    Some(ParsedEvent::Access { key, times: 1 })
}

/// `msr_write 6e0 = 0x1fb1e5ac1f9`
fn msr(text: &str) -> Option<ParsedEvent> {
    let mut words = text.split(' ');
    let write = match words.next()? {
        "msr_read" => 0,
        "msr_write" => 1,
        _ => return None,
    };
    let number = u32::from_str_radix(words.next()?, 16).ok()?;
    Some(ParsedEvent::Access { key: Key::msr(number.into(), write), times: 1 })
}

/// The number after `words`, which occur once.
fn number_after(text: &str, words: &str) -> Option<u32> {
    u32::try_from(long_after(text, words)?).ok()
}

fn long_after(text: &str, words: &str) -> Option<u64> {
    let (_, rest) = text.split_once(words)?;
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
    let digits = &rest[..end];
    match digits.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => digits.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event_of(line: &str) -> ParsedEvent {
        PerfLine::of(line).unwrap_or_else(|| panic!("not parsed: {line}")).event
    }

    fn exit(vcpu: Option<u32>, vendor: Vendor, code: u32) -> ParsedEvent {
        ParsedEvent::Exit { vcpu, vendor: Some(vendor), code: Some(code) }
    }

    #[test]
    fn perf_line_thread_and_time_are_parsed() {
        let line = " CPU 0/KVM  2471/2478  [003] 99.000001: kvm:kvm_entry: vcpu 3, rip 0xfff0";
        let entry = ParsedEvent::Entry { vcpu: Some(3) };
        let expected = PerfLine {
            comm: "CPU 0/KVM",
            pid: Some(2471),
            tid: 2478,
            cpu: Some(3),
            ns: 99_000_001_000,
            event: entry,
        };
        assert_eq!(PerfLine::of(line), Some(expected.clone()));
        let nanoseconds = line.replace("99.000001:", "99.000001000:");
        assert_eq!(PerfLine::of(&nanoseconds), Some(expected));
        for (line, comm, tid, cpu) in [
            (
                "qemu-system-x86 10042 [000] 31.754508: kvm:kvm_entry: vcpu 0",
                "qemu-system-x86",
                10_042,
                Some(0),
            ),
            // perf before 4.17; `-F` without a CPU; flags of the interrupt state; a sample period.
            ("preempt_test  20677.199579:      kvm:kvm_entry: vcpu 0", "", 0, None),
            ("qemu-kvm 7 2.5: kvm:kvm_entry: vcpu 0", "qemu-kvm", 7, None),
            (
                "qemu-kvm 7 [017] d... 2.5:          1 kvm:kvm_entry: vcpu 0",
                "qemu-kvm",
                7,
                Some(17),
            ),
            ("1.1: kvm:kvm_e: 7 [017] 2.5: kvm:kvm_entry: vcpu 0", "1.1: kvm:kvm_e:", 7, Some(17)),
        ] {
            let found = PerfLine::of(line).map(|line| (line.comm, line.tid, line.cpu));
            assert_eq!(found, (tid != 0).then_some((comm, tid, cpu)), "{line}");
        }
    }

    #[test]
    fn perf_exit_of_all_kernels_and_vendors_is_parsed() {
        let head = "q 1 [0] 1.0: kvm:kvm_exit: ";
        for (text, event) in [
            // Linux up to 5.9, and libtraceevent's plugin on any.
            ("reason IO_INSTRUCTION rip 0xf0 info 6080003 0", exit(None, Vendor::Vmx, 30)),
            ("reason EXIT_IOIO rip 0xf0 info 60802 f1", exit(None, Vendor::Svm, 0x7b)),
            (
                "reason UNKNOWN (165) rip 0xf0 info 0 0",
                ParsedEvent::Exit { vcpu: None, vendor: None, code: Some(165) },
            ),
            // Linux 5.10 and later.
            (
                "vcpu 2 reason EPT_MISCONFIG rip 0xf0 info1 0x0000000000000000 info2 0x0 intr_info 0x0 error_code 0x0",
                exit(Some(2), Vendor::Vmx, 49),
            ),
            (
                "vcpu 0 reason PF excp rip 0xf0 info1 0x0 info2 0x0 intr_info 0x0 error_code 0x0 requests 0x0",
                exit(Some(0), Vendor::Svm, 0x4e),
            ),
            (
                "vcpu 0 reason SOMETHING_NEW rip 0xf0",
                ParsedEvent::Exit { vcpu: Some(0), vendor: None, code: None },
            ),
            (
                "[FAILED TO PARSE] exit_reason=30 guest_rip=0xf0 isa=1 info1=0x0",
                exit(None, Vendor::Vmx, 30),
            ),
        ] {
            assert_eq!(event_of(&format!("{head}{text}")), event, "{text}");
        }
    }

    #[test]
    fn perf_access_key_is_parsed() {
        for (text, key, times) in [
            ("kvm_pio: pio_read at 0x608 size 4 count 1 val 0x1f ", Key::pio(0x608, 0, 4), 1),
            ("kvm_pio: pio_write at 0x70 size 1 count 1", Key::pio(0x70, 1, 1), 1),
            (
                "kvm_pio: pio_write at 0x3f8 size 1 count 16 val 0x41 (...)",
                Key::pio(0x3f8, 1, 1),
                16,
            ),
            ("kvm_mmio: mmio read len 4 gpa 0xfed000f0 val 0x1f", Key::mmio(0xfed0_00f0, 0, 4), 1),
            ("kvm_mmio: mmio write len 8 gpa 0xfee000b0 val 0x0", Key::mmio(0xfee0_00b0, 1, 8), 1),
            ("kvm_msr: msr_write 6e0 = 0x1fb1e5ac1f9", Key::msr(0x6e0, 1), 1),
            ("kvm_msr: msr_read c0000080 = 0x0 (#GP)", Key::msr(0xc000_0080, 0), 1),
        ] {
            assert_eq!(
                event_of(&format!("q 1 [0] 1.0: kvm:{text}")),
                ParsedEvent::Access { key, times },
                "{text}"
            );
        }
        let head = "q 1 [0] 1.0: kvm:";
        let pending = "kvm_mmio: mmio unsatisfied-read len 4 gpa 0xfed000f0 val 0x0";
        assert_eq!(event_of(&format!("{head}{pending}")), ParsedEvent::PendingRead);
        assert_eq!(
            event_of(&format!("{head}kvm_apic: apic_write APIC_EOI = 0x0")),
            ParsedEvent::Other
        );
    }

    #[test]
    fn malformed_perf_lines_are_none() {
        for line in [
            "",
            "kvm:kvm_entry: vcpu 0",
            "q 1 [0] 1.0: sched:sched_switch: prev_comm=x",
            "q 1 [0] 1.: kvm:kvm_entry: vcpu 0",
            "q 1 [0] 99999999999999.0: kvm:kvm_entry: vcpu 0",
            "q 99999999999 [0] 1.0: kvm:kvm_entry: vcpu 0",
            "q 1 [x] 1.0: kvm:kvm_entry: vcpu 0",
            "q 1 [0] 1.0: kvm:kvm_pio: pio_read at 0x10608 size 4 count 1",
            "q 1 [0] 1.0: kvm:kvm_pio: pio_poke at 0x608 size 4 count 1",
            "q 1 [0] 1.0: kvm:kvm_msr: msr_read = 0x0",
            "q 1 [0] 1.0: kvm:kvm_exit: ",
        ] {
            assert_eq!(PerfLine::of(line), None, "{line}");
        }
    }
}

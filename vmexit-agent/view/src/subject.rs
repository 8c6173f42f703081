//! Subjects of exits as text.

use vmexit_common::key::Kind;
use vmexit_core::{kind::Direction, report::Subject};

/// Number and direction of a subject: `0x608 IN`, `0xfed000f0 read`, `0x6e0 write`, `5 KVM`.
pub fn label(subject: &Subject) -> String {
    let Some(number) = subject.number else { return "other".into() };
    let direction = match subject.direction {
        Some(Direction::In) => " IN",
        Some(Direction::Out) => " OUT",
        Some(Direction::Read) => " read",
        Some(Direction::Write) if subject.kind == Kind::FastMmio => " kick",
        Some(Direction::Write) => " write",
        None => "",
    };
    let text = self::number(subject.kind, number);
    match subject.kind {
        Kind::Hypercall => format!("{text} KVM"),
        Kind::HvHypercall => format!("{text} Hyper-V"),
        Kind::Reason | Kind::Fault | Kind::Userspace => subject.name.clone().unwrap_or(text),
        _ => format!("{text}{direction}"),
    }
}

/// A number in the usual base of its kind: ports, addresses, registers and leaves are hexadecimal.
pub(super) fn number(kind: Kind, number: u64) -> String {
    match kind {
        Kind::Hypercall | Kind::Userspace | Kind::Reason => number.to_string(),
        _ => format!("{number:#x}"),
    }
}

/// The device of a subject, or its name; empty if neither is known.
pub(super) fn device_or_name(subject: &Subject) -> String {
    let device = subject.device.as_ref().map(ToString::to_string);
    device.or_else(|| subject.name.clone()).unwrap_or_default()
}

/// Label and name of a subject on one line.
pub(super) fn label_and_name(subject: &Subject) -> String {
    let (label, name) = (label(subject), device_or_name(subject));
    if name.is_empty() || name == label { label } else { format!("{label}  {name}") }
}

//! What an exit is for, in words.

use vmexit_common::key::Kind;
use vmexit_core::{kind::Direction, report::Subject};

/// Which thing: `0x608 IN`, `0xfed000f0 read`, `0x6e0 write`, `5 KVM`.
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

/// The number of a kind as people write it: ports, addresses, registers and leaves hexadecimal.
pub(super) fn number(kind: Kind, number: u64) -> String {
    match kind {
        Kind::Hypercall | Kind::Userspace | Kind::Reason => number.to_string(),
        _ => format!("{number:#x}"),
    }
}

/// What it is called, or which device it is.
pub(super) fn what(subject: &Subject) -> String {
    let device = subject.device.as_ref().map(ToString::to_string);
    device.or_else(|| subject.name.clone()).unwrap_or_default()
}

/// Both, on one line.
pub(super) fn sentence(subject: &Subject) -> String {
    let (label, what) = (label(subject), what(subject));
    if what.is_empty() || what == label { label } else { format!("{label}  {what}") }
}

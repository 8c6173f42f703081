//! What an exit is for, in words.

use crate::model::{Direction, Subject};

/// Which thing: `0x608 IN`, `0xfed000f0 read`, `0x6e0 write`, `5 KVM`.
pub fn label(subject: &Subject) -> String {
    let Some(number) = subject.number else { return "other".into() };
    let direction = match subject.direction {
        Some(Direction::In) => " IN",
        Some(Direction::Out) => " OUT",
        Some(Direction::Read) => " read",
        Some(Direction::Write) if subject.kind == "doorbell" => " kick",
        Some(Direction::Write) => " write",
        None => "",
    };
    match subject.kind {
        "kvm_hypercall" => format!("{number} KVM"),
        "hyperv_hypercall" => format!("{number:#x} Hyper-V"),
        "reason" | "fault" | "userspace" => {
            subject.name.clone().unwrap_or_else(|| format!("{number}"))
        }
        _ => format!("{number:#x}{direction}"),
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

//! Single exits, one per line.

use std::fmt::Write as _;

use unicode_width::UnicodeWidthStr as _;
use vmexit_core::{
    escape::{cut, safe},
    report::SlowExit,
    units::duration,
};

use super::{Format, subject::label_and_name, table::NONE, terminal_json};

/// Width of a VM's name, columns.
const VM: usize = 16;

/// The titles of the columns; empty for JSON. A value wider than its column shifts the rest of its line.
pub fn slow_header(format: Format) -> String {
    match format {
        Format::Json => String::new(),
        Format::Text => line(
            ["TIME", "VM", "vCPU", "Duration", "User", "RIP", "VM-EXIT", "Detail"].map(Into::into),
        ),
    }
}

/// The line of an exit, with a line feed at the end; one object for JSON.
///
/// # Errors
/// A value that JSON cannot express; none is expected.
pub fn slow(exit: &SlowExit, format: Format) -> Result<String, serde_json::Error> {
    if format == Format::Json {
        return Ok(terminal_json(&serde_json::to_string(exit)?));
    }
    let user = match (exit.userspace_ns, &exit.userspace) {
        (Some(ns), Some(_)) => duration(ns),
        _ => NONE.into(),
    };
    Ok(line([
        humantime::format_rfc3339_micros(exit.time).to_string(),
        cut(&exit.vm, VM),
        exit.vcpu.map_or_else(|| "?".into(), |id| id.to_string()),
        duration(exit.duration_ns),
        user,
        exit.rip.map_or_else(|| NONE.into(), |rip| format!("{rip:#x}")),
        safe(&exit.reason),
        exit.detail
            .as_ref()
            .map_or_else(|| NONE.into(), |detail| safe(&label_and_name(&detail.subject))),
    ]))
}

fn line([time, vm, vcpu, duration, user, rip, reason, detail]: [String; 8]) -> String {
    let mut line = format!("{time:27}  {vm}");
    // Padded by display width, which differs from the number of characters.
    line.extend(std::iter::repeat_n(' ', VM.saturating_sub(vm.width())));
    let _ =
        writeln!(line, "  {vcpu:>4}  {duration:>8}  {user:>8}  {rip:18}  {reason:14}  {detail}");
    line
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use proptest::prelude::*;
    use vmexit_common::{key::Key, slow, vcpu::ISA_SVM};
    use vmexit_core::{
        device::Map,
        escape::is_plain,
        reason::Names,
        report::{Clock, SlowSources},
        testing::nasty,
        vm::{Vm, Vmm},
    };

    use super::*;

    fn exit(name: &str) -> SlowExit {
        let record = slow::SlowExitRecord {
            end_ns: 5_000_000_000,
            duration_ns: 7_810_000,
            user_ns: 7_500_000,
            thread: 4_242 << 32 | 4_243,
            reason: Key::reason(0x7b).0,
            detail: Key::pio(0x608, 0, 4).0,
            user: Key::plain(vmexit_common::key::Kind::Userspace, 2u64).0,
            rip: 0xffff_ffff_8100_0000,
            vcpu_id: 1,
            isa: ISA_SVM as u16,
            flags: slow::RIP_KNOWN,
        };
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_001);
        SlowExit::of(
            &record,
            SlowSources {
                reasons: &Names::default(),
                vendor: None,
                map: &Map::Guessed(Vmm::Qemu),
                guest: Some(&Vm { pid: 4_242, name: name.into(), ..Vm::default() }),
                userspace: true,
                clock: Clock { wall, ns: 5_000_001_000 },
            },
        )
    }

    #[test]
    fn slow_as_text_is_one_line_of_columns() {
        assert_eq!(
            slow(&exit("win10"), Format::Text).unwrap(),
            "2023-11-14T22:13:20.999999Z  win10                1   7.81 ms   7.50 ms  \
             0xffffffff81000000  io              0x608 IN  acpi-tmr?\n"
        );
    }

    #[test]
    fn slow_json_fields_are_documented() {
        let docs = include_str!("../../../docs/json.md");
        let line = slow(&exit("win10"), Format::Json).unwrap();
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["time"], "2023-11-14T22:13:20.999999000Z");
        assert_eq!(value["rip"], "0xffffffff81000000");
        assert_eq!(value["userspace"], "KVM_EXIT_IO");
        let objects = [&value, &value["detail"], &value["detail"]["device"]];
        for (name, _) in objects.iter().flat_map(|object| object.as_object().unwrap()) {
            assert!(docs.contains(&format!("`{name}`")), "{name} is not in docs/json.md");
        }
    }

    proptest! {
        #[test]
        fn slow_of_any_vm_name_is_one_plain_line(name in nasty()) {
            for format in [Format::Text, Format::Json] {
                let line = slow(&exit(&name), format).unwrap();
                prop_assert!(line.strip_suffix('\n').unwrap().chars().all(is_plain));
            }
        }
    }
}

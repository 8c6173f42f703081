//! The emulator with SVM: the host's QEMU. It has one vCPU and one emulator thread. With more, enabling a tracepoint
//! while a vCPU runs can crash the lab's kernel.

use std::process::Command;

use super::{
    error::LabError,
    host::qemu,
    machine::{Guest, KERNEL_ARGUMENTS, Program},
};

/// Program that starts a guest. `instruction_clock` is the shift of the instruction clock: an instruction takes 2 to
/// the power of it nanoseconds, and idle time is skipped. With `shift=auto` the clock would follow that of the host
/// (`docs/devel/tcg-icount.rst` of QEMU).
pub(super) fn prepare(
    guest: &Guest<'_>,
    instruction_clock: Option<u32>,
) -> Result<Program, LabError> {
    let mut command = Command::new(qemu()?);
    command.args(["-accel", "tcg,thread=single", "-cpu", "EPYC", "-smp", "1"]);
    command.arg("-m").arg(guest.memory_mb.to_string());
    command.args(["-nodefaults", "-no-user-config", "-vga", "none", "-display", "none"]);
    command.args(["-nic", "none", "-no-reboot"]);
    if let Some(shift) = instruction_clock {
        command.arg("-icount").arg(format!("shift={shift},sleep=off"));
    }
    for port in &guest.ports {
        command.arg("-serial").arg(format!("file:{}", port.display()));
    }
    command.arg("-kernel").arg(guest.vmlinuz).arg("-initrd").arg(guest.initramfs);
    command.args(["-append", KERNEL_ARGUMENTS]);
    Ok(Program {
        name: "QEMU",
        command,
        boots_from: guest.initramfs.to_owned(),
        switched_off: |status, _| status.success(),
        complaints,
    })
}

/// QEMU's messages without its warnings, of which there is one for each CPU feature that it does not emulate.
fn complaints(said: &str) -> String {
    said.lines().filter(|line| !line.contains(": warning: ")).collect::<Vec<_>>().join("\n")
}

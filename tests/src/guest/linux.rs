//! A stock Linux kernel as the guest of a lab. Its exits are realistic, but their number is not known.

use std::path::Path;

use super::{Qemu, QemuMachine};

/// Kernel parameters. The kernel prints only if it crashes, so that its messages do not mix with the shell's
/// output. After a crash it reboots, which ends QEMU.
const PARAMETERS: &str = "console=ttyS0 loglevel=1 panic=-1 oops=panic";

/// CPU model without AVX, and so without XSAVE. On the CPU that KVM derives from that of the lab, Linux 7.3 crashes in
/// `fpu__init_system_xstate` (`arch/x86/kernel/fpu/xstate.c`).
const CPU: &str = "qemu64,+x2apic";

/// A Linux guest that a script in a lab starts and controls line by line. Its init is a shell on the first serial
/// port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinuxGuest {
    qemu: Qemu,
    parameters: String,
}

impl LinuxGuest {
    /// Init script of the guest. It needs only busybox.
    pub const INIT: &[u8] = include_bytes!("linux.sh");

    /// A guest with this name on the lab's KVM: one vCPU, 128 MB, and only the machine's built-in devices.
    pub fn new(name: &str) -> Self {
        Self { qemu: Qemu::nested(name).cpu(CPU), parameters: PARAMETERS.to_owned() }
    }

    /// The same guest on another machine than [`QemuMachine::Pc`].
    #[must_use]
    pub fn machine(self, machine: QemuMachine) -> Self {
        Self { qemu: self.qemu.machine(machine), ..self }
    }

    /// The same guest with one more argument to QEMU.
    #[must_use]
    pub fn arg(self, arg: &str) -> Self {
        Self { qemu: self.qemu.arg(arg), ..self }
    }

    /// The same guest with more kernel parameters, such as `tsc=unstable`.
    #[must_use]
    pub fn parameters(self, more: &str) -> Self {
        Self { parameters: format!("{} {more}", self.parameters), ..self }
    }

    /// Script that starts the guest and waits until it is ready. It defines the same functions as [`Self::begin`].
    pub fn start(&self) -> String {
        self.begin() + "echo cont >&4\nhear\n"
    }

    /// Script that starts the guest, paused until `cont` is written to file descriptor 4, QEMU's monitor. It defines:
    ///
    /// - `qemu`: the process ID of QEMU.
    /// - `hear`: waits until the guest is ready for the next line.
    /// - `tell COMMAND`: runs a line in the guest's shell, waits for its end, prints its output and returns its
    ///   status. Background jobs of the line go on.
    pub fn begin(&self) -> String {
        let monitor = "pipe:/tmp/monitor";
        let qemu = self.qemu.clone().paused().linux(&self.parameters).arg("-monitor").arg(monitor);
        format!(
            r#"
set -e
mkfifo /tmp/told /tmp/monitor.in
ln -s /dev/null /tmp/monitor.out
{qemu} < /tmp/told > {serial} 2> /tmp/qemu.log &
qemu=$!
exec 3> /tmp/told 4> /tmp/monitor.in
until ls -d /sys/kernel/debug/kvm/*-* > /dev/null 2>&1; do kill -0 $qemu; sleep 0.1; done
heard=0
said() {{ tail -n +$((heard + 1)) {serial} | tr -d '\r'; }}
status() {{ said | sed -n 's/^-- \([0-9]*\) done$/\1/p'; }}
hear() {{
    until [ "$(status)" ]; do
        if ! kill -0 $qemu; then cat /tmp/qemu.log {serial} >&2; exit 1; fi
        sleep 0.1
    done
}}
tell() {{
    heard=$(wc -l < {serial})
    echo "$*" >&3
    hear
    said | sed '/^-- [0-9]* done$/d'
    return $(status)
}}
"#,
            qemu = qemu.shell(Path::new("/tmp")),
            serial = format_args!("/tmp/{}", Qemu::SERIAL),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linux_guest_parameters_are_one_shell_word() {
        let guest = LinuxGuest::new("a").machine(QemuMachine::Q35).parameters("tsc=unstable");
        let script = guest.start();
        assert!(script.contains(" -machine q35 "), "{script}");
        assert!(script.contains(&format!(" -append '{PARAMETERS} tsc=unstable' ")), "{script}");
        assert!(script.contains(" -serial stdio "), "{script}");
        assert!(!script.contains("-bios"), "{script}");
    }
}

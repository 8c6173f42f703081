//! A stock Linux kernel as the guest of a lab: not a known number of exits, but the real ones.

use std::path::Path;

use super::{Qemu, QemuMachine};

/// The kernel speaks up only when it is broken, lest it mix with what the shell says; then it reboots, and
/// QEMU ends.
const PARAMETERS: &str = "console=ttyS0 loglevel=1 panic=-1 oops=panic";

/// No AVX, and so no XSAVE: on what KVM makes of the lab's own CPU, Linux 7.3 crashes in
/// `fpu__init_system_xstate` (`arch/x86/kernel/fpu/xstate.c`).
const CPU: &str = "qemu64,+x2apic";

/// A Linux guest that a script in a lab starts and then tells what to do, line by line: its init is a
/// shell on its first serial port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinuxGuest {
    qemu: Qemu,
    parameters: String,
}

impl LinuxGuest {
    /// Its init. It needs busybox and nothing else.
    pub const INIT: &[u8] = include_bytes!("linux.sh");

    /// A guest of this name on the lab's KVM: one vCPU, 128 MB, and nothing but the board's own devices.
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

    /// Starts the guest, waits until it listens, and defines what [`Self::begin`] does.
    pub fn start(&self) -> String {
        self.begin() + "echo cont >&4\nhear\n"
    }

    /// Starts the guest, halted until something says `cont` to file descriptor 4, QEMU's monitor. Defines for
    /// what follows in the script:
    ///
    /// - `qemu`: the process id.
    /// - `hear`: waits until the guest listens.
    /// - `tell COMMAND`: has the guest's shell run a line, waits until it is done, prints what it says
    ///   and returns its status. A job that the line leaves in the background goes on.
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

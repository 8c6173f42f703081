//! QEMU command line of a guest.
//!
//! The builder starts a guest on this machine, or yields the command line for a script in a lab. All files of a
//! guest are in one directory, under fixed names.

use std::{
    ffi::OsStr,
    fs::OpenOptions,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::{BareGuest, RunningGuest};

/// Accelerator of QEMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// KVM, with real exits.
    Kvm,
    /// QEMU's emulation, without exits. It shows whether a guest works at all.
    Tcg,
}

/// Machine type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QemuMachine {
    /// i440FX with PIIX.
    Pc,
    /// Q35 with ICH9.
    Q35,
}

/// Builder of a QEMU command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qemu {
    name: String,
    binary: PathBuf,
    accelerator: Accelerator,
    cpu: String,
    machine: QemuMachine,
    vcpus: u32,
    paused: bool,
    hides_qmp: bool,
    linux: Option<String>,
    extra: Vec<String>,
}

impl Qemu {
    /// File name of the ROM in the guest's directory.
    pub const ROM: &str = "guest.rom";
    /// File name of a Linux guest's kernel.
    pub const KERNEL: &str = "guest.vmlinuz";
    /// File name of a Linux guest's initramfs.
    pub const INITRAMFS: &str = "guest.initramfs";
    /// File name of the serial port's output.
    pub const SERIAL: &str = "guest.serial";
    /// File name of the QMP socket.
    pub const QMP: &str = "guest.qmp";
    /// File name of the options that are not on the command line, if there are any.
    pub const CONFIG: &str = "guest.conf";
    /// Value of `-device` for the device that a guest's `bar_read` reads.
    pub const VIRTIO: &str = "virtio-rng-pci,id=rng7,addr=5,disable-legacy=on";
    /// File name of QEMU's messages in a [`RunningGuest`].
    pub const LOG: &str = "guest.log";

    /// A guest on this machine's KVM, with a CPU model that every KVM supports.
    pub fn native(name: &str) -> Self {
        Self::with_cpu(name, Accelerator::Kvm, "qemu64,+x2apic")
    }

    /// A guest on the KVM of a lab, with the CPU of the lab.
    pub fn nested(name: &str) -> Self {
        Self::with_cpu(name, Accelerator::Kvm, "host")
    }

    /// A guest without KVM. QEMU emulates no x2APIC before version 9, so the guest must have no HLT.
    pub fn emulated(name: &str) -> Self {
        Self::with_cpu(name, Accelerator::Tcg, "qemu64")
    }

    fn with_cpu(name: &str, accelerator: Accelerator, cpu: &str) -> Self {
        Self {
            name: name.to_owned(),
            binary: PathBuf::from("qemu-system-x86_64"),
            accelerator,
            cpu: cpu.to_owned(),
            machine: QemuMachine::Pc,
            vcpus: 1,
            paused: false,
            hides_qmp: false,
            linux: None,
            extra: Vec::new(),
        }
    }

    /// Sets the QEMU program; the default is the one in `PATH`.
    pub fn binary(self, binary: impl Into<PathBuf>) -> Self {
        Self { binary: binary.into(), ..self }
    }

    /// Sets the CPU model.
    pub fn cpu(self, cpu: &str) -> Self {
        Self { cpu: cpu.to_owned(), ..self }
    }

    /// Sets the machine type; the default is [`QemuMachine::Pc`].
    pub fn machine(self, machine: QemuMachine) -> Self {
        Self { machine, ..self }
    }

    /// Sets the number of vCPUs. A bare guest uses only the first. The others wait for their start, without exits.
    pub fn vcpus(self, vcpus: u32) -> Self {
        Self { vcpus, ..self }
    }

    /// Starts QEMU with the vCPUs stopped, until [`RunningGuest::resume`] or QMP's `cont`.
    pub fn paused(self) -> Self {
        Self { paused: true, ..self }
    }

    /// Defines the QMP socket in the file [`CONFIG`](Self::CONFIG), which [`Self::start`] writes, so that its path is
    /// not on the command line.
    pub fn hidden_qmp(self) -> Self {
        Self { hides_qmp: true, ..self }
    }

    /// Boots Linux with these kernel parameters instead of the ROM. The first serial port is then QEMU's standard
    /// input and output.
    pub(super) fn linux(self, parameters: &str) -> Self {
        Self { linux: Some(parameters.to_owned()), ..self }
    }

    /// Appends an argument.
    pub fn arg(mut self, arg: &str) -> Self {
        self.extra.push(arg.to_owned());
        self
    }

    /// QEMU's arguments for a guest with its files in `directory`.
    pub fn args(&self, directory: &Path) -> Vec<String> {
        let file = |name: &str| option_value(&directory.join(name));
        let mut args = Vec::new();
        let mut option = |name: &str, value: &str| args.extend([name.to_owned(), value.to_owned()]);
        option("-name", &format!("guest={},debug-threads=on", self.name.replace(',', ",,")));
        option("-accel", if self.accelerator == Accelerator::Kvm { "kvm" } else { "tcg" });
        option("-machine", if self.machine == QemuMachine::Pc { "pc" } else { "q35" });
        option("-cpu", &self.cpu);
        option("-smp", &self.vcpus.to_string());
        let path = |name: &str| directory.join(name).to_string_lossy().into_owned();
        let serial = format!("file:{}", path(Self::SERIAL));
        let serial = match &self.linux {
            None => {
                option("-m", "16");
                option("-bios", &path(Self::ROM));
                &serial
            }
            Some(parameters) => {
                option("-m", "128");
                option("-kernel", &path(Self::KERNEL));
                option("-initrd", &path(Self::INITRAMFS));
                option("-append", parameters);
                "stdio"
            }
        };
        option("-vga", "none");
        option("-display", "none");
        option("-serial", serial);
        if self.hides_qmp {
            option("-readconfig", &path(Self::CONFIG));
        } else {
            option("-qmp", &format!("unix:{},server=on,wait=off", file(Self::QMP)));
        }
        option("-device", "isa-debug-exit,iobase=0xf4,iosize=4");
        // A triple fault ends QEMU instead of resetting the guest again and again.
        args.extend(["-nodefaults", "-no-reboot"].map(str::to_owned));
        if self.paused {
            args.push("-S".to_owned());
        }
        args.extend(self.extra.iter().cloned());
        args
    }

    /// Contents of [`CONFIG`](Self::CONFIG) for a guest with its files in `directory`, if it is needed.
    pub(super) fn config(&self, directory: &Path) -> Option<String> {
        let socket = directory.join(Self::QMP);
        self.hides_qmp.then(|| {
            format!(
                r#"
[chardev "qmp"]
backend = "socket"
path = "{}"
server = "on"
wait = "off"

[mon]
chardev = "qmp"
mode = "control"
"#,
                socket.display()
            )
        })
    }

    /// Command for a guest with its files in `directory`.
    pub fn command(&self, directory: &Path) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(self.args(directory));
        command
    }

    /// Command as a line of shell.
    pub fn shell(&self, directory: &Path) -> String {
        let binary = self.binary.to_string_lossy().into_owned();
        let words: Vec<_> =
            [binary].into_iter().chain(self.args(directory)).map(|word| quote(&word)).collect();
        words.join(" ")
    }

    /// Starts `guest` on this machine, in a temporary directory of its own.
    ///
    /// # Errors
    ///
    /// When KVM can't be used or QEMU can't be started.
    pub fn start(&self, guest: &BareGuest) -> Result<RunningGuest> {
        if self.accelerator == Accelerator::Kvm {
            kvm_usable()?;
        }
        RunningGuest::start(self, guest)
    }

    pub(super) fn program(&self) -> &OsStr {
        self.binary.as_os_str()
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

/// Checks that this process may use KVM.
///
/// # Errors
///
/// When `/dev/kvm` can't be opened.
pub fn kvm_usable() -> Result<()> {
    OpenOptions::new().read(true).write(true).open("/dev/kvm").map(drop).context(
        "cannot open /dev/kvm: this needs a machine with KVM, and read and write access to it \
         (group kvm, or root)",
    )
}

/// A path as a value in QEMU's comma-separated options: each comma twice.
fn option_value(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

/// A word quoted for a POSIX shell.
fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+./:,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qemu_native_command_line() {
        let args = Qemu::native("win10-2").paused().args(Path::new("/run/g"));
        assert_eq!(
            args.join(" "),
            "-name guest=win10-2,debug-threads=on -accel kvm -machine pc -cpu qemu64,+x2apic \
             -smp 1 -m 16 -bios /run/g/guest.rom -vga none -display none \
             -serial file:/run/g/guest.serial -qmp unix:/run/g/guest.qmp,server=on,wait=off \
             -device isa-debug-exit,iobase=0xf4,iosize=4 -nodefaults -no-reboot -S"
        );
    }

    #[test]
    fn qemu_builder_options_reach_command_line() {
        let qemu = Qemu::nested("a").machine(QemuMachine::Q35).vcpus(2).arg("-L").arg("/share");
        let args = qemu.args(Path::new("/")).join(" ");
        for part in ["-accel kvm", "-machine q35", "-cpu host", "-smp 2"] {
            assert!(args.contains(part), "{part} is not in: {args}");
        }
        assert!(args.ends_with("-L /share"));
        assert!(!args.contains("-S"));
        let args = Qemu::emulated("a").cpu("max").args(Path::new("/")).join(" ");
        assert!(args.contains("-accel tcg") && args.contains("-cpu max"));
    }

    #[test]
    fn qemu_shell_line_quotes_special_characters() {
        let line = Qemu::nested("it's, $HOME").binary("/bin/qemu").shell(Path::new("/my guest"));
        assert!(line.starts_with(r"/bin/qemu -name 'guest=it'\''s,, $HOME,debug-threads=on' "));
        assert!(line.contains(" -bios '/my guest/guest.rom' "));
    }
}

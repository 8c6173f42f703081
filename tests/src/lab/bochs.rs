//! The emulator with VMX: Bochs, from Debian packages that are unpacked but not installed. Kernel and initramfs go on
//! a bootable CD.
//!
//! The clock counts instructions, a hundred per microsecond, whatever the host does. Measurements in this lab are
//! therefore the same in each run.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    apt::AptArchive,
    cache::Workplace,
    error::{DuringIo, LabError, output},
    machine::{Guest, KERNEL_ARGUMENTS, Program},
};

/// Bochs with its terminal display, firmware, a boot loader, and a program that writes CDs.
const PACKAGES: [&str; 7] =
    ["bochs", "bochs-term", "bochsbios", "isolinux", "syslinux-common", "vgabios", "xorriso"];

/// Kernel parameters for Bochs: no self-tests of ciphers, which take longer than the rest of the boot, and a reboot
/// by a triple fault, which ends Bochs. None of them changes the cost of an exit; mitigations are as by default.
const BOOT_ARGUMENTS: &str = "cryptomgr.notests reboot=triple";

/// Message of Bochs when the machine powers off. It calls that a panic, too.
const SWITCHED_OFF: &str = "ACPI control: soft power off";

/// Files of the packages: those that the lab unpacked, or else those of the host.
#[derive(Debug)]
pub(super) struct Bochs {
    unpacked: PathBuf,
}

impl Bochs {
    /// Downloads packages that the host lacks, unless they are cached.
    pub(super) fn get(cache: &Path) -> Result<Self, LabError> {
        let unpacked = cache.join("bochs");
        if !unpacked.is_dir() {
            let work = Workplace::enter(cache)?;
            if !unpacked.is_dir() {
                let suite = AptArchive::of_this_machine()?.own(cache);
                suite.update()?;
                let tree = work.path("tree");
                fs::create_dir(&tree).during(|| format!("create {}", tree.display()))?;
                let missing = suite.missing(&PACKAGES)?;
                if !missing.is_empty() {
                    suite.unpack(&missing, &tree)?;
                }
                work.finish(&tree, &unpacked)?;
            }
        }
        // Bochs does not find plugins by relative paths.
        let unpacked =
            fs::canonicalize(&unpacked).during(|| format!("find {}", unpacked.display()))?;
        Ok(Self { unpacked })
    }

    /// Path of a file of one of the packages, from its path without the leading slash.
    fn file(&self, path: &str) -> Result<PathBuf, LabError> {
        let places = [&self.unpacked, Path::new("/")].map(|root| root.join(path));
        places.into_iter().find(|place| place.is_file()).ok_or_else(|| LabError::MissingFile {
            what: format!("/{path} of Debian's Bochs"),
            hint: format!("delete {} to have it unpacked again", self.unpacked.display()),
        })
    }

    /// Command that runs a program of one of the packages, with the path to its libraries.
    fn program(&self, path: &str) -> Result<Command, LabError> {
        let mut command = Command::new(self.file(path)?);
        command.env("LD_LIBRARY_PATH", self.unpacked.join("usr/lib/x86_64-linux-gnu"));
        Ok(command)
    }

    /// Writes the CD and the configuration for a guest into its directory, and returns the program to start.
    pub(super) fn prepare(&self, guest: &Guest<'_>) -> Result<Program, LabError> {
        let cd = guest.dir.join("cd");
        self.burn(guest, &cd)?;
        let settings = guest.dir.join("bochsrc");
        let log = guest.dir.join("log");
        fs::write(&settings, self.settings(guest, &cd, &log)?)
            .during(|| format!("write {}", settings.display()))?;
        // The debugger in Debian's Bochs waits for the command "continue".
        let debugger = guest.dir.join("debugger");
        fs::write(&debugger, "continue\n").during(|| format!("write {}", debugger.display()))?;

        let mut command = self.program("usr/bin/bochs-bin")?;
        command.arg("-q").arg("-f").arg(settings).arg("-rc").arg(debugger);
        command.env("LTDL_LIBRARY_PATH", self.plugins());
        // Bochs draws its screen on a pseudo-terminal that nobody reads, and stops when its buffer of some 20 kB
        // is full. On a terminal that can't hide its cursor there is no blinking (curs_set in Bochs's
        // gui/term.cc), and a screen of one character hardly changes.
        command.env("TERM", "vt100").env("LINES", "1").env("COLUMNS", "1");
        Ok(Program {
            name: "Bochs",
            command,
            boots_from: cd,
            switched_off: |_, said| said.contains(SWITCHED_OFF),
            complaints,
        })
    }

    /// Search path of Bochs's plugins. Debian has devices in separate packages, so there may be two places.
    fn plugins(&self) -> OsString {
        let directory = "usr/lib/x86_64-linux-gnu/bochs/plugins";
        let mut places = self.unpacked.join(directory).into_os_string();
        places.push(":/");
        places.push(directory);
        places
    }

    fn burn(&self, guest: &Guest<'_>, cd: &Path) -> Result<(), LabError> {
        let menu = guest.dir.join("isolinux.cfg");
        let text = format!(
            "DEFAULT lab\nLABEL lab\nKERNEL /vmlinuz\nINITRD /initrd\nAPPEND {KERNEL_ARGUMENTS} {BOOT_ARGUMENTS}\n"
        );
        fs::write(&menu, text).during(|| format!("write {}", menu.display()))?;
        let loader = self.file("usr/lib/ISOLINUX/isolinux.bin")?;
        let module = self.file("usr/lib/syslinux/modules/bios/ldlinux.c32")?;
        let files = [
            ("isolinux.bin", loader.as_path()),
            ("ldlinux.c32", &module),
            ("isolinux.cfg", &menu),
            ("vmlinuz", guest.vmlinuz),
            ("initrd", guest.initramfs),
        ];
        let mut xorriso = self.program("usr/bin/xorriso")?;
        xorriso.args(["-no_rc", "-as", "mkisofs", "-quiet", "-graft-points"]);
        xorriso.args(["-b", "isolinux.bin", "-c", "boot.cat", "-no-emul-boot"]);
        xorriso.args(["-boot-load-size", "4", "-boot-info-table", "-o"]).arg(cd);
        for (name, file) in files {
            let mut graft = OsString::from(format!("{name}="));
            graft.push(file);
            xorriso.arg(graft);
        }
        output(&mut xorriso)?;
        // The CD has a copy of it.
        fs::remove_file(guest.initramfs).during(|| format!("remove {}", guest.initramfs.display()))
    }

    fn settings(&self, guest: &Guest<'_>, cd: &Path, log: &Path) -> Result<String, LabError> {
        let bios = self.file("usr/share/bochs/BIOS-bochs-latest")?;
        let vga_bios = self.file("usr/share/vgabios/vgabios.bin")?;
        let mut text = format!(
            "megs: {memory}\n\
             cpu: model=corei7_haswell_4770, count=1, ips=100000000, reset_on_triple_fault=0\n\
             clock: sync=none, time0=utc\n\
             romimage: file=\"{bios}\", options=fastboot\n\
             vgaromimage: file=\"{vga_bios}\"\n\
             ata0-master: type=cdrom, path=\"{cd}\", status=inserted\n\
             boot: cdrom\n\
             display_library: term\n\
             log: {log}\n\
             panic: action=fatal\n\
             error: action=ignore\n\
             info: action=ignore\n",
            memory = guest.memory_mb,
            bios = bios.display(),
            vga_bios = vga_bios.display(),
            cd = cd.display(),
            log = log.display(),
        );
        for (number, port) in (1..).zip(&guest.ports) {
            text += &format!("com{number}: enabled=1, mode=file, dev=\"{}\"\n", port.display());
        }
        Ok(text)
    }
}

/// Bochs's last message, which says why it ended. Messages before it are about the host's sound card.
fn complaints(said: &str) -> String {
    let (_, reason) = said.rsplit_once("exiting with the following message:").unwrap_or(("", said));
    let lines = reason.lines().filter(|line| !line.starts_with("===") && !line.is_empty());
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bochs_log_yields_reason_of_end() {
        let said = "ALSA lib confmisc.c:855: cannot find card '0'\n=====\n\
                    Bochs is exiting with the following message:\n[CPU0  ] oh\n=====\n";
        assert_eq!(complaints(said), "[CPU0  ] oh");
        assert_eq!(complaints("bochs: not found\n"), "bochs: not found");
    }

    #[test]
    fn bochs_files_come_from_unpacked_packages() {
        let dir = tempfile::tempdir().unwrap();
        let bochs = Bochs { unpacked: dir.path().to_owned() };
        fs::write(dir.path().join("here"), "").unwrap();
        assert_eq!(bochs.file("here").unwrap(), dir.path().join("here"));
        assert_eq!(bochs.file("etc/os-release").unwrap(), Path::new("/etc/os-release"));
        assert!(matches!(bochs.file("nowhere"), Err(LabError::MissingFile { .. })));
    }
}

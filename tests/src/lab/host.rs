//! Programs of the host that also run in labs: their paths, their shared libraries and QEMU's firmware.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    process::Command,
};

use super::error::{DuringIo, LabError, output};

/// Firmware of a `pc`, `q35` or `microvm` machine with `-nodefaults -vga none`, including virtio-net's ROM.
const FIRMWARE: [&str; 11] = [
    "bios.bin",
    "bios-256k.bin",
    "bios-microvm.bin",
    "efi-virtio.rom",
    "kvmvapic.bin",
    "linuxboot.bin",
    "linuxboot_dma.bin",
    "multiboot.bin",
    "multiboot_dma.bin",
    "pvh.bin",
    "qboot.rom",
];

/// Firmware files that every nested guest needs.
const NEEDED_FIRMWARE: [&str; 3] = ["bios-256k.bin", "kvmvapic.bin", "linuxboot_dma.bin"];

/// Path of a program in `PATH`, `/usr/sbin` or `/sbin`.
pub(super) fn tool(name: &str, package: &'static str) -> Result<PathBuf, LabError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    places
        .map(|place| place.join(name))
        .find(|program| program.is_file())
        .ok_or_else(|| LabError::MissingTool { tool: name.to_owned(), package })
}

/// Path of the host's QEMU.
pub(super) fn qemu() -> Result<PathBuf, LabError> {
    tool("qemu-system-x86_64", "qemu-system-x86")
}

/// Paths of the firmware files, as QEMU finds them by default.
pub(super) fn firmware(qemu: &Path) -> Result<Vec<PathBuf>, LabError> {
    let places = output(Command::new(qemu).args(["-L", "help"]))?;
    let places = String::from_utf8_lossy(&places);
    let mut found = Vec::new();
    for name in FIRMWARE {
        // QEMU prints paths relative to its own directory ("/usr/bin/../share/qemu").
        let mut files = places.lines().map(|place| plain(&Path::new(place).join(name)));
        match files.find(|file| file.is_file()) {
            Some(file) => found.push(file),
            None if NEEDED_FIRMWARE.contains(&name) => {
                return Err(LabError::MissingFile {
                    what: format!("QEMU's {name}"),
                    hint: "install it with `apt-get install qemu-system-data seabios`".to_owned(),
                });
            }
            None => {}
        }
    }
    Ok(found)
}

/// A path without `..`, which does not work in an initramfs before its directories exist.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        if part == std::path::Component::ParentDir {
            plain.pop();
        } else {
            plain.push(part);
        }
    }
    plain
}

/// Path of the perf binary. In some releases `perf` is a script that runs `perf_VERSION`.
pub(super) fn perf() -> Result<PathBuf, LabError> {
    let perf = tool("perf", "linux-perf")?;
    if is_elf(&perf)? {
        return Ok(perf);
    }
    let mut versions: Vec<PathBuf> = fs::read_dir("/usr/bin")
        .during(|| "list /usr/bin".to_owned())?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"perf_"))
        })
        .filter(|path| is_elf(path).unwrap_or(false))
        .collect();
    versions.sort_by_key(|path| super::kernel::version_key(&path.to_string_lossy()));
    versions
        .pop()
        .ok_or(LabError::MissingTool { tool: "perf_VERSION".to_owned(), package: "linux-perf" })
}

fn is_elf(path: &Path) -> Result<bool, LabError> {
    let mut magic = [0; 4];
    let mut file = File::open(path).during(|| format!("open {}", path.display()))?;
    Ok(file.read_exact(&mut magic).is_ok() && magic == *b"\x7fELF")
}

/// Shared libraries and interpreter of a program; none for a static one.
pub(super) fn libraries(program: &Path) -> Result<Vec<PathBuf>, LabError> {
    if !is_elf(program)? {
        return Err(LabError::NotElf(program.display().to_string()));
    }
    let ldd = tool("ldd", "libc-bin")?;
    // Cargo sets LD_LIBRARY_PATH for tests. The lab does not have the libraries found by it.
    let mut command = Command::new(ldd);
    command.arg(program).env_remove("LD_LIBRARY_PATH").env("LC_ALL", "C");
    let listed = command.output().during(|| format!("run ldd {}", program.display()))?;
    let stderr = String::from_utf8_lossy(&listed.stderr);
    if !listed.status.success() && !stderr.contains("not a dynamic executable") {
        let command = format!("ldd {}", program.display());
        return Err(LabError::Command {
            command,
            status: listed.status,
            stderr: stderr.into_owned(),
        });
    }
    parse_ldd(&String::from_utf8_lossy(&listed.stdout)).map_err(|library| LabError::MissingFile {
        what: format!("{library}, which {} needs,", program.display()),
        hint: "install the package that has it".to_owned(),
    })
}

/// Paths in the output of `ldd`, or the name of a library that it has not found.
fn parse_ldd(text: &str) -> Result<Vec<PathBuf>, String> {
    let mut paths = Vec::new();
    for line in text.lines().map(str::trim) {
        let (name, target) = line.split_once(" => ").unwrap_or((line, line));
        if target == "not found" {
            return Err(name.to_owned());
        }
        // Lines for the vdso and "statically linked" have no path.
        let target = target.rsplit_once(" (0x").map_or(target, |(path, _)| path);
        if target.starts_with('/') {
            paths.push(PathBuf::from(target));
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ldd_of_a_dynamic_program() {
        let text = "\tlinux-vdso.so.1 (0x00007ffe)\n\
                    \tlibz.so.1 => /lib/x86_64-linux-gnu/libz.so.1 (0x00007f)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let paths = parse_ldd(text).unwrap();
        let expected = ["/lib/x86_64-linux-gnu/libz.so.1", "/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(paths, expected.map(PathBuf::from));
    }

    #[test]
    fn ldd_of_a_static_program() {
        assert_eq!(parse_ldd("\tstatically linked\n"), Ok(Vec::new()));
        assert_eq!(parse_ldd(""), Ok(Vec::new()));
    }

    #[test]
    fn ldd_of_a_broken_program() {
        assert_eq!(parse_ldd("\tlibx.so.3 => not found\n"), Err("libx.so.3".to_owned()));
    }

    #[test]
    fn host_paths_are_normalized() {
        assert_eq!(plain(Path::new("/usr/bin/../share/qemu/a")), Path::new("/usr/share/qemu/a"));
    }

    #[test]
    fn host_script_is_not_an_elf_program() {
        let script = tempfile::NamedTempFile::new().unwrap();
        fs::write(script.path(), "#!/bin/sh\n").unwrap();
        assert!(matches!(libraries(script.path()), Err(LabError::NotElf(_))));
    }

    #[test]
    fn host_missing_tool_names_its_package() {
        let error = tool("no-such-tool-here", "some-package").unwrap_err().to_string();
        assert!(error.contains("no-such-tool-here") && error.contains("some-package"), "{error}");
    }
}

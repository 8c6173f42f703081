//! Helpers to run other programs, and paths of the workspace.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, ExitCode, ExitStatus},
};

use anyhow::{Context as _, Result, bail};

/// Packages that build for the BPF target only.
pub const FOR_BPF: [&str; 2] = ["vmexit-ebpf", "vmexit-bench-ebpf"];

/// Returns the root directory of the workspace.
pub fn root() -> &'static Path {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest)
}

/// Returns cargo's target directory.
pub fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Returns a command for the cargo that runs this program, in the workspace's root.
pub fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root());
    cargo
}

/// Returns the path of the standard library's sources in the toolchain. It need not exist.
///
/// # Errors
///
/// rustc can't be run.
pub fn rust_library() -> Result<PathBuf> {
    let sysroot = stdout(Command::new("rustc").args(["--print", "sysroot"]).current_dir(root()))
        .context("rustc can't be run: install rustup from https://rustup.rs")?;
    Ok(Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library"))
}

/// Runs a command and passes its output through; returns its status.
///
/// # Errors
///
/// The program can't be started.
pub fn status(command: &mut Command) -> Result<ExitStatus> {
    let name = command.get_program().to_string_lossy().into_owned();
    command.status().with_context(|| format!("{name} can't be run"))
}

/// Runs a command and passes its output through.
///
/// # Errors
///
/// The program can't be started, or fails.
pub fn run(command: &mut Command) -> Result<()> {
    let status = status(command)?;
    if !status.success() {
        bail!("{} failed ({status})", line(command));
    }
    Ok(())
}

/// Returns the standard output of a command; none if it fails.
pub fn stdout(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}

/// Whether `PATH` has a program of this name.
pub fn has(program: &str) -> bool {
    env::var_os("PATH")
        .is_some_and(|path| env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

/// Whether this process runs as root.
pub fn is_root() -> bool {
    stdout(Command::new("id").arg("-u")).is_some_and(|id| id.trim() == "0")
}

/// Returns the command as a line for a shell, without quotes.
pub fn line(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut words = vec![program.file_name().unwrap_or_default().to_string_lossy()];
    words.extend(command.get_args().map(|word| word.to_string_lossy()));
    words.join(" ")
}

/// Returns a program's exit status as an exit code of this program.
pub fn exit_code(status: ExitStatus) -> ExitCode {
    status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}

//! `cargo xtask lab -- CMD`: runs a command in a stock kernel whose KVM reports exits, with vmexit and QEMU installed.
//! The AMD lab also has perf, if this machine has it or the command names it.

use std::{
    io::{Write as _, stderr, stdout},
    process::ExitCode,
    time::Duration,
};

use anyhow::Result;
use vmexit_tests::lab::{Lab, LabKernel, LabVendor, Stream, default_cache};
use xtask::{
    build,
    labs::{LabArgs, VendorArg},
    setup::{self, Need},
    tool::has,
};

use crate::matrix;

/// Exit code for a failure of the lab itself, not of the command.
const LAB_FAILED: u8 = 101;

/// Programs that every lab needs.
const NEEDS: [Need; 2] = [Need::Qemu, Need::Modules];

/// Runs the command, or the matrix of kernels.
///
/// # Errors
///
/// A need can't be set up, or the kernel is not in the archive. A failure in the lab is an exit code.
pub(crate) fn lab(args: &LabArgs) -> Result<ExitCode> {
    if args.matrix {
        return matrix::matrix();
    }
    if args.vendor == VendorArg::Amd && args.command.iter().any(|word| word.contains("perf")) {
        setup::programs(&[Need::Perf])?;
    }
    let lab = with_agent(args.kernel.as_deref())?.timeout(Duration::from_secs(args.timeout));
    let lab = match args.vendor {
        VendorArg::Amd if has("perf") => lab.vendor(LabVendor::Amd).perf(),
        VendorArg::Amd => lab.vendor(LabVendor::Amd),
        // perf would take minutes to start.
        VendorArg::Intel => lab.vendor(LabVendor::Intel),
    };
    match lab
        .run_streaming(&script(&args.command), |stream, bytes| forward(stream, bytes, args.console))
    {
        Ok(run) => Ok(ExitCode::from(u8::try_from(run.code).unwrap_or(1))),
        Err(error) => {
            eprintln!("xtask: the lab failed: {error}");
            Ok(ExitCode::from(LAB_FAILED))
        }
    }
}

/// Returns a lab with the agent, as `vmexit`, and QEMU. Its needs are set up and the agent is built first.
///
/// # Errors
///
/// A need can't be set up, the agent does not build, or the kernel is not in the archive.
pub(crate) fn with_agent(kernel: Option<&str>) -> Result<Lab> {
    setup::build()?;
    setup::programs(&NEEDS)?;
    let agent = build::agent(false)?;
    let kernel = LabKernel::find(&default_cache(), kernel)?;
    Ok(Lab::new(kernel).qemu().binary("/usr/bin/vmexit", agent))
}

/// Writes output of the lab to this process's output. A closed output is no error.
pub(crate) fn forward(stream: Stream, bytes: &[u8], console: bool) {
    let _ = match stream {
        Stream::Stdout => stdout().write_all(bytes).and_then(|()| stdout().flush()),
        Stream::Stderr => stderr().write_all(bytes),
        Stream::Console if console => stderr().write_all(bytes),
        Stream::Console => Ok(()),
    };
}

/// Returns the shell script of a command: one word is a script, several are quoted.
fn script(command: &[String]) -> String {
    match command {
        [line] => line.clone(),
        words => words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" "),
    }
}

/// Quotes a word for the shell.
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn script_quotes_several_words_and_keeps_one() {
        assert_eq!(script(&["echo a | wc".into()]), "echo a | wc");
        assert_eq!(script(&["echo".into(), "it's $HOME".into()]), r"'echo' 'it'\''s $HOME'");
    }
}

//! `cargo xtask lab -- CMD`: a command in a stock kernel whose KVM reports exits, with vmexit and QEMU on board.
//! The AMD lab has perf too, where this machine has it or the command names it.

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

/// Exit code that tells a lab that failed from a command that did.
const LAB_FAILED: u8 = 101;

/// Programs without which no lab runs.
const NEEDS: [Need; 2] = [Need::Qemu, Need::Modules];

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
        .run_streaming(&script(&args.command), |stream, bytes| pass_on(stream, bytes, args.console))
    {
        Ok(run) => Ok(ExitCode::from(u8::try_from(run.code).unwrap_or(1))),
        Err(error) => {
            eprintln!("xtask: the lab failed: {error}");
            Ok(ExitCode::from(LAB_FAILED))
        }
    }
}

/// A lab that has the agent, as `vmexit`, and QEMU for guests of its own; what it needs is set up first.
pub(crate) fn with_agent(kernel: Option<&str>) -> Result<Lab> {
    setup::build()?;
    setup::programs(&NEEDS)?;
    let agent = build::agent(false)?;
    let kernel = LabKernel::find(&default_cache(), kernel)?;
    Ok(Lab::new(kernel).qemu().binary("/usr/bin/vmexit", agent))
}

/// Passes output of the lab on; its reader may be gone.
pub(crate) fn pass_on(stream: Stream, bytes: &[u8], console: bool) {
    let _ = match stream {
        Stream::Stdout => stdout().write_all(bytes).and_then(|()| stdout().flush()),
        Stream::Stderr => stderr().write_all(bytes),
        Stream::Console if console => stderr().write_all(bytes),
        Stream::Console => Ok(()),
    };
}

/// The shell script of a command line: one word is a line already.
fn script(command: &[String]) -> String {
    match command {
        [line] => line.clone(),
        words => words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "),
    }
}

/// A word, quoted for the shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_words() {
        assert_eq!(script(&["echo a | wc".into()]), "echo a | wc");
        assert_eq!(script(&["echo".into(), "it's $HOME".into()]), r"'echo' 'it'\''s $HOME'");
    }
}

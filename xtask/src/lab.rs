//! `cargo xtask lab -- CMD`: a command in a stock kernel whose KVM reports exits, with vmexit and
//! QEMU on board, and on AMD perf too.

use std::{
    io::{Write as _, stderr, stdout},
    process::ExitCode,
    time::Duration,
};

use anyhow::Result;
use clap::ValueEnum;
use vmexit_tests::lab::{self, Lab, LabKernel, Stream, default_cache};

use crate::{build, matrix, setup};

/// Arguments of `cargo xtask lab`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask lab -- uname -a
  cargo xtask lab --kernel 6.12 -- vmexit --version
  cargo xtask lab --vendor intel -- grep -m1 'vmx flags' /proc/cpuinfo
  cargo xtask lab -- 'ls /sys/kernel/tracing/events/kvm | wc -l'

The command's exit code is returned; 101 means that the lab itself failed.")]
pub(crate) struct Args {
    /// Whose virtualization the CPU has
    #[arg(long, value_enum, default_value_t)]
    vendor: Vendor,

    /// Newest kernel of Debian's whose version begins so, such as 6.12 [default: that of this
    /// machine's Debian release]
    #[arg(long, value_name = "VERSION")]
    kernel: Option<String>,

    /// Give up after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    timeout: u64,

    /// Show the kernel's console too
    #[arg(long)]
    console: bool,

    /// Instead of a command: the labs' tests, on every kernel that matters
    #[arg(long, conflicts_with_all = ["command", "kernel", "vendor"])]
    matrix: bool,

    /// The command; one word is taken as a line for the shell
    #[arg(last = true, required_unless_present = "matrix")]
    command: Vec<String>,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum Vendor {
    /// SVM, in QEMU; the faster lab, with perf on board
    #[default]
    Amd,
    /// VMX, in Bochs; its clock counts instructions, so times are the same run after run
    Intel,
}

/// What tells a lab that failed from a command that did.
const LAB_FAILED: u8 = 101;

pub(crate) fn lab(args: &Args) -> Result<ExitCode> {
    setup::lab()?;
    if args.matrix {
        return matrix::matrix();
    }
    let lab = with_agent(args.kernel.as_deref())?.timeout(Duration::from_secs(args.timeout));
    let lab = match args.vendor {
        Vendor::Amd => lab.vendor(lab::LabVendor::Amd).perf(),
        // perf would take minutes to start.
        Vendor::Intel => lab.vendor(lab::LabVendor::Intel),
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

/// A lab that has the agent, as `vmexit`, and QEMU for guests of its own.
pub(crate) fn with_agent(kernel: Option<&str>) -> Result<Lab> {
    let agent = build::agent(false)?;
    let kernel = LabKernel::find(&default_cache(), kernel)?;
    Ok(Lab::new(kernel).qemu().binary("/usr/bin/vmexit", agent))
}

/// Passes on what the lab says; who reads may have gone.
pub(crate) fn pass_on(stream: Stream, bytes: &[u8], console: bool) {
    let _ = match stream {
        Stream::Stdout => stdout().write_all(bytes).and_then(|()| stdout().flush()),
        Stream::Stderr => stderr().write_all(bytes),
        Stream::Console if console => stderr().write_all(bytes),
        Stream::Console => Ok(()),
    };
}

fn script(command: &[String]) -> String {
    match command {
        [line] => line.clone(),
        words => words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "),
    }
}

/// As the shell takes it for one word.
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

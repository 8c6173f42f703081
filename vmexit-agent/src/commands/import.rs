//! `vmexit import`: measurements of another program as a report or a recording.

use std::{
    fs::File,
    io::{self, BufReader},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use vmexit_core::{
    import::{self, ImportError, Imported},
    units::plural,
};

use crate::{
    args::{TableArgs, WrittenArgs, heading::TARGET},
    error::Error,
    output::{self, Output},
    session::recorded,
};

/// Arguments of `vmexit import`.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// Program whose measurements to import
    #[command(subcommand)]
    pub(crate) from: ImportFrom,
}

/// Programs whose measurements can be imported.
#[derive(Debug, Subcommand)]
pub(crate) enum ImportFrom {
    /// Text of perf script with the events of perf kvm stat record
    Perf(ImportPerfArgs),
}

/// Arguments of `vmexit import perf`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ImportPerfArgs {
    /// Text of perf script; - for standard input
    pub(crate) file: PathBuf,

    /// VM to import, by process ID, if the text has it; can be repeated [default: all]
    #[arg(long = "vm", value_name = "PID", help_heading = TARGET)]
    pub(crate) vms: Vec<String>,

    #[command(flatten)]
    pub(crate) written: WrittenArgs,

    #[command(flatten)]
    pub(crate) tables: TableArgs,
}

const EXAMPLES: &str = "\
Examples:
  perf kvm stat record -a -o perf.data sleep 10
  perf script --header -F +pid --ns --show-lost-events -i perf.data > perf.txt
  vmexit import perf perf.txt                      tables
  vmexit import perf perf.txt -o before.vmexit     a recording, for report, diff
  perf script -i perf.data | vmexit import perf -  without a file

-F +pid separates VMs, --ns prints times in nanoseconds, --header names the host, --show-lost-events counts the events that perf lost. Events read: kvm_exit, kvm_entry, kvm_pio, kvm_mmio, and kvm_msr, which older versions of perf do not record.";

pub(super) async fn run(args: ImportArgs) -> Result<(), Error> {
    let ImportFrom::Perf(args) = args.from;
    perf(args).await
}

async fn perf(args: ImportPerfArgs) -> Result<(), Error> {
    let output = Output::for_measurement(&args.written).await?;
    let imported =
        read(&args.file).map_err(|source| Error::Import { path: args.file.clone(), source })?;
    warn_of_omissions(&imported);
    let mut recording = imported.recording;
    recorded::filter(&mut recording, &args.vms, &[])?;
    output.write(output::render(&recording, args.written.format(), &args.tables.options())?).await
}

fn read(path: &Path) -> Result<Imported, ImportError> {
    if path == Path::new("-") {
        import::perf(io::stdin().lock())
    } else {
        import::perf(BufReader::new(File::open(path)?))
    }
}

/// Logs warnings about parts of the text that the recording lacks.
fn warn_of_omissions(imported: &Imported) {
    if let Some(example) = &imported.example {
        let lines = plural(imported.unparsed_lines, "line");
        log::warn!("{lines} can't be parsed, the first is '{example}'");
    }
    if imported.ignored_events > 0 {
        log::warn!("{} of other types ignored", plural(imported.ignored_events, "KVM event"));
    }
    if imported.unknown_reasons > 0 {
        let exits = plural(imported.unknown_reasons, "exit");
        log::warn!("{exits} counted as 'other': this version of vmexit does not know the reasons");
    }
    if !imported.has_pids {
        log::warn!(
            "the text has no process IDs, so all threads count as one VM: use perf script -F +pid"
        );
    }
}

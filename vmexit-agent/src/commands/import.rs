//! `vmexit import`: what another program has measured, shown or written as if vmexit had.

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
    output::{Output, written},
    session::recorded,
};

/// Arguments of `vmexit import`.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// From what.
    #[command(subcommand)]
    pub(crate) from: ImportFrom,
}

/// What can be imported.
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

    /// VM to import, by process id, where the text has it; can be repeated [default: all]
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
  vmexit import perf perf.txt                          tables
  vmexit import perf perf.txt -o before.vmexit         a recording, for vmexit report and diff
  perf script -i perf.data | vmexit import perf -      without a file

-F +pid tells VMs apart, --ns has times in nanoseconds, --header names the host, --show-lost-events counts what perf lost. Events read: kvm_exit, kvm_entry, kvm_pio, kvm_mmio, kvm_msr; older perfs do not record the last.";

pub(super) async fn run(args: ImportArgs) -> Result<(), Error> {
    let ImportFrom::Perf(args) = args.from;
    perf(args).await
}

async fn perf(args: ImportPerfArgs) -> Result<(), Error> {
    let output = Output::of(&args.written).await?;
    let imported =
        read(&args.file).map_err(|source| Error::Import { path: args.file.clone(), source })?;
    warn_of(&imported);
    let mut recording = imported.recording;
    recorded::keep(&mut recording, &args.vms, &[])?;
    output.write(written(&recording, args.written.format(), &args.tables.options())?).await
}

fn read(path: &Path) -> Result<Imported, ImportError> {
    if path == Path::new("-") {
        import::perf(io::stdin().lock())
    } else {
        import::perf(BufReader::new(File::open(path)?))
    }
}

/// Says what of the text is not in the recording.
fn warn_of(imported: &Imported) {
    if let Some(example) = &imported.example {
        let lines = plural(imported.unparsed_lines, "line");
        log::warn!("not understood: {lines}, the first of which is '{example}'");
    }
    if imported.ignored_events > 0 {
        log::warn!("passed over: {} of other kinds", plural(imported.ignored_events, "KVM event"));
    }
    if imported.unknown_reasons > 0 {
        let exits = plural(imported.unknown_reasons, "exit");
        log::warn!("on 'other': {exits}, for reasons that this vmexit has no names for");
    }
    if !imported.has_pids {
        log::warn!(
            "which process a thread is of is not in the text, so all are shown as one VM's: perf script -F +pid has it"
        );
    }
}

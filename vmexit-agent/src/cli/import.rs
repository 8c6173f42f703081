//! `vmexit import`: what another program has measured, shown or written as if vmexit had.

use std::{
    fs::File,
    io::{self, BufReader},
    path::Path,
};

use super::{
    args::{ImportArgs, ImportFrom, ImportPerfArgs},
    error::Error,
    output::Output,
    report,
};
use crate::{
    import::{self, ImportError, Imported},
    view::units::plural,
};

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
    report::keep(&mut recording, &args.vms, &[])?;
    output.write(report::written(&recording, args.written.format(), args.tables.layout())?).await
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
        let lines = plural(imported.not_understood, "line");
        log::warn!("not understood: {lines}, the first of which is '{example}'");
    }
    if imported.passed_over > 0 {
        log::warn!("passed over: {} of other kinds", plural(imported.passed_over, "KVM event"));
    }
    if imported.unnamed > 0 {
        let exits = plural(imported.unnamed, "exit");
        log::warn!("on 'other': {exits}, for reasons that this vmexit has no names for");
    }
    if !imported.has_pids {
        log::warn!(
            "which process a thread is of is not in the text, so all are shown as one VM's: perf script -F +pid has it"
        );
    }
}

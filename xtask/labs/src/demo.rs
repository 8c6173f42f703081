//! `cargo xtask demo`: a bundled guest with known exits runs under KVM, and vmexit captures it; on this host
//! where its KVM reports exits, else in the lab.

use std::{path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use vmexit_tests::guest::{BareGuest, Qemu, RunningGuest, kvm_usable};
use xtask::{
    build,
    labs::DemoArgs,
    setup::{self, Need},
    tool::{is_root, run},
};

use crate::lab;

/// Name of the guest.
const NAME: &str = "demo";

/// Longest time from the guest's start to its first round.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn demo(args: &DemoArgs) -> Result<()> {
    setup::build()?;
    setup::programs(&[Need::Qemu])?;
    setup::tracefs()?;
    let agent = build::agent(false)?;
    if !args.lab {
        match here(&agent) {
            Ok(guest) => {
                run(Command::new(&agent)
                    .args(["capture", "--vm", &guest.pid().to_string()])
                    .args(["--duration", &args.duration]))?;
                return Ok(());
            }
            Err(error) => eprintln!("demo: not here, but in the lab: {error:#}\n"),
        }
    }
    in_lab(&args.duration)
}

/// The guest on this host's KVM, which must report exits.
fn here(agent: &Path) -> Result<RunningGuest> {
    kvm_usable()?;
    if !is_root() {
        bail!("tracing needs root");
    }
    let mut guest = Qemu::native(NAME).start(&BareGuest::demo())?;
    guest.wait_dots(1, PATIENCE)?;
    let mut probe = Command::new(agent);
    probe.args(["capture", "--quiet", "--duration", "1s", "--format", "json"]);
    let output = probe.output().context("vmexit can't be run")?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let report: Value = serde_json::from_slice(&output.stdout).context("vmexit's report")?;
    match report["source"].as_str() {
        Some("exits") => Ok(guest),
        _ => bail!("this host's KVM does not emit kvm_exit"),
    }
}

fn in_lab(duration: &str) -> Result<()> {
    let directory = Path::new("/tmp");
    let lab = lab::with_agent(None)?
        .file(format!("/tmp/{}", Qemu::ROM), BareGuest::demo().rom(), 0o644)
        .timeout(Duration::from_secs(300));
    let start_guest = Qemu::nested(NAME).shell(directory);
    let serial = directory.join(Qemu::SERIAL);
    let script = format!(
        "{start_guest} &\n\
         while ! grep -q '\\.' {serial} 2>/dev/null; do sleep 0.2; done\n\
         vmexit capture --quiet --duration {duration}\n",
        serial = serial.display(),
    );
    eprintln!("demo: booting a Debian kernel with SVM, all emulated; the times are the emulator's");
    let run = lab.run_streaming(&script, |stream, bytes| lab::pass_on(stream, bytes, false))?;
    if run.code != 0 {
        bail!("vmexit ended with {} in the lab", run.code);
    }
    Ok(())
}

//! `cargo xtask demo`: runs a bundled guest with known exits under KVM and captures it with vmexit. It uses this host
//! if its KVM reports exits, else the lab.

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

/// Time limit from the guest's start to its first round.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Runs the demonstration.
///
/// # Errors
///
/// A need can't be set up, or a program that is run fails.
pub(crate) fn demo(args: &DemoArgs) -> Result<()> {
    setup::build()?;
    setup::programs(&[Need::Qemu])?;
    setup::tracefs()?;
    let agent = build::agent(false)?;
    if !args.lab {
        match start_on_host(&agent) {
            Ok(guest) => {
                run(Command::new(&agent)
                    .args(["capture", "--vm", &guest.pid().to_string()])
                    .args(["--duration", &args.duration]))?;
                return Ok(());
            }
            Err(error) => eprintln!("demo: in the lab, not on this host: {error:#}\n"),
        }
    }
    in_lab(&args.duration)
}

/// Starts the guest on this host's KVM.
///
/// # Errors
///
/// KVM can't be used or does not report exits, or this is not root.
fn start_on_host(agent: &Path) -> Result<RunningGuest> {
    kvm_usable()?;
    if !is_root() {
        bail!("tracing needs root");
    }
    let mut guest = Qemu::native(NAME).start(&BareGuest::demo())?;
    guest.wait_dots(1, START_TIMEOUT)?;
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

/// Runs the guest and vmexit in the lab.
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
    eprintln!(
        "demo: booting a Debian kernel on an emulated CPU with SVM; the times are the emulator's"
    );
    let run = lab.run_streaming(&script, |stream, bytes| lab::forward(stream, bytes, false))?;
    if run.code != 0 {
        bail!("vmexit exited with {} in the lab", run.code);
    }
    Ok(())
}

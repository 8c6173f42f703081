//! `cargo xtask bench`: what watching a guest's exits adds to each, vmexit beside other ways to do it,
//! by the instruction clock of the Intel lab.

use std::{fmt::Write as _, path::Path, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use vmexit_tests::{
    guest::{BareGuest, Qemu},
    lab::{Kernel, Lab, Vendor, default_cache},
};

use crate::{
    build,
    lab::pass_on,
    setup,
    tool::{cargo, run, target},
};

/// Arguments of `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long to measure each way of watching, in the lab's seconds
    #[arg(long, value_name = "N", default_value_t = 4)]
    seconds: u32,

    /// Newest kernel of Debian's whose version begins so [default: that of this machine's Debian
    /// release]
    #[arg(long, value_name = "VERSION")]
    kernel: Option<String>,
}

/// The modes of `vmexit-bench` that need no command; the first is what all are compared with.
const MODES: [&str; 6] = ["nothing", "floor", "floor-classic", "bcc", "bpftrace", "raw-naive"];

/// vmexit's own ways to count.
const OPTIONS: [&str; 4] = ["", "--timing 1/16", "--timing off", "--tracepoints classic"];

/// The lab's seconds that a measurement takes besides.
const AROUND: u32 = 6;

/// Seconds outside for one inside, at most.
const SLOWDOWN: u32 = 10;

pub(crate) fn bench(args: &Args) -> Result<ExitCode> {
    setup::all()?;
    let agent = build::agent(true)?;
    run(cargo().args(["build", "--release", "--package", "vmexit-bench"]))?;
    // HLT would make times those of the guest's timer.
    let guest = BareGuest { msr_read: 0, ..BareGuest::demo() }.without_hlt();
    let inside = (args.seconds + AROUND) * (MODES.len() + OPTIONS.len()) as u32;
    let lab = Lab::new(Kernel::find(&default_cache(), args.kernel.as_deref())?)
        .vendor(Vendor::Intel)
        .qemu()
        .binary("/usr/bin/vmexit", agent)
        .binary("/usr/bin/vmexit-bench", target().join("release/vmexit-bench"))
        .file(format!("/tmp/{}", Qemu::ROM), guest.rom(), 0o644)
        .timeout(Duration::from_secs((300 + inside * SLOWDOWN).into()));
    let outcome =
        lab.run_streaming(&script(args.seconds), |stream, bytes| pass_on(stream, bytes, false))?;
    if outcome.code != 0 {
        bail!("a measurement failed in the lab");
    }
    println!("\n{}", table(&String::from_utf8_lossy(&outcome.stdout))?);
    Ok(ExitCode::SUCCESS)
}

/// One guest, and all ways of watching it one after the other: a heading and a line of JSON each.
fn script(seconds: u32) -> String {
    let directory = Path::new("/tmp");
    let serial = directory.join(Qemu::SERIAL).display().to_string();
    // The emulated CPU is so old that KVM flushes its cache by a loop on entries from userspace. At
    // 36 µs that would be the most of an exit.
    let mut script = format!(
        "set -e\n\
         echo never > /sys/module/kvm_intel/parameters/vmentry_l1d_flush\n\
         {guest} > /tmp/qemu.log 2>&1 &\n\
         until grep -q '\\.' {serial} 2> /dev/null; do sleep 0.2; done\n\
         bench() {{ vmexit-bench --seconds {seconds} --serial {serial} \"$@\"; }}\n",
        guest = Qemu::nested("bench").shell(directory),
    );
    for mode in MODES {
        let _ = writeln!(script, "echo '== {mode}'; bench {mode}");
    }
    for options in OPTIONS {
        let name = name(options);
        let _ = writeln!(
            script,
            "echo '== {name}'; bench command -- vmexit capture -q -d 1h -o /dev/null {options}"
        );
    }
    script
}

fn name(options: &str) -> String {
    format!("vmexit {options}").trim_end().to_owned()
}

/// What each adds to an exit, and how much of that is an agent's own threads: they would be elsewhere
/// on a machine with more CPUs than the lab's one.
fn table(output: &str) -> Result<String> {
    let mut table =
        format!("{:30}{:>12}{:>10}{:>16}\n", "", "ns per exit", "added", "by own threads");
    let mut base = None;
    let mut lines = output.lines();
    while let Some(line) = lines.next() {
        let Some(name) = line.strip_prefix("== ") else { continue };
        let measured = lines.next().with_context(|| format!("{name} was not measured"))?;
        let measured: Value = serde_json::from_str(measured).context(name.to_owned())?;
        let ns = measured["ns_per_exit"].as_f64().with_context(|| format!("{name}: no exits"))?;
        let added = ns - *base.get_or_insert(ns);
        let _ = write!(table, "{name:30}{ns:12.0}{added:10.0}");
        if let (Some(own), Some(exits)) =
            (measured["command_cpu_ns"].as_f64(), measured["exits"].as_f64())
        {
            let _ = write!(table, "{:16.0}", own / exits);
        }
        table.push('\n');
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_compared_with_nothing() {
        let output = "== nothing\n{\"ns_per_exit\":48000.4,\"exits\":5,\"command_cpu_ns\":null}\n\
                      == vmexit\n{\"ns_per_exit\":50500,\"exits\":5,\"command_cpu_ns\":2000}\n";
        let table = table(output).unwrap();
        let rows: Vec<Vec<&str>> =
            table.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows, [vec!["nothing", "48000", "0"], vec!["vmexit", "50500", "2500", "400"]]);
    }

    #[test]
    fn what_was_not_measured_is_an_error() {
        assert!(table("== nothing\n").is_err());
        assert!(table("== nothing\n{\"ns_per_exit\":null}\n").is_err());
    }

    #[test]
    fn every_way_has_its_heading() {
        let script = script(4);
        assert!(script.contains("echo '== bcc'; bench bcc\n"));
        assert!(script.contains("echo '== vmexit --timing off'; bench command -- vmexit capture "));
    }
}

//! Runs of the tracing methods, one after the other, in a lab whose clock counts instructions.

use std::{fmt::Write as _, path::Path, time::Duration};

use anyhow::{Result, ensure};
use vmexit_tests::{
    guest::{BareGuest, Qemu},
    lab::{Lab, LabKernel, LabVendor, default_cache},
};

use super::{
    BenchArgs, BenchPrograms,
    costs::table,
    methods::{self, PERF, TracingMethod},
};
use crate::lab::forward;

/// Time that a measurement takes besides its length, seconds of the lab.
const OVERHEAD_SECONDS: u32 = 8;

/// Returns the table of vmexit and the methods of other tools, from the Intel lab.
///
/// # Errors
///
/// The lab or a measurement in it fails.
pub(super) fn exits(args: &BenchArgs, programs: &BenchPrograms) -> Result<String> {
    let methods = methods::beside_others();
    let output = run(LabVendor::Intel, &methods, args, programs)?;
    let heading = "Added to each exit (Intel lab: 10 ns are one instruction)";
    table(heading, &methods, &output, None, 1.0)
}

/// Returns the table of vmexit and perf, from the AMD lab.
///
/// # Errors
///
/// The lab or a measurement in it fails.
pub(super) fn perf(args: &BenchArgs, programs: &BenchPrograms) -> Result<String> {
    let methods = methods::beside_perf();
    let output = run(LabVendor::Amd, &methods, args, programs)?;
    let heading = "Added to each exit, beside perf (AMD lab: 8 ns are one instruction)";
    table(heading, &methods, &output, Some(PERF), 8.0)
}

/// Returns the guest: the exits of the demonstration, except HLT, whose time is that of the guest's timer. Rounds are
/// long, because the guest prints its clock's figures after each, with one exit per letter.
fn guest() -> BareGuest {
    BareGuest {
        pm_timer_in: 1_000,
        rtc_out: 100,
        rtc_in: 100,
        cpuid: 100,
        clock: true,
        ..BareGuest::default()
    }
}

/// Runs the methods in a lab and returns its standard output.
fn run(
    vendor: LabVendor,
    methods: &[TracingMethod],
    args: &BenchArgs,
    programs: &BenchPrograms,
) -> Result<String> {
    let guest = guest();
    let inside = (args.seconds + OVERHEAD_SECONDS) * methods.len() as u32;
    let slowdown = match vendor {
        LabVendor::Amd => 4,
        LabVendor::Intel => 10,
    };
    let lab = Lab::new(LabKernel::find(&default_cache(), args.kernel.as_deref())?)
        .vendor(vendor)
        .instruction_clock()
        .qemu()
        .binary("/usr/bin/vmexit", &programs.agent)
        .binary("/usr/bin/vmexit-bench", &programs.bench)
        .file(format!("/tmp/{}", Qemu::ROM), guest.rom(), 0o644)
        .timeout(Duration::from_secs((300 + inside * slowdown).into()));
    let lab = match vendor {
        LabVendor::Amd => lab.perf(),
        LabVendor::Intel => lab,
    };
    let script = script(methods, args.seconds);
    let outcome = lab.run_streaming(&script, |stream, bytes| forward(stream, bytes, false))?;
    ensure!(outcome.code == 0, "a measurement failed in the lab");
    Ok(String::from_utf8_lossy(&outcome.stdout).into_owned())
}

/// Returns the script that runs a guest and then the methods, and prints a heading and a line of JSON for each.
fn script(methods: &[TracingMethod], seconds: u32) -> String {
    let directory = Path::new("/tmp");
    let serial = directory.join(Qemu::SERIAL).display().to_string();
    // The Intel lab's CPU is so old that KVM flushes its cache in a loop on each entry from userspace: 36 µs, most
    // of an exit. Ten seconds after the guest's start, its memory would be copied into huge pages, in the middle of
    // a measurement.
    let mut script = format!(
        "set -e\n\
         flush=/sys/module/kvm_intel/parameters/vmentry_l1d_flush\n\
         if [ -e $flush ]; then echo never > $flush; fi\n\
         echo never > /sys/kernel/mm/transparent_hugepage/enabled\n\
         {guest} > /tmp/qemu.log 2>&1 &\n\
         until grep -q '\\.' {serial} 2> /dev/null; do sleep 0.2; done\n\
         bench() {{ vmexit-bench --seconds {seconds} --serial {serial} \"$@\"; }}\n",
        guest = Qemu::nested("bench").shell(directory),
    );
    for TracingMethod { name, arguments, .. } in methods {
        let _ = writeln!(script, "echo '== {name}'; bench {arguments}");
    }
    script
}

#[cfg(test)]
mod tests {
    use vmexit_tests::guest::{PortDirection, address};

    use super::*;

    #[test]
    fn guest_prints_with_under_2_percent_of_exits() {
        let round = guest().per_round();
        let printing = round.ports[&(address::SERIAL, PortDirection::Out)].exits;
        assert!(printing * 50 < round.total());
    }

    #[test]
    fn script_has_heading_of_every_method() {
        let script = script(&methods::beside_others(), 4);
        assert!(script.contains("echo '== bcc'; bench bcc\n"));
        assert!(script.contains("echo '== vmexit --timing off'; bench command -- vmexit capture "));
    }
}

//! All ways of watching, one after the other, in a lab whose clock counts instructions.

use std::{fmt::Write as _, path::Path, time::Duration};

use anyhow::{Result, ensure};
use vmexit_tests::{
    guest::{BareGuest, Qemu},
    lab::{Kernel, Lab, Vendor, default_cache},
};

use super::{
    Args, Programs,
    costs::table,
    ways::{self, PERF, Way},
};
use crate::lab::pass_on;

/// The lab's seconds that a measurement takes besides.
const AROUND: u32 = 8;

/// vmexit beside other tools' ways.
pub(super) fn exits(args: &Args, programs: &Programs) -> Result<String> {
    let ways = ways::beside_others();
    let output = run(Vendor::Intel, &ways, args, programs)?;
    table("Added to each exit (Intel lab: 10 ns are one instruction)", &ways, &output, None)
}

/// vmexit beside perf.
pub(super) fn perf(args: &Args, programs: &Programs) -> Result<String> {
    let ways = ways::beside_perf();
    let output = run(Vendor::Amd, &ways, args, programs)?;
    table(
        "Added to each exit, beside perf (AMD lab: 8 ns are one instruction)",
        &ways,
        &output,
        Some(PERF),
    )
}

/// What the lab said.
fn run(vendor: Vendor, ways: &[Way], args: &Args, programs: &Programs) -> Result<String> {
    // HLT would make times those of the guest's timer.
    let guest = BareGuest { msr_read: 0, ..BareGuest::demo() }.without_hlt();
    let inside = (args.seconds + AROUND) * ways.len() as u32;
    let slowdown = match vendor {
        Vendor::Amd => 4,
        Vendor::Intel => 10,
    };
    let lab = Lab::new(Kernel::find(&default_cache(), args.kernel.as_deref())?)
        .vendor(vendor)
        .instruction_clock()
        .qemu()
        .binary("/usr/bin/vmexit", &programs.agent)
        .binary("/usr/bin/vmexit-bench", &programs.bench)
        .file(format!("/tmp/{}", Qemu::ROM), guest.rom(), 0o644)
        .timeout(Duration::from_secs((300 + inside * slowdown).into()));
    let lab = match vendor {
        Vendor::Amd => lab.perf(),
        Vendor::Intel => lab,
    };
    let script = script(ways, args.seconds);
    let outcome = lab.run_streaming(&script, |stream, bytes| pass_on(stream, bytes, false))?;
    ensure!(outcome.code == 0, "a measurement failed in the lab");
    Ok(String::from_utf8_lossy(&outcome.stdout).into_owned())
}

/// One guest, and all ways of watching it one after the other: a heading and a line of JSON each.
fn script(ways: &[Way], seconds: u32) -> String {
    let directory = Path::new("/tmp");
    let serial = directory.join(Qemu::SERIAL).display().to_string();
    // The Intel lab's CPU is so old that KVM flushes its cache by a loop on entries from userspace. At
    // 36 µs that would be the most of an exit. And ten seconds after its start the guest's memory would
    // be copied into huge pages, in the middle of one of the measurements.
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
    for Way { name, arguments, .. } in ways {
        let _ = writeln!(script, "echo '== {name}'; bench {arguments}");
    }
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_has_its_heading() {
        let script = script(&ways::beside_others(), 4);
        assert!(script.contains("echo '== bcc'; bench bcc\n"));
        assert!(script.contains("echo '== vmexit --timing off'; bench command -- vmexit capture "));
    }
}

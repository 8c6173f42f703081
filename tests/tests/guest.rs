//! Bare guests on this machine's KVM.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result};
use vmexit_tests::guest::{
    AtEnd, BareGuest, GuestClock, Qemu, QemuMachine, kvm_usable, vcpus::Vcpus,
};

const PATIENCE: Duration = Duration::from_secs(60);
const ROUNDS: u32 = 10;

/// Runs a guest from a paused start to its power-off, and demands one dot per round.
fn run(qemu: &Qemu, guest: BareGuest) -> Result<()> {
    let guest = guest.rounds(ROUNDS).at_end(AtEnd::PowerOff);
    let mut running = qemu.clone().paused().start(&guest)?;
    running.qmp()?;
    assert_eq!(running.dots(), 0, "a paused guest does not run");
    running.resume()?;
    let status = running.wait_exit(PATIENCE).with_context(|| {
        format!("{qemu:?}: {} of {ROUNDS} dots; QEMU said: {}", running.dots(), running.log())
    })?;
    assert_eq!(status.code(), Some(1), "isa-debug-exit ends QEMU; it said: {}", running.log());
    assert_eq!(running.dots(), u64::from(ROUNDS));
    Ok(())
}

#[test]
fn kvm_is_usable() -> Result<()> {
    kvm_usable().context("tests with real guests cannot run")
}

#[test]
fn sampler_guest_on_kvm_runs_to_power_off() -> Result<()> {
    for machine in [QemuMachine::Pc, QemuMachine::Q35] {
        run(&Qemu::native("sampler").machine(machine), BareGuest::sampler())?;
    }
    Ok(())
}

#[test]
fn sampler_guest_without_kvm_runs_to_power_off() -> Result<()> {
    for machine in [QemuMachine::Pc, QemuMachine::Q35] {
        run(&Qemu::emulated("sampler").machine(machine), BareGuest::sampler().without_hlt())?;
    }
    Ok(())
}

#[test]
fn guest_clock_prints_cycles_of_each_round() -> Result<()> {
    let measured = |guest: BareGuest| -> Result<GuestClock> {
        let mut running = Qemu::native("clock").start(&guest.rounds(ROUNDS))?;
        running.wait_dots(u64::from(ROUNDS), PATIENCE)?;
        Ok(GuestClock::of(&fs::read(running.directory().join(Qemu::SERIAL))?))
    };
    let guest = BareGuest { pm_timer_in: 50, cpuid: 50, clock: true, ..BareGuest::default() };
    let GuestClock { pm_timer_in: Some(read), cpuid: Some(cpuid) } = measured(guest)? else {
        anyhow::bail!("the guest printed no figures");
    };
    // An exit takes longer than a few instructions, and one to QEMU longer than one to KVM.
    assert!(cpuid > 100 && read > cpuid && read < 1 << 30, "{read} and {cpuid} cycles");
    let of_nothing = measured(BareGuest { cpuid: 0, ..guest })?;
    assert_eq!(of_nothing.cpuid, None);
    assert!(of_nothing.pm_timer_in.is_some());
    assert_eq!(measured(BareGuest { clock: false, ..guest })?, GuestClock::default());
    Ok(())
}

#[test]
fn demo_guest_pauses_and_resumes() -> Result<()> {
    let mut running = Qemu::native("demo").vcpus(2).start(&BareGuest::demo())?;
    running.wait_dots(5, PATIENCE)?;
    running.pause()?;
    let dots = running.dots();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(running.dots(), dots, "a paused guest does not run");
    running.resume()?;
    running.wait_dots(dots + 5, PATIENCE)?;
    Ok(())
}

#[test]
fn halted_guest_stays_until_dropped() -> Result<()> {
    let mut running = Qemu::native("halt").start(&BareGuest::pm_timer(10).rounds(3))?;
    assert_eq!(running.wait_dots(3, PATIENCE)?, 3);
    let process = format!("/proc/{}", running.pid());
    let directory = running.directory().to_owned();
    assert!(running.wait_exit(Duration::from_millis(100)).is_err());
    drop(running);
    assert!(!Path::new(&process).exists());
    assert!(!directory.exists());
    Ok(())
}

#[test]
fn qemu_start_failure_reports_its_cause() -> Result<()> {
    let mut running = Qemu::native("broken").arg("-no-such-option").start(&BareGuest::demo())?;
    let error = running.wait_dots(1, PATIENCE).unwrap_err().to_string();
    assert!(error.contains("no-such-option"), "{error}");
    Ok(())
}

#[test]
fn pm_timer_is_mapped_at_configured_port() -> Result<()> {
    for machine in [QemuMachine::Pc, QemuMachine::Q35] {
        let mut running =
            Qemu::native("timer").machine(machine).start(&BareGuest::pm_timer(10).rounds(1))?;
        running.wait_dots(1, PATIENCE)?;
        let tree = running.qmp()?.human("info mtree -f")?;
        let line = tree.lines().find(|line| line.contains("acpi-tmr")).unwrap_or_default();
        assert!(line.contains("0000000000000608-"), "{machine:?}: {line}");
    }
    Ok(())
}

#[test]
fn vcpus_program_runs_eight_per_vm_and_ends_all() -> Result<()> {
    let vcpus = Vcpus::start(Path::new(env!("CARGO_BIN_EXE_vmexit-vcpus")), 19)?;
    let list = |path: String| fs::read_to_string(&path).with_context(|| path);
    let pid = vcpus.pid();
    let children = list(format!("/proc/{pid}/task/{pid}/children"))?;
    let mut threads = Vec::new();
    for child in children.split_whitespace() {
        let tasks = fs::read_dir(format!("/proc/{child}/task"))?.flatten();
        let names = tasks.map(|task| fs::read_to_string(task.path().join("comm")));
        threads.push(names.flatten().filter(|name| name.ends_with("/KVM\n")).count());
    }
    threads.sort_unstable();
    assert_eq!(threads, [3, 8, 8]);
    drop(vcpus);
    assert!(!children.split_whitespace().any(|child| Path::new("/proc").join(child).exists()));
    Ok(())
}

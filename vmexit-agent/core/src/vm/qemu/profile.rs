//! What a guest is offered by its QEMU: the features of its CPU and machine that decide what it exits for,
//! from the command line. Nothing else of the command line is kept: there may be secrets in it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    identity::machine,
    options::{QemuOptions, is, values},
};
use crate::vm::Machine;

/// What a guest is offered. Empty where nothing is known: no QEMU, or no command line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Profile {
    /// Whether it is on or off; one that is missing here is not known.
    pub features: BTreeMap<Feature, bool>,
    /// Devices with registers in QEMU that the command line names, by their driver.
    pub devices: BTreeSet<String>,
}

/// Something that a QEMU can offer a guest, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Feature {
    /// Hyper-V's clocks: the reference counter and the TSC page.
    HvTime,
    /// Hyper-V's vCPU numbers, which the following three need.
    HvVpindex,
    /// Hyper-V's interrupt controller.
    HvSynic,
    /// Hyper-V's timers.
    HvStimer,
    /// Hyper-V's page by which interrupts are ended without an exit.
    HvVapic,
    /// Hyper-V's call for a vCPU that spins.
    HvSpinlocks,
    /// Hyper-V's call for interrupts between vCPUs.
    HvIpi,
    /// Hyper-V's call that flushes the TLBs of other vCPUs.
    HvTlbflush,
    /// Hyper-V's interrupt controller and the CPU's virtual one at a time.
    HvAvic,
    /// KVM's clock.
    Kvmclock,
    /// Interrupts ended without an exit, KVM's way.
    KvmPvEoi,
    /// KVM's call for interrupts between vCPUs.
    KvmPvIpi,
    /// KVM's call that wakes a vCPU which waits for a lock.
    KvmPvUnhalt,
    /// The APIC's registers as MSRs.
    X2apic,
    /// A TSC that never changes its pace, said to be so.
    Invtsc,
    /// The HPET.
    Hpet,
    /// VMware's port.
    Vmport,
    /// A real-time clock in local time, as Windows expects it.
    RtcLocaltime,
    /// A kernel that QEMU itself loads.
    DirectKernel,
}

/// CPU features by their names for `-cpu`, and whether they are on if nobody says: with a model by name
/// (`kvm_default_props`, target/i386/kvm/kvm-cpu.c), and with `host` or `max`, which have all that migrate.
/// Hyper-V's are off (docs/system/i386/hyperv.rst).
const CPU_FEATURES: &[(Feature, &[&str], bool, bool)] = &[
    (Feature::HvTime, &["hv-time"], false, false),
    (Feature::HvVpindex, &["hv-vpindex"], false, false),
    (Feature::HvSynic, &["hv-synic"], false, false),
    (Feature::HvStimer, &["hv-stimer"], false, false),
    (Feature::HvVapic, &["hv-vapic"], false, false),
    (Feature::HvSpinlocks, &["hv-spinlocks"], false, false),
    (Feature::HvIpi, &["hv-ipi"], false, false),
    (Feature::HvTlbflush, &["hv-tlbflush"], false, false),
    (Feature::HvAvic, &["hv-avic", "hv-apicv"], false, false),
    (Feature::Kvmclock, &["kvmclock"], true, true),
    (Feature::KvmPvEoi, &["kvm-pv-eoi"], true, true),
    (Feature::KvmPvIpi, &["kvm-pv-ipi"], false, true),
    (Feature::KvmPvUnhalt, &["kvm-pv-unhalt"], false, true),
    (Feature::X2apic, &["x2apic"], true, true),
    (Feature::Invtsc, &["invtsc"], false, false),
];

/// Drivers with registers in QEMU, by the beginning of their names: network, disks, USB, and what prints.
const EMULATED: [&str; 20] = [
    "am53c974",
    "e1000",
    "i8255",
    "ich9-ahci",
    "ide-",
    "isa-debugcon",
    "isa-ide",
    "isa-serial",
    "lsi",
    "megasas",
    "mptsas",
    "ne2k",
    "nec-usb",
    "pci-serial",
    "pcnet",
    "piix",
    "qemu-xhci",
    "rtl8139",
    "usb-",
    "vmxnet3",
];

/// Devices that are taken note of: a command line of thousands is to keep us busy.
const MOST_DEVICES: usize = 32;

impl Profile {
    /// What a QEMU with these arguments offers.
    pub(in crate::vm) fn of(arguments: &[String]) -> Self {
        // Also of a program whose command line can't be read.
        if arguments.is_empty() {
            return Self::default();
        }
        let mut features = cpu_features(values(arguments, &["cpu"]).last().unwrap_or("qemu64"));
        for (feature, key) in [(Feature::Hpet, "hpet"), (Feature::Vmport, "vmport")] {
            let on = switch(arguments, key).or_else(|| is_on_boards(&machine(arguments)));
            features.extend(on.map(|on| (feature, on)));
        }
        // Until QEMU 9.0 (docs/about/removed-features.rst).
        if arguments.iter().any(|argument| is(argument, "no-hpet")) {
            features.insert(Feature::Hpet, false);
        }
        let rtc = values(arguments, &["rtc"]).map(|value| QemuOptions::parse(value, ""));
        let localtime = rtc.filter_map(|rtc| rtc.get("base").map(|base| base == "localtime"));
        features.insert(Feature::RtcLocaltime, localtime.last().unwrap_or(false));
        let kernel = values(arguments, &["kernel"]).next().is_some();
        features.insert(Feature::DirectKernel, kernel);
        Self { features, devices: devices(arguments) }
    }

    /// Whether it is on; `None` if that is not known.
    pub fn has(&self, feature: Feature) -> Option<bool> {
        self.features.get(&feature).copied()
    }
}

fn cpu_features(cpu: &str) -> BTreeMap<Feature, bool> {
    let model = cpu.split(',').next().unwrap_or_default();
    let has_all = matches!(model, "host" | "max");
    // `kvm_hyperv_properties` and `kvm_hyperv_expand_features`, target/i386/kvm/kvm.c.
    let passes_hyperv = flag(cpu, "hv-passthrough") == Some(true);
    // Without KVM's leaves of CPUID a guest does not look for what they announce.
    let shows_kvm = flag(cpu, "kvm") != Some(false);
    CPU_FEATURES
        .iter()
        .map(|&(feature, names, of_model, of_host)| {
            let told = names.iter().find_map(|name| flag(cpu, name));
            let on = match names[0] {
                name if name.starts_with("hv-") => passes_hyperv || told.unwrap_or(false),
                name if name.starts_with("kvm") && !shows_kvm => false,
                _ => told.unwrap_or(if has_all { of_host } else { of_model }),
            };
            (feature, on)
        })
        .collect()
}

/// What `-cpu` says of a feature. `+feature` beats `feature=on`, and `-feature` both, wherever they are
/// (`x86_cpu_parse_featurestr`, target/i386/cpu.c); no comma is doubled there.
fn flag(cpu: &str, name: &str) -> Option<bool> {
    let same = |word: &str| {
        word.len() == name.len() && word.bytes().zip(name.bytes()).all(|(a, b)| dash(a) == b)
    };
    let (mut set, mut plus) = (None, false);
    for word in cpu.split(',').skip(1) {
        if word.strip_prefix('-').is_some_and(same) {
            return Some(false);
        }
        plus |= word.strip_prefix('+').is_some_and(same);
        let (key, value) = word.split_once('=').unwrap_or((word, "on"));
        if same(key) {
            set = value_is_on(value).or(set);
        }
    }
    if plus { Some(true) } else { set }
}

fn dash(byte: u8) -> u8 {
    if byte == b'_' { b'-' } else { byte }
}

/// On or off (`qapi_bool_parse`, qapi/qapi-util.c), or how often to spin: `0xffffffff` is for ever.
fn value_is_on(value: &str) -> Option<bool> {
    match value {
        "on" | "yes" | "true" | "y" => Some(true),
        "off" | "no" | "false" | "n" => Some(false),
        _ => {
            let hexadecimal =
                value.strip_prefix("0x").map(|digits| u32::from_str_radix(digits, 16));
            let number = hexadecimal.unwrap_or_else(|| value.parse()).ok()?;
            Some(number != u32::MAX)
        }
    }
}

/// What `-machine` says of a key; `None` for `auto`.
fn switch(arguments: &[String], key: &str) -> Option<bool> {
    let machines =
        values(arguments, &["machine", "M"]).map(|value| QemuOptions::parse(value, "type"));
    let told = machines.filter_map(|machine| machine.get(key).map(value_is_on)).last();
    told.flatten()
}

/// Whether a machine has an HPET and a vmport if nobody says: QEMU's PCs do (hw/i386/pc.c), its microvm
/// does not; distributions' own machine types may be different.
fn is_on_boards(machine: &Machine) -> Option<bool> {
    match machine {
        Machine::Default => Some(true),
        Machine::Unknown => None,
        Machine::Named(name) if name == "microvm" => Some(false),
        Machine::Named(name) if name.contains("rhel") => None,
        Machine::Named(name) => {
            let pc = ["pc-q35-", "pc-i440fx-"].iter().any(|start| name.starts_with(start));
            (pc || matches!(name.as_str(), "pc" | "q35")).then_some(true)
        }
    }
}

fn devices(arguments: &[String]) -> BTreeSet<String> {
    let drivers = values(arguments, &["device"])
        .filter_map(|value| QemuOptions::parse(value, "driver").get("driver").map(str::to_owned));
    let cards = values(arguments, &["nic", "net"])
        .filter_map(|value| QemuOptions::parse(value, "type").get("model").map(str::to_owned));
    let options = [("hda", "ide-hd"), ("hdb", "ide-hd"), ("cdrom", "ide-cd")];
    let of_options = [("debugcon", "isa-debugcon"), ("serial", "isa-serial")];
    let others = options.iter().chain(&of_options).filter_map(|(option, driver)| {
        let value = values(arguments, std::slice::from_ref(option)).next()?;
        (value != "none").then(|| (*driver).to_owned())
    });
    let drives = values(arguments, &["drive"]).filter_map(|value| {
        let drive = QemuOptions::parse(value, "");
        (drive.get("if") == Some("ide")).then(|| "ide-hd".to_owned())
    });
    let known = |driver: &String| EMULATED.iter().any(|known| driver.starts_with(known));
    let short = |driver: &String| driver.len() <= 32;
    let all = drivers.chain(cards).chain(others).chain(drives);
    all.filter(|driver| known(driver) && short(driver)).take(MOST_DEVICES).collect()
}

#[cfg(test)]
mod tests;

//! Features that QEMU offers a guest and that determine its exits, from the command line. Nothing
//! else of the command line is kept, as it may contain secrets.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    identity::machine,
    options::{QemuOptions, is, values},
};
use crate::vm::Machine;

/// Features offered to a guest. Empty if unknown: not QEMU, or no command line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Profile {
    /// Features and whether they are on; unknown ones are missing.
    pub features: BTreeMap<Feature, bool>,
    /// Emulated devices on the command line, by driver.
    pub devices: BTreeSet<String>,
}

/// A feature that QEMU can offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Feature {
    /// Hyper-V's clocks: the reference counter and the TSC page.
    HvTime,
    /// Hyper-V's vCPU index, required by the following three.
    HvVpindex,
    /// Hyper-V's synthetic interrupt controller.
    HvSynic,
    /// Hyper-V's synthetic timers.
    HvStimer,
    /// Hyper-V's VP assist page: ends interrupts without an exit.
    HvVapic,
    /// Hyper-V's hypercall for a spinning vCPU.
    HvSpinlocks,
    /// Hyper-V's hypercall for interrupts between vCPUs.
    HvIpi,
    /// Hyper-V's hypercall that flushes TLBs of other vCPUs.
    HvTlbflush,
    /// Hyper-V's interrupt controller together with the CPU's APIC virtualization.
    HvAvic,
    /// KVM's paravirtual clock.
    Kvmclock,
    /// KVM's paravirtual end of interrupt, without an exit.
    KvmPvEoi,
    /// KVM's hypercall for interrupts between vCPUs.
    KvmPvIpi,
    /// KVM's hypercall that wakes a vCPU waiting for a lock.
    KvmPvUnhalt,
    /// x2APIC: the APIC's registers as MSRs.
    X2apic,
    /// Invariant TSC: constant rate, announced to the guest.
    Invtsc,
    /// The HPET.
    Hpet,
    /// VMware's I/O port.
    Vmport,
    /// Real-time clock in local time, as Windows expects.
    RtcLocaltime,
    /// Kernel loaded by QEMU itself.
    DirectKernel,
}

/// CPU features: names for `-cpu`, default of a named model (`kvm_default_props`,
/// target/i386/kvm/kvm-cpu.c), and default of `host` and `max`, which have everything migratable.
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

/// Prefixes of drivers of emulated devices: network, disks, USB, serial ports and debug consoles.
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

/// Maximum number of devices that are kept, which bounds the work for hostile command lines.
const MOST_DEVICES: usize = 32;

impl Profile {
    /// The profile of a QEMU with these arguments.
    pub(in crate::vm) fn of(arguments: &[String]) -> Self {
        // A command line that can't be read is empty too.
        if arguments.is_empty() {
            return Self::default();
        }
        let mut features = cpu_features(values(arguments, &["cpu"]).last().unwrap_or("qemu64"));
        for (feature, key) in [(Feature::Hpet, "hpet"), (Feature::Vmport, "vmport")] {
            let on = machine_switch(arguments, key).or_else(|| board_default(&machine(arguments)));
            features.extend(on.map(|on| (feature, on)));
        }
        // Removed in QEMU 9.0 (docs/about/removed-features.rst).
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

    /// Whether a feature is on; `None` if unknown.
    pub fn has(&self, feature: Feature) -> Option<bool> {
        self.features.get(&feature).copied()
    }
}

fn cpu_features(cpu: &str) -> BTreeMap<Feature, bool> {
    let model = cpu.split(',').next().unwrap_or_default();
    let has_all = matches!(model, "host" | "max");
    // `kvm_hyperv_properties` and `kvm_hyperv_expand_features`, target/i386/kvm/kvm.c.
    let passes_hyperv = flag(cpu, "hv-passthrough") == Some(true);
    // Without KVM's CPUID leaves, a guest does not use the features that they announce.
    let shows_kvm = flag(cpu, "kvm") != Some(false);
    CPU_FEATURES
        .iter()
        .map(|&(feature, names, of_model, of_host)| {
            let explicit = names.iter().find_map(|name| flag(cpu, name));
            let on = match names[0] {
                name if name.starts_with("hv-") => passes_hyperv || explicit.unwrap_or(false),
                name if name.starts_with("kvm") && !shows_kvm => false,
                _ => explicit.unwrap_or(if has_all { of_host } else { of_model }),
            };
            (feature, on)
        })
        .collect()
}

/// Value of a CPU feature in `-cpu`. `+feature` overrides `feature=on`, and `-feature` overrides
/// both, regardless of their order (`x86_cpu_parse_featurestr`, target/i386/cpu.c). Doubled commas
/// do not occur there.
fn flag(cpu: &str, name: &str) -> Option<bool> {
    let same = |word: &str| {
        word.len() == name.len()
            && word.bytes().zip(name.bytes()).all(|(a, b)| underscore_to_dash(a) == b)
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

fn underscore_to_dash(byte: u8) -> u8 {
    if byte == b'_' { b'-' } else { byte }
}

/// Value of a switch (`qapi_bool_parse`, qapi/qapi-util.c), or of a number of spins: `0xffffffff`
/// means never to notify.
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

/// Value of a key of `-machine`; `None` if unset or `auto`.
fn machine_switch(arguments: &[String], key: &str) -> Option<bool> {
    let machines =
        values(arguments, &["machine", "M"]).map(|value| QemuOptions::parse(value, "type"));
    machines.filter_map(|machine| machine.get(key).map(value_is_on)).last().flatten()
}

/// Whether a machine has an HPET and a vmport by default: QEMU's PCs do (hw/i386/pc.c), microvm
/// does not; distributions' machine types may differ.
fn board_default(machine: &Machine) -> Option<bool> {
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

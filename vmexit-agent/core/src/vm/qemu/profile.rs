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

/// Provider of a CPU feature. It determines which other options switch the feature.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Provider {
    /// Hyper-V's enlightenments: off unless set, or all on by `hv-passthrough`
    /// (docs/system/i386/hyperv.rst).
    HyperV,
    /// KVM's paravirtual features: all hidden by `kvm=off`.
    Kvm,
    /// The CPU.
    Cpu,
}

/// A CPU feature and its defaults (`kvm_default_props`, target/i386/kvm/kvm-cpu.c).
struct CpuFeature {
    feature: Feature,
    provider: Provider,
    /// Names for `-cpu`.
    names: &'static [&'static str],
    /// Default of a named model.
    of_model: bool,
    /// Default of `host` and `max`, which have everything migratable.
    of_host: bool,
}

const fn hyperv(feature: Feature, names: &'static [&'static str]) -> CpuFeature {
    CpuFeature { feature, provider: Provider::HyperV, names, of_model: false, of_host: false }
}

const fn kvm(
    feature: Feature,
    names: &'static [&'static str],
    of_model: bool,
    of_host: bool,
) -> CpuFeature {
    CpuFeature { feature, provider: Provider::Kvm, names, of_model, of_host }
}

const fn cpu(
    feature: Feature,
    names: &'static [&'static str],
    of_model: bool,
    of_host: bool,
) -> CpuFeature {
    CpuFeature { feature, provider: Provider::Cpu, names, of_model, of_host }
}

const CPU_FEATURES: [CpuFeature; 15] = [
    hyperv(Feature::HvTime, &["hv-time"]),
    hyperv(Feature::HvVpindex, &["hv-vpindex"]),
    hyperv(Feature::HvSynic, &["hv-synic"]),
    hyperv(Feature::HvStimer, &["hv-stimer"]),
    hyperv(Feature::HvVapic, &["hv-vapic"]),
    hyperv(Feature::HvSpinlocks, &["hv-spinlocks"]),
    hyperv(Feature::HvIpi, &["hv-ipi"]),
    hyperv(Feature::HvTlbflush, &["hv-tlbflush"]),
    hyperv(Feature::HvAvic, &["hv-avic", "hv-apicv"]),
    kvm(Feature::Kvmclock, &["kvmclock"], true, true),
    kvm(Feature::KvmPvEoi, &["kvm-pv-eoi"], true, true),
    kvm(Feature::KvmPvIpi, &["kvm-pv-ipi"], false, true),
    kvm(Feature::KvmPvUnhalt, &["kvm-pv-unhalt"], false, true),
    cpu(Feature::X2apic, &["x2apic"], true, true),
    cpu(Feature::Invtsc, &["invtsc"], false, false),
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
    let hyperv_passthrough = flag(cpu, "hv-passthrough") == Some(true);
    // Without KVM's CPUID leaves, a guest does not use the features that they announce.
    let kvm_visible = flag(cpu, "kvm") != Some(false);
    let is_on = |cpu_feature: &CpuFeature| {
        let explicit = cpu_feature.names.iter().find_map(|name| flag(cpu, name));
        let default = if has_all { cpu_feature.of_host } else { cpu_feature.of_model };
        let on = explicit.unwrap_or(default);
        match cpu_feature.provider {
            Provider::HyperV => hyperv_passthrough || on,
            Provider::Kvm => kvm_visible && on,
            Provider::Cpu => on,
        }
    };
    CPU_FEATURES.iter().map(|entry| (entry.feature, is_on(entry))).collect()
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

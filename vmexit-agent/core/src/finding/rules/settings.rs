//! Settings for remedies: libvirt's docs/formatdomain.rst, QEMU's qemu-options.hx and
//! docs/system/i386/hyperv.rst.

use super::super::Setting;
use crate::vm::Feature;

const CLOCK: &[&str] = &["clock"];
const FEATURES: &[&str] = &["features"];
const HYPERV: &[&str] = &["features", "hyperv"];
const KVM: &[&str] = &["features", "kvm"];
const CPU: &[&str] = &["cpu"];
const DEVICES: &[&str] = &["devices"];

const fn cpu(
    feature: Feature,
    parents: &'static [&'static str],
    xml: &'static [&'static str],
    value: &'static str,
) -> Setting {
    Setting { switches: Some((feature, true)), parents, xml, option: "-cpu", value }
}

const fn machine(
    feature: Feature,
    parents: &'static [&'static str],
    xml: &'static [&'static str],
    value: &'static str,
) -> Setting {
    Setting { switches: Some((feature, false)), parents, xml, option: "-machine", value }
}

const fn added(
    parents: &'static [&'static str],
    xml: &'static [&'static str],
    option: &'static str,
) -> Setting {
    Setting { switches: None, parents, xml, option, value: "" }
}

#[rustfmt::skip]
mod table {
    use super::{CLOCK, CPU, DEVICES, FEATURES, Feature, HYPERV, KVM, Setting, added, cpu, machine};

    pub const HV_TIME: Setting = cpu(Feature::HvTime, CLOCK, &["<timer name='hypervclock' present='yes'/>"], "hv-time=on");
    pub const HV_VPINDEX: Setting = cpu(Feature::HvVpindex, HYPERV, &["<vpindex state='on'/>"], "hv-vpindex=on");
    pub const HV_SYNIC: Setting = cpu(Feature::HvSynic, HYPERV, &["<synic state='on'/>"], "hv-synic=on");
    pub const HV_STIMER: Setting = cpu(Feature::HvStimer, HYPERV, &["<stimer state='on'/>"], "hv-stimer=on");
    pub const HV_VAPIC: Setting = cpu(Feature::HvVapic, HYPERV, &["<vapic state='on'/>"], "hv-vapic=on");
    pub const HV_SPINLOCKS: Setting = cpu(Feature::HvSpinlocks, HYPERV, &["<spinlocks state='on' retries='4095'/>"], "hv-spinlocks=0xfff");
    pub const HV_IPI: Setting = cpu(Feature::HvIpi, HYPERV, &["<ipi state='on'/>"], "hv-ipi=on");
    pub const HV_TLBFLUSH: Setting = cpu(Feature::HvTlbflush, HYPERV, &["<tlbflush state='on'/>"], "hv-tlbflush=on");
    pub const KVMCLOCK: Setting = cpu(Feature::Kvmclock, CLOCK, &["<timer name='kvmclock' present='yes'/>"], "kvmclock=on");
    pub const KVM_PV_IPI: Setting = cpu(Feature::KvmPvIpi, KVM, &["<pv-ipi state='on'/>"], "kvm-pv-ipi=on");
    pub const KVM_PV_EOI: Setting = cpu(Feature::KvmPvEoi, FEATURES, &["<apic eoi='on'/>"], "kvm-pv-eoi=on");
    pub const KVM_PV_UNHALT: Setting = cpu(Feature::KvmPvUnhalt, FEATURES, &["<pvspinlock state='on'/>"], "kvm-pv-unhalt=on");
    pub const X2APIC: Setting = cpu(Feature::X2apic, CPU, &["<feature policy='require' name='x2apic'/>"], "x2apic=on");
    pub const INVTSC: Setting = cpu(Feature::Invtsc, CPU, &["<feature policy='require' name='invtsc'/>"], "invtsc=on");
    pub const NO_HPET: Setting = machine(Feature::Hpet, CLOCK, &["<timer name='hpet' present='no'/>"], "hpet=off");
    pub const NO_VMPORT: Setting = machine(Feature::Vmport, FEATURES, &["<vmport state='off'/>"], "vmport=off");
    pub const VIRTIO_CONSOLE: Setting = added(DEVICES, &["<console type='pty'>", "  <target type='virtio'/>", "</console>"], "-device virtio-serial-pci -chardev pty,id=console -device virtconsole,chardev=console");
    pub const VIRTIO_NETWORK: Setting = added(DEVICES, &["<interface …>", "  <model type='virtio'/>", "</interface>"], "-device virtio-net-pci,netdev=…");
    pub const VIRTIO_DISK: Setting = added(DEVICES, &["<disk …>", "  <target dev='vda' bus='virtio'/>", "</disk>"], "-device virtio-blk-pci,drive=…");
    pub const VIRTIO_TABLET: Setting = added(DEVICES, &["<input type='tablet' bus='virtio'/>"], "-device virtio-tablet-pci");
    pub const HUGE_PAGES: Setting = added(&["memoryBacking"], &["<hugepages/>", "<allocation mode='immediate'/>"], "-object memory-backend-memfd,id=ram,size=…,hugetlb=on,prealloc=on -machine …,memory-backend=ram");
    pub const PINNED: Setting = added(&["cputune"], &["<vcpupin vcpu='0' cpuset='2'/> <!-- and so on -->", "<emulatorpin cpuset='0-1'/>"], "taskset -p, for each vCPU's thread (vmexit vms --format json has them)");
}

pub(super) use table::*;

/// Hyper-V's clock and timers; the timers need the other three (docs/system/i386/hyperv.rst).
pub(super) const HYPERV_TIMERS: &[Setting] = &[HV_TIME, HV_VPINDEX, HV_SYNIC, HV_STIMER];

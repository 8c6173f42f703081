//! The VMM program of a VM, and the vCPU numbers in its thread names.

use serde::{Deserialize, Serialize};

use super::qemu;

/// A virtual machine monitor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Vmm {
    /// QEMU.
    Qemu,
    /// Cloud Hypervisor.
    CloudHypervisor,
    /// Firecracker.
    Firecracker,
    /// crosvm.
    Crosvm,
    /// kvmtool, whose program is `lkvm`.
    Kvmtool,
    /// Another VMM.
    #[default]
    Other,
}

/// Prefixes of program names; versions and architectures follow (`qemu-system-x86_64`, `qemu-kvm`,
/// `firecracker-v1.10.1-x86_64`). Thread names are cut to 15 bytes.
const PROGRAMS: [(&str, Vmm); 6] = [
    ("qemu", Vmm::Qemu),
    ("cloud-hyperviso", Vmm::CloudHypervisor),
    ("firecracker", Vmm::Firecracker),
    ("crosvm", Vmm::Crosvm),
    ("lkvm", Vmm::Kvmtool),
    ("kvmtool", Vmm::Kvmtool),
];

impl Vmm {
    /// Name as its makers write it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Qemu => "QEMU",
            Self::CloudHypervisor => "Cloud Hypervisor",
            Self::Firecracker => "Firecracker",
            Self::Crosvm => "crosvm",
            Self::Kvmtool => "kvmtool",
            Self::Other => "other",
        }
    }

    /// The VMM by its executable, which the kernel reports; else by its command line or process
    /// name.
    pub(super) fn of(program: Option<&str>, arguments: &[String], name: &str) -> Self {
        let argv0 = arguments.first().and_then(|path| path.rsplit('/').next());
        let known = [program, argv0, Some(name)].into_iter().flatten().find_map(by_name);
        // A renamed QEMU is recognized by its options for KVM.
        known.unwrap_or(if qemu::uses_kvm(arguments) { Self::Qemu } else { Self::Other })
    }

    /// The VMM by a thread name: that of the program, or a VMM's own form of vCPU names.
    pub(crate) fn of_thread(name: &str) -> Self {
        let names_vcpu = |vmm: &Self| vmm.vcpu_of_thread(name).is_some();
        let vmms =
            [Self::Qemu, Self::Firecracker, Self::Crosvm, Self::Kvmtool, Self::CloudHypervisor];
        by_name(name).or_else(|| vmms.into_iter().find(names_vcpu)).unwrap_or_default()
    }

    /// vCPU number in a thread's name.
    pub(super) fn vcpu_of_thread(self, name: &str) -> Option<u32> {
        let (before, after) = match self {
            // kvm_start_vcpu_thread in accel/kvm/kvm-accel-ops.c, with `-name …,debug-threads=on` as
            // set by libvirt. Unknown VMMs may use QEMU's form.
            Self::Qemu | Self::Other => ("CPU ", "/KVM"),
            // CpuManager::start_vcpu in vmm/src/cpu.rs.
            Self::CloudHypervisor => ("vcpu", ""),
            // Vcpu::start_threaded in src/vmm/src/vstate/vcpu.rs.
            Self::Firecracker => ("fc_vcpu ", ""),
            // run_vcpu in src/crosvm/sys/linux/vcpu.rs.
            Self::Crosvm => ("crosvm_vcpu", ""),
            // kvm_cpu_thread in builtin-run.c.
            Self::Kvmtool => ("kvm-vcpu-", ""),
        };
        let number = name.strip_prefix(before)?.strip_suffix(after)?;
        // `parse` accepts a sign too.
        number.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.parse().ok())?
    }
}

fn by_name(name: &str) -> Option<Vmm> {
    // NixOS wraps programs: `.qemu-system-x86_64-wrapped`.
    let name = name.strip_prefix('.').unwrap_or(name);
    PROGRAMS.iter().find(|(beginning, _)| name.starts_with(beginning)).map(|&(_, vmm)| vmm)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vmm(program: &str, line: &str, name: &str) -> Vmm {
        let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Vmm::of(Some(program).filter(|program| !program.is_empty()), &arguments, name)
    }

    #[test]
    fn vmm_is_recognized_by_program_name() {
        assert_eq!(vmm("qemu-system-x86_64", "", ""), Vmm::Qemu);
        assert_eq!(vmm("qemu-kvm", "", ""), Vmm::Qemu);
        assert_eq!(vmm(".qemu-system-x86_64-wrapped", "", ""), Vmm::Qemu);
        assert_eq!(vmm("cloud-hypervisor-static", "", ""), Vmm::CloudHypervisor);
        assert_eq!(vmm("firecracker-v1.10.1-x86_64", "", ""), Vmm::Firecracker);
        assert_eq!(vmm("lkvm-static", "", ""), Vmm::Kvmtool);
        assert_eq!(vmm("kvm", "kvm -smp 2", "kvm"), Vmm::Other);
    }

    #[test]
    fn vmm_executable_takes_precedence_over_arguments() {
        assert_eq!(vmm("crosvm", "firecracker", "qemu"), Vmm::Crosvm);
        assert_eq!(vmm("", "/usr/bin/firecracker --id a", "qemu"), Vmm::Firecracker);
        assert_eq!(vmm("ld-linux", "ld.so ./q", "cloud-hyperviso"), Vmm::CloudHypervisor);
        assert_eq!(vmm("acme", "acme -M q35,accel=kvm", "acme"), Vmm::Qemu);
    }

    #[test]
    fn vcpu_number_is_parsed_from_thread_name() {
        let names = [
            (Vmm::Qemu, "CPU 12/KVM", Some(12)),
            (Vmm::Qemu, "CPU /KVM", None),
            (Vmm::Qemu, "CPU +1/KVM", None),
            (Vmm::Qemu, "CPU 1/TCG", None),
            (Vmm::Qemu, "IO mon_iothread", None),
            (Vmm::Qemu, "vcpu1", None),
            (Vmm::Other, "CPU 3/KVM", Some(3)),
            (Vmm::CloudHypervisor, "vcpu3", Some(3)),
            (Vmm::CloudHypervisor, "vcpu", None),
            (Vmm::Firecracker, "fc_vcpu 31", Some(31)),
            (Vmm::Crosvm, "crosvm_vcpu0", Some(0)),
            (Vmm::Kvmtool, "kvm-vcpu-99999999999", None),
            (Vmm::Kvmtool, "kvm-vcpu-7", Some(7)),
        ];
        for (vmm, name, number) in names {
            assert_eq!(vmm.vcpu_of_thread(name), number, "{vmm:?} {name}");
        }
    }
}

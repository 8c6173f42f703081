//! BTF of real kernels: fixtures of several, reduced to the types that the agent queries, and the running kernel. The
//! expected values are those of `bpftool btf dump`.

use std::{fs, path::Path, sync::Arc};

use crate::host::btf::{Btf, BtfError, Shape};

fn fixtures() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/btf")
}

/// A kernel and one of its modules, or only the kernel where KVM is built in.
fn load(kernel: &str, module: &str) -> Btf {
    let directory = fixtures().join(kernel);
    let vmlinux = Btf::load(&directory.join("vmlinux.btf"), None).unwrap();
    if module == "vmlinux" {
        return vmlinux;
    }
    Btf::load(&directory.join(module).with_extension("btf"), Some(Arc::new(vmlinux))).unwrap()
}

/// Kernel, module, struct, member, offset, size.
#[rustfmt::skip]
const FIELDS: &[(&str, &str, &str, &str, u32, u32)] = &[
    ("6.1",      "kvm_intel", "vcpu_vmx", "vcpu",                0,     6552),
    ("6.1",      "kvm_intel", "vcpu_vmx", "exit_reason",         7808,  4),
    ("6.1",      "kvm_amd",   "vcpu_svm", "vmcb",                6552,  8),
    ("6.1",      "kvm_amd",   "vmcb",     "control.exit_code",   112,   4),
    ("6.1",      "kvm_amd",   "vmcb",     "control.exit_info_1", 120,   8),
    ("6.1",      "kvm",       "kvm_vcpu", "vcpu_id",             36,    4),
    ("6.1",      "kvm",       "kvm_vcpu", "kvm",                 0,     8),
    ("6.1",      "kvm",       "kvm",      "userspace_pid",       40408, 4),
    ("6.12",     "kvm_intel", "vcpu_vmx", "exit_reason",         7744,  4),
    ("6.12",     "kvm_amd",   "vcpu_svm", "vmcb",                6480,  8),
    ("6.12",     "kvm_amd",   "vmcb",     "control.exit_code",   112,   4),
    ("6.12",     "kvm",       "kvm",      "userspace_pid",       6944,  4),
    ("6.18-pvm", "vmlinux",   "vcpu_pvm", "vcpu",                0,     5952),
    ("6.18-pvm", "vmlinux",   "vcpu_pvm", "exit_reason",         6780,  4),
    ("6.18-pvm", "vmlinux",   "kvm_vcpu", "vcpu_id",             36,    4),
    ("6.18-pvm", "vmlinux",   "kvm",      "userspace_pid",       3776,  4),
    ("7.3",      "kvm_intel", "vcpu_vmx", "vt.exit_reason",      6544,  4),
    ("7.3",      "kvm_intel", "vcpu_vmx", "vt.exit_reason.full", 6544,  4),
    ("7.3",      "kvm_amd",   "vcpu_svm", "vmcb",                6456,  8),
    ("7.3",      "kvm_amd",   "vmcb",     "control.exit_code",   112,   8),
    ("7.3",      "kvm_amd",   "vmcb",     "control.exit_info_1", 120,   8),
    ("7.3",      "kvm",       "kvm_vcpu", "vcpu_id",             36,    4),
    ("7.3",      "kvm",       "kvm",      "userspace_pid",       6936,  4),
];

#[test]
fn field_of_each_kernel_has_known_offset_and_size() {
    for &(kernel, module, structure, path, offset, size) in FIELDS {
        let field = load(kernel, module).field(structure, path).unwrap();
        assert_eq!((field.offset, field.size), (offset, size), "{kernel} {structure}.{path}");
    }
}

#[test]
fn field_that_kernel_lacks_is_an_error() {
    let old = load("6.1", "kvm_intel").field("vcpu_vmx", "vt.exit_reason").unwrap_err();
    assert!(matches!(old, BtfError::NoMember { .. }), "{old}");
    let new = load("7.3", "kvm_intel").field("vcpu_vmx", "exit_reason").unwrap_err();
    assert!(matches!(new, BtfError::NoMember { .. }), "{new}");
    let bits = load("7.3", "kvm_intel").field("vcpu_vmx", "vt.exit_reason.basic").unwrap_err();
    assert!(matches!(bits, BtfError::BitField { .. }), "{bits}");
    let amd = load("6.12", "kvm_intel").size_of("vcpu_svm").unwrap_err();
    assert!(matches!(amd, BtfError::NoStruct(_)), "{amd}");
}

#[test]
fn params_of_kvm_exit_start_with_vcpu() {
    for (kernel, module) in
        [("6.1", "kvm"), ("6.12", "kvm"), ("6.18-pvm", "vmlinux"), ("7.3", "kvm")]
    {
        let btf = load(kernel, module);
        let exit = btf.params_of_tracepoint("kvm_exit").unwrap();
        assert_eq!(exit.len(), 2, "{kernel}");
        assert!(exit[0].ty.is_pointer_to("kvm_vcpu"), "{kernel}: {exit:?}");
        assert!(exit[1].ty.is_int(4), "{kernel}: {exit:?}");
        let entry = btf.params_of_tracepoint("kvm_entry").unwrap();
        assert!(entry[0].ty.is_pointer_to("kvm_vcpu"), "{kernel}: {entry:?}");
        assert_eq!(entry[1].ty.shape, Shape::Bool, "{kernel}");
        let pio = btf.params_of_tracepoint("kvm_pio").unwrap();
        let spelled: Vec<&str> = pio.iter().map(|param| param.ty.name.as_str()).collect();
        let uint = "unsigned int";
        assert_eq!(spelled, [uint, uint, uint, uint, "void *"], "{kernel}");
        assert_eq!(btf.params_of_tracepoint("kvm_hv_hypercall").unwrap().len(), 7, "{kernel}");
        assert_eq!(btf.params_of_tracepoint("kvm_nothing"), None);
    }
}

#[test]
fn fixtures_are_below_50_kb_in_total() {
    let total: u64 = fs::read_dir(fixtures())
        .unwrap()
        .flat_map(|kernel| fs::read_dir(kernel.unwrap().path()).unwrap())
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum();
    assert!(total < 50_000, "{total} bytes");
}

#[test]
fn vmlinux_of_running_kernel_has_known_types() {
    let kernel = Btf::vmlinux().unwrap();
    assert!(kernel.len() > 10_000, "{kernel:?}");
    assert!(kernel.field("task_struct", "pid").unwrap().ty.is_int(4));
    let task = kernel.size_of("task_struct").unwrap();
    assert!(kernel.field("task_struct", "comm").unwrap().offset < task);
    // If KVM is a loaded module, its tracepoints are in the module's file.
    let kvm = Btf::module("kvm", &kernel).unwrap();
    if let Some(pio) = kvm.params_of_tracepoint("kvm_pio") {
        assert_eq!(pio.len(), 5, "{pio:?}");
        assert!(pio[..4].iter().all(|param| param.ty.is_int(4)), "{pio:?}");
        assert!(kvm.size_of("kvm_vcpu").is_ok());
    } else {
        let built_in = Path::new("/sys/kernel/tracing/events/kvm/kvm_pio").exists();
        assert!(!built_in, "KVM has its tracepoints, but BTF does not describe them");
    }
}

#[test]
fn missing_file_and_bad_module_name_are_distinct_errors() {
    let kernel = Btf::vmlinux().unwrap();
    for name in ["", "../vmlinux", "kvm/", "kvm intel"] {
        assert!(matches!(Btf::module(name, &kernel), Err(BtfError::ModuleName(_))), "{name}");
    }
    let same = Btf::module("no_such_module", &kernel).unwrap();
    assert!(Arc::ptr_eq(&same, &kernel));
    let missing = Btf::load(&fixtures().join("nowhere"), None).unwrap_err();
    assert!(matches!(missing, BtfError::Missing(_)), "{missing}");
    let directory = Btf::load(&fixtures(), None).unwrap_err();
    assert!(matches!(directory, BtfError::Read { .. }), "{directory}");
}

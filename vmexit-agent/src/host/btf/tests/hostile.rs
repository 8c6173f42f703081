//! Damaged and hostile BTF: any bytes give a result or an error, within a bounded time.

use std::{fs, path::Path, sync::Arc, time::Instant};

use proptest::{prelude::*, sample::Index};

use super::{
    read,
    writer::{BtfWriter, FLAG},
};
use crate::host::btf::{Btf, BtfError, MAX_BYTES, wire::kind};

/// Time limit of a test, far above what a debug build needs.
const SOON: u128 = 5_000;

fn fixture(name: &str) -> Vec<u8> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/btf/7.3");
    fs::read(directory.join(name)).unwrap()
}

/// Runs all queries of the agent.
fn run_queries(btf: &Btf) {
    for name in ["kvm_exit", "kvm_entry", "kvm_pio", "kvm_msr"] {
        let _ = btf.params_of_tracepoint(name);
    }
    for (structure, path) in [
        ("vcpu_vmx", "vt.exit_reason"),
        ("vcpu_vmx", "exit_reason.full"),
        ("vcpu_svm", "vmcb"),
        ("vmcb", "control.exit_code"),
        ("kvm_vcpu", "vcpu_id"),
        ("kvm", "userspace_pid"),
    ] {
        let _ = btf.field(structure, path);
        let _ = btf.size_of(structure);
    }
}

proptest! {
    #[test]
    fn parse_of_any_bytes_does_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
        if let Ok(btf) = Btf::parse(bytes, None) {
            run_queries(&btf);
        }
    }

    #[test]
    fn queries_of_any_well_formed_records_do_not_panic(
        words in prop::collection::vec(any::<u32>(), 0..256),
        kinds in prop::collection::vec(1u8..20, 1..32),
    ) {
        let mut w = BtfWriter::new();
        for name in ["kvm_vcpu", "vcpu_id", "btf_trace_kvm_exit"] {
            w.string(name);
        }
        for (at, kind) in kinds.iter().enumerate() {
            let word = |nth: usize| words.get(at * 8 + nth).copied().unwrap_or_default();
            let name = ["", "kvm_vcpu", "vcpu_id", "btf_trace_kvm_exit"][word(0) as usize % 4];
            let count = word(1) % 3;
            let extra = match *kind {
                kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => count * 3,
                kind::ENUM | kind::FUNC_PROTO => count * 2,
                kind::INT | kind::VAR | kind::DECL_TAG => 1,
                kind::ARRAY => 3,
                _ => 0,
            };
            let extra: Vec<u32> = (0..extra).map(|nth| word(nth as usize + 3) % 40).collect();
            w.add(*kind, count | (word(1) & FLAG), name, word(2) % 40, &extra);
        }
        // The bytes are well formed, but types may refer to any other.
        run_queries(&read(&w));
    }

    #[test]
    fn queries_of_mutated_kernel_file_do_not_panic(
        damage in prop::collection::vec((any::<Index>(), any::<u8>()), 1..16),
        keep in prop::option::of(any::<Index>()),
    ) {
        let mut bytes = fixture("vmlinux.btf");
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(keep) = keep {
            bytes.truncate(keep.index(bytes.len()));
        }
        if let Ok(btf) = Btf::parse(bytes, None) {
            run_queries(&btf);
            // The module no longer matches the kernel.
            if let Ok(btf) = Btf::parse(fixture("kvm_intel.btf"), Some(Arc::new(btf))) {
                run_queries(&btf);
            }
        }
    }

    #[test]
    fn queries_of_mutated_module_file_do_not_panic(
        damage in prop::collection::vec((any::<Index>(), any::<u8>()), 1..16),
    ) {
        let vmlinux = Arc::new(Btf::parse(fixture("vmlinux.btf"), None).unwrap());
        let mut bytes = fixture("kvm_amd.btf");
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(btf) = Btf::parse(bytes, Some(vmlinux)) {
            run_queries(&btf);
        }
    }
}

#[test]
fn parse_of_any_truncated_file_is_an_error() {
    let bytes = fixture("vmlinux.btf");
    for length in 0..bytes.len() {
        assert!(Btf::parse(bytes[..length].to_vec(), None).is_err(), "{length}");
    }
}

#[test]
fn parse_of_bad_header_is_an_error() {
    let good = BtfWriter::new().bytes();
    let with = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        Btf::parse(bytes, None)
    };
    assert!(Btf::parse(good.clone(), None).unwrap().is_empty());
    assert!(matches!(with(0, 0xeb), Err(BtfError::NotBtf)));
    assert!(matches!(with(2, 2), Err(BtfError::Version(2))));
    for (at, value) in [(4, 23), (7, 255), (11, 255), (15, 255), (19, 255), (23, 255)] {
        assert!(matches!(with(at, value), Err(BtfError::Damaged(_))), "{at}");
    }
    // Strings must end with NUL.
    assert!(matches!(with(24, b'x'), Err(BtfError::Damaged(_))));
    assert!(matches!(Btf::parse(vec![0; MAX_BYTES + 1], None), Err(BtfError::TooLarge)));
}

#[test]
fn queries_of_cyclic_types_end() {
    let mut w = BtfWriter::new();
    w.refers(kind::TYPEDEF, "one", 2);
    w.refers(kind::CONST, "", 1);
    w.structure("through_typedefs", 8, &[("it", 1, 0)]);
    w.structure("itself", 8, &[("", 4, 0)]);
    w.add(kind::ARRAY, 0, "", 0, &[5, 5, 1]);
    w.structure("array_of_itself", 8, &[("it", 5, 0)]);
    w.refers(kind::PTR, "", 7);
    w.structure("pointer_to_itself", 8, &[("it", 7, 0)]);
    w.refers(kind::TYPEDEF, "btf_trace_kvm_exit", 9);
    let btf = read(&w);
    for structure in ["through_typedefs", "itself", "array_of_itself", "pointer_to_itself"] {
        let error = btf.field(structure, "it").unwrap_err();
        assert!(matches!(error, BtfError::TooDeep), "{structure}: {error}");
    }
    assert_eq!(btf.params_of_tracepoint("kvm_exit"), None);
}

#[test]
fn queries_of_exponentially_nested_types_end_soon() {
    // Each of 12 levels has a hundred anonymous members of the next: 10²⁴ members to visit.
    let mut w = BtfWriter::new();
    let mut inner = w.int("int", 4, 1);
    for level in 0..12 {
        let name = if level == 11 { "bomb" } else { "" };
        inner = w.structure(name, 4, &[("", inner, 0); 100]);
    }
    // A thousand definitions of the same name share the budget of one query.
    for _ in 0..1_000 {
        w.structure("bomb", 4, &[("", inner, 0)]);
    }
    let btf = read(&w);
    let start = Instant::now();
    assert!(matches!(btf.field("bomb", "it"), Err(BtfError::TooDeep)));
    assert!(start.elapsed().as_millis() < SOON, "{:?}", start.elapsed());
}

#[test]
fn parse_of_longest_file_ends_soon() {
    let mut w = BtfWriter::new();
    for _ in 0..1_000_000 {
        w.structure("kvm_vcpu", 4, &[]);
    }
    let start = Instant::now();
    run_queries(&read(&w));
    assert!(start.elapsed().as_millis() < SOON, "{:?}", start.elapsed());
}

#[test]
fn field_beyond_end_of_struct_is_an_error() {
    let mut w = BtfWriter::new();
    let int = w.int("int", 4, 1);
    let list = w.add(kind::ARRAY, 0, "", 0, &[int, int, u32::MAX]);
    w.structure("short", 4, &[("ok", int, 0), ("out", int, 8), ("list", list, 0), ("bad", 99, 0)]);
    let btf = read(&w);
    assert!(btf.field("short", "ok").is_ok());
    for path in ["out", "list", "bad"] {
        assert!(matches!(btf.field("short", path), Err(BtfError::Damaged(_))), "{path}");
    }
}

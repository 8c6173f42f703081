//! BTF that means harm: whatever the bytes are, there is an answer or an error, and soon.

use std::{fs, path::Path, sync::Arc, time::Instant};

use proptest::{prelude::*, sample::Index};

use super::{
    read,
    writer::{BtfWriter, FLAG},
};
use crate::host::btf::{Btf, BtfError, MAX_BYTES, wire::kind};

/// Far beyond what any of this takes in a debug build, far below what a human would wait for.
const SOON: u128 = 5_000;

fn fixture(name: &str) -> Vec<u8> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/btf/7.3");
    fs::read(directory.join(name)).unwrap()
}

/// Asks all that the agent asks.
fn ask(btf: &Btf) {
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
    fn any_bytes_parse_or_fail(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
        if let Ok(btf) = Btf::parse(bytes, None) {
            ask(&btf);
        }
    }

    #[test]
    fn any_sound_records_are_answered(
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
        // Sound as bytes, whatever the types may refer to.
        ask(&read(&w));
    }

    #[test]
    fn any_damage_to_a_kernels_file_is_survived(
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
            ask(&btf);
            // The module was not made for this kernel any more.
            if let Ok(btf) = Btf::parse(fixture("kvm_intel.btf"), Some(Arc::new(btf))) {
                ask(&btf);
            }
        }
    }

    #[test]
    fn any_damage_to_a_modules_file_is_survived(
        damage in prop::collection::vec((any::<Index>(), any::<u8>()), 1..16),
    ) {
        let vmlinux = Arc::new(Btf::parse(fixture("vmlinux.btf"), None).unwrap());
        let mut bytes = fixture("kvm_amd.btf");
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(btf) = Btf::parse(bytes, Some(vmlinux)) {
            ask(&btf);
        }
    }
}

#[test]
fn every_truncation_is_told() {
    let bytes = fixture("vmlinux.btf");
    for length in 0..bytes.len() {
        assert!(Btf::parse(bytes[..length].to_vec(), None).is_err(), "{length}");
    }
}

#[test]
fn headers_that_are_none_are_told() {
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
    // Strings must end.
    assert!(matches!(with(24, b'x'), Err(BtfError::Damaged(_))));
    assert!(matches!(Btf::parse(vec![0; MAX_BYTES + 1], None), Err(BtfError::TooLarge)));
}

#[test]
fn circles_end() {
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
fn types_that_multiply_end_soon() {
    // Each of 12 levels has a hundred of the next, without a name: 10²⁴ members to look at.
    let mut w = BtfWriter::new();
    let mut inner = w.int("int", 4, 1);
    for level in 0..12 {
        let name = if level == 11 { "bomb" } else { "" };
        inner = w.structure(name, 4, &[("", inner, 0); 100]);
    }
    // And a thousand definitions of the same name, which are one question.
    for _ in 0..1_000 {
        w.structure("bomb", 4, &[("", inner, 0)]);
    }
    let btf = read(&w);
    let start = Instant::now();
    assert!(matches!(btf.field("bomb", "it"), Err(BtfError::TooDeep)));
    assert!(start.elapsed().as_millis() < SOON, "{:?}", start.elapsed());
}

#[test]
fn a_long_file_of_nothing_but_types_ends_soon() {
    let mut w = BtfWriter::new();
    for _ in 0..1_000_000 {
        w.structure("kvm_vcpu", 4, &[]);
    }
    let start = Instant::now();
    ask(&read(&w));
    assert!(start.elapsed().as_millis() < SOON, "{:?}", start.elapsed());
}

#[test]
fn members_end_within_their_structure() {
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

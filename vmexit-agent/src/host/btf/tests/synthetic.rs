//! Synthetic BTF for rules that the fixtures of real kernels may not cover, one small file each.

use std::sync::Arc;

use super::{
    read,
    writer::{BtfWriter, FLAG},
};
use crate::host::btf::{Btf, BtfError, Shape, wire::kind};

#[test]
fn params_of_tracepoint_are_those_of_its_typedef() {
    let mut w = BtfWriter::new();
    let void = w.refers(kind::PTR, "", 0);
    let uint = w.int("unsigned int", 4, 0);
    let u32_ = w.refers(kind::TYPEDEF, "u32", uint);
    let bool_ = w.int("_Bool", 1, 4);
    let short = w.int("short", 2, 1);
    let vcpu = w.add(kind::FWD, 0, "kvm_vcpu", 0, &[]);
    let vcpu = w.refers(kind::CONST, "", vcpu);
    let vcpu = w.refers(kind::PTR, "", vcpu);
    let vcpu = w.refers(kind::CONST, "", vcpu);
    let mode = w.add(kind::ENUM, 0, "mode", 4, &[]);
    let proto = w.function(&[
        ("__data", void),
        ("vcpu", vcpu),
        ("", u32_),
        ("", bool_),
        ("", short),
        ("", mode),
        ("", void),
    ]);
    let pointer = w.refers(kind::PTR, "", proto);
    w.refers(kind::TYPEDEF, "btf_trace_kvm_exit", pointer);
    w.refers(kind::TYPEDEF, "btf_trace_not_a_function", uint);
    let btf = read(&w);

    let params = btf.params_of_tracepoint("kvm_exit").unwrap();
    let spelled: Vec<String> = params.iter().map(|p| p.ty.to_string()).collect();
    assert_eq!(spelled, ["struct kvm_vcpu *", "u32", "_Bool", "short", "enum mode", "void *"]);
    let sizes: Vec<u32> = params.iter().map(|p| p.ty.size).collect();
    assert_eq!(sizes, [8, 4, 1, 2, 4, 8]);
    assert_eq!(params[0].name.as_deref(), Some("vcpu"));
    assert_eq!(params[1].name, None);
    assert!(params[0].ty.is_pointer_to("kvm_vcpu") && !params[0].ty.is_pointer_to("kvm"));
    assert!(params[1].ty.is_int(4) && !params[1].ty.is_int(8));
    assert_eq!(params[2].ty.shape, Shape::Bool);
    assert_eq!(params[3].ty.shape, Shape::Int { signed: true });
    assert_eq!(params[5].ty.shape, Shape::Pointer(None));

    assert_eq!(btf.params_of_tracepoint("kvm"), None);
    assert_eq!(btf.params_of_tracepoint("not_a_function"), None);
}

#[test]
fn field_is_found_through_named_and_anonymous_members() {
    let mut w = BtfWriter::new();
    let uint = w.int("unsigned int", 4, 0);
    let inner = w.structure("", 8, &[("low", uint, 0), ("high", uint, 32)]);
    let both = w.composite(kind::UNION, 0, "", 8, &[("whole", uint, 0), ("", inner, 0)]);
    let both = w.refers(kind::VOLATILE, "", both);
    let list = w.add(kind::ARRAY, 0, "", 0, &[uint, uint, 3]);
    let part = w.structure("part", 24, &[("list", list, 32), ("", both, 128)]);
    let alias = w.refers(kind::TYPEDEF, "part_t", part);
    let pointer = w.refers(kind::PTR, "", part);
    w.structure("outer", 48, &[("first", uint, 0), ("part", alias, 64), ("to", pointer, 320)]);
    let btf = read(&w);

    let offset = |path| btf.field("outer", path).map(|f| (f.offset, f.size)).ok();
    assert_eq!(offset("first"), Some((0, 4)));
    assert_eq!(offset("part"), Some((8, 24)));
    assert_eq!(offset("part.list"), Some((12, 12)));
    assert_eq!(offset("part.whole"), Some((24, 4)));
    assert_eq!(offset("part.high"), Some((28, 4)));
    assert_eq!(offset("to"), Some((40, 8)));
    assert_eq!(btf.field("outer", "part").unwrap().ty.shape, Shape::Composite(Some("part".into())));
    // Not through a pointer or into an integer, and not by an empty name.
    for path in ["to.list", "first.low", "part.", ".part", "", "high", "part.list.0"] {
        assert!(matches!(btf.field("outer", path), Err(BtfError::NoMember { .. })), "{path}");
    }
    assert_eq!(btf.size_of("outer").unwrap(), 48);
    assert!(matches!(btf.size_of("oute"), Err(BtfError::NoStruct(_))));
    assert!(matches!(btf.size_of("unsigned int"), Err(BtfError::NoStruct(_))));
}

#[test]
fn field_that_is_bit_field_is_an_error_in_both_encodings() {
    let mut w = BtfWriter::new();
    let uint = w.int("unsigned int", 4, 0);
    let narrow = w.add(kind::INT, 0, "unsigned int", 4, &[3]);
    w.structure("old", 4, &[("bits", narrow, 8), ("odd", uint, 4), ("whole", uint, 0)]);
    let members = [("bits", uint, 16 << 24), ("whole", uint, 0)];
    w.composite(kind::STRUCT, FLAG, "new", 4, &members);
    let btf = read(&w);
    for (structure, path) in [("old", "bits"), ("old", "odd"), ("new", "bits")] {
        let error = btf.field(structure, path).unwrap_err();
        assert!(matches!(error, BtfError::BitField { .. }), "{error}");
    }
    for structure in ["old", "new"] {
        assert_eq!(btf.field(structure, "whole").unwrap().size, 4);
    }
}

#[test]
fn field_of_several_definitions_must_agree() {
    let mut w = BtfWriter::new();
    let int = w.int("int", 4, 1);
    w.add(kind::FWD, 0, "twice", 0, &[]);
    w.structure("twice", 8, &[("same", int, 0), ("moved", int, 32)]);
    w.structure("twice", 12, &[("same", int, 0), ("moved", int, 64), ("new", int, 32)]);
    w.add(kind::FWD, 0, "declared", 0, &[]);
    let btf = read(&w);
    assert_eq!(btf.field("twice", "same").unwrap().offset, 0);
    assert_eq!(btf.field("twice", "new").unwrap().offset, 4);
    assert!(matches!(btf.field("twice", "moved"), Err(BtfError::Ambiguous { .. })));
    assert!(matches!(btf.field("twice", "gone"), Err(BtfError::NoMember { .. })));
    assert!(matches!(btf.size_of("twice"), Err(BtfError::Ambiguous { .. })));
    assert!(matches!(btf.size_of("declared"), Err(BtfError::Incomplete(_))));
}

#[test]
fn module_continues_ids_and_strings_of_kernel() {
    let mut base = BtfWriter::new();
    let int = base.int("int", 4, 1);
    let vcpu = base.structure("kvm_vcpu", 16, &[("kvm", int, 0), ("vcpu_id", int, 32)]);
    base.structure("other", 4, &[("id", int, 0)]);
    let mut w = BtfWriter::split(&base);
    w.add(kind::FWD, 0, "other", 0, &[]);
    w.structure("vcpu_vmx", 24, &[("vcpu", vcpu, 0), ("id", int, 128)]);
    w.structure("kvm", 8, &[("kvm", int, 32)]);
    let kernel = read(&base);
    let module = Btf::parse(w.bytes(), Some(Arc::clone(&kernel))).unwrap();

    assert_eq!((kernel.len(), module.len()), (3, 3));
    assert_eq!(module.field("vcpu_vmx", "vcpu.vcpu_id").unwrap().offset, 4);
    assert_eq!(module.field("vcpu_vmx", "id").unwrap().ty.name, "int");
    assert_eq!(module.field("kvm_vcpu", "kvm").unwrap().offset, 0);
    assert_eq!(module.field("kvm", "kvm").unwrap().offset, 4);
    // The module declares the struct, and the kernel defines it.
    assert_eq!(module.size_of("other").unwrap(), 4);
    assert!(matches!(kernel.size_of("vcpu_vmx"), Err(BtfError::NoStruct(_))));
    // A module can't be read without its base.
    match Btf::parse(w.bytes(), None) {
        Ok(btf) => assert!(btf.field("vcpu_vmx", "vcpu.vcpu_id").is_err()),
        Err(error) => assert!(matches!(error, BtfError::Damaged(_)), "{error}"),
    }
}

#[test]
fn unknown_kind_is_skipped_if_layout_has_its_length() {
    let mut w = BtfWriter::new();
    w.add(100, 2, "news", 0, &[1, 2, 3, 4, 5]);
    w.int("int", 4, 1);
    w.structure("here", 4, &[("id", 2, 0)]);
    assert!(matches!(Btf::parse(w.bytes(), None), Err(BtfError::UnknownKind(100))));

    // One word, then two for each element. Wrong lengths of known kinds are ignored.
    let mut layout = vec![[0u8; 4]; 101];
    layout[100] = [4, 8, 0, 0];
    let btf = Btf::parse(w.with_layout(&layout), None).unwrap();
    assert_eq!(btf.field("here", "id").unwrap().offset, 0);
}

#[test]
fn struct_can_have_more_than_65535_members() {
    let mut w = BtfWriter::new();
    let char = w.int("char", 1, 1);
    let names: Vec<String> = (0..70_000).map(|at| format!("m{at}")).collect();
    let members: Vec<(&str, u32, u32)> =
        names.iter().zip(0..).map(|(name, at)| (name.as_str(), char, at * 8)).collect();
    w.structure("long", 70_000, &members);
    assert_eq!(read(&w).field("long", "m69999").unwrap().offset, 69_999);
}

//! Maker of the fixtures: reduces the BTF of a real kernel to the types and members that the agent queries, so that the
//! files are small. Sizes and offsets stay.
//!
//! ```text
//! BTF_FROM=/sys/kernel/btf BTF_TO=vmexit-agent/tests/fixtures/btf/NAME \
//!     cargo test -p vmexit-agent --lib filter_writes_fixtures -- --ignored
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::Path,
    sync::Arc,
};

use super::writer::BtfWriter;
use crate::host::btf::{Btf, wire::kind};

const TRACEPOINTS: &[&str] = &[
    "kvm_exit",
    "kvm_entry",
    "kvm_pio",
    "kvm_mmio",
    "kvm_fast_mmio",
    "kvm_msr",
    "kvm_cpuid",
    "kvm_userspace_exit",
    "kvm_hypercall",
    "kvm_hv_hypercall",
    "kvm_inj_virq",
    "kvm_vcpu_wakeup",
    "kvm_halt_poll_ns",
];

/// Members to keep, by struct; `None` keeps all of them.
const MEMBERS: &[(&str, Option<&[&str]>)] = &[
    ("kvm_vcpu", Some(&["vcpu_id", "kvm", "pid", "run"])),
    ("kvm", Some(&["userspace_pid", "created_vcpus"])),
    ("vcpu_vmx", Some(&["vcpu", "vt", "exit_reason"])),
    ("vcpu_vt", Some(&["exit_reason", "exit_qualification"])),
    ("vmx_exit_reason", None),
    ("vcpu_svm", Some(&["vcpu", "vmcb"])),
    ("vcpu_pvm", Some(&["vcpu", "exit_reason"])),
    ("vmcb", Some(&["control"])),
    ("vmcb_control_area", Some(&["exit_code", "exit_code_hi", "exit_info_1", "exit_info_2"])),
];

#[test]
#[ignore = "writes fixtures: BTF_FROM has a kernel's files, BTF_TO gets the reduced ones"]
fn filter_writes_fixtures() {
    let [from, to] = ["BTF_FROM", "BTF_TO"].map(|name| env::var_os(name).unwrap());
    filter(Path::new(&from), Path::new(&to));
}

/// Reduces the files of one kernel.
fn filter(from: &Path, to: &Path) {
    let vmlinux = Arc::new(Btf::load(&from.join("vmlinux"), None).unwrap());
    let modules: Vec<(&str, Btf)> = ["kvm", "kvm_intel", "kvm_amd"]
        .into_iter()
        .filter_map(|name| {
            Some((name, Btf::load(&from.join(name), Some(Arc::clone(&vmlinux))).ok()?))
        })
        .collect();

    let mut wanted = BTreeSet::new();
    let reached: Vec<BTreeSet<u32>> =
        modules.iter().map(|(_, btf)| reach(btf, roots(btf))).collect();
    for ids in reached.iter().chain([&reach(&vmlinux, roots(&vmlinux))]) {
        wanted.extend(ids.range(..vmlinux.end_id().unwrap()));
    }

    fs::create_dir_all(to).unwrap();
    let mut base = BtfWriter::new();
    let ids = number(&BTreeMap::new(), &wanted);
    write(&vmlinux, &wanted, &ids, &mut base);
    fs::write(to.join("vmlinux.btf"), base.bytes()).unwrap();
    for ((name, btf), reached) in modules.iter().zip(reached) {
        let own: BTreeSet<u32> = reached.range(btf.first_id..).copied().collect();
        let mut writer = BtfWriter::split(&base);
        write(btf, &own, &number(&ids, &own), &mut writer);
        fs::write(to.join(format!("{name}.btf")), writer.bytes()).unwrap();
    }
}

/// Types of this file that the agent queries by name.
fn roots(btf: &Btf) -> Vec<u32> {
    let typedefs = TRACEPOINTS.iter().flat_map(|name| {
        let name = format!("btf_trace_{name}");
        btf.named(&name)
            .filter(|(_, record)| record.kind() == kind::TYPEDEF)
            .map(|(id, _)| id)
            .collect::<Vec<_>>()
    });
    let structures = MEMBERS.iter().flat_map(|(name, _)| {
        btf.named(name)
            .filter(|(_, record)| record.is_composite())
            .map(|(id, _)| id)
            .collect::<Vec<_>>()
    });
    typedefs.chain(structures).collect()
}

/// These types, and all that they refer to.
fn reach(btf: &Btf, roots: Vec<u32>) -> BTreeSet<u32> {
    let (mut reached, mut open) = (BTreeSet::new(), roots);
    while let Some(id) = open.pop() {
        if id != 0 && reached.insert(id) {
            let (_, record) = btf.record(id).unwrap();
            let words = words(btf, id).into_iter().enumerate();
            open.extend(words.filter(|(at, _)| is_type(record.kind(), *at)).map(|(_, id)| id));
            open.extend(links(record.kind()).then_some(record.link));
        }
    }
    reached
}

/// New IDs of types, after those of the base.
fn number(base: &BTreeMap<u32, u32>, ids: &BTreeSet<u32>) -> BTreeMap<u32, u32> {
    let mut numbered = base.clone();
    for &id in ids {
        numbered.insert(id, numbered.len() as u32 + 1);
    }
    numbered
}

fn write(btf: &Btf, ids: &BTreeSet<u32>, new: &BTreeMap<u32, u32>, writer: &mut BtfWriter) {
    let renumber = |id: u32| if id == 0 { 0 } else { new[&id] };
    for &id in ids {
        let (file, record) = btf.record(id).unwrap();
        let kind = record.kind();
        let mut words = words(btf, id);
        for (at, word) in words.iter_mut().enumerate() {
            if is_name(kind, at) {
                *word = writer.string(&file.name(*word).unwrap_or_default());
            } else if is_type(kind, at) {
                *word = renumber(*word);
            }
        }
        let vlen = match kind {
            kind::STRUCT | kind::UNION => words.len() / 3,
            kind::FUNC_PROTO => words.len() / 2,
            _ => 0,
        };
        let flag = u32::from(record.flag()) << 31;
        let name = file.name(record.name).unwrap_or_default();
        let link = if links(kind) { renumber(record.link) } else { record.link };
        assert_eq!(writer.add(kind, vlen as u32 | flag, &name, link, &words), new[&id]);
    }
}

/// Whether a word after a record is the offset of a name.
fn is_name(kind: u8, at: usize) -> bool {
    match kind {
        kind::STRUCT | kind::UNION => at.is_multiple_of(3),
        kind::FUNC_PROTO => at.is_multiple_of(2),
        _ => false,
    }
}

/// Whether a word after a record is the ID of a type.
fn is_type(kind: u8, at: usize) -> bool {
    match kind {
        kind::STRUCT | kind::UNION => at % 3 == 1,
        kind::FUNC_PROTO => at % 2 == 1,
        kind::ARRAY => at < 2,
        _ => false,
    }
}

/// Whether the record itself refers to a type.
fn links(kind: u8) -> bool {
    matches!(
        kind,
        kind::PTR
            | kind::TYPEDEF
            | kind::VOLATILE
            | kind::CONST
            | kind::RESTRICT
            | kind::FUNC_PROTO
            | kind::TYPE_TAG
    )
}

/// Words after a record, without dropped members and enumeration values.
fn words(btf: &Btf, id: u32) -> Vec<u32> {
    let (file, record) = btf.record(id).unwrap();
    let read = |at| file.word(record, at).unwrap();
    match record.kind() {
        kind::STRUCT | kind::UNION => {
            let structure = file.name(record.name);
            (0..record.vlen())
                .filter(|at| is_kept(structure.as_deref(), file.name(read(3 * at)).as_deref()))
                .flat_map(|at| [3 * at, 3 * at + 1, 3 * at + 2])
                .map(read)
                .collect()
        }
        kind::FUNC_PROTO => (0..2 * record.vlen()).map(read).collect(),
        kind::ARRAY => (0..3).map(read).collect(),
        kind::INT => vec![read(0)],
        _ => Vec::new(),
    }
}

/// Whether a member is kept: anonymous ones are, and those listed for the struct.
fn is_kept(structure: Option<&str>, member: Option<&str>) -> bool {
    let (Some(structure), Some(member)) = (structure, member) else { return true };
    match MEMBERS.iter().find(|(name, _)| *name == structure) {
        Some((_, Some(members))) => members.contains(&member),
        Some((_, None)) => true,
        None => false,
    }
}

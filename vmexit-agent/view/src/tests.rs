//! The list of VMs as table and JSON, also with hostile names.

use proptest::prelude::*;
use unicode_width::UnicodeWidthStr as _;
use vmexit_core::{
    escape::is_plain,
    testing::nasty,
    vm::{Address, FoundVms, Machine, Monitor, Vm, Vmm},
};

use super::*;

/// Maximum width of a line: a name, a machine and a path at their maximum widths, and the other columns.
const WIDEST_LINE: usize = 64 + 64 + 108 + 120;

fn qmp(path: &str) -> Monitor {
    Monitor::Qmp(Address::Path(path.into()))
}

fn vm(name: &str) -> Vm {
    Vm { pid: 4_242, name: name.into(), vmm: Vmm::Qemu, vcpus: 2, ..Vm::default() }
}

fn rendered(vms: Vec<Vm>, hidden: usize, format: Format) -> String {
    let missing = vec!["CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"];
    let found = FoundVms { vms, seen: 1, hidden, missing, ..FoundVms::default() };
    let bytes = super::vms(&found, format).unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn vms_table_of_different_vms() {
    let qemu = Vm {
        machine: Machine::Named("pc-q35-8.2".into()),
        uuid: Some("c7a5fdbd-edaf-9455-926a-d65c16db1809".into()),
        libvirt: true,
        has_monitor: true,
        ..vm("win10")
    };
    let own = Vm {
        pid: 97,
        machine: Machine::Default,
        monitors: ["/run/a.sock", "/run/b.sock"].map(qmp).into(),
        ..vm("build, nightly")
    };
    let other = Vm { pid: 100_000, vmm: Vmm::Other, vcpus: 128, ..vm("win10") };
    let unasked = Vm { pid: 12, ..vm("\x1b[2Jサーバー") };
    insta::assert_snapshot!(rendered(vec![other, qemu, own, unasked], 2, Format::Text));
}

#[test]
fn hidden_processes_are_explained_by_missing_capabilities_or_named() {
    let mut found = FoundVms { hidden: 4, hidden_pids: vec![1, 7, 9], ..FoundVms::default() };
    let says = hidden(&found);
    assert!(says.contains("(1, 7, 9, …)") && !says.contains("CAP_"), "{says}");
    found.missing = vec!["CAP_SYS_PTRACE"];
    let says = hidden(&found);
    assert!(says.contains("takes CAP_SYS_PTRACE:") && !says.contains("CAP_DAC"), "{says}");
}

#[test]
fn vms_json_fields_are_documented() {
    let docs = include_str!("../../../docs/json.md");
    let vm = Vm { threads: [(1, 0)].into(), ..vm("a") };
    let list: serde_json::Value =
        serde_json::from_str(&rendered(vec![vm], 0, Format::Json)).unwrap();
    let objects = [&list, &list["vms"][0], &list["vms"][0]["threads"][0]];
    for (name, _) in objects.iter().flat_map(|object| object.as_object().unwrap()) {
        assert!(docs.contains(&format!("`{name}`")), "{name} is not in docs/json.md");
    }
}

proptest! {
    #[test]
    fn vms_table_of_any_names_has_a_line_per_vm(names in prop::collection::vec(nasty(), 0..5), text in nasty()) {
        let hostile = |name: &String| Vm {
            machine: Machine::Named(text.clone()),
            monitors: vec![qmp(&text); 3],
            ..vm(name)
        };
        let table = rendered(names.iter().map(hostile).collect(), 0, Format::Text);
        prop_assert_eq!(table.matches('\n').count(), 1 + names.len());
        prop_assert!(table.ends_with('\n'));
        for line in table.lines() {
            prop_assert!(line.chars().all(is_plain), "{line:?}");
            prop_assert!(line.width() <= WIDEST_LINE, "{} columns: {line}", line.width());
        }
    }

    #[test]
    fn vms_json_keeps_any_name(name in nasty(), bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let name = name + &String::from_utf8_lossy(&bytes);
        let json = rendered(vec![vm(&name)], 0, Format::Json);
        prop_assert!(json.chars().all(|c| c == '\n' || is_plain(c)), "{json}");
        let list: serde_json::Value = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(list["vms"][0]["name"].as_str(), Some(name.as_str()));
    }
}

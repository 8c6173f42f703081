//! Memory trees of real QEMUs: parsing of `info mtree -f`, and the devices at ports and addresses. `fixtures/mtree` has the
//! outputs, and says how they were recorded.

use std::time::{Duration, Instant};

use proptest::{prelude::*, sample::Index};
use vmexit_core::{
    device::{
        mtree::{Lookup, MAX_NAME, MemoryTree, MtreeError, Region, RegionKind, View},
        well_known,
    },
    vm::Vmm,
};

/// Output of `info mtree -f` of a QEMU version and machine.
struct Recorded {
    name: &'static str,
    text: &'static str,
}

macro_rules! recorded {
    ($($name:literal)*) => {
        [$(Recorded { name: $name, text: include_str!(concat!("../../tests/fixtures/mtree/", $name, ".txt")) }),*]
    };
}

const ALL: [Recorded; 8] = recorded!(
    "7.2-pc" "7.2-q35" "7.2-q35-split-owners" "7.2-microvm"
    "11.1-pc" "11.1-q35" "11.1-q35-split-owners" "11.1-microvm"
);

/// Time limit for parsing 8 MiB: many times what linear parsing takes in a debug build.
const LIMIT: Duration = Duration::from_secs(5);

impl Recorded {
    fn tree(&self) -> MemoryTree {
        MemoryTree::parse(self.text).unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    fn is_microvm(&self) -> bool {
        self.name.ends_with("microvm")
    }

    /// Lines of regions in the view of an address space.
    fn lines(&self, space: &str) -> Vec<&'static str> {
        let views = self.text.split("FlatView #");
        let mut wanted = views.filter(|view| view.contains(&format!(" AS \"{space}\",")));
        let view = wanted.next().unwrap_or_else(|| panic!("{}", self.name));
        assert_eq!(wanted.next(), None, "{}", self.name);
        view.lines().filter(|line| line.contains(" (prio ")).collect()
    }
}

/// Name of the region at an address, and the offset in it.
fn at(view: &View, address: u64) -> Option<(&str, u64)> {
    match view.find(address) {
        Lookup::Region { region, offset } => Some((&region.name, offset)),
        Lookup::Unassigned => None,
    }
}

/// The result of [`at`], found by looking at each region.
fn scanned(view: &View, address: u64) -> Option<(&str, u64)> {
    let mut all = view.regions().iter().filter(|r| (r.start..=r.end).contains(&address));
    let found = all.next().map(|r| (r.name.as_str(), r.offset + (address - r.start)));
    assert!(all.next().is_none(), "{address:#x} is in two regions");
    found
}

#[test]
fn mtree_region_lines_are_all_parsed() {
    for recorded in &ALL {
        let tree = recorded.tree();
        let (io, memory) = (recorded.lines("I/O"), recorded.lines("memory"));
        // Ports without a device belong to the root.
        let is_root = |line: &&str| line.contains("): io @") || line.ends_with("): io");
        let io: Vec<_> = io.into_iter().filter(|line| !is_root(line)).collect();
        assert!(io.len() > 10 && memory.len() > 20, "{}", recorded.name);
        for (lines, view) in [(io, &tree.io), (memory, &tree.memory)] {
            assert_eq!(lines.len(), view.regions().len(), "{}", recorded.name);
            for (line, Region { name, start, end, offset, owner, .. }) in
                lines.into_iter().zip(view.regions())
            {
                let range = format!("  {start:016x}-{end:016x} (prio ");
                assert!(line.starts_with(&range), "{}: {line}", recorded.name);
                assert!(line.contains(&format!("): {name}")), "{}: {line}", recorded.name);
                let at = format!("): {name} @{offset:016x}");
                assert_eq!(line.contains(&at), *offset != 0, "{}: {line}", recorded.name);
                assert_eq!(line.contains('{'), owner.is_some(), "{}: {line}", recorded.name);
                assert!(
                    !name.contains(" KVM") && !name.contains(" @"),
                    "{}: {name}",
                    recorded.name
                );
            }
        }
    }
}

#[test]
fn mtree_ports_resolve_to_devices() {
    for recorded in &ALL {
        let io = &recorded.tree().io;
        assert_eq!(at(io, 0x70), Some(("rtc-index", 0)), "{}", recorded.name);
        assert_eq!(at(io, 0x71), Some(("rtc", 1)), "{}", recorded.name);
        assert_eq!(at(io, 0x3fd), Some(("serial", 5)), "{}", recorded.name);
        assert_eq!(at(io, 0x510), Some(("fwcfg", 0)), "{}", recorded.name);
        // Between devices, after the last one, and outside of the address space.
        for port in [0x30, 0x5800, 0xffff, 0x1_0000, u64::MAX] {
            assert_eq!(io.find(port), Lookup::Unassigned, "{} {port:#x}", recorded.name);
        }
        let timer = (!recorded.is_microvm()).then_some(("acpi-tmr", 0));
        assert_eq!(at(io, 0x608), timer, "{}", recorded.name);
        assert_eq!(at(io, 0x60b), timer.map(|(name, _)| (name, 3)), "{}", recorded.name);
        assert_eq!(at(io, 0x60c), None, "{}", recorded.name);
    }
}

#[test]
fn mtree_addresses_resolve_to_devices() {
    for recorded in &ALL {
        let memory = &recorded.tree().memory;
        let name = recorded.name;
        assert_eq!(at(memory, 0xfee0_0030), Some(("kvm-apic-msi", 0x30)), "{name}");
        assert_eq!(memory.find(u64::MAX), Lookup::Unassigned, "{name}");
        let ram = if recorded.is_microvm() { "microvm.ram" } else { "pc.ram" };
        let Lookup::Region { region, offset } = memory.find(0x10_0abc) else { panic!("{name}") };
        assert_eq!((region.name.as_str(), region.kind, offset), (ram, RegionKind::Ram, 0x10_0abc));
        if recorded.is_microvm() {
            assert_eq!(at(memory, 0xfeb0_2e50), Some(("virtio-mmio", 0x50)), "{name}");
            continue;
        }
        assert_eq!(at(memory, 0xfed0_00f0), Some(("hpet", 0xf0)), "{name}");
        assert_eq!(at(memory, 0xfed0_0400), None, "{name}");
        assert_eq!(at(memory, 0xfe00_3004), Some(("virtio-pci-notify-virtio-net", 4)), "{name}");
        assert_eq!(at(memory, 0xb_8000), Some(("vga-lowmem", 0x1_8000)), "{name}");
        // RAM that SeaBIOS made read-only.
        let Lookup::Region { region, .. } = memory.find(0xf_0000) else { panic!("{name}") };
        assert_eq!((region.name.as_str(), region.kind), ("pc.ram", RegionKind::Rom), "{name}");
    }
}

#[test]
fn mtree_owners_are_named_by_id() {
    for recorded in ALL.iter().filter(|recorded| recorded.name.ends_with("owners")) {
        let tree = recorded.tree();
        let owner = |view: &'_ View, address| match view.find(address) {
            Lookup::Region { region, .. } => region.owner.clone(),
            Lookup::Unassigned => None,
        };
        let memory = |address| owner(&tree.memory, address);
        assert_eq!(memory(0xfe00_3000).as_deref(), Some("net0"), "{}", recorded.name);
        assert_eq!(memory(0xfe84_0000).as_deref(), Some("net0"), "{}", recorded.name);
        assert_eq!(at(&tree.memory, 0xfea1_0040), Some(("operational", 0)), "{}", recorded.name);
        assert_eq!(memory(0xfea1_0040).as_deref(), Some("usb0"), "{}", recorded.name);
        assert_eq!(owner(&tree.io, 0xc000).as_deref(), Some("disk0"), "{}", recorded.name);
        let vga = owner(&tree.io, 0x3c0).unwrap();
        assert!(vga.starts_with("/machine/unattached/device["), "{}: {vga}", recorded.name);
    }
}

/// QEMU's name of a device without the prefix of those in KVM.
fn device(name: &str) -> &str {
    name.strip_prefix("kvm-").unwrap_or(name)
}

#[test]
fn well_known_devices_match_real_machines() {
    for recorded in ALL.iter().filter(|recorded| !recorded.is_microvm()) {
        let tree = recorded.tree();
        for port in 0..=u16::MAX {
            let Some((name, offset)) = at(&tree.io, port.into()) else { continue };
            if let Some(guess) = well_known::port(Vmm::Qemu, port) {
                let found = (guess.name, guess.offset);
                assert_eq!(found, (device(name), offset), "{} {port:#x}", recorded.name);
            }
        }
        for region in tree.memory.regions() {
            for address in [region.start, region.end] {
                if let Some(guess) = well_known::memory(Vmm::Qemu, address) {
                    let found = (guess.name, guess.offset);
                    let real = at(&tree.memory, address).map(|(name, at)| (device(name), at));
                    assert_eq!(Some(found), real, "{} {address:#x}", recorded.name);
                }
            }
        }
    }
}

#[test]
fn well_known_devices_cover_real_machines() {
    // Devices whose ports the firmware assigns, and those whose name depends on the machine.
    let unknown = ["virtio-pci", "piix-bmdma", "bmdma", "ahci-idp"];
    for recorded in ALL.iter().filter(|recorded| !recorded.is_microvm()) {
        for region in recorded.tree().io.regions() {
            let name = device(&region.name);
            if unknown.contains(&name) || name.ends_with("reset-control") || region.start == 0xcfa {
                continue;
            }
            let port = u16::try_from(region.start).unwrap();
            let guess = well_known::port(Vmm::Qemu, port).map(|guess| guess.name);
            assert_eq!(guess, Some(name), "{} {port:#x}", recorded.name);
        }
    }
}

#[test]
fn mtree_of_other_text_is_an_error() {
    let empty = MemoryTree::parse("").unwrap_err();
    assert!(matches!(empty, MtreeError::NoFlatView { .. }));
    let other = MemoryTree::parse("unknown command: 'info \u{1b}[31mmtree'\r\n").unwrap_err();
    assert_eq!(
        other.to_string(),
        "not the output of QEMU's `info mtree -f`: no line 'FlatView #0', the text begins with \
         \"unknown command: 'info \\u{1b}[31mmtree'\\r\\n\""
    );
    let one = MemoryTree::parse("FlatView #0\n AS \"I/O\", root: io\n").unwrap_err();
    assert_eq!(one, MtreeError::NoView("guest memory"));
    let none = MemoryTree::parse("FlatView #0\n  No rendered FlatView\n").unwrap_err();
    assert_eq!(none, MtreeError::NoView("I/O ports"));
}

#[test]
fn mtree_views_are_selected_by_name_only() {
    let text = "FlatView #0\n AS \"memory-x\", root: a\n  0000000000000000-000000000000000f (prio 0, i/o): no\n\
                FlatView #1\n AS \"x\", root: a\n AS \"memory\", root: b\n Root memory region: b\n\
                \x20 0000000000000010-000000000000001f (prio 0, i/o): b\n\
                \x20 0000000000000020-000000000000002f (prio 0, i/o): b @0000000000000020\n\
                \x20 000000000000002f-0000000000000030 (prio 0, i/o): overlaps\n\
                \x20 0000000000000000-000000000000000f (prio 0, i/o): low\n\
                FlatView #2\n AS \"I/O\", root: io\n Root memory region: io\n  No rendered FlatView\n\
                FlatView #3\n AS \"memory\", root: b\n  0000000000000040-000000000000004f (prio 0, i/o): again\n";
    let tree = MemoryTree::parse(text).unwrap();
    assert_eq!(tree.io.regions(), []);
    let names: Vec<_> = tree.memory.regions().iter().map(|r| r.name.as_str()).collect();
    assert_eq!(names, ["low", "b", "overlaps"]);
    assert_eq!(at(&tree.memory, 0x2f), Some(("overlaps", 0)));
    assert_eq!((at(&tree.memory, 0x20), at(&tree.memory, 0x40)), (None, None));
}

/// Lines before the regions of guest memory.
const HEAD: &str =
    "FlatView #0\n AS \"I/O\", root: io\nFlatView #1\n AS \"memory\", root: system\n";

#[test]
fn mtree_large_text_takes_linear_time() {
    let region = "  0000000000000000-0000000000000fff (prio 0, i/o): x";
    let pieces = [
        "x".to_owned(),
        "\n".to_owned(),
        "FlatView #".to_owned(),
        "FlatView #\n AS \"memory\", root: x\n".to_owned(),
        region.to_owned(),
        format!("{region}\n"),
        format!("{region} @0000000000000000 owner:{{}} KVM\n"),
        " KVM".to_owned(),
        " owner:{ @0123456789abcdef}".to_owned(),
        " AS \"".to_owned(),
        " Root memory region: \n".to_owned(),
    ];
    for piece in pieces {
        for before in [String::new(), region.to_owned()] {
            let text = format!("{HEAD}{before}{}", piece.repeat((8 << 20) / piece.len()));
            let start = Instant::now();
            let tree = MemoryTree::parse(&text);
            assert!(start.elapsed() < LIMIT, "{piece:?} took {:?}", start.elapsed());
            match tree {
                Ok(tree) => {
                    let mut regions = tree.memory.regions().iter();
                    assert!(regions.all(|region| region.name.len() <= MAX_NAME));
                }
                Err(error) => assert!(matches!(error, MtreeError::TooManyRegions(_)), "{error}"),
            }
        }
    }
}

/// Compares [`at`] with [`scanned`] at these addresses and at the edges of all regions.
fn assert_lookups(tree: &MemoryTree, addresses: &[u64]) {
    for view in [&tree.io, &tree.memory] {
        let edges = view.regions().iter().flat_map(|region| [region.start, region.end]);
        let around = edges.flat_map(|edge| [edge.saturating_sub(1), edge, edge.saturating_add(1)]);
        for address in around.chain(addresses.iter().copied()) {
            assert_eq!(at(view, address), scanned(view, address), "{address:#x}");
        }
    }
}

/// A change of a text: position, number of bytes to remove, and text to insert.
fn change() -> impl Strategy<Value = (Index, usize, String)> {
    let new = prop_oneof![
        Just(String::new()),
        "\\PC{0,8}",
        "[0-9a-f]{1,16}",
        Just("\n".into()),
        Just(" KVM".into()),
        Just("  ffffffffffffff00-ffffffffffffffff (prio 0, i/o): x\n".into()),
        Just("FlatView #9\n AS \"memory\", root: x\n".into()),
    ];
    (any::<Index>(), 0usize..64, new)
}

proptest! {
    #[test]
    fn mtree_any_text_does_not_panic(text in "(?s).{0,400}", addresses: [u64; 4]) {
        if let Ok(tree) = MemoryTree::parse(&text) {
            assert_lookups(&tree, &addresses);
        }
    }

    #[test]
    fn mtree_any_region_lines_are_parsed(
        lines in prop::collection::vec(
            "  [0-9a-f]{16}-[0-9a-f]{16} \\(prio -?[0-9]{1,3}, (nv-)?(ram|i/o|\\PC{0,4})\\): \\PC{0,300}( @[0-9a-f]{16})?( KVM)?",
            0..40,
        ),
        near in prop::collection::vec((0u64..0x400, 0u64..0x40), 0..40),
        addresses: [u64; 4],
    ) {
        let near = near.iter().map(|(start, size)| {
            format!("  {start:016x}-{:016x} (prio 0, i/o): near", start + size)
        });
        let lines: Vec<_> = lines.into_iter().chain(near).collect();
        let tree = MemoryTree::parse(&format!("{HEAD}{}\n", lines.join("\n"))).unwrap();
        assert_lookups(&tree, &addresses);
    }

    #[test]
    fn mtree_damaged_text_does_not_panic(
        which in 0..ALL.len(),
        changes in prop::collection::vec(change(), 1..12),
        addresses: [u64; 4],
    ) {
        let mut text = ALL[which].text.to_owned();
        for (place, removed, new) in changes {
            let start = text.floor_char_boundary(place.index(text.len().max(1)));
            let end = text.floor_char_boundary(start + removed).max(start);
            text.replace_range(start..end, &new);
        }
        if let Ok(tree) = MemoryTree::parse(&text) {
            assert_lookups(&tree, &addresses);
        }
    }
}

//! One line of a flat view: `START-END (prio N, KIND): NAME`, then optionally ` @OFFSET`, `
//! owner:{…}`, ` parent:{…}` and ` KVM`. Names can contain spaces, brackets and `@`, so the
//! optional parts are parsed from the end.

use super::{MAX_NAME, Region, RegionKind};

/// The region of a line; `None` for any other line.
pub(super) fn region(line: &str) -> Option<Region> {
    let (start, rest) = line.strip_prefix("  ")?.split_once('-')?;
    let (end, rest) = rest.split_once(" (prio ")?;
    let (attributes, rest) = rest.split_once("): ")?;
    let (_, kind) = attributes.split_once(", ")?;
    let volatile_kind = kind.strip_prefix("nv-");
    let (rest, owner) = split_owner(strip_accelerators(rest));
    let (name, offset) = split_offset(rest);
    let (start, end) = (number(start)?, number(end)?);
    offset.checked_add(end.checked_sub(start)?)?;
    Some(Region {
        name: bounded(name),
        owner: owner.map(bounded),
        start,
        end,
        offset,
        kind: RegionKind::of(volatile_kind.unwrap_or(kind)),
        nonvolatile: volatile_kind.is_some(),
    })
}

impl RegionKind {
    fn of(name: &str) -> Self {
        match name {
            "ram" => Self::Ram,
            "ramd" => Self::RamDevice,
            "rom" => Self::Rom,
            "romd" => Self::RomDevice,
            "i/o" => Self::Io,
            "container" => Self::Container,
            _ => Self::Other,
        }
    }
}

/// Strips ` KVM`, printed once for each address space of the view in which the range is memory to
/// KVM.
fn strip_accelerators(mut text: &str) -> &str {
    while let Some(shorter) = text.strip_suffix(" KVM") {
        text = shorter;
    }
    text
}

/// Splits off the owner as printed by `mtree_print_mr_owner`: `{dev id=net0}`,
/// `{dev path=/machine/…}`, `{obj type=…}`. A list of ports has only a type; its parent is the
/// device.
fn split_owner(text: &str) -> (&str, Option<&str>) {
    let text = text.strip_suffix(" orphan").unwrap_or(text);
    let (text, parent) = split_braced(text, " parent:{");
    let (text, owner) = split_braced(text, " owner:{");
    let both = [owner, parent];
    let device = both.into_iter().flatten().find(|owner| owner.starts_with("dev "));
    let owner = device.or(owner).or(parent).and_then(|owner| Some(owner.split_once('=')?.1));
    (text, owner.map(device_id))
}

/// Splits off `LABEL…}` at the end of the text.
fn split_braced<'a>(text: &'a str, label: &str) -> (&'a str, Option<&'a str>) {
    let found = text.strip_suffix('}').and_then(|text| text.rsplit_once(label));
    found.map_or((text, None), |(before, inside)| (before, Some(inside)))
}

/// ID of a device with a path below `/machine/peripheral/`, also for the paths of its parts; the
/// path itself for any other.
fn device_id(path: &str) -> &str {
    match path.strip_prefix("/machine/peripheral/") {
        Some(rest) => rest.split_once('/').map_or(rest, |(id, _)| id),
        None => path,
    }
}

/// Splits off the offset, which QEMU omits if it is 0.
fn split_offset(text: &str) -> (&str, u64) {
    let found = text.rsplit_once(" @").and_then(|(name, digits)| Some((name, number(digits)?)));
    found.unwrap_or((text, 0))
}

/// Parses sixteen hexadecimal digits (`HWADDR_FMT_plx`).
fn number(digits: &str) -> Option<u64> {
    let is_address = digits.len() == 16 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_address.then(|| u64::from_str_radix(digits, 16).ok())?
}

fn bounded(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_NAME)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(rest: &str) -> Region {
        region(&format!("  0000000000001000-00000000000010ff (prio 0, {rest}")).unwrap()
    }

    #[test]
    fn region_name_excludes_trailing_attributes() {
        let plain = of("i/o): vga ioports remapped");
        assert_eq!((plain.name.as_str(), plain.offset), ("vga ioports remapped", 0));
        assert_eq!((plain.kind, plain.nonvolatile, plain.owner), (RegionKind::Io, false, None));
        let all = of(
            "nv-ram): /rom@etc/acpi (x): y @0000000000000020 owner:{dev id=net0} parent:{obj path=/machine} KVM KVM",
        );
        assert_eq!((all.name.as_str(), all.offset), ("/rom@etc/acpi (x): y", 0x20));
        assert_eq!((all.kind, all.nonvolatile), (RegionKind::Ram, true));
        assert_eq!(all.owner.as_deref(), Some("net0"));
        assert_eq!(of("i/o): KVM").name, "KVM");
        assert_eq!(of("i/o): name @20").name, "name @20");
        assert_eq!(of("i/o): name @+000000000000020").name, "name @+000000000000020");
        assert_eq!(of("i/o): ").name, "");
    }

    #[test]
    fn region_owner_is_device_id_or_path() {
        let owner = |text: &str| of(&format!("i/o): x{text}")).owner;
        let path = "dev path=/machine/peripheral/usb0/xhci-core";
        assert_eq!(owner(&format!(" owner:{{{path}}}")).as_deref(), Some("usb0"));
        let list = " owner:{obj type=memory-region-portio-list} parent:{dev path=/machine/q35}";
        assert_eq!(owner(list).as_deref(), Some("/machine/q35"));
        let parent_only = " parent:{obj path=/machine/unattached} KVM";
        assert_eq!(owner(parent_only).as_deref(), Some("/machine/unattached"));
        assert_eq!(owner(" orphan"), None);
        assert_eq!(owner(" owner:{}"), None);
    }

    #[test]
    fn region_kinds_are_parsed() {
        let kinds = ["ram", "ramd", "rom", "romd", "i/o", "container", "new"];
        let found = kinds.map(|kind| of(&format!("{kind}): x")).kind);
        use RegionKind::*;
        assert_eq!(found, [Ram, RamDevice, Rom, RomDevice, Io, Container, Other]);
    }

    #[test]
    fn malformed_region_lines_are_none() {
        for line in [
            "",
            "  No rendered FlatView",
            "      #0 @0000000000000000..000000000000ffff io [unassigned]",
            "  1000-10ff (prio 0, i/o): too short",
            "  00000000000010ff-0000000000001000 (prio 0, i/o): reversed",
            "  0000000000000000-ffffffffffffffff (prio 0, i/o): too far @0000000000000001",
            "    0000000000001000-00000000000010ff (prio 0, i/o): of a tree",
            "  0000000000001000-00000000000010ff (prio 0): x",
            "  +000000000001000-00000000000010ff (prio 0, i/o): x",
        ] {
            assert_eq!(region(line), None, "{line}");
        }
        let whole = region("  0000000000000000-ffffffffffffffff (prio -1, ram): x").unwrap();
        assert_eq!((whole.start, whole.end), (0, u64::MAX));
    }

    #[test]
    fn long_region_name_is_cut_between_characters() {
        let name = of(&format!("i/o): x{}", "ä".repeat(1000))).name;
        assert_eq!(name, format!("x{}", "ä".repeat(127)));
    }
}

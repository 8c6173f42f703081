//! QEMU's memory tree: the regions at I/O ports and guest-physical addresses, parsed from the
//! monitor's `info mtree -f`, with or without `-o`.
//!
//! ```text
//! FlatView #1
//!  AS "I/O", root: io
//!  Root memory region: io
//!   0000000000000608-000000000000060b (prio 0, i/o): acpi-tmr
//!   000000000000060c-0000000000000cf7 (prio 0, i/o): io @000000000000060c
//! ```
//!
//! A flat view has overlaps resolved, so at most one region answers at an address. It is printed by
//! `mtree_print_flatview` in QEMU's system/memory.c (softmmu/memory.c until 8.1), in any order, and
//! for the address spaces of devices too. The text is untrusted: the user who runs QEMU chooses parts
//! of it. Unknown lines are ignored, and names must be escaped before they are printed.

mod line;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Longest region name that is kept, bytes; QEMU's own have up to about 40.
pub const MAX_NAME: usize = 256;

/// Most regions of an address space; a QEMU with 64 PCI devices has some 500.
pub const MAX_REGIONS: usize = 8192;

const HEADER: &str = "FlatView #";

/// Error of parsing the output of `info mtree -f`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MtreeError {
    /// The text is something else, such as the output of another command or of an older QEMU.
    #[error(
        "not the output of QEMU's `info mtree -f`: no line '{HEADER}0', the text begins with {begins:?}"
    )]
    NoFlatView {
        /// First 60 characters of the text.
        begins: String,
    },
    /// The view of an address space is missing; every x86 machine has both.
    #[error("incomplete output of QEMU's `info mtree -f`: no view of {0}")]
    NoView(&'static str),
    /// An address space has more regions than this.
    #[error("the memory tree has an address space of more than {0} regions")]
    TooManyRegions(usize),
}

/// Both address spaces of a VM at the time of the query; firmware and guest can move devices' BARs
/// later.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct MemoryTree {
    /// Regions by I/O port.
    pub io: View,
    /// Regions by guest-physical address.
    pub memory: View,
}

/// One address space: regions that do not overlap, sorted by address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "Vec<Region>", into = "Vec<Region>")]
pub struct View {
    regions: Vec<Region>,
}

/// Address range of one of QEMU's memory regions.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Region {
    /// QEMU's name of the memory region, such as `acpi-tmr`. Unescaped.
    pub name: String,
    /// Owner of the region, if `-o` was given: the device's ID, else its path in QEMU's object
    /// tree, else a type. Unescaped.
    pub owner: Option<String>,
    /// First address.
    pub start: u64,
    /// Last address.
    pub end: u64,
    /// Offset of `start` within the memory region, bytes.
    pub offset: u64,
    /// Type of the memory region.
    pub kind: RegionKind,
    /// Whether the region is RAM that outlives the VM.
    pub nonvolatile: bool,
}

/// Type of a memory region (`memory_region_type` in QEMU's system/memory.c).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RegionKind {
    /// `ram`
    Ram,
    /// `ramd`: memory of a passed-through device.
    RamDevice,
    /// `rom`: also RAM that firmware has made read-only.
    Rom,
    /// `romd`: reads are memory accesses, writes go to a device, such as flash.
    RomDevice,
    /// `i/o`: QEMU or the kernel emulates each access.
    Io,
    /// `container`: emulated too; a root, or mapped only through other regions.
    Container,
    /// A type unknown to this version.
    Other,
}

/// Result of looking up an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup<'a> {
    /// A memory region.
    Region {
        /// The region.
        region: &'a Region,
        /// Offset of the address within QEMU's memory region, bytes: 0xf0 for the HPET's counter.
        offset: u64,
    },
    /// No region: reads return all ones.
    Unassigned,
}

impl MemoryTree {
    /// Parses the output of `info mtree -f`.
    ///
    /// # Errors
    /// The text is something else, the view of an address space is missing, or one has too many regions.
    pub fn parse(text: &str) -> Result<Self, MtreeError> {
        let (mut io, mut memory) = (None, None);
        let mut section: Option<Section> = None;
        for line in text.lines() {
            if line.starts_with(HEADER) {
                Section::close(section.replace(Section::default()), &mut io, &mut memory);
            } else if let Some(section) = &mut section {
                section.read(line)?;
            }
        }
        if section.is_none() {
            let begins = text.chars().take(60).collect();
            return Err(MtreeError::NoFlatView { begins });
        }
        Section::close(section, &mut io, &mut memory);
        Ok(Self {
            io: io.ok_or(MtreeError::NoView("I/O ports"))?,
            memory: memory.ok_or(MtreeError::NoView("guest memory"))?,
        })
    }

    /// Returns the memory that the tree takes, bytes.
    pub fn bytes(&self) -> usize {
        self.io.bytes() + self.memory.bytes()
    }
}

impl View {
    /// Sorts the regions. Of overlapping ones, which QEMU never prints, the one with the lowest
    /// address is kept.
    fn new(mut regions: Vec<Region>) -> Self {
        regions.sort_by_key(|region| region.start);
        let mut last = None;
        regions.retain(|region| {
            let is_free = last.is_none_or(|last| region.start > last);
            if is_free {
                last = Some(region.end);
            }
            is_free
        });
        regions.shrink_to_fit();
        Self { regions }
    }

    fn bytes(&self) -> usize {
        let texts = |region: &Region| {
            region.name.capacity() + region.owner.as_ref().map_or(0, String::capacity)
        };
        self.regions.capacity() * size_of::<Region>()
            + self.regions.iter().map(texts).sum::<usize>()
    }

    /// Looks up a port or guest-physical address.
    pub fn find(&self, address: u64) -> Lookup<'_> {
        let end = self.regions.partition_point(|region| region.start <= address);
        match self.regions[..end].last() {
            Some(region) if address <= region.end => {
                Lookup::Region { region, offset: region.offset + (address - region.start) }
            }
            _ => Lookup::Unassigned,
        }
    }

    /// The regions at these addresses.
    pub fn subset(&self, addresses: impl Iterator<Item = u64>) -> Self {
        let mut regions = Vec::new();
        for address in addresses {
            if let Lookup::Region { region, .. } = self.find(address) {
                regions.push(region.clone());
            }
        }
        Self::new(regions)
    }

    /// Adds regions read later. They replace overlapping ones.
    pub fn extend(&mut self, later: Self) {
        // Of the later regions, which are sorted and do not overlap, only the last that starts before the end of
        // this one can reach into it.
        let is_free = |region: &Region| {
            let before = later.regions.partition_point(|other| other.start <= region.end);
            later.regions[..before].last().is_none_or(|other| other.end < region.start)
        };
        self.regions.retain(is_free);
        self.regions.extend(later.regions);
        self.regions.sort_by_key(|region| region.start);
    }

    /// All regions, sorted by address.
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }
}

impl From<View> for Vec<Region> {
    fn from(view: View) -> Self {
        view.regions
    }
}

impl TryFrom<Vec<Region>> for View {
    type Error = &'static str;

    fn try_from(regions: Vec<Region>) -> Result<Self, Self::Error> {
        let is_valid = |region: &Region| {
            let length = region.end.checked_sub(region.start);
            length.and_then(|length| region.offset.checked_add(length)).is_some()
        };
        if regions.iter().all(is_valid) {
            Ok(Self::new(regions))
        } else {
            Err("address range exceeds 64 bits")
        }
    }
}

/// A flat view being parsed.
#[derive(Default)]
struct Section<'a> {
    space: Option<Space>,
    root: &'a str,
    regions: Vec<Region>,
}

#[derive(Clone, Copy)]
enum Space {
    Io,
    Memory,
}

impl<'a> Section<'a> {
    fn read(&mut self, line: &'a str) -> Result<(), MtreeError> {
        if let Some(name) = line.strip_prefix(" AS \"") {
            // Names from memory_map_init in QEMU's system/physmem.c.
            if name.starts_with("I/O\",") {
                self.space = Some(Space::Io);
            } else if name.starts_with("memory\",") {
                self.space = Some(Space::Memory);
            }
        } else if let Some(root) = line.strip_prefix(" Root memory region: ") {
            self.root = root;
        } else if self.space.is_some()
            && let Some(region) = line::region(line)
            && !self.is_background(&region)
        {
            if self.regions.len() >= MAX_REGIONS {
                return Err(MtreeError::TooManyRegions(MAX_REGIONS));
            }
            self.regions.push(region);
        }
        Ok(())
    }

    /// Whether this is the root region itself, which shows where no other region covers it and
    /// belongs to no device. It starts at address 0, so its offset equals the address.
    fn is_background(&self, region: &Region) -> bool {
        region.name == self.root && region.offset == region.start
    }

    /// Keeps the first view of each address space.
    fn close(section: Option<Self>, io: &mut Option<View>, memory: &mut Option<View>) {
        let Some(Self { space: Some(space), regions, .. }) = section else { return };
        let view = match space {
            Space::Io => io,
            Space::Memory => memory,
        };
        view.get_or_insert_with(|| View::new(regions));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(regions: usize) -> Result<MemoryTree, MtreeError> {
        let line = |at: usize| format!("  {at:016x}-{at:016x} (prio 0, i/o): {}\n", "x".repeat(99));
        let lines: String = (0..regions).map(line).collect();
        let text = format!(
            "{HEADER}0\n AS \"I/O\", root: io\n{lines}{HEADER}1\n AS \"memory\", root: system\n"
        );
        MemoryTree::parse(&text)
    }

    #[test]
    fn tree_with_too_many_regions_is_an_error() {
        assert_eq!(tree(MAX_REGIONS + 1), Err(MtreeError::TooManyRegions(MAX_REGIONS)));
        let largest = tree(MAX_REGIONS).unwrap();
        assert_eq!(largest.io.regions().len(), MAX_REGIONS);
        let least = MAX_REGIONS * (size_of::<Region>() + 99);
        assert!((least..2 * least).contains(&largest.bytes()), "{}", largest.bytes());
    }

    #[test]
    fn extended_view_replaces_only_overlapped_regions() {
        let region = |start, end| Region {
            name: String::new(),
            owner: None,
            start,
            end,
            offset: 0,
            kind: RegionKind::Io,
            nonvolatile: false,
        };
        let mut view =
            View::new(vec![region(0, 9), region(10, 19), region(20, 29), region(40, 49)]);
        view.extend(View::new(vec![region(12, 13), region(19, 20), region(30, 39)]));
        let ranges: Vec<_> =
            view.regions().iter().map(|region| (region.start, region.end)).collect();
        assert_eq!(ranges, [(0, 9), (12, 13), (19, 20), (30, 39), (40, 49)]);
    }
}

//! What a QEMU guest meets at an I/O port or a guest-physical address. In comes the text of the
//! monitor's `info mtree -f`, with or without `-o`; out come the regions of both address spaces, to be
//! looked up by address.
//!
//! ```text
//! FlatView #1
//!  AS "I/O", root: io
//!  Root memory region: io
//!   0000000000000608-000000000000060b (prio 0, i/o): acpi-tmr
//!   000000000000060c-0000000000000cf7 (prio 0, i/o): io @000000000000060c
//! ```
//!
//! A flat view has what is left once regions that lie over others have hidden them, so at most one
//! region answers at an address. `mtree_print_flatview` in QEMU's system/memory.c prints it
//! (softmmu/memory.c until 8.1), in any order and for the address spaces of devices too. Whoever runs
//! QEMU chooses some of the text: of lines that are not known nothing is believed, and names are not
//! safe to print as they are.

mod line;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Longest name that is kept, in bytes; QEMU's own have up to some 40.
pub const MAX_NAME: usize = 256;

const HEADER: &str = "FlatView #";

/// The text is not what `info mtree -f` prints.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MtreeError {
    /// It is something else, such as what an older QEMU or another command says.
    #[error(
        "this is not the output of QEMU's `info mtree -f`: it has no line '{HEADER}0', and begins with {begins:?}"
    )]
    NoFlatView {
        /// The first words of the text.
        begins: String,
    },
    /// Every x86 machine has both address spaces.
    #[error("the output of QEMU's `info mtree -f` is incomplete: it has no view of {0}")]
    NoView(&'static str),
}

/// What is where in one VM, when the monitor was asked: firmware and guest move devices' BARs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct MemoryTree {
    /// By I/O port.
    pub io: View,
    /// By guest-physical address.
    pub memory: View,
}

/// One address space: its regions, which don't overlap, by address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "Vec<Region>", into = "Vec<Region>")]
pub struct View {
    regions: Vec<Region>,
}

/// A range of addresses at which one of QEMU's memory regions answers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Region {
    /// QEMU's name of the memory region, such as `acpi-tmr`; not safe to print as it is.
    pub name: String,
    /// Whose it is, if `-o` was given: the device's id, else its path in QEMU's object tree, else a
    /// type. Not safe to print as it is.
    pub owner: Option<String>,
    /// First address.
    pub start: u64,
    /// Last address.
    pub end: u64,
    /// How far into the memory region the range starts, in bytes.
    pub offset: u64,
    /// What an access leads to.
    pub kind: RegionKind,
    /// Whether it is RAM that outlives the VM.
    pub nonvolatile: bool,
}

/// `memory_region_type` in QEMU's system/memory.c.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RegionKind {
    /// `ram`
    Ram,
    /// `ramd`: memory of a real device that was passed through.
    RamDevice,
    /// `rom`: also RAM that firmware has made read-only.
    Rom,
    /// `romd`: read as memory, written to a device, such as flash.
    RomDevice,
    /// `i/o`: QEMU or the kernel emulates each access.
    Io,
    /// `container`: emulated too, but a root or mapped only by way of others.
    Container,
    /// One that this version does not know.
    Other,
}

/// What answers at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup<'a> {
    /// A region.
    Region {
        /// The region.
        region: &'a Region,
        /// How far into QEMU's memory region the address is, in bytes: 0xf0 for HPET's counter.
        offset: u64,
    },
    /// Nothing: reads give all ones.
    Unassigned,
}

impl MemoryTree {
    /// Reads the monitor's output.
    pub fn parse(text: &str) -> Result<Self, MtreeError> {
        let (mut io, mut memory) = (None, None);
        let mut section: Option<Section> = None;
        for line in text.lines() {
            if line.starts_with(HEADER) {
                Section::close(section.replace(Section::default()), &mut io, &mut memory);
            } else if let Some(section) = &mut section {
                section.read(line);
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
}

impl View {
    /// Of regions that overlap, which QEMU never prints, only that with the lowest address is kept.
    fn new(mut regions: Vec<Region>) -> Self {
        regions.sort_by_key(|region| region.start);
        let mut last = None;
        regions.retain(|region| {
            let free = last.is_none_or(|last| region.start > last);
            if free {
                last = Some(region.end);
            }
            free
        });
        Self { regions }
    }

    /// What answers at a port or guest-physical address.
    pub fn find(&self, address: u64) -> Lookup<'_> {
        let behind = self.regions.partition_point(|region| region.start <= address);
        match self.regions[..behind].last() {
            Some(region) if address <= region.end => {
                Lookup::Region { region, offset: region.offset + (address - region.start) }
            }
            _ => Lookup::Unassigned,
        }
    }

    /// The regions that these addresses are in.
    pub fn only(&self, addresses: impl Iterator<Item = u64>) -> Self {
        let mut regions = Vec::new();
        for address in addresses {
            if let Lookup::Region { region, .. } = self.find(address) {
                regions.push(region.clone());
            }
        }
        Self::new(regions)
    }

    /// Takes over another's regions, which go before those at the same addresses here.
    pub fn extend(&mut self, later: Self) {
        let is_free = |region: &Region| {
            let overlaps = |other: &Region| region.start <= other.end && other.start <= region.end;
            !later.regions.iter().any(overlaps)
        };
        self.regions.retain(is_free);
        self.regions.extend(later.regions);
        self.regions.sort_by_key(|region| region.start);
    }

    /// All regions, by address.
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
        let sound = |region: &Region| {
            let length = region.end.checked_sub(region.start);
            length.and_then(|length| region.offset.checked_add(length)).is_some()
        };
        if regions.iter().all(sound) {
            Ok(Self::new(regions))
        } else {
            Err("a range of addresses that has no end")
        }
    }
}

/// One flat view while it is read.
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
    fn read(&mut self, line: &'a str) {
        if let Some(name) = line.strip_prefix(" AS \"") {
            // The names that memory_map_init in QEMU's system/physmem.c gives.
            if name.starts_with("I/O\",") {
                self.space = Some(Space::Io);
            } else if name.starts_with("memory\",") {
                self.space = Some(Space::Memory);
            }
        } else if let Some(root) = line.strip_prefix(" Root memory region: ") {
            self.root = root;
        } else if self.space.is_some()
            && let Some(region) = line::region(line)
            && !self.is_left_over(&region)
        {
            self.regions.push(region);
        }
    }

    /// Whether this is the root itself, which shows where nothing lies over it: nobody's. It
    /// starts at address 0, so that an address is the offset.
    fn is_left_over(&self, region: &Region) -> bool {
        region.name == self.root && region.offset == region.start
    }

    /// Keeps the first view of each space.
    fn close(section: Option<Self>, io: &mut Option<View>, memory: &mut Option<View>) {
        let Some(Self { space: Some(space), regions, .. }) = section else { return };
        let view = match space {
            Space::Io => io,
            Space::Memory => memory,
        };
        view.get_or_insert_with(|| View::new(regions));
    }
}

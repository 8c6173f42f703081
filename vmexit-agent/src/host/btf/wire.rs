//! The binary format: header and records. See the kernel's Documentation/bpf/btf.rst and include/uapi/linux/btf.h.

use std::ops::Range;

use super::BtfError;

/// `BTF_MAGIC`, `BTF_VERSION` and the length of the first `struct btf_header`.
pub(super) const MAGIC: u16 = 0xeb9f;
pub(super) const VERSION: u8 = 1;
pub(super) const HEADER: usize = 24;

/// `sizeof(struct btf_type)`: name, info, size or type.
pub(super) const RECORD: usize = 12;

/// `BTF_KIND_*`.
pub(super) mod kind {
    pub const INT: u8 = 1;
    pub const PTR: u8 = 2;
    pub const ARRAY: u8 = 3;
    pub const STRUCT: u8 = 4;
    pub const UNION: u8 = 5;
    pub const ENUM: u8 = 6;
    pub const FWD: u8 = 7;
    pub const TYPEDEF: u8 = 8;
    pub const VOLATILE: u8 = 9;
    pub const CONST: u8 = 10;
    pub const RESTRICT: u8 = 11;
    pub const FUNC: u8 = 12;
    pub const FUNC_PROTO: u8 = 13;
    pub const VAR: u8 = 14;
    pub const DATASEC: u8 = 15;
    pub const FLOAT: u8 = 16;
    pub const DECL_TAG: u8 = 17;
    pub const TYPE_TAG: u8 = 18;
    pub const ENUM64: u8 = 19;
}

/// Bytes after the `struct btf_type` of each kind: fixed, and for each of its `vlen` elements. Kind 0 is void, which has
/// no record.
#[rustfmt::skip]
const LENGTHS: [(u8, u8, u8); 19] = [
    (kind::INT,        4,  0),
    (kind::PTR,        0,  0),
    (kind::ARRAY,      12, 0),
    (kind::STRUCT,     0,  12),
    (kind::UNION,      0,  12),
    (kind::ENUM,       0,  8),
    (kind::FWD,        0,  0),
    (kind::TYPEDEF,    0,  0),
    (kind::VOLATILE,   0,  0),
    (kind::CONST,      0,  0),
    (kind::RESTRICT,   0,  0),
    (kind::FUNC,       0,  0),
    (kind::FUNC_PROTO, 0,  8),
    (kind::VAR,        4,  0),
    (kind::DATASEC,    0,  12),
    (kind::FLOAT,      0,  0),
    (kind::DECL_TAG,   4,  0),
    (kind::TYPE_TAG,   0,  0),
    (kind::ENUM64,     0,  12),
];

/// Sections, in bytes from the start of the file.
pub(super) struct BtfHeader {
    pub types: Range<usize>,
    pub strings: Range<usize>,
    layout: Range<usize>,
}

/// A `struct btf_type`.
#[derive(Clone, Copy)]
pub(super) struct Record {
    /// Offset of the name.
    pub name: u32,
    info: u32,
    /// Size or referenced type, depending on the kind.
    pub link: u32,
    /// Offset of the bytes after the `struct btf_type`, from the start of the file.
    pub body: usize,
}

impl BtfHeader {
    /// Parses the header.
    ///
    /// # Errors
    /// The bytes are not BTF, of another version, or a section is out of range.
    pub fn parse(bytes: &[u8]) -> Result<Self, BtfError> {
        let magic = bytes.first_chunk().map(|bytes| u16::from_le_bytes(*bytes));
        if magic != Some(MAGIC) {
            return Err(BtfError::NotBtf);
        }
        const CUT: BtfError = BtfError::Damaged("the header is truncated");
        match bytes.get(2) {
            Some(&VERSION) => {}
            Some(&version) => return Err(BtfError::Version(version)),
            None => return Err(CUT),
        }
        let word = |at| u32_at(bytes, at).map(|word| word as usize).ok_or(CUT);
        let length = word(4)?;
        if length < HEADER || length > bytes.len() {
            return Err(CUT);
        }
        // Offsets count from the end of the header, whose length may grow.
        let section = |at| -> Result<Range<usize>, BtfError> {
            let start = length.checked_add(word(at)?);
            let end = start.and_then(|start| start.checked_add(word(at + 4).ok()?));
            match (start, end) {
                (Some(start), Some(end)) if end <= bytes.len() => Ok(start..end),
                _ => Err(BtfError::Damaged("a section ends after the end of the file")),
            }
        };
        Ok(Self {
            types: section(8)?,
            strings: section(16)?,
            // Newer headers add a section with the record length of each kind.
            layout: if length >= 32 { section(24)? } else { 0..0 },
        })
    }

    /// Lengths of records by kind, for all possible kinds (seven bits).
    pub fn lengths(&self, bytes: &[u8]) -> [Option<(u8, u8)>; 128] {
        let mut lengths = [None; 128];
        // `struct btf_layout`: one byte for the fixed part, one for each element, two of flags.
        let layout = bytes.get(self.layout.clone()).unwrap_or_default();
        for (length, layout) in lengths.iter_mut().zip(layout.chunks_exact(4)) {
            *length = Some((layout[0], layout[1]));
        }
        // For known kinds, the file's lengths are not trusted.
        lengths[0] = None;
        for (kind, once, each) in LENGTHS {
            lengths[usize::from(kind)] = Some((once, each));
        }
        lengths
    }
}

impl Record {
    /// Stand-in for type 0, which has no record.
    pub const VOID: Self = Self { name: 0, info: 0, link: 0, body: 0 };

    /// Reads the record at an offset.
    pub fn read(bytes: &[u8], at: usize) -> Option<Self> {
        let words: &[u8; RECORD] = bytes.get(at..)?.first_chunk()?;
        let word = |at: usize| {
            u32::from_le_bytes([words[at], words[at + 1], words[at + 2], words[at + 3]])
        };
        Some(Self { name: word(0), info: word(4), link: word(8), body: at + RECORD })
    }

    /// Kind: bits 24-30, of which older kernels use five and set the others to zero.
    pub fn kind(self) -> u8 {
        (self.info >> 24) as u8 & 0x7f
    }

    /// Number of elements: bits 0-23, of which older kernels use 16 and set the others to zero.
    pub fn vlen(self) -> usize {
        (self.info & 0x00ff_ffff) as usize
    }

    /// Flag: bit 31, whose meaning depends on the kind.
    pub fn flag(self) -> bool {
        self.info >> 31 == 1
    }

    /// Whether this defines a struct or union.
    pub fn is_composite(self) -> bool {
        matches!(self.kind(), kind::STRUCT | kind::UNION)
    }

    /// Whether this is a typedef, qualifier or tag of another type.
    pub fn is_alias(self) -> bool {
        matches!(
            self.kind(),
            kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG
        )
    }
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

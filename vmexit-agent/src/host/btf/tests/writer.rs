//! Writer of BTF for tests, valid or not.

use std::collections::HashMap;

use crate::host::btf::wire::{HEADER, MAGIC, VERSION, kind};

/// BTF file being written.
pub struct BtfWriter {
    types: Vec<u8>,
    strings: Vec<u8>,
    offsets: HashMap<String, u32>,
    next_id: u32,
    first_string: u32,
}

/// Shift of a bit-field's size, in the upper eight bits of its offset.
pub const FLAG: u32 = 1 << 31;

impl BtfWriter {
    pub fn new() -> Self {
        Self {
            types: Vec::new(),
            strings: vec![0],
            offsets: HashMap::from([(String::new(), 0)]),
            next_id: 1,
            first_string: 0,
        }
    }

    /// BTF that continues the IDs and strings of another, as that of a module does.
    pub fn split(base: &Self) -> Self {
        Self {
            types: Vec::new(),
            strings: Vec::new(),
            offsets: base.offsets.clone(),
            next_id: base.next_id,
            first_string: base.first_string + base.strings.len() as u32,
        }
    }

    /// Adds a name and returns its offset.
    pub fn string(&mut self, name: &str) -> u32 {
        if let Some(&offset) = self.offsets.get(name) {
            return offset;
        }
        let offset = self.first_string + self.strings.len() as u32;
        self.strings.extend(name.bytes().chain([0]));
        self.offsets.insert(name.to_owned(), offset);
        offset
    }

    /// Adds a type: kind, `vlen` with flag, name, size or type, and the words that follow. Returns its ID.
    pub fn add(&mut self, kind: u8, vlen: u32, name: &str, link: u32, words: &[u32]) -> u32 {
        let info = (u32::from(kind) << 24) | vlen;
        let name = self.string(name);
        for word in [name, info, link].iter().chain(words) {
            self.types.extend(word.to_le_bytes());
        }
        self.next_id += 1;
        self.next_id - 1
    }

    pub fn int(&mut self, name: &str, size: u32, encoding: u32) -> u32 {
        self.add(kind::INT, 0, name, size, &[(encoding << 24) | (size * 8)])
    }

    pub fn refers(&mut self, kind: u8, name: &str, to: u32) -> u32 {
        self.add(kind, 0, name, to, &[])
    }

    /// Adds a struct. Members are name, type and offset in bits.
    pub fn structure(&mut self, name: &str, size: u32, members: &[(&str, u32, u32)]) -> u32 {
        self.composite(kind::STRUCT, 0, name, size, members)
    }

    pub fn composite(
        &mut self,
        kind: u8,
        flag: u32,
        name: &str,
        size: u32,
        members: &[(&str, u32, u32)],
    ) -> u32 {
        let words: Vec<u32> =
            members.iter().flat_map(|(name, ty, bits)| [self.string(name), *ty, *bits]).collect();
        self.add(kind, members.len() as u32 | flag, name, size, &words)
    }

    pub fn function(&mut self, params: &[(&str, u32)]) -> u32 {
        let words: Vec<u32> =
            params.iter().flat_map(|(name, ty)| [self.string(name), *ty]).collect();
        self.add(kind::FUNC_PROTO, params.len() as u32, "", 0, &words)
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.with_layout(&[])
    }

    /// The file with a section of record lengths, as newer headers have.
    pub fn with_layout(&self, layout: &[[u8; 4]]) -> Vec<u8> {
        let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
        let mut words = vec![0, types, types, strings];
        if !layout.is_empty() {
            words.extend([types + strings, layout.len() as u32 * 4]);
        }
        let mut bytes = Vec::new();
        bytes.extend(MAGIC.to_le_bytes());
        bytes.extend([VERSION, 0]);
        bytes.extend(((HEADER - 16 + words.len() * 4) as u32).to_le_bytes());
        bytes.extend(words.into_iter().flat_map(u32::to_le_bytes));
        bytes.extend(&self.types);
        bytes.extend(&self.strings);
        bytes.extend(layout.iter().flatten());
        bytes
    }
}

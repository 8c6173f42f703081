//! Writes BTF, valid or not, for tests.

use std::collections::HashMap;

use crate::host::btf::wire::{HEADER, MAGIC, VERSION, kind};

/// BTF in the making.
pub struct BtfWriter {
    types: Vec<u8>,
    strings: Vec<u8>,
    offsets: HashMap<String, u32>,
    next_id: u32,
    first_string: u32,
}

/// A bit-field's size goes where offsets have their upper eight bits.
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

    /// Continues another's ids and strings, as a module's BTF does.
    pub fn split(base: &Self) -> Self {
        Self {
            types: Vec::new(),
            strings: Vec::new(),
            offsets: base.offsets.clone(),
            next_id: base.next_id,
            first_string: base.first_string + base.strings.len() as u32,
        }
    }

    /// The offset of a name.
    pub fn string(&mut self, name: &str) -> u32 {
        if let Some(&offset) = self.offsets.get(name) {
            return offset;
        }
        let offset = self.first_string + self.strings.len() as u32;
        self.strings.extend(name.bytes().chain([0]));
        self.offsets.insert(name.to_owned(), offset);
        offset
    }

    /// Any type: kind, `vlen` with flag, name, size or type, and the words that follow.
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

    /// A struct: its members are name, type and offset in bits.
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

    /// With a section that tells the lengths of all kinds, as newer headers have it.
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

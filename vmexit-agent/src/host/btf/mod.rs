//! BTF, the kernel's description of its own types: what a tracepoint's arguments are, and where a
//! structure has its members. In come `/sys/kernel/btf/vmlinux` and the files of modules, which
//! continue its type ids and its strings; out come offsets and sizes. Kernels and their builds
//! differ in both, whatever their version says.
//!
//! The bytes are treated as if they were anybody's: every offset is checked, chains and nesting end,
//! and a query visits a bounded number of members. Format: the kernel's Documentation/bpf/btf.rst.

mod error;
mod field;
#[cfg(test)]
mod tests;
mod types;
mod wire;

use std::{fmt, fs, io, io::Read as _, path::Path, sync::Arc};

use self::wire::{BtfHeader, Record, kind};
pub use self::{
    error::BtfError,
    field::BtfField,
    types::{Param, Shape, Type},
};

/// Where the kernel shows its BTF (`kernel/bpf/sysfs_btf.c`).
pub const DIRECTORY: &str = "/sys/kernel/btf";

/// Longest BTF that is read: a kernel with everything built in has some 10 MB.
pub const MAX_BYTES: usize = 64 << 20;

/// Longest name that is shown: `KSYM_NAME_LEN` (include/linux/kallsyms.h). Comparing has no limit.
const MAX_NAME: usize = 512;

/// The types of the kernel or of one of its modules.
pub struct Btf {
    bytes: Vec<u8>,
    /// What this continues: the kernel's, for a module's.
    base: Option<Arc<Self>>,
    /// Where each type's record begins in `bytes`; the first is that of `first_id`.
    records: Vec<u32>,
    first_id: u32,
    /// Where the strings are in `bytes`, and the offset by which the first is known.
    strings: std::ops::Range<usize>,
    first_string: u32,
}

impl Btf {
    /// Reads BTF from bytes; a module's needs the kernel's as `base`.
    pub fn parse(bytes: Vec<u8>, base: Option<Arc<Self>>) -> Result<Self, BtfError> {
        if bytes.len() > MAX_BYTES {
            return Err(BtfError::TooLarge);
        }
        let header = BtfHeader::parse(&bytes)?;
        let strings = bytes.get(header.strings.clone()).unwrap_or_default();
        // `btf_parse_str_sec` in kernel/bpf/btf.c: only a module's may be empty, or begin with a
        // name.
        let sound = match strings {
            [] => base.is_some(),
            [first, .., last] => *last == 0 && (base.is_some() || *first == 0),
            [only] => *only == 0,
        };
        if !sound {
            return Err(BtfError::Damaged("its strings do not begin and end as they must"));
        }
        const CROWDED: BtfError = BtfError::Damaged("it has more types than there are numbers");
        let (first_id, first_string) = match &base {
            Some(base) => (
                base.end_id().ok_or(CROWDED)?,
                u32::try_from(base.strings.len())
                    .ok()
                    .and_then(|length| base.first_string.checked_add(length))
                    .ok_or(CROWDED)?,
            ),
            // Type 0 is void and has no record.
            None => (1, 0),
        };
        let records = index(&bytes, &header)?;
        let btf = Self { bytes, base, records, first_id, strings: header.strings, first_string };
        btf.end_id().ok_or(CROWDED)?;
        Ok(btf)
    }

    /// Reads a file of [`DIRECTORY`].
    pub fn load(path: &Path, base: Option<Arc<Self>>) -> Result<Self, BtfError> {
        let read = || {
            let mut file = fs::File::open(path)?;
            // sysfs tells the true size, but a longer file must not grow the buffer without end.
            let size = file.metadata()?.len().min(MAX_BYTES as u64);
            let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default() + 1);
            file.by_ref().take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        match read() {
            Ok(bytes) => Self::parse(bytes, base),
            Err(source) if io::Error::kind(&source) == io::ErrorKind::NotFound => {
                Err(BtfError::Missing(path.to_owned()))
            }
            Err(source) => Err(BtfError::Read { path: path.to_owned(), source }),
        }
    }

    /// The kernel's own types.
    pub fn vmlinux() -> Result<Arc<Self>, BtfError> {
        Self::load(&Path::new(DIRECTORY).join("vmlinux"), None).map(Arc::new)
    }

    /// The types of a module, say `kvm_intel`; where it is built in, its types are the kernel's.
    pub fn module(name: &str, vmlinux: &Arc<Self>) -> Result<Arc<Self>, BtfError> {
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        {
            return Err(BtfError::ModuleName(name.to_owned()));
        }
        match Self::load(&Path::new(DIRECTORY).join(name), Some(Arc::clone(vmlinux))) {
            Ok(btf) => Ok(Arc::new(btf)),
            Err(BtfError::Missing(_)) => Ok(Arc::clone(vmlinux)),
            Err(error) => Err(error),
        }
    }

    /// How many types this file describes, without those that it continues.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether it describes none of its own.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The first type id behind the last.
    fn end_id(&self) -> Option<u32> {
        self.first_id.checked_add(u32::try_from(self.records.len()).ok()?)
    }

    /// A type's record, and the file that it and what follows it are in.
    fn record(&self, id: u32) -> Result<(&Self, Record), BtfError> {
        let mut btf = self;
        while id < btf.first_id
            && let Some(base) = btf.base.as_deref()
        {
            btf = base;
        }
        id.checked_sub(btf.first_id)
            .and_then(|at| btf.records.get(at as usize))
            .and_then(|&at| Record::read(&btf.bytes, at as usize))
            .map(|record| (btf, record))
            .ok_or(BtfError::Damaged("a type refers to one that does not exist"))
    }

    /// One of the words that follow a record; `records` has seen that they are there.
    fn word(&self, record: Record, at: usize) -> Result<u32, BtfError> {
        wire::u32_at(&self.bytes, record.body + 4 * at)
            .ok_or(BtfError::Damaged("a type ends behind the end of the file"))
    }

    /// The bytes of a name and all that is behind it.
    fn string(&self, offset: u32) -> Option<&[u8]> {
        let mut btf = self;
        while offset < btf.first_string
            && let Some(base) = btf.base.as_deref()
        {
            btf = base;
        }
        let at = offset.checked_sub(btf.first_string)? as usize;
        btf.bytes.get(btf.strings.clone())?.get(at..)
    }

    /// A name to show; `None` for what has none.
    fn name(&self, offset: u32) -> Option<String> {
        if offset == 0 {
            return None;
        }
        let string = self.string(offset)?;
        let string = string.get(..MAX_NAME).unwrap_or(string);
        let length = string.iter().position(|&byte| byte == 0)?;
        (length > 0).then(|| String::from_utf8_lossy(&string[..length]).into_owned())
    }

    fn is_named(&self, offset: u32, name: &str) -> bool {
        offset != 0
            && self
                .string(offset)
                .and_then(|string| string.strip_prefix(name.as_bytes()))
                .is_some_and(|rest| rest.first() == Some(&0))
    }

    /// This file's own types of that name; those that it continues are not looked at.
    fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (u32, Record)> + 'a {
        (self.first_id..).zip(&self.records).filter_map(move |(id, &at)| {
            let record = Record::read(&self.bytes, at as usize)?;
            self.is_named(record.name, name).then_some((id, record))
        })
    }

    /// The id of a function of this name; `None` where this file has none.
    pub fn function(&self, name: &str) -> Option<u32> {
        self.named(name).find(|(_, record)| record.kind() == kind::FUNC).map(|(id, _)| id)
    }

    /// The id of a struct or union of this name.
    pub fn structure(&self, name: &str) -> Result<u32, BtfError> {
        let ids = self.definitions(name)?;
        ids.first().copied().ok_or_else(|| BtfError::NoStruct(name.to_owned()))
    }

    /// Full definitions of a struct or union: a module's own, or else those that it continues.
    fn definitions(&self, name: &str) -> Result<Vec<u32>, BtfError> {
        let (mut btf, mut declared) = (self, false);
        loop {
            let mut found = Vec::new();
            for (id, record) in btf.named(name) {
                if record.is_composite() {
                    found.push(id);
                }
                declared |= record.kind() == kind::FWD;
            }
            match btf.base.as_deref() {
                _ if !found.is_empty() => return Ok(found),
                Some(base) => btf = base,
                None if declared => return Err(BtfError::Incomplete(name.to_owned())),
                None => return Err(BtfError::NoStruct(name.to_owned())),
            }
        }
    }
}

/// Goes through the records once and notes where each begins.
fn index(bytes: &[u8], header: &BtfHeader) -> Result<Vec<u32>, BtfError> {
    const CUT: BtfError = BtfError::Damaged("its last type is cut short");
    let lengths = header.lengths(bytes);
    let end = header.types.end;
    let bytes = bytes.get(..end).ok_or(CUT)?;
    let mut records = Vec::new();
    let mut at = header.types.start;
    while at < end {
        let record = Record::read(bytes, at).ok_or(CUT)?;
        let (once, each) = lengths[usize::from(record.kind())]
            .ok_or_else(|| BtfError::UnknownKind(record.kind()))?;
        records.push(u32::try_from(at).map_err(|_| BtfError::TooLarge)?);
        at = record.body + usize::from(once) + record.vlen() * usize::from(each);
        if at > end {
            return Err(CUT);
        }
    }
    Ok(records)
}

impl fmt::Debug for Btf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Btf")
            .field("bytes", &self.bytes.len())
            .field("types", &self.records.len())
            .field("first_id", &self.first_id)
            .finish_non_exhaustive()
    }
}

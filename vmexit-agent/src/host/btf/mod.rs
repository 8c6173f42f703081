//! BTF, the kernel's description of its types: arguments of tracepoints, and offsets and sizes of struct members. They
//! differ between kernels and builds of the same version. Read from `/sys/kernel/btf/vmlinux` and from the files of
//! modules, whose type IDs and strings continue those of the kernel.
//!
//! The files are treated as untrusted: every offset is checked, the length of chains and the depth of nesting are
//! limited, and a query visits a bounded number of members. Format: the kernel's Documentation/bpf/btf.rst.

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

/// Directory of BTF files (`kernel/bpf/sysfs_btf.c`).
pub const DIRECTORY: &str = "/sys/kernel/btf";

/// Maximum size of a BTF file, bytes; a kernel with everything built in has some 10 MB.
pub const MAX_BYTES: usize = 64 << 20;

/// Maximum length of a returned name, bytes: `KSYM_NAME_LEN` (include/linux/kallsyms.h). Comparisons have no limit.
const MAX_NAME: usize = 512;

/// Types of the kernel or of a module.
pub struct Btf {
    bytes: Vec<u8>,
    /// The kernel's types, if these are a module's.
    base: Option<Arc<Self>>,
    /// Offsets of the types' records in `bytes`, starting with that of `first_id`.
    records: Vec<u32>,
    /// ID of the first type.
    first_id: u32,
    /// Strings in `bytes`.
    strings: std::ops::Range<usize>,
    /// Offset by which types refer to the first string.
    first_string: u32,
}

impl Btf {
    /// Parses BTF; that of a module needs the kernel's as `base`.
    ///
    /// # Errors
    /// The bytes are too long, damaged, or not BTF.
    pub fn parse(bytes: Vec<u8>, base: Option<Arc<Self>>) -> Result<Self, BtfError> {
        if bytes.len() > MAX_BYTES {
            return Err(BtfError::TooLarge);
        }
        let header = BtfHeader::parse(&bytes)?;
        let strings = bytes.get(header.strings.clone()).unwrap_or_default();
        // `btf_parse_str_sec` in kernel/bpf/btf.c: only strings of a module may be empty or start with a name.
        let sound = match strings {
            [] => base.is_some(),
            [first, .., last] => *last == 0 && (base.is_some() || *first == 0),
            [only] => *only == 0,
        };
        if !sound {
            return Err(BtfError::Damaged("the strings do not start or end with NUL"));
        }
        const TOO_MANY: BtfError = BtfError::Damaged("there are more types than IDs");
        let (first_id, first_string) = match &base {
            Some(base) => (
                base.end_id().ok_or(TOO_MANY)?,
                u32::try_from(base.strings.len())
                    .ok()
                    .and_then(|length| base.first_string.checked_add(length))
                    .ok_or(TOO_MANY)?,
            ),
            // Type 0 is void, which has no record.
            None => (1, 0),
        };
        let records = index(&bytes, &header)?;
        let btf = Self { bytes, base, records, first_id, strings: header.strings, first_string };
        btf.end_id().ok_or(TOO_MANY)?;
        Ok(btf)
    }

    /// Reads and parses a file of [`DIRECTORY`].
    ///
    /// # Errors
    /// The file can't be read, or those of [`Self::parse`].
    pub fn load(path: &Path, base: Option<Arc<Self>>) -> Result<Self, BtfError> {
        let read = || {
            let mut file = fs::File::open(path)?;
            // sysfs has the true size, but the size of an untrusted file must not size the buffer.
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

    /// Types of the kernel.
    ///
    /// # Errors
    /// Those of [`Self::load`].
    pub fn vmlinux() -> Result<Arc<Self>, BtfError> {
        Self::load(&Path::new(DIRECTORY).join("vmlinux"), None).map(Arc::new)
    }

    /// Types of a module, such as `kvm_intel`; those of the kernel if it is built in.
    ///
    /// # Errors
    /// The name is not that of a module, or those of [`Self::load`].
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

    /// Number of types, without those of the base.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether the file has no types of its own.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// ID after that of the last type; `None` if it exceeds 32 bits.
    fn end_id(&self) -> Option<u32> {
        self.first_id.checked_add(u32::try_from(self.records.len()).ok()?)
    }

    /// Record of a type, and the file that it is in.
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
            .ok_or(BtfError::Damaged("a type refers to a type that does not exist"))
    }

    /// A word after a record, by index.
    fn word(&self, record: Record, at: usize) -> Result<u32, BtfError> {
        wire::u32_at(&self.bytes, record.body + 4 * at)
            .ok_or(BtfError::Damaged("a type ends after the end of the file"))
    }

    /// Bytes of the strings from an offset on.
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

    /// Name at an offset; `None` without a name.
    fn name(&self, offset: u32) -> Option<String> {
        if offset == 0 {
            return None;
        }
        let string = self.string(offset)?;
        let string = string.get(..MAX_NAME).unwrap_or(string);
        let length = string.iter().position(|&byte| byte == 0)?;
        (length > 0).then(|| String::from_utf8_lossy(&string[..length]).into_owned())
    }

    /// Whether the name at an offset is this one.
    fn is_named(&self, offset: u32, name: &str) -> bool {
        offset != 0
            && self
                .string(offset)
                .and_then(|string| string.strip_prefix(name.as_bytes()))
                .is_some_and(|rest| rest.first() == Some(&0))
    }

    /// Types with a name, without those of the base.
    fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (u32, Record)> + 'a {
        (self.first_id..).zip(&self.records).filter_map(move |(id, &at)| {
            let record = Record::read(&self.bytes, at as usize)?;
            self.is_named(record.name, name).then_some((id, record))
        })
    }

    /// ID of a function; `None` if this file has none of that name. The base is not searched.
    pub fn function(&self, name: &str) -> Option<u32> {
        self.named(name).find(|(_, record)| record.kind() == kind::FUNC).map(|(id, _)| id)
    }

    /// ID of a struct or union.
    ///
    /// # Errors
    /// There is none of that name, or only a declaration.
    pub fn structure(&self, name: &str) -> Result<u32, BtfError> {
        let ids = self.definitions(name)?;
        ids.first().copied().ok_or_else(|| BtfError::NoStruct(name.to_owned()))
    }

    /// IDs of all definitions of a struct or union: those of this file, else those of the base.
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

/// Offsets of all records.
fn index(bytes: &[u8], header: &BtfHeader) -> Result<Vec<u32>, BtfError> {
    const CUT: BtfError = BtfError::Damaged("the last type is truncated");
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

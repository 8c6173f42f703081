//! tracefs: its mount point, and the layouts of classic tracepoints' records from their `format` files. The files are
//! parsed as untrusted text.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use thiserror::Error;
use vmexit_common::layout::{ABSENT, ExitLayout, FIELDS, FieldsLayout, Offset};

/// Mount points named in the kernel's documentation, in order of preference.
const MOUNT_POINTS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// Bytes of a `format` file that are read. KVM's longest, of `kvm_exit`, has 7 kB.
const MAX_FORMAT: u64 = 256 * 1024;

/// Reason why the layout of a tracepoint is not available.
#[derive(Debug, Error)]
pub enum LayoutError {
    /// Neither mount point has an `events` directory.
    #[error("tracefs is not mounted: run `mount -t tracefs tracefs /sys/kernel/tracing`")]
    NotMounted,
    /// tracefs is mounted, but not readable.
    #[error("{0} can't be read: run vmexit as root")]
    Forbidden(PathBuf),
    /// `--tracepoints raw` was given, but a raw tracepoint can't be read.
    #[error("no raw tracepoint can be used: {0}; leave out `--tracepoints raw`")]
    NoRaw(String),
    /// The kernel lacks the tracepoint.
    #[error("this kernel has no tracepoint kvm:{0}: it needs CONFIG_KVM and CONFIG_FTRACE")]
    NoTracepoint(&'static str),
    /// The `format` file can't be read.
    #[error("{path} can't be read: {source}")]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// Error of the system call.
        source: io::Error,
    },
    /// The record lacks a field that every known kernel has.
    #[error(
        "kvm:{event} has no field '{field}' of {size} bytes in this kernel's record; please report it"
    )]
    NoField {
        /// Name of the tracepoint.
        event: &'static str,
        /// Name of the field.
        field: &'static str,
        /// Size of the field, bytes.
        size: u32,
    },
}

/// A mounted tracefs.
#[derive(Debug)]
pub struct Tracefs {
    root: PathBuf,
}

/// A field of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordField {
    /// Name, without type and array bounds.
    pub name: String,
    /// Offset in the record, bytes.
    pub offset: u32,
    /// Size, bytes.
    pub size: u32,
}

impl Tracefs {
    /// The first mount point in use.
    ///
    /// # Errors
    /// tracefs is not mounted or not readable.
    pub fn find() -> Result<Self, LayoutError> {
        for root in MOUNT_POINTS.map(PathBuf::from) {
            match fs::metadata(root.join("events")) {
                Ok(_) => return Ok(Self { root }),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    return Err(LayoutError::Forbidden(root));
                }
                Err(_) => {}
            }
        }
        Err(LayoutError::NotMounted)
    }

    /// Layout of `kvm_exit`.
    ///
    /// # Errors
    /// The `format` file can't be read, or lacks the exit reason.
    pub fn exit_layout(&self) -> Result<ExitLayout, LayoutError> {
        let fields = self.fields("kvm_exit")?;
        Ok(ExitLayout {
            exit_reason: required("kvm_exit", &fields, "exit_reason", 4)?,
            isa: offset_of(&fields, "isa", 4).unwrap_or(ABSENT),
            vcpu_id: offset_of(&fields, "vcpu_id", 4).unwrap_or(ABSENT),
        })
    }

    /// Layout of a KVM tracepoint's record: offsets of up to [`FIELDS`] fields, given by name and size in bytes.
    ///
    /// # Errors
    /// The `format` file can't be read, or lacks a field.
    pub fn fields_layout(
        &self,
        event: &'static str,
        names: &[(&'static str, u32)],
    ) -> Result<FieldsLayout, LayoutError> {
        let fields = self.fields(event)?;
        let mut at = [ABSENT; FIELDS];
        for (at, &(name, size)) in at.iter_mut().zip(names) {
            *at = required(event, &fields, name, size)?;
        }
        Ok(FieldsLayout { at })
    }

    /// Layout of `kvm_entry`: the guest's instruction pointer, 8 bytes, in kernels since 5.10; absent in others.
    ///
    /// # Errors
    /// The `format` file can't be read.
    pub fn entry_layout(&self) -> Result<FieldsLayout, LayoutError> {
        let mut at = [ABSENT; FIELDS];
        at[0] = offset_of(&self.fields("kvm_entry")?, "rip", 8).unwrap_or(ABSENT);
        Ok(FieldsLayout { at })
    }

    fn fields(&self, event: &'static str) -> Result<Vec<RecordField>, LayoutError> {
        self.format(event).map(|text| parse_format(&text))
    }

    /// Text of the `format` file of a KVM tracepoint.
    ///
    /// # Errors
    /// The kernel has no such tracepoint, or the file can't be read.
    pub fn format(&self, event: &'static str) -> Result<String, LayoutError> {
        let path = self.root.join("events/kvm").join(event).join("format");
        match read_bounded(&path) {
            Ok(text) => Ok(text),
            Err(error) => Err(match error.kind() {
                io::ErrorKind::NotFound => LayoutError::NoTracepoint(event),
                io::ErrorKind::PermissionDenied => LayoutError::Forbidden(path),
                _ => LayoutError::Read { path, source: error },
            }),
        }
    }
}

fn read_bounded(path: &Path) -> io::Result<String> {
    use io::Read as _;
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MAX_FORMAT).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Fields in the text of a `format` file; other lines are skipped.
///
/// ```text
/// field:unsigned int exit_reason; offset:8; size:4; signed:0;
/// ```
pub fn parse_format(text: &str) -> Vec<RecordField> {
    text.lines().filter_map(parse_field).collect()
}

fn parse_field(line: &str) -> Option<RecordField> {
    let mut parts = line.trim().split(';').map(str::trim);
    let declaration = parts.next()?.strip_prefix("field:")?;
    let declaration = declaration.split_once('[').map_or(declaration, |(before, _)| before);
    let name = declaration.rsplit([' ', '*']).next().filter(|name| !name.is_empty())?;
    let (mut offset, mut size) = (None, None);
    for part in parts {
        match part.split_once(':') {
            Some(("offset", value)) => offset = value.parse().ok(),
            Some(("size", value)) => size = value.parse().ok(),
            _ => {}
        }
    }
    Some(RecordField { name: name.to_owned(), offset: offset?, size: size? })
}

fn required(
    event: &'static str,
    fields: &[RecordField],
    field: &'static str,
    size: u32,
) -> Result<Offset, LayoutError> {
    offset_of(fields, field, size).ok_or(LayoutError::NoField { event, field, size })
}

/// Offset of a field; `None` if its size differs from the one the program reads.
fn offset_of(fields: &[RecordField], name: &str, size: u32) -> Option<Offset> {
    fields
        .iter()
        .find(|field| field.name == name && field.size == size && field.offset != ABSENT)
        .map(|field| field.offset)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KVM_PIO: &str = "name: kvm_pio\nID: 110\nformat:\n\
        \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\n\
        \tfield:unsigned int rw;\toffset:8;\tsize:4;\tsigned:0;\n\
        \tfield:unsigned int port;\toffset:12;\tsize:4;\tsigned:0;\n\
        \tfield:unsigned long rip;\toffset:16;\tsize:8;\tsigned:0;\n\
        \tfield:char comm[16];\toffset:24;\tsize:16;\tsigned:0;\n\
        \tfield:void * vcpu;\toffset:40;\tsize:8;\tsigned:0;\n\n\
        print fmt: \"pio_%s at 0x%x\", REC->rw ? \"write\" : \"read\", REC->port\n";

    #[test]
    fn parse_format_finds_fields_by_name() {
        let fields = parse_format(KVM_PIO);
        assert_eq!(fields.len(), 6);
        assert_eq!(offset_of(&fields, "port", 4), Some(12));
        assert_eq!(fields[4], RecordField { name: "comm".into(), offset: 24, size: 16 });
        assert_eq!(fields[5].name, "vcpu");
    }

    #[test]
    fn offset_of_field_with_other_size_is_none() {
        assert_eq!(offset_of(&parse_format(KVM_PIO), "rip", 4), None);
    }

    #[test]
    fn required_field_missing_is_named_in_error() {
        let error = required("kvm_pio", &parse_format(KVM_PIO), "count", 4).unwrap_err();
        assert!(error.to_string().contains("'count'"), "{error}");
    }

    proptest! {
        #[test]
        fn parse_format_of_any_text_does_not_panic(text in "\\PC*") {
            parse_format(&text);
        }

        #[test]
        fn parse_format_of_mutated_text_does_not_panic(at in 0usize..500, junk in "[ -~\\n\\t]{0,8}") {
            let mut text = KVM_PIO.to_owned();
            let at = at.min(text.len());
            text.insert_str(at, &junk);
            parse_format(&text);
        }
    }
}

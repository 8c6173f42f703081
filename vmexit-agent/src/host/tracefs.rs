//! tracefs: where it is mounted, and where the fields of a tracepoint's record are, from its
//! `format` file. The text is the kernel's, but parsed as if it were anybody's.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use thiserror::Error;
use vmexit_common::layout::{ABSENT, ExitLayout, FIELDS, FieldsLayout, Offset};

/// The mount points that the kernel's documentation names, in order of preference.
const MOUNT_POINTS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// Longest `format` file that is read: KVM's longest, of `kvm_exit`, has 7 kB.
const MAX_FORMAT: u64 = 256 * 1024;

/// Why a tracepoint's layout could not be had.
#[derive(Debug, Error)]
pub enum LayoutError {
    /// Neither mount point has an `events` directory.
    #[error("tracefs is not mounted: run `mount -t tracefs tracefs /sys/kernel/tracing`")]
    NotMounted,
    /// It is there, but not for us.
    #[error("{0} can't be read: run vmexit as root")]
    Forbidden(PathBuf),
    /// Only raw tracepoints were asked for.
    #[error("no raw tracepoint can be used: {0}; leave out `--tracepoints raw`")]
    NoRaw(String),
    /// KVM is loaded, but this kernel lacks the tracepoint.
    #[error("this kernel has no tracepoint kvm:{0}: it needs CONFIG_KVM and CONFIG_FTRACE")]
    NoTracepoint(&'static str),
    /// Reading failed.
    #[error("{path} can't be read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The record is not as any known kernel has it.
    #[error(
        "kvm:{event} has no field '{field}' of {size} bytes in this kernel's record; please report it"
    )]
    NoField {
        /// The tracepoint.
        event: &'static str,
        /// The field that every known kernel has.
        field: &'static str,
        /// Its size, bytes.
        size: u32,
    },
}

/// A mounted tracefs.
#[derive(Debug)]
pub struct Tracefs {
    root: PathBuf,
}

/// One field of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordField {
    /// Its name, without type and array bounds.
    pub name: String,
    /// Bytes from the start of the record.
    pub offset: u32,
    /// Bytes.
    pub size: u32,
}

impl Tracefs {
    /// The first mount point that is in use.
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

    /// Where `kvm_exit`'s fields are.
    pub fn exit_layout(&self) -> Result<ExitLayout, LayoutError> {
        let fields = self.fields("kvm_exit")?;
        Ok(ExitLayout {
            exit_reason: required("kvm_exit", &fields, "exit_reason", 4)?,
            isa: offset_of(&fields, "isa", 4).unwrap_or(ABSENT),
            vcpu_id: offset_of(&fields, "vcpu_id", 4).unwrap_or(ABSENT),
        })
    }

    /// Where the fields of a tracepoint's record are, by names and sizes in bytes; up to [`FIELDS`].
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

    /// Where `kvm_entry` has the guest's instruction pointer, first of its fields: u64, kernels from 5.10 on.
    pub fn entry_layout(&self) -> Result<FieldsLayout, LayoutError> {
        let mut at = [ABSENT; FIELDS];
        at[0] = offset_of(&self.fields("kvm_entry")?, "rip", 8).unwrap_or(ABSENT);
        Ok(FieldsLayout { at })
    }

    fn fields(&self, event: &'static str) -> Result<Vec<RecordField>, LayoutError> {
        self.format(event).map(|text| parse_format(&text))
    }

    /// The text that describes one of KVM's tracepoints.
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

/// The fields that a `format` file describes; lines that describe none are passed over.
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

/// The offset of a field of so many bytes, for that is how many the program reads.
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
    fn fields_are_found_by_name() {
        let fields = parse_format(KVM_PIO);
        assert_eq!(fields.len(), 6);
        assert_eq!(offset_of(&fields, "port", 4), Some(12));
        assert_eq!(fields[4], RecordField { name: "comm".into(), offset: 24, size: 16 });
        assert_eq!(fields[5].name, "vcpu");
    }

    #[test]
    fn a_field_of_another_size_is_not_taken() {
        assert_eq!(offset_of(&parse_format(KVM_PIO), "rip", 4), None);
    }

    #[test]
    fn a_missing_field_is_named() {
        let error = required("kvm_pio", &parse_format(KVM_PIO), "count", 4).unwrap_err();
        assert!(error.to_string().contains("'count'"), "{error}");
    }

    proptest! {
        #[test]
        fn any_text_parses(text in "\\PC*") {
            parse_format(&text);
        }

        #[test]
        fn any_mutilated_format_parses(at in 0usize..500, junk in "[ -~\\n\\t]{0,8}") {
            let mut text = KVM_PIO.to_owned();
            let at = at.min(text.len());
            text.insert_str(at, &junk);
            parse_format(&text);
        }
    }
}

//! Errors of reading and querying BTF.

use std::{io, path::PathBuf};

use thiserror::Error;

use super::MAX_BYTES;

/// Error of reading or querying BTF: one sentence.
#[derive(Debug, Error)]
pub enum BtfError {
    /// The file does not exist.
    #[error("this kernel has no type information in {0}: it needs CONFIG_DEBUG_INFO_BTF")]
    Missing(PathBuf),
    /// The file can't be read.
    #[error("{path} can't be read: {source}")]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// Error of the system call.
        source: io::Error,
    },
    /// The name can't be that of a module.
    #[error("'{0}' is not the name of a kernel module")]
    ModuleName(String),
    /// The file is several times larger than any kernel's.
    #[error("BTF of more than {} MiB is not read", MAX_BYTES >> 20)]
    TooLarge,
    /// The magic number is wrong.
    #[error("the file is not BTF in this machine's byte order: its magic number is wrong")]
    NotBtf,
    /// The version of the format is not supported.
    #[error("BTF version {0} is not supported, only version 1")]
    Version(u8),
    /// An offset, size or type ID is out of range.
    #[error("BTF is truncated or damaged: {0}")]
    Damaged(&'static str),
    /// A kind of type has no known record length, so the records after it can't be found.
    #[error("BTF has types of the unknown kind {0} and does not state their length")]
    UnknownKind(u8),
    /// Types are nested or chained deeper than any compiler emits, or in a cycle.
    #[error("BTF nests types too deeply, or in a cycle")]
    TooDeep,
    /// The struct does not exist.
    #[error("this kernel's BTF has no struct '{0}'")]
    NoStruct(String),
    /// The struct is only declared.
    #[error("this kernel's BTF declares struct '{0}' but does not define it")]
    Incomplete(String),
    /// The struct lacks the member.
    #[error("this kernel's struct '{structure}' has no member '{path}'")]
    NoMember {
        /// Name of the struct.
        structure: String,
        /// Path of the member.
        path: String,
    },
    /// The member is a bit-field.
    #[error("'{path}' of struct '{structure}' is a bit-field, which can't be read as bytes")]
    BitField {
        /// Name of the struct.
        structure: String,
        /// Path of the member.
        path: String,
    },
    /// Several structs of that name have the member at different offsets.
    #[error("this kernel has several structs '{structure}' that differ in '{path}'")]
    Ambiguous {
        /// Name of the structs.
        structure: String,
        /// Path of the member; empty if the sizes differ.
        path: String,
    },
}

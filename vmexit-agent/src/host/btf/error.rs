//! Why BTF could not be read, or why it does not hold what was asked for.

use std::{io, path::PathBuf};

use thiserror::Error;

use super::MAX_BYTES;

/// One sentence for each way that it can go wrong.
#[derive(Debug, Error)]
pub enum BtfError {
    /// The file does not exist.
    #[error("this kernel has no type information in {0}: it needs CONFIG_DEBUG_INFO_BTF")]
    Missing(PathBuf),
    /// Reading failed.
    #[error("{path} can't be read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The name of a module is not one.
    #[error("'{0}' is not the name of a kernel module")]
    ModuleName(String),
    /// Several times the size of any kernel's.
    #[error("BTF of more than {} MiB is not read", MAX_BYTES >> 20)]
    TooLarge,
    /// It begins with something else, or was written on a machine of the other byte order.
    #[error("this is not BTF of this machine's byte order: it begins with other bytes")]
    NotBtf,
    /// Another major version of the format.
    #[error("BTF version {0} is not known, only version 1")]
    Version(u8),
    /// An offset, a size or a type id that leads nowhere.
    #[error("BTF is cut short or damaged: {0}")]
    Damaged(&'static str),
    /// A kind of type whose size nobody tells: nothing behind it can be found.
    #[error("BTF has types of the unknown kind {0} and does not say how long they are")]
    UnknownKind(u8),
    /// Types nested, or chained, beyond what any compiler emits; a cycle ends here as well.
    #[error("BTF nests types too deeply, or in a circle")]
    TooDeep,
    /// No such structure.
    #[error("this kernel's BTF has no struct '{0}'")]
    NoStruct(String),
    /// Only declared.
    #[error("this kernel's BTF declares struct '{0}' but does not describe it")]
    Incomplete(String),
    /// The structure lacks the member.
    #[error("this kernel's struct '{structure}' has no member '{path}'")]
    NoMember {
        /// Where it was looked for.
        structure: String,
        /// The whole path.
        path: String,
    },
    /// It has no byte offset of its own.
    #[error("'{path}' of struct '{structure}' is a bit-field, which can't be read as bytes")]
    BitField {
        /// Where it was found.
        structure: String,
        /// The whole path.
        path: String,
    },
    /// Several structures share the name, and have the member in different places.
    #[error("this kernel has several structs '{structure}' that differ in '{path}'")]
    Ambiguous {
        /// Their name.
        structure: String,
        /// The whole path; empty where it is the size that differs.
        path: String,
    },
}

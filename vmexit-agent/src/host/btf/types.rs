//! Types without their typedefs and qualifiers, and the arguments of tracepoints.

use std::fmt;

use super::{Btf, BtfError, Record, wire::kind};

/// Longest chain of types that is followed, as in the kernel (`MAX_RESOLVE_DEPTH` in kernel/bpf/btf.c). It ends cycles
/// too.
const MAX_CHAIN: usize = 32;

/// Size of a pointer, bytes: BTF is that of the running kernel.
const POINTER: u32 = 8;

/// Kind of a type, without typedefs and qualifiers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `void`.
    Void,
    /// An integer or an enumeration.
    Int {
        /// Whether it can be negative.
        signed: bool,
    },
    /// `bool`.
    Bool,
    /// Floating point.
    Float,
    /// A pointer, with the name of the target if that is a struct or union.
    Pointer(Option<String>),
    /// An array.
    Array,
    /// A struct or union, with its name if it has one.
    Composite(Option<String>),
    /// A declaration, a function, or another type without a readable value.
    Opaque,
}

/// Type of the kernel: a struct, an integer, a pointer to another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Type {
    /// Kind of the type.
    pub shape: Shape,
    /// Size, bytes; 0 for types without one.
    pub size: u32,
    /// Name in C without qualifiers, such as `u32` or `struct kvm_vcpu *`.
    pub name: String,
}

/// Parameter of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    /// Name; BTF of older kernels has none for prototypes.
    pub name: Option<String>,
    /// Type of the parameter.
    pub ty: Type,
}

impl Type {
    /// Whether this is a pointer to the struct or union of that name.
    pub fn is_pointer_to(&self, name: &str) -> bool {
        matches!(&self.shape, Shape::Pointer(Some(to)) if to == name)
    }

    /// Whether this is an integer, enumeration or `bool` of that size in bytes.
    pub fn is_number(&self, size: u32) -> bool {
        self.is_int(size) || matches!(self.shape, Shape::Bool) && self.size == size
    }

    /// Whether this is a pointer.
    pub fn is_pointer(&self) -> bool {
        matches!(self.shape, Shape::Pointer(_))
    }

    /// Whether this is an integer or enumeration of that size in bytes, signed or not.
    pub fn is_int(&self, size: u32) -> bool {
        matches!(self.shape, Shape::Int { .. }) && self.size == size
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Btf {
    /// Arguments of a raw tracepoint, in order; `None` if this BTF does not have it. They are the parameters of the
    /// typedef `btf_trace_<name>` (`__DEFINE_EVENT` in include/trace/bpf_probe.h) without the first, `void *__data`.
    pub fn params_of_tracepoint(&self, name: &str) -> Option<Vec<Param>> {
        let name = format!("btf_trace_{name}");
        let mut btf = Some(self);
        while let Some(own) = btf {
            let found = own
                .named(&name)
                .filter(|(_, record)| record.kind() == kind::TYPEDEF)
                .find_map(|(_, record)| own.params_behind(record).ok().flatten());
            if found.is_some() {
                return found;
            }
            btf = own.base.as_deref();
        }
        None
    }

    /// Parameters, but for the first, of the function type that a typedef points to.
    fn params_behind(&self, typedef: Record) -> Result<Option<Vec<Param>>, BtfError> {
        let (_, _, pointer) = self.resolve(typedef.link)?;
        if pointer.kind() != kind::PTR {
            return Ok(None);
        }
        let (_, btf, proto) = self.resolve(pointer.link)?;
        if proto.kind() != kind::FUNC_PROTO {
            return Ok(None);
        }
        (1..proto.vlen())
            .map(|at| {
                Ok(Param {
                    name: btf.name(btf.word(proto, 2 * at)?),
                    ty: self.describe(btf.word(proto, 2 * at + 1)?)?,
                })
            })
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// Follows typedefs and qualifiers to a type: its ID, file and record. Void is a record of kind 0.
    ///
    /// # Errors
    /// The chain is too long, or refers to a type that does not exist.
    pub(super) fn resolve(&self, mut id: u32) -> Result<(u32, &Self, Record), BtfError> {
        for _ in 0..MAX_CHAIN {
            if id == 0 {
                return Ok((0, self, Record::VOID));
            }
            let (btf, record) = self.record(id)?;
            if !record.is_alias() {
                return Ok((id, btf, record));
            }
            id = record.link;
        }
        Err(BtfError::TooDeep)
    }

    /// Size of a type, bytes.
    ///
    /// # Errors
    /// The type is damaged, or nested too deeply.
    pub(super) fn size_of_type(&self, mut id: u32) -> Result<u32, BtfError> {
        let mut count = 1u32;
        for _ in 0..MAX_CHAIN {
            let (_, btf, record) = self.resolve(id)?;
            let size = match record.kind() {
                kind::ARRAY => {
                    count = count
                        .checked_mul(btf.word(record, 2)?)
                        .ok_or(BtfError::Damaged("an array is longer than memory"))?;
                    id = btf.word(record, 0)?;
                    continue;
                }
                kind::PTR => POINTER,
                kind::INT
                | kind::ENUM
                | kind::ENUM64
                | kind::FLOAT
                | kind::STRUCT
                | kind::UNION => record.link,
                _ => 0,
            };
            return count
                .checked_mul(size)
                .ok_or(BtfError::Damaged("an array is longer than memory"));
        }
        Err(BtfError::TooDeep)
    }

    /// Shape, size and name of a type.
    ///
    /// # Errors
    /// The type is damaged, or nested too deeply.
    pub(super) fn describe(&self, id: u32) -> Result<Type, BtfError> {
        let (_, btf, record) = self.resolve(id)?;
        let shape = match record.kind() {
            0 => Shape::Void,
            kind::INT => match btf.word(record, 0)? >> 24 {
                encoding if encoding & 4 != 0 => Shape::Bool,
                encoding => Shape::Int { signed: encoding & 1 != 0 },
            },
            // Since 6.0 the flag marks a signed enumeration; older kernels never set it.
            kind::ENUM | kind::ENUM64 => Shape::Int { signed: record.flag() },
            kind::FLOAT => Shape::Float,
            kind::PTR => {
                let (_, to, target) = self.resolve(record.link)?;
                let named = target.is_composite() || target.kind() == kind::FWD;
                Shape::Pointer(if named { to.name(target.name) } else { None })
            }
            kind::ARRAY => Shape::Array,
            kind::STRUCT | kind::UNION => Shape::Composite(btf.name(record.name)),
            _ => Shape::Opaque,
        };
        Ok(Type { shape, size: self.size_of_type(id)?, name: self.spell(id)? })
    }

    /// Name of a type in C, up to the first typedef, without qualifiers.
    fn spell(&self, mut id: u32) -> Result<String, BtfError> {
        let mut stars = String::new();
        for _ in 0..MAX_CHAIN {
            if id == 0 {
                return Ok(join("void", &stars));
            }
            let (btf, record) = self.record(id)?;
            let name = btf.name(record.name);
            let name = name.as_deref().unwrap_or("<unnamed>");
            let tag = match record.kind() {
                kind::PTR => {
                    stars.push('*');
                    id = record.link;
                    continue;
                }
                kind::CONST | kind::VOLATILE | kind::RESTRICT | kind::TYPE_TAG => {
                    id = record.link;
                    continue;
                }
                kind::STRUCT => "struct ",
                kind::UNION => "union ",
                kind::FWD if record.flag() => "union ",
                kind::FWD => "struct ",
                kind::ENUM | kind::ENUM64 => "enum ",
                kind::FUNC_PROTO => return Ok(join("<function>", &stars)),
                kind::ARRAY => return Ok(join("<array>", &stars)),
                _ => "",
            };
            return Ok(join(&format!("{tag}{name}"), &stars));
        }
        Err(BtfError::TooDeep)
    }
}

fn join(name: &str, stars: &str) -> String {
    if stars.is_empty() { name.to_owned() } else { format!("{name} {stars}") }
}

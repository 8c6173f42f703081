//! Offsets and sizes of struct members.

use super::{Btf, BtfError, Record, Type, wire::kind};

/// Maximum depth of nested anonymous structs and unions; the kernel has some five levels.
const MAX_NESTING: u32 = 16;

/// Maximum number of members that one query visits. `struct kvm_vcpu` has a few hundred; hostile nesting could have any number.
const MAX_MEMBERS: usize = 1 << 20;

/// Member of a struct, or of a struct within it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BtfField {
    /// Offset in the struct, bytes.
    pub offset: u32,
    /// Size, bytes.
    pub size: u32,
    /// Type of the member.
    pub ty: Type,
}

/// A member found by name.
struct Member {
    /// Offset in the struct that was searched, bits.
    bits: u64,
    ty: u32,
    bit_field: bool,
}

impl Btf {
    /// Size of a struct or union, bytes.
    ///
    /// # Errors
    /// There is none of that name, or several with different sizes.
    pub fn size_of(&self, structure: &str) -> Result<u32, BtfError> {
        let sizes = self.definitions(structure)?.into_iter().map(|id| self.size_of_type(id));
        agreed(sizes, structure, "")
    }

    /// Member of a struct or union. A path such as `vt.exit_reason` goes through members that are structs themselves,
    /// but not through pointers; anonymous structs and unions are left out of it, as in C. If several structs share
    /// the name, those that have the member must have it at the same offset.
    ///
    /// # Errors
    /// There is no such struct or member, the member is a bit-field, or the definitions differ.
    pub fn field(&self, structure: &str, path: &str) -> Result<BtfField, BtfError> {
        let mut budget = MAX_MEMBERS;
        let found = self
            .definitions(structure)?
            .into_iter()
            .map(|id| self.field_of(id, structure, path, &mut budget));
        agreed(found, structure, path)
    }

    fn field_of(
        &self,
        id: u32,
        structure: &str,
        path: &str,
        budget: &mut usize,
    ) -> Result<BtfField, BtfError> {
        let no_member =
            || BtfError::NoMember { structure: structure.to_owned(), path: path.to_owned() };
        let (mut at, mut bits, mut bit_field) = (id, 0u64, false);
        for name in path.split('.') {
            let (_, btf, record) = self.resolve(at)?;
            if !record.is_composite() || name.is_empty() {
                return Err(no_member());
            }
            let member =
                self.member(btf, record, name, MAX_NESTING, budget)?.ok_or_else(no_member)?;
            bits += member.bits;
            (at, bit_field) = (member.ty, member.bit_field);
        }
        if bit_field || bits % 8 != 0 {
            let (structure, path) = (structure.to_owned(), path.to_owned());
            return Err(BtfError::BitField { structure, path });
        }
        let ty = self.describe(at)?;
        let end = bits / 8 + u64::from(ty.size);
        match u32::try_from(bits / 8) {
            Ok(offset) if end <= u64::from(self.size_of_type(id)?) => {
                Ok(BtfField { offset, size: ty.size, ty })
            }
            _ => Err(BtfError::Damaged("a member ends after the end of its struct")),
        }
    }

    /// Finds a member by name, in a struct or in the anonymous structs and unions within it. `btf` is the file of
    /// `record`; `self` is that file or a module based on it, and resolves the types.
    fn member(
        &self,
        btf: &Self,
        record: Record,
        name: &str,
        nesting: u32,
        budget: &mut usize,
    ) -> Result<Option<Member>, BtfError> {
        *budget = budget.checked_sub(record.vlen()).ok_or(BtfError::TooDeep)?;
        for at in 0..record.vlen() {
            let named = btf.word(record, 3 * at)?;
            let member = self.read_member(btf, record, at)?;
            if btf.is_named(named, name) {
                return Ok(Some(member));
            }
            if named != 0 {
                continue;
            }
            let (_, inner_btf, inner) = self.resolve(member.ty)?;
            if !inner.is_composite() {
                continue;
            }
            let deeper = nesting.checked_sub(1).ok_or(BtfError::TooDeep)?;
            if let Some(found) = self.member(inner_btf, inner, name, deeper, budget)? {
                return Ok(Some(Member { bits: member.bits + found.bits, ..found }));
            }
        }
        Ok(None)
    }

    /// Reads a `struct btf_member`: name, type, offset.
    fn read_member(&self, btf: &Self, record: Record, at: usize) -> Result<Member, BtfError> {
        let ty = btf.word(record, 3 * at + 1)?;
        let offset = btf.word(record, 3 * at + 2)?;
        if record.flag() {
            let bits = u64::from(offset & 0x00ff_ffff);
            return Ok(Member { bits, ty, bit_field: offset >> 24 != 0 });
        }
        Ok(Member { bits: u64::from(offset), ty, bit_field: self.is_narrow(ty)? })
    }

    /// Whether a type makes its member a bit-field in the encoding without the flag: an integer with fewer bits than its
    /// bytes have (Documentation/bpf/btf.rst, BTF_KIND_INT).
    fn is_narrow(&self, id: u32) -> Result<bool, BtfError> {
        let (_, btf, record) = self.resolve(id)?;
        if record.kind() != kind::INT {
            return Ok(false);
        }
        let encoding = btf.word(record, 0)?;
        let (offset, bits) = ((encoding >> 16) & 0xff, encoding & 0xff);
        Ok(offset != 0 || u64::from(bits) != u64::from(record.link) * 8)
    }
}

/// Returns the common answer of all definitions that have one.
fn agreed<T: PartialEq>(
    answers: impl Iterator<Item = Result<T, BtfError>>,
    structure: &str,
    path: &str,
) -> Result<T, BtfError> {
    let (mut agreed, mut failed) = (None, None);
    for answer in answers {
        match (answer, &agreed) {
            (Ok(answer), Some(other)) if answer != *other => {
                let (structure, path) = (structure.to_owned(), path.to_owned());
                return Err(BtfError::Ambiguous { structure, path });
            }
            (Ok(answer), _) => agreed = Some(answer),
            (Err(error), _) => failed = failed.or(Some(error)),
        }
    }
    agreed.ok_or_else(|| failed.unwrap_or_else(|| BtfError::NoStruct(structure.to_owned())))
}

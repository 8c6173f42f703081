//! The 64-bit key of a row: what is counted (exit reason, I/O port …), which direction and size, and
//! which one. A key is never 0, so 0 marks a free row.
//!
//! ```text
//! 63    60 59     58 … 55   54                                    0
//! ┌───────┬───────┬────────┬───────────────────────────────────────┐
//! │ kind  │ write │ size   │ exit code, port (room for a GPA)      │
//! └───────┴───────┴────────┴───────────────────────────────────────┘
//! ```

/// What a row counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// A VM exit by reason; the value is the vendor's exit code.
    Reason = 1,
    /// An access to an I/O port; the value is the port.
    Pio = 2,
    /// Everything that found no row of its own.
    Other = 15,
}

/// See the module's documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Key(pub u64);

const KIND_SHIFT: u32 = 60;
const WRITE_SHIFT: u32 = 59;
const SIZE_SHIFT: u32 = 55;
const SIZE_MASK: u64 = 15;
const VALUE: u64 = (1 << SIZE_SHIFT) - 1;

impl Key {
    /// No key: a free row, or no detail noted.
    pub const NONE: Self = Self(0);
    /// The row for everything that found none of its own.
    pub const OTHER: Self = Self((Kind::Other as u64) << KIND_SHIFT);

    /// The row of an exit reason. All 32 bits of the code are kept: Intel flags a failed entry and
    /// others in the upper half.
    #[inline(always)]
    pub const fn reason(code: u32) -> Self {
        Self((Kind::Reason as u64) << KIND_SHIFT | code as u64)
    }

    /// The row of an I/O port and direction (1 for OUT), for accesses of `size` bytes. Nothing is masked:
    /// KVM has 16 bits for a port, and sizes up to 8 (`emulator_pio_in_out`, arch/x86/kvm/x86.c).
    #[inline(always)]
    pub const fn pio(port: u64, write: u64, size: u64) -> Self {
        Self(Self::head(Kind::Pio, write, size) | port)
    }

    /// All but the value.
    #[inline(always)]
    const fn head(kind: Kind, write: u64, size: u64) -> u64 {
        (kind as u64) << KIND_SHIFT | write << WRITE_SHIFT | size << SIZE_SHIFT
    }

    /// What this row counts; `None` for a key that this version does not know.
    pub const fn kind(self) -> Option<Kind> {
        match self.0 >> KIND_SHIFT {
            1 => Some(Kind::Reason),
            2 => Some(Kind::Pio),
            15 => Some(Kind::Other),
            _ => None,
        }
    }

    /// The exit code or port.
    pub const fn value(self) -> u64 {
        self.0 & VALUE
    }

    /// Whether the guest wrote (OUT) rather than read (IN).
    pub const fn is_write(self) -> bool {
        self.0 >> WRITE_SHIFT & 1 != 0
    }

    /// Bytes per access; `None` for a key that is no access.
    pub const fn size(self) -> Option<u8> {
        match (self.kind(), self.0 >> SIZE_SHIFT & SIZE_MASK) {
            (Some(Kind::Pio), size) => Some(size as u8),
            _ => None,
        }
    }

    /// The same for accesses of any size.
    pub const fn of_any_size(self) -> Self {
        Self(self.0 & !(SIZE_MASK << SIZE_SHIFT))
    }

    /// Spreads keys over `1 << bits` homes (Fibonacci hashing): neighbouring ports and the two
    /// directions of one port land apart.
    #[inline(always)]
    pub const fn home(self, bits: u32) -> usize {
        (self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - bits)) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back() {
        let parts = |key: Key| (key.kind(), key.value(), key.is_write(), key.size());
        let pio = Some(Kind::Pio);
        assert_eq!(parts(Key::pio(0x608, 0, 4)), (pio, 0x608, false, Some(4)));
        assert_eq!(parts(Key::pio(0xffff, 1, 1)), (pio, 0xffff, true, Some(1)));
        assert_eq!(parts(Key::pio(0, 1, 8)), (pio, 0, true, Some(8)));
        let key = Key::reason(0x8000_0021);
        assert_eq!((key.kind(), key.value()), (Some(Kind::Reason), 0x8000_0021));
        assert_eq!((key.size(), Key::NONE.kind(), Key::NONE.size()), (None, None, None));
        assert_ne!(Key::reason(0), Key::NONE);
    }

    #[test]
    fn sizes_are_told_apart_until_they_are_not_wanted() {
        let (one, four) = (Key::pio(0x608, 0, 1), Key::pio(0x608, 0, 4));
        assert_ne!(one, four);
        assert_eq!(one.of_any_size(), four.of_any_size());
    }
}

//! Durations of exits that a guest with a clock prints after each dot.

/// Smallest numbers of TSC cycles from before an instruction to after it, of one round or of many.
///
/// The smallest number is that of an undisturbed exit. Where the TSC counts instructions it is the same each time.
/// It includes the guest's own instructions in between and one RDTSC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GuestClock {
    /// Cycles of an IN from the PM timer.
    pub pm_timer_in: Option<u32>,
    /// Cycles of a CPUID.
    pub cpuid: Option<u32>,
}

impl GuestClock {
    /// Bytes that a round prints: `p` and 8 hexadecimal digits, `c` and 8 more, a newline.
    pub(super) const PRINTED: u64 = 19;

    /// Smallest figures of all complete rounds in the text: those between its first newline and its last.
    pub fn of(text: &[u8]) -> Self {
        let mut lines = text.split(|&byte| byte == b'\n').skip(1).peekable();
        let mut smallest = Self::default();
        while let Some(line) = lines.next() {
            // The last piece is an incomplete line.
            if lines.peek().is_some()
                && let Some(round) = Self::of_round(line)
            {
                smallest = smallest.min(round);
            }
        }
        smallest
    }

    /// Figures in a line without its newline. The dot and dashes of the round come before them.
    fn of_round(line: &[u8]) -> Option<Self> {
        let line = std::str::from_utf8(line).ok()?;
        let (_, figures) = line.split_once('p')?;
        let (pm_timer_in, cpuid) = figures.split_at_checked(8)?;
        Some(Self { pm_timer_in: figure(pm_timer_in)?, cpuid: figure(cpuid.strip_prefix('c')?)? })
    }

    fn min(self, other: Self) -> Self {
        let min = |a: Option<u32>, b: Option<u32>| a.into_iter().chain(b).min();
        Self {
            pm_timer_in: min(self.pm_timer_in, other.pm_timer_in),
            cpuid: min(self.cpuid, other.cpuid),
        }
    }
}

/// Value of eight digits. The inner `None` stands for a guest that made no such exit.
fn figure(digits: &str) -> Option<Option<u32>> {
    if digits.len() != 8 {
        return None;
    }
    let cycles = u32::from_str_radix(digits, 16).ok()?;
    Some(Some(cycles).filter(|&cycles| cycles != u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn clock(pm_timer_in: u32, cpuid: u32) -> GuestClock {
        GuestClock { pm_timer_in: Some(pm_timer_in), cpuid: Some(cpuid) }
    }

    #[test]
    fn clock_keeps_smallest_of_each_figure() {
        let text = b"\n.p0000c0dec00000a00\n--.p0000c0ddc00000a01\n";
        assert_eq!(GuestClock::of(text), clock(0xc0dd, 0xa00));
    }

    #[test]
    fn clock_ignores_truncated_rounds() {
        let text = b"01c00000001\n.p00000200c00000300\n.p00000100c0000010";
        assert_eq!(GuestClock::of(text), clock(0x200, 0x300));
        assert_eq!(GuestClock::of(b".p00000200c00000300\n"), GuestClock::default());
        assert_eq!(GuestClock::of(b"....\n"), GuestClock::default());
        assert_eq!(GuestClock::of(b""), GuestClock::default());
    }

    #[test]
    fn clock_ignores_malformed_figures() {
        for line in
            [".p0000020c00000300", ".p00000200d00000300", ".p00000200c000003000", ".pc", "."]
        {
            assert_eq!(GuestClock::of_round(line.as_bytes()), None, "{line}");
        }
        assert!(GuestClock::of_round(b".p00000200c00000300").is_some());
        let none = GuestClock { pm_timer_in: None, cpuid: Some(5) };
        assert_eq!(GuestClock::of_round(b".pffffffffc00000005"), Some(none));
    }
}

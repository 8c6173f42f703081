//! A log-linear histogram of durations: four buckets to an octave, from 64 ns to over 100 s.
//!
//! A bucket is at most a quarter of its lower bound wide, so its midpoint is never more than 12.5 %
//! away from any duration in it. The kernel only ever calls [`bucket_of`]; the rest is for readers.

/// Buckets of a histogram: one below the range, 31 octaves of four, and three spare that keep the
/// size a power of two, so that the kernel can bound an index by a mask.
pub const BUCKETS: usize = 128;

/// Durations below this share bucket 0 (nanoseconds). No exit to the host is faster.
pub const LOWEST_NS: u64 = 1 << LOWEST_BITS;

/// Durations from this on share the last used bucket (nanoseconds, about 137 s).
pub const HIGHEST_NS: u64 = 1 << HIGHEST_BITS;

const LOWEST_BITS: u32 = 6;
const HIGHEST_BITS: u32 = 37;
const SUB_BITS: u32 = 2;
const SUB_BUCKETS: u32 = 1 << SUB_BITS;

/// The last bucket in use; it also takes everything from [`HIGHEST_NS`] on.
pub const LAST_BUCKET: usize = ((HIGHEST_BITS - LOWEST_BITS) * SUB_BUCKETS) as usize;

/// Octaves that [`LOOK_UP`] spans; each time a duration is beyond it, it is shifted down by as many.
const STEP_BITS: u32 = 6;
const STEP_BUCKETS: usize = (STEP_BITS * SUB_BUCKETS) as usize;
/// A duration in units of this many bits has its octave's sub-buckets in its leading bits.
const UNIT_BITS: u32 = LOWEST_BITS - SUB_BITS;

/// The bucket of a duration below `256 << UNIT_BITS` nanoseconds (4 µs).
static LOOK_UP: [u8; 256] = {
    let mut table = [0; 256];
    let mut value = SUB_BUCKETS;
    while value < 256 {
        let exponent = value.ilog2();
        let sub = value >> (exponent - SUB_BITS) & (SUB_BUCKETS - 1);
        table[value as usize] = (1 + (exponent - SUB_BITS) * SUB_BUCKETS + sub) as u8;
        value += 1;
    }
    table
};

/// The bucket of a duration in nanoseconds; always below [`BUCKETS`].
///
/// BPF has no instruction that counts leading zeros. With the table most exits take a compare or
/// two: one up to 4 µs, two up to 262 µs.
#[inline(always)]
pub fn bucket_of(ns: u64) -> usize {
    let value = ns >> UNIT_BITS;
    // Written out, for a loop would be kept as one, which is four times as many instructions.
    macro_rules! look_up {
        ($step:literal) => {
            let value = value >> ($step * STEP_BITS);
            if value < LOOK_UP.len() as u64 {
                // SAFETY: as just compared. A check could not be met by the verifier's rules: its panic
                // has nowhere to go.
                let bucket = unsafe { *LOOK_UP.get_unchecked(bounded(value)) } as usize;
                return $step * STEP_BUCKETS + bucket;
            }
        };
    }
    look_up!(0);
    look_up!(1);
    if ns >= HIGHEST_NS {
        return LAST_BUCKET;
    }
    look_up!(2);
    look_up!(3);
    look_up!(4);
    look_up!(5);
    LAST_BUCKET
}

/// An index below 256, which `value` is already.
#[inline(always)]
fn bounded(value: u64) -> usize {
    // LLVM knows and drops a mask; the verifier can't follow the shifts and wants one.
    #[cfg(target_arch = "bpf")]
    let value = {
        let mut value = value;
        // SAFETY: arithmetic on a register.
        unsafe { core::arch::asm!("{0} &= 255", inout(reg) value, options(pure, nomem, nostack)) };
        value
    };
    value as usize
}

/// The durations that a bucket holds, in nanoseconds: from the first bound up to, not including,
/// the second. `None` for the spare buckets.
pub const fn bounds_of(bucket: usize) -> Option<(u64, u64)> {
    if bucket == 0 {
        return Some((0, LOWEST_NS));
    }
    if bucket > LAST_BUCKET {
        return None;
    }
    let index = bucket as u64 - 1;
    let octave = index >> SUB_BITS;
    let sub = index & (SUB_BUCKETS as u64 - 1);
    let unit = LOWEST_NS << octave >> SUB_BITS;
    let low = (SUB_BUCKETS as u64 + sub) * unit;
    Some((low, low + unit))
}

/// The duration that stands for a bucket, in nanoseconds: its midpoint.
pub const fn midpoint_of(bucket: usize) -> Option<u64> {
    match bounds_of(bucket) {
        Some((low, high)) => Some(low + (high - low) / 2),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn buckets_tile_the_range() {
        let mut next = 0;
        for bucket in 0..=LAST_BUCKET {
            let (low, high) = bounds_of(bucket).unwrap();
            assert_eq!(low, next, "bucket {bucket}");
            assert_eq!(bucket_of(low), bucket);
            assert_eq!(bucket_of(high - 1), bucket);
            next = high;
        }
        assert_eq!(next, HIGHEST_NS);
        assert_eq!(bounds_of(LAST_BUCKET + 1), None);
        for bits in HIGHEST_BITS..u64::BITS {
            assert_eq!(bucket_of(1 << bits), LAST_BUCKET);
        }
        assert_eq!(bucket_of(u64::MAX), LAST_BUCKET);
        const { assert!(LAST_BUCKET < BUCKETS && HIGHEST_NS > 100_000_000_000) }
    }

    proptest! {
        #[test]
        fn midpoint_is_within_an_eighth(bits in 6u32..37, noise in any::<u64>()) {
            let ns = (1 << bits) | (noise & ((1 << bits) - 1));
            let mid = midpoint_of(bucket_of(ns)).unwrap();
            prop_assert!(mid.abs_diff(ns) * 8 <= ns, "{ns} ns is shown as {mid} ns");
        }

        #[test]
        fn longer_is_never_in_a_lower_bucket(a in any::<u64>(), b in any::<u64>()) {
            prop_assert!(bucket_of(a.min(b)) <= bucket_of(a.max(b)));
        }
    }
}

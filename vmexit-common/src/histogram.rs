//! Log-linear histogram of durations: four buckets per octave, from 64 ns to over 100 s.
//!
//! The width of a bucket is at most a quarter of its lower bound, so its midpoint is within 12.5 % of
//! every duration in it. The eBPF programs call [`look_up`] only; the rest is for readers.

/// Buckets of a histogram: one below the range, 31 octaves of four, and three unused ones that fill the
/// last cache line.
pub const BUCKETS: usize = 128;

/// Lower bound of the range, nanoseconds. Shorter durations share bucket 0; no exit to the host is that
/// fast.
pub const LOWEST_NS: u64 = 1 << LOWEST_BITS;

/// Upper bound of the range, nanoseconds: about 137 s. Longer durations share [`LAST_BUCKET`].
pub const HIGHEST_NS: u64 = 1 << HIGHEST_BITS;

const LOWEST_BITS: u32 = 6;
const HIGHEST_BITS: u32 = 37;
const SUB_BITS: u32 = 2;
const SUB_BUCKETS: u32 = 1 << SUB_BITS;

/// Last bucket in use. It also takes durations of [`HIGHEST_NS`] and more.
pub const LAST_BUCKET: usize = ((HIGHEST_BITS - LOWEST_BITS) * SUB_BUCKETS) as usize;

/// Octaves per table of [`BucketTables`]: the difference in shift from one table to the next.
const STEP_BITS: u32 = 6;
/// Shift of the first table: the shortest duration in the range keeps its leading bit and the
/// [`SUB_BITS`] bits below.
const UNIT_BITS: u32 = LOWEST_BITS - SUB_BITS;

/// Lookup tables with one value per bucket, indexed by eight leading bits of a duration. BPF has no
/// instruction that counts leading zeros.
pub type BucketTables = [[u32; 256]; TABLES];
/// Number of lookup tables.
pub const TABLES: usize = (HIGHEST_BITS - LOWEST_BITS).div_ceil(STEP_BITS) as usize;

/// Bucket of a duration in nanoseconds; always below [`BUCKETS`].
pub const fn bucket_of(ns: u64) -> usize {
    if ns < LOWEST_NS {
        return 0;
    }
    if ns >= HIGHEST_NS {
        return LAST_BUCKET;
    }
    let octave = ns.ilog2();
    let sub = (ns >> (octave - SUB_BITS)) as u32 & (SUB_BUCKETS - 1);
    (1 + (octave - LOWEST_BITS) * SUB_BUCKETS + sub) as usize
}

/// Bucket of the durations that [`look_up`] finds at this index of this table.
pub const fn bucket_at(table: usize, index: usize) -> usize {
    bucket_of((index as u64) << (UNIT_BITS + table as u32 * STEP_BITS))
}

/// Value in the tables for a duration in nanoseconds; `None` beyond the last table. Each table costs one
/// compare: most exits take one (up to 4 µs) or two (up to 262 µs).
#[inline(always)]
pub fn look_up(tables: &'static BucketTables, ns: u64) -> Option<u32> {
    // Unrolled by hand: the compiler keeps a loop, which is four times as many instructions.
    macro_rules! try_table {
        ($table:literal) => {
            let unit = UNIT_BITS + $table * STEP_BITS;
            if ns >> unit < 256 {
                let offset = bounded(ns >> (unit - size_of::<u32>().ilog2()));
                // SAFETY: the offset is within the table, and aligned.
                return Some(unsafe { *tables[$table].as_ptr().byte_add(offset) });
            }
        };
    }
    try_table!(0);
    try_table!(1);
    try_table!(2);
    try_table!(3);
    try_table!(4);
    try_table!(5);
    None
}

/// Offset into a table, bytes: `value`, which is below 1024, rounded down to a multiple of four.
#[inline(always)]
fn bounded(value: u64) -> usize {
    // LLVM would drop bits of the mask that the shifts clear already. The verifier does not track the
    // shifts and needs the whole mask.
    #[cfg(target_arch = "bpf")]
    let value = {
        let mut value = value;
        // SAFETY: arithmetic on a register.
        unsafe { core::arch::asm!("{0} &= 1020", inout(reg) value, options(pure, nomem, nostack)) };
        value
    };
    #[cfg(not(target_arch = "bpf"))]
    let value = value & 1020;
    value as usize
}

/// Range of durations in a bucket, nanoseconds: lower bound inclusive, upper bound exclusive. `None` for
/// the unused buckets.
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

/// Midpoint of a bucket, nanoseconds; `None` for the unused buckets.
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
    fn bounds_of_buckets_tile_range() {
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

    static TABLES_OF_BUCKETS: BucketTables = {
        let mut tables = [[0; 256]; TABLES];
        let mut at = 0;
        while at < TABLES * 256 {
            tables[at / 256][at % 256] = bucket_at(at / 256, at % 256) as u32;
            at += 1;
        }
        tables
    };

    fn looked_up(ns: u64) -> usize {
        look_up(&TABLES_OF_BUCKETS, ns).map_or(LAST_BUCKET, |bucket| bucket as usize)
    }

    #[test]
    fn look_up_finds_each_bucket() {
        for bucket in 0..=LAST_BUCKET {
            let (low, high) = bounds_of(bucket).unwrap();
            assert_eq!((looked_up(low), looked_up(high - 1)), (bucket, bucket));
        }
        for bits in HIGHEST_BITS..u64::BITS {
            assert_eq!(looked_up(1 << bits), LAST_BUCKET);
        }
    }

    proptest! {
        #[test]
        fn look_up_equals_bucket_of(bits in 0u32..64, noise in any::<u64>()) {
            prop_assert_eq!(looked_up(noise >> bits), bucket_of(noise >> bits));
        }

        #[test]
        fn midpoint_of_bucket_is_within_an_eighth(bits in 6u32..37, noise in any::<u64>()) {
            let ns = (1 << bits) | (noise & ((1 << bits) - 1));
            let mid = midpoint_of(bucket_of(ns)).unwrap();
            prop_assert!(mid.abs_diff(ns) * 8 <= ns, "{ns} ns is shown as {mid} ns");
        }

        #[test]
        fn bucket_of_is_monotone(a in any::<u64>(), b in any::<u64>()) {
            prop_assert!(bucket_of(a.min(b)) <= bucket_of(a.max(b)));
        }
    }
}

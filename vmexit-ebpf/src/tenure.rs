//! Giving up a row of details that nothing comes for any more, while other keys find none: a guest that
//! boots asks for hundreds of things once. What was booked on the row goes to its kind's in [`OTHERS`], so
//! the sum over a kind is what it was.

use vmexit_common::{
    book::{
        Counts, DETAILS, MISSES_PER_LOOK, OTHERS, PART_BUCKETS, PARTS, PROBES, Parts, Row,
        TO_DURATIONS,
    },
    key::Key,
};

use crate::{
    access::{add, load, store},
    book::{detail_at, other_row, quota, tenure_at},
};

/// Looks for a row to give up after so many misses, the last one that of `key`: any near its home; or one
/// of its kind's, where that has its quota, in that part of the table whose turn it is.
#[inline(never)]
pub fn look(book: *mut Counts, key: u64, misses: u64) {
    let key = Key(key);
    let kind = key.kind_number();
    let has_quota = load!(book, taken[kind]) >= quota(key);
    let first = if has_quota {
        (misses / MISSES_PER_LOOK) as usize * PROBES
    } else {
        key.home(DETAILS.bits)
    };
    for probe in 0..PROBES {
        let index = first + probe;
        let (row, tenure) = (detail_at(book, index), tenure_at(book, index));
        let owner = Key(load!(row, key));
        if owner == Key::NONE || has_quota && owner.kind_number() != kind {
            continue;
        }
        let booked = (load!(row, exits) + load!(row, stray)) as u32;
        if load!(tenure, seen) == booked {
            give_up(book, index);
            return;
        }
        store!(tenure, seen, booked);
    }
}

/// Hands everything over that was booked on the row with this index in the table of details.
#[inline(always)]
fn give_up(book: *mut Counts, index: usize) {
    let (row, tenure) = (detail_at(book, index), tenure_at(book, index));
    let key = Key(load!(row, key));
    let other = other_row(book, key);
    hand_over_extremes(row, other);
    macro_rules! hand_over {
        ($($field:ident),*) => {$({
            add!(other, $field, load!(row, $field));
            store!(row, $field, 0);
        })*};
    }
    hand_over!(exits, stray, untimed, total_ns, user_ns);
    hand_over_durations(row, other);
    let (index, others, kind) =
        (DETAILS.row(index), OTHERS.row(key.kind_number()), key.kind_number());
    add!(book, more[others], load!(book, more[index]));
    store!(book, more[index], 0);
    store!(tenure, seen, 0);
    store!(tenure, number, load!(tenure, number).wrapping_add(1));
    store!(book, taken[kind], load!(book, taken[kind]).wrapping_sub(1));
    store!(book, used[index / 64], load!(book, used[index / 64]) & !(1 << (index % 64)));
    store!(row, key, Key::NONE.0);
    add!(book, given_up, 1);
}

/// The shortest and longest duration, which are both 0 until the first.
#[inline(always)]
fn hand_over_extremes(row: *mut Row, other: *mut Row) {
    let (shortest, longest) = (load!(row, min_ns), load!(row, max_ns));
    if longest == 0 {
        return;
    }
    if load!(other, max_ns) == 0 || shortest < load!(other, min_ns) {
        store!(other, min_ns, shortest);
    }
    if longest > load!(other, max_ns) {
        store!(other, max_ns, longest);
    }
    store!(row, min_ns, 0);
    store!(row, max_ns, 0);
}

#[inline(always)]
fn hand_over_durations(row: *mut Row, other: *mut Row) {
    for part in 0..PARTS {
        for bucket in 0..PART_BUCKETS {
            let place = part * size_of::<Parts>() + bucket * size_of::<u32>();
            // SAFETY: both within their rows' book.
            unsafe {
                let from = row.byte_add(place).byte_add(TO_DURATIONS).cast::<u32>();
                let to = other.byte_add(place).byte_add(TO_DURATIONS).cast::<u32>();
                to.write_volatile(to.read_volatile().wrapping_add(from.read_volatile()));
                from.write_volatile(0);
            }
        }
    }
}

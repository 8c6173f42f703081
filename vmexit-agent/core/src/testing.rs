//! Test input, for this crate and for those above it.

use proptest::prelude::*;

use crate::counters::VcpuReading;

/// Arbitrary text, and text made of characters that are difficult to display.
pub fn nasty() -> impl Strategy<Value = String> {
    let difficult = prop::sample::select(vec![
        '\0',
        '\n',
        '\r',
        '\t',
        '\u{7f}',
        '\u{1b}',
        '[',
        '"',
        '\\',
        ',',
        '|',
        '\u{85}',
        '\u{9b}',
        '\u{301}',
        '\u{20dd}',
        '\u{1f3fb}',
        '\u{1f1e6}',
        '☺',
        '👩',
        '\u{200d}',
        '\u{fe0f}',
        '\u{fe01}',
        '\u{2018}',
        '\u{202e}',
        '\u{2066}',
        '\u{2028}',
        '\u{e0041}',
        '\u{17d2}',
        '\u{1780}',
        '\u{1100}',
        '\u{1161}',
        '\u{11a8}',
        '\u{fffd}',
        '\u{ffff}',
        '\u{10fffd}',
        'サ',
        '\u{fdfd}',
        '\u{17d8}',
    ]);
    let bytes = prop::collection::vec(any::<u8>(), 0..300);
    prop_oneof![
        any::<String>(),
        prop::collection::vec(difficult, 0..300).prop_map(String::from_iter),
        prop::collection::vec(any::<char>(), 0..300).prop_map(String::from_iter),
        bytes.prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
    ]
}

impl VcpuReading {
    /// Numbers the rows in their order, as if they were in a stats block.
    #[must_use]
    pub fn with_places(mut self) -> Self {
        for rows in [&mut self.reasons, &mut self.details] {
            (0..).zip(rows).for_each(|(place, row)| row.place = place);
        }
        self
    }
}

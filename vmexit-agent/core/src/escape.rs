//! Escaping of untrusted text (names chosen by guests and their owners) for terminals.

use std::path::Path;

use unicode_width::UnicodeWidthChar as _;

/// Maximum width of a displayed name, columns.
const WIDEST: usize = 64;

/// Maximum width of a displayed path, columns: the length of `sun_path` (unix(7)).
const WIDEST_PATH: usize = 108;

/// Maximum number of combining marks displayed on one character. Real text rarely has more; many of
/// them would cover adjacent lines.
const MOST_MARKS: usize = 3;

/// A name without control or invisible characters, cut to 64 columns.
pub fn safe(name: &str) -> String {
    cut(name, WIDEST)
}

/// A path without control or invisible characters, cut to 108 columns, the longest socket path.
pub fn path(path: &Path) -> String {
    cut(&path.to_string_lossy(), WIDEST_PATH)
}

/// The text without control or invisible characters, cut to `columns`. The last column of a cut
/// text is an ellipsis.
pub fn cut(text: &str, columns: usize) -> String {
    let mut shown = String::new();
    let (mut width, mut fits) = (0, 0);
    for (piece, wide) in pieces(text) {
        width += wide;
        if width > columns {
            shown.truncate(fits);
            shown.push('…');
            break;
        }
        piece.write(&mut shown);
        if width < columns {
            fits = shown.len();
        }
    }
    shown
}

/// The whole text without control or invisible characters.
pub fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    pieces(text).for_each(|(piece, _)| piece.write(&mut shown));
    shown
}

/// Whether a character is neither a control character nor one of Unicode's that are invisible,
/// reorder text or end lines: those with the property Default_Ignorable_Code_Point, which is
/// stable, and those of the categories Cf, Zl and Zp (DerivedCoreProperties.txt and
/// UnicodeData.txt, version 16).
pub fn is_plain(c: char) -> bool {
    let invisible = matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}'
        | '\u{890}'..='\u{891}' | '\u{8e2}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}');
    !c.is_control() && !invisible
}

/// A character as displayed.
enum Piece {
    Plain(char),
    Escaped(char),
}

impl Piece {
    fn write(&self, into: &mut String) {
        match self {
            Self::Plain(c) => into.push(*c),
            Self::Escaped(c) => into.extend(escape(*c)),
        }
    }
}

fn escape(c: char) -> impl Iterator<Item = char> {
    c.escape_default()
}

/// The displayed form of each character and its width in columns. Characters of no width, mostly
/// combining marks, need a preceding character, which bears a limited number of them.
fn pieces(text: &str) -> impl Iterator<Item = (Piece, usize)> {
    let mut room = 0;
    text.chars().map(move |c| match c.width().filter(|_| is_plain(c)) {
        Some(0) if room > 0 => {
            room -= 1;
            (Piece::Plain(c), 0)
        }
        Some(wide @ 1..) => {
            room = MOST_MARKS;
            (Piece::Plain(c), wide)
        }
        _ => {
            room = 0;
            (Piece::Escaped(c), escape(c).count())
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use unicode_width::UnicodeWidthStr as _;

    use super::*;
    use crate::testing::nasty;

    #[test]
    fn control_and_invisible_characters_are_escaped() {
        assert_eq!(safe("win10"), "win10");
        assert_eq!(safe("\x1b[31mred\n"), "\\u{1b}[31mred\\n");
        assert_eq!(safe("\u{9b}31m\u{7f}"), "\\u{9b}31m\\u{7f}");
        assert_eq!(safe("a\u{202e}b\u{2028}c\u{feff}"), "a\\u{202e}b\\u{2028}c\\u{feff}");
        assert_eq!(safe("👩\u{200d}🚀 ☺\u{fe0f}"), "👩\\u{200d}🚀 ☺\\u{fe0f}");
    }

    #[test]
    fn text_of_all_scripts_is_unchanged() {
        for name in [
            "Müller",
            "Mu\u{308}ller",
            "ви\u{301}рус",
            "เครื่อง",
            "सर्वर",
            "サーバー",
            "서버",
            "C:\\x",
        ] {
            assert_eq!(safe(name), name);
        }
    }

    #[test]
    fn combining_marks_without_base_are_escaped() {
        assert_eq!(safe("\u{301}a"), "\\u{301}a");
        assert_eq!(safe("a\n\u{301}"), "a\\n\\u{301}");
        let flood = safe(&format!("a{}", "\u{301}".repeat(10_000)));
        assert!(flood.starts_with("a\u{301}\u{301}\u{301}\\u{301}"), "{flood}");
        assert!(flood.len() < 100);
    }

    #[test]
    fn cut_text_ends_with_ellipsis() {
        assert_eq!(cut("abcd", 4), "abcd");
        assert_eq!(cut("abcde", 4), "abc…");
        assert_eq!(cut("ab\n", 4), "ab\\n");
        assert_eq!(cut("abc\n", 4), "abc…");
        assert_eq!(cut("サーバ", 6), "サーバ");
        assert_eq!(cut("サーバー", 6), "サー…");
        assert_eq!(cut("abcde\u{301}", 5), "abcde\u{301}");
        assert_eq!(cut("a", 0), "…");
    }

    proptest! {
        #[test]
        fn escaped_arbitrary_text_is_plain_and_bounded(name in nasty(), columns in 1..100_usize) {
            let shown = cut(&name, columns);
            prop_assert!(shown.chars().all(is_plain));
            prop_assert!(shown.width() <= columns, "{} columns", shown.width());
            prop_assert!(shown.chars().count() <= columns * (1 + MOST_MARKS));
            prop_assert!(escaped(&name).chars().all(is_plain));
            // Escaping is idempotent.
            prop_assert_eq!(cut(&shown, columns), shown);
        }
    }
}

//! Names from guests and their owners, made fit for a terminal.

/// Longest name that is shown, characters.
const LONGEST: usize = 64;

/// The name without anything that could steer a terminal or break a line, cut to 64 characters.
pub fn safe(name: &str) -> String {
    match name.char_indices().nth(LONGEST) {
        Some((end, _)) => escaped(&name[..end]) + "…",
        None => escaped(name),
    }
}

/// The text without anything that could steer a terminal or break a line, whole.
pub fn escaped(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars() {
        if is_plain(c) { shown.push(c) } else { shown.extend(c.escape_default()) }
    }
    shown
}

/// Neither a control character nor one of Unicode's invisible ones that reorder or join text.
fn is_plain(c: char) -> bool {
    let invisible = matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}');
    !c.is_control() && !invisible
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escapes_are_defused() {
        assert_eq!(safe("win10"), "win10");
        assert_eq!(safe("\x1b[31mred\n"), "\\u{1b}[31mred\\n");
        assert_eq!(safe("a\u{202e}b"), "a\\u{202e}b");
    }

    proptest! {
        #[test]
        fn nothing_steers_and_nothing_is_endless(name in any::<String>()) {
            let shown = safe(&name);
            prop_assert!(!shown.chars().any(char::is_control));
            prop_assert!(shown.chars().count() <= LONGEST * 10 + 1);
        }
    }
}

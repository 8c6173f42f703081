//! Text as the value of a Prometheus label.

/// The value as it stands between the quotes of a label, in Prometheus's text format and in OpenMetrics
/// alike: backslash, quote and line feed escaped, all else as it is
/// (<https://prometheus.io/docs/instrumenting/exposition_formats/>).
pub fn label(value: &str) -> String {
    let mut label = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '\\' => label.push_str("\\\\"),
            '"' => label.push_str("\\\""),
            '\n' => label.push_str("\\n"),
            c => label.push(c),
        }
    }
    label
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::terminal::tests::nasty, *};

    #[test]
    fn three_characters_are_escaped() {
        assert_eq!(label("win10"), "win10");
        assert_eq!(label("a\\n\"b\"\n\tü"), "a\\\\n\\\"b\\\"\\n\tü");
    }

    /// A label as Prometheus reads it: up to the closing quote, which must be the last of the line.
    fn read(line: &str) -> Option<String> {
        let (mut value, mut chars) = (String::new(), line.strip_prefix('"')?.chars());
        loop {
            match chars.next()? {
                '"' => return chars.next().is_none().then_some(value),
                '\n' => return None,
                '\\' => value.push(match chars.next()? {
                    'n' => '\n',
                    c @ ('"' | '\\') => c,
                    _ => return None,
                }),
                c => value.push(c),
            }
        }
    }

    proptest! {
        #[test]
        fn a_label_ends_where_it_should_and_comes_back(value in nasty()) {
            prop_assert_eq!(read(&format!("\"{}\"", label(&value))), Some(value));
        }
    }
}

//! QEMU's options: `-option value,key=value,…`, where a comma within a value is written twice.

/// Whether this argument is the option of that name, with one dash or two.
pub(in crate::guest) fn is(argument: &str, option: &str) -> bool {
    argument.strip_prefix("--").or_else(|| argument.strip_prefix('-')) == Some(option)
}

/// The arguments of these options, in the order of the command line.
pub(in crate::guest) fn values<'a>(
    arguments: &'a [String],
    options: &'a [&str],
) -> impl Iterator<Item = &'a str> {
    arguments
        .windows(2)
        .filter(move |pair| options.iter().any(|option| is(&pair[0], option)))
        .map(|pair| pair[1].as_str())
}

/// What these arguments set `key` to: the last one counts, across several of an option too
/// (`merge_lists` in QEMU's util/qemu-option.c; `keyval_parse_into` in util/keyval.c). If `implied`,
/// a first value that comes without a key is this one's.
pub(in crate::guest) fn setting<'a>(
    values: impl Iterator<Item = &'a str>,
    key: &str,
    implied: bool,
) -> Option<String> {
    let of_one = |value: &str| {
        let keyless = !value.split(',').next().unwrap_or_default().contains('=');
        let explicit =
            |option: &String| Some(option.strip_prefix(key)?.strip_prefix('=')?.to_owned());
        let options = split(value);
        let last = options.iter().rev().find_map(explicit);
        last.or_else(|| options.into_iter().next().filter(|_| implied && keyless))
    };
    values.filter_map(of_one).last()
}

/// Splits at single commas; a doubled one stands for itself.
pub(super) fn split(text: &str) -> Vec<String> {
    let mut options = vec![String::new()];
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == ',' && chars.next_if_eq(&',').is_none() {
            options.push(String::new());
        } else if let Some(last) = options.last_mut() {
            last.push(c);
        }
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last(values: &[&str], implied: bool) -> Option<String> {
        setting(values.iter().copied(), "type", implied)
    }

    #[test]
    fn the_last_one_counts() {
        assert_eq!(last(&["pc", "accel=kvm"], true).as_deref(), Some("pc"));
        assert_eq!(last(&["pc", "type=q35", "usb=off"], true).as_deref(), Some("q35"));
        assert_eq!(last(&["type=q35,type=pc"], true).as_deref(), Some("pc"));
        assert_eq!(last(&["pc,type=q35"], true).as_deref(), Some("q35"));
        assert_eq!(last(&["pc"], false), None);
        assert_eq!(last(&[], true), None);
    }

    #[test]
    fn doubled_commas() {
        assert_eq!(last(&["type=a,,b,,,usb=off"], true).as_deref(), Some("a,b,"));
        assert_eq!(last(&["a,,b=c"], true).as_deref(), Some("a,b=c"));
        assert_eq!(split(",,,"), [",", ""]);
    }

    #[test]
    fn one_dash_or_two() {
        let arguments: Vec<String> =
            ["x", "-M", "a", "--machine", "b", "---M", "c", "M"].map(str::to_owned).into();
        assert_eq!(values(&arguments, &["M", "machine"]).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(values(&[], &["M"]).next(), None);
    }
}

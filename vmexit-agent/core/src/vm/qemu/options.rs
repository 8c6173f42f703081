//! QEMU's option syntax: `socket,id=mon,path=/run/a,,b.sock,server`, or the same as a JSON object.

use serde_json::Value;

/// Keys and values of one option, in order.
#[derive(Debug, Default)]
pub(super) struct QemuOptions {
    pairs: Vec<(String, String)>,
    /// Whether it was JSON, which has the defaults of QMP.
    pub(super) json: bool,
}

/// Whether an argument is the option of this name, with one dash or two.
pub(in crate::vm) fn is(argument: &str, option: &str) -> bool {
    argument.strip_prefix("--").or_else(|| argument.strip_prefix('-')) == Some(option)
}

/// Values of these options, in the order of the command line.
pub(in crate::vm) fn values<'a>(
    arguments: &'a [String],
    options: &'a [&str],
) -> impl Iterator<Item = &'a str> {
    arguments
        .windows(2)
        .filter(move |pair| options.iter().any(|option| is(&pair[0], option)))
        .map(|pair| pair[1].as_str())
}

/// Value of `key` in these option values. The last one applies, also across several options
/// (`merge_lists`, `util/qemu-option.c`; `keyval_parse_into`, `util/keyval.c`). If `implied`, a
/// first value without a key is that of `key`.
pub(in crate::vm) fn setting<'a>(
    values: impl Iterator<Item = &'a str>,
    key: &str,
    implied: bool,
) -> Option<String> {
    let implied = if implied { key } else { "" };
    let of_one = |value: &str| QemuOptions::parse(value, implied).get(key).map(str::to_owned);
    values.filter_map(of_one).last()
}

impl QemuOptions {
    /// Parses the value of an option. `implied` is the key of a first word without one.
    pub(super) fn parse(text: &str, implied: &str) -> Self {
        if text.starts_with('{') {
            let mut options = Self { json: true, ..Self::default() };
            // QEMU does not start with invalid JSON.
            if let Ok(value) = serde_json::from_str(text) {
                options.flatten("", &value);
            }
            return options;
        }
        Self { pairs: keyval(text, implied), json: false }
    }

    /// Value of a key; the last one applies, as in `qemu_opt_find` (`util/qemu-option.c`).
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.pairs.iter().rev().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    /// Value of a boolean key (`qapi_bool_parse`, `qapi/qapi-util.c`).
    pub(super) fn is_on(&self, key: &str, default: bool) -> bool {
        self.get(key).map_or(default, |value| matches!(value, "on" | "yes" | "true" | "y"))
    }

    /// Collects the leaves of nested objects under their own keys. An object's key is only used for
    /// its `type`: `"backend": {"type": "socket", "data": {…}}` means `"backend": "socket"`.
    fn flatten(&mut self, key: &str, value: &Value) {
        match value {
            Value::Object(object) => {
                for (inner, value) in object {
                    self.flatten(if inner == "type" { key } else { inner }, value);
                }
            }
            Value::String(text) => self.pairs.push((key.to_owned(), text.clone())),
            other => self.pairs.push((key.to_owned(), other.to_string())),
        }
    }
}

/// Splits at commas; a doubled comma in a value stands for one (`get_opt_name_value`,
/// `util/qemu-option.c`).
fn keyval(text: &str, implied: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(['=', ',']).unwrap_or(rest.len());
        let (key, after) = rest.split_at(end);
        if let Some(after) = after.strip_prefix('=') {
            let (value, left) = value(after);
            pairs.push((key.to_owned(), value));
            rest = left;
        } else if pairs.is_empty() {
            let (value, left) = value(rest);
            pairs.push((implied.to_owned(), value));
            rest = left;
        } else {
            // The old form of key=on and key=off.
            pairs.push(match key.strip_prefix("no") {
                Some(key) => (key.to_owned(), "off".to_owned()),
                None => (key.to_owned(), "on".to_owned()),
            });
            rest = after.strip_prefix(',').unwrap_or(after);
        }
    }
    pairs
}

/// A value up to the next single comma, and the rest.
fn value(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut rest = text;
    while let Some((head, tail)) = rest.split_once(',') {
        value.push_str(head);
        let Some(tail) = tail.strip_prefix(',') else {
            return (value, tail);
        };
        value.push(',');
        rest = tail;
    }
    value.push_str(rest);
    (value, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        QemuOptions::parse(text, "first").pairs
    }

    fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn option_keys_flags_and_doubled_commas_are_parsed() {
        assert_eq!(pairs("a"), owned(&[("first", "a")]));
        assert_eq!(pairs("a,,b=c"), owned(&[("first", "a,b=c")]));
        assert_eq!(pairs("k=,,,x=1"), owned(&[("k", ","), ("x", "1")]));
        let flags = [("first", "socket"), ("server", "on"), ("wait", "off"), ("x", "")];
        assert_eq!(pairs("socket,server,nowait,x="), owned(&flags));
        assert_eq!(pairs(""), []);
        assert_eq!(pairs(",x=1"), owned(&[("first", ""), ("x", "1")]));
    }

    #[test]
    fn option_boolean_takes_last_value() {
        let options = QemuOptions::parse("server=on,server=off", "backend");
        assert!(!options.is_on("server", true));
        assert!(options.is_on("wait", true) && !options.is_on("abstract", false));
    }

    #[test]
    fn json_option_flat_and_nested_is_parsed() {
        for text in [
            r#"{"id":"m","backend":"socket","path":"/run/a,b","server":true}"#,
            r#"{"id":"m","backend":{"type":"socket","data":{"addr":
                {"type":"unix","data":{"path":"/run/a,b"}},"server":true}}}"#,
        ] {
            let options = QemuOptions::parse(text, "backend");
            let found = ["id", "backend", "path", "server"].map(|key| options.get(key));
            assert_eq!(found, [Some("m"), Some("socket"), Some("/run/a,b"), Some("true")]);
            assert!(options.is_on("server", false) && options.json);
        }
    }

    #[test]
    fn option_values_match_one_or_two_dashes() {
        let line = ["qemu", "-qmp", "a", "--qmp", "b", "qmp", "c", "-qmp"].map(str::to_owned);
        assert_eq!(values(&line, &["qmp"]).collect::<Vec<_>>(), ["a", "b"]);
    }

    proptest! {
        #[test]
        fn written_option_value_is_read_back(value in "[a-z,=/]*", other in "[a-z]+") {
            let text = format!("path={},other={other}", value.replace(',', ",,"));
            let read = QemuOptions::parse(&text, "first");
            prop_assert_eq!(read.get("path"), Some(value.as_str()));
            prop_assert_eq!(read.get("other"), Some(other.as_str()));
        }

        #[test]
        fn arbitrary_option_text_does_not_panic(text in any::<String>()) {
            QemuOptions::parse(&text, "first");
            QemuOptions::parse(&format!("{{{text}"), "first");
        }
    }

    fn last(values: &[&str], implied: bool) -> Option<String> {
        setting(values.iter().copied(), "type", implied)
    }

    #[test]
    fn setting_takes_last_value() {
        assert_eq!(last(&["pc", "accel=kvm"], true).as_deref(), Some("pc"));
        assert_eq!(last(&["pc", "type=q35", "usb=off"], true).as_deref(), Some("q35"));
        assert_eq!(last(&["type=q35,type=pc"], true).as_deref(), Some("pc"));
        assert_eq!(last(&["pc,type=q35"], true).as_deref(), Some("q35"));
        assert_eq!(last(&["pc"], false), None);
        assert_eq!(last(&[], true), None);
    }

    #[test]
    fn setting_doubled_comma_stands_for_one() {
        assert_eq!(last(&["type=a,,b,,,usb=off"], true).as_deref(), Some("a,b,"));
        assert_eq!(last(&["a,,b=c"], true).as_deref(), Some("a,b=c"));
    }

    #[test]
    fn option_values_match_several_names() {
        let arguments: Vec<String> =
            ["x", "-M", "a", "--machine", "b", "---M", "c", "M"].map(str::to_owned).into();
        assert_eq!(values(&arguments, &["M", "machine"]).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(values(&[], &["M"]).next(), None);
    }
}

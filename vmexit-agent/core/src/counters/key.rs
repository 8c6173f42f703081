//! Text form of keys in files: `port 0x608 in 4`, `msr 0x6e0 write`, `reason 0x1e`, `other port`.
//! Numbers are hexadecimal; the last word of a port or an address is the size of the access in
//! bytes.

use serde::{Deserialize, Deserializer, Serializer, de};
use vmexit_common::key::{Key, Kind};

use crate::kind;

const OTHER: &str = "other";

pub(super) fn serialize<S: Serializer>(key: &Key, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_key(*key))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Key, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_key(&text).ok_or_else(|| de::Error::custom("unknown key of a row"))
}

fn format_key(key: Key) -> String {
    let kind = key.table().unwrap_or(Kind::Other);
    let name = kind::name(kind);
    if key.kind() == Some(Kind::Other) {
        return format!("{OTHER} {name}");
    }
    let mut text = format!("{name} {:#x}", key.value());
    let direction = kind::directions(kind).map(|both| both[usize::from(key.is_write())].name());
    let size = key.size().map(|size| size.to_string());
    for word in direction.into_iter().chain(size.as_deref()) {
        text.push(' ');
        text.push_str(word);
    }
    text
}

/// The key of a text; `None` for text that [`format_key`] does not produce.
fn parse_key(text: &str) -> Option<Key> {
    let mut words = text.split(' ');
    let first = words.next()?;
    let key = if first == OTHER {
        Key::plain(kind::from_name(words.next()?)?, 0).other()
    } else {
        let kind = kind::from_name(first)?;
        let value = u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?;
        let write = match kind::directions(kind) {
            Some(directions) => {
                let name = words.next()?;
                directions.iter().position(|direction| direction.name() == name)? as u64
            }
            None => 0,
        };
        let mut size = || words.next()?.parse().ok().filter(|&size: &u64| size < 16);
        match kind {
            // A larger number would spill into the other parts of the key.
            Kind::Pio => Key::pio(u16::try_from(value).ok()?.into(), write, size()?),
            Kind::Mmio => Key::mmio(value, write, size()?),
            Kind::Msr => Key::msr(u32::try_from(value).ok()?.into(), write),
            Kind::Reason => Key::reason(u32::try_from(value).ok()?),
            kind => Some(Key::plain(kind, value)).filter(|key| key.value() == value)?,
        }
    };
    (format_key(key) == text).then_some(key)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn key_text_parses_back_to_key() {
        for (key, text) in [
            (Key::reason(0x8000_0021), "reason 0x80000021"),
            (Key::pio(0x608, 0, 4), "port 0x608 in 4"),
            (Key::pio(0x70, 1, 1), "port 0x70 out 1"),
            (Key::mmio(0xfed0_00f0, 0, 8), "mmio 0xfed000f0 read 8"),
            (Key::plain(Kind::FastMmio, 0xfe00_3000), "doorbell 0xfe003000"),
            (Key::msr(0x6e0, 1), "msr 0x6e0 write"),
            (Key::plain(Kind::Cpuid, 0x4000_0000), "cpuid 0x40000000"),
            (Key::plain(Kind::Userspace, 2), "userspace 0x2"),
            (Key::pio(0x608, 0, 4).other(), "other port"),
            (Key::reason(7).other(), "other reason"),
        ] {
            assert_eq!(format_key(key), text);
            assert_eq!(parse_key(text), Some(key));
        }
    }

    #[test]
    fn malformed_key_text_is_rejected() {
        for text in [
            "",
            "port",
            "port 0x608",
            "port 0x10608 in 4",
            "port 0x608 in 16",
            "port 0x608 in 4 4",
            "port 0x608 read 4",
            "port 0x0608 in 4",
            "mmio 0xfed000f1 read 4",
            "mmio 0xffffffffffffffff read 4",
            "msr 0x100000000 read",
            "fault 0x80000000000000",
            "other other",
            "other",
            "reason -1",
            "unknown 0x1",
        ] {
            assert_eq!(parse_key(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_key_text_parses_to_same_text_or_none(text in "(reason|port|mmio|msr|other|fault) ?(0x[0-9a-f]{0,17}|port)? ?(in|read|write)? ?[0-9]{0,3}") {
            if let Some(key) = parse_key(&text) {
                prop_assert_eq!(format_key(key), text);
            }
        }
    }
}

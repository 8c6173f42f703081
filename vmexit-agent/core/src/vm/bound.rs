//! Bound of untrusted names: they come from command lines and go into every recording, metric and screen.

use std::borrow::Cow;

/// Longest name that is kept, bytes. libvirt's names are file names, so at most 255 bytes long.
pub const MAX_NAME: usize = 256;

/// Digits of the hash that ends a cut name.
const DIGITS: usize = 16;

/// Returns the name if it has at most [`MAX_NAME`] bytes. Of a longer one it returns the beginning, an ellipsis and a
/// hash of the whole, so that two names with the same beginning stay different.
pub fn bounded_name(name: &str) -> Cow<'_, str> {
    if name.len() <= MAX_NAME {
        return Cow::Borrowed(name);
    }
    let beginning = &name[..name.floor_char_boundary(MAX_NAME - '…'.len_utf8() - DIGITS)];
    Cow::Owned(format!("{beginning}…{:0DIGITS$x}", hash(name)))
}

/// Returns the 64-bit FNV-1a hash. It has to stay the same in all versions, as recordings of different versions are
/// compared by name. It need not resist collisions: who chooses a name may choose another VM's outright.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_of_256_bytes_is_kept() {
        let name = "ä".repeat(128);
        assert_eq!(bounded_name(&name), name);
        assert_eq!(bounded_name(""), "");
    }

    #[test]
    fn long_names_alike_in_beginning_stay_different() {
        let names = ["a", "b"].map(|end| "ä".repeat(1000) + end);
        let [a, b] = names.each_ref().map(|name| bounded_name(name).into_owned());
        assert_ne!(a, b);
        for short in [a, b] {
            assert!(short.len() <= MAX_NAME && short.starts_with("ää"), "{short}");
            assert_eq!(bounded_name(&short), short);
        }
    }

    #[test]
    fn hash_is_fnv_1a() {
        // Of the test vectors in the algorithm's reference code.
        assert_eq!(hash(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(hash("foobar"), 0x8594_4171_f739_67e8);
    }
}

//! Licences that the program's crates may have, and the notices that go with the program.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use spdx::Expression;

use super::crates::ShippedCrate;

/// Allowed licences: each crate must be usable under these alone. A further one is a decision, also of deny.toml.
const ALLOWED: [&str; 3] = ["MIT", "Apache-2.0", "Zlib"];

/// Starts of the names of files with licences and notices.
const NOTICES: [&str; 6] = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"];

/// Fails if a crate may not be shipped.
pub(super) fn check(crates: &[ShippedCrate]) -> Result<()> {
    let mut refused = Vec::new();
    for ShippedCrate { name, version, licence, .. } in crates {
        if !is_allowed(licence).with_context(|| format!("the licence of {name} {version}"))? {
            refused.push(format!("{name} {version} ({licence})"));
        }
    }
    ensure!(refused.is_empty(), "under licences that are not allowed: {}", refused.join(", "));
    Ok(())
}

/// Whether allowed licences satisfy the expression.
fn is_allowed(licence: &str) -> Result<bool> {
    let expression = Expression::parse(licence)?;
    Ok(expression.evaluate(|wanted| ALLOWED.contains(&wanted.to_string().as_str())))
}

/// Every licence text and notice of the crates, once, with the crates that have it.
pub(super) fn notices(crates: &[ShippedCrate]) -> Result<String> {
    // By their words: line ends and margins differ, and mean nothing.
    let mut texts: BTreeMap<String, (String, Vec<String>)> = BTreeMap::new();
    let mut all = String::from(
        "vmexit is one program with these crates in it. Their licences, and then each licence's text and \
         notices as the crates have them:\n\n",
    );
    for one in crates {
        let name = format!("{} {}", one.name, one.version);
        writeln!(all, "{name}: {}", one.licence)?;
        for text in texts_in(&one.directory)? {
            let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
            texts.entry(words).or_insert((text, Vec::new())).1.push(name.clone());
        }
    }
    for (text, names) in texts.values() {
        let names = textwrap::fill(&names.join(", "), 79);
        write!(all, "\n{}\n{names}\n\n{}\n", "=".repeat(79), text.trim_end())?;
    }
    Ok(all)
}

fn texts_in(directory: &Path) -> Result<Vec<String>> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))?;
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    files.retain(|file| {
        let name = file.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
        file.is_file() && NOTICES.iter().any(|notice| name.starts_with(notice))
    });
    files
        .iter()
        .map(|file| fs::read_to_string(file).with_context(|| format!("read {}", file.display())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_several_licences_is_enough_and_one_of_all_is_not() {
        for fine in
            ["MIT", "GPL-3.0-only OR Apache-2.0", "Unlicense OR MIT", "(MIT OR BSL-1.0) AND Zlib"]
        {
            assert!(is_allowed(fine).unwrap(), "{fine}");
        }
        for refused in ["GPL-2.0-only", "MIT AND LGPL-2.1-or-later", "MPL-2.0"] {
            assert!(!is_allowed(refused).unwrap(), "{refused}");
        }
        assert!(is_allowed("as you like").is_err());
    }
}

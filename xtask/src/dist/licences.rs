//! Licences of the crates in the program: the allowed ones, and their texts.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use spdx::Expression;

use super::crates::ShippedCrate;

/// Allowed licences: each crate must be usable under these alone. deny.toml has the list for all dependencies.
const ALLOWED: [&str; 3] = ["MIT", "Apache-2.0", "Zlib"];

/// Prefixes of the names of files with licences and notices.
const NOTICES: [&str; 6] = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"];

/// Checks that all crates have allowed licences.
///
/// # Errors
///
/// A crate has another licence, or one that is no SPDX expression.
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

/// Returns every licence text and notice once, with the names of the crates that have it.
///
/// # Errors
///
/// A crate's directory or file can't be read.
pub(super) fn notices(crates: &[ShippedCrate]) -> Result<String> {
    // Texts are equal if their words are: line ends and margins differ.
    let mut texts: BTreeMap<String, (String, Vec<String>)> = BTreeMap::new();
    let mut all = String::from(
        "The program vmexit contains these crates. The list of their licences comes first, then the text of each \
         licence and notice:\n\n",
    );
    for shipped in crates {
        let name = format!("{} {}", shipped.name, shipped.version);
        writeln!(all, "{name}: {}", shipped.licence)?;
        for text in notice_texts(&shipped.directory)? {
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

/// Returns the texts of the files with licences and notices in a directory, by file name.
fn notice_texts(directory: &Path) -> Result<Vec<String>> {
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
    fn is_allowed_needs_one_alternative_and_all_conjuncts() {
        for allowed in
            ["MIT", "GPL-3.0-only OR Apache-2.0", "Unlicense OR MIT", "(MIT OR BSL-1.0) AND Zlib"]
        {
            assert!(is_allowed(allowed).unwrap(), "{allowed}");
        }
        for refused in ["GPL-2.0-only", "MIT AND LGPL-2.1-or-later", "MPL-2.0"] {
            assert!(!is_allowed(refused).unwrap(), "{refused}");
        }
        assert!(is_allowed("as you like").is_err());
    }
}

//! CHANGELOG.md's section of this version as Debian wants it (deb-changelog(5)).

use std::{fs, process::Command};

use anyhow::{Context as _, Result};
use textwrap::Options;

use super::{commit_time, version};
use xtask::tool::{root, stdout};

pub(super) fn debian() -> Result<String> {
    let text = fs::read_to_string(root().join("CHANGELOG.md")).context("read CHANGELOG.md")?;
    let control = fs::read_to_string(root().join("packaging/debian/control"))?;
    let maintainer = control.lines().find_map(|line| line.strip_prefix("Maintainer: "));
    let maintainer = maintainer.context("packaging/debian/control names no maintainer")?;
    let time = format!("--date=@{}", commit_time()?);
    let date = stdout(Command::new("date").args(["--utc", "--rfc-email", &time]));
    let date = date.context("date does not know the commit's time")?;
    let version = version();
    let changes = changes(&text);
    Ok(format!(
        "vmexit ({version}) unstable; urgency=medium\n\n{changes}\n -- {maintainer}  {date}"
    ))
}

/// The first section's entries, wrapped.
fn changes(text: &str) -> String {
    let section = text.split("\n## ").nth(1).unwrap_or_default();
    let entries = section.split("\n- ").skip(1);
    let wrap = |entry: &str| {
        let words = entry.split_whitespace().collect::<Vec<_>>().join(" ");
        let margins = Options::new(79).initial_indent("  * ").subsequent_indent("    ");
        textwrap::fill(&words, margins) + "\n"
    };
    entries.map(wrap).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_section_alone() {
        let text = "# Changelog\n\n## 2\n\n- a\n  b\n- c\n\n## 1\n\n- d\n";
        assert_eq!(changes(text), "  * a b\n  * c\n");
    }
}

//! CHANGELOG.md, in the form of Keep a Changelog 1.1.0 (<https://keepachangelog.com>), and the Debian changelog made
//! of its newest section (deb-changelog(5)).

use std::{fs, process::Command};

use anyhow::{Context as _, Result, ensure};
use textwrap::Options;

use super::{commit_time, version};
use xtask::tool::{root, stdout};

/// Name of the section with changes since the last release.
const UNRELEASED: &str = "Unreleased";

/// ChangelogSection of one version: `## [VERSION] - DATE`, or `## [Unreleased]`.
#[derive(Debug, Default, PartialEq, Eq)]
struct ChangelogSection {
    /// Version, or `Unreleased`.
    name: String,
    /// Day of the release, `YYYY-MM-DD`; empty for `Unreleased`.
    date: String,
    /// Lines between this heading and the next.
    lines: Vec<String>,
}

impl ChangelogSection {
    /// Returns the entries, each on one line.
    fn entries(&self) -> Vec<String> {
        let mut entries: Vec<String> = Vec::new();
        let mut is_entry = false;
        for line in &self.lines {
            if let Some(entry) = line.strip_prefix("- ") {
                entries.push(entry.trim().to_owned());
                is_entry = true;
            } else if let (true, Some(entry)) = (line.starts_with("  "), entries.last_mut()) {
                if is_entry {
                    entry.push(' ');
                    entry.push_str(line.trim());
                }
            } else {
                // A heading such as `### Added`, or an empty line.
                is_entry = false;
            }
        }
        entries
    }

    /// Returns the text of the section, without its heading.
    fn text(&self) -> String {
        self.lines.join("\n").trim().to_owned() + "\n"
    }
}

/// Returns the sections of a changelog, newest first.
///
/// # Errors
///
/// A heading has another form.
fn parse(text: &str) -> Result<Vec<ChangelogSection>> {
    let mut sections: Vec<ChangelogSection> = Vec::new();
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            let section = parse_heading(heading)
                .with_context(|| format!("CHANGELOG.md: '{line}' is not '## [VERSION] - DATE'"))?;
            sections.push(section);
        } else if is_link_reference(line) {
            // The list of link references ends the file.
            break;
        } else if let Some(section) = sections.last_mut() {
            section.lines.push(line.to_owned());
        }
    }
    Ok(sections)
}

/// Returns the section of a heading, without lines.
fn parse_heading(heading: &str) -> Option<ChangelogSection> {
    let (name, rest) = heading.strip_prefix('[')?.split_once(']')?;
    let date = match rest {
        "" if name == UNRELEASED => "",
        _ => rest.strip_prefix(" - ").filter(|date| is_date(date))?,
    };
    Some(ChangelogSection { name: name.to_owned(), date: date.to_owned(), lines: Vec::new() })
}

/// Whether this is a day in the form `2026-12-01`.
fn is_date(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let digits = |part: &&str| part.bytes().all(|byte| byte.is_ascii_digit());
    parts.iter().map(|part| part.len()).eq([4, 2, 2]) && parts.iter().all(digits)
}

/// Whether a line is a link reference, `[NAME]: URL`.
fn is_link_reference(line: &str) -> bool {
    line.starts_with('[') && line.contains("]: ")
}

/// Returns this version's section; that of unreleased changes if the version has none.
fn current<'a>(sections: &'a [ChangelogSection], version: &str) -> Result<&'a ChangelogSection> {
    let find = |name: &str| sections.iter().find(|section| section.name == name);
    find(version)
        .or_else(|| find(UNRELEASED))
        .with_context(|| format!("CHANGELOG.md has no section [{version}] or [{UNRELEASED}]"))
}

fn read() -> Result<Vec<ChangelogSection>> {
    parse(&fs::read_to_string(root().join("CHANGELOG.md")).context("read CHANGELOG.md")?)
}

/// Returns the notes of the release with this tag: its section of the changelog.
///
/// # Errors
///
/// The tag is not `v` and the workspace's version, or the changelog has no section of this version.
pub(super) fn release_notes(tag: &str) -> Result<String> {
    notes(&read()?, version(), tag)
}

fn notes(sections: &[ChangelogSection], version: &str, tag: &str) -> Result<String> {
    ensure!(
        tag.strip_prefix('v') == Some(version),
        "the tag {tag} is not v{version}, the version in Cargo.toml"
    );
    let section = sections.iter().find(|section| section.name == version);
    let section = section
        .with_context(|| format!("CHANGELOG.md has no section '## [{version}] - YYYY-MM-DD'"))?;
    ensure!(!section.entries().is_empty(), "CHANGELOG.md has no entries for {version}");
    Ok(section.text())
}

/// Returns the Debian changelog with this version's entries.
///
/// # Errors
///
/// CHANGELOG.md or the control file has another form, or the time of the sources is unknown.
pub(super) fn debian() -> Result<String> {
    let control = fs::read_to_string(root().join("packaging/debian/control"))?;
    let maintainer = control.lines().find_map(|line| line.strip_prefix("Maintainer: "));
    let maintainer = maintainer.context("packaging/debian/control names no maintainer")?;
    let time = format!("--date=@{}", commit_time()?);
    let date = stdout(Command::new("date").args(["--utc", "--rfc-email", &time]));
    let date = date.context("date failed for the time of the last commit")?;
    let version = version();
    let entries = debian_entries(current(&read()?, version)?);
    Ok(format!(
        "vmexit ({version}) unstable; urgency=medium\n\n{entries}\n -- {maintainer}  {date}"
    ))
}

/// Returns a section's entries, wrapped and indented for Debian.
fn debian_entries(section: &ChangelogSection) -> String {
    let wrap = |entry: &String| {
        let margins = Options::new(79).initial_indent("  * ").subsequent_indent("    ");
        textwrap::fill(entry, margins) + "\n"
    };
    section.entries().iter().map(wrap).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# Changelog

Each release has a section.

## [Unreleased]

- later

## [0.2.0] - 2026-12-01

### Added

- a
  b
- c

### Fixed

- d [page](docs/d.md)

## [0.1.0] - 2026-11-01

- e

[Unreleased]: https://example.org/compare/v0.2.0...HEAD
[0.2.0]: https://example.org/releases/v0.2.0
";

    #[test]
    fn parse_returns_sections_with_versions_and_dates() {
        let sections = parse(TEXT).unwrap();
        let headings: Vec<_> =
            sections.iter().map(|section| (section.name.as_str(), section.date.as_str())).collect();
        assert_eq!(
            headings,
            [("Unreleased", ""), ("0.2.0", "2026-12-01"), ("0.1.0", "2026-11-01")]
        );
        assert_eq!(sections[1].entries(), ["a b", "c", "d [page](docs/d.md)"]);
        assert_eq!(sections[2].entries(), ["e"]);
    }

    #[test]
    fn parse_rejects_headings_of_other_forms() {
        for heading in ["## 0.2.0", "## [0.2.0]", "## [0.2.0] - today", "## [0.2.0] - 2026-12"] {
            assert!(parse(&format!("{heading}\n")).is_err(), "{heading}");
        }
    }

    #[test]
    fn debian_entries_are_of_this_version_else_unreleased() {
        let sections = parse(TEXT).unwrap();
        let entries = |version| debian_entries(current(&sections, version).unwrap());
        assert_eq!(entries("0.2.0"), "  * a b\n  * c\n  * d [page](docs/d.md)\n");
        assert_eq!(entries("0.3.0"), "  * later\n");
        assert!(current(&sections[1..], "0.3.0").is_err());
    }

    #[test]
    fn notes_need_tag_of_version_and_its_section() {
        let sections = parse(TEXT).unwrap();
        let text = notes(&sections, "0.2.0", "v0.2.0").unwrap();
        assert!(text.starts_with("### Added\n\n- a\n  b\n") && text.ends_with("docs/d.md)\n"));
        for (version, tag) in [("0.2.0", "v0.1.0"), ("0.2.0", "0.2.0"), ("0.3.0", "v0.3.0")] {
            assert!(notes(&sections, version, tag).is_err(), "{version} {tag}");
        }
    }

    #[test]
    fn changelog_of_project_has_entries_for_this_version() {
        let sections = read().unwrap();
        assert!(!current(&sections, version()).unwrap().entries().is_empty());
    }
}

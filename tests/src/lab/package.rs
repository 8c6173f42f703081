//! A package of exactly one version, unpacked and not installed: from the machine's own suite, its
//! backports, or a newer suite of the same archive.

use std::path::Path;

use super::apt::{AptArchive, Suite};
use super::cache::Workplace;
use super::error::LabError;

/// Downloads the newest `package` whose version begins with `version` and unpacks it into `into`.
/// `cache` keeps the package lists.
pub fn unpack_package(
    cache: &Path,
    package: &str,
    version: &str,
    into: &Path,
) -> Result<(), LabError> {
    let _alone = Workplace::enter(cache)?;
    let mut searched = Vec::new();
    for suite in AptArchive::of_this_machine()?.suites(cache) {
        searched.push(suite.name.clone());
        // A suite may be gone, or its key unknown here: that only narrows the choice.
        if let Ok(Some(exact)) = find(&suite, package, version) {
            return suite.unpack(&[format!("{package}={exact}")], into);
        }
    }
    Err(LabError::NoPackage {
        wanted: format!("{package} {version}"),
        searched: searched.join(", "),
    })
}

fn find(suite: &Suite, package: &str, version: &str) -> Result<Option<String>, LabError> {
    suite.update()?;
    let versions = suite.versions(package)?;
    Ok(versions.into_iter().find(|candidate| candidate.starts_with(version)))
}

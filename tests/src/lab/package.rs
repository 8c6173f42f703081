//! Unpacking of a package without its installation, from the host's suite, its backports, or a newer suite of the
//! same archive.

use std::path::Path;

use super::{
    apt::{AptArchive, Suite},
    cache::Workplace,
    error::LabError,
};

/// Downloads the newest `package` whose version begins with `version`, and unpacks it into `into`. The package lists
/// are kept in `cache`.
///
/// # Errors
///
/// When no suite has such a version, or it can't be downloaded.
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
        // A suite that is gone or has an unknown key is left out.
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

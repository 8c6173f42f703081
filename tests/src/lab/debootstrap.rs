//! A Debian of the host's suite in a directory. It is made once and must not be changed.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    apt::AptArchive,
    cache::Workplace,
    error::{LabError, output},
    host::tool,
};

/// Packages besides the essential ones: systemd, so that the Debian can be booted.
const INCLUDE: &str = "systemd-sysv";

/// Path of the directory, which is made on first use. That needs root.
///
/// # Errors
///
/// When debootstrap is missing or fails.
pub fn debian(cache: &Path) -> Result<PathBuf, LabError> {
    let place = cache.join("debian");
    if place.is_dir() {
        return Ok(place);
    }
    let work = Workplace::enter(cache)?;
    if place.is_dir() {
        return Ok(place);
    }
    let archive = AptArchive::of_this_machine()?;
    let (suite, mirror) =
        archive.mirror().ok_or_else(|| LabError::Sources("an entry has no URI".to_owned()))?;
    let made = work.path("debian");
    // In a mount namespace, so that its mounts end with it.
    let mut debootstrap = Command::new(tool("unshare", "util-linux")?);
    debootstrap.arg("--mount").arg(tool("debootstrap", "debootstrap")?);
    debootstrap.args(["--variant=minbase", &format!("--include={INCLUDE}"), suite]);
    output(debootstrap.arg(&made).arg(mirror))?;
    work.finish(&made, &place)?;
    Ok(place)
}

//! A Debian in a directory, of the machine's own suite. It is made once, and must be left as it is.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::apt::AptArchive;
use super::cache::Workplace;
use super::error::{LabError, output};
use super::host::tool;

/// What it has besides the essential packages: systemd, to be booted.
const INCLUDE: &str = "systemd-sysv";

/// The directory; downloaded the first time, as root.
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
    // In a namespace, so that what it mounts is gone when it is, however it ends.
    let mut debootstrap = Command::new(tool("unshare", "util-linux")?);
    debootstrap.arg("--mount").arg(tool("debootstrap", "debootstrap")?);
    debootstrap.args(["--variant=minbase", &format!("--include={INCLUDE}"), suite]);
    output(debootstrap.arg(&made).arg(mirror))?;
    work.finish(&made, &place)?;
    Ok(place)
}

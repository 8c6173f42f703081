//! Stock Debian cloud kernels, unpacked, with their KVM modules. A kernel comes from the cache, or from the Debian
//! archive if the cache has none of the version.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    apt::{AptArchive, Suite},
    cache::Workplace,
    error::{DuringIo, LabError},
    unpack::kernel,
};

/// Modules that a lab loads; of the last two, the one for its vendor.
pub(super) const MODULES: [&str; 4] = ["irqbypass", "kvm", "kvm-amd", "kvm-intel"];

/// Meta package of a suite's default kernel.
const DEFAULT: &str = "linux-image-cloud-amd64";

/// An unpacked kernel.
#[derive(Clone, Debug)]
pub struct LabKernel {
    /// Release, as of `uname -r`, such as `6.1.0-56-cloud-amd64`.
    pub release: String,
    /// Path of the image.
    pub vmlinuz: PathBuf,
    /// Paths of `irqbypass.ko`, `kvm.ko`, `kvm-amd.ko` and `kvm-intel.ko`, uncompressed.
    pub modules: Vec<PathBuf>,
    /// Directory of the cache.
    pub(super) cache: PathBuf,
}

impl LabKernel {
    /// Finds a kernel in `cache`, or downloads it.
    ///
    /// Without a version, this is the default kernel of the host's Debian suite. With a version ("6.12", "7"), it is
    /// the newest kernel whose release starts with it: one in the cache, or else one in the host's suite, its
    /// backports, or newer suites. Delete the directory `kernels` in the cache to search for newer ones.
    ///
    /// # Errors
    ///
    /// When no suite has such a kernel, or it can't be downloaded.
    pub fn find(cache: &Path, version: Option<&str>) -> Result<Self, LabError> {
        let kernels = cache.join("kernels");
        fs::create_dir_all(&kernels).during(|| format!("create {}", kernels.display()))?;
        if let Some(release) = cached(&kernels, version)? {
            return Self::at(cache, release);
        }
        let work = Workplace::enter(cache)?;
        // Another process may have downloaded the kernel in the meantime.
        if let Some(release) = cached(&kernels, version)? {
            return Self::at(cache, release);
        }
        let archive = AptArchive::of_this_machine()?;
        let (suite, release) = match version {
            None => default_release(archive.own(cache))?,
            Some(version) => newest_release(&archive, cache, version)?,
        };
        let place = kernels.join(&release);
        if !place.is_dir() {
            work.finish(&kernel(&suite, &release, &work)?, &place)?;
        }
        if version.is_none() {
            let note = kernels.join("default");
            fs::write(&note, &release).during(|| format!("write {}", note.display()))?;
        }
        Self::at(cache, release)
    }

    fn at(cache: &Path, release: String) -> Result<Self, LabError> {
        let dir = cache.join("kernels").join(&release);
        let modules = MODULES.map(|name| dir.join(format!("{name}.ko"))).to_vec();
        Ok(Self { vmlinuz: dir.join("vmlinuz"), modules, release, cache: cache.to_owned() })
    }
}

fn cached(kernels: &Path, version: Option<&str>) -> Result<Option<String>, LabError> {
    let Some(version) = version else {
        let default = fs::read_to_string(kernels.join("default")).ok();
        return Ok(default.filter(|release| kernels.join(release).is_dir()));
    };
    let entries = fs::read_dir(kernels).during(|| format!("list {}", kernels.display()))?;
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    Ok(names.filter(|name| is_version(name, version)).max_by_key(|name| version_key(name)))
}

/// Whether a release has this version: "6.12" and "6" match 6.12.95, "6.1" does not.
fn is_version(release: &str, version: &str) -> bool {
    let rest = release.strip_prefix(version);
    rest.is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_digit()))
}

/// Sort key of releases by their numbers: 6.12.107 is after 6.12.95.
pub(super) fn version_key(release: &str) -> Vec<u64> {
    let numbers = release.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
    numbers.map(|digits| digits.parse().unwrap_or(u64::MAX)).collect()
}

/// Release in the name of a kernel package; none for meta, debug and unsigned packages and release candidates.
fn release_of(package: &str) -> Option<&str> {
    let release = package.strip_prefix("linux-image-")?;
    let numbered = release.starts_with(|first: char| first.is_ascii_digit());
    (numbered && release.ends_with("-cloud-amd64") && !release.contains("rc")).then_some(release)
}

fn default_release(suite: Suite) -> Result<(Suite, String), LabError> {
    suite.update()?;
    let depends = suite.depends(DEFAULT)?;
    let release = depends.iter().find_map(|package| release_of(package)).map(str::to_owned);
    release.map(|release| (suite, release)).ok_or_else(|| LabError::NoKernel {
        wanted: DEFAULT.to_owned(),
        searched: "the machine's own suite".to_owned(),
    })
}

fn newest_release(
    archive: &AptArchive,
    cache: &Path,
    version: &str,
) -> Result<(Suite, String), LabError> {
    let mut searched = Vec::new();
    let mut best: Option<(Suite, String)> = None;
    for suite in archive.suites(cache) {
        // A suite that is gone or has an unknown key is left out.
        match suite.update().and_then(|()| suite.names("linux-image-")) {
            Ok(packages) => {
                searched.push(suite.name.clone());
                let releases = packages.iter().filter_map(|package| release_of(package));
                let newest = releases
                    .filter(|release| is_version(release, version))
                    .max_by_key(|release| version_key(release));
                let known = best.as_ref().map(|(_, release)| version_key(release));
                if let Some(newest) = newest
                    && known.is_none_or(|known| version_key(newest) > known)
                {
                    best = Some((suite, newest.to_owned()));
                }
            }
            Err(error) => searched.push(format!("{} (not readable: {error})", suite.name)),
        }
    }
    best.ok_or_else(|| LabError::NoKernel {
        wanted: version.to_owned(),
        searched: searched.join(", "),
    })
}

/// Marker at the end of a signed module. The signature and its description come before it; the last field of the
/// description is the size of the signature (`struct module_signature` in the kernel's
/// `include/linux/module_signature.h`).
const SIGNED: &[u8] = b"~Module signature appended~\n";
const SIGNATURE_DESCRIPTION: usize = 12;

/// A module without its signature. A stock kernel accepts it, and does not spend time on the check.
pub(super) fn unsigned(module: &[u8]) -> &[u8] {
    let bare = || {
        let (signature, size) = module.strip_suffix(SIGNED)?.split_last_chunk()?;
        let rest = signature.len().checked_sub(SIGNATURE_DESCRIPTION - size.len())?;
        module.get(..rest.checked_sub(u32::from_be_bytes(*size) as usize)?)
    };
    bare().unwrap_or(module)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_version_prefix_ends_at_a_number() {
        assert!(is_version("6.12.95+deb13-cloud-amd64", "6.12"));
        assert!(is_version("6.12.95+deb13-cloud-amd64", "6"));
        assert!(is_version("6.1.0-56-cloud-amd64", "6.1.0-56-cloud-amd64"));
        assert!(!is_version("6.12.95+deb13-cloud-amd64", "6.1"));
    }

    #[test]
    fn kernel_releases_sort_by_number() {
        assert!(version_key("6.12.107+deb13") > version_key("6.12.95+deb13"));
        assert!(version_key("7.3.4+deb13") > version_key("7.2.13+deb14"));
        assert!(version_key("6.12.90+deb12.1") > version_key("6.12.90+deb12"));
    }

    #[test]
    fn kernel_search_keeps_only_released_cloud_kernels() {
        let release = "6.1.0-56-cloud-amd64";
        assert_eq!(release_of(&format!("linux-image-{release}")), Some(release));
        for other in
            ["cloud-amd64", "6.1.0-56-amd64", "6.1.0-56-cloud-amd64-dbg", "7.4-rc2-cloud-amd64"]
        {
            assert_eq!(release_of(&format!("linux-image-{other}")), None, "{other}");
        }
    }

    #[test]
    fn kernel_module_signatures_are_stripped() {
        let mut module = b"code and data".to_vec();
        module.extend(b"SIGNATURE");
        module.extend([0, 0, 2, 0, 0, 0, 0, 0]);
        module.extend(9_u32.to_be_bytes());
        module.extend(SIGNED);
        assert_eq!(unsigned(&module), b"code and data");
        assert_eq!(unsigned(b"code and data"), b"code and data");
        assert_eq!(unsigned(SIGNED), SIGNED);
    }

    #[test]
    fn kernel_in_cache_needs_no_network() {
        let dir = tempfile::tempdir().unwrap();
        let kernels = dir.path().join("kernels");
        for release in ["6.12.95+deb13-cloud-amd64", "6.12.107+deb13-cloud-amd64"] {
            fs::create_dir_all(kernels.join(release)).unwrap();
        }
        fs::write(kernels.join("default"), "6.12.95+deb13-cloud-amd64").unwrap();
        let newest = LabKernel::find(dir.path(), Some("6.12")).unwrap();
        assert_eq!(newest.release, "6.12.107+deb13-cloud-amd64");
        let default = LabKernel::find(dir.path(), None).unwrap();
        assert!(default.vmlinuz.ends_with("kernels/6.12.95+deb13-cloud-amd64/vmlinuz"));
    }
}

//! Stock Debian cloud kernels: a version comes in, an unpacked kernel with its KVM modules comes out,
//! from the cache if it is there and from the Debian archive otherwise. A kernel appears in the cache
//! whole or not at all, so later runs need no network.

use std::fs;
use std::path::{Path, PathBuf};

use super::apt::{AptArchive, Suite};
use super::cache::Workplace;
use super::error::{DuringIo, LabError};
use super::unpack::kernel;

/// The modules that a lab loads: these, and the vendor's.
pub(super) const MODULES: [&str; 4] = ["irqbypass", "kvm", "kvm-amd", "kvm-intel"];

/// The meta package that stands for a suite's own kernel.
const DEFAULT: &str = "linux-image-cloud-amd64";

/// An unpacked kernel.
#[derive(Clone, Debug)]
pub struct LabKernel {
    /// What `uname -r` says in it, such as `6.1.0-56-cloud-amd64`.
    pub release: String,
    /// Its image.
    pub vmlinuz: PathBuf,
    /// `irqbypass.ko`, `kvm.ko`, `kvm-amd.ko` and `kvm-intel.ko`, uncompressed.
    pub modules: Vec<PathBuf>,
    /// The cache that it lies in.
    pub(super) cache: PathBuf,
}

impl LabKernel {
    /// Finds a kernel in `cache`, or downloads it.
    ///
    /// Without a version this is the kernel of the machine's own Debian suite. With one ("6.12", "7")
    /// it is the newest whose release starts with it: in the cache if one is there, else in the
    /// machine's suite, its backports, and newer suites. To look for newer ones again, delete the
    /// directory `kernels` in the cache.
    pub fn find(cache: &Path, version: Option<&str>) -> Result<Self, LabError> {
        let kernels = cache.join("kernels");
        fs::create_dir_all(&kernels).during(|| format!("create {}", kernels.display()))?;
        if let Some(release) = cached(&kernels, version)? {
            return Self::at(cache, release);
        }
        let work = Workplace::enter(cache)?;
        // Another process may have downloaded it while this one waited.
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

/// "6.12" and "6" fit 6.12.95, "6.1" does not.
fn is_version(release: &str, version: &str) -> bool {
    let rest = release.strip_prefix(version);
    rest.is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_digit()))
}

/// Orders releases by their numbers: 6.12.107 after 6.12.95.
pub(super) fn version_key(release: &str) -> Vec<u64> {
    let numbers = release.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
    numbers.map(|digits| digits.parse().unwrap_or(u64::MAX)).collect()
}

/// The release in a package name, unless it is a meta, debug or unsigned package or a candidate.
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
        // A suite may be gone, or its key unknown here: that only narrows the choice.
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

/// What follows a module's signature and its description, the last of which is the signature's size
/// (`struct module_signature` in the kernel's `include/linux/module_signature.h`).
const SIGNED: &[u8] = b"~Module signature appended~\n";
const SIGNATURE_DESCRIPTION: usize = 12;

/// A module without its signature: a stock kernel takes it, and is spared the check.
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

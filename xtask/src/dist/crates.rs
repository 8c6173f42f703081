//! Crates whose code is in the program or in its eBPF programs. Crates that only build it are left out.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde_json::Value;
use spdx::Expression;

use super::TARGET;
use xtask::tool::{cargo, root, stdout};

/// Packages of this workspace whose dependencies are in the program.
const PACKAGES: [&str; 2] = ["vmexit-agent", "vmexit-ebpf"];

/// A crate from a registry.
pub(super) struct ShippedCrate {
    /// Name in the registry.
    pub(super) name: String,
    /// Version in Cargo.lock.
    pub(super) version: String,
    /// Licence as an SPDX expression.
    pub(super) licence: String,
    /// URL of its repository, if the crate has one.
    pub(super) repository: Option<String>,
    /// SHA-256 of its archive in the registry.
    pub(super) sha256: Option<String>,
    /// Directory of its sources.
    pub(super) directory: PathBuf,
}

/// Name and version of a crate.
type CrateId = (String, String);

/// Returns all crates in the program, by name and version.
///
/// # Errors
///
/// cargo fails, or a crate has no licence.
pub(super) fn shipped() -> Result<Vec<ShippedCrate>> {
    let mut ids = BTreeSet::new();
    for package in PACKAGES {
        let mut tree = cargo();
        tree.args(["tree", "--package", package, "--target", TARGET, "--prefix", "none"]);
        tree.args(["--edges", "normal,no-proc-macro", "--format", "{p}"]);
        let tree = stdout(&mut tree).with_context(|| format!("cargo tree of {package}"))?;
        ids.extend(tree.lines().filter_map(parse_crate_id));
    }
    let mut metadata = cargo();
    metadata.args(["metadata", "--format-version", "1", "--filter-platform", TARGET]);
    let metadata = stdout(&mut metadata).context("cargo metadata")?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let checksums = checksums()?;
    let packages = metadata["packages"].as_array().context("cargo metadata has no packages")?;
    // Packages of this workspace have no source.
    let others = packages.iter().filter(|package| package["source"].is_string());
    let crates =
        others.map(|package| shipped_crate(package, &checksums)).collect::<Result<Vec<_>>>()?;
    let is_in =
        |shipped: &ShippedCrate| ids.contains(&(shipped.name.clone(), shipped.version.clone()));
    Ok(crates.into_iter().filter(is_in).collect())
}

/// Returns the crate of a line of `cargo tree`: `name v1.2.3 …`.
fn parse_crate_id(line: &str) -> Option<CrateId> {
    let mut words = line.split_whitespace();
    Some((words.next()?.to_owned(), words.next()?.strip_prefix('v')?.to_owned()))
}

/// Returns the crate of a package in cargo's metadata.
fn shipped_crate(package: &Value, checksums: &BTreeMap<CrateId, String>) -> Result<ShippedCrate> {
    let field = |name: &str| package[name].as_str().map(str::to_owned);
    let name = field("name").context("a crate without a name")?;
    let version = field("version").with_context(|| format!("{name} without a version"))?;
    let manifest = field("manifest_path").with_context(|| format!("{name} without sources"))?;
    let directory = Path::new(&manifest).parent().context("a manifest is in a directory")?;
    let licence = field("license").with_context(|| format!("{name} {version} has no licence"))?;
    // Old crates write `/` for `OR`.
    let licence = Expression::canonicalize(&licence)?.unwrap_or(licence);
    Ok(ShippedCrate {
        licence,
        repository: field("repository"),
        sha256: checksums.get(&(name.clone(), version.clone())).cloned(),
        directory: directory.to_owned(),
        name,
        version,
    })
}

/// Returns the checksums in Cargo.lock.
fn checksums() -> Result<BTreeMap<CrateId, String>> {
    let lock: toml::Table = toml::from_str(&fs::read_to_string(root().join("Cargo.lock"))?)?;
    let packages = lock["package"].as_array().context("Cargo.lock has no packages")?;
    let checksum = |package: &toml::Value| {
        let field = |name| Some(package.get(name)?.as_str()?.to_owned());
        Some(((field("name")?, field("version")?), field("checksum")?))
    };
    Ok(packages.iter().filter_map(checksum).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipped_lists_linked_crates_and_no_build_tools() {
        let crates = shipped().unwrap();
        let has = |name: &str| crates.iter().any(|shipped| shipped.name == name);
        assert!(has("aya") && has("aya-ebpf") && has("clap_builder"));
        assert!(!has("aya-build") && !has("syn") && !has("proptest") && !has("vmexit-common"));
        assert!(crates.iter().all(|shipped| shipped.sha256.is_some()));
    }
}

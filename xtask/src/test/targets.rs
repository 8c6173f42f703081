//! Test targets of the workspace: cargo's targets that run on the host, with the names of their tests. The names
//! are read from the sources, so no target is built to find a test.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use xtask::{
    setup::Need,
    suite::{self, Tier},
    tool::{FOR_BPF, cargo, root, stdout},
};

use super::sources::{SourceFile, source_files};

/// Package with the functions by which build scripts build eBPF programs.
const EBPF_BUILDER: &str = "vmexit-build";

/// Argument by which cargo selects the doctests of a package.
const DOC: &str = "--doc";

/// Library, program or test program with its tests, or the doctests of a library.
#[derive(Clone, Debug)]
pub(super) struct TestTarget {
    /// Package of the target.
    pub(super) package: String,
    /// Arguments by which cargo selects it, such as `--test views`.
    pub(super) selection: Vec<String>,
    /// Tier of its tests.
    pub(super) tier: Tier,
    /// Programs that its tests start.
    pub(super) needs: &'static [Need],
    /// Whether its build builds eBPF programs.
    pub(super) builds_ebpf: bool,
    /// Paths of its tests, such as `host::btf::tests::hostile`; of doctests, the paths of their files from the
    /// workspace's root, with which rustdoc begins their names.
    pub(super) tests: Vec<String>,
}

impl TestTarget {
    /// Whether a test's path has this part.
    pub(super) fn has_test(&self, name: &str) -> bool {
        let is_doc = self.is_doc();
        // rustdoc's names go on with the item and the line.
        self.tests.iter().any(|test| test.contains(name) || is_doc && name.starts_with(test))
    }

    /// Whether these are doctests, which cargo selects with no other target.
    pub(super) fn is_doc(&self) -> bool {
        self.selection == [DOC]
    }
}

/// Returns all test targets of the workspace, except those for BPF.
///
/// # Errors
///
/// cargo or a source file can't be read, or a program of `tests/tests` is not in the table of test programs.
pub(super) fn test_targets() -> Result<Vec<TestTarget>> {
    let metadata = workspace_metadata()?;
    let packages = metadata["packages"].as_array().context("cargo metadata has no packages")?;
    let mut targets = Vec::new();
    for package in packages {
        let name = package["name"].as_str().context("a package has no name")?;
        if FOR_BPF.contains(&name) {
            continue;
        }
        let builds_ebpf = builds_ebpf(packages, name, true);
        for target in package["targets"].as_array().context("a package has no targets")? {
            targets.extend(package_targets(name, target, builds_ebpf)?);
        }
    }
    Ok(targets)
}

fn workspace_metadata() -> Result<Value> {
    let mut metadata = cargo();
    metadata.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]);
    let metadata = stdout(&mut metadata).context("cargo metadata failed")?;
    serde_json::from_str(&metadata).context("cargo metadata")
}

/// Whether a package, or one that it depends on, has a build script that builds eBPF programs. Only the tested
/// package's own dev-dependencies are built.
fn builds_ebpf(packages: &[Value], name: &str, is_tested: bool) -> bool {
    let Some(package) = packages.iter().find(|package| package["name"] == name) else {
        return false;
    };
    let mut dependencies = package["dependencies"].as_array().into_iter().flatten();
    dependencies.any(|dependency| match dependency["kind"].as_str() {
        Some("build") => dependency["name"] == EBPF_BUILDER,
        Some("dev") if !is_tested => false,
        _ => dependency["name"].as_str().is_some_and(|name| builds_ebpf(packages, name, false)),
    })
}

/// Returns the test targets of a target in cargo's metadata: one, two for a library with doctests, or none for a
/// build script.
fn package_targets(package: &str, target: &Value, builds_ebpf: bool) -> Result<Vec<TestTarget>> {
    let text = |value: &Value| value.as_str().map(str::to_owned).context("cargo metadata");
    let (name, kind) = (text(&target["name"])?, text(&target["kind"][0])?);
    let (mut tier, mut needs): (_, &[Need]) = (Tier::Unit, &[]);
    let selection = match kind.as_str() {
        "lib" | "proc-macro" => vec!["--lib".to_owned()],
        "bin" => vec!["--bin".to_owned(), name],
        "test" => {
            if package == suite::PACKAGE {
                let Some(row) = suite::find(&name) else {
                    bail!(
                        "{name} is not in the table of test programs: add it in xtask/src/suite.rs"
                    );
                };
                (tier, needs) = (row.tier, row.needs);
            }
            vec!["--test".to_owned(), name]
        }
        _ => return Ok(Vec::new()),
    };
    let files = source_files(Path::new(&text(&target["src_path"])?))?;
    let package = package.to_owned();
    let tests = files.iter().flat_map(|file| file.tests.iter().cloned()).collect();
    let doctests = if kind == "lib" { doctest_files(&files) } else { Vec::new() };
    let target = TestTarget { package, selection, tier, needs, builds_ebpf, tests };
    let doctests = (!doctests.is_empty()).then(|| TestTarget {
        selection: vec![DOC.to_owned()],
        tests: doctests,
        ..target.clone()
    });
    Ok([target].into_iter().chain(doctests).collect())
}

/// Returns the paths of the files with doctests, from the workspace's root.
fn doctest_files(files: &[SourceFile]) -> Vec<String> {
    let files = files.iter().filter(|file| file.has_doctests);
    let paths = files.map(|file| file.path.strip_prefix(root()).unwrap_or(&file.path));
    paths.map(|path| path.display().to_string()).collect()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::PathBuf};

    use super::*;

    #[test]
    fn test_targets_have_packages_tiers_and_builds() {
        let targets = test_targets().unwrap();
        let this = "test::targets::tests::test_targets_have_packages_tiers_and_builds";
        let target = targets.iter().find(|target| target.tests.iter().any(|test| test == this));
        let target = target.unwrap();
        assert_eq!((target.package.as_str(), target.tier), ("xtask", Tier::Unit));
        assert_eq!(target.selection, ["--bin", "xtask"]);

        let builds_ebpf = |package: &str| {
            targets.iter().find(|target| target.package == package).unwrap().builds_ebpf
        };
        for package in ["xtask", "xtask-labs", "vmexit-common", "vmexit-core", "vmexit-view"] {
            assert!(!builds_ebpf(package), "{package}");
        }
        for package in ["vmexit-agent", "vmexit-tests", "vmexit-bench"] {
            assert!(builds_ebpf(package), "{package}");
        }
        assert!(targets.iter().all(|target| !FOR_BPF.contains(&target.package.as_str())));

        let mut doc = targets.iter().filter(|target| target.is_doc());
        let doc = doc.find(|target| target.package == "vmexit-core").unwrap();
        assert!(doc.has_test("core/src/lib.rs"));
        assert!(doc.has_test("vmexit-agent/core/src/lib.rs - (line 16)"));
    }

    #[test]
    fn test_targets_include_every_file_with_tests() {
        let metadata = workspace_metadata().unwrap();
        let mut reached = BTreeSet::new();
        for package in metadata["packages"].as_array().unwrap() {
            for target in package["targets"].as_array().unwrap() {
                let root = Path::new(target["src_path"].as_str().unwrap());
                reached.extend(source_files(root).unwrap().into_iter().map(|file| file.path));
            }
        }
        let mut files = Vec::new();
        for directory in ["tests", "vmexit-agent", "vmexit-common", "vmexit-ebpf", "xtask"] {
            add_rust_files(&root().join(directory), &mut files);
        }
        assert!(files.len() > 200, "{} files", files.len());
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            let has_tests = text.lines().any(|line| {
                let line = line.trim_start();
                line == "#[test]" || line.starts_with("#[tokio::test")
            });
            assert!(!has_tests || reached.contains(&file), "{} is in no target", file.display());
        }
    }

    fn add_rust_files(directory: &Path, files: &mut Vec<PathBuf>) {
        for path in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                add_rust_files(&path, files);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }

    #[test]
    fn test_targets_have_every_test_named_in_documents() {
        let targets = test_targets().unwrap();
        let mut documents =
            ["CONTRIBUTING.md", "README.md", "RELEASING.md"].map(|name| root().join(name)).to_vec();
        let docs = fs::read_dir(root().join("docs")).unwrap();
        documents.extend(docs.map(|entry| entry.unwrap().path()));
        documents.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
        let mut named = 0;
        for document in documents {
            let text = fs::read_to_string(&document).unwrap();
            for command in text.split("cargo xtask test ").skip(1) {
                let command = command.split(['`', '#', '\n']).next().unwrap_or_default();
                let mut words = command.split_whitespace();
                let Some(tier) = words.next().and_then(Tier::from_name) else { continue };
                let name = words.next().filter(|word| *word != "--" && *word != "NAME");
                let Some(name) = name else { continue };
                let mut targets = targets.iter().filter(|target| target.tier == tier);
                assert!(
                    targets.any(|target| target.has_test(name)),
                    "{}: there is no {tier} test {name}",
                    document.display()
                );
                named += 1;
            }
        }
        assert!(named > 3, "{named} tests are named");
    }
}

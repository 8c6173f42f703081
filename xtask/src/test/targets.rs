//! What can be tested: cargo's targets that run here, with the names of their tests as libtest has them, read from
//! the sources. So a test is found without building any other.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use xtask::{
    setup::Need,
    suite::{self, Tier},
    tool::{FOR_BPF, cargo, stdout},
};

/// Package by which build scripts build eBPF programs.
const EBPF_BUILDER: &str = "vmexit-build";

/// A library, program or test program with tests in it.
#[derive(Clone, Debug)]
pub(super) struct TestTarget {
    /// Package that it belongs to.
    pub(super) package: String,
    /// Arguments by which cargo selects it.
    pub(super) selection: Vec<String>,
    /// Tier of its tests.
    pub(super) tier: Tier,
    /// Programs that its tests start.
    pub(super) needs: &'static [Need],
    /// Whether a build script of what it links builds eBPF programs.
    pub(super) builds_ebpf: bool,
    /// Paths of its tests, such as `host::btf::tests::hostile`.
    pub(super) tests: Vec<String>,
}

/// All targets of the workspace but those for BPF.
pub(super) fn all() -> Result<Vec<TestTarget>> {
    let mut metadata = cargo();
    metadata.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]);
    let metadata = stdout(&mut metadata).context("cargo metadata failed")?;
    let metadata: Value = serde_json::from_str(&metadata).context("cargo metadata")?;
    let packages = metadata["packages"].as_array().context("cargo metadata has no packages")?;
    let mut targets = Vec::new();
    for package in packages {
        let name = package["name"].as_str().context("a package has no name")?;
        if FOR_BPF.contains(&name) {
            continue;
        }
        let builds_ebpf = builds_ebpf(packages, name, true);
        for target in package["targets"].as_array().context("a package has no targets")? {
            targets.extend(described(name, target, builds_ebpf)?);
        }
    }
    Ok(targets)
}

/// Whether a package, or one that it depends on, has a build script that builds eBPF programs. Dependencies of
/// tests count for the tested package alone.
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

/// A target of cargo's metadata; none for what has no tests, such as build scripts.
fn described(package: &str, target: &Value, builds_ebpf: bool) -> Result<Option<TestTarget>> {
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
        _ => return Ok(None),
    };
    let mut tests = Vec::new();
    scan(Path::new(&text(&target["src_path"])?), true, "", &mut tests)?;
    Ok(Some(TestTarget { package: package.to_owned(), selection, tier, needs, builds_ebpf, tests }))
}

/// Adds the tests of a source file and of the modules in files below it.
fn scan(file: &Path, is_root: bool, module: &str, tests: &mut Vec<String>) -> Result<()> {
    let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let found = parse(&text);
    tests.extend(found.tests.iter().map(|test| format!("{module}{test}")));
    let directory = submodules(file, is_root);
    for name in found.modules {
        let places = [format!("{name}.rs"), format!("{name}/mod.rs")];
        let mut places = places.iter().map(|place| directory.join(place));
        // One whose file is elsewhere is not ours: those of macros, say.
        if let Some(file) = places.find(|place| place.is_file()) {
            scan(&file, false, &format!("{module}{name}::"), tests)?;
        }
    }
    Ok(())
}

/// The directory in which a file's modules are.
fn submodules(file: &Path, is_root: bool) -> PathBuf {
    if is_root || file.file_name().is_some_and(|name| name == "mod.rs") {
        file.parent().unwrap_or(file).to_owned()
    } else {
        file.with_extension("")
    }
}

/// Content of a source file: tests by their paths within it, and modules that have files of their own.
#[derive(Debug, Default, PartialEq, Eq)]
struct SourceTests {
    tests: Vec<String>,
    modules: Vec<String>,
}

/// Reads a source file that rustfmt has formatted: modules end at the indentation at which they begin.
fn parse(text: &str) -> SourceTests {
    let mut found = SourceTests::default();
    let mut inside: Vec<(usize, &str)> = Vec::new();
    let mut is_test = false;
    for line in text.lines() {
        let code = line.trim_start();
        let indentation = line.len() - code.len();
        if code == "}" && inside.last().is_some_and(|(at, _)| *at == indentation) {
            inside.pop();
        } else if code == "#[test]" || code.starts_with("#[tokio::test") {
            is_test = true;
        } else if let Some((name, rest)) = item(code, "mod") {
            match rest {
                "{" => inside.push((indentation, name)),
                ";" if inside.is_empty() => found.modules.push(name.to_owned()),
                _ => {}
            }
        } else if let Some((name, _)) = item(code, "fn").filter(|_| is_test) {
            let path = inside.iter().map(|(_, module)| format!("{module}::")).collect::<String>();
            found.tests.push(path + name);
            is_test = false;
        }
    }
    found
}

/// Name of the item of this kind that begins on a line, and the rest of the line.
fn item<'a>(code: &'a str, kind: &str) -> Option<(&'a str, &'a str)> {
    let code = code.strip_prefix("pub ").or_else(|| after_restriction(code)).unwrap_or(code);
    let code = code.strip_prefix("async ").unwrap_or(code);
    let code = code.strip_prefix(kind)?.strip_prefix(' ')?;
    let end = code.find(|c: char| !c.is_alphanumeric() && c != '_')?;
    Some((&code[..end], code[end..].trim()))
}

/// What follows `pub(crate)` or the like.
fn after_restriction(code: &str) -> Option<&str> {
    Some(code.strip_prefix("pub(")?.split_once(") ")?.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_have_the_paths_of_their_modules() {
        let text = "\
pub(crate) mod btf;
mod made_up;

fn no_test() {}

#[cfg(test)]
mod tests {
    use super::*;

    mod deeper {
        #[test]
        #[should_panic]
        fn falls() {}
    }

    proptest! {
        #[test]
        fn holds(x in 0..3) {}
    }

    #[tokio::test(flavor = \"current_thread\")]
    async fn waits() {}

    fn helper() {}
}

#[test]
fn outside() -> Result<()> {}
";
        let found = parse(text);
        assert_eq!(
            found.tests,
            ["tests::deeper::falls", "tests::holds", "tests::waits", "outside"]
        );
        assert_eq!(found.modules, ["btf", "made_up"]);
    }

    #[test]
    fn modules_are_beside_a_root_and_below_other_files() {
        assert_eq!(submodules(Path::new("a/lib.rs"), true), Path::new("a"));
        assert_eq!(submodules(Path::new("a/b/mod.rs"), false), Path::new("a/b"));
        assert_eq!(submodules(Path::new("a/b.rs"), false), Path::new("a/b"));
    }

    #[test]
    fn this_very_test_is_found_and_no_target_for_bpf() {
        let targets = all().unwrap();
        let this = "test::targets::tests::this_very_test_is_found_and_no_target_for_bpf";
        let has = |target: &&TestTarget| target.tests.iter().any(|test| test == this);
        let target = targets.iter().find(has).unwrap();
        assert_eq!((target.package.as_str(), target.tier), ("xtask", Tier::Unit));
        assert_eq!(target.selection, ["--bin", "xtask"]);
        let of = |package: &str| targets.iter().find(|target| target.package == package).unwrap();
        assert!(!target.builds_ebpf && !of("vmexit-common").builds_ebpf);
        assert!(of("vmexit-agent").builds_ebpf && of("vmexit-tests").builds_ebpf);
        assert!(targets.iter().all(|target| !FOR_BPF.contains(&target.package.as_str())));
        for tier in Tier::ALL {
            assert!(targets.iter().any(|target| target.tier == tier && !target.tests.is_empty()));
        }
    }
}

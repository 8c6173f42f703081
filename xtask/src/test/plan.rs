//! From what was asked for to the runs of `cargo test` that have it.

use std::{collections::BTreeMap, ffi::OsString};

use anyhow::{Result, bail, ensure};
use xtask::{setup::Need, suite::Tier};

use super::{is_coloured, targets::TestTarget};

/// Tests that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TestRequest {
    /// Their tier; none for all.
    pub(super) tier: Option<Tier>,
    /// Part of their paths; none for all.
    pub(super) name: Option<String>,
    /// Arguments for the test programs.
    args: Vec<OsString>,
}

impl TestRequest {
    /// The request of a command line: one word alone is a tier if it can be, else a name.
    pub(super) fn of(first: Option<&str>, second: Option<&str>, args: &[OsString]) -> Result<Self> {
        let tier = first.and_then(Tier::of);
        let name = if tier.is_some() { second } else { first };
        if let (None, Some(word), Some(_)) = (tier, first, second) {
            bail!("there is no tier '{word}': unit, native or lab");
        }
        // An argument of a test program begins with a dash, and is none of cargo's.
        let of_cargo = ["-p", "--package", "--test", "--lib", "--bin", "--"];
        if let Some(word) = args.first().map(|word| word.to_string_lossy()) {
            ensure!(
                word.starts_with('-') && !of_cargo.contains(&&*word),
                "'{word}' is no argument of a test program: a test's name comes before the --, as in \
                 `cargo xtask test NAME -- --nocapture`"
            );
        }
        Ok(Self { tier, name: name.map(str::to_owned), args: args.to_owned() })
    }

    /// Whether no test is left out.
    pub(super) fn is_everything(&self) -> bool {
        self.tier.is_none() && self.name.is_none()
    }

    fn has(&self, target: &TestTarget) -> bool {
        self.tier.is_none_or(|tier| tier == target.tier)
            && self.name.as_ref().is_none_or(|name| target.has(name))
    }
}

impl TestTarget {
    fn has(&self, name: &str) -> bool {
        self.tests.iter().any(|test| test.contains(name))
    }
}

/// One run of `cargo test`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CargoTest {
    /// Packages to test.
    pub(super) packages: Vec<String>,
    /// Arguments that select targets of these packages; empty for all, documentation included.
    pub(super) selection: Vec<String>,
    /// Tiers of its tests.
    pub(super) tiers: Vec<Tier>,
    /// Programs that its tests start.
    pub(super) needs: Vec<Need>,
    /// Whether it builds eBPF programs.
    pub(super) builds_ebpf: bool,
}

impl CargoTest {
    /// Arguments of `cargo test`.
    pub(super) fn arguments(&self, request: &TestRequest) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["--no-fail-fast".into()];
        for package in &self.packages {
            arguments.extend(["--package".into(), package.into()]);
        }
        arguments.extend(self.selection.iter().map(Into::into));
        arguments.extend(request.name.iter().map(Into::into));
        arguments.push("--".into());
        // Output of tests that are named is read on its way.
        if request.name.is_some() && is_coloured() {
            arguments.push("--color=always".into());
        }
        arguments.extend(request.args.iter().cloned());
        arguments
    }

    fn add(&mut self, target: &TestTarget) {
        if !self.packages.contains(&target.package) {
            self.packages.push(target.package.clone());
        }
        self.selection.extend(target.selection.iter().cloned());
        if !self.tiers.contains(&target.tier) {
            self.tiers.push(target.tier);
        }
        self.needs.extend(target.needs);
        self.builds_ebpf |= target.builds_ebpf;
    }
}

/// The runs that have the tests of a request: packages that are wanted as a whole in one run, and one for each
/// other package, whose wanted targets alone are built.
pub(super) fn plan(request: &TestRequest, targets: &[TestTarget]) -> Result<Vec<CargoTest>> {
    let mut packages: BTreeMap<&str, Vec<&TestTarget>> = BTreeMap::new();
    for target in targets {
        packages.entry(&target.package).or_default().push(target);
    }
    let (mut whole, mut parts) = (CargoTest::default(), Vec::new());
    for targets in packages.values() {
        let wanted: Vec<_> = targets.iter().filter(|target| request.has(target)).collect();
        if request.name.is_none() && wanted.len() == targets.len() {
            wanted.into_iter().for_each(|target| whole.add(target));
        } else if !wanted.is_empty() {
            let mut part = CargoTest::default();
            wanted.into_iter().for_each(|target| part.add(target));
            parts.push(part);
        }
    }
    whole.selection.clear();
    let whole = Some(whole).filter(|run| !run.packages.is_empty());
    let plan: Vec<CargoTest> = whole.into_iter().chain(parts).collect();
    ensure!(!plan.is_empty(), "{}", nothing(request, targets));
    Ok(plan)
}

/// Why there is nothing to run, and which tier has the name.
fn nothing(request: &TestRequest, targets: &[TestTarget]) -> String {
    let name = request.name.as_deref().unwrap_or_default();
    let of = request.tier.map(|tier| format!("{tier} ")).unwrap_or_default();
    let elsewhere = targets.iter().find(|target| target.has(name)).map(|target| {
        format!("; there is a {tier} test: cargo xtask test {tier} {name}", tier = target.tier)
    });
    format!("no {of}test has '{name}' in its path{}", elsewhere.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(package: &str, selection: &str, tier: Tier, tests: &[&str]) -> TestTarget {
        TestTarget {
            package: package.to_owned(),
            selection: selection.split(' ').map(str::to_owned).collect(),
            tier,
            needs: if tier == Tier::Native { &[Need::Qemu] } else { &[] },
            builds_ebpf: package != "common",
            tests: tests.iter().map(|&test| test.to_owned()).collect(),
        }
    }

    fn workspace() -> Vec<TestTarget> {
        vec![
            target("agent", "--lib", Tier::Unit, &["model::tests::adds", "view::tests::draws"]),
            target("agent", "--test views", Tier::Unit, &["draws_all"]),
            target("common", "--lib", Tier::Unit, &["tests::adds"]),
            target("e2e", "--lib", Tier::Unit, &["tests::parses"]),
            target("e2e", "--test native", Tier::Native, &["counts"]),
            target("e2e", "--test amd", Tier::Lab, &["counts", "compares"]),
        ]
    }

    fn request(first: &str, second: &str) -> TestRequest {
        let word = |word: &'static str| Some(word).filter(|word| !word.is_empty());
        let (first, second) = (first.to_owned().leak(), second.to_owned().leak());
        TestRequest::of(word(first), word(second), &[]).unwrap()
    }

    /// Packages, a colon, and targets of each run.
    fn runs(first: &str, second: &str) -> Vec<String> {
        let runs = plan(&request(first, second), &workspace()).unwrap();
        let shown = |run: &CargoTest| {
            format!("{}: {}", run.packages.join(" "), run.selection.join(" ")).trim().to_owned()
        };
        runs.iter().map(shown).collect()
    }

    #[test]
    fn a_word_alone_is_a_tier_or_a_name() {
        assert_eq!(request("lab", "").tier, Some(Tier::Lab));
        assert_eq!(request("labels", "").name.as_deref(), Some("labels"));
        assert_eq!(request("unit", "lab").name.as_deref(), Some("lab"));
        assert!(request("", "").is_everything() && !request("unit", "").is_everything());
        assert!(TestRequest::of(Some("units"), Some("x"), &[]).is_err());
    }

    #[test]
    fn names_and_arguments_of_cargo_are_not_for_the_test_programs() {
        let of = |args: &[&str]| {
            let args: Vec<OsString> = args.iter().map(Into::into).collect();
            TestRequest::of(None, None, &args)
        };
        assert!(of(&["--nocapture"]).is_ok() && of(&["--skip", "draws"]).is_ok());
        for old in [&["draws"][..], &["-p", "agent"], &["--", "--nocapture"]] {
            assert!(of(old).unwrap_err().to_string().contains("comes before the --"), "{old:?}");
        }
    }

    #[test]
    fn a_name_builds_only_what_has_it() {
        assert_eq!(runs("unit", "draws"), ["agent: --lib --test views"]);
        assert_eq!(runs("unit", "adds"), ["agent: --lib", "common: --lib"]);
        assert_eq!(runs("lab", "counts"), ["e2e: --test amd"]);
        assert_eq!(runs("counts", ""), ["e2e: --test native --test amd"]);
        assert_eq!(runs("model::", ""), ["agent: --lib"]);
    }

    #[test]
    fn a_tier_has_whole_packages_in_one_run() {
        assert_eq!(runs("unit", ""), ["agent common:", "e2e: --lib"]);
        assert_eq!(runs("native", ""), ["e2e: --test native"]);
        assert_eq!(runs("", ""), ["agent common e2e:"]);
    }

    #[test]
    fn only_what_is_run_has_needs() {
        let needs = |first, second| {
            let runs = plan(&request(first, second), &workspace()).unwrap();
            let needs: Vec<Need> = runs.iter().flat_map(|run| run.needs.clone()).collect();
            (needs, runs.iter().any(|run| run.builds_ebpf))
        };
        assert_eq!(needs("unit", "tests::adds"), (vec![], true));
        assert_eq!(needs("native", ""), (vec![Need::Qemu], true));
        let of_common = [workspace().remove(2)];
        let runs = plan(&request("unit", ""), &of_common).unwrap();
        assert!(!runs[0].builds_ebpf);
    }

    #[test]
    fn nothing_to_run_is_an_error_that_knows_better() {
        let error =
            |first, second| plan(&request(first, second), &workspace()).unwrap_err().to_string();
        assert_eq!(error("nowhere", ""), "no test has 'nowhere' in its path");
        assert_eq!(
            error("native", "compares"),
            "no native test has 'compares' in its path; there is a lab test: cargo xtask test lab compares"
        );
    }

    #[test]
    fn arguments_are_in_cargos_order() {
        let args = ["--nocapture".into()];
        let request = TestRequest::of(Some("lab"), Some("counts"), &args).unwrap();
        let arguments = plan(&request, &workspace()).unwrap()[0].arguments(&request);
        let words: Vec<&str> = arguments.iter().map(|word| word.to_str().unwrap()).collect();
        let words: Vec<&str> = words.into_iter().filter(|word| *word != "--color=always").collect();
        assert_eq!(
            words.join(" "),
            "--no-fail-fast --package e2e --test amd counts -- --nocapture"
        );
    }
}

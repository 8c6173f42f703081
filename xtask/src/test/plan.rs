//! Plan of `cargo xtask test`: from a request to runs of `cargo test`.

use std::{collections::BTreeMap, ffi::OsString};

use anyhow::{Result, bail, ensure};
use xtask::{setup::Need, suite::Tier};

use super::targets::TestTarget;

/// Arguments of cargo that a test program does not take.
const CARGO_ARGUMENTS: [&str; 6] = ["-p", "--package", "--test", "--lib", "--bin", "--"];

/// Tests to run.
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
    /// Returns the request of a command line: a single word is a tier if one has this name, else part of a test's
    /// path.
    ///
    /// # Errors
    ///
    /// The first of two words is no tier, or the arguments for the test programs are cargo's.
    pub(super) fn new(
        first: Option<&str>,
        second: Option<&str>,
        args: &[OsString],
    ) -> Result<Self> {
        let tier = first.and_then(Tier::from_name);
        let name = if tier.is_some() { second } else { first };
        if let (None, Some(word), Some(_)) = (tier, first, second) {
            bail!("there is no tier '{word}': unit, native or lab");
        }
        if let Some(word) = args.first().map(|word| word.to_string_lossy()) {
            ensure!(
                word.starts_with('-') && !CARGO_ARGUMENTS.contains(&&*word),
                "'{word}' is no argument of a test program: a test's name comes before the --, as in \
                 `cargo xtask test NAME -- --nocapture`"
            );
        }
        Ok(Self { tier, name: name.map(str::to_owned), args: args.to_owned() })
    }

    /// Whether the request is for all tests.
    pub(super) fn is_everything(&self) -> bool {
        self.tier.is_none() && self.name.is_none()
    }

    /// Whether the request is for tests of this target.
    fn includes(&self, target: &TestTarget) -> bool {
        self.tier.is_none_or(|tier| tier == target.tier)
            && self.name.as_ref().is_none_or(|name| target.has_test(name))
    }
}

/// One run of `cargo test`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CargoTest {
    /// Packages to test.
    pub(super) packages: Vec<String>,
    /// Arguments that select targets of these packages; empty for all targets and the doctests.
    pub(super) selection: Vec<String>,
    /// Tiers of its tests.
    pub(super) tiers: Vec<Tier>,
    /// Programs that its tests start.
    pub(super) needs: Vec<Need>,
    /// Whether its build builds eBPF programs.
    pub(super) builds_ebpf: bool,
}

impl CargoTest {
    /// Returns the arguments of `cargo test`.
    pub(super) fn arguments(&self, request: &TestRequest, is_terminal: bool) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["--no-fail-fast".into()];
        for package in &self.packages {
            arguments.extend(["--package".into(), package.into()]);
        }
        arguments.extend(self.selection.iter().map(Into::into));
        arguments.extend(request.name.iter().map(Into::into));
        arguments.push("--".into());
        // The output of named tests goes through a pipe, so libtest can't see the terminal.
        if request.name.is_some() && is_terminal {
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

/// Returns the runs for a request: one for all packages with every target in the request, and for each other
/// package one that builds the requested targets only, and one for its doctests.
///
/// # Errors
///
/// No test matches the request.
pub(super) fn plan(request: &TestRequest, targets: &[TestTarget]) -> Result<Vec<CargoTest>> {
    let mut packages: BTreeMap<&str, Vec<&TestTarget>> = BTreeMap::new();
    for target in targets {
        packages.entry(&target.package).or_default().push(target);
    }
    let (mut whole, mut parts) = (CargoTest::default(), Vec::new());
    for targets in packages.values() {
        let (doctests, others): (Vec<&TestTarget>, Vec<&TestTarget>) =
            targets.iter().filter(|target| request.includes(target)).partition(|t| t.is_doc());
        if request.name.is_none() && doctests.len() + others.len() == targets.len() {
            others.iter().chain(&doctests).for_each(|target| whole.add(target));
            continue;
        }
        for part in [others, doctests].iter().filter(|part| !part.is_empty()) {
            let mut run = CargoTest::default();
            part.iter().for_each(|target| run.add(target));
            parts.push(run);
        }
    }
    whole.selection.clear();
    let whole = Some(whole).filter(|run| !run.packages.is_empty());
    let plan: Vec<CargoTest> = whole.into_iter().chain(parts).collect();
    ensure!(!plan.is_empty(), "{}", no_match_message(request, targets));
    Ok(plan)
}

/// Returns the error for a request without tests; it names a tier that has such a test.
fn no_match_message(request: &TestRequest, targets: &[TestTarget]) -> String {
    let name = request.name.as_deref().unwrap_or_default();
    let tier = request.tier.map(|tier| format!("{tier} ")).unwrap_or_default();
    let other = targets.iter().find(|target| target.has_test(name)).map(|target| {
        format!("; there is a {tier} test: cargo xtask test {tier} {name}", tier = target.tier)
    });
    format!("no {tier}test has '{name}' in its path{}", other.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::{super::targets::test_targets, *};

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
            target("agent", "--doc", Tier::Unit, &["agent/src/draws.rs"]),
            target("common", "--lib", Tier::Unit, &["tests::adds"]),
            target("e2e", "--lib", Tier::Unit, &["tests::parses"]),
            target("e2e", "--doc", Tier::Unit, &["e2e/src/lib.rs"]),
            target("e2e", "--test native", Tier::Native, &["counts"]),
            target("e2e", "--test amd", Tier::Lab, &["counts", "compares"]),
        ]
    }

    fn request(first: &str, second: &str) -> TestRequest {
        let word = |word: &'static str| Some(word).filter(|word| !word.is_empty());
        let (first, second) = (first.to_owned().leak(), second.to_owned().leak());
        TestRequest::new(word(first), word(second), &[]).unwrap()
    }

    /// Packages, a colon, and selection of each run.
    fn runs_of(targets: &[TestTarget], first: &str, second: &str) -> Vec<String> {
        let runs = plan(&request(first, second), targets).unwrap();
        let shown = |run: &CargoTest| {
            format!("{}: {}", run.packages.join(" "), run.selection.join(" ")).trim().to_owned()
        };
        runs.iter().map(shown).collect()
    }

    fn runs(first: &str, second: &str) -> Vec<String> {
        runs_of(&workspace(), first, second)
    }

    #[test]
    fn test_request_takes_single_word_as_tier_or_name() {
        assert_eq!(request("lab", "").tier, Some(Tier::Lab));
        assert_eq!(request("labels", "").name.as_deref(), Some("labels"));
        assert_eq!(request("unit", "lab").name.as_deref(), Some("lab"));
        assert!(request("", "").is_everything() && !request("unit", "").is_everything());
        assert!(TestRequest::new(Some("units"), Some("x"), &[]).is_err());
    }

    #[test]
    fn test_request_rejects_arguments_of_cargo() {
        let new = |args: &[&str]| {
            let args: Vec<OsString> = args.iter().map(Into::into).collect();
            TestRequest::new(None, None, &args)
        };
        assert!(new(&["--nocapture"]).is_ok() && new(&["--skip", "draws"]).is_ok());
        for args in [&["draws"][..], &["-p", "agent"], &["--", "--nocapture"]] {
            assert!(new(args).unwrap_err().to_string().contains("comes before the --"), "{args:?}");
        }
    }

    #[test]
    fn plan_of_name_builds_only_targets_with_it() {
        assert_eq!(runs("unit", "draws"), ["agent: --lib --test views", "agent: --doc"]);
        assert_eq!(runs("agent/src/draws.rs - (line 3)", ""), ["agent: --doc"]);
        assert_eq!(runs("unit", "adds"), ["agent: --lib", "common: --lib"]);
        assert_eq!(runs("lab", "counts"), ["e2e: --test amd"]);
        assert_eq!(runs("counts", ""), ["e2e: --test native --test amd"]);
        assert_eq!(runs("model::", ""), ["agent: --lib"]);
    }

    #[test]
    fn plan_of_tier_has_whole_packages_in_one_run() {
        assert_eq!(runs("unit", ""), ["agent common:", "e2e: --lib", "e2e: --doc"]);
        assert_eq!(runs("native", ""), ["e2e: --test native"]);
        assert_eq!(runs("", ""), ["agent common e2e:"]);
    }

    #[test]
    fn plan_has_needs_of_its_targets_only() {
        let needs = |first, second| {
            let runs = plan(&request(first, second), &workspace()).unwrap();
            let needs: Vec<Need> = runs.iter().flat_map(|run| run.needs.clone()).collect();
            (needs, runs.iter().any(|run| run.builds_ebpf))
        };
        assert_eq!(needs("unit", "tests::adds"), (vec![], true));
        assert_eq!(needs("native", ""), (vec![Need::Qemu], true));
        let common = [workspace().remove(3)];
        let runs = plan(&request("unit", ""), &common).unwrap();
        assert!(!runs[0].builds_ebpf);
    }

    #[test]
    fn plan_without_tests_is_error_that_names_other_tier() {
        let error =
            |first, second| plan(&request(first, second), &workspace()).unwrap_err().to_string();
        assert_eq!(error("nowhere", ""), "no test has 'nowhere' in its path");
        assert_eq!(
            error("native", "compares"),
            "no native test has 'compares' in its path; there is a lab test: cargo xtask test lab compares"
        );
    }

    #[test]
    fn arguments_are_in_order_of_cargo_test() {
        let args = ["--nocapture".into()];
        let request = TestRequest::new(Some("lab"), Some("counts"), &args).unwrap();
        let arguments = plan(&request, &workspace()).unwrap()[0].arguments(&request, true);
        let words: Vec<&str> = arguments.iter().map(|word| word.to_str().unwrap()).collect();
        assert_eq!(
            words.join(" "),
            "--no-fail-fast --package e2e --test amd counts -- --color=always --nocapture"
        );
    }

    #[test]
    fn arguments_without_name_go_to_all_test_programs() {
        let request = TestRequest::new(None, None, &["--nocapture".into()]).unwrap();
        let runs = plan(&request, &workspace()).unwrap();
        let arguments = runs[0].arguments(&request, true);
        assert_eq!(arguments.last().unwrap(), "--nocapture");
        assert!(!arguments.contains(&"--color=always".into()));
    }

    #[test]
    fn plan_of_workspace_reaches_tests_of_each_tier() {
        let targets = test_targets().unwrap();
        let units = "vmexit-agent vmexit-bench vmexit-build vmexit-common vmexit-core vmexit-view xtask \
                     xtask-labs:";
        let end_to_end = "vmexit-tests: --lib --bin vmexit-fake-vmm --bin vmexit-vcpus";
        assert_eq!(runs_of(&targets, "unit", ""), [units, end_to_end, "vmexit-tests: --doc"]);
        assert_eq!(
            runs_of(&targets, "unit", "findings_page"),
            ["vmexit-view: --test findings_doc"]
        );
        assert_eq!(
            runs_of(&targets, "native", "capture_without_vm"),
            ["vmexit-tests: --test native"]
        );
        assert_eq!(runs_of(&targets, "lab", "perf_kvm_stat_agrees"), ["vmexit-tests: --test amd"]);
        let everything = plan(&TestRequest::default(), &targets).unwrap();
        let [run] = &everything[..] else { panic!("{everything:?}") };
        assert!(run.selection.is_empty(), "{:?}", run.selection);
        assert!(Tier::ALL.iter().all(|tier| run.tiers.contains(tier)), "{:?}", run.tiers);
        assert!(Need::ALL.iter().all(|need| run.needs.contains(need)), "{:?}", run.needs);
    }
}

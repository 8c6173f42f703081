//! Packages from the Debian archive in the host's apt sources, without root and without a change to apt's state.
//!
//! Packages come from the host's suite or from other suites of the same archive. They are downloaded and unpacked,
//! but not installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    error::{DuringIo, LabError, output},
    host::tool,
    sources::{AptSource, parse_deb822, parse_list},
};

/// Suites that may have newer packages than the host's suite. Its backports are searched before them.
const OTHER_SUITES: [&str; 3] = ["trixie", "trixie-backports", "sid"];

/// Suite and archive of the host.
#[derive(Debug)]
pub(super) struct AptArchive {
    codename: String,
    own: Vec<AptSource>,
}

impl AptArchive {
    /// Reads `/etc/apt` and `/etc/os-release`.
    pub(super) fn of_this_machine() -> Result<Self, LabError> {
        let release =
            fs::read_to_string("/etc/os-release").during(|| "read /etc/os-release".into())?;
        let codename = codename(&release).unwrap_or_else(|| "sid".to_owned());
        let mut sources =
            parse_list(&fs::read_to_string("/etc/apt/sources.list").unwrap_or_default());
        let parts = Path::new("/etc/apt/sources.list.d");
        if let Ok(parts) = fs::read_dir(parts) {
            let mut parts: Vec<PathBuf> = parts.flatten().map(|part| part.path()).collect();
            parts.sort();
            for part in parts {
                let text = fs::read_to_string(&part).unwrap_or_default();
                match part.extension().and_then(|extension| extension.to_str()) {
                    Some("sources") => sources.extend(parse_deb822(&text)),
                    Some("list") => sources.extend(parse_list(&text)),
                    _ => {}
                }
            }
        }
        Self::among(sources, codename)
    }

    fn among(sources: Vec<AptSource>, codename: String) -> Result<Self, LabError> {
        // The sources of a host with an unreleased suite may have the suite's role instead of its codename.
        let names = [codename.as_str(), "stable", "testing", "unstable", "sid"];
        for name in names {
            let ours = |suite: &String| {
                suite
                    .strip_prefix(name)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '/']))
            };
            let mut own = sources.clone();
            own.retain_mut(|source| {
                source.suites.retain(ours);
                !source.suites.is_empty()
            });
            // The entry of the archive first: other suites are in the same place, but not in that of the updates.
            own.sort_by_key(|source| !source.suites.iter().any(|suite| suite == name));
            if own.first().is_some_and(|source| source.suites.iter().any(|suite| suite == name)) {
                return Ok(Self { codename: name.to_owned(), own });
            }
        }
        Err(LabError::Sources(format!(
            "/etc/apt has no `deb` entry for the suite {codename}; add one"
        )))
    }

    /// Name and URI of the host's suite, as debootstrap takes them.
    pub(super) fn mirror(&self) -> Option<(&str, &str)> {
        let fields = &self.own.first()?.fields;
        let (_, uris) = fields.iter().find(|(name, _)| name.eq_ignore_ascii_case("URIs"))?;
        Some((&self.codename, uris.split_whitespace().next()?))
    }

    /// The host's suite, with its updates and security entries.
    pub(super) fn own(&self, cache: &Path) -> Suite {
        let sources = self.own.iter().map(AptSource::deb822).collect::<Vec<_>>().join("\n");
        Suite::new(cache, &self.codename, sources)
    }

    /// Suites to search, in this order: the host's, its backports, newer ones.
    pub(super) fn suites(&self, cache: &Path) -> Vec<Suite> {
        let backports = format!("{}-backports", self.codename);
        let mut names = vec![backports.as_str()];
        names.extend(
            OTHER_SUITES.iter().filter(|name| **name != self.codename && **name != backports),
        );
        let others = names.into_iter().filter_map(|name| self.other(cache, name));
        [self.own(cache)].into_iter().chain(others).collect()
    }

    /// Another suite of the same archive.
    fn other(&self, cache: &Path, name: &str) -> Option<Suite> {
        let fields = self.own.first()?.fields.clone();
        let source = AptSource { suites: vec![name.to_owned()], fields };
        Some(Suite::new(cache, name, source.deb822()))
    }
}

fn codename(os_release: &str) -> Option<String> {
    let line = os_release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="))?;
    Some(line.trim_matches('"').to_owned())
}

/// A suite with its own package lists, separate from the host's.
#[derive(Debug)]
pub(super) struct Suite {
    pub(super) name: String,
    dir: PathBuf,
    sources: String,
}

impl Suite {
    fn new(cache: &Path, name: &str, sources: String) -> Self {
        // apt refuses relative directories.
        let cache = std::path::absolute(cache).unwrap_or_else(|_| cache.to_owned());
        Self { name: name.to_owned(), dir: cache.join("apt").join(name), sources }
    }

    /// Updates the package lists.
    pub(super) fn update(&self) -> Result<(), LabError> {
        for dir in ["lists/partial", "cache/archives/partial"] {
            let dir = self.dir.join(dir);
            fs::create_dir_all(&dir).during(|| format!("create {}", dir.display()))?;
        }
        let sources = self.dir.join("suite.sources");
        fs::write(&sources, &self.sources).during(|| format!("write {}", sources.display()))?;
        output(self.apt("apt-get")?.arg("update")).map(drop)
    }

    /// Names of all packages with this prefix.
    pub(super) fn names(&self, prefix: &str) -> Result<Vec<String>, LabError> {
        let text = output(self.apt("apt-cache")?.args(["pkgnames", prefix]))?;
        Ok(String::from_utf8_lossy(&text).lines().map(str::to_owned).collect())
    }

    /// Versions of a package, newest first.
    pub(super) fn versions(&self, package: &str) -> Result<Vec<String>, LabError> {
        let text = output(self.apt("apt-cache")?.args(["madison", package]))?;
        Ok(parse_madison(&String::from_utf8_lossy(&text)))
    }

    /// Names of the packages that the newest version of a package depends on.
    pub(super) fn depends(&self, package: &str) -> Result<Vec<String>, LabError> {
        let text = output(self.apt("apt-cache")?.args(["show", "--no-all-versions", package]))?;
        Ok(parse_depends(&String::from_utf8_lossy(&text)))
    }

    /// Packages that an installation of these would add to the host, each as `package=version`: the packages
    /// themselves and their dependencies, without those that are installed.
    pub(super) fn missing(&self, packages: &[&str]) -> Result<Vec<String>, LabError> {
        let mut install = self.apt("apt-get")?;
        install.args(["install", "--simulate", "--no-install-recommends"]).args(packages);
        Ok(parse_simulation(&String::from_utf8_lossy(&output(&mut install)?)))
    }

    /// Downloads packages and unpacks them all into one directory.
    pub(super) fn unpack(&self, packages: &[String], into: &Path) -> Result<(), LabError> {
        let debs = into.join("debs");
        fs::create_dir_all(&debs).during(|| format!("create {}", debs.display()))?;
        eprintln!("lab: downloading {} ({})", packages.join(" "), self.name);
        output(self.apt("apt-get")?.current_dir(&debs).arg("download").args(packages))?;
        let dpkg = tool("dpkg", "dpkg")?;
        for deb in fs::read_dir(&debs).during(|| format!("list {}", debs.display()))?.flatten() {
            output(Command::new(&dpkg).arg("-x").arg(deb.path()).arg(into))?;
        }
        fs::remove_dir_all(&debs).during(|| format!("remove {}", debs.display()))
    }

    fn apt(&self, name: &str) -> Result<Command, LabError> {
        let mut command = Command::new(tool(name, "apt")?);
        let dir = self.dir.display();
        for option in [
            format!("Dir::Etc::sourcelist={dir}/suite.sources"),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            format!("Dir::State::Lists={dir}/lists"),
            format!("Dir::Cache={dir}/cache"),
            // As root, apt would switch to a user that may not write here.
            "APT::Sandbox::User=root".to_owned(),
            "APT::Update::Error-Mode=any".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
            "Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false".to_owned(),
        ] {
            command.arg("-o").arg(option);
        }
        command.arg("-q").env("LC_ALL", "C");
        Ok(command)
    }
}

/// Versions in lines of `package | version | source`.
fn parse_madison(text: &str) -> Vec<String> {
    let version = |line: &str| line.split('|').nth(1).map(|version| version.trim().to_owned());
    text.lines().filter_map(version).collect()
}

/// Package names in a `Depends:` field.
fn parse_depends(show: &str) -> Vec<String> {
    let Some(field) = show.lines().find_map(|line| line.strip_prefix("Depends:")) else {
        return Vec::new();
    };
    let first_word = |dependency: &str| dependency.split_whitespace().next().map(str::to_owned);
    field.split([',', '|']).filter_map(first_word).collect()
}

/// Packages in lines of `Inst package [installed] (version …)`, each as `package=version`.
fn parse_simulation(text: &str) -> Vec<String> {
    let package = |line: &str| {
        let rest = line.strip_prefix("Inst ")?;
        let name = rest.split_whitespace().next()?;
        let version = rest.split_once('(')?.1.split_whitespace().next()?;
        Some(format!("{name}={version}"))
    };
    text.lines().filter_map(package).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCES: &str = "\
Types: deb
URIs: http://archive.example/security
Suites: bookworm-security

Types: deb
URIs: http://other.example/
Suites: nodistro

Types: deb
URIs: http://archive.example/debian
Suites: bookworm bookworm-updates
";

    #[test]
    fn apt_archive_is_entry_of_own_suite() {
        let archive = AptArchive::among(parse_deb822(SOURCES), "bookworm".to_owned()).unwrap();
        let cache = Path::new("/c");
        let suites = archive.suites(cache);
        let names: Vec<&str> = suites.iter().map(|suite| suite.name.as_str()).collect();
        assert_eq!(names, ["bookworm", "bookworm-backports", "trixie", "trixie-backports", "sid"]);
        let other = &suites[2].sources;
        assert!(other.contains("Suites: trixie\nURIs: http://archive.example/debian\n"), "{other}");
        assert_eq!(archive.mirror(), Some(("bookworm", "http://archive.example/debian")));
        let own = archive.own(cache).sources;
        assert!(own.contains("bookworm-security") && !own.contains("nodistro"));
    }

    #[test]
    fn apt_without_own_suite_is_an_error() {
        let error = AptArchive::among(Vec::new(), "bookworm".to_owned()).unwrap_err();
        assert!(error.to_string().contains("bookworm"), "{error}");
    }

    #[test]
    fn apt_depends_field_parses() {
        let show =
            "Package: p\nDepends: a (= 1), b | c (>= 2), linux-binary-7.3.4+deb13\nSection: x\n";
        assert_eq!(parse_depends(show), ["a", "b", "c", "linux-binary-7.3.4+deb13"]);
    }

    #[test]
    fn apt_suites_on_newer_release_are_unique() {
        let sources = parse_deb822(&SOURCES.replace("bookworm", "trixie"));
        let archive = AptArchive::among(sources, "trixie".to_owned()).unwrap();
        let suites = archive.suites(Path::new("/c"));
        let names: Vec<&str> = suites.iter().map(|suite| suite.name.as_str()).collect();
        assert_eq!(names, ["trixie", "trixie-backports", "sid"]);
    }

    #[test]
    fn apt_madison_versions_parse() {
        let text =
            " p | 1.95.0+dfsg1-2~bpo13+1 | http://a.example x/main amd64 Packages\n p | 1.63 | y\n";
        assert_eq!(parse_madison(text), ["1.95.0+dfsg1-2~bpo13+1", "1.63"]);
    }

    #[test]
    fn apt_simulation_parses() {
        let text = "NOTE: This is only a simulation!\n\
                    Inst bochs-term (2.7+dfsg-4 Debian:12.15/oldstable [amd64]) []\n\
                    Inst xorriso [1.5.4-3] (1.5.4-4 Debian:12.15/oldstable [amd64])\n\
                    Conf xorriso (1.5.4-4 Debian:12.15/oldstable [amd64])\n";
        assert_eq!(parse_simulation(text), ["bochs-term=2.7+dfsg-4", "xorriso=1.5.4-4"]);
    }

    #[test]
    fn os_release_codename_parses() {
        assert_eq!(codename("ID=debian\nVERSION_CODENAME=bookworm\n").as_deref(), Some("bookworm"));
    }
}

//! Tests in a target's source files, found by reading the text.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// Source file of a target.
#[derive(Clone, Debug)]
pub(super) struct SourceFile {
    /// Path of the file.
    pub(super) path: PathBuf,
    /// Paths of its tests in the crate, such as `host::btf::tests::hostile`.
    pub(super) tests: Vec<String>,
    /// Whether its documentation has examples that rustdoc tests.
    pub(super) has_doctests: bool,
}

/// Returns the root file of a target and the files of all its modules.
///
/// # Errors
///
/// A file can't be read.
pub(super) fn source_files(root: &Path) -> Result<Vec<SourceFile>> {
    let mut files = Vec::new();
    scan(root, true, "", &mut files)?;
    Ok(files)
}

/// Adds a file and the files of its modules; `module` is the path of the file's module, `a::b::`.
fn scan(path: &Path, is_root: bool, module: &str, files: &mut Vec<SourceFile>) -> Result<()> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let parsed = parse(&text);
    files.push(SourceFile {
        path: path.to_owned(),
        tests: parsed.tests.iter().map(|test| format!("{module}{test}")).collect(),
        has_doctests: has_doctests(&text),
    });
    let directory = module_directory(path, is_root);
    for name in parsed.modules {
        let candidates = [format!("{name}.rs"), format!("{name}/mod.rs")];
        let mut candidates = candidates.iter().map(|candidate| directory.join(candidate));
        // A line of a macro may look like a module and have no file.
        if let Some(file) = candidates.find(|candidate| candidate.is_file()) {
            scan(&file, false, &format!("{module}{name}::"), files)?;
        }
    }
    Ok(())
}

/// Returns the directory with the files of a file's modules.
fn module_directory(file: &Path, is_root: bool) -> PathBuf {
    if is_root || file.file_name().is_some_and(|name| name == "mod.rs") {
        file.parent().unwrap_or(file).to_owned()
    } else {
        file.with_extension("")
    }
}

/// Tests and modules of one file.
#[derive(Debug, Default, PartialEq, Eq)]
struct ParsedFile {
    /// Paths of the tests within the file.
    tests: Vec<String>,
    /// Names of the modules that have files of their own.
    modules: Vec<String>,
}

/// Reads a source file that rustfmt has formatted: a module ends at the indentation of its first line.
fn parse(text: &str) -> ParsedFile {
    let mut parsed = ParsedFile::default();
    let mut open_modules: Vec<(usize, &str)> = Vec::new();
    let mut is_test = false;
    for line in text.lines() {
        let code = line.trim_start();
        let indentation = line.len() - code.len();
        if code == "}" && open_modules.last().is_some_and(|(open, _)| *open == indentation) {
            open_modules.pop();
        } else if code == "#[test]" || code.starts_with("#[tokio::test") {
            is_test = true;
        } else if let Some((name, rest)) = parse_item(code, "mod") {
            match rest {
                "{" => open_modules.push((indentation, name)),
                ";" if open_modules.is_empty() => parsed.modules.push(name.to_owned()),
                _ => {}
            }
        } else if let Some((name, _)) = parse_item(code, "fn").filter(|_| is_test) {
            let modules = open_modules.iter().map(|(_, module)| format!("{module}::"));
            parsed.tests.push(modules.collect::<String>() + name);
            is_test = false;
        }
    }
    parsed
}

/// Returns the name of the item of this kind that begins on a line, and the rest of the line.
fn parse_item<'a>(code: &'a str, kind: &str) -> Option<(&'a str, &'a str)> {
    let code = code.strip_prefix("pub ").or_else(|| strip_restriction(code)).unwrap_or(code);
    let code = code.strip_prefix("async ").unwrap_or(code);
    let code = code.strip_prefix(kind)?.strip_prefix(' ')?;
    let end = code.find(|c: char| !c.is_alphanumeric() && c != '_')?;
    Some((&code[..end], code[end..].trim()))
}

/// Strips `pub(crate)` or the like.
fn strip_restriction(code: &str) -> Option<&str> {
    Some(code.strip_prefix("pub(")?.split_once(") ")?.1)
}

/// Words after the fence of a code block that rustdoc compiles.
const DOCTEST_WORDS: [&str; 4] = ["rust", "no_run", "should_panic", "compile_fail"];

/// Whether a documentation comment has a code block that rustdoc tests.
fn has_doctests(text: &str) -> bool {
    let comments = text.lines().map(str::trim_start).filter_map(|line| {
        line.strip_prefix("//!").or_else(|| line.strip_prefix("///")).map(str::trim)
    });
    let fences = comments.filter_map(|comment| comment.strip_prefix("```"));
    // Every second fence closes a block.
    fences.step_by(2).any(|words| {
        let mut words = words.split([',', ' ']).filter(|word| !word.is_empty());
        words.all(|word| DOCTEST_WORDS.contains(&word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_returns_tests_with_their_modules() {
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
        let parsed = parse(text);
        assert_eq!(
            parsed.tests,
            ["tests::deeper::falls", "tests::holds", "tests::waits", "outside"]
        );
        assert_eq!(parsed.modules, ["btf", "made_up"]);
    }

    #[test]
    fn module_directory_is_beside_root_and_mod_rs_and_below_others() {
        assert_eq!(module_directory(Path::new("a/lib.rs"), true), Path::new("a"));
        assert_eq!(module_directory(Path::new("a/b/mod.rs"), false), Path::new("a/b"));
        assert_eq!(module_directory(Path::new("a/b.rs"), false), Path::new("a/b"));
    }

    #[test]
    fn has_doctests_ignores_blocks_that_are_not_rust() {
        for doctest in ["//! ```\n//! a();\n//! ```\n", "    /// ```rust,no_run\n    /// ```\n"] {
            assert!(has_doctests(doctest), "{doctest}");
        }
        for other in ["/// ```text\n/// a\n/// ```\n", "/// ```ignore\n/// ```\n", "// ```\n", ""] {
            assert!(!has_doctests(other), "{other}");
        }
    }
}

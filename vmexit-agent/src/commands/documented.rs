//! Test of the command lines in README.md, in docs/ and in the examples of `--help`: each must parse.

use std::{fs, path::Path};

use clap::{CommandFactory as _, Parser as _, error::ErrorKind};

use super::Cli;

/// Values for the placeholders of the documentation that no parser takes.
const PLACEHOLDERS: [(&str, &str); 3] = [("COMMAND", "top"), ("PERCENT", "1%"), ("SHELL", "bash")];

/// Command lines of `vmexit` in a text: lines of code, and code within a line of Markdown. A remark follows after two
/// spaces.
fn commands(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in text.lines() {
        let code = line.trim_start().trim_start_matches("# ");
        if code.starts_with("vmexit ") && line != code {
            found.push(code);
        } else {
            let inline = line.split('`').skip(1).step_by(2);
            found.extend(inline.filter(|code| code.starts_with("vmexit ")));
        }
    }
    let lines = found.into_iter().filter_map(|line| line.split("  ").next());
    // The value of a recording's `format`.
    lines.filter(|line| *line != "vmexit recording").map(str::to_owned).collect()
}

/// The error of a command line, if it does not parse. What follows a pipe, `&&` or a comment is not of it.
fn problem(line: &str) -> Option<String> {
    let Some(words) = shlex::split(line) else { return Some(format!("{line}\nquotes")) };
    let end = words.iter().position(|word| ["|", "&&", ">"].contains(&word.as_str()));
    let words = words[..end.unwrap_or(words.len())].iter().map(|word| {
        let word = word.trim_end_matches(';');
        PLACEHOLDERS.iter().find(|(name, _)| *name == word).map_or(word, |(_, value)| value)
    });
    let error = Cli::try_parse_from(words).err()?;
    let is_shown = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    (!is_shown).then(|| format!("{line}\n{error}"))
}

#[test]
fn documented_commands_parse() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let pages = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = pages.filter(|page| page.extension().is_some_and(|extension| extension == "md"));
    let mut lines = Vec::new();
    for page in pages.chain([root.join("README.md"), root.join("SECURITY.md")]) {
        lines.extend(commands(&fs::read_to_string(page).unwrap()));
    }
    for command in Cli::command().get_subcommands() {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        lines.extend(commands(&help));
    }
    assert!(lines.len() > 80, "{lines:#?}");
    let problems: Vec<String> = lines.iter().filter_map(|line| problem(line)).collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn documented_command_with_unknown_option_is_found() {
    assert!(problem("vmexit capture --no-such-option").is_some());
    assert_eq!(commands("see `vmexit vms`, and\n\n    vmexit doctor  # here").len(), 2);
}

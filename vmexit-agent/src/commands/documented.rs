//! Test of the command lines in README.md, in docs/ and in the examples of `--help`: each must parse.

use std::{fs, path::Path};

use clap::{CommandFactory as _, Parser as _, error::ErrorKind};

use super::Cli;

/// Values for the placeholders of the documentation that no parser takes.
const PLACEHOLDERS: [(&str, &str); 3] = [("COMMAND", "top"), ("PERCENT", "1%"), ("SHELL", "bash")];

/// A command line in a text.
struct Documented<'t> {
    line: &'t str,
    /// Within a sentence, where arguments that the command requires may be left out.
    inline: bool,
}

/// Command lines of `vmexit` in a text: lines of code, and code within a line of Markdown. A remark follows after two
/// spaces.
fn commands(text: &str) -> Vec<Documented<'_>> {
    let mut found = Vec::new();
    for line in text.lines() {
        let code = line.trim_start().trim_start_matches("# ");
        if code.starts_with("vmexit ") && line != code {
            let line = code.split("  ").next().unwrap_or(code);
            found.push(Documented { line, inline: false });
        } else {
            let inline = line.split('`').skip(1).step_by(2);
            // `vmexit recording` is the value of a recording's `format`.
            let inline =
                inline.filter(|code| code.starts_with("vmexit ") && *code != "vmexit recording");
            found.extend(inline.map(|line| Documented { line, inline: true }));
        }
    }
    found
}

/// The error of a command line that does not parse. What follows a pipe or `&&` is not part of it.
fn problem(Documented { line, inline }: &Documented<'_>) -> Option<String> {
    let Some(words) = shlex::split(line) else { return Some(format!("{line}: quotes")) };
    let end = words.iter().position(|word| ["|", "&&", ">"].contains(&word.as_str()));
    let words = words[..end.unwrap_or(words.len())].iter().map(|word| {
        let word = word.trim_end_matches(';');
        PLACEHOLDERS.iter().find(|(name, _)| *name == word).map_or(word, |(_, value)| value)
    });
    let error = Cli::try_parse_from(words).err()?;
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => None,
        // On a terminal it opens the live view.
        _ if *line == "vmexit" => None,
        ErrorKind::MissingRequiredArgument
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
            if *inline =>
        {
            None
        }
        _ => Some(format!("{line}\n{error}")),
    }
}

#[test]
fn documented_commands_parse() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let pages = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = pages.filter(|page| page.extension().is_some_and(|extension| extension == "md"));
    let pages = pages.chain([root.join("README.md"), root.join("SECURITY.md")]);
    let pages = pages.map(|page| fs::read_to_string(page).unwrap());
    let helps = Cli::command();
    let helps = helps.get_subcommands().filter_map(|command| command.get_after_help());
    // A line that ends in a backslash goes on in the next one.
    let joined = |text: String| text.split("\\\n").map(str::trim_start).collect::<String>();
    let texts: Vec<String> = pages.chain(helps.map(ToString::to_string)).map(joined).collect();
    let lines: Vec<Documented<'_>> = texts.iter().flat_map(|text| commands(text)).collect();
    assert!(lines.len() > 80, "only {} command lines found", lines.len());
    let problems: Vec<String> = lines.iter().filter_map(problem).collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn documented_command_with_unknown_option_is_a_problem() {
    let lines = commands("see `vmexit vms`, and\n\n    vmexit vms --no-such-option  # here");
    assert_eq!(lines.len(), 2);
    assert!(problem(&lines[0]).is_none() && problem(&lines[1]).is_some());
}

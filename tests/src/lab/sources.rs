//! Entries of apt's sources, in both formats of Debian: deb822 stanzas (`*.sources`) and one-line entries (`*.list`).
//! Only entries of binary packages are read. An entry can be written as a stanza for another suite.

use std::fmt::Write as _;

/// An entry of apt's sources, with the field names of deb822.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AptSource {
    pub(super) suites: Vec<String>,
    /// All other fields, unchanged, URIs first.
    pub(super) fields: Vec<(String, String)>,
}

impl AptSource {
    /// The entry as a stanza.
    pub(super) fn deb822(&self) -> String {
        let mut text = format!("Types: deb\nSuites: {}\n", self.suites.join(" "));
        for (name, value) in &self.fields {
            let _ = writeln!(text, "{name}: {value}");
        }
        text
    }
}

/// Entries of a deb822 file (`*.sources`): stanzas of `Field: value`, in which indented lines continue a value.
pub(super) fn parse_deb822(text: &str) -> Vec<AptSource> {
    let mut sources = Vec::new();
    let uncommented: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    for stanza in uncommented.split(|line| line.trim().is_empty()) {
        let mut source = AptSource { suites: Vec::new(), fields: Vec::new() };
        let mut wanted = false;
        let mut all: Vec<(String, String)> = Vec::new();
        for line in stanza {
            if line.starts_with([' ', '\t']) {
                if let Some((_, value)) = all.last_mut() {
                    value.push('\n');
                    value.push_str(line);
                }
            } else if let Some((name, value)) = line.split_once(':') {
                all.push((name.trim().to_owned(), value.trim().to_owned()));
            }
        }
        let enabled = !all
            .iter()
            .any(|(name, value)| name.eq_ignore_ascii_case("Enabled") && value.starts_with('n'));
        for (name, value) in all {
            match name.to_ascii_lowercase().as_str() {
                "types" => wanted = enabled && value.split_whitespace().any(|word| word == "deb"),
                "suites" => source.suites = words(&value),
                "enabled" => {}
                _ => source.fields.push((name, value)),
            }
        }
        if wanted {
            sources.push(source);
        }
    }
    sources
}

/// Entries of a one-line file (`*.list`): `deb [option=value …] URI SUITE COMPONENT…`.
pub(super) fn parse_list(text: &str) -> Vec<AptSource> {
    let mut sources = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let Some(mut rest) = line.strip_prefix("deb").filter(|rest| rest.starts_with([' ', '\t']))
        else {
            continue;
        };
        let mut fields = Vec::new();
        if let Some(options) = rest.trim_start().strip_prefix('[') {
            let Some((options, after)) = options.split_once(']') else { continue };
            for option in options.split_whitespace() {
                let (name, value) = option.split_once('=').unwrap_or((option, "yes"));
                let name = match name {
                    "signed-by" => "Signed-By",
                    "arch" => "Architectures",
                    "trusted" => "Trusted",
                    _ => continue,
                };
                fields.push((name.to_owned(), value.replace(',', " ")));
            }
            rest = after;
        }
        let mut words = words(rest).into_iter();
        let (Some(uri), Some(suite)) = (words.next(), words.next()) else { continue };
        fields.insert(0, ("URIs".to_owned(), uri));
        fields.push(("Components".to_owned(), words.collect::<Vec<_>>().join(" ")));
        sources.push(AptSource { suites: vec![suite], fields });
    }
    sources
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEB822: &str = "\
Types: deb
# a snapshot
URIs: http://archive.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/a.gpg

Types: deb-src
URIs: http://archive.example/debian
Suites: bookworm

Types: deb
URIs: http://archive.example/security
Suites: bookworm-security
Components: main

Enabled: no
Types: deb
URIs: http://other.example/
Suites: bookworm
";

    #[test]
    fn sources_deb822_stanzas_parse() {
        let sources = parse_deb822(DEB822);
        assert_eq!(sources.len(), 2);
        assert_eq!(sources[0].suites, ["bookworm", "bookworm-updates"]);
        assert_eq!(
            sources[0].deb822(),
            "Types: deb\nSuites: bookworm bookworm-updates\nURIs: http://archive.example/debian\n\
             Components: main\nSigned-By: /usr/share/keyrings/a.gpg\n"
        );
    }

    #[test]
    fn sources_deb822_multiline_key_parses() {
        let text =
            "Types: deb\nURIs: u\nSuites: s\nSigned-By:\n -----BEGIN\n .\n abc\nComponents: main\n";
        let sources = parse_deb822(text);
        assert!(sources[0].deb822().contains("Signed-By: \n -----BEGIN\n .\n abc\nComponents"));
    }

    #[test]
    fn sources_list_lines_parse() {
        let text = "# deb http://no.example x main\n\
                    deb-src http://a.example/debian trixie main\n\
                    deb [arch=amd64 signed-by=/k.gpg] http://a.example/debian trixie main contrib # here\n";
        let sources = parse_list(text);
        assert_eq!(sources.len(), 1);
        assert_eq!(sources[0].suites, ["trixie"]);
        assert_eq!(
            sources[0].deb822(),
            "Types: deb\nSuites: trixie\nURIs: http://a.example/debian\nArchitectures: amd64\n\
             Signed-By: /k.gpg\nComponents: main contrib\n"
        );
    }
}

//! What the program is made of, for programs to read: CycloneDX 1.6 (<https://cyclonedx.org/docs/1.6/json/>).

use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{crates::Crate, version};
use crate::tool::{root, stdout};

/// What no crate brings: name, licence, and the command that says its version.
const LINKED: &[(&str, &str, &[&str])] = &[
    ("rust-std", "MIT OR Apache-2.0", &["rustc", "--version"]),
    ("glibc", "LGPL-2.1-or-later", &["getconf", "GNU_LIBC_VERSION"]),
    ("libgcc", "GPL-3.0-or-later WITH GCC-exception-3.1", &["cc", "-dumpfullversion"]),
];

pub(super) fn cyclonedx(crates: &[Crate]) -> Result<String> {
    let mut components: Vec<Value> = crates.iter().map(component).collect();
    for (name, licence, said_by) in LINKED {
        components.push(json!({
            "type": "library",
            "name": name,
            "version": said_version(said_by)?,
            "licenses": [{ "expression": licence }],
        }));
    }
    let document = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": { "component": {
            "type": "application",
            "name": "vmexit",
            "version": version(),
            // The eBPF programs in it may be taken under GPL-2.0 instead, as the kernel wants it.
            "licenses": [{ "expression": env!("CARGO_PKG_LICENSE") }],
        }},
        "components": components,
    });
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

fn component(one: &Crate) -> Value {
    let purl = format!("pkg:cargo/{}@{}", one.name, one.version);
    let mut component = json!({
        "type": "library",
        "bom-ref": purl,
        "name": one.name,
        "version": one.version,
        "purl": purl,
        "licenses": [{ "expression": one.licence }],
    });
    if let Some(sum) = &one.sha256 {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": sum }]);
    }
    if let Some(url) = &one.repository {
        component["externalReferences"] = json!([{ "type": "vcs", "url": url }]);
    }
    component
}

fn said_version(command: &[&str]) -> Result<String> {
    let (program, arguments) = command.split_first().context("no command")?;
    let said = stdout(Command::new(program).args(arguments).current_dir(root()));
    let said = said.with_context(|| format!("{program} does not say its version"))?;
    let version =
        said.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    version.map(str::to_owned).with_context(|| format!("{program} says no version"))
}

//! Bill of materials of the program: CycloneDX 1.6 (<https://cyclonedx.org/docs/1.6/json/>).

use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{crates::ShippedCrate, version};
use xtask::tool::{root, stdout};

/// Linked libraries that are no crates: name, licence, and the command that prints the version.
const LINKED: &[(&str, &str, &[&str])] = &[
    ("rust-std", "MIT OR Apache-2.0", &["rustc", "--version"]),
    ("glibc", "LGPL-2.1-or-later", &["getconf", "GNU_LIBC_VERSION"]),
    ("libgcc", "GPL-3.0-or-later WITH GCC-exception-3.1", &["cc", "-dumpfullversion"]),
];

/// Returns the bill of materials as JSON.
///
/// # Errors
///
/// A command that prints a library's version fails.
pub(super) fn cyclonedx(crates: &[ShippedCrate]) -> Result<String> {
    let mut components: Vec<Value> = crates.iter().map(component).collect();
    for (name, licence, command) in LINKED {
        components.push(json!({
            "type": "library",
            "name": name,
            "version": printed_version(command)?,
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
            // The eBPF programs are also under GPL-2.0, which the kernel demands.
            "licenses": [{ "expression": env!("CARGO_PKG_LICENSE") }],
        }},
        "components": components,
    });
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

/// Returns the component of a crate.
fn component(shipped: &ShippedCrate) -> Value {
    let purl = format!("pkg:cargo/{}@{}", shipped.name, shipped.version);
    let mut component = json!({
        "type": "library",
        "bom-ref": purl,
        "name": shipped.name,
        "version": shipped.version,
        "purl": purl,
        "licenses": [{ "expression": shipped.licence }],
    });
    if let Some(sum) = &shipped.sha256 {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": sum }]);
    }
    if let Some(url) = &shipped.repository {
        component["externalReferences"] = json!([{ "type": "vcs", "url": url }]);
    }
    component
}

/// Returns the first word that begins with a digit in a command's output.
fn printed_version(command: &[&str]) -> Result<String> {
    let (program, arguments) = command.split_first().context("no command")?;
    let printed = stdout(Command::new(program).args(arguments).current_dir(root()));
    let printed = printed.with_context(|| format!("{program} failed"))?;
    let version =
        printed.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    version.map(str::to_owned).with_context(|| format!("{program} printed no version"))
}

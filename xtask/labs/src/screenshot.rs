//! `cargo xtask screenshot`: draws the README's picture of `vmexit top` from a real run, with the bundled guest in the
//! lab.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, bail};
use vmexit_tests::{
    guest::{BareGuest, Qemu},
    lab::Stream,
    tmux,
};
use xtask::{
    setup::{self, Need},
    tool::root,
};

use crate::lab;

/// Columns and lines of the terminal.
const SIZE: (u16, u16) = (110, 26);

/// Path of the picture in the repository.
const PICTURE: &str = "docs/top.svg";

/// Draws the picture and prints the screen.
///
/// # Errors
///
/// A need can't be set up, or a program fails in the lab.
pub(crate) fn screenshot() -> Result<()> {
    setup::programs(&[Need::Tmux])?;
    let directory = Path::new("/tmp");
    let lab = lab::with_agent(None)?
        .tmux()
        .file(format!("/tmp/{}", Qemu::ROM), BareGuest::demo().rom(), 0o644)
        .timeout(Duration::from_secs(300));
    let (columns, lines) = SIZE;
    let script = format!(
        r#"
{start_guest} &
while ! grep -q '\.' {serial} 2> /dev/null; do sleep 0.2; done
{functions}
terminal {columns} {lines} 'vmexit top'
wait_screen 'demo .* io '
sleep 8
press Enter
wait_screen 'VM-EXIT'
press 2
sleep 8
screen -e
"#,
        start_guest = Qemu::nested("demo").shell(directory),
        serial = directory.join(Qemu::SERIAL).display(),
        functions = tmux::functions(),
    );
    let mut screen = Vec::new();
    let run = lab.run_streaming(&script, |stream, bytes| match stream {
        Stream::Stdout => screen.extend_from_slice(bytes),
        other => lab::forward(other, bytes, false),
    })?;
    if run.code != 0 {
        bail!("the script exited with {} in the lab", run.code);
    }
    let screen = String::from_utf8(screen).context("the screen is not text")?;
    let path = root().join(PICTURE);
    fs::write(&path, anstyle_svg::Term::new().render_svg(screen.trim_end()))?;
    println!("{screen}\n{}", path.display());
    Ok(())
}

//! The HTML report in a real browser: rendering in light and dark colours, and printing.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    fs::{self, File},
    io::BufReader,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;
use vmexit_tests::agent;

/// Recording of the AMD lab's demo guest. It has every kind of data.
const RECORDING: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../vmexit-agent/tests/fixtures/recording/1-demo.vmexit");

/// Size of the window, pixels.
const SIZE: (u32, u32) = (1_200, 5_000);

/// Writes the page of the recording and returns its path.
fn page(directory: &TempDir) -> PathBuf {
    let page = directory.path().join("page.html");
    let arguments = ["report", RECORDING, "--format", "html", "--output", page.to_str().unwrap()];
    let output = agent::command(&arguments).unwrap().output().unwrap();
    assert!(output.status.success(), "{output:?}");
    page
}

/// Runs Chromium on the page, without network access.
fn chromium(directory: &TempDir, page: &Path, arguments: &[String]) {
    let mut chromium = Command::new("chromium");
    chromium
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"])
        .args(["--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND"])
        .arg(format!("--user-data-dir={}", directory.path().join("profile").display()))
        .args(arguments)
        .arg(format!("file://{}", page.display()))
        .env("HOME", directory.path());
    let output = chromium.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A screenshot: RGB pixels, row by row.
struct Picture {
    width: u32,
    pixels: Vec<[u8; 3]>,
}

impl Picture {
    fn of(directory: &TempDir, page: &Path, dark: bool) -> Self {
        let file = directory.path().join("page.png");
        let arguments = [
            format!("--window-size={},{}", SIZE.0, SIZE.1),
            format!("--screenshot={}", file.display()),
            // Blink's `PreferredColorScheme`: dark, light.
            format!("--blink-settings=preferredColorScheme={}", u8::from(!dark)),
        ];
        chromium(directory, page, &arguments);
        let mut reader = png::Decoder::new(BufReader::new(File::open(file).unwrap()));
        reader.set_transformations(png::Transformations::normalize_to_color8());
        let mut reader = reader.read_info().unwrap();
        let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
        let frame = reader.next_frame(&mut bytes).unwrap();
        let samples = frame.color_type.samples();
        let pixels = bytes[..frame.buffer_size()].chunks_exact(samples);
        Self {
            width: frame.width,
            pixels: pixels.map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect(),
        }
    }

    /// Number of pixels with exactly this colour, `#rrggbb`.
    fn count(&self, colour: &str) -> usize {
        self.pixels.iter().filter(|pixel| **pixel == rgb(colour)).count()
    }

    /// First line with so many pixels of a colour.
    fn first(&self, colour: &str, least: usize) -> Option<usize> {
        let mut lines = self.pixels.chunks(self.width as usize);
        lines.position(|line| line.iter().filter(|pixel| **pixel == rgb(colour)).count() >= least)
    }
}

fn rgb(colour: &str) -> [u8; 3] {
    let value = u32::from_str_radix(colour.trim_start_matches('#'), 16).unwrap();
    let [_, red, green, blue] = value.to_be_bytes();
    [red, green, blue]
}

/// Colours by name in the page's style sheet: those of light, those of dark.
fn colours(page: &Path) -> [Vec<(String, String)>; 2] {
    let page = fs::read_to_string(page).unwrap();
    let of = |start: &str| {
        let block = page.split_once(start).unwrap().1.split_once('}').unwrap().0.to_owned();
        let entries = block.split(';').filter_map(|entry| entry.trim().split_once(": "));
        let colours = entries.filter_map(|(name, value)| {
            let long = match value.len() {
                // `#rgb`
                4 => value.chars().skip(1).flat_map(|digit| [digit, digit]).collect(),
                _ => value.trim_start_matches('#').to_owned(),
            };
            name.strip_prefix("--").map(|name| (name.to_owned(), format!("#{long}")))
        });
        colours.collect()
    };
    [of(":root {"), of("(prefers-color-scheme: dark) {\n  :root {")]
}

#[test]
fn html_page_in_browser_shows_findings_charts_and_tables() {
    let directory = TempDir::new().unwrap();
    let page = page(&directory);
    let [light, dark] = colours(&page);
    for (colours, is_dark) in [(&light, false), (&dark, true)] {
        let picture = Picture::of(&directory, &page, is_dark);
        assert_eq!((picture.width, picture.pixels.len() as u32), (SIZE.0, SIZE.0 * SIZE.1));
        let colour = |name: &str| {
            let found = colours.iter().find(|(known, _)| known == name);
            found.map(|(_, colour)| colour.as_str()).unwrap()
        };
        let area = |name| picture.count(colour(name));
        println!(
            "dark: {is_dark}; pixels: {:?}",
            ["paper", "panel", "exits", "time", "c0", "c1"].map(|name| (name, area(name)))
        );
        // Most of the page is background. Text, bars and columns have large areas of their colours.
        assert!(area("paper") * 2 > picture.pixels.len());
        assert!(area("ink") > 1_000);
        for bars in ["exits", "time", "c0", "c1"] {
            assert!(area(bars) > 1_000, "{bars}");
        }
        // Findings are above the chart over time, which is above the shares.
        let line = |name, least| picture.first(colour(name), least).unwrap();
        let (findings, over_time, shares) =
            (line("panel", 500), line("c0", 100), line("exits", 100));
        assert!(findings < over_time && over_time < shares, "{findings} {over_time} {shares}");
        // The screenshot has all of the page: its last line is only background.
        let last = picture.pixels.rchunks(picture.width as usize).next().unwrap();
        assert!(last.iter().all(|pixel| *pixel == rgb(colour("paper"))));
    }
}

#[test]
fn html_page_in_print_is_complete_and_in_order() {
    let directory = TempDir::new().unwrap();
    let page = page(&directory);
    let pdf = directory.path().join("page.pdf");
    let arguments = [format!("--print-to-pdf={}", pdf.display()), "--no-pdf-header-footer".into()];
    chromium(&directory, &page, &arguments);
    let output = Command::new("pdftotext").args(["-layout"]).arg(&pdf).arg("-").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let printed = String::from_utf8(output.stdout).unwrap();
    let mut after = 0;
    for part in [
        "VM exits on lab",
        "demo",
        "The guest's clock is the ACPI PM timer",
        "exits per second:",
        "VM-EXIT",
        "IO-PORT",
        "acpi-tmr",
        "Times are from exit to entry",
    ] {
        let at = printed[after..].find(part);
        after += at.unwrap_or_else(|| panic!("{part} is not printed, or too early:\n{printed}"));
    }
}

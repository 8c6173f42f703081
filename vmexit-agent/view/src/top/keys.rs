//! Key bindings. The help on the screen, `vmexit top --help` and docs/top.md are made of one table.

use std::fmt::Write as _;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use unicode_width::UnicodeWidthStr as _;

use super::state::Action;

/// A key, with Ctrl or without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chord {
    /// The key without Ctrl.
    pub(super) code: KeyCode,
    ctrl: bool,
}

/// An action and its keys.
#[derive(Debug)]
pub struct Binding {
    /// Keys of the action, the most common one first.
    pub chords: &'static [Chord],
    /// Action that each of these keys triggers.
    pub action: Action,
    /// Description of the action in the help.
    pub help: &'static str,
}

const fn key(code: KeyCode) -> Chord {
    Chord { code, ctrl: false }
}

const fn c(c: char) -> Chord {
    key(KeyCode::Char(c))
}

const fn ctrl(c: char) -> Chord {
    Chord { code: KeyCode::Char(c), ctrl: true }
}

const fn bind(chords: &'static [Chord], action: Action, help: &'static str) -> Binding {
    Binding { chords, action, help }
}

/// All bindings, in the order of the help, except the digits, which select a table.
#[rustfmt::skip]
pub static BINDINGS: [Binding; 28] = [
    bind(&[key(KeyCode::Up), c('k')], Action::Up, "row above"),
    bind(&[key(KeyCode::Down), c('j')], Action::Down, "row below"),
    bind(&[key(KeyCode::PageUp), ctrl('b')], Action::PageUp, "page up"),
    bind(&[key(KeyCode::PageDown), ctrl('f')], Action::PageDown, "page down"),
    bind(&[key(KeyCode::Home), c('g')], Action::First, "first row"),
    bind(&[key(KeyCode::End), c('G')], Action::Last, "last row"),
    bind(&[key(KeyCode::Enter), key(KeyCode::Right), c('l')], Action::Open, "open the row"),
    bind(&[key(KeyCode::Esc), key(KeyCode::Left), c('h'), key(KeyCode::Backspace)], Action::Back, "back"),
    bind(&[key(KeyCode::Tab)], Action::NextTab, "next table of the VM"),
    bind(&[key(KeyCode::BackTab)], Action::PreviousTab, "previous table; 1 to 9 select one"),
    bind(&[c('/')], Action::Filter, "filter by name"),
    bind(&[c('s')], Action::Sort, "sort by the next column"),
    bind(&[c('S')], Action::Reverse, "reverse the order"),
    bind(&[c('c')], Action::Cumulative, "since the baseline, or per interval"),
    bind(&[c('r')], Action::Reset, "reset the baseline"),
    bind(&[c('%')], Action::Absolute, "shares, or times and numbers"),
    bind(&[c('p')], Action::Pause, "pause; tracing goes on"),
    bind(&[c('.')], Action::Forward, "replay: next interval"),
    bind(&[c(',')], Action::Backward, "replay: previous interval"),
    bind(&[c('+'), c('=')], Action::Slower, "longer interval"),
    bind(&[c('-')], Action::Faster, "shorter interval"),
    bind(&[c(' ')], Action::Mark, "mark: the sum of all marked is shown"),
    bind(&[c('f')], Action::Findings, "findings"),
    bind(&[c('w')], Action::Save, "write a recording: vmexit report shows it"),
    bind(&[c('?'), key(KeyCode::F(1))], Action::Help, "this help"),
    bind(&[ctrl('l')], Action::Redraw, "redraw"),
    bind(&[ctrl('z')], Action::Suspend, "suspend; fg continues"),
    bind(&[c('q'), key(KeyCode::F(10)), ctrl('c')], Action::Quit, "quit"),
];

/// The action of a key; `None` for a key without one.
pub fn action(event: KeyEvent) -> Option<Action> {
    let ctrl = event.modifiers.contains(KeyModifiers::CONTROL);
    if event.modifiers.contains(KeyModifiers::ALT) {
        return None;
    }
    if let (KeyCode::Char(digit @ '1'..='9'), false) = (event.code, ctrl) {
        return Some(Action::Tab(digit as usize - '0' as usize));
    }
    let pressed = Chord { code: event.code, ctrl };
    BINDINGS.iter().find(|binding| binding.chords.contains(&pressed)).map(|binding| binding.action)
}

impl Binding {
    /// Names of the keys, as printed on a keyboard: `↑ k`.
    pub fn keys(&self) -> String {
        let names: Vec<String> = self.chords.iter().map(Chord::name).collect();
        names.join(" ")
    }
}

impl Chord {
    fn name(&self) -> String {
        let name = match self.code {
            KeyCode::Up => "↑".into(),
            KeyCode::Down => "↓".into(),
            KeyCode::Left => "←".into(),
            KeyCode::Right => "→".into(),
            KeyCode::PageUp => "PgUp".into(),
            KeyCode::PageDown => "PgDn".into(),
            KeyCode::BackTab => "Shift-Tab".into(),
            KeyCode::Char(' ') => "Space".into(),
            KeyCode::Char(c) => c.to_string(),
            KeyCode::F(number) => format!("F{number}"),
            other => format!("{other:?}"),
        };
        if self.ctrl { format!("Ctrl-{name}") } else { name }
    }
}

/// Names of each binding's keys, padded to the same width, with its description.
pub(super) fn help() -> impl Iterator<Item = (String, &'static str)> {
    let width = BINDINGS.iter().map(|binding| binding.keys().width()).max().unwrap_or(0);
    BINDINGS.iter().map(move |binding| {
        let keys = binding.keys();
        let padding = " ".repeat(width - keys.width());
        (keys + &padding, binding.help)
    })
}

/// The help of the command line: a line per binding, below a heading.
pub fn text() -> String {
    let mut text = String::from("Keys:\n");
    for (keys, help) in help() {
        let _ = writeln!(text, "  {keys}  {help}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Table of the keys in docs/top.md.
    fn markdown() -> String {
        let mut table = String::from("| keys | |\n|---|---|\n");
        for binding in &BINDINGS {
            let keys: Vec<String> =
                binding.chords.iter().map(|chord| format!("`{}`", chord.name())).collect();
            let _ = writeln!(table, "| {} | {} |", keys.join(" "), binding.help);
        }
        table
    }

    #[test]
    fn keys_are_bound_once() {
        let chords: Vec<&Chord> = BINDINGS.iter().flat_map(|binding| binding.chords).collect();
        for (at, chord) in chords.iter().enumerate() {
            assert!(!chords[..at].contains(chord), "{}", chord.name());
        }
    }

    #[test]
    fn action_depends_on_key_and_modifiers() {
        let press = |code, modifiers| action(KeyEvent::new(code, modifiers));
        assert_eq!(press(KeyCode::Char('G'), KeyModifiers::SHIFT), Some(Action::Last));
        assert_eq!(press(KeyCode::BackTab, KeyModifiers::SHIFT), Some(Action::PreviousTab));
        assert_eq!(press(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Action::Quit));
        assert_eq!(press(KeyCode::Char('c'), KeyModifiers::NONE), Some(Action::Cumulative));
        assert_eq!(press(KeyCode::Char('c'), KeyModifiers::ALT), None);
        assert_eq!(press(KeyCode::Char('3'), KeyModifiers::NONE), Some(Action::Tab(3)));
        assert_eq!(press(KeyCode::Char('ü'), KeyModifiers::NONE), None);
    }

    #[test]
    fn text_aligns_descriptions_in_one_column() {
        let text = text();
        let columns = BINDINGS.iter().zip(text.lines().skip(1)).map(|(binding, line)| {
            let keys = line.strip_suffix(binding.help).unwrap();
            assert_eq!(keys.trim(), binding.keys());
            assert!(keys.ends_with("  "), "{line}");
            keys.width()
        });
        let columns: Vec<usize> = columns.collect();
        assert_eq!(columns.len(), BINDINGS.len());
        assert!(columns.iter().all(|column| *column == columns[0]), "{text}");
    }

    #[test]
    fn keys_page_has_all_bindings() {
        let page = include_str!("../../../../docs/top.md");
        assert!(page.contains(&markdown()), "the table of docs/top.md should be:\n{}", markdown());
    }
}

//! Key bindings: one table for the help on the screen, the help of the command line, and docs/top.md.

use std::fmt::Write as _;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::state::Action;

/// A key, with Ctrl or without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chord {
    code: KeyCode,
    ctrl: bool,
}

/// Keys that do the same.
#[derive(Debug)]
pub struct Binding {
    /// Which.
    pub chords: &'static [Chord],
    /// What they do.
    pub action: Action,
    /// The same in words.
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

/// All of them. Digits go to the tabs; the mouse selects, opens what is selected, and sorts.
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
    bind(&[key(KeyCode::BackTab)], Action::PreviousTab, "previous table; 1 to 9: that one"),
    bind(&[c('/')], Action::Filter, "filter by name"),
    bind(&[c('s')], Action::Sort, "sort by the next column"),
    bind(&[c('S')], Action::Reverse, "reverse the order"),
    bind(&[c('c')], Action::Cumulative, "since the baseline, or per interval"),
    bind(&[c('r')], Action::Reset, "reset the baseline"),
    bind(&[c('%')], Action::Absolute, "shares, or times and numbers"),
    bind(&[c('p')], Action::Pause, "pause; tracing goes on"),
    bind(&[c('.')], Action::Forward, "replay: next interval"),
    bind(&[c(',')], Action::Backward, "replay: the one before"),
    bind(&[c('+'), c('=')], Action::Slower, "longer interval"),
    bind(&[c('-')], Action::Faster, "shorter interval"),
    bind(&[c(' ')], Action::Mark, "mark: the sum of all marked is shown"),
    bind(&[c('f')], Action::Findings, "findings"),
    bind(&[c('w')], Action::Save, "write a recording: vmexit report shows it"),
    bind(&[c('?'), key(KeyCode::F(1))], Action::Help, "this help"),
    bind(&[ctrl('l')], Action::Redraw, "draw anew"),
    bind(&[ctrl('z')], Action::Suspend, "back to the shell; fg goes on"),
    bind(&[c('q'), key(KeyCode::F(10)), ctrl('c')], Action::Quit, "quit"),
];

/// What a key does.
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
    /// The same without Ctrl.
    #[cfg(test)]
    pub(super) fn codes(&self) -> impl Iterator<Item = KeyCode> {
        self.chords.iter().map(|chord| chord.code)
    }

    /// Its keys, as they are printed on a keyboard: `↑ k`.
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

/// For a command's help: a line each.
pub fn text() -> String {
    let mut text = String::from("Keys:\n");
    for binding in &BINDINGS {
        let _ = writeln!(text, "  {:16}  {}", binding.keys(), binding.help);
    }
    text
}

/// Markdown table of the keys, for docs/top.md.
pub fn markdown() -> String {
    let mut table = String::from("| keys | |\n|---|---|\n");
    for binding in &BINDINGS {
        let keys: Vec<String> =
            binding.chords.iter().map(|chord| format!("`{}`", chord.name())).collect();
        let _ = writeln!(table, "| {} | {} |", keys.join(" "), binding.help);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_does_two_things() {
        let chords: Vec<&Chord> = BINDINGS.iter().flat_map(|binding| binding.chords).collect();
        for (at, chord) in chords.iter().enumerate() {
            assert!(!chords[..at].contains(chord), "{}", chord.name());
        }
    }

    #[test]
    fn keys_are_as_they_come() {
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
    fn the_readme_has_them_all() {
        let page = include_str!("../../../../docs/top.md");
        assert!(page.contains(&markdown()), "the table of docs/top.md should be:\n{}", markdown());
    }
}

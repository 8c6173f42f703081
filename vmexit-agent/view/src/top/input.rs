//! Keys and mouse events of the terminal, applied to the state.

use crossterm::event::{
    Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseButton, MouseEvent, MouseEventKind,
};
use ratatui::layout::Position;

use super::{
    areas::{MARKER, areas},
    draw::heading::tab_at,
    keys,
    state::{Action, Effect, State},
};

/// Rows per step of the mouse wheel.
const WHEEL: usize = 3;

impl State {
    /// Applies an event of the terminal; returns the work that remains for the caller.
    pub fn handle(&mut self, event: &Event) -> Effect {
        match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => self.press(*key),
            Event::Mouse(mouse) => self.mouse(*mouse),
            Event::Resize(columns, lines) => {
                self.resize(*columns, *lines);
                Effect::None
            }
            _ => Effect::None,
        }
    }

    fn press(&mut self, key: KeyEvent) -> Effect {
        let (_, typing) = self.filter();
        let ctrl = key.modifiers.contains(KeyModifiers::CONTROL);
        if typing && !ctrl {
            match key.code {
                KeyCode::Enter => self.end_filter(true),
                KeyCode::Esc => self.end_filter(false),
                KeyCode::Backspace => self.delete_from_filter(),
                KeyCode::Char(c) => self.type_filter(c),
                _ => {}
            }
            return Effect::None;
        }
        // Any key without a binding closes an overlay.
        let close = self.overlay().map(|_| Action::Back);
        keys::action(key).or(close).map_or(Effect::None, |action| self.apply(action))
    }

    fn mouse(&mut self, mouse: MouseEvent) -> Effect {
        match mouse.kind {
            MouseEventKind::ScrollUp => self.scroll(Action::Up),
            MouseEventKind::ScrollDown => self.scroll(Action::Down),
            MouseEventKind::Down(MouseButton::Left) if self.overlay().is_none() => {
                self.click(Position::new(mouse.column, mouse.row))
            }
            MouseEventKind::Down(_) => self.apply(Action::Back),
            _ => Effect::None,
        }
    }

    fn scroll(&mut self, action: Action) -> Effect {
        for _ in 0..WHEEL {
            self.apply(action);
        }
        Effect::None
    }

    /// Applies a click: selects a row, or opens it if it is selected; sorts by the column of a title; switches to a tab.
    fn click(&mut self, at: Position) -> Effect {
        self.end_filter(true);
        let areas = areas(self, self.area());
        if areas.tabs.contains(at) {
            let tab = tab_at(self, at.x - areas.tabs.x);
            self.go_to(tab);
        } else if areas.table.contains(at) && at.y == areas.table.y {
            let mut end = areas.table.x + MARKER;
            let column = self.shown_columns().into_iter().find(|(_, width)| {
                end += width + 1;
                at.x < end
            });
            if let Some((column, _)) = column {
                self.sort_by(column.figure);
            }
        } else if areas.table.contains(at) {
            let (selected, offset) = self.cursor();
            let row = offset + usize::from(at.y - areas.table.y - 1);
            if row < self.rows().len() {
                if row == selected {
                    return self.apply(Action::Open);
                }
                self.select(row);
            }
        }
        Effect::None
    }
}

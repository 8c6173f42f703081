//! Overlays: the help and the findings, in a window over the screen.

use ratatui::{
    Frame,
    layout::{Constraint, Rect},
    text::{Line, Span},
    widgets::{Block, Clear, Paragraph},
};

use super::super::{
    keys,
    state::{Overlay, State},
    theme::{Role, Theme},
};

/// Draws an overlay without the first `offset` lines of its text.
pub(super) fn draw(
    frame: &mut Frame<'_>,
    overlay: Overlay,
    offset: usize,
    state: &State,
    theme: &Theme,
) {
    let (title, lines) = match overlay {
        Overlay::Help => (" Keys ", help(theme)),
        Overlay::Findings => (" Findings ", findings(state)),
    };
    let widest = lines.iter().map(Line::width).max().unwrap_or(0);
    let area = centred(frame.area(), widest as u16 + 4, lines.len() as u16 + 2);
    let block = Block::bordered()
        .title(Span::styled(title, theme.of(Role::Title)))
        .title_bottom(Line::from(" any key closes, ↑ ↓ scroll ").right_aligned());
    frame.render_widget(Clear, area);
    let paragraph = Paragraph::new(lines).block(block).scroll((offset as u16, 0));
    frame.render_widget(paragraph, area);
}

fn centred(area: Rect, width: u16, height: u16) -> Rect {
    area.centered(Constraint::Max(width), Constraint::Max(height))
}

fn help(theme: &Theme) -> Vec<Line<'static>> {
    let line = |(keys, help)| {
        Line::from(vec![Span::styled(format!(" {keys} "), theme.of(Role::Key)), Span::raw(help)])
    };
    keys::help().map(line).collect()
}

fn findings(state: &State) -> Vec<Line<'static>> {
    let findings = state.findings();
    if findings.is_empty() {
        return vec![Line::raw(" No findings. ")];
    }
    findings.into_iter().map(|line| Line::raw(format!(" {line} "))).collect()
}

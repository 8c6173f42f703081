//! The table: titles of its columns, and as many rows as fit.

use ratatui::{
    Frame,
    layout::Rect,
    style::Style,
    text::{Line, Span},
};
use unicode_width::UnicodeWidthStr as _;
use vmexit_core::escape::{cut, safe};

use super::super::{
    areas::MARKER,
    columns::Column,
    state::{State, TableId, TableRow},
    theme::{Role, Theme},
};
use crate::figure::Figure;

/// Suffix of the name of an ended VM.
const ENDED: &str = " (ended)";

/// Draws the table.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, state: &State, theme: &Theme) {
    if area.is_empty() {
        return;
    }
    let columns = state.columns(area.width.saturating_sub(MARKER));
    let at = |line| Rect { y: area.y + line, height: 1, ..area };
    super::line(frame, at(0), header(&columns, state, theme));
    let rows = state.rows();
    let (selected, offset) = state.cursor();
    if rows.is_empty() && area.height > 1 {
        let text = cut(&format!("  {}", note_without_rows(state)), area.width.into());
        return super::line(frame, at(1), Line::styled(text, theme.of(Role::Dim)));
    }
    let shown = rows.iter().enumerate().skip(offset).take(usize::from(area.height) - 1);
    for (line, (index, row)) in (1..).zip(shown) {
        super::line(frame, at(line), row_line(row, &columns, index == selected, state, theme));
    }
}

fn header(columns: &[(&'static Column, u16)], state: &State, theme: &Theme) -> Line<'static> {
    let (sorting, show, titles) = (state.sorting(), state.figures(), state.titles());
    let mut spans = vec![Span::raw(" ".repeat(MARKER.into()))];
    for (column, width) in columns {
        let title = match column.figure {
            Figure::Label => titles[0],
            Figure::Name => titles.get(1).copied().unwrap_or_default(),
            _ => column.title(show),
        };
        let mut title = title.to_owned();
        if column.figure == sorting.figure {
            title.push(if sorting.descending { '▼' } else { '▲' });
        }
        spans.push(Span::styled(fitted(&title, *width, column.right), theme.of(Role::Header)));
        spans.push(Span::raw(" "));
    }
    Line::from(spans)
}

fn row_line(
    row: &TableRow<'_>,
    columns: &[(&'static Column, u16)],
    selected: bool,
    state: &State,
    theme: &Theme,
) -> Line<'static> {
    let marked = state.is_marked(row.item);
    let marker = match (selected, marked) {
        (true, true) => "▸*",
        (true, false) => "▸ ",
        (false, true) => " *",
        (false, false) => "  ",
    };
    let mut style = Style::new();
    if row.ended {
        style = style.patch(theme.of(Role::Dim));
    }
    if marked {
        style = style.patch(theme.of(Role::Marked));
    }
    if selected {
        style = style.patch(theme.of(Role::Selected));
    }
    let mut spans = vec![Span::styled(marker, style)];
    let show = state.figures();
    for (column, width) in columns {
        let mut text = row.value(column.figure, show).text(*width);
        let mut style = style;
        match column.figure {
            Figure::Label if row.ended => {
                let room = usize::from(*width).saturating_sub(ENDED.len());
                text = cut(&text, room) + ENDED;
            }
            Figure::Trend if !selected => style = style.patch(theme.of(Role::Bars)),
            _ => {}
        }
        spans.push(Span::styled(fitted(&text, *width, column.right), style));
        spans.push(Span::styled(" ", style));
    }
    Line::from(spans)
}

/// The escaped text, cut or padded to a width.
fn fitted(text: &str, width: u16, right: bool) -> String {
    let text = cut(&safe(text), width.into());
    let padding = " ".repeat(usize::from(width).saturating_sub(text.width()));
    if right { padding + &text } else { text + &padding }
}

/// Reason why there are no rows.
fn note_without_rows(state: &State) -> &'static str {
    match (state.filter().0, state.table()) {
        ("", TableId::Vms) => "no VM is running; VMs that start appear here",
        ("", _) => "nothing in this interval",
        (_, _) => "no row matches the filter",
    }
}

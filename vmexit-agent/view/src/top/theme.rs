//! Styles by what they are for. Each says by bold, dim, reverse or underline what it means; colours only
//! help, and are of the terminal's own sixteen, so that dark and light ones both can show them.

use ratatui::style::{Color, Modifier, Style};

/// What has a style of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The line at the top.
    Title,
    /// Columns' titles.
    Header,
    /// The row under the cursor.
    Selected,
    /// Marked rows.
    Marked,
    /// What must not be overlooked.
    Warning,
    /// Trends and distributions.
    Bars,
    /// Keys in hints.
    Key,
    /// What is less important.
    Dim,
    /// The tab that is open.
    Tab,
}

/// A style for each role.
#[derive(Clone, Debug, PartialEq)]
pub struct Theme {
    styles: [Style; Role::ALL.len()],
}

impl Role {
    /// All of them, by their names in the configuration file.
    pub const ALL: [(&'static str, Self); 9] = [
        ("title", Self::Title),
        ("header", Self::Header),
        ("selected", Self::Selected),
        ("marked", Self::Marked),
        ("warning", Self::Warning),
        ("bars", Self::Bars),
        ("key", Self::Key),
        ("dim", Self::Dim),
        ("tab", Self::Tab),
    ];

    fn style(self) -> Style {
        let (colour, modifier) = match self {
            Self::Title => (None, Modifier::BOLD),
            Self::Header => (Some(Color::Cyan), Modifier::BOLD.union(Modifier::UNDERLINED)),
            Self::Selected => (None, Modifier::REVERSED),
            Self::Marked => (Some(Color::Magenta), Modifier::BOLD),
            Self::Warning => (Some(Color::Red), Modifier::BOLD),
            Self::Bars => (Some(Color::Green), Modifier::empty()),
            Self::Key => (Some(Color::Cyan), Modifier::BOLD),
            Self::Dim => (None, Modifier::DIM),
            Self::Tab => (Some(Color::Cyan), Modifier::REVERSED.union(Modifier::BOLD)),
        };
        let style = Style::new().add_modifier(modifier);
        colour.map_or(style, |colour| style.fg(colour))
    }
}

impl Default for Theme {
    fn default() -> Self {
        Self { styles: Role::ALL.map(|(_, role)| role.style()) }
    }
}

impl Theme {
    /// The same in another colour for a role.
    pub fn set(&mut self, role: Role, colour: Color) {
        let style = &mut self.styles[role as usize];
        *style = style.fg(colour);
    }

    /// The same without any colour (<https://no-color.org>).
    #[must_use]
    pub fn without_colours(mut self) -> Self {
        for style in &mut self.styles {
            (style.fg, style.bg) = (None, None);
        }
        self
    }

    pub(super) fn of(&self, role: Role) -> Style {
        self.styles[role as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_where_they_are_looked_for() {
        for (at, (_, role)) in Role::ALL.into_iter().enumerate() {
            assert_eq!(role as usize, at);
        }
    }

    #[test]
    fn colour_is_not_all_there_is() {
        let theme = Theme::default().without_colours();
        for (name, role) in Role::ALL {
            let style = theme.of(role);
            assert_eq!((style.fg, style.bg), (None, None));
            assert!(!style.add_modifier.is_empty() || role == Role::Bars, "{name}");
        }
    }
}

//! Styles by role. Roles are distinguished by bold, dim, reverse or underline; colours are an addition. They are among
//! the terminal's own sixteen, so they are readable on dark and light backgrounds.

use ratatui::style::{Color, Modifier, Style};

/// Part of the screen with its own style.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The title line, headings and messages.
    Title,
    /// Titles of columns and charts.
    Header,
    /// The selected row.
    Selected,
    /// Marked rows, and the filter.
    Marked,
    /// Banners and findings.
    Warning,
    /// Bars of trends and distributions.
    Bars,
    /// Keys in the help and in hints.
    Key,
    /// Secondary text: axes, ended VMs, tabs without rows.
    Dim,
    /// The selected tab, and the tags for replay and pause.
    Tab,
}

/// Styles of all roles.
#[derive(Clone, Debug, PartialEq)]
pub struct Theme {
    styles: [Style; Role::ALL.len()],
}

impl Role {
    /// All roles, with their names in the configuration file.
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
    /// Sets the colour of a role.
    pub fn set(&mut self, role: Role, colour: Color) {
        let style = &mut self.styles[role as usize];
        *style = style.fg(colour);
    }

    /// The theme without colours (<https://no-color.org>).
    #[must_use]
    pub fn without_colours(mut self) -> Self {
        for style in &mut self.styles {
            (style.fg, style.bg) = (None, None);
        }
        self
    }

    /// Style of a role.
    pub(super) fn of(&self, role: Role) -> Style {
        self.styles[role as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn role_number_is_its_index_in_all() {
        for (at, (_, role)) in Role::ALL.into_iter().enumerate() {
            assert_eq!(role as usize, at);
        }
    }

    #[test]
    fn theme_without_colours_distinguishes_roles_by_modifiers() {
        let theme = Theme::default().without_colours();
        for (name, role) in Role::ALL {
            let style = theme.of(role);
            assert_eq!((style.fg, style.bg), (None, None));
            assert!(!style.add_modifier.is_empty() || role == Role::Bars, "{name}");
        }
    }
}

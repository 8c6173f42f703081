//! Enums with named values: command-line arguments, the configuration file and outputs use the same
//! names.

/// An enum with a table of names, from which arguments, help texts, completions and messages are
/// generated.
pub trait Choice: Copy + PartialEq + 'static {
    /// All values in listing order, each with its name and a line of help.
    const CHOICES: &'static [(Self, &'static str, &'static str)];

    /// Name of this value; empty for a value that cannot be chosen.
    fn name(self) -> &'static str {
        Self::CHOICES.iter().find(|(choice, ..)| *choice == self).map_or("", |(_, name, _)| name)
    }

    /// Second name, which is accepted and not listed.
    fn alias(self) -> Option<&'static str> {
        None
    }

    /// Returns the value with a name or alias.
    ///
    /// # Errors
    /// No value has the name; the message lists the names.
    fn from_name(name: &str) -> Result<Self, String> {
        let is_named = |choice: Self, known: &str| known == name || choice.alias() == Some(name);
        let found = Self::CHOICES.iter().find(|(choice, known, _)| is_named(*choice, known));
        found.map(|(choice, ..)| *choice).ok_or_else(|| {
            let known: Vec<&str> = Self::CHOICES.iter().map(|(_, name, _)| *name).collect();
            format!("'{name}' is unknown: use one of {}", known.join(", "))
        })
    }
}

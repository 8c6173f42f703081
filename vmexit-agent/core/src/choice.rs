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

    /// The value of a name.
    ///
    /// # Errors
    /// No value has this name; the message lists the names.
    fn from_name(name: &str) -> Result<Self, String> {
        let found = Self::CHOICES.iter().find(|(_, known, _)| *known == name);
        found.map(|(choice, ..)| *choice).ok_or_else(|| {
            let known: Vec<&str> = Self::CHOICES.iter().map(|(_, name, _)| *name).collect();
            format!("expected one of {}", known.join(", "))
        })
    }
}

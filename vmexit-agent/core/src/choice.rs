//! Enums whose values have names: in arguments, in the configuration file and in outputs.

/// An enum with a table of names. Arguments, help texts, completions and messages all come from that table.
pub trait Choice: Copy + PartialEq + 'static {
    /// All values in the order in which they are listed, each with its name and a line of help.
    const CHOICES: &'static [(Self, &'static str, &'static str)];

    /// The name of this value; empty for a value that cannot be chosen.
    fn name(self) -> &'static str {
        Self::CHOICES.iter().find(|(choice, ..)| *choice == self).map_or("", |(_, name, _)| name)
    }

    /// The value of a name.
    ///
    /// # Errors
    /// A name that is not in the table; the error lists those that are.
    fn from_name(name: &str) -> Result<Self, String> {
        let found = Self::CHOICES.iter().find(|(_, known, _)| *known == name);
        found.map(|(choice, ..)| *choice).ok_or_else(|| {
            let known: Vec<&str> = Self::CHOICES.iter().map(|(_, name, _)| *name).collect();
            format!("one of {} is expected", known.join(", "))
        })
    }
}

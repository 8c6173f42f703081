//! Arguments with a fixed set of values.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use vmexit_core::choice::Choice;

/// Returns a parser of the names of an enum. clap lists them in help texts and completions.
pub(crate) fn choice<T: Choice + Send + Sync>() -> impl TypedValueParser<Value = T> {
    let names = T::CHOICES.iter().map(|&(choice, name, help)| {
        // clap hides aliases.
        PossibleValue::new(name).help(help).aliases(choice.alias())
    });
    PossibleValuesParser::new(names).try_map(|name| T::from_name(&name))
}

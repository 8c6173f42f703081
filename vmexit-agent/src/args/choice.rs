//! Arguments with a fixed set of values.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use vmexit_core::choice::Choice;

/// Parser of the names of an enum. clap lists them in help texts and completions.
pub(crate) fn choice<T: Choice + Send + Sync>() -> impl TypedValueParser<Value = T> {
    let names = T::CHOICES.iter().map(|&(_, name, help)| PossibleValue::new(name).help(help));
    PossibleValuesParser::new(names).try_map(|name| T::from_name(&name))
}

//! Arguments that are one of a few names.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use vmexit_core::choice::Choice;

/// A parser of the names of an enum, which clap lists in help texts and completions.
pub(crate) fn choice<T: Choice + Send + Sync>() -> impl TypedValueParser<Value = T> {
    let names = T::CHOICES.iter().map(|&(_, name, help)| PossibleValue::new(name).help(help));
    PossibleValuesParser::new(names).try_map(|name| T::from_name(&name))
}

//! The live view: reports and what the terminal sends come in, a drawn frame and what is to be done go
//! out. Nothing here reads a map, a clock or a terminal.

mod areas;
mod columns;
mod draw;
mod input;
pub mod keys;
mod state;
#[cfg(test)]
mod tests;
mod theme;
mod value;

pub use self::{
    columns::{Column, Set},
    draw::draw,
    state::{Action, Effect, FrameData, Item, Settings, State},
    theme::{Role, Theme},
};

//! The live view as a state machine: reports and terminal events are its input, drawn frames and [`Effect`]s its output.
//! It reads no map, clock or terminal.

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

//! What can be done to a live view, and what the view asks of whoever runs it.

/// Something that a key or the mouse does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Selects the row above.
    Up,
    /// Selects the row below.
    Down,
    /// Goes up by as many rows as fit.
    PageUp,
    /// Goes down by as many rows as fit.
    PageDown,
    /// Selects the first row.
    First,
    /// Selects the last row.
    Last,
    /// Opens the selected row.
    Open,
    /// Closes whatever was opened last.
    Back,
    /// Goes to the next table of a VM that has rows.
    NextTab,
    /// Goes to the previous one.
    PreviousTab,
    /// Goes to a table by its number, 1 for the first.
    Tab(usize),
    /// Begins to type what rows must have in their names.
    Filter,
    /// Orders rows by the next column.
    Sort,
    /// Reverses their order.
    Reverse,
    /// Freezes what is shown, or lets it go on.
    Pause,
    /// Marks the selected row, or no longer.
    Mark,
    /// Counts from now on.
    Reset,
    /// In what was recorded: shows the next interval.
    Forward,
    /// The same back.
    Backward,
    /// Looks less often.
    Slower,
    /// Looks more often.
    Faster,
    /// Shows what has been since the baseline, or in the last interval.
    Cumulative,
    /// Shows times and numbers themselves, or their shares.
    Absolute,
    /// Shows what is known to be wrong.
    Findings,
    /// Writes the report to a file.
    Save,
    /// Shows what keys do.
    Help,
    /// Draws everything anew.
    Redraw,
    /// Gives the terminal back to the shell for a while.
    Suspend,
    /// Ends.
    Quit,
}

/// What is to be done by whoever runs the view, before it is drawn again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// Reports are to be made anew from what was read: [`State::refresh`](super::State::refresh).
    Show,
    /// The same after another reading: durations are wanted that were not read before.
    Refresh,
    /// The counters are to be read as the new baseline.
    Reset,
    /// The next interval of what was recorded is to be shown, or the one before.
    Step {
        /// The next one.
        on: bool,
    },
    /// The time between two readings has changed.
    Interval,
    /// What is shown is to be written to a file.
    Save,
    /// Everything is to be drawn anew.
    Redraw,
    /// The terminal goes back to the shell until the process is continued.
    Suspend,
    /// It is over.
    Quit,
}

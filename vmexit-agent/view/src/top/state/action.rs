//! Actions of the user, and effects that the caller of the live view carries out.

/// Action of a key or the mouse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Selects the row above.
    Up,
    /// Selects the row below.
    Down,
    /// Moves the selection up by one screen.
    PageUp,
    /// Moves the selection down by one screen.
    PageDown,
    /// Selects the first row.
    First,
    /// Selects the last row.
    Last,
    /// Opens the selected row.
    Open,
    /// Removes the filter, or closes the screen opened last.
    Back,
    /// Switches to the VM's next table that has rows.
    NextTab,
    /// Switches to the VM's previous table that has rows.
    PreviousTab,
    /// Switches to a table by its number, from 1.
    Tab(usize),
    /// Starts to type a filter for the rows' names.
    Filter,
    /// Sorts by the next column.
    Sort,
    /// Reverses the sort order.
    Reverse,
    /// Freezes the screen, or continues.
    Pause,
    /// Marks the selected row, or removes its mark.
    Mark,
    /// Makes the present the baseline of cumulative figures.
    Reset,
    /// Shows the next interval of a recording.
    Forward,
    /// Shows the previous interval of a recording.
    Backward,
    /// Lengthens the interval between readings.
    Slower,
    /// Shortens the interval between readings.
    Faster,
    /// Switches between figures since the baseline and those of the last interval.
    Cumulative,
    /// Switches between absolute figures and shares.
    Absolute,
    /// Shows the findings of the open or selected VM.
    Findings,
    /// Writes a recording to a file.
    Save,
    /// Shows the keys.
    Help,
    /// Redraws the screen.
    Redraw,
    /// Stops the process, as Ctrl-Z does in other programs.
    Suspend,
    /// Quits.
    Quit,
}

/// Work for the caller of the live view, before the next frame is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// No work.
    None,
    /// Build the reports of the last readings again, and call [`State::refresh`](super::State::refresh).
    Show,
    /// Read the counters again, now with durations that were not read before, then as for `Show`.
    Refresh,
    /// Read the counters as the new baseline.
    Reset,
    /// Show another interval of the recording.
    Step {
        /// Whether it is the next interval; otherwise the previous one.
        forward: bool,
    },
    /// Apply the new interval between readings.
    Interval,
    /// Write a recording to a file.
    Save,
    /// Redraw the whole screen.
    Redraw,
    /// Restore the terminal and stop the process until it is continued.
    Suspend,
    /// Quit.
    Quit,
}

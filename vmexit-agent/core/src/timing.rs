//! Choice of exits to time. All exits are counted regardless.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

const VARIES: &str = "varies";

/// Comparison of the shares of timed exits of two intervals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shares {
    /// Equal: counters and times can be added as they are.
    Same,
    /// Different: each interval's timed exits represent the exits of that interval only.
    Different,
}

/// Exits that are timed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Timing {
    /// All exits.
    #[default]
    All,
    /// A random one in N; N is at least 2.
    OneIn(u32),
    /// No exits: the lowest cost.
    Off,
    /// Different shares at different times; only the result of adding intervals.
    Varies,
}

impl Timing {
    /// Largest N of 1/N.
    pub const MAX_N: u32 = 1_000_000;

    /// Share of exits to time, in units of 1/2^32, as the kernel side compares it.
    pub const fn share(self) -> u32 {
        match self {
            Self::All | Self::Varies => u32::MAX,
            Self::OneIn(n) => u32::MAX / n,
            Self::Off => 0,
        }
    }

    /// Share of exits to time, from 0 to 1; 1 for [`Self::Varies`].
    pub fn ratio(self) -> f64 {
        match self {
            Self::All | Self::Varies => 1.0,
            Self::OneIn(n) => 1.0 / f64::from(n),
            Self::Off => 0.0,
        }
    }

    /// Timing of two consecutive intervals together.
    pub fn and(self, next: Self) -> Self {
        if self == next { self } else { Self::Varies }
    }

    /// Comparison with the next interval's timing.
    pub fn shares(self, next: Self) -> Shares {
        if self == next { Shares::Same } else { Shares::Different }
    }
}

impl FromStr for Timing {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected all, off or 1/N with N up to {}", Self::MAX_N);
        match text {
            "all" => Ok(Self::All),
            "off" => Ok(Self::Off),
            _ => match text.strip_prefix("1/").and_then(|n| n.parse().ok()).ok_or_else(wrong)? {
                1 => Ok(Self::All),
                n @ 2..=Self::MAX_N => Ok(Self::OneIn(n)),
                _ => Err(wrong()),
            },
        }
    }
}

impl fmt::Display for Timing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => formatter.write_str("all"),
            Self::OneIn(n) => write!(formatter, "1/{n}"),
            Self::Off => formatter.write_str("off"),
            Self::Varies => formatter.write_str(VARIES),
        }
    }
}

impl Serialize for Timing {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timing {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == VARIES {
            return Ok(Self::Varies);
        }
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timing_is_parsed_and_displayed_as_typed() {
        for (text, timing) in [
            ("all", Timing::All),
            ("1/1", Timing::All),
            ("1/100", Timing::OneIn(100)),
            ("off", Timing::Off),
        ] {
            assert_eq!(text.parse(), Ok(timing));
        }
        for bad in ["", "1/0", "1/", "0", "2/3", "1/-1", "1/99999999"] {
            assert!(bad.parse::<Timing>().is_err(), "{bad}");
        }
        assert_eq!(Timing::OneIn(64).to_string(), "1/64");
    }
}

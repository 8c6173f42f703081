//! Parsers of durations, sizes and percentages in arguments.

use std::time::Duration;

use bytesize::ByteSize;

/// Longest duration. `vmexit record` has no limit.
const LONGEST: Duration = Duration::from_secs(31 * 24 * 3600);

/// Parses the length of a capture.
///
/// # Errors
/// The text is not a duration, or out of range; the message is for the user.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    // A number without a unit is in seconds, as for `sleep`.
    let parsed = match text.parse::<u32>() {
        Ok(seconds) => Duration::from_secs(seconds.into()),
        Err(_) => humantime::parse_duration(text)
            .map_err(|error| format!("{error}; write it like 10s, 1m30s or 500ms"))?,
    };
    if parsed.is_zero() || parsed > LONGEST {
        return Err("the duration must be longer than 0 and at most 31 days".into());
    }
    Ok(parsed)
}

/// Parses the length of an interval.
///
/// # Errors
/// Those of [`parse_duration`], or the interval is out of range.
pub(crate) fn parse_interval(text: &str) -> Result<Duration, String> {
    const SHORTEST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(3600);
    let parsed = parse_duration(text)?;
    if (SHORTEST..=LONGEST).contains(&parsed) {
        Ok(parsed)
    } else {
        Err("the interval must be between 100ms and 1h".into())
    }
}

/// Parses a size in bytes.
///
/// # Errors
/// The text is not a size, or too small.
pub(crate) fn parse_size(text: &str) -> Result<ByteSize, String> {
    const SMALLEST: ByteSize = ByteSize::mib(1);
    match text.parse() {
        Ok(size) if size >= SMALLEST => Ok(size),
        Ok(_) => Err("the size must be at least 1MiB".into()),
        Err(_) => Err("write it like 500MB or 1GiB".into()),
    }
}

/// Parses a percentage, with or without the sign.
///
/// # Errors
/// The text is not a percentage, or out of range.
pub(crate) fn parse_percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim_end();
    match number.parse() {
        Ok(percent) if (0.01..=100.0).contains(&percent) => Ok(percent),
        _ => Err("write it like 0.5%, from 0.01% to 100%".into()),
    }
}

/// Parses the shortest duration of a slow exit; a number without a unit is an error.
///
/// # Errors
/// The text is not a duration, or too long.
pub(crate) fn parse_threshold(text: &str) -> Result<Duration, String> {
    let parsed = humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write it like 500us, 1ms or 2s"))?;
    if parsed > LONGEST {
        return Err("the threshold must be at most 31 days".into());
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_duration_accepts_units_and_rejects_out_of_range() {
        assert_eq!(parse_duration("10"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        for bad in ["", "0", "0s", "-1s", "ten", "2months"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn parse_interval_rejects_out_of_range() {
        assert_eq!(parse_interval("2"), Ok(Duration::from_secs(2)));
        assert_eq!(parse_interval("100ms"), Ok(Duration::from_millis(100)));
        for bad in ["0", "99ms", "2h", "often"] {
            assert!(parse_interval(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn parse_percent_accepts_sign_and_rejects_out_of_range() {
        for text in ["0.5%", "0.5", "0.5 %"] {
            assert_eq!(parse_percent(text), Ok(0.5));
        }
        for bad in ["", "%", "0", "-1%", "101%", "NaN", "inf"] {
            assert!(parse_percent(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn parse_size_rejects_below_one_mebibyte() {
        assert_eq!(parse_size("1GiB"), Ok(ByteSize::gib(1)));
        assert_eq!(parse_size("500 MB"), Ok(ByteSize::mb(500)));
        for bad in ["", "0", "1kB", "much", "-1GB"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn parse_threshold_requires_unit() {
        assert_eq!(parse_threshold("1ns"), Ok(Duration::from_nanos(1)));
        assert_eq!(parse_threshold("20us"), Ok(Duration::from_micros(20)));
        assert_eq!(parse_threshold("0s"), Ok(Duration::ZERO));
        for bad in ["", "10", "fast", "2months"] {
            assert!(parse_threshold(bad).is_err(), "{bad}");
        }
    }
}

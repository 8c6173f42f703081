//! Parsers of times in arguments: time of day, date, or a duration ago. Local time unless a time zone is given.

use std::time::SystemTime;

use jiff::{Timestamp, Zoned, civil};
use vmexit_core::store::archive::Period;

/// Error message with the accepted forms.
const FORMS: &str =
    "write it like 03:12, '2026-11-23 03:12', 2026-11-23T03:12:00Z or 2h for two hours ago";

/// Parses a time.
///
/// # Errors
/// The text is not a time after 1970; the message is for the user.
pub(crate) fn parse_time(text: &str) -> Result<SystemTime, String> {
    time(text, &Zoned::now())
}

/// Parses a period: `02:00..03:00`, `02:00..` or `..03:00`.
///
/// # Errors
/// The text is not a period, or it ends before it begins.
pub(crate) fn parse_period(text: &str) -> Result<Period, String> {
    period(text, &Zoned::now())
}

fn period(text: &str, now: &Zoned) -> Result<Period, String> {
    let (since, until) = text
        .split_once("..")
        .ok_or("a period is two times with .. between them, like 02:00..03:00")?;
    let end = |text: &str| (!text.is_empty()).then(|| time(text, now)).transpose();
    let period = Period { since: end(since)?, until: end(until)? };
    check_period(period)?;
    Ok(period)
}

/// Checks that a period ends after it begins.
///
/// # Errors
/// The period ends before it begins; the message is for the user.
pub(crate) fn check_period(period: Period) -> Result<(), String> {
    match (period.since, period.until) {
        (Some(since), Some(until)) if since >= until => {
            Err("the period ends before it begins".into())
        }
        _ => Ok(()),
    }
}

fn time(text: &str, now: &Zoned) -> Result<SystemTime, String> {
    let time = any_time(text, now)?;
    if time < SystemTime::UNIX_EPOCH { Err(FORMS.to_owned()) } else { Ok(time) }
}

fn any_time(text: &str, now: &Zoned) -> Result<SystemTime, String> {
    if let Ok(ago) = humantime::parse_duration(text) {
        return SystemTime::from(now.timestamp()).checked_sub(ago).ok_or_else(|| FORMS.into());
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time.into());
    }
    let zoned = |date: civil::DateTime| {
        date.to_zoned(now.time_zone().clone()).map_err(|_| FORMS.to_owned())
    };
    if let Ok(date) = text.parse() {
        return Ok(zoned(date)?.timestamp().into());
    }
    let time: civil::Time = text.parse().map_err(|_| FORMS)?;
    // The latest such time of day in the past.
    let today = zoned(now.date().to_datetime(time))?;
    if today <= *now {
        return Ok(today.timestamp().into());
    }
    let yesterday = now.date().yesterday().map_err(|_| FORMS)?;
    Ok(zoned(yesterday.to_datetime(time))?.timestamp().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Result<String, String> {
        let now: Zoned = "2026-11-23T09:30:00+01:00[+01:00]".parse().unwrap();
        time(text, &now).map(|time| humantime::format_rfc3339_seconds(time).to_string())
    }

    #[test]
    fn parse_time_is_local_and_in_the_past() {
        for (text, utc) in [
            ("03:12", "2026-11-23T02:12:00Z"),
            ("03:12:30", "2026-11-23T02:12:30Z"),
            ("23:50", "2026-11-22T22:50:00Z"),
            ("2026-11-20 03:12", "2026-11-20T02:12:00Z"),
            ("2026-07-20", "2026-07-19T23:00:00Z"),
            ("2026-11-20T03:12:00Z", "2026-11-20T03:12:00Z"),
            ("2026-11-20T03:12:00+05:00", "2026-11-19T22:12:00Z"),
            ("2h", "2026-11-23T06:30:00Z"),
            ("1day 30m", "2026-11-22T08:00:00Z"),
        ] {
            assert_eq!(at(text).as_deref(), Ok(utc), "{text}");
        }
        for bad in ["", "noon", "25:00", "2026-13-01", "100000years"] {
            assert_eq!(at(bad), Err(FORMS.to_owned()), "{bad}");
        }
    }

    #[test]
    fn parse_period_accepts_open_ends() {
        let now: Zoned = "2026-11-23T09:30:00+01:00[+01:00]".parse().unwrap();
        assert!(period("23:50..00:10", &now).is_ok());
        assert!(period("02:00..", &now).unwrap().until.is_none());
        assert!(period("..2h", &now).unwrap().since.is_none());
        assert!(period("03:00..02:00", &now).is_err());
        assert!(period("03:00", &now).is_err());
    }
}

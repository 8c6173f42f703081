//! Formatting of numbers for people.

/// Three or four digits and a unit: `64 ns`, `5.96 µs`, `12.3 ms`, `9.98 s`.
pub fn duration(ns: u64) -> String {
    const UNITS: [(f64, &str); 3] = [(1e3, "µs"), (1e6, "ms"), (1e9, "s")];
    // A value that rounds up to the next unit is displayed in that unit.
    let unit = UNITS.iter().rev().find(|(unit, _)| ns as f64 >= unit * 0.9995);
    match unit {
        Some((unit, name)) => format!("{} {name}", three_digits(ns as f64 / unit)),
        None => format!("{ns} ns"),
    }
}

fn three_digits(value: f64) -> String {
    let decimals = if value < 9.995 {
        2
    } else if value < 99.95 {
        1
    } else {
        0
    };
    format!("{value:.decimals$}")
}

/// A number with commas between thousands: `1,234,567`.
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut shown = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// A rate per second: whole numbers from 10 on, one decimal below.
pub fn rate(per_second: f64) -> String {
    if per_second >= 9.95 { count(per_second.round() as u64) } else { format!("{per_second:.1}") }
}

/// A percentage as in `perf kvm stat`: `72.97%`.
pub fn percent(percent: f64) -> String {
    format!("{percent:.2}%")
}

/// A number and its unit in singular or plural: `1 vCPU`, `2 vCPUs`, `2 processes`.
pub fn plural(number: u64, one: &str) -> String {
    let ending = match number {
        1 => "",
        _ if one.ends_with('s') => "es",
        _ => "s",
    };
    format!("{} {one}{ending}", count(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duration_has_three_digits_and_unit() {
        let shown = [
            (0, "0 ns"),
            (64, "64 ns"),
            (999, "999 ns"),
            (1_000, "1.00 µs"),
            (5_960, "5.96 µs"),
            (99_960, "100 µs"),
            (999_600, "1.00 ms"),
            (12_340_000, "12.3 ms"),
            (9_980_000_000, "9.98 s"),
            (123_000_000_000, "123 s"),
        ];
        for (ns, text) in shown {
            assert_eq!(duration(ns), text);
        }
    }

    #[test]
    fn count_and_rate_have_thousands_separators() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(rate(0.25), "0.2");
        assert_eq!(rate(2_626.4), "2,626");
        assert_eq!(plural(1, "vCPU"), "1 vCPU");
        assert_eq!(plural(2_000, "vCPU"), "2,000 vCPUs");
        assert_eq!(plural(2, "process"), "2 processes");
    }
}

//! The same text as those read it who do not know OpenMetrics: Prometheus's own format, in which a counter's
//! family has the name of its samples, and there are no units and no end.

use std::collections::BTreeSet;

/// From OpenMetrics text.
pub(super) fn classic(text: &str) -> String {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let counters: BTreeSet<&str> = types.filter_map(|line| line.strip_suffix(" counter")).collect();
    let mut out = String::with_capacity(text.len() + 1024);
    for line in text.lines() {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        let family = line.strip_prefix("# ").and_then(|line| {
            let mut words = line.splitn(3, ' ');
            Some((words.next()?, words.next()?, words.next()?))
        });
        match family {
            Some((word, name, rest)) if counters.contains(name) => {
                out.extend(["# ", word, " ", name, "_total ", rest]);
            }
            _ => out.push_str(line),
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_called_as_their_samples() {
        let open = "# HELP a_seconds Time.\n# TYPE a_seconds counter\n# UNIT a_seconds seconds\n\
                    a_seconds_total{vm=\"x\"} 1.5\n# HELP b Or not.\n# TYPE b gauge\nb 1\n# EOF\n";
        let classic_text = "# HELP a_seconds_total Time.\n# TYPE a_seconds_total counter\n\
                            a_seconds_total{vm=\"x\"} 1.5\n# HELP b Or not.\n# TYPE b gauge\nb 1\n";
        assert_eq!(classic(open), classic_text);
    }
}

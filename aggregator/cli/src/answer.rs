//! Answers of statistics, as people read them: an estimate and its interval a line. docs/statistics.md
//!
//! In comes what `veilsum_aggregator::task::query::Answer` is as JSON, from this program or from a service.

use serde_json::Value;

use crate::admin::number;
use crate::output::table;

/// As lines, without an indent.
pub fn in_words(answer: &Value) -> Vec<String> {
    let level = answer["level"].as_f64().unwrap_or(0.0) * 100.0;
    let mut lines = vec![format!(
        "{}: over {} clients; all intervals together hold with a confidence of {}",
        number(&answer["query"]),
        number(&answer["clients"]),
        percent(level)
    )];
    if let Some(told_above) = answer["threshold"]["told_above"].as_f64() {
        let missing = answer["threshold"]["none_missing_above"].as_f64().unwrap_or(0.0);
        lines.push(format!(
            "told are entries whose noisy count is above {told_above:.1}; none is missing that occurs more than {missing:.1} times"
        ));
    }
    let none = Vec::new();
    let figures = answer["figures"].as_array().unwrap_or(&none);
    if figures.is_empty() {
        lines.push("no entry is above the noise".to_string());
        return lines;
    }
    let row = |figure: &Value| {
        let [low, high] = ["low", "high"].map(|end| figure[end].as_f64().unwrap_or(f64::NAN));
        let shown = |value: f64| decimal(value, high - low);
        let estimate = figure["estimate"].as_f64().map_or("within the noise".to_string(), shown);
        vec![number(&figure["of"]), estimate, shown(low), shown(high)]
    };
    let rows: Vec<Vec<String>> = figures.iter().map(row).collect();
    lines.extend(table(&["of", "estimate", "from", "to"], &rows).lines().map(str::to_string));
    lines
}

/// As many decimals as an interval of this width deserves: its third digit.
pub fn decimal(value: f64, width: f64) -> String {
    let decimals = if width > 0.0 { (2.0 - width.log10().floor()).clamp(0.0, 12.0) as usize } else { 3 };
    format!("{value:.decimals$}")
}

/// `95 %`.
fn percent(value: f64) -> String {
    format!("{} %", (value * 1e6).round() / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn figures_have_the_decimals_that_their_interval_deserves() {
        assert_eq!([decimal(41.23456, 6.5), decimal(1234.567, 800.0), decimal(2.0, 0.0)], ["41.23", "1235", "2.000"]);
        let figures = json!([{ "of": "mean", "estimate": 41.5, "low": 38.0, "high": 45.0 }, { "of": "x", "estimate": null, "low": 0.0, "high": 9.0 }]);
        let said = in_words(&json!({ "query": "the mean", "clients": 7, "level": 0.95, "figures": figures }));
        assert_eq!(said[0], "the mean: over 7 clients; all intervals together hold with a confidence of 95 %");
        assert!(
            said[2].contains("41.50") && said[2].contains("45.00") && said[3].contains("within the noise"),
            "{said:?}"
        );
        let nobody = json!({ "figures": [], "threshold": { "told_above": 12.0, "none_missing_above": 24.0 } });
        assert_eq!(in_words(&nobody)[2], "no entry is above the noise");
    }
}

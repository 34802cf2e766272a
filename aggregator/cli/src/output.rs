//! What commands print: words for people, or with `--json` one object on stdout and nothing else.

use std::io::{ErrorKind, Write as _};

use anyhow::Result;
use serde::Serialize;

/// Who reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Output {
    /// Words.
    Words,
    /// One JSON object.
    Json,
}

impl Output {
    /// As `--json` says.
    pub fn of(json: bool) -> Self {
        if json { Self::Json } else { Self::Words }
    }

    /// Prints the outcome of a command, once.
    pub fn give<T: Serialize>(self, outcome: &T, words: impl FnOnce(&T) -> String) -> Result<()> {
        let text = match self {
            Self::Words => words(outcome),
            Self::Json => serde_json::to_string(outcome)?,
        };
        match writeln!(std::io::stdout().lock(), "{text}") {
            // Who read has seen enough: `veilsum task list | head -3`.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            written => Ok(written?),
        }
    }

    /// Tells people what goes on; programs are told the outcome only.
    pub fn say(self, words: &str) {
        if self == Self::Words {
            let _ = writeln!(std::io::stdout().lock(), "{words}"); // nobody may be there any more
        }
    }
}

/// "2026-01-01 00:00:00 UTC". Proleptic Gregorian calendar, leap seconds as Unix time has them.
pub fn utc(us: u64) -> String {
    let seconds = us / 1_000_000;
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    // Counted in years that begin in March, in eras of 400 years from 0000-03-01.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + next;
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day_of_month:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// Columns as wide as their widest cell; numbers to the right.
pub fn table(heading: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([heading[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heading.len()).map(width).collect();
    let is_number = |column: usize| {
        let mut cells = rows.iter().filter_map(|row| row.get(column)).filter(|cell| *cell != "-").peekable();
        cells.peek().is_some()
            && cells.all(|cell| cell.starts_with(|first: char| first.is_ascii_digit() && cell.len() < 15))
    };
    let right: Vec<bool> = (0..heading.len()).map(is_number).collect();
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().enumerate().map(|(column, cell)| {
            let width = widths[column];
            if right[column] { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_string()
    };
    let mut lines = vec![line(heading.to_vec())];
    lines.extend(rows.iter().map(|row| line(row.iter().map(String::as_str).collect())));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_400_000_000), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(1_767_225_599_000_000), "2025-12-31 23:59:59 UTC");
        assert_eq!(utc(4_107_542_400_000_000), "2100-03-01 00:00:00 UTC");
    }

    #[test]
    fn columns_stand_under_their_headings() {
        let rows = vec![vec!["a".to_string(), "7".to_string()], vec!["long".to_string(), "-".to_string()]];
        assert_eq!(table(&["name", "count"], &rows), "name  count\na         7\nlong      -");
    }
}

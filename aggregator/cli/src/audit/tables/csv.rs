//! The format of the reference tables: comma-separated, a header line, no quotes. Nothing in a file is a reason to stop:
//! what does not fit becomes a row that fails.

/// A table as it stands in its file.
pub struct Table {
    /// The names of the columns.
    pub header: Vec<String>,
    /// The rows, blank lines left out.
    pub rows: Vec<Row>,
}

/// One row.
pub struct Row {
    /// Its `id`; `line 7` in a table that has none.
    pub id: String,
    /// Its cells, as many as the line has.
    pub cells: Vec<String>,
}

impl Table {
    /// Splits a file up.
    pub fn read(text: &str) -> Self {
        let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let split = |line: &str| line.split(',').map(|cell| cell.trim().to_string()).collect::<Vec<_>>();
        let header = lines.next().map(|(_, line)| split(line.trim_start_matches('\u{feff}'))).unwrap_or_default();
        let id_column = header.iter().position(|name| name == "id");
        let rows = lines
            .map(|(at, line)| {
                let cells = split(line);
                let id = id_column.and_then(|column| cells.get(column)).filter(|id| !id.is_empty());
                Row { id: id.cloned().unwrap_or_else(|| format!("line {}", at + 1)), cells }
            })
            .collect();
        Self { header, rows }
    }

    /// Rows that were taken out: gaps in ids that end in consecutive numbers. Where more than one id in ten does not follow
    /// the one before it, the numbers are no sequence, and nothing is missing.
    pub fn missing_ids(&self) -> Vec<String> {
        let numbered: Vec<(&str, u64, usize)> = self.rows.iter().filter_map(|row| split_number(&row.id)).collect();
        let follows =
            |pair: &[(&str, u64, usize)]| pair[0].0 == pair[1].0 && pair[0].1.checked_add(1) == Some(pair[1].1);
        let following = numbered.windows(2).filter(|pair| follows(pair)).count();
        if numbered.len() < 2 || numbered.len() != self.rows.len() || following * 10 < (numbered.len() - 1) * 9 {
            return Vec::new();
        }
        let mut expected = 0;
        let mut missing = Vec::new();
        for (stem, number, digits) in numbered {
            missing.extend((expected..number).take(100).map(|lost| format!("{stem}{lost:0digits$}")));
            expected = number + 1;
        }
        missing
    }
}

/// `zcdp-p0007` is (`zcdp-p`, 7, 4).
fn split_number(id: &str) -> Option<(&str, u64, usize)> {
    let stem = id.trim_end_matches(|c: char| c.is_ascii_digit());
    let digits = &id[stem.len()..];
    if stem.starts_with("line ") {
        return None;
    }
    Some((stem, digits.parse().ok()?, digits.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &str) -> Table {
        Table::read(&format!("id,x\n{rows}"))
    }

    #[test]
    fn rows_keep_their_ids_and_their_lines() {
        let table = Table::read("\u{feff}id,x\r\na-p0000,1\r\n\r\n,2\r\n");
        assert_eq!(table.header, ["id", "x"]);
        assert_eq!((table.rows[0].id.as_str(), table.rows[1].id.as_str()), ("a-p0000", "line 4"));
        assert!(Table::read("").header.is_empty());
    }

    #[test]
    fn a_row_taken_out_of_a_sequence_is_missed() {
        let all: Vec<String> = (0..20).map(|i| format!("a-p{i:04},1")).collect();
        assert!(table(&all.join("\n")).missing_ids().is_empty());
        let without = [&all[..7], &all[8..]].concat().join("\n");
        assert_eq!(table(&without).missing_ids(), ["a-p0007"]);
        assert_eq!(table(&all[1..].join("\n")).missing_ids(), ["a-p0000"]);
        let sample: Vec<String> = all.iter().step_by(2).cloned().collect();
        assert!(table(&sample.join("\n")).missing_ids().is_empty());
        assert!(table("9,1\n").missing_ids().is_empty());
    }
}

//! `tests/attacks.csv`: what is to be attacked, how, and what must come of it.

/// The catalogue as it stands in the repository.
const TEXT: &str = include_str!("../attacks.csv");
/// Issues whose rows are played here; the other rows wait for what they attack.
pub const PLAYED: [&str; 3] = ["core", "training", "aggregator"];

/// One row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// A letter for the family, two digits.
    pub id: String,
    /// Who is to play it.
    pub issue: String,
    /// What is threatened.
    pub threat: String,
    /// What the attacker does.
    pub attack: String,
    /// What stands against it.
    pub defence: String,
    /// When it counts as repelled.
    pub criterion: String,
}

impl Row {
    /// Whether it is played here.
    pub fn is_played(&self) -> bool {
        PLAYED.contains(&self.issue.as_str())
    }

    /// Defence and criterion, as one expectation.
    pub fn expected(&self) -> String {
        match self.criterion.as_str() {
            "-" => self.defence.clone(),
            criterion => format!("{}; {criterion}", self.defence),
        }
    }
}

/// All rows, in the order of the file.
pub fn rows() -> Vec<Row> {
    let mut lines = TEXT.lines();
    assert_eq!(
        lines.next(),
        Some("id,issue,threat,attack_to_run,expected_defence,pass_criterion,source"),
        "the columns of tests/attacks.csv"
    );
    lines.filter(|line| !line.is_empty()).map(row_of).collect()
}

/// The row with this id.
pub fn row(id: &str) -> Option<Row> {
    rows().into_iter().find(|row| row.id == id)
}

fn row_of(line: &str) -> Row {
    let cells = cells(line);
    let [id, issue, threat, attack, defence, criterion, _source] = <[String; 7]>::try_from(cells)
        .unwrap_or_else(|cells| panic!("seven cells were expected in tests/attacks.csv: {cells:?}"));
    Row { id, issue, threat, attack, defence, criterion }
}

/// Cells of one line (RFC 4180; no cell of the catalogue holds a line break).
fn cells(line: &str) -> Vec<String> {
    let (mut cells, mut is_quoted) = (vec![String::new()], false);
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        let cell = cells.last_mut().expect("never empty");
        match character {
            '"' if is_quoted && characters.peek() == Some(&'"') => cell.extend(characters.next()),
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => cells.push(String::new()),
            other => cell.push(other),
        }
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_may_hold_commas_and_quotes() {
        assert_eq!(cells(r#"A01,"a, b","say ""no""",,"#), ["A01", "a, b", "say \"no\"", "", ""]);
    }

    #[test]
    fn every_row_has_an_id_of_its_own() {
        let rows = rows();
        let ids: std::collections::BTreeSet<_> = rows.iter().map(|row| &row.id).collect();
        assert_eq!(ids.len(), rows.len());
        let is_id = |id: &&String| id.len() == 3 && id[1..].parse::<u8>().is_ok();
        assert!(ids.iter().all(is_id), "{ids:?}");
    }
}

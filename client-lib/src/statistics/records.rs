//! Records of one client: from a program, or from a file. Secret: wiped when dropped, printed never.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use thiserror::Error;
use zeroize::Zeroizing;

/// A million records, with room.
const FILE_BYTES_MAX: u64 = 1 << 28;

/// Numbers, or words of a domain.
pub struct Records(Held);

enum Held {
    Numbers(Zeroizing<Vec<f64>>),
    /// As a file has them: whether they are numbers the query decides.
    Words(Zeroizing<Vec<String>>),
}

/// Why a file gives no records. Lines, never contents.
#[derive(Debug, Error)]
pub enum FileError {
    /// The operating system refuses.
    #[error("the records cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// Too long.
    #[error("at most {FILE_BYTES_MAX} bytes of records were expected; are these the records of one client?")]
    Long,
    /// Neither .txt nor .csv.
    #[error(
        "a file whose name ends in .txt (one record a line) or .csv (a heading, and a column named with --column) was expected"
    )]
    Name,
    /// A column that is not there, or not named where there are several.
    #[error("a column was expected with --column, one of: {0}")]
    Column(String),
    /// A column where there are none.
    #[error("a .txt file has one record a line and no columns; leave --column out")]
    NoColumns,
    /// A line that is none.
    #[error("line {line} {problem}")]
    Line {
        /// From 1.
        line: usize,
        /// What is wrong.
        problem: &'static str,
    },
}

impl Records {
    /// Numbers.
    pub fn of_numbers(numbers: Vec<f64>) -> Self {
        Self(Held::Numbers(Zeroizing::new(numbers)))
    }

    /// Words, which may spell numbers.
    pub fn of_words(words: Vec<String>) -> Self {
        Self(Held::Words(Zeroizing::new(words)))
    }

    /// Reads a file: `.txt` has one record a line, `.csv` a heading and a record in the named column of each further line. Where
    /// there is one column it need not be named.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn read(path: &Path, column: Option<&str>) -> Result<Self, FileError> {
        let mut text = Zeroizing::new(String::new());
        File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(FileError::Long);
        }
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        match (path.extension().and_then(|end| end.to_str()), column) {
            (Some("txt"), None) => of_lines(text),
            (Some("txt"), Some(_)) => Err(FileError::NoColumns),
            (Some("csv"), column) => of_table(text, column),
            _ => Err(FileError::Name),
        }
    }

    /// How many.
    pub fn len(&self) -> usize {
        match &self.0 {
            Held::Numbers(numbers) => numbers.len(),
            Held::Words(words) => words.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// As numbers; `None` where a word spells none.
    pub(super) fn numbers(&self) -> Zeroizing<Vec<Option<f64>>> {
        Zeroizing::new(match &self.0 {
            Held::Numbers(numbers) => numbers.iter().copied().map(Some).collect(),
            Held::Words(words) => words.iter().map(|word| word.parse().ok()).collect(),
        })
    }

    /// As words.
    pub(super) fn words(&self) -> Zeroizing<Vec<String>> {
        Zeroizing::new(match &self.0 {
            Held::Numbers(numbers) => numbers.iter().map(f64::to_string).collect(),
            Held::Words(words) => words.to_vec(),
        })
    }
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Records(..)")
    }
}

fn of_lines(text: &str) -> Result<Records, FileError> {
    let mut words = Zeroizing::new(Vec::new());
    for (line, word) in (1..).zip(text.lines().map(str::trim)) {
        if word.is_empty() {
            return Err(FileError::Line { line, problem: "is empty; a record was expected in every line" });
        }
        words.push(word.to_string());
    }
    Ok(Records(Held::Words(words)))
}

fn of_table(text: &str, column: Option<&str>) -> Result<Records, FileError> {
    let mut lines = (1..).zip(text.lines());
    let no_heading =
        || FileError::Line { line: 1, problem: "is missing; a heading with the names of the columns was expected" };
    let (line, heading) = lines.next().ok_or_else(no_heading)?;
    let names = cells(line, heading)?;
    let place = match column {
        None if names.len() == 1 => Some(0),
        None => None,
        Some(column) => names.iter().position(|name| name == column),
    };
    let place = place.ok_or_else(|| FileError::Column(names.join(", ")))?;
    let mut words = Zeroizing::new(Vec::new());
    for (line, text) in lines {
        let mut cells = cells(line, text)?;
        if cells.len() != names.len() {
            return Err(FileError::Line { line, problem: "has another number of cells than the heading" });
        }
        if cells[place].is_empty() {
            return Err(FileError::Line { line, problem: "has no record in its column; leave such lines out" });
        }
        words.push(std::mem::take(&mut cells[place]));
    }
    Ok(Records(Held::Words(words)))
}

/// The cells of one line. A cell may stand in quotes, with `""` for one; it does not go over the end of a line.
fn cells(line: usize, text: &str) -> Result<Zeroizing<Vec<String>>, FileError> {
    let mut cells = Zeroizing::new(Vec::new());
    let mut rest = text;
    loop {
        let (cell, after) = match rest.strip_prefix('"') {
            None => {
                let (cell, after) = rest.find(',').map_or((rest, ""), |comma| (&rest[..comma], &rest[comma..]));
                if cell.contains('"') {
                    return Err(FileError::Line {
                        line,
                        problem: "has a quote inside a cell that does not begin with one",
                    });
                }
                (cell.trim().to_string(), after)
            }
            Some(quoted) => quoted_cell(quoted)
                .ok_or(FileError::Line { line, problem: "has a quote that is not closed, or more behind it" })?,
        };
        cells.push(cell);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None => return Ok(cells),
        }
    }
}

/// Up to the closing quote, and what follows: a comma or the end.
fn quoted_cell(quoted: &str) -> Option<(String, &str)> {
    let mut cell = String::new();
    let mut rest = quoted;
    loop {
        let end = rest.find('"')?;
        cell.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(more) => {
                cell.push('"');
                rest = more;
            }
            None => return (rest.is_empty() || rest.starts_with(',')).then_some((cell, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str, column: Option<&str>) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("room");
        Records::read(&path, column).map(|records| records.words().to_vec()).map_err(|error| error.to_string())
    }

    #[test]
    fn records_stand_in_lines_or_in_a_column() {
        assert_eq!(read("a.txt", "1.5\n x y \r\n", None), Ok(vec!["1.5".into(), "x y".into()]));
        let table = "age,\"home, town\"\n31,\"a \"\"b\"\", c\"\n40, Bern\n";
        assert_eq!(read("a.csv", table, Some("age")), Ok(vec!["31".into(), "40".into()]));
        assert_eq!(read("a.csv", table, Some("home, town")), Ok(vec!["a \"b\", c".into(), "Bern".into()]));
        assert_eq!(read("a.csv", "age\n31\n", None), Ok(vec!["31".into()]));
        assert_eq!(read("a.csv", "age\n", None), Ok(vec![]));
        assert_eq!(read("a.txt", "", None), Ok(vec![]));
    }

    #[test]
    fn what_is_no_file_of_records_is_refused_by_line_and_without_its_contents() {
        let refused = |name, text, column| read(name, text, column).expect_err("refused");
        assert_eq!(refused("a.csv", "age,town\n1,2\n", None), "a column was expected with --column, one of: age, town");
        assert!(refused("a.csv", "age,town\n1,2\n", Some("size")).contains("one of: age, town"));
        for (text, problem) in [
            ("age,town\n1\n", "line 2 has another number"),
            ("age,town\n1,2\n,3\n", "line 3 has no record"),
            ("age,town\n\"1,2\n", "line 2 has a quote that is not closed"),
            ("age,town\n\"1\"2,3\n", "line 2 has a quote that is not closed, or more"),
            ("age,town\n1\"2,3\n", "line 2 has a quote inside"),
            ("", "line 1 is missing"),
        ] {
            assert!(refused("a.csv", text, Some("age")).contains(problem), "{text:?}");
        }
        assert!(refused("a.txt", "1\n\n2\n", None).contains("line 2 is empty"));
        assert!(refused("a.txt", "1\n", Some("age")).contains("leave --column out"));
        assert!(refused("a.json", "[1]", None).contains("ends in .txt"));
        assert_eq!(format!("{:?}", Records::of_numbers(vec![1.0])), "Records(..)");
    }
}

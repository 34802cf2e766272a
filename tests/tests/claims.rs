//! tests/claims.md against the tests: every claim has a test that exists, every test file serves a claim.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

struct Claim {
    number: String,
    /// By file: the tests named, or `None` for the whole file.
    tests: BTreeMap<String, Option<Vec<String>>>,
}

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The files of tests/tests, without `.rs`.
fn files() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let names =
        std::fs::read_dir(folder).expect("the folder is there").map(|entry| entry.expect("an entry").file_name());
    let names = names.map(|name| name.into_string().expect("ASCII"));
    names.filter_map(|name| name.strip_suffix(".rs").map(str::to_string)).collect()
}

/// The rows of the table: `| C-01 | … | file: `test`, `test`; file: the whole file |`.
fn claims() -> Vec<Claim> {
    let text = read("claims.md");
    let rows = text.lines().filter(|line| line.starts_with("| C-"));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let (number, cell) = (cells[0].to_string(), cells.last().expect("a last cell").trim_end_matches('|').trim());
        let tests = cell.split(';').map(|part| {
            let (file, named) = part.split_once(':').unwrap_or_else(|| panic!("{number}: no file before \"{part}\""));
            let named: Vec<String> = named.split('`').skip(1).step_by(2).map(str::to_string).collect();
            (file.trim().to_string(), (!named.is_empty()).then_some(named))
        });
        Claim { tests: tests.collect(), number }
    })
    .collect()
}

#[test]
fn claims_have_one_number_each_and_a_sentence() {
    let mut seen = BTreeSet::new();
    for claim in claims() {
        assert!(seen.insert(claim.number.clone()), "{} stands twice", claim.number);
        assert!(!claim.tests.is_empty(), "{} has no test", claim.number);
    }
    assert!(seen.len() > 40, "the table was read: {}", seen.len());
}

#[test]
fn every_test_that_a_claim_names_exists() {
    let files = files();
    for Claim { number, tests } in claims() {
        for (file, named) in tests {
            if file.starts_with("veilsum") {
                continue; // unit tests of a package: cargo test -p veilsum-crypto, say
            }
            assert!(files.contains(&file), "{number}: there is no tests/tests/{file}.rs");
            let source = read(&format!("tests/{file}.rs"));
            for test in named.into_iter().flatten() {
                // A macro may make the function: its name stands in the file all the same.
                assert!(source.contains(&test), "{number}: {file}.rs has no test `{test}`");
            }
        }
    }
}

#[test]
fn every_test_file_serves_a_claim() {
    // These hold the house together; they are not about what the service does.
    let of_the_house = ["arrows", "claims"];
    let served: BTreeSet<String> = claims().into_iter().flat_map(|claim| claim.tests.into_keys()).collect();
    for file in files() {
        assert!(
            served.contains(&file) || of_the_house.contains(&file.as_str()),
            "no claim names tests/tests/{file}.rs"
        );
    }
}

#[test]
fn every_claim_has_a_command_in_the_book() {
    let book = read("README.md");
    let mut covered = BTreeSet::new();
    for row in book.lines().filter(|line| line.starts_with("| C-")) {
        let cell = row.trim_start_matches("| ").split(" |").next().expect("a first cell");
        for part in cell.split(", ") {
            let number = |text: &str| text.trim().trim_start_matches("C-").parse::<u32>().expect("C- and a number");
            match part.split_once(" to ") {
                Some((from, to)) => covered.extend(number(from)..=number(to)),
                None => {
                    covered.insert(number(part));
                }
            }
        }
    }
    for Claim { number, .. } in claims() {
        let plain: u32 = number.trim_start_matches("C-").parse().expect("a number");
        assert!(covered.contains(&plain), "tests/README.md has no command for {number}");
    }
}

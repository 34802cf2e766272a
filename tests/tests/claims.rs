//! tests/claims.md against the tests and against docs/threat-model.md: every claim has tests that exist, every test serves a
//! claim, and nothing that the threat model promises is without a claim.
//!
//! ```text
//! | C-01 | section of the threat model, or - | one sentence. | file: `test`, `test`; file: the whole file |
//! ```
//! `crypto rules: `r16`` names every test of crypto/tests/rules whose name begins so; a package's name (`veilsum-client`), tests
//! beside its sources.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use verification::attacks;

struct Claim {
    number: String,
    section: String,
    sentence: String,
    /// By file: the tests named, or `None` for the whole file.
    tests: BTreeMap<String, Option<Vec<String>>>,
}

/// Test files that hold the house together; they are not about what the service does.
const OF_THE_HOUSE: [&str; 2] = ["arrows", "claims"];
/// Tests of rules, by what their names begin with.
const RULES: &str = "crypto rules";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Rust files of a folder and the folders in it.
fn sources(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found
}

/// The files of tests/tests, without `.rs`.
fn files() -> BTreeSet<String> {
    let stem = |path: PathBuf| path.file_stem().expect("a file").to_string_lossy().into_owned();
    sources("tests/tests").into_iter().map(stem).collect()
}

/// The test functions of a source: what follows `#[test]` or `#[tokio::test…]`.
fn tests_in(source: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut is_marked = false;
    for line in source.lines().map(str::trim) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_marked = true;
        } else if let Some((_, rest)) = line.split_once("fn ").filter(|_| is_marked) {
            found.insert(rest.split(['(', '<']).next().unwrap_or_default().to_string());
            is_marked = false;
        }
    }
    found.remove("$name"); // a macro's
    found.remove("$case");
    found
}

/// The tests of one file of tests/tests; those of the catalogue are made by a macro from the registry.
fn tests_of(file: &str) -> BTreeSet<String> {
    let mut found = tests_in(&read(&format!("tests/tests/{file}.rs")));
    if file == "attacks" {
        found.extend(attacks::all().into_iter().map(|attack| attack.name.to_string()));
    }
    found
}

/// Every test of crypto/tests/rules.
fn rule_tests() -> BTreeSet<String> {
    let text = |path: PathBuf| std::fs::read_to_string(path).expect("a source");
    sources("crypto/tests/rules").into_iter().flat_map(|path| tests_in(&text(path))).collect()
}

fn claims() -> Vec<Claim> {
    let text = read("tests/claims.md");
    let rows = text.lines().filter(|line| line.starts_with("| C-"));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [number, section, sentence, tests] = cells[..] else {
            panic!("four cells were expected: claim, section, sentence, tests: {row}")
        };
        let tests = tests.split(';').map(|part| {
            let (file, named) = part.split_once(':').unwrap_or_else(|| panic!("{number}: no file before \"{part}\""));
            let named: Vec<String> = named.split('`').skip(1).step_by(2).map(str::to_string).collect();
            (file.trim().to_string(), (!named.is_empty()).then_some(named))
        });
        Claim { number: number.into(), section: section.into(), sentence: sentence.into(), tests: tests.collect() }
    })
    .collect()
}

/// What docs/threat-model.md has to be claimed: its promises, each line of what enforces them (P1.1, P1.2, …), its sections.
fn sections() -> BTreeSet<String> {
    let text = read("docs/threat-model.md");
    let mut found = BTreeSet::new();
    let (mut promise, mut line_of_promise) = (String::new(), 0);
    for line in text.lines() {
        if let Some(rest) =
            line.split_once(". **").filter(|(number, _)| number.parse::<u32>().is_ok()).map(|(_, rest)| rest)
        {
            found.insert(rest.split(',').next().expect("P1").to_string());
        } else if let Some(heading) = line.strip_prefix("## ") {
            found.insert(heading.to_string());
        } else if let Some(heading) = line.strip_prefix("**").and_then(|line| line.strip_suffix("**")) {
            found.insert(heading.to_string());
        } else if line.starts_with("| P") || (line.starts_with("| |") && !promise.is_empty()) {
            let name = line.trim_start_matches("| ").split(" |").next().unwrap_or_default();
            if name.starts_with('P') && name.len() == 2 {
                (promise, line_of_promise) = (name.to_string(), 0);
            }
            if !promise.is_empty() {
                line_of_promise += 1;
                found.insert(format!("{promise}.{line_of_promise}"));
            }
        } else {
            promise.clear();
        }
    }
    found
}

/// Sections that say how to read the others.
const NOT_CLAIMED: [&str; 3] = ["Promises", "Limits", "Not there yet"];

#[test]
fn claims_have_a_number_of_their_own_a_section_and_one_sentence() {
    let (mut seen, sections) = (BTreeSet::new(), sections());
    for Claim { number, section, sentence, tests } in claims() {
        assert!(seen.insert(number.clone()), "{number} stands twice");
        let known = section == "-" || section.split(", ").all(|section| sections.contains(section));
        assert!(known, "{number}: docs/threat-model.md has no section \"{section}\"; it has {sections:?}");
        assert!(
            sentence.ends_with('.') && sentence.len() > 20,
            "{number}: one sentence, with its full stop: {sentence}"
        );
        assert!(!tests.is_empty(), "{number} has no test");
    }
    assert!(seen.len() > 40, "the table was read: {}", seen.len());
}

#[test]
fn whatever_the_threat_model_promises_or_limits_is_claimed() {
    let claimed: BTreeSet<String> = claims()
        .into_iter()
        .flat_map(|claim| claim.section.split(", ").map(str::to_string).collect::<Vec<_>>())
        .collect();
    let sections = sections();
    assert!(["P1", "P5", "P1.8", "P2.2", "Of the log"].iter().all(|known| sections.contains(*known)), "{sections:?}");
    for section in sections {
        assert!(
            claimed.contains(&section) || NOT_CLAIMED.contains(&section.as_str()),
            "docs/threat-model.md: nothing in tests/claims.md is about \"{section}\""
        );
    }
}

#[test]
fn every_test_that_a_claim_names_exists() {
    let (files, rules) = (files(), rule_tests());
    let packages = BTreeMap::from([
        ("veilsum-crypto", "crypto"),
        ("veilsum-client", "client-lib/src"),
        ("veilsum-aggregator", "aggregator/src"),
        ("veilsum", "aggregator/cli/src"),
    ]);
    for Claim { number, tests, .. } in claims() {
        for (file, named) in tests {
            let exists: Box<dyn Fn(&str) -> bool> = if file == RULES {
                Box::new(|prefix: &str| rules.iter().any(|test| test.starts_with(&format!("{prefix}_"))))
            } else if let Some(folder) = packages.get(file.as_str()) {
                let text = |path: PathBuf| std::fs::read_to_string(path).expect("a source");
                let all: String = sources(folder).into_iter().map(text).collect();
                // A module of tests is named by its path: server::open::tests.
                Box::new(move |test: &str| all.contains(&format!("fn {}(", test)) || test.ends_with("::tests"))
            } else {
                assert!(files.contains(&file), "{number}: there is no tests/tests/{file}.rs");
                let tests = tests_of(&file);
                Box::new(move |test: &str| tests.contains(test))
            };
            for test in named.into_iter().flatten() {
                assert!(exists(&test), "{number}: {file} has no test `{test}`");
            }
        }
    }
}

#[test]
fn every_test_serves_a_claim() {
    let mut whole = BTreeSet::new();
    let mut named: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (file, tests) in claims().into_iter().flat_map(|claim| claim.tests) {
        match tests {
            None => drop(whole.insert(file)),
            Some(tests) => named.entry(file).or_default().extend(tests),
        }
    }
    for file in files().into_iter().filter(|file| !OF_THE_HOUSE.contains(&file.as_str()) && !whole.contains(file)) {
        for test in tests_of(&file) {
            assert!(named.get(&file).is_some_and(|tests| tests.contains(&test)), "no claim names {file}: `{test}`");
        }
    }
    let prefixes = named.get(RULES).cloned().unwrap_or_default();
    for test in rule_tests() {
        let prefix = test.split('_').next().unwrap_or_default();
        assert!(prefixes.contains(prefix), "no claim names the {RULES} `{prefix}`: {test}");
    }
}

/// Tests say in their comments which claim they serve: it stands in the table.
#[test]
fn every_claim_that_a_test_mentions_is_in_the_table() {
    let numbers: BTreeSet<String> = claims().into_iter().map(|claim| claim.number).collect();
    for path in sources("tests/tests").into_iter().chain(sources("tests/harness")) {
        let text = std::fs::read_to_string(&path).expect("a source");
        for line in text.lines().filter(|line| line.trim_start().starts_with("//")) {
            for mention in line.split("C-").skip(1) {
                let digits: String = mention.chars().take_while(char::is_ascii_digit).collect();
                let number = format!("C-{digits}");
                let is_claim = digits.len() >= 2;
                assert!(!is_claim || numbers.contains(&number), "{}: {number}: {line}", path.display());
            }
        }
    }
}

#[test]
fn every_claim_has_a_command_in_the_book() {
    let book = read("tests/README.md");
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

//! What the SQL may use: the words of docs/decisions/0017 stand in no migration and no statement, keys are led by round or task, every
//! column is commented, and docs/data-model.md lists them as the migrations have them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use verification::programs::root;

fn read(path: &str) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn files(folder: &str, end: &str) -> Vec<PathBuf> {
    let entries =
        std::fs::read_dir(root().join(folder)).expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut found: Vec<PathBuf> = entries.filter(|path| path.to_string_lossy().ends_with(end)).collect();
    found.sort();
    found
}

/// Migrations in order, without comments.
fn migrations() -> Vec<String> {
    let without_comments = |path: PathBuf| {
        let text = std::fs::read_to_string(path).expect("a migration");
        text.lines().map(|line| line.split("--").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
    };
    files("migrations", ".sql").into_iter().map(without_comments).collect()
}

/// Every text of the store that is a statement, with single spaces.
fn statements() -> Vec<String> {
    const VERBS: [&str; 5] = ["SELECT ", "INSERT ", "UPDATE ", "DELETE ", "CREATE "];
    let mut found = Vec::new();
    for path in files("aggregator/src/store/sql", ".rs") {
        let source = std::fs::read_to_string(path).expect("a source");
        let code = source.split("#[cfg(test)]\nmod tests").next().expect("a text");
        let code: Vec<&str> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        for text in code.join("\n").replace("\\\"", "'").split('"').skip(1).step_by(2) {
            let text = text.replace('\\', " ").split_whitespace().collect::<Vec<_>>().join(" ");
            if VERBS.iter().any(|verb| text.starts_with(verb)) {
                found.push(text);
            }
        }
    }
    found
}

/// The first cells of the decision's table.
fn avoided() -> Vec<String> {
    let page = read("docs/decisions/0017-what-the-sql-avoids.md");
    let cells =
        page.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next().map(|cell| format!("`{cell}")));
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_string).collect::<Vec<_>>()).collect()
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Whether words stand in a text, in any case, not as part of longer ones.
fn mentions(text: &str, words: &str) -> bool {
    let (text, words) = (text.to_ascii_uppercase(), words.to_ascii_uppercase());
    text.match_indices(&words).any(|(at, _)| {
        let before = text[..at].chars().next_back().is_some_and(is_word);
        let after = text[at + words.len()..].chars().next().is_some_and(is_word);
        let (begins, ends) = (words.starts_with(is_word), words.ends_with(is_word));
        !(before && begins) && (!(after && ends) || words == "PG_ADVISORY")
    })
}

/// C-255: nothing that the decision avoids is used, and no function but four is called.
#[test]
fn no_migration_and_no_statement_uses_what_is_avoided() {
    let (migrations, statements, avoided) = (migrations(), statements(), avoided());
    assert!(
        migrations.len() >= 10 && statements.len() > 50 && avoided.len() > 25,
        "{} {}",
        statements.len(),
        avoided.len()
    );
    for text in migrations.iter().chain(&statements) {
        for words in &avoided {
            assert!(!mentions(text, words), "{words} stands in: {text}");
        }
        for (at, _) in text.match_indices('(') {
            let name: String = text[..at].chars().rev().take_while(|c| is_word(*c)).collect();
            let name: String = name.chars().rev().collect();
            assert!(["", "COUNT", "MAX", "LENGTH"].contains(&name.as_str()), "{name}() is called in: {text}");
        }
    }
    // The look itself sees what it should.
    for (text, words) in [("SELECT NOW()", "now("), ("x::text", "::"), ("select pg_advisory_lock(1)", "pg_advisory")] {
        assert!(mentions(text, words), "{text}");
    }
    assert!(!mentions("SELECT known FROM arrays_of", "ARRAY"));
}

/// A column: table, name, type, and what the migration says of it.
struct Column {
    table: String,
    name: String,
    kind: String,
    about: String,
}

/// All columns, in order, and the primary key of each table.
fn schema() -> (Vec<Column>, BTreeMap<String, String>) {
    let (mut columns, mut keys) = (Vec::new(), BTreeMap::new());
    for path in files("migrations", ".up.sql") {
        let text = std::fs::read_to_string(path).expect("a migration");
        let mut table = None;
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("CREATE TABLE ").or_else(|| line.strip_prefix("ALTER TABLE ")) {
                table = rest.split([' ', '(']).next().map(str::to_string);
                continue;
            }
            let Some(here) = table.clone().filter(|_| line.starts_with("    ")) else {
                if line.starts_with(')') || !line.starts_with(' ') {
                    table = None;
                }
                continue;
            };
            let (code, about) = line.split_once("--").unwrap_or((line, ""));
            let mut words = code.split_whitespace();
            let Some(name) = words.next() else { continue }; // "what changes:"
            let kind = words.next().unwrap_or_default();
            if name == "PRIMARY" {
                let key = code.split(['(', ')']).nth(1).expect("columns");
                keys.insert(here, key.to_string());
            } else if name != "UNIQUE" {
                if code.contains("PRIMARY KEY") {
                    keys.insert(here.clone(), name.to_string());
                }
                let kind = kind.trim_end_matches([',', ';']).to_string();
                columns.push(Column { table: here, name: name.to_string(), kind, about: about.trim().to_string() });
            }
        }
    }
    (columns, keys)
}

/// C-255: keys are led by round or task, and so is what updates and deletions look for; but for what has a name of its own.
#[test]
fn keys_and_guards_are_led_by_round_or_task() {
    let of_their_own = [
        ("models", "digest", "named by their bytes: several rounds may share one"),
        ("revocations", "digest", "named by their bytes; of an authority, not of a task"),
        ("log_entries", "leaf", "one log over all rounds: its order is its meaning"),
        ("log_head", "head", "one row"),
        ("sealing_keys", "id", "a handful of rows, over all rounds"),
    ];
    let (_, keys) = schema();
    assert!(keys.len() >= 15, "{keys:?}");
    for (table, key) in &keys {
        let first = key.split(',').next().expect("a column").trim();
        let is_of_its_own = of_their_own.iter().any(|(name, column, _)| name == table && *column == first);
        assert!(["round", "task"].contains(&first) != is_of_its_own, "{table} ({key})");
    }
    for statement in statements() {
        let verb = ["UPDATE ", "DELETE FROM "].iter().find_map(|verb| statement.strip_prefix(verb));
        let Some(table) = verb.and_then(|rest| rest.split(' ').next()) else { continue };
        let guard = statement.split_once(" WHERE ").unwrap_or_else(|| panic!("no guard: {statement}")).1;
        let own = of_their_own.iter().find(|(name, ..)| *name == table);
        let leads = own.map_or(&["round", "task"][..], |(_, column, _)| std::slice::from_ref(column));
        assert!(leads.iter().any(|lead| guard.starts_with(&format!("{lead} = "))), "{statement}");
    }
}

/// C-255: every column says what it is, those that are sealed by which key, and docs/data-model.md says the same.
#[test]
fn every_column_is_commented_and_in_the_data_model() {
    let (columns, _) = schema();
    let mut lines = vec!["| column | type | what it is |".to_string(), "|---|---|---|".to_string()];
    for Column { table, name, kind, about } in &columns {
        assert!(["BIGINT", "TEXT", "BYTEA"].contains(&kind.as_str()), "{table}.{name} is {kind}");
        assert!(!about.is_empty(), "{table}.{name} is not commented");
        assert!(name != "sealed" || about.contains("sealed by"), "{table}.{name}: by which key? {about}");
        lines.push(format!("| {table}.{name} | {kind} | {} |", about.replace('|', "\\|")));
    }
    let page = read("docs/data-model.md");
    let tables: BTreeSet<&str> = columns.iter().map(|column| column.table.as_str()).collect();
    for table in tables {
        assert!(page.contains(&format!("\n| {table} | ")), "docs/data-model.md does not say what a row of {table} is");
    }
    let lines = lines.join("\n");
    assert!(page.contains(&lines), "the section \"Columns\" of docs/data-model.md should be:\n{lines}");
}

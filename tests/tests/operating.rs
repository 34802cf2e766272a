//! docs/operating.md against the program, where it lists: lines of the log, refusals at the start, endings of rounds, alerts. What it says
//! of settings and exit codes is looked at in programs.rs, of metrics in metrics.rs.

use std::collections::BTreeSet;
use std::path::PathBuf;

use veilsum_aggregator::config::Config;
use veilsum_crypto::rules::Abandonment;
use verification::manifests;
use verification::programs::root;

fn page() -> String {
    std::fs::read_to_string(root().join("docs/operating.md")).expect("it is there")
}

/// The first cells of the tables below a heading, without backticks; a cell may name several things.
fn named(heading: &str) -> BTreeSet<String> {
    let page = page();
    let (_, below) = page.split_once(&format!("# {heading}\n")).unwrap_or_else(|| panic!("no section {heading}"));
    let section = below.split("\n## ").next().expect("a text").split("\n### ").next().expect("a text");
    let cells = section.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let found: BTreeSet<String> =
        cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_string).collect();
    assert!(!found.is_empty(), "{heading} lists nothing");
    found
}

/// Rust sources of the service, without tests and comments, in one text with single spaces.
fn sources(folders: &[&str]) -> String {
    let mut waiting: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    let mut text = String::new();
    while let Some(next) = waiting.pop() {
        if next.is_dir() {
            waiting.extend(std::fs::read_dir(&next).expect("a folder").map(|entry| entry.expect("an entry").path()));
        } else if next.extension().is_some_and(|extension| extension == "rs") {
            let source = std::fs::read_to_string(&next).expect("a source");
            let code = source.split("#[cfg(test)]\nmod tests").next().expect("a text");
            let lines = code.lines().map(str::trim).filter(|line| !line.starts_with("//"));
            text.push_str(&lines.collect::<Vec<_>>().join(" "));
            text.push(' ');
        }
    }
    text
}

/// C-247: every line that the service logs from level info on is explained, and every line explained is one that it logs.
#[test]
fn every_line_of_the_log_is_explained() {
    let code = sources(&["aggregator/src", "aggregator/cli/src/serve.rs"]);
    let mut logged = BTreeSet::new();
    for level in ["info", "warn", "error"] {
        for call in code.split(&format!("tracing::{level}!(")).skip(1) {
            let call = call.split(");").next().expect("a text").split(") }").next().expect("a text");
            // The message is the last text of the call.
            let message = call.rsplit('"').nth(1).unwrap_or_else(|| panic!("no message in {call}"));
            logged.insert(message.to_string());
        }
    }
    assert!(logged.len() > 15, "{logged:?}");
    assert_eq!(named("Logs"), logged);
}

/// C-247: the words by which refusals are found on the page are words of the program.
#[test]
fn every_refusal_on_the_page_is_one_of_the_program() {
    let code = sources(&["aggregator/src", "aggregator/cli/src"]).replace("\\\"", "\"");
    let words = named("When it does not start");
    for words in &words {
        assert!(code.contains(words.as_str()), "no source says \"{words}\"");
    }
    // And what the configuration and the store may say is there.
    for source in ["aggregator/src/store.rs", "aggregator/src/config.rs"] {
        for error in sources(&[source]).split("#[error(").skip(1) {
            let error = error.replace("\\\"", "'"); // a quote within the words
            let text = error.split('"').nth(1).expect("words");
            let is_there = words.iter().any(|words| text.contains(words.as_str()));
            assert!(is_there || text == "{0}", "docs/operating.md does not explain \"{text}\"");
        }
    }
}

/// C-247: settings, endings and alerts are all explained.
#[test]
fn settings_endings_and_alerts_are_all_explained() {
    let endings = (0..=u8::MAX).filter_map(Abandonment::from_number).map(|reason| reason.word().to_string());
    assert_eq!(named("Rounds that are abandoned"), endings.collect());

    let folder = tempfile::tempdir().expect("a folder");
    let file = manifests::configured("compose/veilsum.toml", &"00".repeat(32), folder.path());
    let settings = serde_json::to_value(Config::load(&file).expect("settings")).expect("they serialise");
    let listed = named("Configure");
    for key in settings.as_object().expect("settings").keys() {
        assert!(listed.contains(key), "docs/operating.md does not explain {key}");
    }

    let rules = manifests::yaml("prometheus/veilsum.rules.yaml").remove(0);
    let metrics = named("Metrics");
    let page = page();
    let mut alerts = BTreeSet::new();
    for rule in rules["groups"][0]["rules"].as_array().expect("rules") {
        let (name, expression) = (rule["alert"].as_str().expect("a name"), rule["expr"].as_str().expect("words"));
        alerts.insert(name.to_string());
        assert!(page.contains(&format!("| {name} | ")), "docs/operating.md does not explain {name}");
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        for metric in expression.split(|c| !is_word(c)).filter(|word| word.starts_with("veilsum_")) {
            assert!(metrics.contains(metric), "{name}: nothing exports {metric}");
        }
        assert!(["page", "ticket"].contains(&rule["labels"]["severity"].as_str().expect("a word")), "{name}");
    }
    let explained = page.lines().filter_map(|line| line.strip_prefix("| Veilsum")?.split(" | ").next());
    assert_eq!(explained.map(|rest| format!("Veilsum{rest}")).collect::<BTreeSet<_>>(), alerts);
}

//! docs/quickstart.md and the worked example of docs/statistics.md, run as they are written: every `sh` block, in order, in one shell and one empty folder. What a block prints is
//! compared with the `output` block below it; one without prints nothing.
//!
//! It uses the ports that the text names; runs on one machine take turns. nginx and openssl must be there
//! (`scripts/nginx`): nothing is skipped without them.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use verification::programs::*;

/// The text takes about a minute and a half; a busy machine may take several times as long.
const RUN_MAX: Duration = Duration::from_secs(20 * 60);

struct Block {
    /// Where it begins in the text.
    line: usize,
    language: String,
    text: String,
}

fn blocks(markdown: &str) -> Vec<Block> {
    let mut found: Vec<Block> = Vec::new();
    let mut is_inside = false;
    for (line, text) in (1..).zip(markdown.lines()) {
        match text.strip_prefix("```") {
            Some(_) if is_inside => is_inside = false,
            Some(language) => {
                is_inside = true;
                found.push(Block { line, language: language.to_string(), text: String::new() });
            }
            None if is_inside => {
                let block = found.last_mut().expect("one is open");
                block.text.push_str(text);
                block.text.push('\n');
            }
            None => {}
        }
    }
    assert!(!is_inside, "a block does not end");
    found
}

/// A shell and whatever it started; all of it ends with this.
struct Shell {
    child: Child,
    folder: PathBuf,
}

impl Drop for Shell {
    fn drop(&mut self) {
        let end = |target: &str| {
            let _ = Command::new("kill").args(["-KILL", "--", target]).stderr(Stdio::null()).status();
        };
        end(&format!("-{}", self.child.id())); // its process group
        // nginx has left the group.
        if let Ok(pid) = std::fs::read_to_string(self.folder.join("service-machine/nginx.pid")) {
            end(pid.trim());
        }
        let _ = self.child.wait();
    }
}

/// Whether lines are those that a page shows. `…` stands for any characters, alone on a line for any lines; spaces are alike
/// however many.
fn fits(shown: &[&str], seen: &[&str]) -> bool {
    match shown.split_first() {
        None => seen.is_empty(),
        Some((line, below)) if line.trim() == "…" => (0..=seen.len()).any(|skipped| fits(below, &seen[skipped..])),
        Some((line, below)) => {
            let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
            seen.first().is_some_and(|first| line_fits(&words(line), &words(first))) && fits(below, &seen[1..])
        }
    }
}

fn line_fits(shown: &str, seen: &str) -> bool {
    let Some((head, tail)) = shown.split_once('…') else { return shown == seen };
    let Some(rest) = seen.strip_prefix(head) else { return false };
    let ends = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
    ends.into_iter().any(|at| line_fits(tail, &rest[at..]))
}

#[test]
fn a_page_that_shows_something_else_does_not_fit() {
    let seen = ["round 7 of task 50d8", "  core       5; sum of 5", "", "stopped"];
    for shown in [
        &seen[..],
        &["round … of task …", " core 5; sum of 5", "…", "stopped"],
        &["…", "stopped"],
        &["round …", "…"],
        &["…", "… sum of 5", "", "…"],
    ] {
        assert!(fits(shown, &seen), "{shown:?}");
    }
    for shown in [
        &seen[..3],
        &["…", "core 5; sum of 4", "…"],
        &["round … of task …", "stopped"],
        &["…", "stopped", "round …"],
        &["…", "sum of 5", "…"],
        &[],
    ] {
        assert!(!fits(shown, &seen), "{shown:?}");
    }
}

/// An `sh` block of the page, and what is shown below it.
struct Step<'a> {
    run: &'a Block,
    shown: &'a str,
}

fn steps(blocks: &[Block]) -> Vec<Step<'_>> {
    let mut steps: Vec<Step<'_>> = Vec::new();
    let mut above = None;
    for block in blocks {
        match block.language.as_str() {
            "sh" => steps.push(Step { run: block, shown: "" }),
            "output" => {
                assert_eq!(above, Some("sh"), "line {}: output of what?", block.line);
                steps.last_mut().expect("a block above").shown = &block.text;
            }
            "console" | "text" => {} // the build, which is done already; and another proxy's configuration
            other => panic!("line {}: nobody looks at `{other}` blocks", block.line),
        }
        above = Some(block.language.as_str());
    }
    steps
}

/// C-108: the quickstart's commands, word by word, and what it shows of their output: one machine and three, TLS, revocation,
/// export and audit.
#[test]
fn the_quickstart_runs_as_it_is_written() {
    let markdown = std::fs::read_to_string(root().join("docs/quickstart.md")).expect("it is there");
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).expect("it is there");
    let rust = manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).expect("it is said");
    let rust = rust.split('"').nth(1).expect("a version");
    assert!(markdown.contains(&format!("{rust} or newer")), "the page names another Rust than {rust}");
    let blocks = blocks(&markdown);
    let all: String = steps(&blocks).iter().map(|step| step.run.text.as_str()).collect();
    for command in [
        "authority init",
        "authority enrol",
        "authority revoke",
        "keys generate",
        "keys show",
        "config check",
        "serve",
        "status",
        "task create",
        "task list",
        "task join",
        "join --identity",
        "round list",
        "round show",
        "round export",
        "audit round",
        "revocations publish",
        "demo --processes",
    ] {
        assert!(all.contains(&format!("veilsum {command}")), "`veilsum {command}` is not in the text");
    }

    let logs = [
        "serve.log",
        "service-machine/serve.log",
        "service-machine/nginx.log",
        "alice/said.txt",
        "client-machine/alice/said.txt",
        "client-machine/erin/said.txt",
    ];
    run("docs/quickstart.md", &blocks, &logs);
}

/// C-314: so do the commands of the page on statistics: a question, its bad forms, records, and the answer with its interval.
#[test]
fn the_statistics_page_runs_as_it_is_written() {
    let page = "docs/statistics.md";
    let markdown = std::fs::read_to_string(root().join(page)).expect("it is there");
    run(page, &blocks(&markdown), &["serve.log", "said.txt", "clinic12/said.txt"]);
}

/// Runs a page's blocks in one shell and one empty folder, and compares what it shows. `logs` are shown if it goes wrong.
fn run(page: &str, blocks: &[Block], logs: &[&str]) {
    let steps = steps(blocks);
    let lock = File::create(std::env::temp_dir().join("veilsum-quickstart.lock")).expect("room");
    lock.lock().expect("the others end");
    let outside = tempfile::tempdir().expect("a folder");
    let folder = outside.path().join("try");
    std::fs::create_dir(&folder).expect("room");
    let mark = |line: usize| format!("==== {page}, line {line}");
    let mut script = String::from("set -eu\n");
    for step in &steps {
        script.push_str(&format!("echo '{}'\n{}", mark(step.run.line), step.run.text));
    }
    script.push_str(&format!("echo '{}'\n", mark(0)));
    let file = outside.path().join("script.sh");
    std::fs::write(&file, script).expect("room");
    let programs = veilsum_program().parent().expect("a folder").display().to_string();
    let path = std::env::var("PATH").unwrap_or_default();
    let output = File::create(outside.path().join("output")).expect("room");
    let child = Command::new("sh")
        .arg(&file)
        .current_dir(&folder)
        .env("PATH", format!("{programs}:{path}"))
        .stdin(Stdio::null())
        .stdout(output.try_clone().expect("ours"))
        .stderr(output)
        .process_group(0)
        .spawn()
        .expect("there is a shell");
    let mut shell = Shell { child, folder: folder.clone() };
    let begun = Instant::now();
    let ended = loop {
        if let Some(status) = shell.child.try_wait().expect("ours") {
            break Some(status);
        }
        if begun.elapsed() > RUN_MAX {
            break None;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let said =
        String::from_utf8_lossy(&std::fs::read(outside.path().join("output")).expect("it was written")).into_owned();
    let tail = |name: &str| {
        let text = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        let all: Vec<&str> = text.lines().collect();
        format!("\n{name}: {}", all[all.len().saturating_sub(12)..].join("\n"))
    };
    let logs: String = logs.iter().map(|name| tail(name)).collect();

    // Block by block first: where it went wrong says more than that it did.
    for (at, step) in steps.iter().enumerate() {
        let next = steps.get(at + 1).map_or(0, |next| next.run.line);
        let after = said.split_once(&format!("{}\n", mark(step.run.line)));
        let seen = after.and_then(|(_, after)| after.split_once(&format!("{}\n", mark(next))));
        let Some((seen, _)) = seen else {
            panic!("the block at line {} did not come to its end: {ended:?}\n{said}{logs}", step.run.line);
        };
        assert!(
            fits(&step.shown.lines().collect::<Vec<_>>(), &seen.lines().collect::<Vec<_>>()),
            "the block at line {} shows\n{}\nand the programs say\n{seen}{logs}",
            step.run.line,
            step.shown
        );
    }
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}\n{said}{logs}");
    drop(shell);
}

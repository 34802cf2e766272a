//! The programs as people build them, and what they say: for tests that run them as processes of their own.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// `veilsum`, built once.
pub fn veilsum_program() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| build(&["-p", "veilsum", "--bin", "veilsum"], "veilsum"))
}

/// The client's example, built once.
pub fn quickstart_example() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| build(&["-p", "veilsum-client", "--example", "quickstart"], "quickstart"))
}

/// The client that stops before each message (`bin/stepping_client.rs`), built once.
pub fn stepping_client() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| build(&["-p", "verification", "--bin", "stepping-client"], "stepping-client"))
}

/// The client that goes on for ever (`bin/lasting_client.rs`), built once.
pub fn lasting_client() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| build(&["-p", "verification", "--bin", "lasting-client"], "lasting-client"))
}

fn build(arguments: &[&str], name: &str) -> PathBuf {
    let mut cargo = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    cargo.args(["build", "--message-format=json"]).args(arguments).current_dir(root());
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    let built = cargo.output().expect("cargo runs");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let artifacts = String::from_utf8_lossy(&built.stdout).into_owned();
    let executable = artifacts.lines().find_map(|line| {
        let json: serde_json::Value = serde_json::from_str(line).ok()?;
        (json["target"]["name"] == name).then(|| json["executable"].as_str().map(PathBuf::from))?
    });
    executable.unwrap_or_else(|| panic!("cargo built no {name}"))
}

/// The clone's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Runs `veilsum` to its end.
pub fn veilsum(arguments: &[&str]) -> Output {
    Command::new(veilsum_program()).args(arguments).output().expect("it was built")
}

/// What a run of `veilsum` said.
#[derive(Debug)]
pub struct Said {
    /// As the shell sees it; -1 if a signal ended it.
    pub code: i32,
    /// For people, or one JSON object.
    pub out: String,
    /// Errors.
    pub err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Said {
    /// The one object on stdout, of a run that ended with this code.
    #[track_caller]
    pub fn json(&self, code: i32) -> serde_json::Value {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        assert_eq!(self.out.trim_end().lines().count(), 1, "one object and nothing else: {}", self.out);
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }

    /// It was refused with this code and these words, without panic and with nothing on stdout.
    #[track_caller]
    pub fn refused(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        assert!(!self.err.contains("panicked"), "{}", self.err);
        assert!(self.out.is_empty(), "{}", self.out);
        for word in words {
            assert!(self.err.contains(word), "\"{word}\" is missing in: {}", self.err);
        }
    }
}

/// The object of `demo --json` has exactly the members agreed, and every round released a sum that is bit exact.
#[track_caller]
pub fn assert_demo_object(json: &serde_json::Value, clients: u32, rounds: usize) {
    fn has_exactly<const N: usize>(object: &serde_json::Value, mut members: [&str; N]) {
        let mut keys: Vec<&str> = object.as_object().expect("an object").keys().map(String::as_str).collect();
        keys.sort_unstable();
        members.sort_unstable();
        assert_eq!(keys, members);
    }
    has_exactly(
        json,
        [
            "rounds",
            "dp_delta",
            "loss_before",
            "loss_after",
            "plain_loss_after",
            "unigram_loss",
            "vector_len",
            "ring_bits",
            "degree",
            "threshold",
            "noise_multiplier",
            "report",
        ],
    );
    let list = json["rounds"].as_array().expect("a list");
    assert_eq!(list.len(), rounds);
    for (round, counter) in list.iter().zip(1..) {
        has_exactly(
            round,
            [
                "round",
                "status",
                "cohort",
                "roster",
                "survivors",
                "dropped",
                "bit_exact",
                "epsilon",
                "held_out_loss",
                "bytes_up_per_client",
                "bytes_down_per_client",
                "wall_s",
            ],
        );
        has_exactly(&round["dropped"], ["advertise", "share", "acknowledge", "mask", "confirm", "unmask"]);
        assert_eq!((&round["round"], &round["cohort"]), (&counter.into(), &clients.into()), "{json}");
        assert_eq!((&round["status"], &round["bit_exact"]), (&"released".into(), &true.into()), "{json}");
        assert!(round["epsilon"].as_f64().is_some_and(|epsilon| epsilon > 0.0));
    }
}

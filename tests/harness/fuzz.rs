//! Fuzz targets: hostile bytes at every place where bytes come in. A target is a plain function of bytes that panics where
//! something does not hold; nothing else counts as a finding.
//!
//! Two drivers run the same functions: the portable byte mutator of [`campaign`] (stable toolchain; `tests/fuzz.rs` and
//! `cargo run -p verification --bin fuzz`), and libFuzzer, guided by coverage (`tests/fuzz/`, cargo-fuzz). Both start from
//! the corpus in `tests/fuzz/corpus`.
//!
//! Most inputs are small programs: which message, which edits, whether to sign again ([`edit`], [`forge`]). So changed bytes
//! get past the signature and reach the checks behind it.

pub mod accept;
pub mod campaign;
pub mod client;
pub mod close;
pub mod decode;
pub mod edit;
pub mod files;
pub mod forge;
pub mod http;
pub mod participant;
pub mod saved;
pub mod stage;

/// One target.
#[derive(Clone, Copy)]
pub struct Target {
    /// As the driver and the corpus folder name it.
    pub name: &'static str,
    /// Where the bytes come in, and what must hold.
    pub what: &'static str,
    /// Panics where it does not.
    pub run: fn(&[u8]),
    /// Inputs to start from, made anew each time; the corpus on disk is what was found beyond them.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Text that random bytes would not hit upon.
    pub words: &'static [&'static str],
    /// Of a hundred executions of a campaign over all targets, how many are this one's: cheap targets get more.
    pub portion: u64,
    /// After the last execution: takes down what the first built beyond memory.
    pub finish: fn(),
}

/// Most targets build nothing that outlives them.
fn nothing() {}

/// Every target.
pub const TARGETS: &[Target] = &[
    decode::MESSAGES,
    decode::PARTS,
    accept::TARGET,
    close::TARGET,
    client::TARGET,
    participant::TARGET,
    saved::CLIENT,
    saved::SERVER,
    saved::JOURNAL,
    files::TASK,
    files::CONFIG,
    http::TARGET,
];

/// The target of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// What libFuzzer's drivers call.
///
/// # Panics
/// If the target does, or if there is none of this name.
pub fn drive(name: &str, input: &[u8]) {
    (target(name).expect("a target of this name").run)(input);
}

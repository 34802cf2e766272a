//! The blame campaign: rounds in which liars and losses are drawn by lot, over the real phases of both sides.
//!
//! ```text
//! seed -> plan (who lies how, who is lost when) -> play: honest clients are the real ones, liars are puppets,
//!         the aggregator is the real `accept` and `close`; everything delivered goes into a diary
//! diary -> oracle (docs/protocol.md once more, over what letters are about and never over bytes): every answer,
//!         everybody named, who is counted, the sum
//! faults -> evidence: a verifier that has the public statements of the round and nothing else
//! ```
//! What differs is a [`Mismatch`], with the seed that plays the round again. For `tests/blame.rs` and `bin/blame.rs`.

pub mod account;
pub mod campaign;
pub mod evidence;
pub mod http;
pub mod kinds;
pub mod letter;
pub mod memory;
pub mod oracle;
pub mod plan;
pub mod ploys;
pub mod puppet;
pub mod ring;
pub mod seed;
pub mod service;

pub use account::{Account, Mismatch, Tally};
pub use campaign::Campaign;
pub use plan::Plan;
pub use seed::Seed;
pub use service::Bug;

/// Plays one round in memory and judges it.
pub fn round(seed: Seed) -> Result<Account, Mismatch> {
    round_with(seed, Bug::None)
}

/// The same with a bug in the aggregator, which must be noticed.
pub fn round_with(seed: Seed, bug: Bug) -> Result<Account, Mismatch> {
    let plan = Plan::draw(seed);
    let played = memory::play(&plan, bug);
    account::judge(&plan, played)
}

/// The same, with its story.
pub fn told(seed: Seed) -> Result<(Account, String), Mismatch> {
    let plan = Plan::draw(seed);
    let played = memory::play(&plan, Bug::None);
    let story = account::story(&plan, &played);
    Ok((account::judge(&plan, played)?, story))
}

//! Every rule of docs/protocol.md (R-01 … R-38) under attack: what a lying aggregator or client tries, and what stops it.
//!
//! The phases are the real ones, in memory; lies are statements signed with the liar's own key, sums are real. Each rule
//! has a mutation in tests/rules.d that takes its check away: `scripts/rules N` sees the test named there turn red, and
//! tests/rules.md says with which words. R-27 is reserved. What lives in the store or behind HTTP is tested there; here
//! stands the part that `crypto` decides.

#[path = "rules/advertise.rs"]
mod advertise;
#[path = "rules/always.rs"]
mod always;
#[path = "rules/mask.rs"]
mod mask;
#[path = "rules/share.rs"]
mod share;
#[path = "rules/stage.rs"]
mod stage;
#[path = "rules/unmask.rs"]
mod unmask;

//! The audit of round exports: rounds played by the real phases of both sides, exported, audited, and tampered with.
//! docs/protocol.md §9, docs/wire.md §13

#[path = "audit/endings.rs"]
mod endings;
#[path = "audit/made.rs"]
mod made;
#[allow(dead_code, reason = "shared with tests/rules.rs")]
#[path = "rules/stage.rs"]
mod stage;
#[path = "audit/tampered.rs"]
mod tampered;

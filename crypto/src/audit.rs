//! The audit of a round's export: everything that can be checked without trusting who made it. docs/protocol.md §9
//!
//! In: the bytes of an export, and three public keys that the auditor pins. Out: a report of named checks, in order. It is
//! the aggregator's own `accept` and `close`, run again over what clients signed: what they lead to must be what the
//! aggregator signed. No I/O, no clock, no randomness. Called by auditors' tools; nothing here is part of a round.
//!
//! ```text
//! form -> header -> revocations -> roster -> leaves -> shares -> acknowledgements -> openings -> core -> uploads
//!      -> survivors -> confirms -> result -> evidence -> checkpoint -> growth -> log -> ledger
//! ```

use crate::primitives::signature::IdentityPublicKey;
use crate::transparency::checkpoint::LogKey;

mod evidence;
pub mod export;
mod log;
mod replay;
pub mod report;

pub use export::{Export, ExportError, Section};
pub use report::{Check, Outcome, Report, Value};

/// What an auditor holds against the operator: keys it got from elsewhere.
#[derive(Clone, Debug)]
pub struct Pins {
    /// Signs the statements of rounds.
    pub aggregator: IdentityPublicKey,
    /// Signs certificates and revocation lists.
    pub authority: IdentityPublicKey,
    /// Verifies checkpoints.
    pub log: LogKey,
}

/// Audits the bytes of an export.
pub fn audit_bytes(bytes: &[u8], pins: &Pins) -> Report {
    let mut report = Report::default();
    let read = report.check(|figures| {
        figures.number("bytes", bytes.len());
        Export::decode(bytes).map(Some)
    });
    if let Some(Some(export)) = read {
        check(&export, pins, &mut report);
    }
    report
}

/// Audits an export that was read.
pub fn audit(export: &Export, pins: &Pins) -> Report {
    let mut report = Report::default();
    report.check(|_| Ok(Some(())));
    check(export, pins, &mut report);
    report
}

/// Stops at the first check that fails; the report says which.
fn check(export: &Export, pins: &Pins, report: &mut Report) -> Option<()> {
    let played = replay::round(export, pins, report)?;
    report.check(|figures| evidence::all(export, &played, figures))?;
    let head = report.check(|figures| log::checkpoint(export, pins, figures))??;
    report.check(|figures| log::growth(export, &played, head, figures))?;
    report.check(|figures| log::entries(export, &played, head, figures))?;
    report.check(|figures| log::ledger(export, pins, &played, head, figures))?;
    Some(())
}

/// Something is wrong in a section.
fn wrong<T>(section: Section, why: impl alloc::string::ToString) -> Result<T, ExportError> {
    Err(ExportError { section, why: why.to_string() })
}

//! The attacks, by what they bend.

pub mod dealers;
pub mod lists;
pub mod mailboxes;
pub mod uploads;

use super::WithoutRule;

/// All of them.
pub fn all() -> Vec<WithoutRule> {
    [mailboxes::all(), lists::all(), dealers::all(), uploads::all()].concat()
}

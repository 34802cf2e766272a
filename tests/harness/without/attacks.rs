//! The attacks, by what they bend.

pub mod admission;
pub mod answers;
pub mod complaints;
pub mod dealers;
pub mod halves;
pub mod lists;
pub mod mailboxes;
pub mod noise;
pub mod service;
pub mod survivors;
pub mod uploads;

use super::WithoutRule;

/// All of them.
pub fn all() -> Vec<WithoutRule> {
    [
        admission::all(),
        answers::all(),
        complaints::all(),
        dealers::all(),
        halves::all(),
        lists::all(),
        mailboxes::all(),
        noise::all(),
        service::all(),
        survivors::all(),
        uploads::all(),
    ]
    .concat()
}

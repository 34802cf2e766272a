//! What travels: one type and one decoder a message, shared by both sides. docs/wire.md
//!
//! The message is the noun, the step that makes it the verb: `messages/masked_input.rs` is written by
//! `client/mask.rs` and judged by `server/mask.rs`. Decoders check form only (lengths first, canonical encodings,
//! nothing left over); what a message must agree with is judged where it is received.

pub mod acknowledgement;
pub mod answer;
pub mod bitmap;
pub mod certificate;
pub mod confirmation;
pub mod core_set;
pub mod evidence;
pub mod header;
pub mod key_advertisement;
pub mod masked_input;
pub mod opening;
pub mod read;
pub mod result;
pub mod roster;
pub mod sealed_shares;
pub mod survivors;

pub use acknowledgement::{Acknowledgement, EdgeReport};
pub use answer::{Answer, AnswerShare};
pub use bitmap::Bitmap;
pub use certificate::{Certificate, RevocationList};
pub use confirmation::Confirmation;
pub use core_set::CoreSet;
pub use evidence::Evidence;
pub use header::Header;
pub use key_advertisement::{KeyAdvertisement, Member};
pub use masked_input::MaskedInput;
pub use opening::Opening;
pub use read::ReadPermit;
pub use result::{Outcome, RoundResult};
pub use roster::Roster;
pub use sealed_shares::{Edge, MailItem, SealedShares};
pub use survivors::Survivors;

use crate::ids::{ClientId, Digest, Party};
use crate::primitives::signature::Place;

/// A round whose header is known: where client statements of the first phase stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chain {
    /// Root of the header.
    pub context: Digest,
    /// The aggregator, as sender and receiver.
    pub aggregator: Party,
}

impl Chain {
    /// A client's statement to everybody.
    pub fn from_client(&self, client: ClientId, previous: Digest) -> Place {
        Place { context: self.context, previous, sender: client.into(), receiver: Party::EVERYBODY }
    }

    /// A statement of the aggregator to everybody.
    pub fn from_aggregator(&self, previous: Digest) -> Place {
        Place { context: self.context, previous, sender: self.aggregator, receiver: Party::EVERYBODY }
    }
}

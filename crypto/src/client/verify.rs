//! Verify, the client's side: is the result the one of the round it took part in? §5.8
//!
//! Before: `client/unmask.rs`. The other end: `server/unmask.rs`.

use super::saved::{Nothing, Turn};
use super::{AwaitingResult, Enrolled, chained};
use crate::math::ring::RingVector;
use crate::messages::{Outcome, RoundResult, Survivors};
use crate::primitives::codec::Reader;
use crate::primitives::labels;
use crate::primitives::signature::Signed;
use crate::rules::ServerMisbehaved;

/// What a client may believe of a round that is over.
#[derive(Debug)]
pub struct Verified {
    /// The sum over the survivors, noise included; `None` if it could not be opened.
    pub sum: Option<RingVector>,
    /// Whose inputs are in it.
    pub survivors: Survivors,
}

impl AwaitingResult {
    /// §5.8. Judges the signed result as served, and returns to [`Enrolled`].
    pub fn verify(self, result: &[u8]) -> Result<(Verified, Turn<Enrolled, Nothing>), ServerMisbehaved> {
        let Self { view, survivors } = self;
        let mut reader = Reader::new(result);
        let signed = Signed::read(&mut reader, labels::RESULT)?;
        let statement = chained(&signed.encode(), labels::RESULT, "result", &view, survivors.root())?;
        let result = RoundResult::from_statement(statement)?;
        let packed = reader.rest();
        if result.count() != survivors.members().count() {
            return Err(ServerMisbehaved::Result("it counts other clients"));
        }
        let params = &view.header.params;
        let sum = match result.outcome() {
            Outcome::NotOpened if packed.is_empty() => None,
            Outcome::NotOpened => return Err(ServerMisbehaved::Result("bytes follow a result without sum")),
            Outcome::Released if !result.is_sum(packed) => {
                return Err(ServerMisbehaved::Result("the sum is not the one that was signed"));
            }
            Outcome::Released => Some(
                RingVector::unpack(packed, params.vector_len as usize, params.ring_bits)
                    .map_err(|_| ServerMisbehaved::Result("the sum is not a vector of this round"))?,
            ),
        };
        let enrolled = Enrolled::new(view.member, view.memory);
        Ok((Verified { sum, survivors }, Turn::new(enrolled, Nothing)))
    }
}

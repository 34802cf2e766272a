//! The hostile kit: everybody whom the protocol does not trust, each with all that they may hold.
//!
//! * `client`: members of a roster that bend any field of any message, and strangers. Against the real aggregator, over HTTP.
//! * `server`: a server that lies. It holds the aggregator's keys and those of all clients but its victims, and answers any
//!   request with anything. `victims`: these, as real `Participant`s over HTTP.
//! * `proxy`: between real clients and the real aggregator: it drops, repeats, alters, redirects and forges what passes.
//! * `bent`: real clients whose messages of one phase are exchanged for others under their own keys.
//! * `wire`: HTTP as bytes on a socket.
//!
//! What is honest here comes from the code under test or from `veilsum_crypto::testing`; what lies is one deviation from it.

pub mod bent;
pub mod client;
pub mod front;
pub mod proxy;
pub mod server;
pub mod victims;
pub mod wire;

pub use client::*;
pub use wire::*;

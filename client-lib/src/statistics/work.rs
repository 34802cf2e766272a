//! What a client brings to a round of a query: its records. Everything is looked at before the advert.

use std::error::Error;

use sha2::{Digest as _, Sha256};
use veilsum_crypto::ids::Digest;
use veilsum_crypto::messages::Header;
use veilsum_crypto::statistics::{Query, SumOf};
use veilsum_crypto::update::ModelUpdate;

use super::{Records, encode};
use crate::participant::{LocalWork, Trained};

/// Answers queries with one client's records. Which queries the client's policy permits is the policy's to say: its pinned layout
/// is the SHA-256 of a query's text.
#[derive(Debug)]
pub struct StatisticsWork {
    records: Records,
    query: Option<Query>,
}

impl StatisticsWork {
    /// With these records.
    pub fn new(records: Records) -> Self {
        Self { records, query: None }
    }

    /// The query of the newest round that was looked at, in this process.
    pub fn query(&self) -> Option<&Query> {
        self.query.as_ref()
    }
}

/// The query of a round, from the bytes that the header names as its model.
///
/// # Errors
/// What is expected of a round of a query.
pub fn query_of(header: &Header, text: &[u8]) -> Result<Query, Box<dyn Error + Send + Sync>> {
    let digest = Digest(Sha256::digest(text).into());
    if header.layout_hash != header.model_hash || header.layout_hash != digest {
        return Err(
            "the round is not one of a query: its header should name the query both as layout and as model".into()
        );
    }
    let query = Query::read(text)?;
    SumOf::suits(&header.params, &query)?;
    Ok(query)
}

fn names_a_query(header: &Header) -> Result<(), Box<dyn Error + Send + Sync>> {
    if header.layout_hash == header.model_hash {
        return Ok(());
    }
    Err("the round is not one of a query: its header should name one text both as layout and as model".into())
}

impl LocalWork for StatisticsWork {
    fn suits(&mut self, header: &Header) -> Result<(), Box<dyn Error + Send + Sync>> {
        names_a_query(header)
    }

    fn accepts(&mut self, header: &Header, model: &[u8]) -> Result<(), Box<dyn Error + Send + Sync>> {
        let query = query_of(header, model)?;
        encode(&query, &self.records)?;
        self.query = Some(query);
        Ok(())
    }

    fn train(&mut self, header: &Header, model: &[u8]) -> Trained {
        let query = query_of(header, model)?;
        let vector = encode(&query, &self.records)?;
        self.query = Some(query);
        Ok(ModelUpdate::new(vector.to_vec())?)
    }
}

#[cfg(test)]
mod tests;

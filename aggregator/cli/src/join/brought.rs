//! What `veilsum join` brings to a round: an update of a model, or records that answer a query.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use veilsum_aggregator::task::query::Answer;
use veilsum_client::participant::Trained;
use veilsum_client::statistics::query_of;
use veilsum_client::{HttpTransport, LocalWork, Records, RoundOutcome, StatisticsWork, Transport as _};
use veilsum_crypto::messages::Header;
use veilsum_crypto::statistics::SumOf;
use veilsum_crypto::statistics::query::TEXT_BYTES_MAX;

use super::vector::Vector;
use crate::exit::Ends as _;
use crate::output::Output;

/// One of the two. Secret: it is the client's data.
pub enum Brought {
    /// For a task that trains a model.
    Update(Vector),
    /// For a task that asks a query.
    Records {
        /// What answers.
        work: StatisticsWork,
        /// How many records are in which file.
        described: String,
        /// Whom the query is told to before it is answered.
        output: Output,
    },
}

impl Brought {
    /// Reads records from a file.
    pub fn records(path: &Path, column: Option<&str>, output: Output) -> Result<Self> {
        let records = Records::read(path, column).with_context(|| format!("{}", path.display())).or_usage()?;
        let described = format!("{} ({} records)", path.display(), records.len());
        Ok(Self::Records { work: StatisticsWork::new(records), described, output })
    }

    /// How it is called in words.
    pub fn described(&self) -> String {
        match self {
            Self::Update(vector) => format!("update: {}", vector.described()),
            Self::Records { described, .. } => format!("records: {described}"),
        }
    }
}

impl LocalWork for Brought {
    fn suits(&mut self, header: &Header) -> Result<(), Box<dyn Error + Send + Sync>> {
        match self {
            Self::Update(_) if header.layout_hash == header.model_hash => {
                Err("the task asks a query and trains no model; give --records".into())
            }
            Self::Update(vector) => vector.suits(header),
            Self::Records { work, .. } => work.suits(header),
        }
    }

    fn accepts(&mut self, header: &Header, model: &[u8]) -> Result<(), Box<dyn Error + Send + Sync>> {
        match self {
            Self::Update(vector) => vector.accepts(header, model),
            Self::Records { work, output, .. } => {
                work.accepts(header, model)?;
                if let Some(query) = work.query() {
                    output.say(&format!("asked: {}; query {}", query.in_words(), header.layout_hash));
                }
                Ok(())
            }
        }
    }

    fn train(&mut self, header: &Header, model: &[u8]) -> Trained {
        match self {
            Self::Update(vector) => vector.train(header, model),
            Self::Records { work, .. } => work.train(header, model),
        }
    }
}

/// What a released sum tells; the query is asked for again, under the hash that the round's header signs.
pub async fn answer(ended: &RoundOutcome, transport: &HttpTransport) -> Result<Option<Answer>> {
    let RoundOutcome::Verified { sum: Some(sum), survivors, header, roster, .. } = ended else { return Ok(None) };
    let path = format!("/v1/models/{}", header.layout_hash);
    let reply = transport.get(&path, None, Duration::ZERO, TEXT_BYTES_MAX).await.context("the query of the round")?;
    if reply.status != 200 {
        return Err(anyhow!("the query of the round was expected, status {} came", reply.status));
    }
    let query = query_of(header, &reply.body).map_err(|error| anyhow!(error)).context("the query of the round")?;
    let of = SumOf { params: &header.params, roster: *roster, survivors: survivors.len() as u32 };
    Ok(Some(Answer::of(&query, sum, of)?))
}

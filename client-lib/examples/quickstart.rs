//! Takes part in one round of a running aggregator, with an update of zeros: it learns nothing, and shows everything.
//!
//! ```text
//! cargo run -p veilsum-client --example quickstart -- <directory with identity.toml and join.toml>
//! ```

use std::error::Error;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use veilsum_client::{HttpTransport, Identity, Join, LocalWork, Participant};
use veilsum_crypto::messages::Header;
use veilsum_crypto::update::ModelUpdate;

struct Zeros;

impl LocalWork for Zeros {
    fn suits(&mut self, _: &Header) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(()) // as many zeros as the round has elements
    }

    fn train(&mut self, header: &Header, _model: &[u8]) -> Result<ModelUpdate, Box<dyn Error + Send + Sync>> {
        // A weighted task counts one element more, for the weight.
        let (len, weight_max) = (header.params.vector_len as usize, header.params.weight_max);
        let update = ModelUpdate::new(vec![0.0; len - usize::from(weight_max > 0)])?;
        if weight_max > 0 { Ok(update.with_weight(1.0, weight_max)?) } else { Ok(update) }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let directory = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "veilsum-data/spare".to_string()));
    let identity = Identity::read(&directory.join("identity.toml"))?;
    let join = Join::read(&directory.join("join.toml"))?;
    let transport = HttpTransport::of(&join)?;
    let mut participant = Participant::open(identity, join, &directory.join("state"), transport).await?;
    let mut events = participant.events();
    tokio::spawn(async move {
        while let Ok(event) = events.recv().await {
            println!("{event:?}");
        }
    });
    let outcome = participant.take_part(&Arc::new(Mutex::new(Zeros))).await?;
    println!("{outcome:?}");
    Ok(())
}

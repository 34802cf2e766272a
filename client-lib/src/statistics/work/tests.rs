//! Headers and queries that do not belong together, from an aggregator that lies or errs: refused before anything is sent.

use std::sync::{Arc, Mutex};

use veilsum_crypto::math::ring::RingBits;
use veilsum_crypto::messages::RevocationList;
use veilsum_crypto::params::RoundParams;
use veilsum_crypto::primitives::signature::IdentitySecretKey;
use veilsum_crypto::privacy::RoundingBounds;
use veilsum_crypto::rules::Rule;
use veilsum_crypto::server::RoundFacts;
use veilsum_crypto::statistics::query::{Proposal, Range};
use veilsum_crypto::statistics::{Kind, Outside};
use veilsum_crypto::testing::{TASK, World, now, small_params};

use super::*;
use crate::config::{Identity, Join};
use crate::participant::{Participant, ParticipantError, RoundOutcome};
use crate::transport::Reply;
use crate::transport::memory::{MemoryTransport, Method};

fn query(bins: u32) -> Query {
    let kind = Kind::Histogram(Range { lo: 0.0, hi: 10.0 }, bins);
    Query::new(Proposal { kind, records_max: 3, outside: Outside::Refuse, level: 0.95 }).expect("it holds")
}

fn digest(text: &str) -> Digest {
    Digest(Sha256::digest(text).into())
}

fn params(query: &Query) -> RoundParams {
    let (clip_norm, scale) = (query.clip_norm(), query.default_scale());
    let bounds = RoundingBounds::new(clip_norm * scale, query.vector_len().into(), (-0.5_f64).exp());
    let params = RoundParams {
        clip_norm,
        scale,
        max_squared_norm: bounds.max_integer_squared_norm,
        total_variance: (4.0 * clip_norm * scale).powi(2).ceil() as u64,
        ring_bits: RingBits::MAX,
        ..small_params(3, query.vector_len())
    };
    RoundParams { ring_bits: params.ring_bits_needed().expect("a ring holds it"), ..params }
}

/// What one client of an aggregator meets: a header, and a text where the header's query should be.
struct Met {
    header: Header,
    served: String,
    pinned: Option<Digest>,
    records: Vec<f64>,
}

impl Met {
    fn honest() -> Self {
        let query = query(4);
        let header = World::new(params(&query)).facts.header;
        let (served, hash) = (query.text(), digest(&query.text()));
        let header = Header { layout_hash: hash, model_hash: hash, ..header };
        Self { header, served, pinned: Some(hash), records: vec![1.0, 9.0] }
    }

    /// How it ends, and what the client asked for or sent.
    async fn ends(self) -> (Result<RoundOutcome, ParticipantError>, Vec<(Method, String)>) {
        let mut world = World::with_policy(self.header.params, |policy| policy.layout = self.pinned);
        let keys = (world.facts.header.aggregator_key, world.facts.header.authority_key);
        let header = Header { aggregator_key: keys.0, authority_key: keys.1, ..self.header };
        world.facts = RoundFacts::new(header, RevocationList::none());
        let (header, served) = (world.header(), self.served);
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        let transport = MemoryTransport::faulty(move |request| {
            let what = request.path.split('/').nth(2).unwrap_or_default().to_string();
            log.lock().expect("no panic").push((request.method, what.clone()));
            let gone = r#"{"type":"about:blank","title":"x","status":410,"detail":"phase-closed","rule":null}"#;
            let reply = match (request.method, what.as_str()) {
                (Method::Get, "tasks") => Reply::new(200, header.clone()),
                (Method::Get, "models") => Reply::new(200, served.clone()),
                _ => Reply::new(410, gone), // whoever comes this far has been let in
            };
            async move { Ok(reply) }
        });
        let member = &world.members[0];
        let secret = IdentitySecretKey::from_bytes(&member.identity.to_bytes());
        let identity = Identity::new(secret, member.certificate.clone(), [1; 32]).expect("its own key");
        let join = Join { server: String::new(), ca_file: None, task: TASK, policy: member.policy.clone() };
        let folder = tempfile::tempdir().expect("a folder");
        let participant = Participant::open(identity, join, &folder.path().join("state"), transport).await;
        let mut participant = participant.expect("nobody else holds it").with_clock(Arc::new(now));
        let work = Arc::new(Mutex::new(StatisticsWork::new(Records::of_numbers(self.records))));
        let ended = participant.take_part(&work).await;
        (ended, asked.lock().expect("no panic").clone())
    }
}

fn has_sent(asked: &[(Method, String)]) -> bool {
    asked.iter().any(|(method, _)| *method == Method::Put)
}

/// What is refused below is refused for its own reason: the honest one is answered.
#[tokio::test]
async fn the_query_that_is_pinned_and_signed_is_answered() {
    let (_, asked) = Met::honest().ends().await;
    assert!(has_sent(&asked), "{asked:?}");
    let (_, asked) = Met { pinned: None, ..Met::honest() }.ends().await;
    assert!(has_sent(&asked), "{asked:?}");
}

/// C-313: a query is answered only if it is the one that the header signs, under the figures that follow from it; nothing is sent.
#[tokio::test]
async fn a_query_that_is_not_the_header_s_is_not_answered() {
    let honest = Met::honest();
    let other = query(5).text();
    let refused = |met: Met| async {
        let (ended, asked) = met.ends().await;
        assert!(!has_sent(&asked), "{asked:?}");
        (ended.expect_err("refused"), asked.iter().any(|(_, what)| what == "models"))
    };

    let (error, _) = refused(Met { served: other.clone(), ..Met::honest() }).await;
    assert!(matches!(error, ParticipantError::Model { .. }), "{error}");

    // One text as the layout, which is pinned, and another as the model: not even fetched.
    let header = Header { model_hash: digest(&other), ..honest.header.clone() };
    let (error, is_fetched) = refused(Met { header, served: other.clone(), ..Met::honest() }).await;
    assert!(matches!(&error, ParticipantError::Unsuited(_)) && !is_fetched, "{error}");
    assert!(error.to_string().contains("one text both as layout and as model"), "{error}");

    // Another sensitivity than the query's, upwards: the noise would be small beside what one client may add.
    let wide = RoundParams { clip_norm: 6.0, scale: 256.0, ..honest.header.params };
    let (error, _) = refused(Met { header: Header { params: wide, ..honest.header.clone() }, ..Met::honest() }).await;
    assert!(error.to_string().contains("clip_norm is 6, this query has 3"), "{error}");

    // No query at all, or one in other words.
    for served in ["veilsum-query-1\n".to_string(), honest.served.replace("hi = 10", "hi = 10.0")] {
        let hash = digest(&served);
        let header = Header { layout_hash: hash, model_hash: hash, ..honest.header.clone() };
        let (error, _) = refused(Met { header, served, pinned: None, ..Met::honest() }).await;
        assert!(error.to_string().contains("a query of the form veilsum-query-1 was expected"), "{error}");
    }
}

/// C-313: who pins a query answers no other.
#[tokio::test]
async fn a_query_that_the_policy_does_not_pin_is_not_answered() {
    let other = query(5);
    let hash = digest(&other.text());
    let header = Met::honest().header;
    let header = Header { layout_hash: hash, model_hash: hash, params: params(&other), ..header };
    let (ended, asked) = Met { header, served: other.text(), ..Met::honest() }.ends().await;
    let Ok(RoundOutcome::Stopped { why, .. }) = ended else { panic!("{ended:?}") };
    assert_eq!(why.rule(), Rule(2), "{why}");
    assert_eq!(asked, [(Method::Get, "tasks".to_string())], "nothing was fetched, nothing sent");
}

/// C-312: what is no answer is refused before the advert, in words that do not show it.
#[tokio::test]
async fn records_that_are_no_answer_are_never_advertised() {
    for (records, words) in [
        (vec![1.0, 77.25], "record 2 is outside the query's range: values from 0 to 10 are accepted"),
        (vec![f64::NAN], "record 1 is no finite number"),
        (vec![1.0; 4], "at most 3 records of one client are counted, 4 came"),
    ] {
        let (ended, asked) = Met { records, ..Met::honest() }.ends().await;
        let error = ended.expect_err("refused").to_string();
        assert!(error.contains(words) && error.ends_with("nothing was sent") && !error.contains("77"), "{error}");
        assert!(!has_sent(&asked), "{asked:?}");
    }
}

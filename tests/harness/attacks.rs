//! The attack catalogue (`tests/attacks.csv`), played: one function a row, named by the row's id.
//!
//! In: how much more to execute than by default. Out: what was seen. An attack that gets what it must not panics, as a test
//! does. `tests/tests/attacks.rs` runs each as a test; the program `attacks` prints them as a table.
//!
//! Where an attack proves little by failing, the honest control, or the same attack on a client without the check, is played
//! first. Counts are those executed; the catalogue's larger ones need `--scale`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Mutex;

use crate::catalogue::{self, Row};
use crate::without;

mod a_contexts;
mod a_rosters;
mod a_service;
mod a_statements;
mod a_views;
mod b_channels;
mod b_lists;
mod b_secrets;
mod c_cohorts;
mod d_complaints;
mod d_dealers;
mod d_dropouts;
mod d_uploads;
mod dice;
mod e_crypto;
mod f_noise;
mod g_formats;
mod g_service;
mod h_operations;
mod rehearsal;

/// How many times as much is executed as by default.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scale(pub usize);

impl Scale {
    /// So many, by default.
    pub fn times(self, count: usize) -> usize {
        count.saturating_mul(self.0)
    }
}

/// What an attack came to.
#[derive(Clone, PartialEq, Debug)]
pub struct Seen {
    /// In words.
    pub text: String,
    /// In numbers, with their names.
    pub figures: Vec<(&'static str, f64)>,
}

impl Seen {
    /// In words.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), figures: Vec::new() }
    }

    /// And one number of it.
    pub fn figure(mut self, name: &'static str, value: impl Into<f64>) -> Self {
        self.figures.push((name, value.into()));
        self
    }

    /// And one count of it.
    pub fn count(self, name: &'static str, count: usize) -> Self {
        self.figure(name, count as f64)
    }
}

/// An attack under way.
pub type Playing = Pin<Box<dyn Future<Output = Seen> + Send>>;

/// One row of the catalogue, and how it is played.
#[derive(Clone, Debug)]
pub struct Attack {
    /// Its function: the id in lower case, then what the attack is.
    pub name: &'static str,
    /// What is threatened, as the registry knows it.
    pub threat: &'static str,
    /// Plays it.
    pub play: fn(Scale) -> Playing,
}

impl Attack {
    /// As in the catalogue: a letter and two digits.
    pub fn id(&self) -> String {
        self.name[..3].to_uppercase()
    }

    /// What the catalogue says of it.
    pub fn row(&self) -> Row {
        catalogue::row(&self.id()).unwrap_or_else(|| panic!("{} is in the catalogue", self.id()))
    }
}

/// Hands every attack to a macro: `family::function: "threat";` one after another. The one list of them.
#[macro_export]
macro_rules! attacks {
    ($each:ident) => {
        $each! {
            a_views::a01_key_directory_lie: "key directory lie";
            a_views::a02_split_directory_view: "split directory view";
            a_views::a05_roster_omission: "roster omission";
            a_rosters::a06_sybil_cohort: "Sybil cohort, one honest client";
            a_rosters::a07_claimed_cohort: "claimed vs real cohort";
            a_rosters::a08_parameter_downgrade: "parameter downgrade";
            a_rosters::a09_server_picks_neighbours: "server picks neighbours";
            a_statements::a11_late_insertion: "late insertion";
            a_statements::a12_duplicate_or_weak_keys: "duplicate or weak keys";
            a_contexts::a13_model_inconsistency: "model inconsistency";
            a_contexts::a14_parameter_inconsistency: "parameter inconsistency";
            a_statements::a16_directory_replay: "directory replay";
            a_service::a17_second_statement_after_a_crash: "second statement after a crash";
            a_service::a18_certificate_that_ends_in_the_round: "certificate that ends in the round";
            a_statements::a20_lock_out_by_counter: "lock-out by counter";
            a_statements::a21_revoked_client_in_the_roster: "revoked client in the roster";
            b_secrets::b01_both_share_types_one_request: "both share types, one request";
            b_secrets::b02_both_share_types_two_requests: "both share types, two requests";
            b_secrets::b04_isolation_by_dropout_claims: "isolation by inconsistent dropout claims";
            b_lists::b06_survivors_below_threshold: "survivors below threshold";
            b_lists::b07_ask_a_declared_dropped_client: "ask a declared-dropped client";
            b_secrets::b08_foreign_share_request: "foreign share request";
            b_channels::b09_late_masked_input: "late masked input";
            b_channels::b11_ciphertext_tampering: "ciphertext tampering";
            b_channels::b12_benign_retry: "benign retry";
            b_channels::b15_forced_openings: "forced openings";
            b_lists::b16_two_roots_in_a_complete_graph: "two roots in a complete graph";
            b_lists::b17_small_core: "small core";
            b_channels::b19_forged_complaint: "forged complaint";
            c_cohorts::c04_small_cohort_after_dropout: "small cohort after dropout";
            c_cohorts::c06_round_id_reuse: "round id reuse";
            c_cohorts::c07_cross_task_replay: "cross-task replay";
            c_cohorts::c12_metric_side_channel: "metric side channel";
            d_dealers::d01_bad_shares: "bad shares";
            d_dealers::d02_over_degree_polynomial: "over-degree polynomial";
            d_uploads::d03_bad_share_at_unmask: "bad share at unmask";
            d_complaints::d04_framing: "framing";
            d_uploads::d09_malformed_vectors: "malformed vectors";
            d_dropouts::d10_adversarial_dropout: "adversarial dropout";
            d_dropouts::d11_mass_dropout: "mass dropout";
            d_uploads::d13_equivocating_upload: "equivocating upload";
            d_dealers::d18_dealer_off_the_polynomial: "dealer off the polynomial";
            d_complaints::d19_silent_acknowledgers: "silent acknowledgers";
            d_dealers::d20_edge_that_nobody_can_blame: "edge that nobody can blame";
            d_complaints::d21_false_complaint: "false complaint";
            e_crypto::e03_mask_bias: "mask bias";
            e_crypto::e05_invalid_dh_points: "invalid DH points";
            e_crypto::e07_shamir_indices: "Shamir indices";
            e_crypto::e08_vacuous_loops: "vacuous loops";
            e_crypto::e10_encoding_ambiguity: "encoding ambiguity";
            e_crypto::e11_vector_suites: "vector suites";
            f_noise::f01_floating_point_attack: "floating point attack";
            f_noise::f02_sampler_timing: "sampler timing";
            f_noise::f06_noise_wrap: "noise wrap";
            f_noise::f08_sampler_law: "sampler law";
            g_service::g01_oversized_body: "oversized body";
            g_formats::g02_decompression_bomb: "decompression bomb";
            g_service::g03_slowloris_headers: "slowloris headers";
            g_service::g10_idempotency: "idempotency";
            g_formats::g14_sql_protocol_smuggling: "SQL protocol smuggling";
            g_formats::g15_deserialiser_rce_class: "deserialiser RCE class";
            g_service::g16_late_retry: "late retry";
            h_operations::h03_sql_injection: "SQL injection";
            h_operations::h07_config_change_mid_round: "config change mid-round";
        }
    };
}

macro_rules! registry {
    ($($family:ident::$name:ident: $threat:literal;)*) => {
        /// Every attack that is played, in the order of the catalogue's letters.
        pub fn all() -> Vec<Attack> {
            vec![$(Attack {
                name: stringify!($name),
                threat: $threat,
                play: |scale| Box::pin($family::$name(scale)),
            }),*]
        }
    };
}
attacks!(registry);

/// The attack with this name.
pub fn named(name: &str) -> Attack {
    all().into_iter().find(|attack| attack.name == name).unwrap_or_else(|| panic!("no attack is called {name}"))
}

/// What is being tried right now, so that a failure can say so. One attack at a time in the program; tests print it instead.
static TRYING: Mutex<Option<String>> = Mutex::new(None);

/// Takes a check away in the gullible model (`crate::without`), and says what its attack then gains: the control of attacks
/// that fail because of it.
fn gained_without(rule: u8, attack: &str) -> String {
    let all = without::all();
    let entry = all.iter().find(|entry| (entry.rule, entry.attack) == (rule, attack));
    let entry = entry.unwrap_or_else(|| panic!("R-{rule:02} has no attack called {attack}"));
    let seen = entry.run();
    assert!(entry.is_as_expected(&seen), "R-{rule:02}, {attack}: {seen:?}");
    seen.without.expect("something is gained")
}

/// Says what is tried next: aloud, unless the program keeps it.
fn trying(what: &str) {
    match &mut *TRYING.lock().expect("no panic holds this lock") {
        Some(kept) => *kept = what.to_string(),
        None => println!("trying: {what}"),
    }
}

/// Keeps what is tried instead of printing it, from now on; returns what was kept last.
pub fn keep_quiet() -> String {
    TRYING.lock().expect("no panic holds this lock").replace(String::new()).unwrap_or_default()
}

//! The masking graph: how many neighbours, and how many shares rebuild a secret,
//! `docs/protocol.md` §3.2.
//!
//! Of `n` clients `c` are corrupt and `d` drop out. Each client shares its secrets `t` of `k` among
//! its `k` ring neighbours. `X ~ HG(n-1, c, k)` of them are corrupt, `Y ~ HG(n-1, n-1-d, k)`
//! answer.
//!
//! ```text
//! A  p_A = n Pr[X >= t]  (semi-honest)  or  n Pr[2t <= k + X]  (semi-malicious)   <= 2^-(sigma+1)
//! B  p_B = n(n-k-1)/2 prod_{j<k} (b-j)/(n-j),  b = min(n, c+d),  0 if k > b       <= 2^-(sigma+1)
//! C  p_C = n Pr[Y <= t-1]                                                         <= 2^-eta
//! ```
//!
//! The answer is the smallest even `k` from 2 to `n-2` for which some `t` from 2 to `k` passes,
//! else the complete graph. Everybody derives it alone, so it must be the same on every platform:
//! the logarithms are `libm`'s, and all sums run in one fixed order.

mod hypergeometric;

use core::f64::consts::LN_2;

use libm::log2;
use thiserror::Error;

use hypergeometric::{Hypergeometric, Side};

/// What the aggregator may do, §3.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adversary {
    /// Keeps to the protocol and looks at everything.
    SemiHonest,
    /// May also tell different clients different things. Suite 1 assumes this one.
    SemiMalicious,
}

/// A question about one roster size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GraphQuery {
    /// Clients in the roster, n.
    pub clients: u32,
    /// Corrupt clients among them, c.
    pub corrupt: u32,
    /// Clients that may drop out, d.
    pub dropped: u32,
    /// sigma: an attack on the graph succeeds with probability at most 2^-sigma.
    pub security_bits: u16,
    /// eta: honest dropouts stop a round with probability at most 2^-eta.
    pub completion_bits: u16,
    /// The model.
    pub adversary: Adversary,
}

/// The shape of the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GraphKind {
    /// Half of the neighbours on each side of the ring.
    Harary,
    /// Everybody is everybody's neighbour.
    Complete,
}

/// Degree and thresholds that hold, with the logarithms of what can still go wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Graph {
    /// Sparse or complete.
    pub kind: GraphKind,
    /// Neighbours of each client, k.
    pub degree: u32,
    /// The smallest threshold that is safe, t. Suite 1 uses it.
    pub threshold: u32,
    /// The largest threshold at which rounds still complete.
    pub threshold_max: u32,
    /// log2 of p_A: somebody's secrets are exposed.
    pub log2_p_exposed: f64,
    /// log2 of p_B: the honest survivors fall into two parts.
    pub log2_p_disconnected: f64,
    /// log2 of p_C: somebody has too few answering neighbours.
    pub log2_p_incomplete: f64,
}

/// The most clients that a search accepts; a header could name more.
const MAX_CLIENTS: u32 = 1 << 24;

/// No graph does what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Infeasible {
    /// The roster is larger than any that was checked.
    #[error("a roster of {clients} clients was given, at most 2^24 are possible; form groups")]
    TooManyClients {
        /// n.
        clients: u32,
    },
    /// Fewer than two clients would be honest and present.
    #[error(
        "{corrupt} corrupt and {dropped} dropped clients of {clients} were given, at most n - 2 \
         are possible; tolerate less or enlarge the roster"
    )]
    TooFewLeft {
        /// n.
        clients: u32,
        /// c.
        corrupt: u32,
        /// d.
        dropped: u32,
    },
    /// No threshold is at once safe and reachable, even when everybody is a neighbour.
    #[error(
        "no threshold is safe against {corrupt} corrupt clients of {clients} and reachable without \
         {dropped} of them; lower dropout_tolerance or corrupt_fraction, or enlarge the roster"
    )]
    NoThreshold {
        /// n.
        clients: u32,
        /// c.
        corrupt: u32,
        /// d.
        dropped: u32,
    },
}

/// Finds the smallest degree, and the thresholds it permits.
///
/// Takes well under 50 ms up to a million clients. Depends on public values only.
///
/// # Errors
/// [`Infeasible`], if not even the complete graph will do.
pub fn search(query: &GraphQuery) -> Result<Graph, Infeasible> {
    let &GraphQuery { clients, corrupt, dropped, .. } = query;
    if clients > MAX_CLIENTS {
        return Err(Infeasible::TooManyClients { clients });
    }
    if u64::from(corrupt) + u64::from(dropped) + 2 > u64::from(clients) {
        return Err(Infeasible::TooFewLeft { clients, corrupt, dropped });
    }
    harary(query).or_else(|| complete(query)).ok_or(Infeasible::NoThreshold { clients, corrupt, dropped })
}

/// The largest number of dropouts for which [`search`] finds a graph; `query.dropped` is ignored.
///
/// `None` if there is none even without dropouts. Used to say what would be feasible.
pub fn largest_feasible_dropped(query: &GraphQuery) -> Option<u32> {
    // More dropouts only make p_B and p_C larger, so what is feasible is an interval from zero. The
    // complete graph says where it ends, unless a lax eta lets a sparse one go a little further.
    let feasible = |dropped| search(&GraphQuery { dropped, ..*query }).is_ok();
    let bound = query.clients.checked_sub(query.corrupt.checked_add(2)?)?;
    let mut largest = (query.clients - 1).saturating_sub(complete_threshold(query)).min(bound);
    if !feasible(largest) {
        return None;
    }
    while largest < bound && feasible(largest + 1) {
        largest += 1;
    }
    Some(largest)
}

fn complete(query: &GraphQuery) -> Option<Graph> {
    let threshold = complete_threshold(query);
    let threshold_max = query.clients - 1 - query.dropped;
    (threshold <= threshold_max).then_some(Graph {
        kind: GraphKind::Complete,
        degree: query.clients - 1,
        threshold,
        threshold_max,
        log2_p_exposed: f64::NEG_INFINITY,
        log2_p_disconnected: f64::NEG_INFINITY,
        log2_p_incomplete: f64::NEG_INFINITY,
    })
}

fn complete_threshold(query: &GraphQuery) -> u32 {
    match query.adversary {
        Adversary::SemiHonest => query.corrupt + 1,
        Adversary::SemiMalicious => query.clients.midpoint(query.corrupt + 1), // ceil((n + c) / 2)
    }
    .max(2)
}

/// Scans even degrees upward, past those that a bound rules out.
///
/// Let `gap = t_min - t_max` be positive at `k`. A larger degree never lowers the number of corrupt
/// neighbours to expect, and two more neighbours add at most two answers. So `t_max` rises by at
/// most 2 a step of 2, while `t_min` never falls (semi-honest) or rises by at least 1
/// (semi-malicious, where `t_min = ceil((k + s) / 2)` with a rising `s`): the gap closes by at most
/// 2 or 1 a step, and the steps before it can have closed need no look.
fn harary(query: &GraphQuery) -> Option<Graph> {
    let scan = Scan::new(query);
    let last_degree = query.clients.checked_sub(2)? & !1;
    let mut degree = scan.first_connected(last_degree)?;
    let (mut exposing, mut answers) = (1, 0); // where the last search ended: the next starts there
    let mut added = 0;
    while degree <= last_degree {
        exposing = scan.fewest_exposing(degree, exposing + scan.share_of(added, query.corrupt));
        answers = scan.most_surely_answering(degree, answers + added - scan.share_of(added, query.dropped));
        let threshold = match query.adversary {
            Adversary::SemiHonest => exposing,
            Adversary::SemiMalicious => (degree + exposing).div_ceil(2),
        }
        .max(2);
        let threshold_max = answers.min(degree);
        if threshold <= threshold_max {
            return Some(scan.graph(degree, threshold, threshold_max));
        }
        let gap = threshold - threshold_max;
        let steps = match query.adversary {
            Adversary::SemiHonest => gap.div_ceil(2),
            Adversary::SemiMalicious => gap,
        };
        added = steps.saturating_mul(2).min(query.clients);
        degree = degree.saturating_add(added);
    }
    None
}

/// The three conditions of §3.2 for one query, in natural logarithms.
struct Scan<'a> {
    query: &'a GraphQuery,
    /// ln of the largest permitted Pr[X >= s]: p_A without its factor n.
    ln_exposed: f64,
    /// ln of the largest permitted p_B.
    ln_disconnected: f64,
    /// ln of the largest permitted Pr[Y <= t-1].
    ln_incomplete: f64,
}

impl<'a> Scan<'a> {
    fn new(query: &'a GraphQuery) -> Self {
        let ln_clients = libm::log(f64::from(query.clients));
        let ln_secure = -(f64::from(query.security_bits) + 1.0) * LN_2;
        Self {
            query,
            ln_exposed: ln_secure - ln_clients,
            ln_disconnected: ln_secure,
            ln_incomplete: -f64::from(query.completion_bits) * LN_2 - ln_clients,
        }
    }

    fn corrupt_neighbours(&self, degree: u32) -> Hypergeometric {
        Hypergeometric::new(self.query.clients - 1, self.query.corrupt, degree)
    }

    fn answering_neighbours(&self, degree: u32) -> Hypergeometric {
        let present = self.query.clients - 1 - self.query.dropped;
        Hypergeometric::new(self.query.clients - 1, present, degree)
    }

    fn ln_p_disconnected(&self, degree: u32) -> f64 {
        let GraphQuery { clients, corrupt, dropped, .. } = *self.query;
        let (n, k) = (f64::from(clients), f64::from(degree));
        // The product is the chance that k clients drawn at random are all among the b bad ones.
        let all_bad = Hypergeometric::new(clients, corrupt + dropped, degree).ln_pmf(degree);
        libm::log(n * (n - k - 1.0) / 2.0) + all_bad
    }

    /// The smallest even degree that passes B. p_B falls as k rises: so do all its factors.
    fn first_connected(&self, last_degree: u32) -> Option<u32> {
        let passes = |half: u32| self.ln_p_disconnected(2 * half) <= self.ln_disconnected;
        let (mut low, mut high) = (1, last_degree / 2); // halves of degrees
        if high == 0 || !passes(high) {
            return None;
        }
        while low < high {
            let middle = low.midpoint(high);
            if passes(middle) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        Some(2 * low)
    }

    /// How many of `added` more neighbours are of one kind, on average.
    fn share_of(&self, added: u32, kind: u32) -> u32 {
        let product = u64::from(added) * u64::from(kind);
        (product / u64::from(self.query.clients)) as u32 // kind < clients
    }

    /// The smallest s with n Pr[X >= s] within A; from 1 to k + 1.
    fn fewest_exposing(&self, degree: u32, guess: u32) -> u32 {
        let corrupt = self.corrupt_neighbours(degree);
        let passes = |s: u32| corrupt.tail_at_most(Side::Upper, s, self.ln_exposed);
        first_true(1, degree + 1, guess, passes)
    }

    /// The largest t with n Pr[Y <= t-1] within C; from 0.
    fn most_surely_answering(&self, degree: u32, guess: u32) -> u32 {
        let answering = self.answering_neighbours(degree);
        let fails = |t: u32| t > 0 && !answering.tail_at_most(Side::Lower, t - 1, self.ln_incomplete);
        first_true(1, degree + 1, guess + 1, fails) - 1
    }

    fn graph(&self, degree: u32, threshold: u32, threshold_max: u32) -> Graph {
        let exposing = match self.query.adversary {
            Adversary::SemiHonest => threshold,
            Adversary::SemiMalicious => 2 * threshold - degree,
        };
        let log2_clients = log2(f64::from(self.query.clients));
        let exposed = self.corrupt_neighbours(degree).ln_tail(Side::Upper, exposing);
        let incomplete = self.answering_neighbours(degree).ln_tail(Side::Lower, threshold - 1);
        Graph {
            kind: GraphKind::Harary,
            degree,
            threshold,
            threshold_max,
            log2_p_exposed: exposed / LN_2 + log2_clients,
            log2_p_disconnected: self.ln_p_disconnected(degree) / LN_2,
            log2_p_incomplete: incomplete / LN_2 + log2_clients,
        }
    }
}

/// The first value from `low` to `high` for which a rising predicate holds; `high` if none below.
///
/// Walks away from `guess` in doubling steps, then bisects: a good guess costs two evaluations.
fn first_true(low: u32, high: u32, guess: u32, holds: impl Fn(u32) -> bool) -> u32 {
    let (mut low, mut high) = (low, high); // the answer is within low..=high
    let (mut at, mut step) = (guess.clamp(low, high - 1), 1);
    while low < high {
        if holds(at) {
            high = at;
            at = at.saturating_sub(step).max(low);
        } else {
            low = at + 1;
            at = at.saturating_add(step).min(high - 1);
        }
        step = step.saturating_mul(2);
        if high - low <= step {
            at = low.midpoint(high);
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::string::String;
    use std::vec::Vec;
    use std::{format, fs, println};

    fn rows(file: &str) -> Vec<BTreeMap<String, String>> {
        let path = format!("{}/../tests/reference/graph/{file}", env!("CARGO_MANIFEST_DIR"));
        let text = fs::read_to_string(&path).expect("the reference tables are in tests/reference");
        let mut lines = text.lines();
        let names: Vec<&str> = lines.next().expect("a header line").split(',').collect();
        let row = |line: &str| names.iter().map(|&name| name.into()).zip(line.split(',').map(Into::into)).collect();
        lines.map(row).collect()
    }

    fn query(row: &BTreeMap<String, String>) -> GraphQuery {
        let number = |name: &str| row[name].parse::<u32>().expect("a count");
        GraphQuery {
            clients: number("n"),
            corrupt: number("c"),
            dropped: number("d"),
            security_bits: number("sigma") as u16,
            completion_bits: number("eta") as u16,
            adversary: match row["model"].as_str() {
                "semi_honest" => Adversary::SemiHonest,
                _ => Adversary::SemiMalicious,
            },
        }
    }

    fn assert_equals_table(file: &str) {
        for row in rows(file) {
            let found = search(&query(&row));
            if row["graph"] == "infeasible" {
                assert!(found.is_err(), "{row:?}: {found:?}");
                continue;
            }
            let graph = found.unwrap_or_else(|e| panic!("{row:?}: {e}"));
            let kind = match row["graph"].as_str() {
                "harary" => GraphKind::Harary,
                _ => GraphKind::Complete,
            };
            let number = |name: &str| row[name].parse::<u32>().expect("a count");
            let expected = (kind, number("k"), number("t_min"), number("t_max"));
            let got = (graph.kind, graph.degree, graph.threshold, graph.threshold_max);
            assert_eq!(got, expected, "{row:?}");
            for (name, got) in [
                ("log2_pA", graph.log2_p_exposed),
                ("log2_pB", graph.log2_p_disconnected),
                ("log2_pC", graph.log2_p_incomplete),
            ] {
                let expected: f64 = row[name].parse().expect("a logarithm");
                let equal = got == expected || (got - expected).abs() <= 1e-6;
                assert!(equal, "{name}: {got} in {row:?}");
            }
        }
    }

    #[test]
    fn the_search_equals_the_reference_table() {
        assert_equals_table("graph_params_public.csv");
    }

    #[test]
    fn the_protocol_settings_equal_the_reference_table() {
        assert_equals_table("graph_params_protocol_public.csv");
    }

    /// The skips leave nothing out: every even degree is tried here, one after the other.
    #[test]
    fn skipping_finds_what_the_plain_scan_finds() {
        let mut state = 1_u64; // a fixed walk over parameters
        let mut below = |bound: u32| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as u32 % bound
        };
        for _ in 0..400 {
            let clients = 4 + below(400);
            let query = GraphQuery {
                clients,
                corrupt: below(clients / 2),
                dropped: below(clients / 2),
                security_bits: below(60) as u16,
                completion_bits: below(40) as u16,
                adversary: [Adversary::SemiHonest, Adversary::SemiMalicious][below(2) as usize],
            };
            if query.corrupt + query.dropped + 2 > clients {
                continue;
            }
            let scan = Scan::new(&query);
            let plain = (2..=clients - 2).step_by(2).find_map(|degree| {
                let passes = |&t: &u32| {
                    let exposing = match query.adversary {
                        Adversary::SemiHonest => t,
                        Adversary::SemiMalicious => (2 * t).saturating_sub(degree),
                    };
                    let exposed = scan.corrupt_neighbours(degree).ln_tail(Side::Upper, exposing);
                    let answering = scan.answering_neighbours(degree);
                    exposed <= scan.ln_exposed
                        && scan.ln_p_disconnected(degree) <= scan.ln_disconnected
                        && answering.ln_tail(Side::Lower, t - 1) <= scan.ln_incomplete
                };
                let thresholds: Vec<u32> = (2..=degree).filter(passes).collect();
                Some((degree, *thresholds.first()?, *thresholds.last()?))
            });
            let found = harary(&query).map(|g| (g.degree, g.threshold, g.threshold_max));
            assert_eq!(found, plain, "{query:?}");
        }
    }

    #[test]
    fn the_largest_feasible_dropout_is_the_last_that_a_search_accepts() {
        for (clients, corrupt) in [(3, 0), (4, 1), (10, 1), (64, 4), (100, 33), (1000, 50)] {
            for adversary in [Adversary::SemiHonest, Adversary::SemiMalicious] {
                for (security_bits, completion_bits) in [(80, 30), (0, 0), (10, 1)] {
                    let query = GraphQuery { clients, corrupt, dropped: 0, security_bits, completion_bits, adversary };
                    let accepted = |&dropped: &u32| search(&GraphQuery { dropped, ..query }).is_ok();
                    let plain = (0..clients).take_while(accepted).last();
                    assert_eq!(largest_feasible_dropped(&query), plain, "{query:?}");
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_met_is_refused_by_name() {
        let mut query = GraphQuery {
            clients: 4,
            corrupt: 1,
            dropped: 1,
            security_bits: 80,
            completion_bits: 30,
            adversary: Adversary::SemiMalicious,
        };
        let refused = Infeasible::NoThreshold { clients: 4, corrupt: 1, dropped: 1 };
        assert_eq!(search(&query), Err(refused));
        assert_eq!(largest_feasible_dropped(&query), Some(0));
        query.dropped = u32::MAX;
        let refused = Infeasible::TooFewLeft { clients: 4, corrupt: 1, dropped: u32::MAX };
        assert_eq!(search(&query), Err(refused));
    }

    /// The hardest row of the reference's worked values: gamma = delta = 0.33 at a million.
    #[test]
    fn a_million_clients_at_the_edge_of_the_feasible() {
        let query = GraphQuery {
            clients: 1_000_000,
            corrupt: 330_000,
            dropped: 330_000,
            security_bits: 40,
            completion_bits: 30,
            adversary: Adversary::SemiMalicious,
        };
        let started = std::time::Instant::now();
        let graph = search(&query).expect("feasible");
        println!("searched in {:?}", started.elapsed());
        assert_eq!((graph.degree, graph.threshold), (575_042, 383_431));
    }
}

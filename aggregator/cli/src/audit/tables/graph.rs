//! Tables of graph parameters: degree, thresholds, and the probabilities of what can still go wrong.

use veilsum_crypto::graph::{Adversary, GraphKind, GraphQuery, search};

use super::check::{Check, Malformed, Tolerance};

/// Of a binary logarithm.
const NEAR: Tolerance = Tolerance::Absolute(1e-6);

/// `graph_params` and `graph_params_protocol`: the search from the counts (n, c, d).
pub fn graph_params(check: &mut Check<'_>) -> Result<(), Malformed> {
    let adversary = match check.text("model")? {
        "semi_honest" => Adversary::SemiHonest,
        "semi_malicious" => Adversary::SemiMalicious,
        other => return Err(Malformed(format!("model: {other:?} is neither semi_honest nor semi_malicious"))),
    };
    let query = GraphQuery {
        clients: check.parsed("n")?,
        corrupt: check.parsed("c")?,
        dropped: check.parsed("d")?,
        security_bits: check.parsed("sigma")?,
        completion_bits: check.parsed("eta")?,
        adversary,
    };
    let Ok(graph) = search(&query) else {
        check.equal("graph", "infeasible".to_string())?;
        return ["k", "t_min", "t_max", "log2_pA", "log2_pB", "log2_pC"].into_iter().try_for_each(|c| check.empty(c));
    };
    let kind = match graph.kind {
        GraphKind::Harary => "harary",
        GraphKind::Complete => "complete",
    };
    check.equal("graph", kind.to_string())?;
    check.equal("k", graph.degree)?;
    check.equal("t_min", graph.threshold)?;
    check.equal("t_max", graph.threshold_max)?;
    check.near("log2_pA", NEAR, graph.log2_p_exposed)?;
    check.near("log2_pB", NEAR, graph.log2_p_disconnected)?;
    check.near("log2_pC", NEAR, graph.log2_p_incomplete)
}

//! Attacks with complaints, which make an honest dealer open its edges: R-16.

use curve25519_dalek::Scalar;
use veilsum_crypto::client::Opened;
use veilsum_crypto::ids::LeafIndex;
use veilsum_crypto::messages::acknowledgement::shares_digest;
use veilsum_crypto::messages::opening::SharePair;
use veilsum_crypto::messages::{Acknowledgement, EdgeReport, SealedShares};
use veilsum_crypto::server::PhaseKind;
use veilsum_crypto::testing::{Play, now, small_params};

use crate::without::checks::{Checks, decide, interpolate, stop};
use crate::without::stage::Stage;
use crate::without::{Played, WithoutRule, real};

/// All of this file.
pub fn all() -> Vec<WithoutRule> {
    vec![forced_openings(), damaged_mail()]
}

const TARGET: LeafIndex = LeafIndex(0);

/// The aggregator holds every edge, so it can write complaints in the name of every neighbour of a client, each naming the
/// genuine edge. A dealer that believes an entry without its signature opens them, and gives away both its secrets before it
/// has masked anything.
fn forced_openings() -> WithoutRule {
    WithoutRule {
        with: "a complaint counts under its holder's own signature only, and at most 2t - k - 1 are answered",
        without: "the dealer opens t of its edges to the aggregator: its input is opened exactly (n = 3 and n = 64)",
        patch: |checks| {
            checks.r16 = |dealer, complaints| {
                let named = complaints.iter().filter_map(|bytes| {
                    let message = Acknowledgement::decode(bytes, dealer.view().params.degree).ok()?;
                    let sender = message.signed().statement().sender;
                    dealer
                        .view()
                        .neighbours
                        .iter()
                        .find(|leaf| dealer.view().peer(**leaf).client == sender.into())
                        .copied()
                });
                Ok(named.collect())
            }
        },
        real: || {
            for n in [3, 12] {
                let mut play = Play::new(small_params(n, 8));
                let clients = play.advertise();
                let mut clients = play.share(clients);
                let (dealer, phase) = clients.pop_first().expect("some");
                let mail = play.aggregator.mail[&dealer].clone();
                let (ready, _) = play.world.turn(phase.acknowledge(&mail)?);
                let body = &play.aggregator.received[&PhaseKind::Sharing][&dealer];
                let degree = real::assembly(&play).params().degree;
                let dealt = SealedShares::decode(body, degree).expect("as admitted");
                let order = real::assembly(&play).order();
                let forged: Vec<_> = real::neighbours(&play, dealer)
                    .into_iter()
                    .map(|holder| {
                        let leaf = real::leaf(&play, holder);
                        let edge = dealt.edge_to(leaf).expect("a neighbour").hash();
                        let reports = order.neighbours(leaf).into_iter().map(|of| {
                            if of == real::leaf(&play, dealer) {
                                EdgeReport::Complaint { edge }
                            } else {
                                EdgeReport::Good
                            }
                        });
                        let (chain, root) = (&play.world.facts.chain, real::assembly(&play).root());
                        let key = &play.world.aggregator;
                        Acknowledgement::sign(shares_digest([]), reports.collect(), chain, root, holder, key).encode()
                    })
                    .collect();
                if let Opened::Opening(_) = ready.open(&forged)? {
                    return Ok("the dealer opened".into());
                }
            }
            stop(16, "the dealer opens nothing to complaints that its neighbours did not sign")
        },
        model: |checks| {
            force_openings(checks, 3)?;
            force_openings(checks, 64)
        },
        ..WithoutRule::new(16, "the forced openings")
    }
}

fn force_openings(checks: Checks, n: u32) -> Played {
    let mut stage = Stage::new(small_params(n, 8), checks);
    stage.advertise()?;
    stage.roster = stage.roster_of(&stage.leaves, &stage.params(), [9; 32]);
    let leaves = stage.leaves.clone();
    let target = &mut stage.clients[TARGET.index()];
    target.examine(&stage.roster, &|leaf| leaves[leaf.index()].clone(), now())?;
    target.deal()?;
    let view = target.view().clone();
    let forge = |holder: &LeafIndex| {
        let edge = target.edge_hash(*holder);
        let about = |of: LeafIndex| if of == TARGET { EdgeReport::Complaint { edge } } else { EdgeReport::Good };
        let reports = view.order.neighbours(*holder).into_iter().map(about).collect();
        let (client, key) = (view.peer(*holder).client, &stage.world.aggregator);
        Acknowledgement::sign(shares_digest([]), reports, &view.chain, view.root, client, key).encode()
    };
    let forged: Vec<_> = view.neighbours.iter().map(forge).collect();
    let Some(opening) = target.open(&forged)? else { return stop(16, "the dealer opens nothing") };
    let core = stage.core_of(stage.all_but(&[]));
    stage.mask_one(TARGET, &core, &[])?;
    let pairs: Vec<_> = opening.edges().iter().take(view.params.threshold as usize).collect();
    let rebuild = |kind: fn(&SharePair) -> Scalar| {
        let shares: Vec<_> = pairs.iter().map(|(holder, pair)| (**holder, kind(pair))).collect();
        interpolate(&shares, checks.r12)
    };
    let (s, b) = (rebuild(|pair| *pair.masking.scalar()), rebuild(|pair| *pair.self_mask.scalar()));
    let recovered = stage.open_input(TARGET, b, s, &view.neighbours, core.root());
    stage.is_the_input(TARGET, &recovered, 16)
}

/// The aggregator damages the paths of what the target sent to t - c of its neighbours. They complain, honestly, under their own
/// signatures, and each names the genuine edge: the target opens to them all. With the share of one corrupt neighbour the
/// aggregator has t of both kinds.
fn damaged_mail() -> WithoutRule {
    WithoutRule {
        with: "mail that its dealer did not sign as it came is reported missing: nobody complains, nothing is opened",
        without: "t - c honest neighbours complain about altered mail: with one liar's share the input is opened",
        patch: |checks| {
            checks.r16_mail = |edge| EdgeReport::Complaint { edge: edge.hash() };
            checks.r16 = |dealer, complaints| Ok(decide::complained(dealer, complaints)); // however many
        },
        real: || {
            let mut play = Play::new(small_params(12, 8));
            let clients = play.advertise();
            let clients = play.share(clients);
            let target = *clients.keys().next().expect("twelve");
            let dealer = real::leaf(&play, target).0.to_le_bytes();
            for mailbox in play.aggregator.mail.values_mut() {
                mailbox.iter_mut().filter(|item| item[..4] == dealer).for_each(|item| damage(item));
            }
            for (holder, phase) in clients {
                let mail = play.aggregator.mail[&holder].clone();
                let (_, body) = play.world.turn(phase.acknowledge(&mail)?);
                let reported = Acknowledgement::decode(&body, 8).expect("as sent");
                if reported.complaints() > 0 {
                    return Ok("a holder complained".into());
                }
            }
            stop(16, "altered mail is reported missing; nobody complains")
        },
        model: |checks| {
            let mut stage = Stage::new(small_params(12, 8), checks);
            stage.advertise()?;
            stage.examine()?;
            stage.deal()?;
            let near = stage.view().order.neighbours(TARGET);
            let (liar, honest) = near.split_first().expect("k is 8");
            let (threshold, corrupt) = (stage.params().threshold as usize, stage.params().corrupt as usize);
            let damaged = &honest[..threshold - corrupt];
            let mut acknowledgements = Vec::new();
            for holder in stage.all() {
                let mut mail = stage.mail_without(holder, &[]);
                if damaged.contains(&holder) {
                    mail.iter_mut().filter(|item| item[..4] == TARGET.0.to_le_bytes()).for_each(|item| damage(item));
                }
                acknowledgements.push(stage.acknowledge_one(holder, &mail)?.encode());
            }
            let Some(opening) = stage.clients[TARGET.index()].open(&acknowledgements)? else {
                return stop(16, "nobody complains, the target opens nothing");
            };
            stage.mask(stage.all_but(&[]), &stage.all())?;
            let mut pairs = opening.edges().clone();
            pairs.insert(*liar, stage.clients[liar.index()].held[&TARGET].clone());
            let rebuild = |kind: fn(&SharePair) -> Scalar| {
                let shares: Vec<_> = pairs.iter().map(|(holder, pair)| (*holder, kind(pair))).collect();
                interpolate(&shares, checks.r12)
            };
            let (s, b) = (rebuild(|pair| *pair.masking.scalar()), rebuild(|pair| *pair.self_mask.scalar()));
            let core = stage.core.as_ref().expect("it is fixed").root();
            let recovered = stage.open_input(TARGET, b, s, &near, core);
            stage.is_the_input(TARGET, &recovered, 16)
        },
        ..WithoutRule::new(16, "the damaged mail")
    }
}

/// The path at the end of a mail item leads elsewhere; the edge is whole.
fn damage(item: &mut [u8]) {
    *item.last_mut().expect("a path") ^= 1;
}

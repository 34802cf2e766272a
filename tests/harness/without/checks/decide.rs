//! The decisions as docs/protocol.md has them, one function a rule. Where `veilsum_crypto` exposes the function that decides,
//! it decides here too; where it keeps it to itself, the text was written down again.

use super::*;

/// §4.1.
pub fn r01(statement: &Statement, place: &Place) -> bool {
    statement.stands_at(place)
}

/// §5.1 steps 2 to 4.
pub fn r02(policy: &Policy, header: &Header, task: TaskId, last: u64) -> Decided {
    holds(2, (1..=1 << 20).contains(&header.counter.saturating_sub(last)), "the counter does not grow, or leaps")?;
    policy.permits(header, task).map_err(Stop::from)
}

/// §4.5.
pub fn r03(slot: &mut Option<Vec<u8>>, fresh: &mut dyn FnMut() -> Vec<u8>) -> Vec<u8> {
    slot.get_or_insert_with(fresh).clone()
}

/// §3.2.
pub fn r04(round: &RoundParams, stated: RosterParams) -> Decided<RosterParams> {
    let own = RosterParams::derive(stated.n, round).map_err(|error| Stop { rule: 4, why: error.to_string() })?;
    let agree = (own.degree, own.threshold, own.honest) == (stated.degree, stated.threshold, stated.honest);
    holds(4, agree, "k, t or h are not what follows from n").map(|()| own)
}

/// §5.1.
pub fn r05(ids: &[ClientId], identities: &[IdentityPublicKey]) -> Decided {
    holds(5, ids.windows(2).all(|two| two[0] < two[1]), "ids are not strictly ascending")?;
    let distinct: BTreeSet<_> = identities.iter().collect();
    holds(5, distinct.len() == identities.len(), "one identity key stands in two leaves")
}

/// §4.3, §5.1.
pub fn r06(certificate: &Certificate, header: &Header, revoked: &RevocationList) -> Decided {
    certificate
        .check(&header.authority_key, header.opened_at, revoked)
        .map_err(|error| Stop { rule: 6, why: error.to_string() })
}

/// §5.2 step 4.
pub fn r07(policy: &Policy, n: u32, [own, theirs]: [&CertificateBody; 2]) -> Decided {
    use veilsum_crypto::client::policy::GammaBasis;
    let GammaBasis::CertifiedGroup { coverage_min, .. } = policy.gamma else { return Ok(()) };
    let covered = u64::from(n) * MILLION >= u64::from(own.group_size) * u64::from(coverage_min);
    let one_group = (own.group, own.group_size) == (theirs.group, theirs.group_size);
    holds(7, covered && one_group, "the roster does not cover the certified group")
}

/// §5.2 step 1.
pub fn r08(policy: &Policy, [advert, now]: [Moment; 2]) -> Decided {
    let by_wall = now.wall.0.checked_sub(advert.wall.0);
    let by_monotonic = now.monotonic_ms.checked_sub(advert.monotonic_ms);
    let (Some(wall_us), Some(monotonic_ms)) = (by_wall, by_monotonic) else {
        return stop(8, "a clock ran backwards");
    };
    holds(8, (wall_us / 1_000).max(monotonic_ms) <= policy.roster_deadline_ms, "the roster came too late")
}

/// §2.2.
pub fn r09(leaves: &[RawKeys]) -> Decided {
    let canonical = leaves.iter().all(|keys| {
        Point::from_bytes(keys.masking).is_ok()
            && Point::from_bytes(keys.self_mask).is_ok()
            && ChannelPublicKey::from_bytes(keys.channel).is_ok()
    });
    holds(9, canonical, "a key is not canonical, the identity, or of small order")?;
    let all: BTreeSet<[u8; 32]> = leaves.iter().flat_map(|keys| [keys.masking, keys.self_mask, keys.channel]).collect();
    holds(9, all.len() == 3 * leaves.len(), "one key stands in two places")
}

/// §2.1.
pub fn r10(ends: &PairEnds) -> MaskKey {
    let own = MaskingSecretKey::from_scalar(&ShareScalar::from_scalar(ends.secret));
    let theirs = MaskingPublicKey(Point::from_bytes(ends.peer.1).expect("R-09 saw to it"));
    own.pair_mask_key(ends.me, (ends.peer.0, &theirs), &ends.context)
}

/// §2.6.
pub fn r11_seal(ends: &MailEnds, plaintext: &[u8; 64]) -> Option<[u8; 80]> {
    let (edge, peer) = (mail_edge(ends)?, ChannelPublicKey::from_bytes(ends.peer).ok()?);
    let key = ChannelSecretKey::from_bytes(ends.secret).mail_key(&peer, edge, &ends.context);
    Some(key.seal(plaintext, &ends.aad()))
}

/// §2.6.
pub fn r11_open(ends: &MailEnds, sealed: &[u8; 80]) -> Option<[u8; 64]> {
    let (edge, peer) = (mail_edge(ends)?, ChannelPublicKey::from_bytes(ends.peer).ok()?);
    let key = ChannelSecretKey::from_bytes(ends.secret).mail_key(&peer, edge, &ends.context);
    key.open(sealed, &ends.aad()).map(|plain| *plain)
}

fn mail_edge(ends: &MailEnds) -> Option<MailEdge> {
    Some(MailEdge {
        dealer: ends.dealer.0,
        holder: ends.holder.0,
        dealer_key: ChannelPublicKey::from_bytes(ends.dealer.1).ok()?,
        holder_key: ChannelPublicKey::from_bytes(ends.holder.1).ok()?,
    })
}

/// §2.2.
pub fn r12(holder: LeafIndex) -> Scalar {
    Scalar::from(holder.evaluation_point())
}

/// §5.3 step 2.
pub fn r13(pair: &SharePair, points: &[Point; 2]) -> bool {
    [Point::of(&pair.masking), Point::of(&pair.self_mask)] == *points
}

/// §3.4.
pub fn r14(round: &RoundParams, n: u32) -> u64 {
    round.share_variance(n).expect("R-02 refused a header without honest clients")
}

/// §5.6.
pub fn r15(params: &RosterParams, list: &Bitmap) -> Decided {
    let why = format!("{} survivors; {} are needed", list.count(), params.survivors_min);
    holds(15, list.count() >= params.survivors_min, &why)
}

/// §5.3: mail that is missing, altered or badly signed is never a complaint.
pub fn r16_mail(_: &Edge) -> EdgeReport {
    EdgeReport::Missing
}

/// §5.4 steps 2 and 3.
pub fn r16(dealer: &Client, complaints: &[Vec<u8>]) -> Decided<BTreeSet<LeafIndex>> {
    let allowed = dealer.view().params.openings_max();
    let opened = complained(dealer, complaints);
    holds(16, opened.len() as u32 <= allowed, &format!("{} complaints; {allowed} are answered", opened.len()))?;
    Ok(opened)
}

/// The neighbours whose own signed acknowledgement complains about the very edge that this dealer sent.
pub fn complained(dealer: &Client, complaints: &[Vec<u8>]) -> BTreeSet<LeafIndex> {
    let view = dealer.view();
    let counts = |bytes: &Vec<u8>| {
        let message = Acknowledgement::decode(bytes, view.params.degree).ok()?;
        let statement = message.signed().statement();
        let holder = *view.neighbours.iter().find(|leaf| view.peer(**leaf).client == statement.sender.into())?;
        let at = view.order.neighbours(holder).iter().position(|leaf| *leaf == view.me)?;
        let peer = view.peer(holder);
        let holds = (dealer.checks.r01)(statement, &view.chain.from_client(peer.client, view.root))
            && (dealer.checks.r37)(Side::Client, message.signed(), &peer.identity)
            && message.complaints() <= view.params.openings_max()
            && message.reports()[at] == EdgeReport::Complaint { edge: dealer.edge_hash(holder) };
        holds.then_some(holder)
    };
    complaints.iter().filter_map(counts).collect()
}

/// §5.5 step 2.
pub fn r17(client: &Client, core: &CoreSet) -> Decided<(Bitmap, Digest)> {
    let (view, members) = (client.view(), core.members());
    holds(17, members.has(view.me), "this client is not in the core")?;
    let near = members.count_of(&view.neighbours);
    holds(17, near >= view.params.threshold, &format!("{near} neighbours are in the core"))?;
    holds(17, members.count() >= view.params.survivors_min, "the core is too small")?;
    Ok((members.clone(), core.root()))
}

/// §5.3 close and §5.4 close step 2, without complaints: silence removes only the silent.
pub fn r17_core(facts: &CoreFacts<'_>) -> Bitmap {
    let (n, threshold) = (facts.params.n, facts.params.threshold);
    let acknowledged = |leaf: &LeafIndex| {
        let served = (facts.neighbours)(*leaf);
        facts.reports.get(leaf).is_some_and(|reports| {
            served
                .iter()
                .zip(reports)
                .all(|(dealer, report)| !facts.dealt.has(*dealer) || !matches!(report, EdgeReport::Missing))
        })
    };
    let mut inside = Bitmap::of(n, facts.dealt.leaves().filter(acknowledged));
    loop {
        let stay = inside.leaves().filter(|leaf| inside.count_of(&(facts.neighbours)(*leaf)) >= threshold);
        let next = Bitmap::of(n, stay.collect::<Vec<_>>());
        if next == inside {
            return inside;
        }
        inside = next;
    }
}

/// §5.5 step 4: computed; what the server says is not looked at.
pub fn r18(client: &Client, core: &Bitmap, _said: &[LeafIndex]) -> Vec<LeafIndex> {
    client.view().neighbours.iter().copied().filter(|leaf| core.has(*leaf)).collect()
}

/// §5.5.
pub fn r19(seen: &mut BTreeMap<ClientId, Digest>, client: ClientId, digest: Digest) -> Counted {
    match seen.get(&client) {
        None => {
            seen.insert(client, digest);
            Counted::Fresh
        }
        Some(earlier) if *earlier == digest => Counted::Again,
        Some(_) => Counted::Other,
    }
}

/// §5.5.
pub fn r20(list: &Bitmap, core: &Bitmap) -> Decided {
    holds(20, list.is_within(core), "survivors outside the core")
}

/// §5.6.
pub fn r21(client: &Client, list: &Bitmap) -> Decided {
    let view = client.view();
    holds(21, list.has(view.me), "this client is not listed")?;
    let near = list.count_of(&view.neighbours);
    holds(21, near >= view.params.threshold, &format!("{near} neighbours are listed alive"))
}

/// §5.6.
pub fn r22(client: &Client, list: &Bitmap, core: Digest, uploads: &[Vec<u8>]) -> Decided {
    let view = client.view();
    let uploads: Vec<Upload> = uploads.iter().filter_map(|bytes| Upload::decode(bytes).ok()).collect();
    let signed = |leaf: LeafIndex| {
        let peer = view.peer(leaf);
        let place = view.chain.from_client(peer.client, core);
        uploads.iter().map(Upload::signed).any(|signed| {
            signed.statement().stands_at(&place) && (client.checks.r37)(Side::Client, signed, &peer.identity)
        })
    };
    let all = view.neighbours.iter().filter(|leaf| list.has(**leaf)).all(|leaf| signed(*leaf));
    holds(22, all, "a neighbour is listed alive without its signed upload under this core")
}

/// §5.6 step 3.
pub fn r23(accepted: Option<Digest>, root: Digest) -> Decided {
    holds(23, accepted.is_none_or(|first| first == root), "it has accepted another survivor list")
}

/// §5.7 step 1.
pub fn r24(client: &Client, list: &Bitmap, root: Digest, confirmations: &[Vec<u8>]) -> Decided {
    let view = client.view();
    let mut signers = BTreeSet::new();
    for message in confirmations.iter().filter_map(|bytes| Confirmation::decode(bytes).ok()) {
        let statement = message.signed().statement();
        let agrees = |leaf: &&LeafIndex| view.peer(**leaf).client == statement.sender.into();
        let Some(leaf) = view.order.agreement_set().iter().find(agrees) else { continue };
        let peer = view.peer(*leaf);
        let holds = list.has(*leaf)
            && statement.previous == root
            && (client.checks.r01)(statement, &view.chain.from_client(peer.client, root))
            && (client.checks.r37)(Side::Client, message.signed(), &peer.identity);
        if holds {
            signers.insert(*leaf);
        }
    }
    let (found, needed) = (signers.len() as u32, view.params.threshold);
    holds(24, found >= needed, &format!("{found} valid signatures on this list; {needed} are needed"))
}

/// §5.7 step 2.
pub fn r25(listed: bool, pair: &SharePair) -> Vec<(Kind, ShareScalar)> {
    vec![if listed { (Kind::SelfMask, pair.self_mask.clone()) } else { (Kind::Masking, pair.masking.clone()) }]
}

/// §5.5 step 3, §10.3.
pub fn r26(ledger: &mut Ledger, key: ChargeKey, what: &Charging<'_>) -> Decided {
    if let Charging::Upload { cost, budget } = what {
        if !ledger.is_spent(key) {
            ledger.can_open(cost, *budget).map_err(|error| Stop { rule: 26, why: error.to_string() })?;
        }
        ledger.charge(key, (*cost).clone());
    }
    Ok(()) // never refunded
}

/// §5.7.
pub fn r28(answer: &Signed, key: &IdentityPublicKey) -> bool {
    answer.is_by(key)
}

/// §5.7 close step 1.
pub fn r29(of: &Rebuilding<'_>) -> Rebuilt {
    let try_first = |shares: &BTreeMap<LeafIndex, ShareScalar>| {
        let first: Vec<_> = shares.iter().take(of.threshold).map(|(leaf, share)| (*leaf, *share.scalar())).collect();
        let secret = (first.len() == of.threshold).then(|| interpolate(&first, of.at))?;
        (Point::of(&ShareScalar::from_scalar(secret)) == of.key).then_some(secret)
    };
    if let Some(secret) = try_first(of.shares) {
        return Rebuilt { secret: Some(secret), liars: BTreeSet::new() };
    }
    let matches = |(leaf, share): &(&LeafIndex, &ShareScalar)| of.points.get(*leaf) == Some(&Point::of(share));
    let (right, wrong): (Vec<_>, Vec<_>) = of.shares.iter().partition(matches);
    let right = right.into_iter().map(|(leaf, share)| (*leaf, share.clone())).collect();
    Rebuilt { secret: try_first(&right), liars: wrong.into_iter().map(|(leaf, _)| *leaf).collect() }
}

/// §8.
pub fn r30(fixed: &mut Option<Statement>, now: Statement) -> Statement {
    fixed.get_or_insert(now).clone()
}

/// §5.5 step 5.
pub fn r31(secrets: &mut Option<Secrets>) {
    *secrets = None;
}

/// §2.4.
pub fn r32(key: MaskKey, len: usize, bits: RingBits) -> RingVector {
    let mut mask = RingVector::zeros(len, bits);
    mask.add_mask(key);
    mask
}

/// §9.
pub fn r33(seen: Option<TreeHead>, now: TreeHead, growth: &[Digest]) -> Decided {
    holds(33, seen.is_none_or(|seen| extends(seen, now, growth)), "the log shrank or forked")
}

/// §6.5.
pub fn r34(values: Vec<f32>, weight: f32, round: &RoundParams) -> Decided<RingVector> {
    let update = ModelUpdate::new(values).expect("the attack's are finite");
    let weighted =
        update.with_weight(weight, round.weight_max).map_err(|error| Stop { rule: 34, why: error.to_string() })?;
    let sampler = SkellamSampler::new(round.share_variance(round.roster_min).expect("feasible")).expect("in range");
    let noise = sampler.noise(NoiseSeed::generate(&mut os_rng()), weighted.vector_len());
    let (scale, clip_norm, max_squared_norm) = (round.scale, round.clip_norm, round.max_squared_norm);
    let noised = prepare(weighted, noise, &Privacy { clip_norm, scale, max_squared_norm }, &mut os_rng());
    Ok(noised.expect("one length").into_ring(round.ring_bits))
}

/// §7.2.
pub fn r35(read: &Read<'_>) -> bool {
    let permit = read.permit.and_then(|bytes| ReadPermit::decode(bytes).ok());
    permit.is_some_and(|permit| {
        read.readers.get(&permit.reader()).is_some_and(|key| permit.permits(read.path, read.chain, key))
    })
}

/// §2.7.
pub fn r37(_: Side, signed: &Signed, key: &IdentityPublicKey) -> bool {
    signed.is_by(key)
}

/// §5.2.
pub fn r38(
    dealer: [&RistrettoPoint; 2],
    shares: &[(LeafIndex, [&RistrettoPoint; 2])],
    coefficients: &[Scalar],
) -> bool {
    is_low_degree_vartime(dealer, shares, coefficients)
}

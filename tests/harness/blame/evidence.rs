//! Whether evidence proves anything, to somebody who was not there. protocol.md §4.1
//!
//! In: the signed statements of a round, the two keys that signed them, who is accused of what, and the bytes that are kept.
//! Nothing else: no store, no word of the operator. The tests that production makes are not asked again; low degree, for one, is
//! shown by interpolation here.

use curve25519_dalek::traits::VartimeMultiscalarMul as _;
use curve25519_dalek::{RistrettoPoint, Scalar};
use veilsum_crypto::ids::{ClientId, LeafIndex};
use veilsum_crypto::messages::acknowledgement::shares_digest;
use veilsum_crypto::messages::answer;
use veilsum_crypto::messages::key_advertisement::leaf_digest;
use veilsum_crypto::messages::{
    self, Acknowledgement, Answer, CoreSet, EdgeReport, Evidence, Header, KeyAdvertisement, MailItem, RevocationList,
    Roster, SealedShares, Survivors,
};
use veilsum_crypto::primitives::agreement::Point;
use veilsum_crypto::primitives::codec::Reader;
use veilsum_crypto::primitives::labels::{self, Label};
use veilsum_crypto::primitives::signature::{IdentityPublicKey, Signed};

use super::ring::{Ring, weights_of};

/// What the public has of a round.
#[derive(Clone, Debug)]
pub struct Public {
    /// Pinned.
    pub aggregator: IdentityPublicKey,
    /// Pinned.
    pub authority: IdentityPublicKey,
    /// The signed header.
    pub header: Vec<u8>,
    /// The roster as served, if one was fixed.
    pub roster: Option<Vec<u8>>,
    /// The signed core, if one was fixed.
    pub core: Option<Vec<u8>>,
    /// The signed survivors, if they were fixed.
    pub survivors: Option<Vec<u8>>,
}

/// `Ok`: guilty. `Err`: not proven, and why.
pub type Verdict = Result<(), &'static str>;

/// Somebody who has verified the public statements of a round, and hears accusations.
pub struct Court<'a> {
    public: &'a Public,
    round: Result<Round, &'static str>,
}

/// What follows from the public statements, each verified.
struct Round {
    header: Header,
    roster: Option<(Roster, Ring)>,
}

/// An accused or a dealer, from its leaf.
struct Person {
    client: ClientId,
    advert: KeyAdvertisement,
    key: IdentityPublicKey,
}

impl<'a> Court<'a> {
    /// Verifies the public statements.
    pub fn new(public: &'a Public) -> Self {
        Self { public, round: Round::read(public) }
    }

    /// Judges whether `evidence` proves that `client` broke `rule`.
    pub fn judge(&self, client: ClientId, rule: u8, evidence: &[u8]) -> Verdict {
        let round = self.round.as_ref().map_err(|why| *why)?;
        let evidence = Evidence::decode(evidence).map_err(|_| "the bytes are no evidence")?;
        match (&evidence, rule) {
            (Evidence::Message { leaf, message }, 9) => {
                let person = round.person(leaf, client)?;
                let keys = person.advert.keys();
                let [s, b, c] = [keys.masking.0.as_bytes(), keys.self_mask.0.as_bytes(), keys.channel.as_bytes()];
                is(leaf == message, "the message is not the leaf")?;
                is(s == b || s == c || b == c, "the three keys are different")
            }
            (Evidence::Message { leaf, message }, 13 | 38) => round.shares(&round.member(leaf, client)?, message, rule),
            (Evidence::Message { leaf, message }, 16) => round.complaints(&round.member(leaf, client)?, message),
            (Evidence::Contradiction { leaf, first, second }, 3 | 19 | 23) => {
                round.contradiction(&round.person(leaf, client)?, [first, second], rule)
            }
            (Evidence::Opening { leaf, opening, mail }, 16) => {
                round.opening(&round.member(leaf, client)?, opening, mail)
            }
            (Evidence::Answer { leaf, .. }, 29) => round.answer(self.public, &round.member(leaf, client)?, &evidence),
            _ => Err("evidence of this kind does not prove this rule"),
        }
    }
}

fn is(holds: bool, otherwise: &'static str) -> Verdict {
    if holds { Ok(()) } else { Err(otherwise) }
}

impl Round {
    fn read(public: &Public) -> Result<Self, &'static str> {
        let signed = Signed::decode(&public.header, labels::HEADER).map_err(|_| "no header")?;
        is(signed.is_by(&public.aggregator), "the header is not the aggregator's")?;
        let header = Header::from_statement(signed.statement()).map_err(|_| "no header")?;
        is(header.authority_key == public.authority, "another authority")?;
        let mut round = Self { header, roster: None };
        if let Some(served) = &public.roster {
            let mut reader = Reader::new(served);
            let signed = Signed::read(&mut reader, labels::ROSTER).map_err(|_| "no roster")?;
            let chain = round.header.chain();
            is(signed.is_by(&public.aggregator), "the roster is not the aggregator's")?;
            is(signed.statement().stands_at(&chain.from_aggregator(chain.context)), "a roster of another round")?;
            let root = signed.root();
            let roster = Roster::from_parts(signed.statement().clone(), reader.rest()).map_err(|_| "no roster")?;
            let members = roster.members().iter().map(|(client, _)| *client).collect();
            let ring = Ring::new(members, root, &round.header.params).ok_or("a roster without a graph")?;
            round.roster = Some((roster, ring));
        }
        Ok(round)
    }

    /// Whose leaf this is, certified for this round.
    fn person(&self, leaf: &[u8], client: ClientId) -> Result<Person, &'static str> {
        let advert = KeyAdvertisement::decode(leaf).map_err(|_| "no leaf")?;
        let header = &self.header;
        let chain = header.chain();
        let certified =
            advert.certificate().check(&header.authority_key, header.opened_at, &RevocationList::none()).is_ok();
        is(certified && advert.client() == client, "a leaf of somebody else")?;
        let key = advert.certificate().body().identity;
        let statement = advert.advert().statement();
        is(statement.stands_at(&chain.from_client(client, chain.context)), "an advert of another round")?;
        is(advert.advert().is_by(&key), "an advert that its client did not sign")?;
        Ok(Person { client, advert, key })
    }

    /// The same, of the roster.
    fn member(&self, leaf: &[u8], client: ClientId) -> Result<Person, &'static str> {
        let person = self.person(leaf, client)?;
        let (roster, _) = self.roster()?;
        let listed = roster.members().iter().any(|entry| *entry == (client, leaf_digest(leaf)));
        is(listed, "a leaf that is not on the roster")?;
        Ok(person)
    }

    fn roster(&self) -> Result<&(Roster, Ring), &'static str> {
        self.roster.as_ref().ok_or("there is no roster")
    }

    /// A statement of a member over the roster.
    fn over_roster(&self, signed: &Signed, person: &Person) -> Verdict {
        let (roster, _) = self.roster()?;
        let place = self.header.chain().from_client(person.client, roster.statement().root());
        is(signed.statement().stands_at(&place), "a statement out of its place")?;
        is(signed.is_by(&person.key), "a statement that its client did not sign")
    }

    fn shares(&self, dealer: &Person, message: &[u8], rule: u8) -> Verdict {
        let (_, ring) = self.roster()?;
        let shares = SealedShares::decode(message, ring.degree as u32).map_err(|_| "no share message")?;
        self.over_roster(shares.signed(), dealer)?;
        is(shares.edges_are_signed(), "edges that the dealer did not sign")?;
        let near: Vec<LeafIndex> =
            ring.neighbours(dealer.client).iter().filter_map(|client| leaf(ring, *client)).collect();
        let in_order = shares.edges().iter().map(|edge| edge.holder).eq(near);
        if rule == 13 {
            return is(!in_order, "the edges are to its neighbours in their order");
        }
        is(in_order, "edges to others: that is another rule")?;
        let keys = dealer.advert.keys();
        let points = |first: &Point, of: &dyn Fn(&messages::Edge) -> Point| -> Vec<(Scalar, RistrettoPoint)> {
            let own = std::iter::once((Scalar::ZERO, *first.point()));
            let held =
                shares.edges().iter().map(|edge| (Scalar::from(edge.holder.evaluation_point()), *of(edge).point()));
            own.chain(held).collect()
        };
        let of_s = points(&keys.masking.0, &|edge| edge.masking_point);
        let of_b = points(&keys.self_mask.0, &|edge| edge.self_mask_point);
        let lies_on_one = |points: &[(Scalar, RistrettoPoint)]| is_on_polynomial(points, ring.threshold);
        is(!lies_on_one(&of_s) || !lies_on_one(&of_b), "the points lie on polynomials of degree t - 1")
    }

    fn complaints(&self, holder: &Person, message: &[u8]) -> Verdict {
        let (_, ring) = self.roster()?;
        let reports = Acknowledgement::decode(message, ring.degree as u32).map_err(|_| "no acknowledgement")?;
        self.over_roster(reports.signed(), holder)?;
        is(reports.complaints() as usize > ring.openings_max(), "no more complaints than an honest holder can have")
    }

    fn contradiction(&self, person: &Person, both: [&[u8]; 2], rule: u8) -> Verdict {
        let labels: &[Label] = match rule {
            19 => &[labels::UPLOAD],
            23 => &[labels::CONFIRM],
            _ => &[labels::ADVERT, labels::SHARE, labels::ACKNOWLEDGEMENT, labels::OPENING, labels::ANSWER],
        };
        let read = |label: &Label| {
            let [first, second] = both.map(|bytes| Signed::decode(bytes, *label).ok());
            Some((*label, first?, second?))
        };
        let (label, first, second) = labels.iter().find_map(read).ok_or("not two statements of one such kind")?;
        for signed in [&first, &second] {
            let statement = signed.statement();
            is(statement.context == self.header.chain().context, "a statement of another round")?;
            is(statement.sender == person.client.into(), "a statement of somebody else")?;
            is(signed.is_by(&person.key), "a statement that its client did not sign")?;
        }
        let side_by_side = first.statement().previous == second.statement().previous || label == labels::CONFIRM;
        is(side_by_side, "statements at two places")?;
        is(first.root() != second.root(), "one statement twice")
    }

    /// An edge that a dealer signed for a holder, as mail.
    fn edge(&self, dealer: &Person, mail: &[u8]) -> Result<MailItem, &'static str> {
        let (_, ring) = self.roster()?;
        let item = MailItem::decode(mail, ring.degree as u32).map_err(|_| "no mail item")?;
        is(Some(item.dealer) == leaf(ring, dealer.client), "mail of another dealer")?;
        self.over_roster(&item.signed, dealer)?;
        let holder = ring.members.get(item.edge.holder.index()).ok_or("no such holder")?;
        let place = ring.neighbours(dealer.client).iter().position(|near| near == holder).ok_or("no neighbour")?;
        is(item.edge_is_signed(ring.degree as u32, place), "an edge that the dealer did not sign")?;
        Ok(item)
    }

    fn opening(&self, dealer: &Person, opening: &[u8], mail: &[u8]) -> Verdict {
        let (_, ring) = self.roster()?;
        let opening = messages::Opening::decode(opening, ring.degree as u32).map_err(|_| "no opening")?;
        self.over_roster(opening.signed(), dealer)?;
        let item = self.edge(dealer, mail)?;
        let pair = opening.edges().get(&item.edge.holder).ok_or("it opens another edge")?;
        let matches = Point::of(&pair.masking) == item.edge.masking_point
            && Point::of(&pair.self_mask) == item.edge.self_mask_point;
        is(!matches, "the opening matches the edge")
    }

    fn answer(&self, public: &Public, holder: &Person, evidence: &Evidence) -> Verdict {
        let Evidence::Answer { answer, acknowledgement, roots, dealer, mail, .. } = evidence else {
            return Err("no answer");
        };
        let (roster, ring) = self.roster()?;
        let (core, survivors) = self.sets(public, roster)?;
        let near = ring.neighbours(holder.client);
        let dealer_id = KeyAdvertisement::decode(dealer).map_err(|_| "no leaf of a dealer")?.client();
        let dealer = self.member(dealer, dealer_id)?;
        let item = self.edge(&dealer, mail)?;
        is(Some(item.edge.holder) == leaf(ring, holder.client), "an edge to somebody else")?;

        // It acknowledged this very share message, and as good.
        let reports = Acknowledgement::decode(acknowledgement, ring.degree as u32).map_err(|_| "no acknowledgement")?;
        self.over_roster(reports.signed(), holder)?;
        let reported: Vec<(ClientId, EdgeReport)> = near
            .iter()
            .copied()
            .zip(reports.reports().iter().copied())
            .filter(|(_, report)| *report != EdgeReport::Missing)
            .collect();
        is(shares_digest(roots.iter().copied()) == reports.shares(), "not what it acknowledged")?;
        is(roots.len() == reported.len(), "not what it acknowledged")?;
        let place =
            reported.iter().position(|(about, _)| *about == dealer_id).ok_or("it acknowledged nothing of it")?;
        is(reported[place].1 == EdgeReport::Good, "it complained about that edge")?;
        is(roots[place] == item.signed.root(), "it acknowledged another share message")?;

        // And answered with something else.
        let owners: Vec<ClientId> =
            near.into_iter().filter(|owner| leaf(ring, *owner).is_some_and(|leaf| core.members().has(leaf))).collect();
        let answer = Answer::decode(answer, owners.len()).map_err(|_| "no answer")?;
        let expected = answer::place(&self.header.chain(), survivors.root(), holder.client);
        is(answer.signed().statement().stands_at(&expected), "an answer out of its place")?;
        is(answer.signed().is_by(&holder.key), "an answer that its client did not sign")?;
        let at = owners.iter().position(|owner| *owner == dealer_id).ok_or("the dealer is not in the core")?;
        let given = answer.shares()[at].as_ref().ok_or("it gave no share")?;
        let lives = leaf(ring, dealer_id).is_some_and(|leaf| survivors.members().has(leaf));
        let point = if lives { item.edge.self_mask_point } else { item.edge.masking_point };
        is(Point::of(given) != point, "the share matches the signed point")
    }

    /// Core and survivors, chained to this roster.
    fn sets(&self, public: &Public, roster: &Roster) -> Result<(CoreSet, Survivors), &'static str> {
        let chain = self.header.chain();
        let statement = |bytes: &Option<Vec<u8>>, label, previous| {
            let signed =
                Signed::decode(bytes.as_ref().ok_or("it was never fixed")?, label).map_err(|_| "no statement")?;
            is(signed.is_by(&public.aggregator), "not the aggregator's")?;
            is(signed.statement().stands_at(&chain.from_aggregator(previous)), "not of this chain")?;
            Ok::<_, &'static str>(signed.statement().clone())
        };
        let core = statement(&public.core, labels::CORE, roster.statement().root())?;
        let core = CoreSet::from_statement(core, roster.n()).map_err(|_| "no core")?;
        let survivors = statement(&public.survivors, labels::SURVIVORS, core.root())?;
        let survivors = Survivors::from_statement(survivors, roster.n()).map_err(|_| "no survivors")?;
        Ok((core, survivors))
    }
}

fn leaf(ring: &Ring, client: ClientId) -> Option<LeafIndex> {
    ring.leaf(client).and_then(|leaf| u32::try_from(leaf).ok()).map(LeafIndex)
}

/// Whether the polynomial through the first `threshold` points goes through all others.
fn is_on_polynomial(points: &[(Scalar, RistrettoPoint)], threshold: usize) -> bool {
    let (base, others) = points.split_at(threshold.min(points.len()));
    let xs: Vec<Scalar> = base.iter().map(|(x, _)| *x).collect();
    others.iter().all(|(x, point)| {
        let weights = weights_of(&xs, *x);
        RistrettoPoint::vartime_multiscalar_mul(&weights, base.iter().map(|(_, point)| point)) == *point
    })
}

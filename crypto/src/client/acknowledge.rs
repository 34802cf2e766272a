//! Acknowledge, the client's side: what is in the mailbox, and what the own shares were challenged for. §5.3, §5.4
//!
//! Before: `client/share.rs`. Next: `client/mask.rs`. The other end: `server/acknowledge.rs`, `server/open.rs`.

use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};

use super::advertise::{RoundSecrets, read_scalar, write_scalar};
use super::saved::{Nothing, Saved, Turn};
use super::share::{aad, mail_edge, share_pair};
use super::{Membership, Memory, RoundView, chained};
use crate::ids::{Digest, LeafIndex};
use crate::messages::acknowledgement::shares_digest;
use crate::messages::opening::SharePair;
use crate::messages::{Acknowledgement, CoreSet, Edge, EdgeReport, MailItem, Opening};
use crate::primitives::agreement::{MaskingSecretKey, Point, SelfMaskSecret};
use crate::primitives::codec::{DecodeError, Reader};
use crate::primitives::labels;
use crate::rules::ServerMisbehaved;

/// Has dealt; waits for what others dealt.
#[derive(Debug)]
pub struct AwaitingMail {
    pub(super) view: RoundView,
    pub(super) secrets: RoundSecrets,
    /// In ring order.
    pub(super) dealt: Vec<SharePair>,
    /// Edge hashes in ring order.
    pub(super) hashes: Vec<Digest>,
}

/// What a piece of mail turned out to be.
enum Mail {
    Good(SharePair),
    Bad,
}

impl AwaitingMail {
    /// §5.3: judges every edge. Mail that is missing, altered or badly signed is never a complaint.
    pub fn acknowledge(self, mailbox: &[Vec<u8>]) -> Result<Turn<ReadyToMask, Acknowledgement>, ServerMisbehaved> {
        let Self { view, secrets, dealt, hashes } = self;
        let mut mail: BTreeMap<LeafIndex, MailItem> = BTreeMap::new();
        for item in mailbox.iter().filter_map(|bytes| MailItem::decode(bytes, view.params.degree).ok()) {
            if is_genuine(&view, &item) && mail.insert(item.dealer, item).is_some() {
                return Err(ServerMisbehaved::Mailbox);
            }
        }
        let mut held = BTreeMap::new();
        let mut complained = BTreeMap::new();
        let mut reports = Vec::with_capacity(view.neighbours.len());
        for dealer in &view.neighbours {
            let report = match mail.get(dealer) {
                None => EdgeReport::Missing,
                Some(MailItem { edge, .. }) => match open_mail(&view, &secrets, *dealer, edge) {
                    Mail::Good(pair) => {
                        held.insert(*dealer, pair);
                        EdgeReport::Good
                    }
                    Mail::Bad => {
                        complained.insert(*dealer, (edge.masking_point, edge.self_mask_point));
                        EdgeReport::Complaint { edge: edge.hash() }
                    }
                },
            };
            reports.push(report);
        }
        // an honest holder has no more corrupt neighbours than this; with more the assumption is gone.
        let (found, allowed) = (complained.len() as u32, view.params.openings_max());
        if found > allowed {
            return Err(ServerMisbehaved::TooManyBadEdges { found, allowed });
        }
        let roots = view.neighbours.iter().filter_map(|dealer| mail.get(dealer)).map(|item| item.signed.root());
        let message = Acknowledgement::sign(
            shares_digest(roots),
            reports,
            &view.chain,
            view.roster_root,
            view.client(),
            view.identity(),
        );
        let RoundSecrets { masking, self_mask, channel } = secrets;
        drop(channel); // nothing more will be opened with it
        Ok(Turn::new(
            ReadyToMask { view, masking, self_mask, dealt, hashes, held, complained, has_opened: false, pinned: None },
            message,
        ))
    }

    pub(super) fn into_memory(self) -> (Arc<Membership>, Memory) {
        (self.view.member, self.view.memory)
    }
}

/// mail for this client that its dealer, a neighbour, signed for this roster.
fn is_genuine(view: &RoundView, item: &MailItem) -> bool {
    if !view.neighbours.contains(&item.dealer) || item.edge.holder != view.me {
        return false;
    }
    let dealer = view.peer(item.dealer);
    let place = view.order.neighbours(item.dealer).iter().position(|leaf| *leaf == view.me);
    place.is_some_and(|place| item.edge_is_signed(view.params.degree, place))
        && item.signed.statement().stands_at(&view.chain.from_client(dealer.client, view.roster_root))
        && item.signed.is_by(&dealer.identity)
}

/// both shares must match the points that the dealer signed.
fn open_mail(view: &RoundView, secrets: &RoundSecrets, dealer: LeafIndex, edge: &Edge) -> Mail {
    let mail_edge = mail_edge(view, dealer, view.me);
    let key = secrets.channel.mail_key(&mail_edge.dealer_key, mail_edge, &view.context());
    match key.open(&edge.sealed, &aad(view, mail_edge)).and_then(|plain| share_pair(&plain)) {
        Some(pair) if matches(&pair, &(edge.masking_point, edge.self_mask_point)) => Mail::Good(pair),
        _ => Mail::Bad,
    }
}

fn matches(pair: &SharePair, points: &(Point, Point)) -> bool {
    Point::of(&pair.masking) == points.0 && Point::of(&pair.self_mask) == points.1
}

/// Has acknowledged. May be asked to open, once; then masks.
#[derive(Debug)]
pub struct ReadyToMask {
    pub(super) view: RoundView,
    pub(super) masking: MaskingSecretKey,
    pub(super) self_mask: SelfMaskSecret,
    dealt: Vec<SharePair>,
    hashes: Vec<Digest>,
    /// Shares of others, by dealer.
    pub(super) held: BTreeMap<LeafIndex, SharePair>,
    /// Signed points of the edges complained about, by dealer.
    complained: BTreeMap<LeafIndex, (Point, Point)>,
    /// The journal's slot for an opening is written.
    has_opened: bool,
    /// The root of the first valid core, written down before anything is done with it.
    pinned: Option<Digest>,
}

/// What came of a look at the complaints.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "matched at once")]
pub enum Opened {
    /// No complaint that holds, or the one opening of this round was sent already.
    Nothing(ReadyToMask),
    /// The shares of the edges complained about.
    Opening(Turn<ReadyToMask, Opening>),
}

impl ReadyToMask {
    /// §5.4, R-16: opens an edge only to a neighbour whose whole signed acknowledgement, over this client's own roster, names
    /// the hash of that very edge; at most 2t - k - 1 edges, once. More stops this client.
    pub fn open(mut self, complaints: &[Vec<u8>]) -> Result<Opened, ServerMisbehaved> {
        if self.has_opened || self.pinned.is_some() {
            return Ok(Opened::Nothing(self)); // one opening, and none once the core is held
        }
        let edges: BTreeMap<_, _> = complaints.iter().filter_map(|bytes| self.challenged(bytes)).collect();
        let (found, allowed) = (edges.len() as u32, self.view.params.openings_max());
        if found > allowed {
            return Err(ServerMisbehaved::TooManyBadEdges { found, allowed });
        }
        if edges.is_empty() {
            return Ok(Opened::Nothing(self));
        }
        self.has_opened = true;
        let view = &self.view;
        let message = Opening::sign(edges, &view.chain, view.roster_root, view.client(), view.identity());
        Ok(Opened::Opening(Turn::new(self, message)))
    }

    fn challenged(&self, acknowledgement: &[u8]) -> Option<(LeafIndex, SharePair)> {
        let view = &self.view;
        let acknowledgement = Acknowledgement::decode(acknowledgement, view.params.degree).ok()?;
        let statement = acknowledgement.signed().statement();
        let holder = view.roster.leaf_of(statement.sender.into())?;
        let place = view.neighbours.iter().position(|leaf| *leaf == holder)?;
        let of_holder = view.order.neighbours(holder).iter().position(|leaf| *leaf == view.me)?;
        let peer = view.peer(holder);
        let holds = statement.stands_at(&view.chain.from_client(peer.client, view.roster_root))
            && acknowledgement.signed().is_by(&peer.identity)
            && acknowledgement.complaints() <= view.params.openings_max()
            && acknowledgement.reports()[of_holder] == EdgeReport::Complaint { edge: self.hashes[place] };
        holds.then(|| (holder, self.dealt[place].clone()))
    }

    /// §5.4: takes up shares that dealers opened after this client's complaints, if they match the signed points.
    pub fn take_openings(&mut self, openings: &[Vec<u8>]) {
        let view = &self.view;
        for opening in openings.iter().filter_map(|bytes| Opening::decode(bytes, view.params.degree).ok()) {
            let statement = opening.signed().statement();
            let Some(dealer) = view.roster.leaf_of(statement.sender.into()) else { continue };
            let Some(points) = self.complained.get(&dealer) else { continue };
            let peer = view.peer(dealer);
            let signed = statement.stands_at(&view.chain.from_client(peer.client, view.roster_root))
                && opening.signed().is_by(&peer.identity);
            if let Some(pair) = opening.edges().get(&view.me).filter(|pair| signed && matches(pair, points)) {
                self.held.insert(dealer, pair.clone());
            }
        }
    }

    /// §5.5 step 2: the core's slot of the journal: the first valid one counts. From here on nothing is opened.
    pub fn pin(self, core: &[u8]) -> Result<Turn<ReadyToMask, Nothing>, ServerMisbehaved> {
        let root = self.judge_core(core)?.root();
        Ok(Turn::new(Self { pinned: Some(root), ..self }, Nothing))
    }

    /// The signed core, at its place in the chain, and not another than the one written down.
    pub(super) fn judge_core(&self, core: &[u8]) -> Result<CoreSet, ServerMisbehaved> {
        let statement = chained(core, labels::CORE, "core", &self.view, self.view.roster_root)?;
        let core = CoreSet::from_statement(statement, self.view.params.n)?;
        match self.pinned {
            Some(root) if root != core.root() => Err(ServerMisbehaved::SecondCore),
            _ => Ok(core),
        }
    }

    /// Whether this client complained about anybody.
    pub fn has_complained(&self) -> bool {
        !self.complained.is_empty()
    }

    /// The round's header.
    pub fn header(&self) -> &crate::messages::Header {
        &self.view.header
    }

    /// Variance of the noise that this client must have added to each coordinate, integer units. §3.4
    pub fn share_variance(&self) -> u64 {
        self.view.params.share_variance
    }

    pub(super) fn into_memory(self) -> (Arc<Membership>, Memory) {
        (self.view.member, self.view.memory)
    }
}

fn write_pair(out: &mut Vec<u8>, pair: &SharePair) {
    write_scalar(out, &pair.masking);
    write_scalar(out, &pair.self_mask);
}

fn read_pair(reader: &mut Reader<'_>) -> Result<SharePair, DecodeError> {
    Ok(SharePair { masking: read_scalar(reader)?, self_mask: read_scalar(reader)? })
}

fn write_dealt(out: &mut Vec<u8>, dealt: &[SharePair], hashes: &[Digest]) {
    for (pair, hash) in dealt.iter().zip(hashes) {
        write_pair(out, pair);
        out.extend(hash.0);
    }
}

fn read_dealt(reader: &mut Reader<'_>, view: &RoundView) -> Result<(Vec<SharePair>, Vec<Digest>), DecodeError> {
    (0..view.params.degree).map(|_| Ok((read_pair(reader)?, reader.digest("edge hash")?))).collect()
}

pub(super) fn write_held(out: &mut Vec<u8>, held: &BTreeMap<LeafIndex, SharePair>) {
    out.extend((held.len() as u32).to_le_bytes());
    for (dealer, pair) in held {
        out.extend(dealer.0.to_le_bytes());
        write_pair(out, pair);
    }
}

pub(super) fn read_held(reader: &mut Reader<'_>) -> Result<BTreeMap<LeafIndex, SharePair>, DecodeError> {
    (0..reader.u32("held")?).map(|_| Ok((LeafIndex(reader.u32("dealer")?), read_pair(reader)?))).collect()
}

impl Saved for AwaitingMail {
    const TAG: u8 = 2;

    fn bytes_max(&self) -> usize {
        self.view.bytes_max() + 96 * (self.dealt.len() + 1)
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.view.write(out);
        self.secrets.write(out);
        write_dealt(out, &self.dealt, &self.hashes);
    }

    fn read(reader: &mut Reader<'_>, member: &Arc<Membership>) -> Result<Self, DecodeError> {
        let view = RoundView::read(reader, member)?;
        let secrets = RoundSecrets::read(reader)?;
        let (dealt, hashes) = read_dealt(reader, &view)?;
        Ok(Self { view, secrets, dealt, hashes })
    }
}

impl Saved for ReadyToMask {
    const TAG: u8 = 3;

    fn bytes_max(&self) -> usize {
        self.view.bytes_max() + 96 * (self.dealt.len() + 2) + 72 * (self.held.len() + self.complained.len() + 2)
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.view.write(out);
        write_scalar(out, &self.masking.to_scalar());
        write_scalar(out, &self.self_mask.to_scalar());
        write_dealt(out, &self.dealt, &self.hashes);
        write_held(out, &self.held);
        out.extend((self.complained.len() as u32).to_le_bytes());
        for (dealer, (masking, self_mask)) in &self.complained {
            out.extend(dealer.0.to_le_bytes());
            out.extend(masking.as_bytes());
            out.extend(self_mask.as_bytes());
        }
        out.push(u8::from(self.has_opened));
        out.extend(self.pinned.unwrap_or(Digest::NONE).0);
    }

    fn read(reader: &mut Reader<'_>, member: &Arc<Membership>) -> Result<Self, DecodeError> {
        let view = RoundView::read(reader, member)?;
        let masking = MaskingSecretKey::from_scalar(&read_scalar(reader)?);
        let self_mask = SelfMaskSecret::from_scalar(&read_scalar(reader)?);
        let (dealt, hashes) = read_dealt(reader, &view)?;
        let held = read_held(reader)?;
        let mut complained = BTreeMap::new();
        for _ in 0..reader.u32("complained")? {
            let dealer = LeafIndex(reader.u32("dealer")?);
            complained
                .insert(dealer, (Point::from_bytes(reader.array("P_s")?)?, Point::from_bytes(reader.array("P_b")?)?));
        }
        let has_opened = reader.u8("has opened")? != 0;
        let pinned = Some(reader.digest("pinned core")?).filter(|root| *root != Digest::NONE);
        Ok(Self { view, masking, self_mask, dealt, hashes, held, complained, has_opened, pinned })
    }
}

//! What stands in a client's journal, and every secret that follows from it: derived here a second time, after
//! docs/protocol.md §2.1, so that a test knows what must not be found.

use std::collections::BTreeMap;
use std::path::Path;

use curve25519_dalek::Scalar;
use curve25519_dalek::ristretto::CompressedRistretto;
use hkdf::Hkdf;
use sha2::Sha256;
use veilsum_crypto::ids::LeafIndex;
use veilsum_crypto::math::ring::RingVector;
use veilsum_crypto::messages::{Header, MaskedInput, Roster};
use veilsum_crypto::params::{RingOrder, RosterParams};
use veilsum_crypto::primitives::codec::{DecodeError, Reader};
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::prg::MaskKey;
use veilsum_crypto::primitives::seal::SavingKey;
use veilsum_crypto::primitives::signature::Statement;

use super::{Secret, value_at};

/// Id, S and C of a neighbour.
type Peer = ([u8; 16], [u8; 32], [u8; 32]);

/// Both shares of one edge.
type Pair = [[u8; 32]; 2];

/// What stands in a client's journal, as far as it is there in this phase.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    /// Which phase, as `crypto/src/client/saved.rs` numbers them.
    pub tag: u8,
    s: Option<[u8; 32]>,
    b: Option<[u8; 32]>,
    c: Option<[u8; 32]>,
    dealt: Vec<Pair>,
    held: BTreeMap<u32, Pair>,
    header: Vec<u8>,
    roster: Vec<u8>,
    list: Vec<u8>,
    me: u32,
    /// By leaf: id, S, C.
    peers: BTreeMap<u32, Peer>,
    core: Vec<u8>,
    message: Vec<u8>,
}

impl Journal {
    /// Opens a state file with its key.
    ///
    /// # Errors
    /// If it is not laid out as docs/wire.md's neighbours in the sources say.
    pub fn open(path: &Path, saving_key: [u8; 32]) -> Result<Self, DecodeError> {
        let key = SavingKey::from_bytes(saving_key);
        let file = key.open(&std::fs::read(path).expect("a state file")).expect("sealed by this client");
        let mut reader = Reader::new(&file);
        reader.take("magic", 16)?;
        reader.prefixed("header")?;
        reader.prefixed("roster")?;
        let plain = key.open(reader.rest()).expect("sealed by this client");
        let mut reader = Reader::new(&plain);
        let (_version, tag) = (reader.u8("version")?, reader.u8("phase")?);
        let mut phase = Reader::new(reader.prefixed("phase")?);
        let mut journal = Self { tag, message: reader.prefixed("message")?.to_vec(), ..Self::default() };
        journal.read(&mut phase)?;
        Ok(journal)
    }

    fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        reader.take("form and identity", 4 + 1 + 16)?;
        for (count, bytes) in [("counters", 40), ("logs", 56), ("revocations", 56)] {
            let len = reader.u32(count)? as usize * bytes;
            reader.take(count, len)?;
        }
        reader.prefixed("ledger")?;
        if self.tag == 0 {
            return Ok(());
        }
        self.header = reader.prefixed("header")?.to_vec();
        if self.tag == 1 {
            reader.prefixed("revocations")?;
            (self.s, self.b, self.c) = (Some(reader.array("s")?), Some(reader.array("b")?), Some(reader.array("c")?));
            return Ok(());
        }
        self.roster = reader.prefixed("roster")?.to_vec();
        self.list = reader.prefixed("roster list")?.to_vec();
        self.me = reader.u32("own leaf")?;
        for _ in 0..reader.u32("peers")? {
            let (leaf, id, _identity) = (reader.u32("leaf")?, reader.array("id")?, reader.take("identity", 32)?);
            let (masking, _self_mask, channel) = (reader.array("S")?, reader.take("B", 32)?, reader.array("C")?);
            self.peers.insert(leaf, (id, masking, channel));
        }
        match self.tag {
            2 | 3 => {
                (self.s, self.b) = (Some(reader.array("s")?), Some(reader.array("b")?));
                if self.tag == 2 {
                    self.c = Some(reader.array("c")?);
                }
                for _ in 0..self.order()?.0.degree {
                    self.dealt.push([reader.array("s_i")?, reader.array("b_i")?]);
                    reader.take("edge hash", 32)?;
                }
                if self.tag == 3 {
                    self.read_held(reader)?;
                }
            }
            4 | 5 => {
                self.core = reader.prefixed("core")?.to_vec();
                if self.tag == 5 {
                    reader.prefixed("survivors")?;
                }
                self.read_held(reader)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn read_held(&mut self, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        for _ in 0..reader.u32("held")? {
            self.held.insert(reader.u32("dealer")?, [reader.array("s_i")?, reader.array("b_i")?]);
        }
        Ok(())
    }

    fn header(&self) -> Result<(Header, [u8; 32]), DecodeError> {
        let statement = Statement::decode(&self.header, labels::HEADER)?;
        Ok((Header::from_statement(&statement)?, statement.root().0))
    }

    fn order(&self) -> Result<(RosterParams, RingOrder), DecodeError> {
        let statement = Statement::decode(&self.roster, labels::ROSTER)?;
        let roster = Roster::from_parts(statement, &self.list)?;
        let params = RosterParams::derive(roster.n(), &self.header()?.0.params).expect("it was feasible");
        Ok((params, RingOrder::new(&roster.statement().root(), &params)))
    }

    /// The header's statement, once there is one.
    pub fn header_bytes(&self) -> &[u8] {
        &self.header
    }

    /// The message that led here.
    pub fn message(&self) -> &[u8] {
        &self.message
    }

    /// Takes over what a later journal of the same client no longer holds.
    pub fn after(mut self, earlier: &Self) -> Self {
        self.s = self.s.or(earlier.s);
        self.b = self.b.or(earlier.b);
        self.c = self.c.or(earlier.c);
        if self.dealt.is_empty() {
            self.dealt.clone_from(&earlier.dealt);
        }
        if self.held.is_empty() {
            self.held.clone_from(&earlier.held);
        }
        if self.core.is_empty() {
            self.core.clone_from(&earlier.core);
        }
        self
    }

    /// Every secret of this client that follows from what stands here.
    pub fn secrets(&self, owner: usize) -> Vec<Secret> {
        let mut secrets = Vec::new();
        let mut add = |name: String, bytes: &[u8]| secrets.push(Secret::new(format!("{name} of {owner}"), bytes));
        for (name, key) in [("s", self.s), ("b", self.b), ("c", self.c)] {
            key.iter().for_each(|key| add(name.to_string(), key));
        }
        if self.roster.is_empty() {
            return secrets;
        }
        let (params, order) = self.order().expect("it was read");
        let neighbours = order.neighbours(LeafIndex(self.me));
        for (holder, [s, b]) in neighbours.iter().zip(&self.dealt) {
            add(format!("dealt s->{}", holder.0), s);
            add(format!("dealt b->{}", holder.0), b);
        }
        for (dealer, [s, b]) in &self.held {
            add(format!("held s<-{dealer}"), s);
            add(format!("held b<-{dealer}"), b);
        }
        for (which, name) in [(0, "s"), (1, "b")] {
            let points: Vec<(u64, [u8; 32])> =
                neighbours.iter().zip(&self.dealt).map(|(leaf, pair)| (leaf.evaluation_point(), pair[which])).collect();
            for (power, coefficient) in
                coefficients(&points[..points.len().min(params.threshold as usize)]).iter().enumerate()
            {
                if power > 0 {
                    add(format!("coefficient {power} of {name}"), coefficient.as_bytes());
                }
            }
        }
        let context = self.header().expect("it was read").1;
        let roster = Statement::decode(&self.roster, labels::ROSTER).expect("it was read").root().0;
        if let Some(s) = self.s {
            self.pair_secrets(&s, &neighbours, &roster, &context, &mut add);
        }
        if let Some(c) = self.c {
            self.mail_secrets(&c, &neighbours, &roster, &mut add);
        }
        if let Some(key) = self.self_mask_key(&roster, &context) {
            add("self mask key".into(), &key);
        }
        if let Some((values, packed)) = self.noised(&neighbours, &roster, &context) {
            add("noised values".into(), &values);
            add("noised vector".into(), &packed);
        }
        let update: Vec<u8> = (8..16).flat_map(|at| value_at(owner, at).to_le_bytes()).collect();
        add("update".into(), &update);
        secrets
    }

    fn me(&self) -> ([u8; 16], [u8; 32], [u8; 32]) {
        self.peers[&self.me]
    }

    fn pair_secrets(
        &self,
        s: &[u8; 32],
        neighbours: &[LeafIndex],
        roster: &[u8; 32],
        context: &[u8; 32],
        add: &mut impl FnMut(String, &[u8]),
    ) {
        for leaf in neighbours {
            let point = self.agreed(s, *leaf);
            add(format!("pair point with {}", leaf.0), &point);
            if let Some(core) = self.core_root() {
                add(format!("pair key with {}", leaf.0), &self.pair_key(&point, *leaf, roster, &core, context));
            }
        }
    }

    fn agreed(&self, s: &[u8; 32], leaf: LeafIndex) -> [u8; 32] {
        let theirs = CompressedRistretto(self.peers[&leaf.0].1).decompress().expect("a point");
        (theirs * Scalar::from_bytes_mod_order(*s)).compress().to_bytes()
    }

    fn pair_key(
        &self,
        point: &[u8; 32],
        leaf: LeafIndex,
        roster: &[u8; 32],
        core: &[u8; 32],
        context: &[u8; 32],
    ) -> [u8; 16] {
        let ((my_id, my_key, _), (id, key, _)) = (self.me(), self.peers[&leaf.0]);
        let (low, high) = if self.me < leaf.0 { ((my_id, my_key), (id, key)) } else { ((id, key), (my_id, my_key)) };
        derive(point, roster, &[b"\x04mask", core, &low.0, &high.0, &low.1, &high.1, context])
    }

    fn mail_secrets(
        &self,
        c: &[u8; 32],
        neighbours: &[LeafIndex],
        roster: &[u8; 32],
        add: &mut impl FnMut(String, &[u8]),
    ) {
        let (my_id, _, my_key) = self.me();
        for leaf in neighbours {
            let (id, _, key) = self.peers[&leaf.0];
            let shared = x25519_dalek::x25519(*c, key);
            add(format!("mail secret with {}", leaf.0), &shared);
            let label: &[u8] = b"\x14veilsum/1/share-mail";
            let to: [u8; 32] = derive(&shared, roster, &[label, &my_id, &id, &my_key, &key]);
            let from: [u8; 32] = derive(&shared, roster, &[label, &id, &my_id, &key, &my_key]);
            add(format!("mail key to {}", leaf.0), &to);
            add(format!("mail key from {}", leaf.0), &from);
        }
    }

    fn core_root(&self) -> Option<[u8; 32]> {
        let statement = Statement::decode(&self.core, labels::CORE).ok()?;
        Some(statement.root().0)
    }

    fn self_mask_key(&self, roster: &[u8; 32], context: &[u8; 32]) -> Option<[u8; 16]> {
        let (b, core) = (self.b?, self.core_root()?);
        Some(derive(&b, roster, &[b"\x04self", &core, &self.me().0, context]))
    }

    /// What was masked: the masked vector, which stands in the journal beside the state, without its masks. Everybody dealt,
    /// so that all neighbours are in the core.
    fn noised(&self, neighbours: &[LeafIndex], roster: &[u8; 32], context: &[u8; 32]) -> Option<(Vec<u8>, Vec<u8>)> {
        let (s, core) = (self.s?, self.core_root()?);
        let params = self.header().ok()?.0.params;
        let mut vector: RingVector = MaskedInput::decode(&self.message, &params).ok()?.vector(&params).ok()?;
        vector.sub_mask(MaskKey::from_bytes(self.self_mask_key(roster, context)?));
        for leaf in neighbours {
            let key = self.pair_key(&self.agreed(&s, *leaf), *leaf, roster, &core, context);
            let key = MaskKey::from_bytes(key);
            if self.me < leaf.0 { vector.sub_mask(key) } else { vector.add_mask(key) }
        }
        let values = vector.to_signed()[8..12].iter().flat_map(|value| value.to_le_bytes()).collect();
        Some((values, vector.pack()[16..48].to_vec()))
    }
}

fn derive<const N: usize>(secret: &[u8], salt: &[u8; 32], parts: &[&[u8]]) -> [u8; N] {
    let mut key = [0; N];
    Hkdf::<Sha256>::new(Some(salt), secret).expand(&parts.concat(), &mut key).expect("short");
    key
}

/// Of the polynomial through these points, lowest power first.
fn coefficients(points: &[(u64, [u8; 32])]) -> Vec<Scalar> {
    let mut sum = vec![Scalar::ZERO; points.len()];
    for (at, (x, y)) in points.iter().enumerate() {
        let (mut basis, mut scale) = (vec![Scalar::ONE], Scalar::from_bytes_mod_order(*y));
        for (other, _) in points.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, point)| point) {
            let root = Scalar::from(*other);
            let mut next = vec![Scalar::ZERO; basis.len() + 1];
            for (power, coefficient) in basis.iter().enumerate() {
                next[power + 1] += coefficient;
                next[power] -= root * coefficient;
            }
            basis = next;
            scale *= (Scalar::from(*x) - root).invert();
        }
        basis.iter().zip(&mut sum).for_each(|(coefficient, sum)| *sum += scale * coefficient);
    }
    sum
}

/// The key that seals a round's partial sums, unwrapped as `aggregator/src/store/seal.rs` says.
pub fn round_key(wrapped: &[u8], service_key: &[u8; 32], round: &[u8; 16]) -> [u8; 32] {
    use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
    let cipher = aes_gcm::Aes256Gcm::new(&aes_gcm::Key::<aes_gcm::Aes256Gcm>::from(*service_key));
    let (nonce, msg) = wrapped.split_first_chunk::<12>().expect("a nonce");
    let aad = [b"veilsum/1/round_keys".as_slice(), round].concat();
    let plain = cipher.decrypt(&(*nonce).into(), Payload { msg, aad: &aad }).expect("wrapped by this service");
    plain.try_into().expect("32 bytes")
}

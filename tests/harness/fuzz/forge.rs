//! Messages made from honest ones: edited in their parts, made to agree with themselves again, and signed again by some key.

use sha2::{Digest as _, Sha256};
use veilsum_crypto::ids::{ClientId, Digest, Party};
use veilsum_crypto::primitives::codec::Reader;
use veilsum_crypto::primitives::labels::{self, Label};
use veilsum_crypto::primitives::merkle;
use veilsum_crypto::primitives::signature::{IdentitySecretKey, Signed, Statement};
use veilsum_crypto::server::PhaseKind;

use super::edit::{Input, edit};
use super::stage::{CLIENTS, OPEN_PHASES, Stage};

/// What may be put in another's place.
pub struct Pool<'a> {
    /// Honest messages: parts of them are spliced in.
    pub donors: Vec<&'a [u8]>,
    /// Roots of the round.
    pub digests: &'a [Digest],
    /// Who could be named.
    pub parties: Vec<Party>,
}

/// A message made from honest ones.
pub struct Forged {
    /// In whose name it comes.
    pub client: ClientId,
    /// The message.
    pub bytes: Vec<u8>,
    /// Whose key signed it anew, if it was.
    pub signer: Option<ClientId>,
}

/// How the edits of a message are applied.
///
/// ```text
/// 0..=1 raw | 2..=3 of the attachment, the statement mended and signed again | 4..=5 of statement fields, signed again |
/// 6 of the body, signed again | 7 what follows, as it stands
/// ```
pub fn is_signed_again(how: u8) -> bool {
    (2..7).contains(&(how & 7))
}

impl Stage {
    /// Follows an input: a message of `phase` (mostly), edited, under some name.
    ///
    /// ```text
    /// u8 client of the path, u8 whose message, u8 how (+ 8: by another key, + 16: of another phase), then edits
    /// ```
    pub fn forge(&self, phase: PhaseKind, input: &mut Input<'_>) -> Forged {
        let path = input.below(CLIENTS + 1);
        let owner = input.below(2 * CLIENTS);
        let owner = if owner < CLIENTS { owner } else { path % CLIENTS }; // mostly its own
        let how = input.byte();
        let client = if path < CLIENTS { self.client(path) } else { ClientId(input.array()) };
        let source = if how & 16 == 0 { phase } else { *input.of(&OPEN_PHASES) };
        let source = if self.messages.contains_key(&source) { source } else { PhaseKind::Sharing };
        let messages = &self.messages[&source];
        let base = messages.get(&self.client(owner)).or_else(|| messages.values().next()).expect("somebody spoke");
        let signer = if how & 8 == 0 { owner } else { input.below(CLIENTS) };
        let bytes = self.pool().forge(base, label_of(source), how, self.key(signer), input);
        Forged { client, bytes, signer: is_signed_again(how).then(|| self.client(signer)) }
    }

    /// Everything of this round.
    pub fn pool(&self) -> Pool<'_> {
        let clients = (0..CLIENTS).map(|number| self.client(number).into());
        let parties = clients.chain([self.world.facts.chain.aggregator, Party::EVERYBODY, Party([0xff; 16])]);
        Pool { donors: self.donors(), digests: &self.digests, parties: parties.collect() }
    }
}

impl Pool<'_> {
    /// Edits `base`, which is signed under `label`.
    pub fn forge(&self, base: &[u8], label: Label, how: u8, key: &IdentitySecretKey, input: &mut Input<'_>) -> Vec<u8> {
        let mut bytes = base.to_vec();
        match how & 7 {
            0 | 1 => edit(&mut bytes, &self.donors, input),
            7 => bytes = input.rest().to_vec(),
            how => bytes = self.forge_signed(base, label, how, key, input),
        }
        bytes
    }

    fn forge_signed(
        &self,
        base: &[u8],
        label: Label,
        how: u8,
        key: &IdentitySecretKey,
        input: &mut Input<'_>,
    ) -> Vec<u8> {
        // An advert stands behind its certificate: the statement that is signed is the second part of the leaf.
        let front = if label == labels::ADVERT { &base[..4 + 260] } else { &[] };
        let mut reader = Reader::new(&base[front.len()..]);
        if !front.is_empty() {
            reader.u32("length").expect("honest");
        }
        let mut statement = Signed::read(&mut reader, label).expect("honest").statement().clone();
        let mut attachment = reader.rest().to_vec();
        match how {
            2 | 3 => edit(&mut attachment, &self.donors, input),
            4 | 5 => self.edit_statement(&mut statement, input),
            _ => edit(&mut statement.body, &self.donors, input),
        }
        if how == 2 || how == 3 {
            mend(&mut statement, &attachment);
        }
        let signed = [statement.sign(key).encode(), attachment].concat();
        if front.is_empty() {
            return signed;
        }
        [front, &(signed.len() as u32).to_le_bytes(), &signed].concat()
    }

    /// Puts something else of this round where a field stands.
    pub fn edit_statement(&self, statement: &mut Statement, input: &mut Input<'_>) {
        let (digest, party) = (*input.of(self.digests), *input.of(&self.parties));
        match input.below(6) {
            0 => statement.context = digest,
            1 => statement.previous = digest,
            2 => statement.sender = party,
            3 => statement.receiver = party,
            4 => statement.label = *input.of(&labels::STATEMENTS),
            _ => edit(&mut statement.body, &self.donors, input),
        }
    }
}

/// The label under which messages of a phase are signed.
pub fn label_of(phase: PhaseKind) -> Label {
    match phase {
        PhaseKind::Advertising => labels::ADVERT,
        PhaseKind::Sharing => labels::SHARE,
        PhaseKind::Acknowledging => labels::ACKNOWLEDGEMENT,
        PhaseKind::Opening => labels::OPENING,
        PhaseKind::Masking => labels::UPLOAD,
        PhaseKind::Confirming => labels::CONFIRM,
        _ => labels::ANSWER,
    }
}

/// Makes the body of a statement agree with its attachment, where it speaks of one.
pub fn mend(statement: &mut Statement, attachment: &[u8]) {
    let root = |bytes_each: usize| {
        let hashes: Vec<Digest> = attachment.chunks(bytes_each).map(|leaf| merkle::leaf_hash(&[leaf])).collect();
        merkle::root(&hashes).0
    };
    if statement.label == labels::SHARE {
        statement.body = root(148).to_vec();
    } else if statement.label == labels::UPLOAD {
        statement.body = (attachment.len() as u64).to_le_bytes().to_vec();
        statement.body.extend(Sha256::digest(attachment));
    } else if statement.label == labels::ROSTER && statement.body.len() == 76 {
        statement.body[..4].copy_from_slice(&((attachment.len() / 48) as u32).to_le_bytes());
        statement.body[44..].copy_from_slice(&root(48));
    } else if statement.label == labels::RESULT && statement.body.len() == 37 {
        statement.body[4..36].copy_from_slice(&Sha256::digest(attachment));
    }
}

/// The same message with its statement made to agree with its attachment, signed by this key.
pub fn mended(message: &[u8], label: Label, key: &IdentitySecretKey) -> Vec<u8> {
    let mut reader = Reader::new(message);
    let mut statement = Signed::read(&mut reader, label).expect("honest").statement().clone();
    let attachment = reader.rest();
    mend(&mut statement, attachment);
    [&statement.sign(key).encode(), attachment].concat()
}

//! A client's entry in the roster: its certificate and its keys for this round. §5.1
//!
//! ```text
//! advert = statement (context = previous = header root), body: S[32], B[32], C[32], nonce[32]
//! leaf   = u32 length, certificate statement + signature, u32 length, advert statement + signature
//! ```
//! The leaf is the body of `PUT …/advertise/…` and what the roster's tree is made of.

use alloc::vec::Vec;

use crate::ids::{ClientId, Digest};
use crate::messages::{Certificate, Header, RevocationList};
use crate::primitives::agreement::{ChannelPublicKey, MaskingPublicKey, Point, SelfMaskPublicKey};
use crate::primitives::codec::{DecodeError, Reader, write_prefixed};
use crate::primitives::labels;
use crate::primitives::signature::{IdentityPublicKey, IdentitySecretKey, Signed};
use crate::rules::Rejection;

/// A client with its keys for this round, certified and signed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Who.
    pub client: ClientId,
    /// Signs everything it says.
    pub identity: IdentityPublicKey,
    /// S.
    pub masking: MaskingPublicKey,
    /// B.
    pub self_mask: SelfMaskPublicKey,
    /// C.
    pub channel: ChannelPublicKey,
}

/// The keys of one round, as advertised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RoundKeys {
    /// S.
    pub masking: MaskingPublicKey,
    /// B.
    pub self_mask: SelfMaskPublicKey,
    /// C.
    pub channel: ChannelPublicKey,
    /// Fresh; the client looks for it in its leaf.
    pub nonce: [u8; 32],
}

/// A leaf of the roster, in form; [`KeyAdvertisement::check`] says whether it holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyAdvertisement {
    certificate: Certificate,
    advert: Signed,
    keys: RoundKeys,
}

impl KeyAdvertisement {
    /// Signs this round's keys.
    pub fn sign(certificate: Certificate, keys: RoundKeys, header: &Header, key: &IdentitySecretKey) -> Self {
        let chain = header.chain();
        let mut body = Vec::with_capacity(128);
        body.extend(keys.masking.0.as_bytes());
        body.extend(keys.self_mask.0.as_bytes());
        body.extend(keys.channel.as_bytes());
        body.extend(keys.nonce);
        let place = chain.from_client(certificate.body().client, chain.context);
        Self { advert: place.statement(labels::ADVERT, body).sign(key), certificate, keys }
    }

    /// Reads a leaf.
    pub fn decode(leaf: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(leaf);
        let certificate = Certificate::decode(reader.prefixed("certificate")?)?;
        let advert = Signed::decode(reader.prefixed("advert")?, labels::ADVERT)?;
        reader.finish()?;
        let mut body = Reader::new(&advert.statement().body);
        let keys = RoundKeys {
            masking: MaskingPublicKey(Point::from_bytes(body.array("S")?)?),
            self_mask: SelfMaskPublicKey(Point::from_bytes(body.array("B")?)?),
            channel: ChannelPublicKey::from_bytes(body.array("C")?)?,
            nonce: body.array("nonce")?,
        };
        body.finish()?;
        Ok(Self { certificate, advert, keys })
    }

    /// The leaf.
    pub fn encode(&self) -> Vec<u8> {
        let mut leaf = Vec::new();
        write_prefixed(&mut leaf, &self.certificate.encode());
        write_prefixed(&mut leaf, &self.advert.encode());
        leaf
    }

    /// Who advertises.
    pub fn client(&self) -> ClientId {
        self.certificate.body().client
    }

    /// The keys, not yet checked.
    pub fn keys(&self) -> &RoundKeys {
        &self.keys
    }

    /// The signed statement, not yet checked.
    pub fn advert(&self) -> &Signed {
        &self.advert
    }

    /// The certificate, not yet checked.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// R-06, R-09: the one function by which a leaf holds, at admission and at clients.
    pub fn check(&self, header: &Header, revoked: &RevocationList) -> Result<Member, Rejection> {
        let client = self.client();
        let chain = header.chain();
        if !self.advert.statement().stands_at(&chain.from_client(client, chain.context)) {
            return Err(Rejection::OutOfChain);
        }
        self.certificate
            .check(&header.authority_key, header.opened_at, revoked)
            .map_err(|reason| Rejection::Certificate { client, reason })?;
        let identity = self.certificate.body().identity;
        if !self.advert.is_by(&identity) {
            return Err(Rejection::BadSignature { client });
        }
        let [masking, self_mask, channel, _] = claims_of(&self.keys, &identity);
        if masking == self_mask || masking == channel || self_mask == channel {
            return Err(Rejection::RepeatedKey);
        }
        let RoundKeys { masking, self_mask, channel, .. } = self.keys;
        Ok(Member { client, identity, masking, self_mask, channel })
    }

    /// What must be unique in the roster across S, B, C and identity keys. R-05, R-09
    pub fn claims(&self) -> [Digest; 4] {
        claims_of(&self.keys, &self.certificate.body().identity)
    }
}

impl Member {
    /// What must be unique in the roster. R-05, R-09
    pub fn claims(&self) -> [Digest; 4] {
        let Self { masking, self_mask, channel, identity, .. } = *self;
        claims_of(&RoundKeys { masking, self_mask, channel, nonce: [0; 32] }, &identity)
    }
}

fn claims_of(keys: &RoundKeys, identity: &IdentityPublicKey) -> [Digest; 4] {
    [keys.masking.0.as_bytes(), keys.self_mask.0.as_bytes(), keys.channel.as_bytes(), identity.as_bytes()]
        .map(|bytes| Digest(*bytes))
}

/// SHA-256 of a leaf: what the roster lists beside the client's id. §5.1
pub fn leaf_digest(leaf: &[u8]) -> Digest {
    use sha2::{Digest as _, Sha256};
    Digest(Sha256::digest(leaf).into())
}

impl Member {
    /// For saved states: id, identity key, S, B, C.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.client.0);
        out.extend(self.identity.as_bytes());
        out.extend(self.masking.0.as_bytes());
        out.extend(self.self_mask.0.as_bytes());
        out.extend(self.channel.as_bytes());
    }

    /// The inverse of [`Member::write`].
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            client: ClientId(reader.array("client id")?),
            identity: IdentityPublicKey::from_bytes(reader.array("identity key")?)?,
            masking: MaskingPublicKey(Point::from_bytes(reader.array("S")?)?),
            self_mask: SelfMaskPublicKey(Point::from_bytes(reader.array("B")?)?),
            channel: ChannelPublicKey::from_bytes(reader.array("C")?)?,
        })
    }
}

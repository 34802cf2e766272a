//! The enrolment authority's statements: certificates, and the list of those it ended. §4.3, R-36
//!
//! ```text
//! certificate: id[16], identity_key[32], group u32, group_size u32, not_before u64, not_after u64 (us)
//! revocation:  number u64, count u32, then ascending: id[16], not_before u64
//! ```

use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};

use crate::ids::{ClientId, Digest, Party, Timestamp};
use crate::primitives::codec::{DecodeError, Reader};
use crate::primitives::labels;
use crate::primitives::signature::{IdentityPublicKey, IdentitySecretKey, Place, Signed};
use crate::rules::CertificateError;

/// The longest life of a certificate: 30 days, in microseconds. R-36
pub const LIFETIME_MAX_US: u64 = 30 * 24 * 60 * 60 * 1_000_000;

/// What the authority says of a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CertificateBody {
    /// Who.
    pub client: ClientId,
    /// Signs everything the client says.
    pub identity: IdentityPublicKey,
    /// The random group that the authority put it in. R-07
    pub group: u32,
    /// How many clients that group has.
    pub group_size: u32,
    /// Valid from.
    pub not_before: Timestamp,
    /// Valid until.
    pub not_after: Timestamp,
}

/// A certificate with its signature.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Certificate {
    signed: Signed,
    body: CertificateBody,
}

impl Certificate {
    /// The authority vouches.
    pub fn issue(body: CertificateBody, authority: &IdentitySecretKey) -> Self {
        let mut bytes = Vec::new();
        bytes.extend(body.client.0);
        bytes.extend(body.identity.as_bytes());
        bytes.extend(body.group.to_le_bytes());
        bytes.extend(body.group_size.to_le_bytes());
        bytes.extend(body.not_before.0.to_le_bytes());
        bytes.extend(body.not_after.0.to_le_bytes());
        let place = place(&authority.public(), body.client.into());
        Self { signed: place.statement(labels::CERTIFICATE, bytes).sign(authority), body }
    }

    /// Reads a certificate; whether it holds, [`Certificate::check`] says.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let signed = Signed::decode(bytes, labels::CERTIFICATE)?;
        let mut reader = Reader::new(&signed.statement().body);
        let body = CertificateBody {
            client: ClientId(reader.array("client id")?),
            identity: IdentityPublicKey::from_bytes(reader.array("identity key")?)?,
            group: reader.u32("group")?,
            group_size: reader.u32("group size")?,
            not_before: Timestamp(reader.u64("not before")?),
            not_after: Timestamp(reader.u64("not after")?),
        };
        reader.finish()?;
        let wrong = |field, expected| DecodeError::NotCanonical { field, expected };
        // R-07 compares a roster with a part of the group: of a group of nobody, any roster would cover it.
        if body.group_size == 0 {
            return Err(wrong("group size", "at least 1"));
        }
        if body.not_before >= body.not_after {
            return Err(wrong("not after", "later than not before"));
        }
        Ok(Self { signed, body })
    }

    /// The signed bytes.
    pub fn encode(&self) -> Vec<u8> {
        self.signed.encode()
    }

    /// What it says.
    pub fn body(&self) -> &CertificateBody {
        &self.body
    }

    /// Whether it holds at a time: at the header's opening time, never at a local clock. R-06, R-36
    pub fn check(
        &self,
        authority: &IdentityPublicKey,
        at: Timestamp,
        revoked: &RevocationList,
    ) -> Result<(), CertificateError> {
        let body = &self.body;
        if !self.signed.statement().stands_at(&place(authority, body.client.into())) {
            return Err(CertificateError::Holder);
        }
        if body.not_after.0.saturating_sub(body.not_before.0) > LIFETIME_MAX_US {
            return Err(CertificateError::TooLong);
        }
        if at < body.not_before || at >= body.not_after {
            return Err(CertificateError::Expired);
        }
        if revoked.ends(body) {
            return Err(CertificateError::Revoked);
        }
        if !self.signed.is_by(authority) {
            return Err(CertificateError::Authority);
        }
        Ok(())
    }
}

fn place(authority: &IdentityPublicKey, receiver: Party) -> Place {
    Place { context: Digest::NONE, previous: Digest::NONE, sender: authority.party(), receiver }
}

/// The most clients that one list names. docs/wire.md §10
const ENTRIES_MAX: u32 = 1_000_000;
/// id[16], not_before u64.
const ENTRY_BYTES: usize = 24;
/// A signed list without its entries.
const LIST_BYTES: usize = 199;

/// Which certificates the authority ended before their time. Cheap to copy, however long.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RevocationList {
    signed: Option<Arc<Signed>>,
    number: u64,
    entries: Arc<BTreeMap<ClientId, Timestamp>>,
}

impl RevocationList {
    /// The longest list, signed.
    pub const BYTES_MAX: usize = LIST_BYTES + ENTRY_BYTES * ENTRIES_MAX as usize;

    /// How many clients a signed list of so many bytes names.
    pub fn entries_of(signed_bytes: usize) -> usize {
        signed_bytes.saturating_sub(LIST_BYTES) / ENTRY_BYTES
    }

    /// No list: number 0, digest zeros.
    pub fn none() -> Self {
        Self::default()
    }

    /// The authority's list: certificates of these clients that begin before the time given are ended.
    pub fn issue(number: u64, entries: BTreeMap<ClientId, Timestamp>, authority: &IdentitySecretKey) -> Self {
        let mut body = Vec::new();
        body.extend(number.to_le_bytes());
        body.extend((entries.len() as u32).to_le_bytes());
        for (client, not_before) in &entries {
            body.extend(client.0);
            body.extend(not_before.0.to_le_bytes());
        }
        let place = place(&authority.public(), Party::EVERYBODY);
        let signed = place.statement(labels::REVOCATION, body).sign(authority);
        Self { signed: Some(Arc::new(signed)), number, entries: Arc::new(entries) }
    }

    /// Reads and verifies a list of this authority.
    pub fn decode(bytes: &[u8], authority: &IdentityPublicKey) -> Result<Self, DecodeError> {
        let wrong = |expected| DecodeError::NotCanonical { field: "revocation list", expected };
        if bytes.len() > Self::BYTES_MAX {
            return Err(wrong("at most 1,000,000 clients"));
        }
        let signed = Signed::decode(bytes, labels::REVOCATION)?;
        if !signed.statement().stands_at(&place(authority, Party::EVERYBODY)) || !signed.is_by(authority) {
            return Err(wrong("signed by the authority of the round"));
        }
        let mut reader = Reader::new(&signed.statement().body);
        let number = reader.u64("number")?;
        let count = reader.u32("count")?;
        if count > ENTRIES_MAX {
            return Err(wrong("at most 1,000,000 clients"));
        }
        let mut entries = BTreeMap::new();
        for _ in 0..count {
            let client = ClientId(reader.array("client id")?);
            if entries.last_key_value().is_some_and(|(last, _)| *last >= client) {
                return Err(wrong("strictly ascending ids"));
            }
            entries.insert(client, Timestamp(reader.u64("not before")?));
        }
        reader.finish()?;
        if number == 0 {
            return Err(wrong("a number above 0"));
        }
        Ok(Self { signed: Some(Arc::new(signed)), number, entries: Arc::new(entries) })
    }

    /// The signed bytes; nothing where there is no list.
    pub fn encode(&self) -> Vec<u8> {
        self.signed.as_ref().map(|signed| signed.encode()).unwrap_or_default()
    }

    /// Clients, each with the time before which certificates of it are ended.
    pub fn entries(&self) -> &BTreeMap<ClientId, Timestamp> {
        &self.entries
    }

    /// Its number; 0 where there is no list.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Its root; zeros where there is no list.
    pub fn digest(&self) -> Digest {
        self.signed.as_ref().map_or(Digest::NONE, |signed| signed.root())
    }

    fn ends(&self, certificate: &CertificateBody) -> bool {
        self.entries.get(&certificate.client).is_some_and(|until| certificate.not_before < *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_US: u64 = 24 * 60 * 60 * 1_000_000;

    fn authority() -> IdentitySecretKey {
        IdentitySecretKey::from_bytes(&[1; 32])
    }

    fn certificate(days: u64) -> Certificate {
        let identity = IdentitySecretKey::from_bytes(&[2; 32]).public();
        let body = CertificateBody {
            client: ClientId([3; 16]),
            identity,
            group: 0,
            group_size: 64,
            not_before: Timestamp(DAY_US),
            not_after: Timestamp(DAY_US + days * DAY_US),
        };
        Certificate::issue(body, &authority())
    }

    /// R-06: judged at the header's time, by the authority it names.
    #[test]
    fn a_certificate_holds_in_its_time_and_under_its_authority() {
        let certificate = Certificate::decode(&certificate(30).encode()).expect("as encoded");
        let at = |day: u64| certificate.check(&authority().public(), Timestamp(day * DAY_US), &RevocationList::none());
        assert_eq!(at(1), Ok(()));
        assert_eq!(at(0), Err(CertificateError::Expired));
        assert_eq!(at(31), Err(CertificateError::Expired));
        let other = IdentitySecretKey::from_bytes(&[9; 32]).public();
        assert_eq!(
            certificate.check(&other, Timestamp(DAY_US), &RevocationList::none()),
            Err(CertificateError::Holder)
        );
    }

    /// R-36: at most 30 days, and not after it was ended.
    #[test]
    fn a_long_or_revoked_certificate_is_refused() {
        let none = RevocationList::none();
        let key = authority().public();
        assert_eq!(certificate(31).check(&key, Timestamp(DAY_US), &none), Err(CertificateError::TooLong));
        let list = RevocationList::issue(1, BTreeMap::from([(ClientId([3; 16]), Timestamp(2 * DAY_US))]), &authority());
        let list = RevocationList::decode(&list.encode(), &key).expect("as issued");
        assert_eq!(certificate(30).check(&key, Timestamp(DAY_US), &list), Err(CertificateError::Revoked));
        let earlier = RevocationList::issue(1, BTreeMap::from([(ClientId([3; 16]), Timestamp(DAY_US))]), &authority());
        assert_eq!(
            certificate(30).check(&key, Timestamp(DAY_US), &earlier),
            Ok(()),
            "re-enrolment ends the old one only"
        );
    }
}

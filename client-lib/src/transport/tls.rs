//! Whom a client believes to be the address it asked for. docs/decisions/0015-tls-for-clients.md
//!
//! TLS hides who takes part from the network, and that is all it is for: statements are signed and shares sealed without
//! it. So it needs no policy of its own: the system's roots, or the roots in one file and no others.

use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};
use rustls_platform_verifier::BuilderVerifierExt as _;

use super::TransportError;

/// TLS 1.2 and 1.3 with the one provider of this crate; never the process-wide one, which belongs to the application.
fn builder() -> ConfigBuilder<ClientConfig, WantsVerifier> {
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for both versions")
}

/// Believes nobody: for addresses without TLS.
pub fn none() -> ClientConfig {
    builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth()
}

/// Believes whom the operating system believes.
pub fn system() -> Result<ClientConfig, TransportError> {
    let verified = builder().with_platform_verifier();
    let config = verified.map_err(|error| {
        TransportError::Address(format!(
            "the system's root certificates cannot be used: {error}; install them (ca-certificates), or name a file with \
             `ca_file`"
        ))
    })?;
    Ok(config.with_no_client_auth())
}

/// Believes the certificates in a PEM file, and nobody else.
pub fn roots_in(file: &Path) -> Result<ClientConfig, TransportError> {
    let wrong = |why: String| {
        TransportError::Address(format!("{} should hold PEM certificates to believe: {why}", file.display()))
    };
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(file).map_err(|error| wrong(error.to_string()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(wrong("there are none in it".to_string()));
    }
    Ok(builder().with_root_certificates(roots).with_no_client_auth())
}

/// Whether an exchange failed because of who answered: asking again changes nothing.
pub fn is_untrusted(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(rustls::Error::InvalidCertificate(_)) = cause.downcast_ref() {
            return true;
        }
        let wrapped = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if wrapped.is_some_and(|inner| is_untrusted(inner)) {
            return true;
        }
        next = cause.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_refused_by_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ca.pem");
        let refused = |path: &Path| roots_in(path).expect_err("no certificates").to_string();
        assert!(refused(&path).contains("ca.pem"));
        std::fs::write(&path, "no certificate").expect("room");
        assert!(refused(&path).contains("there are none"));
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        std::fs::write(&path, broken).expect("room");
        assert!(refused(&path).contains("ca.pem"));
    }
}

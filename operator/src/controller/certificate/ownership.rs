//! Whose the Secret is: nobody may write into one that somebody else has made. Pure.
//!
//! What a Secret of ours holds is read from its certificate, whose issuer has a name of ours, so that those count
//! that versions without a mark have made. Where no certificate can be read, the mark decides, and our CAs.

use k8s_openapi::api::core::v1::Secret;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use x509_parser::x509::X509Name;

use super::material::{CA_NAME, CAS, LEAF, MADE_BY};

/// Whose a Secret is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// There is none, or nothing is in it.
    Nobody,
    /// This version or another one of ours has made it.
    Us,
    /// Somebody else: cert-manager, for example, or whoever has put a certificate into it by hand.
    SomebodyElse,
}

impl Owner {
    pub(super) fn of(secret: Option<&Secret>) -> Self {
        let Some(secret) = secret else { return Self::Nobody };
        let data = secret.data.iter().flatten();
        let held: Vec<_> = data.filter(|(_, bytes)| !bytes.0.is_empty()).collect();
        if held.is_empty() {
            return Self::Nobody;
        }
        let part =
            |key: &str| held.iter().find(|(name, _)| *name == key).map(|(_, bytes)| bytes.0.as_slice());
        let leaf = part(LEAF).and_then(|leaf| CertificateDer::from_pem_slice(leaf).ok());
        if let Some(ours) = leaf.and_then(|leaf| is_by_us(&leaf)) {
            return if ours { Self::Us } else { Self::SomebodyElse };
        }
        let mut cas = CertificateDer::pem_slice_iter(part(CAS).unwrap_or_default()).filter_map(Result::ok);
        let is_marked =
            secret.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(MADE_BY));
        if is_marked || cas.any(|ca| is_by_us(&ca) == Some(true)) { Self::Us } else { Self::SomebodyElse }
    }
}

/// Whether a certificate was issued by a CA of ours, which issue themselves too; `None` where it cannot be read.
fn is_by_us(certificate: &CertificateDer<'_>) -> Option<bool> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(common_name(parsed.issuer()).is_some_and(|name| name.starts_with(CA_NAME)))
}

fn common_name<'a>(name: &'a X509Name<'_>) -> Option<&'a str> {
    name.iter_common_name().next().and_then(|name| name.as_str().ok())
}

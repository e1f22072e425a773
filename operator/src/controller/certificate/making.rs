//! Making keys and certificates. Keys are of the P-256 curve, which every API server takes.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData,
};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use tokio_rustls::rustls::{self, ServerConfig};

use super::decision::{Decision, Validity};
use super::material::{CA_NAME, Material};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a CA lives; a third of it is more than the life of a leaf.
pub(super) const CA_LIFE: Duration = DAY.saturating_mul(365);
/// How long a leaf lives.
pub(super) const LEAF_LIFE: Duration = DAY.saturating_mul(90);
/// So far the clocks of replicas and API servers may differ.
const SKEW: Duration = Duration::from_secs(60 * 60);

/// Why nothing can be made. Never holds a key.
#[derive(Debug, thiserror::Error)]
pub(super) enum MakingError {
    #[error("make or read a key or certificate")]
    Certificate(#[from] rcgen::Error),
    #[error("read PEM")]
    Pem(#[from] pem::Error),
    #[error("serve with the certificate and its key")]
    Tls(#[from] rustls::Error),
    #[error("the Secret has no CA with the key that belongs to it")]
    NoCa,
    #[error("the clock shows a time that no certificate can bear")]
    Clock,
}

/// A CA with which leaves can be signed.
pub(super) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    end: SystemTime,
}

/// Makes what was decided; what is not due stays as in `old`.
pub(super) fn make(
    decision: Decision,
    old: Option<&Material>,
    names: &[String],
    now: SystemTime,
) -> Result<Material, MakingError> {
    let old = old.filter(|_| decision != Decision::Make);
    let ca = match (decision, old) {
        (Decision::Renew { ca: false, .. } | Decision::Keep, Some(old)) => issuer(old)?,
        _ => new_ca(now)?,
    };
    let older = old.into_iter().flat_map(Material::cas).filter(|older| **older != ca.certificate);
    let alive = older.filter(|older| Validity::of(older).is_some_and(|validity| now < validity.end));
    let cas = std::iter::once(&ca.certificate).chain(alive).cloned().collect();
    let texts = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (leaf, key) = match (decision, old) {
        (Decision::Renew { leaf: false, .. } | Decision::Keep, Some(old)) => {
            (texts(old.leaf()), texts(old.leaf_key()))
        }
        _ => new_leaf(&ca, names, now)?,
    };
    Ok(Material::new(leaf, key, cas, ca.issuer.key().serialize_pem()))
}

/// The newest CA of the material, if its key is there and belongs to it.
pub(super) fn issuer(material: &Material) -> Result<Ca, MakingError> {
    let certificate = material.cas().first().ok_or(MakingError::NoCa)?;
    let key = KeyPair::from_pem(material.ca_key().ok_or(MakingError::NoCa)?)?;
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|_| MakingError::NoCa)?;
    if parsed.public_key().raw != key.subject_public_key_info() {
        return Err(MakingError::NoCa);
    }
    let end = Validity::of(certificate).ok_or(MakingError::NoCa)?.end;
    Ok(Ca { issuer: Issuer::from_ca_cert_der(certificate, key)?, certificate: certificate.clone(), end })
}

fn new_ca(now: SystemTime) -> Result<Ca, MakingError> {
    let mut params = CertificateParams::default();
    // Each of its own name: verifiers look an issuer up by it.
    let since = now.duration_since(SystemTime::UNIX_EPOCH).map_err(|_| MakingError::Clock)?;
    params.distinguished_name.push(DnType::CommonName, format!("{CA_NAME}{}", since.as_secs()));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let end = live(&mut params, now, now.checked_add(CA_LIFE))?;
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?.der().clone();
    Ok(Ca { issuer: Issuer::new(params, key), certificate, end })
}

/// A leaf and its key, in PEM.
fn new_leaf(ca: &Ca, names: &[String], now: SystemTime) -> Result<(String, String), MakingError> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, names.first().map_or("braid", String::as_str));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    live(&mut params, now, now.checked_add(LEAF_LIFE).map(|end| end.min(ca.end)))?;
    let key = KeyPair::generate()?;
    let leaf = params.signed_by(&key, &ca.issuer)?;
    Ok((leaf.pem(), key.serialize_pem()))
}

fn live(
    params: &mut CertificateParams,
    now: SystemTime,
    end: Option<SystemTime>,
) -> Result<SystemTime, MakingError> {
    let (start, end) = (now.checked_sub(SKEW).ok_or(MakingError::Clock)?, end.ok_or(MakingError::Clock)?);
    params.not_before = start.into();
    params.not_after = end.into();
    Ok(end)
}

/// How to serve with the leaf; fails if the key is not the leaf's.
pub(super) fn server_config(material: &Material) -> Result<ServerConfig, MakingError> {
    let chain = CertificateDer::pem_slice_iter(material.leaf()).collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(material.leaf_key())?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

//! The keys of an API server: its certificate, and the keys that sign tokens of service accounts.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};

/// The names and addresses under which the server may be reached.
const NAMES: [&str; 5] = ["127.0.0.1", "::1", "localhost", "kubernetes.default.svc", "kubernetes.default"];

/// The files of the keys, in PEM.
#[derive(Debug)]
pub(super) struct Keys {
    /// The certificate of the authority that clients trust.
    pub(super) authority: PathBuf,
    /// The server's certificate.
    pub(super) certificate: PathBuf,
    /// The key of the server's certificate.
    pub(super) key: PathBuf,
    /// Signs tokens.
    pub(super) signing: PathBuf,
    /// Checks tokens.
    pub(super) verifying: PathBuf,
}

impl Keys {
    /// Makes all of them and writes them to `dir`.
    pub(super) fn make(dir: &Path) -> Result<Self> {
        let write = |name: &str, content: String| -> Result<PathBuf> {
            let file = dir.join(name);
            fs::write(&file, content).with_context(|| format!("writing {}", file.display()))?;
            Ok(file)
        };
        let authority_key = KeyPair::generate().context("making the authority's key")?;
        let mut params = CertificateParams::new([])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let authority = params.self_signed(&authority_key).context("signing the authority's certificate")?;
        let issuer = Issuer::new(params, authority_key);
        let key = KeyPair::generate().context("making the server's key")?;
        let params = CertificateParams::new(NAMES.map(str::to_owned))?;
        let certificate = params.signed_by(&key, &issuer).context("signing the server's certificate")?;
        let signing = KeyPair::generate().context("making the key that signs tokens")?;
        Ok(Self {
            authority: write("authority.crt", authority.pem())?,
            certificate: write("server.crt", certificate.pem())?,
            key: write("server.key", key.serialize_pem())?,
            verifying: write("tokens.pub", signing.public_key_pem())?,
            signing: write("tokens.key", signing.serialize_pem())?,
        })
    }
}

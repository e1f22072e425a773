//! The keys of an API server: its certificate, and the keys that sign tokens of service accounts.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};

/// The names and addresses under which the server may be reached.
const NAMES: [&str; 5] = ["127.0.0.1", "::1", "localhost", "kubernetes.default.svc", "kubernetes.default"];

/// The files of the keys, in PEM.
#[derive(Debug)]
pub(crate) struct Keys {
    /// The certificate of the authority that clients trust.
    pub(crate) authority: PathBuf,
    /// The server's certificate.
    pub(crate) certificate: PathBuf,
    /// The key of the server's certificate.
    pub(crate) key: PathBuf,
    /// Signs tokens.
    pub(crate) signing: PathBuf,
    /// Checks tokens.
    pub(crate) verifying: PathBuf,
}

impl Keys {
    /// Makes all of them and writes them to `dir`. The server may be reached under `further` names and addresses too.
    pub(crate) fn make(dir: &Path, further: &[&str]) -> Result<Self> {
        let signing = KeyPair::generate().context("making the key that signs tokens")?;
        let [authority, certificate, key] = server(dir, further)?;
        Ok(Self {
            authority,
            certificate,
            key,
            verifying: write(dir, "tokens.pub", signing.public_key_pem())?,
            signing: write(dir, "tokens.key", signing.serialize_pem())?,
        })
    }

    /// Makes the authority, and the server's certificate and key, anew in their files; the rest stays.
    pub(super) fn renew_server(dir: &Path) -> Result<()> {
        server(dir, &[]).map(drop)
    }
}

/// An authority's certificate, and a server's certificate and key.
fn server(dir: &Path, further: &[&str]) -> Result<[PathBuf; 3]> {
    let authority_key = KeyPair::generate().context("making the authority's key")?;
    let mut params = CertificateParams::new([])?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let authority = params.self_signed(&authority_key).context("signing the authority's certificate")?;
    let issuer = Issuer::new(params, authority_key);
    let key = KeyPair::generate().context("making the server's key")?;
    let names = NAMES.iter().chain(further);
    let params = CertificateParams::new(names.map(|name| (*name).to_owned()).collect::<Vec<_>>())?;
    let certificate = params.signed_by(&key, &issuer).context("signing the server's certificate")?;
    Ok([
        write(dir, "authority.crt", authority.pem())?,
        write(dir, "server.crt", certificate.pem())?,
        write(dir, "server.key", key.serialize_pem())?,
    ])
}

fn write(dir: &Path, name: &str, content: String) -> Result<PathBuf> {
    let file = dir.join(name);
    fs::write(&file, content).with_context(|| format!("writing {}", file.display()))?;
    Ok(file)
}

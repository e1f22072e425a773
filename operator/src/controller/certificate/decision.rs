//! What is due at a moment. Pure: the moment, the material and the names in; the decision out.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::ServerCertVerifier;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};

use super::making;
use super::material::Material;
use super::ownership::Owner;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// Nothing: all is well.
    Keep,
    /// Some of it is made anew, and the rest stays.
    Renew {
        /// A new CA, in front of those that are there.
        ca: bool,
        /// A new leaf, of the newest CA.
        leaf: bool,
    },
    /// Everything is made anew: nothing there is of use.
    Make,
    /// Nothing is made: what is there is somebody else's, and cannot be served.
    LeaveAlone,
}

/// When something is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) start: SystemTime,
    pub(super) end: SystemTime,
}

impl Validity {
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let time =
            |seconds: i64| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds.try_into().ok()?));
        let validity = parsed.validity();
        Some(Self {
            start: time(validity.not_before.timestamp())?,
            end: time(validity.not_after.timestamp())?,
        })
    }

    fn holds(&self, now: SystemTime) -> bool {
        self.start <= now && now < self.end
    }

    /// Whether a third of the life, or less, is left.
    fn ends_soon(&self, now: SystemTime) -> bool {
        let life = self.end.duration_since(self.start).unwrap_or_default();
        self.end.duration_since(now).unwrap_or_default() <= life / 3
    }
}

/// Decides what is due at `now`.
pub(super) fn decide(
    now: SystemTime,
    owner: Owner,
    material: Option<&Material>,
    names: &[String],
) -> Decision {
    let is_foreign = owner == Owner::SomebodyElse;
    let Some(material) = material else {
        return if is_foreign { Decision::LeaveAlone } else { Decision::Make };
    };
    let leaf = CertificateDer::from_pem_slice(material.leaf()).ok();
    // Somebody else's certificate has to have the name that the API server asks for, and no other.
    let needed = if is_foreign { &names[..names.len().min(1)] } else { names };
    let serves = leaf.as_ref().is_some_and(|leaf| serves(now, leaf, material, needed));
    if is_foreign {
        return if serves { Decision::Keep } else { Decision::LeaveAlone };
    }
    let newest = material.cas().first().and_then(Validity::of);
    let Some(newest) = newest.filter(|ca| ca.holds(now) && making::issuer(material).is_ok()) else {
        // A leaf of an older CA may still serve, and stays until its own renewal is due.
        return if serves {
            Decision::Renew { ca: true, leaf: ends_soon(now, leaf) }
        } else {
            Decision::Make
        };
    };
    match (newest.ends_soon(now), !serves || ends_soon(now, leaf)) {
        (false, false) => Decision::Keep,
        (ca, leaf) => Decision::Renew { ca, leaf },
    }
}

fn ends_soon(now: SystemTime, leaf: Option<CertificateDer<'_>>) -> bool {
    leaf.and_then(|leaf| Validity::of(&leaf)).is_none_or(|leaf| leaf.ends_soon(now))
}

/// Whether an API server that knows the CAs would take the leaf now, for each of the names.
fn serves(now: SystemTime, leaf: &CertificateDer<'_>, material: &Material, names: &[String]) -> bool {
    let mut roots = RootCertStore::empty();
    // An API server looks at the validity of a CA too; rustls does not.
    let valid = material.cas().iter().filter(|ca| Validity::of(ca).is_some_and(|ca| ca.holds(now)));
    roots.add_parsable_certificates(valid.cloned());
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    let (Ok(verifier), Ok(since)) = (verifier, now.duration_since(SystemTime::UNIX_EPOCH)) else {
        return false;
    };
    let now = UnixTime::since_unix_epoch(since);
    let intermediates: Vec<_> =
        CertificateDer::pem_slice_iter(material.leaf()).skip(1).filter_map(Result::ok).collect();
    let taken = |name: &String| {
        ServerName::try_from(name.as_str())
            .is_ok_and(|name| verifier.verify_server_cert(leaf, &intermediates, &name, &[], now).is_ok())
    };
    names.iter().all(taken) && making::server_config(material).is_ok()
}

//! Why a request failed, in words for people. The same failure has the same words each time: who tells it tells it
//! once.

use std::error::Error;
use std::io;

use tokio_rustls::rustls;
use tokio_rustls::rustls::CertificateError;

/// The API server's words without the debug print that kube adds, or the innermost reason: the outer ones repeat it.
/// Where a clock or a certificate is the reason, what to do about it.
pub fn cause_text(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    loop {
        if let Some(kube::Error::Api(status)) = innermost.downcast_ref() {
            let advice = if status.code == 401 {
                "; the token is not taken: it has expired or is of another cluster, or a clock is wrong, here or there"
            } else {
                ""
            };
            return format!("{} ({} {}){advice}", status.message, status.code, status.reason);
        }
        match innermost.source() {
            Some(inner) => innermost = inner,
            None => break,
        }
    }
    certificate(error).and_then(explain).map_or_else(|| innermost.to_string(), str::to_owned)
}

/// What TLS says of the other side's certificate. An `io::Error` hides what it wraps from `source`.
fn certificate<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a CertificateError> {
    if let Some(rustls::Error::InvalidCertificate(why)) = error.downcast_ref() {
        return Some(why);
    }
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => certificate(inner),
        None => error.source().and_then(certificate),
    }
}

/// Whether the other side's certificate is of a CA that we were not told.
pub(super) fn is_of_unknown_ca(error: &(dyn Error + 'static)) -> bool {
    // The second, where a new CA has the name of the old one, as those of clusters have.
    matches!(certificate(error), Some(CertificateError::UnknownIssuer | CertificateError::BadSignature))
}

/// rustls's own words hold the present second.
fn explain(why: &CertificateError) -> Option<&'static str> {
    use CertificateError as Why;
    match why {
        Why::NotValidYet | Why::NotValidYetContext { .. } => Some(
            "by this machine's clock the API server's certificate is not valid yet; see that both machines' clocks \
             are right",
        ),
        Why::Expired | Why::ExpiredContext { .. } => Some(
            "by this machine's clock the API server's certificate has expired; renew it, or see that this machine's \
             clock is right",
        ),
        Why::UnknownIssuer | Why::BadSignature => Some(
            "the API server's certificate is of a CA that this process was not told (ca.crt of the service account, \
             or the kubeconfig); a new CA is taken up within two minutes of the file being replaced",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kube::core::Status;
    use rustls::pki_types::UnixTime;

    use super::*;

    /// As hyper hands it up.
    fn tls(why: CertificateError) -> kube::Error {
        let inner = io::Error::new(io::ErrorKind::InvalidData, rustls::Error::InvalidCertificate(why));
        kube::Error::Service(Box::new(io::Error::other(inner)))
    }

    #[test]
    fn a_certificate_that_is_not_valid_now_is_told_with_the_clock_and_alike_each_time() {
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let early = |now| tls(CertificateError::NotValidYetContext { time: at(now), not_before: at(5000) });
        let late = |now| tls(CertificateError::ExpiredContext { time: at(now), not_after: at(5) });
        assert!(cause_text(&early(10)).contains("clock"), "{}", cause_text(&early(10)));
        assert_eq!(cause_text(&early(10)), cause_text(&early(11)));
        assert!(cause_text(&late(10)).contains("expired") && cause_text(&late(10)).contains("clock"));
        assert_eq!(cause_text(&late(10)), cause_text(&late(11)));
    }

    #[test]
    fn an_unknown_authority_is_told_with_where_it_is_to_be_told() {
        for why in [CertificateError::UnknownIssuer, CertificateError::BadSignature] {
            assert!(cause_text(&tls(why)).contains("ca.crt"));
        }
        assert_eq!(
            cause_text(&tls(CertificateError::Revoked)),
            rustls::Error::InvalidCertificate(CertificateError::Revoked).to_string()
        );
    }

    #[test]
    fn the_api_servers_own_words_come_first_and_a_token_that_is_not_taken_is_explained() {
        let answer = |code| kube::Error::Api(Box::new(Status::failure("no", "Reason").with_code(code)));
        assert_eq!(cause_text(&answer(403)), "no (403 Reason)");
        assert!(cause_text(&answer(401)).starts_with("no (401 Reason); the token is not taken"));
        let wrapped = kube::runtime::watcher::Error::WatchFailed(answer(500));
        assert_eq!(cause_text(&wrapped), "no (500 Reason)");
    }
}

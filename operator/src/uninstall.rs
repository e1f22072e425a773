//! `braid uninstall`: takes the DaemonSet of the node role away, and ends when its pods are gone.
//!
//! A node role that is told to stop asks the API server whether its DaemonSet is being deleted, and only then takes the
//! plugin's configuration off the node. Whoever deletes everything at once takes away its right to ask. So the chart
//! runs this before anything else is deleted: as long as it goes on, the node roles have their rights.

use std::io::{self, Write};
use std::time::Duration;

use k8s_openapi::api::apps::v1::DaemonSet;
use kube::api::{DeleteParams, PropagationPolicy};
use kube::{Api, Client};
use tokio::time::{Instant, sleep};

use crate::args::UninstallArgs;
use crate::cluster::{self, ClusterError, Meaning, is_not_there, meaning, namespace_and_name};

/// The pause between two looks.
const GLANCE: Duration = Duration::from_millis(500);

/// Why it is not known that the nodes are free of Braid.
#[derive(Debug, thiserror::Error)]
pub enum UninstallError {
    /// The argument names no DaemonSet.
    #[error("--daemonset {0:?} is not namespace/name")]
    NotAName(String),
    /// No API server.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// No runtime.
    #[error("start the runtime for the API server's client")]
    Runtime(#[source] io::Error),
    /// The API server does not do it.
    #[error(
        "delete the DaemonSet {0}; grant get and delete on it, or delete it with kubectl and wait for its pods"
    )]
    Delete(String, #[source] Box<kube::Error>),
    /// Its pods do not go.
    #[error(
        "the DaemonSet {daemonset} still has pods after {seconds} s (nodes that do not answer?); \
         Braid's configuration stays on their nodes, as docs/upgrade.md says"
    )]
    Late {
        /// Which one.
        daemonset: String,
        /// How long it was waited.
        seconds: u64,
    },
}

/// Deletes the DaemonSet that the arguments name and waits until it is gone. One that is not there is no error.
pub fn run(args: &UninstallArgs, out: &mut dyn Write) -> Result<(), UninstallError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(UninstallError::Runtime)?.block_on(async {
        let client = cluster::connect(args.kubeconfig.as_deref()).await?.client;
        uninstall(client, &args.daemonset, Duration::from_secs(args.timeout), out).await
    })
}

async fn uninstall(
    client: Client,
    daemonset: &str,
    patience: Duration,
    out: &mut dyn Write,
) -> Result<(), UninstallError> {
    let (namespace, name) =
        namespace_and_name(daemonset).ok_or_else(|| UninstallError::NotAName(daemonset.to_owned()))?;
    let daemonsets: Api<DaemonSet> = Api::namespaced(client, namespace);
    // The DaemonSet stays, marked, until its pods are gone: that is what the node roles ask for.
    let params =
        DeleteParams { propagation_policy: Some(PropagationPolicy::Foreground), ..DeleteParams::default() };
    let end = Instant::now() + patience;
    let mut deleted = false;
    loop {
        let answer = if deleted {
            daemonsets.get_metadata(name).await.map(drop)
        } else {
            daemonsets.delete(name, &params).await.map(drop)
        };
        match answer {
            Err(error) if is_not_there(&error) => break,
            Err(error) if meaning(&error) != Meaning::Later || Instant::now() >= end => {
                return Err(UninstallError::Delete(daemonset.to_owned(), Box::new(error)));
            }
            Ok(()) if !deleted => {
                deleted = true;
                // Nothing can be done about a log that takes nothing.
                let _ = writeln!(out, "deleting the DaemonSet {daemonset} and waiting for its pods");
            }
            // Pods are still there, or the server is busy.
            Ok(()) | Err(_) => {}
        }
        if Instant::now() >= end {
            let seconds = patience.as_secs();
            return Err(UninstallError::Late { daemonset: daemonset.to_owned(), seconds });
        }
        sleep(GLANCE).await;
    }
    let _ = writeln!(out, "the DaemonSet {daemonset} is gone");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::{Value, json};
    use tower::service_fn;

    use super::*;

    /// Answers with these codes, one after another, the last one for ever; notes what was asked, with its body.
    fn server(codes: &'static [u16]) -> (Client, Arc<Mutex<Vec<String>>>) {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&asked);
        let service = service_fn(move |request: Request<Body>| {
            let noted = Arc::clone(&noted);
            async move {
                let asked = format!("{} {}", request.method(), request.uri().path());
                let body = request.into_body().collect_bytes().await.unwrap();
                let mut noted = noted.lock().unwrap();
                let code = codes[noted.len().min(codes.len() - 1)];
                noted.push(format!("{asked} {}", String::from_utf8_lossy(&body)).trim_end().to_owned());
                let answer = answer(code).to_string();
                Ok::<_, std::convert::Infallible>(
                    Response::builder().status(code).body(Body::from(answer.into_bytes())).unwrap(),
                )
            }
        });
        (Client::new(service, "default"), asked)
    }

    fn answer(code: u16) -> Value {
        if code == 200 {
            return json!({
                "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": { "name": "braid-node" },
            });
        }
        let reason = if code == 404 { "NotFound" } else { "Other" };
        json!({
            "apiVersion": "v1", "kind": "Status", "status": "Failure", "message": "no", "reason": reason, "code": code,
        })
    }

    async fn outcome(codes: &'static [u16]) -> (Result<(), UninstallError>, Vec<String>) {
        let (client, asked) = server(codes);
        let told = uninstall(client, "ns/braid-node", Duration::from_secs(60), &mut Vec::new()).await;
        (
            told,
            Arc::try_unwrap(asked)
                .map_or_else(|asked| asked.lock().unwrap().clone(), |a| a.into_inner().unwrap()),
        )
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_when_the_daemonset_is_gone_and_asks_to_delete_it_once() {
        let (told, asked) = outcome(&[200, 200, 200, 404]).await;
        told.unwrap();
        let path = "/apis/apps/v1/namespaces/ns/daemonsets/braid-node";
        let (asked_first, body) = asked[0].split_once(" {").unwrap();
        assert_eq!(asked_first, format!("DELETE {path}"));
        assert!(
            body.contains(r#""propagationPolicy":"Foreground""#),
            "else it is gone before its pods are: {body}"
        );
        assert_eq!(asked[1..], vec![format!("GET {path}"); 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_not_there_is_no_error_and_a_server_that_is_busy_is_asked_again() {
        outcome(&[404]).await.0.unwrap();
        outcome(&[503, 503, 404]).await.0.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn pods_that_stay_and_a_missing_right_are_told() {
        let late = outcome(&[200]).await.0.unwrap_err();
        assert!(matches!(late, UninstallError::Late { seconds: 60, .. }), "{late}");
        let forbidden = outcome(&[403]).await.0.unwrap_err();
        assert!(matches!(forbidden, UninstallError::Delete(..)), "{forbidden}");
        let (client, _) = server(&[404]);
        let nobody = uninstall(client, "braid-node", Duration::ZERO, &mut Vec::new()).await.unwrap_err();
        assert!(matches!(nobody, UninstallError::NotAName(_)), "{nobody}");
    }
}

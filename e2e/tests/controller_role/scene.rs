//! A control plane and replicas of the controller role.

use std::io::Write;
use std::net::TcpListener;

use anyhow::{Context, Result};
use e2e::control_plane::{ControlPlane, User};
use e2e::operator::Operator;
use e2e::requirement::{Need, met};
use e2e::{source, wait};
use serde_json::{Value, json};

/// Dropped in the order of the fields: the replicas end before what they talk to.
pub(crate) struct Scene {
    pub(crate) replicas: Vec<Operator>,
    /// Whom each of them is to the API server.
    pub(crate) users: Vec<User>,
    pub(crate) plane: ControlPlane,
    dir: tempfile::TempDir,
}

pub(crate) fn possible() -> bool {
    met(&[Need::ControlPlane])
}

impl Scene {
    /// Definitions, rights and nothing that runs.
    pub(crate) fn new() -> Result<Self> {
        let plane = ControlPlane::start()?;
        plane.install_definitions()?;
        plane.apply(&source("deploy/manifests/parts/rbac-controller.yaml"))?;
        Ok(Self { replicas: Vec::new(), users: Vec::new(), plane, dir: tempfile::tempdir()? })
    }

    /// Whom the replicas are to the API server; each time with another token.
    pub(crate) fn user(&self) -> Result<User> {
        self.plane.service_account("braid-system", "braid-controller")
    }

    /// Starts a replica as its service account, with the rights that are shipped.
    pub(crate) fn start_replica(&mut self, more: &[&str]) -> Result<()> {
        let user = self.user()?;
        let kubeconfig = self.plane.kubeconfig(&user)?;
        let replica = Operator::start("controller", self.dir.path(), &kubeconfig, more)?;
        self.replicas.push(replica);
        self.users.push(user);
        Ok(())
    }

    /// Starts a replica that answers admission requests, and leads the API server to it.
    pub(crate) fn start_with_webhook(&mut self, more: &[&str]) -> Result<()> {
        self.plane.apply(&source("deploy/manifests/parts/webhook.yaml"))?;
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr())?.port();
        // Here nobody leads traffic for a Service's address anywhere; a Service of this type is a name, and the
        // certificate is asked for the Service all the same.
        self.plane.kubectl(&User::admin(), &["-n", "braid-system", "delete", "service", "braid-webhook"])?;
        self.apply(&json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "braid-webhook", "namespace": "braid-system"},
            "spec": {"type": "ExternalName", "externalName": "localhost"},
        }))?;
        let at = |index| json!({"op": "replace", "path": format!("/webhooks/{index}/clientConfig/service/port"), "value": port});
        let patch = json!([at(0), at(1)]).to_string();
        let configuration = ["patch", "validatingwebhookconfiguration", "braid", "--type=json", "-p", &patch];
        self.plane.kubectl(&User::admin(), &configuration)?;
        let address = format!("127.0.0.1:{port}");
        let arguments: Vec<&str> =
            ["--webhook-address", &address].into_iter().chain(more.iter().copied()).collect();
        self.start_replica(&arguments)?;
        self.replicas.last_mut().context("no replica")?.wait_until_ready()?;
        wait::until("the API server knows the CA", || {
            let both = "{.webhooks[0].clientConfig.caBundle} {.webhooks[1].clientConfig.caBundle}";
            let bundles = self.part(&["validatingwebhookconfiguration", "braid"], both)?;
            Ok(bundles.split(' ').filter(|bundle| !bundle.is_empty()).count() == 2)
        })
    }

    pub(crate) fn apply(&self, object: &Value) -> Result<String> {
        let mut file = tempfile::NamedTempFile::with_suffix(".json")?;
        file.write_all(object.to_string().as_bytes())?;
        self.plane.kubectl(&User::admin(), &["apply", "-f", &file.path().display().to_string()])
    }

    /// Server-side apply by a field manager.
    pub(crate) fn apply_as(&self, manager: &str, object: &Value) -> Result<String> {
        let mut file = tempfile::NamedTempFile::with_suffix(".json")?;
        file.write_all(object.to_string().as_bytes())?;
        let path = file.path().display().to_string();
        let apply = ["apply", "--server-side", "--force-conflicts", "--field-manager", manager, "-f", &path];
        self.plane.kubectl(&User::admin(), &apply)
    }

    pub(crate) fn put_network(&self, namespace: &str, name: &str, config: &str) -> Result<String> {
        self.apply(&json!({
            "apiVersion": crds::nad::API_VERSION, "kind": crds::nad::KIND,
            "metadata": {"name": name, "namespace": namespace}, "spec": {"config": config},
        }))
    }

    /// A part of an object, by a JSON path.
    pub(crate) fn part(&self, object: &[&str], path: &str) -> Result<String> {
        let path = format!("jsonpath={path}");
        self.plane.kubectl(&User::admin(), &[&["get"], object, &["-o", &path]].concat())
    }

    pub(crate) fn wait_for_part(&self, object: &[&str], path: &str, expected: &str) -> Result<()> {
        let mut last = String::new();
        wait::until(&format!("{object:?} {path} is {expected:?}"), || {
            last = self.part(object, path).unwrap_or_default();
            Ok(last == expected)
        })
        .with_context(|| {
            let logs: Vec<_> = self.replicas.iter().map(Operator::log).collect();
            format!("it is {last:?}; the replicas logged:\n{}", logs.join("\n---\n"))
        })
    }
}

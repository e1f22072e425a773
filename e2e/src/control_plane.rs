//! A control plane of a test's own: etcd and kube-apiserver as they run in clusters, on loopback.
//!
//! ```no_run
//! use e2e::control_plane::{ControlPlane, User};
//! use k8s_openapi::api::core::v1::Namespace;
//! use kube::Api;
//!
//! # fn test() -> anyhow::Result<()> {
//! let plane = ControlPlane::shared()?;
//! let namespaces: Api<Namespace> = Api::all(plane.client(&User::admin())?);
//! plane.block_on(namespaces.get("default"))?;
//! # Ok(())
//! # }
//! ```
//!
//! There is no controller manager, scheduler or kubelet: nothing is garbage collected, a namespace that is deleted
//! stays for ever, and a pod is on the node that its creator names. Pods need no service account.
//!
//! Everything is in one directory under `/tmp` that carries the owner's process id. It goes, and the servers end,
//! with the [`ControlPlane`], or with the process, however it ends.

use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use kube::{Api, Client};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::home::Home;
use crate::program::output;
use crate::wait;
use keys::Keys;

pub use audit::Request;
pub use programs::{directory, etcd, missing};
pub(crate) use server::Server;
pub use users::User;

mod audit;
pub(crate) mod keys;
mod ports;
mod programs;
mod server;
mod users;

/// How the directory of a control plane begins; the owner's process id follows.
const DIRECTORY: &str = "braid-control-plane.";

/// How long a start may take; it takes about 5 s on a machine that has nothing else to do.
const PATIENCE: Duration = Duration::from_secs(90);

/// How long one look at the server may take.
const LOOK: Duration = Duration::from_secs(2);

/// The name under which the harness changes objects.
const MANAGER: &str = "e2e";

/// etcd and an API server. Dropping it ends them and removes what they had.
#[derive(Debug)]
pub struct ControlPlane {
    // In this order they are dropped: the server first, the directory when nobody writes there any more.
    api_server: Mutex<Option<Server>>,
    etcd: Mutex<Option<Server>>,
    programs: PathBuf,
    arguments: Vec<String>,
    etcd_arguments: Vec<String>,
    port: u16,
    etcd_port: u16,
    authority: PathBuf,
    kubeconfigs: AtomicUsize,
    runtime: Runtime,
    home: Home,
}

impl ControlPlane {
    /// The one of this process, with Braid's definitions. A test that stops the server or changes what others see
    /// starts its own.
    pub fn shared() -> Result<&'static Self> {
        static SHARED: OnceLock<Result<ControlPlane>> = OnceLock::new();
        let start = || Self::start().and_then(|plane| plane.install_definitions().map(|()| plane));
        SHARED.get_or_init(start).as_ref().map_err(|error| anyhow!("{error:#}"))
    }

    /// Starts one, empty, and waits until it is ready.
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// The same with further arguments of kube-apiserver, such as `--watch-cache=false`.
    pub fn start_with(further: &[&str]) -> Result<Self> {
        let programs = directory(&["etcd", "kube-apiserver"])?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.context("making a runtime for the clients of the control plane")?;
        let home = Home::new(DIRECTORY)?;
        let dir = home.path();
        let [port, etcd_port, peer_port] = ports::free()?;
        let keys = Keys::make(dir, &[])?;
        let mut arguments = api_server_arguments(dir, port, etcd_port, &keys)?;
        arguments.extend(further.iter().map(|argument| (*argument).to_owned()));
        let etcd_arguments = etcd_arguments(dir, etcd_port, peer_port);
        let this = Self {
            api_server: Mutex::new(None),
            etcd: Mutex::new(None),
            programs,
            arguments,
            etcd_arguments,
            port,
            etcd_port,
            authority: keys.authority,
            kubeconfigs: AtomicUsize::new(0),
            runtime,
            home,
        };
        this.start_etcd()?;
        this.start_api_server()?;
        Ok(this)
    }

    /// The address of the API server.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// The file of the certificate that clients of the API server trust.
    pub fn authority(&self) -> &Path {
        &self.authority
    }

    /// Writes a kubeconfig with which a program talks to the API server as `user`.
    pub fn kubeconfig(&self, user: &User) -> Result<PathBuf> {
        let number = self.kubeconfigs.fetch_add(1, Ordering::Relaxed);
        let file = self.home.path().join(format!("{number}.kubeconfig"));
        fs::write(&file, user.kubeconfig(&self.url(), &self.authority))
            .with_context(|| format!("writing {}", file.display()))?;
        Ok(file)
    }

    /// A client that is `user`, and works within [`Self::block_on`]. It repeats what the server is too busy for.
    pub fn client(&self, user: &User) -> Result<Client> {
        let config = self.config(user)?;
        // The client starts a task.
        let _within = self.runtime.enter();
        Client::try_from(config).with_context(|| format!("making a client for {}", user.name))
    }

    /// Runs a future to its end, on a runtime that all clients of this control plane share. Several threads may.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// Lets a future go on beside what else is done, on the same runtime.
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.runtime.spawn(future)
    }

    /// The process ids of etcd and of the API server.
    pub fn processes(&self) -> Result<[u32; 2]> {
        let id = |name: &str| {
            let file = self.home.path().join(format!("{name}.pid"));
            let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
            text.trim().parse().with_context(|| format!("reading {}, which says {text:?}", file.display()))
        };
        Ok([id("etcd")?, id("kube-apiserver")?])
    }

    /// Lets the guardian of the servers end a client, too, if this process is killed: one that has a
    /// [kubeconfig](Self::kubeconfig) of ours in its arguments.
    pub fn guard(&self, name: &str, process: u32) -> Result<()> {
        let file = self.home.path().join(format!("{name}.pid"));
        fs::write(&file, format!("{process}\n")).with_context(|| format!("writing {}", file.display()))
    }

    fn config(&self, user: &User) -> Result<Config> {
        let config = user.kubeconfig(&self.url(), &self.authority);
        let config = Kubeconfig::from_yaml(&config)
            .with_context(|| format!("reading the kubeconfig of {}", user.name))?;
        let options = KubeConfigOptions::default();
        self.block_on(Config::from_custom_kubeconfig(config, &options))
            .with_context(|| format!("reading the kubeconfig of {}", user.name))
    }

    /// A service account with a token that the server made, as pods have. The account is created where it is missing;
    /// what it may do is up to RBAC.
    pub fn service_account(&self, namespace: &str, name: &str) -> Result<User> {
        let what = || format!("making a token for the service account {namespace}/{name}");
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client(&User::admin())?, namespace);
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        let account = ServiceAccount { metadata, ..ServiceAccount::default() };
        let request = TokenRequest { spec: Some(TokenRequestSpec::default()), ..TokenRequest::default() };
        let token = self.block_on(async {
            match accounts.create(&PostParams::default(), &account).await {
                Err(kube::Error::Api(status)) if status.is_already_exists() => {}
                created => drop(created?),
            }
            accounts.create_token_request(name, &PostParams::default(), &request).await
        });
        let token = token.with_context(what)?.status.and_then(|status| status.token);
        let token = token.context("the answer holds no token").with_context(what)?;
        Ok(User { name: format!("system:serviceaccount:{namespace}:{name}"), token })
    }

    /// A token for a service account that is valid until the Secret of the name `until` is deleted, which is made for
    /// that.
    pub fn bound_token(&self, namespace: &str, name: &str, until: &str) -> Result<User> {
        let user = self.service_account(namespace, name)?;
        let client = self.client(&User::admin())?;
        let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
        let metadata = ObjectMeta { name: Some(until.to_owned()), ..ObjectMeta::default() };
        let secret = Secret { metadata, ..Secret::default() };
        let accounts: Api<ServiceAccount> = Api::namespaced(client, namespace);
        let token = self.block_on(async {
            let secret = secrets.create(&PostParams::default(), &secret).await?;
            let bound = BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Secret".to_owned()),
                name: secret.metadata.name,
                uid: secret.metadata.uid,
            };
            let spec = TokenRequestSpec { bound_object_ref: Some(bound), ..TokenRequestSpec::default() };
            let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
            accounts.create_token_request(name, &PostParams::default(), &request).await
        });
        let what = || format!("making a token for {namespace}/{name} that ends with the Secret {until}");
        let token = token.with_context(what)?.status.and_then(|status| status.token);
        Ok(User { token: token.context("the answer holds no token").with_context(what)?, ..user })
    }

    /// Installs Braid's definitions and waits until the server serves them.
    pub fn install_definitions(&self) -> Result<()> {
        let definitions: Api<CustomResourceDefinition> = Api::all(self.client(&User::admin())?);
        for definition in crds::definitions() {
            let name = definition.metadata.name.clone().unwrap_or_default();
            let apply = PatchParams::apply(MANAGER).force();
            self.block_on(definitions.patch(&name, &apply, &Patch::Apply(&definition)))
                .with_context(|| format!("installing the definition {name}"))?;
            self.wait_for_definition(&name)?;
        }
        Ok(())
    }

    /// Waits until the server serves what a definition defines.
    pub fn wait_for_definition(&self, name: &str) -> Result<()> {
        let definitions: Api<CustomResourceDefinition> = Api::all(self.client(&User::admin())?);
        wait::until(&format!("{name} is served"), || {
            let status = self.block_on(definitions.get(name))?.status.unwrap_or_default();
            let mut conditions = status.conditions.into_iter().flatten();
            Ok(conditions.any(|condition| condition.type_ == "Established" && condition.status == "True"))
        })
    }

    /// Runs kubectl as `user` and returns what it printed.
    pub fn kubectl(&self, user: &User, arguments: &[&str]) -> Result<String> {
        let mut kubectl = Command::new("kubectl");
        kubectl.arg("--kubeconfig").arg(self.kubeconfig(user)?);
        kubectl.arg("--cache-dir").arg(self.home.path().join("kubectl")).args(arguments);
        output(&mut kubectl)
    }

    /// Applies the manifests of a file or directory, as an administrator does.
    pub fn apply(&self, path: &Path) -> Result<String> {
        let path = path.to_str().context("a path that is not UTF-8")?;
        self.kubectl(&User::admin(), &["apply", "-f", path])
    }

    /// All requests to the API server, in the order in which they came. A request is here before it is answered; its
    /// code comes a moment after the answer.
    pub fn requests(&self) -> Result<Vec<Request>> {
        audit::read(&audit_log(self.home.path()))
    }

    /// The requests of one user.
    pub fn requests_of(&self, user: &User) -> Result<Vec<Request>> {
        Ok(self.requests()?.into_iter().filter(|request| request.user == user.name).collect())
    }

    /// Starts the API server again, at the same address and with the same data, and waits until it is ready.
    pub fn start_api_server(&self) -> Result<()> {
        let mut place = self.api_server();
        ensure!(place.is_none(), "starting the API server: it runs already");
        let program = self.programs.join("kube-apiserver");
        let server = Server::start(self.home.path(), "kube-apiserver", &program, &self.arguments)?;
        let server = place.insert(server);
        let ready = self.wait_until_ready(server).with_context(|| server.last_lines());
        if ready.is_err() {
            *place = None;
        }
        ready.context("starting the API server")
    }

    /// Ends the API server as its service manager does: it takes no new connections and lets its clients end what they
    /// have begun. Who still watches after 5 s is cut off.
    pub fn stop_api_server(&self) -> Result<()> {
        self.running()?.take().map_or(Ok(()), Server::stop)
    }

    /// Ends the API server without a word to anybody.
    pub fn kill_api_server(&self) -> Result<()> {
        *self.running()? = None;
        Ok(())
    }

    /// Makes the API server silent: connections stay and can be made, but nothing is answered.
    pub fn pause_api_server(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets a paused API server go on.
    pub fn resume_api_server(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Gives the API server a certificate of a new authority; [`Self::authority`] is the new one from now on. Clients
    /// that were made before do not trust it. The server is started anew.
    pub fn renew_authority(&self) -> Result<()> {
        self.stop_api_server()?;
        Keys::renew_server(self.home.path())?;
        self.start_api_server()
    }

    /// Takes a copy of what etcd has. Both servers are started anew, as they are for a backup of files.
    pub fn back_up(&self, name: &str) -> Result<()> {
        self.exchange_data(&self.home.path().join("etcd"), &self.home.path().join(name))
    }

    /// Lets etcd go back to what it had at a [`Self::back_up`]; the API server is started anew after that, as
    /// etcd's documentation asks for.
    pub fn restore(&self, name: &str) -> Result<()> {
        self.exchange_data(&self.home.path().join(name), &self.home.path().join("etcd"))
    }

    /// Copies a directory while no server runs.
    fn exchange_data(&self, from: &Path, to: &Path) -> Result<()> {
        self.stop_api_server()?;
        if let Some(etcd) = self.etcd().take() {
            etcd.stop()?;
        }
        if to.exists() {
            fs::remove_dir_all(to).with_context(|| format!("removing {}", to.display()))?;
        }
        output(Command::new("cp").arg("-a").arg(from).arg(to))?;
        self.start_etcd()?;
        self.start_api_server()
    }

    fn start_etcd(&self) -> Result<()> {
        let program = etcd(&self.programs);
        *self.etcd() = Some(Server::start(self.home.path(), "etcd", &program, &self.etcd_arguments)?);
        Ok(())
    }

    fn etcd(&self) -> MutexGuard<'_, Option<Server>> {
        self.etcd.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes etcd forget everything before its newest change, so that a watch that would have to tell more than that
    /// change, or a list that goes on, gets 410 Gone. Returns the revision that is left. The API server keeps recent
    /// changes itself: it must have been started with `--watch-cache=false`, or anew since.
    pub fn compact_etcd(&self) -> Result<i64> {
        // The range is that of the first possible key; the answer's header has the revision.
        let answer = self.ask_etcd("/v3/kv/range", &json!({ "key": "AA==" }))?;
        let revision = answer["header"]["revision"].as_str().and_then(|revision| revision.parse().ok());
        let revision = revision.with_context(|| format!("etcd's answer names no revision: {answer}"))?;
        self.ask_etcd("/v3/kv/compaction", &json!({ "revision": revision, "physical": true }))?;
        Ok(revision)
    }

    /// Asks etcd through its JSON gateway.
    fn ask_etcd(&self, path: &str, body: &Value) -> Result<Value> {
        let what = || format!("asking etcd for {path}");
        let url = format!("http://127.0.0.1:{}", self.etcd_port).parse().with_context(what)?;
        let request = http::Request::post(path).header("content-type", "application/json");
        let request = request.body(body.to_string().into_bytes()).with_context(what)?;
        let answer = self.block_on(async { Client::try_from(Config::new(url))?.request(request).await });
        answer.with_context(what)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        self.running()?.as_ref().map_or(Ok(()), |server| server.signal(signal))
    }

    fn api_server(&self) -> MutexGuard<'_, Option<Server>> {
        self.api_server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The place of the API server, which is not empty.
    fn running(&self) -> Result<MutexGuard<'_, Option<Server>>> {
        let place = self.api_server();
        ensure!(place.is_some(), "the API server does not run");
        Ok(place)
    }

    fn wait_until_ready(&self, server: &mut Server) -> Result<()> {
        // Nobody else's patience: a busy answer is "not ready", to be asked again soon.
        let mut config = self.config(&User::admin())?;
        config.default_retry = false;
        let client = self.block_on(async { Client::try_from(config) })?;
        wait::within(PATIENCE, "the API server is ready", || {
            server.ensure_running()?;
            // The server makes its namespaces on its own, and may be ready before that.
            for path in ["/readyz", "/api/v1/namespaces/kube-system", "/api/v1/namespaces/default"] {
                let request = http::Request::get(path).body(Vec::new())?;
                let look = async { tokio::time::timeout(LOOK, client.request_text(request)).await };
                if !matches!(self.block_on(look), Ok(Ok(_))) {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }
}

fn audit_log(dir: &Path) -> PathBuf {
    dir.join("audit.log")
}

fn etcd_arguments(dir: &Path, port: u16, peer_port: u16) -> Vec<String> {
    let (dir, url, peers) =
        (dir.display(), format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{peer_port}"));
    vec![
        format!("--data-dir={dir}/etcd"),
        format!("--listen-client-urls={url}"),
        format!("--advertise-client-urls={url}"),
        format!("--listen-peer-urls={peers}"),
        format!("--initial-advertise-peer-urls={peers}"),
        format!("--initial-cluster=default={peers}"),
        // Data that need not survive the machine.
        "--unsafe-no-fsync".to_owned(),
    ]
}

/// What a cluster has too: RBAC, tokens of service accounts. What it has not: an endpoint of the service
/// `kubernetes`, which would have to be other than loopback, and service accounts in pods, which a controller makes.
fn api_server_arguments(dir: &Path, port: u16, etcd_port: u16, keys: &Keys) -> Result<Vec<String>> {
    let (policy, log) = (audit::write_policy(dir)?, audit_log(dir));
    let tokens = users::write_tokens(dir)?;
    let file = |name: &str, path: &Path| format!("--{name}={}", path.display());
    Ok(vec![
        format!("--etcd-servers=http://127.0.0.1:{etcd_port}"),
        "--bind-address=127.0.0.1".to_owned(),
        "--advertise-address=127.0.0.1".to_owned(),
        format!("--secure-port={port}"),
        "--endpoint-reconciler-type=none".to_owned(),
        "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
        format!("--cert-dir={}", dir.display()),
        file("tls-cert-file", &keys.certificate),
        file("tls-private-key-file", &keys.key),
        file("token-auth-file", &tokens),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--allow-privileged=true".to_owned(),
        "--disable-admission-plugins=ServiceAccount".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        file("service-account-key-file", &keys.verifying),
        file("service-account-signing-key-file", &keys.signing),
        file("audit-policy-file", &policy),
        file("audit-log-path", &log),
        // Megabytes, to be sure that no log is begun anew.
        "--audit-log-maxsize=10000".to_owned(),
    ])
}

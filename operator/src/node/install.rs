//! Puts the plugin's executable and configuration on the host and keeps them right.
//!
//! | to | see |
//! |---|---|
//! | know what the plugin is told | `settings` |
//! | find the primary | `primary` |
//! | make the runtime's configuration of both | [`configuration`] |
//! | decide about the configuration's file | `keeping`, `order` |
//! | put the executable in place | `executable` |
//! | wait for changes | `watching` |
//! | take the configuration away at the very end | [`leave()`] |
//!
//! Order: the executable first, then the configuration, and that only once the networks have been complete and a
//! primary is there: before, pods would fail that the primary alone could serve. Once there, it stays: without it
//! pods would start without their networks. So it stays when the primary goes away or is half written, and when
//! this program ends.
//!
//! The host's directories are seen here under the paths that they have on the host: what is written down here is
//! read there.

pub mod configuration;
mod executable;
mod keeping;
mod leave;
mod order;
mod primary;
mod settings;
mod told;
mod watching;

/// What is allowed in settings, and seldom meant.
fn warnings(settings: &Settings) -> Vec<String> {
    let passed_over = settings.passed_over.iter().map(ToString::to_string);
    passed_over.chain(settings.below_host.iter().map(ToString::to_string)).collect()
}

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cni::config::directory;
use cni::error::chain_text;
use cni::point;
use store::lock::Lock;
use store::settings::Settings;
use store::{NodeDirectory, StoreError, atomic, leaving};
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use crate::args::{Install, NodeArgs};
use crate::known::{Installed, Known, Primary};
use crate::retry::longer;
use executable::Executable;
use keeping::{Act, Keeping};
pub use leave::{Left, leave};
use primary::Look;
use settings::PluginSettings;
use told::Told;
use watching::Watching;

/// What keeps the host from being looked after at all.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// No inotify.
    #[error(
        "watch the host's CNI directories; fs.inotify.max_user_instances may have to be raised on this node"
    )]
    Watch(#[source] io::Error),
    /// The plugin's place is not known.
    #[error("find the plugin beside this program; --plugin names it otherwise")]
    Ourselves(#[source] io::Error),
}

/// What is put where on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Where the runtime looks for configurations.
    pub conf_dir: PathBuf,
    /// Where it looks for plugins.
    pub bin_dir: PathBuf,
    /// The executable to put there.
    pub plugin: PathBuf,
    /// The file with the plugin's settings.
    pub settings: Option<PathBuf>,
    /// What is put there at all.
    pub what: Install,
}

impl Host {
    /// As the command line says.
    pub fn of(args: &NodeArgs) -> Result<Self, InstallError> {
        let plugin = match &args.plugin {
            Some(plugin) => plugin.clone(),
            None => std::env::current_exe()
                .map_err(InstallError::Ourselves)?
                .with_file_name(configuration::PLUGIN),
        };
        Ok(Self {
            conf_dir: args.cni_conf_dir.clone(),
            bin_dir: args.cni_bin_dir.clone(),
            plugin,
            settings: args.settings.clone(),
            what: args.install,
        })
    }

    fn configuration(&self) -> PathBuf {
        self.conf_dir.join(configuration::FILE)
    }

    fn executable(&self) -> PathBuf {
        self.bin_dir.join(configuration::PLUGIN)
    }
}

/// Finds the primary, puts the plugin on the host, and follows every change of what either depends on.
///
/// *Guarantees*: both files are there whole or not at all. It may be dropped at any time; the next run begins by
/// comparing. What the host does not take (a full disk, a read-only directory) is told and tried again.
///
/// *Errors*: only where changes cannot be seen at all.
pub async fn run(host: Host, dir: NodeDirectory, known: Arc<Known>) -> Result<Infallible, InstallError> {
    let mut watching = Watching::new().map_err(InstallError::Watch)?;
    let mut installer = Installer::new(host, dir);
    let mut told = Told::default();
    let mut retry = None;
    loop {
        let complete = known.look().networks.complete.is_some();
        let (round, watched) = installer.watched_round(&mut watching, complete);
        told.tell(&round, watched.as_ref().err());
        tell(&known, &round);
        retry = (round.failed || watched.is_err()).then(|| longer(retry));
        let later = retry.map(|retry| Instant::now() + retry).into_iter().chain(round.put_back_at).min();
        tokio::select! {
            changed = watching.changed() => changed.map_err(InstallError::Watch)?,
            () = networks_complete(&known), if !complete => {}
            () = sleep_until(later.unwrap_or_else(Instant::now)), if later.is_some() => {}
        }
    }
}

async fn networks_complete(known: &Known) {
    let mut news = known.news();
    while known.look().networks.complete.is_none() {
        if news.changed().await.is_err() {
            // Nobody is left who could tell.
            std::future::pending::<()>().await;
        }
    }
}

fn tell(known: &Known, round: &Round) {
    known.tell(|state| {
        let news = state.primary != round.primary || state.installed != round.installed;
        state.primary.clone_from(&round.primary);
        state.installed.clone_from(&round.installed);
        news
    });
}

/// What one look at the host came to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Round {
    primary: Primary,
    installed: Installed,
    /// Settings that mean nothing, for people.
    passed_over: Vec<String>,
    /// Whether the host did not take something: time may mend it.
    failed: bool,
    /// When our configuration may be put back again.
    put_back_at: Option<Instant>,
}

/// Why the configuration is not in place.
#[derive(Debug, thiserror::Error)]
enum ConfigurationError {
    #[error(
        "{dir} is no directory; mount the host's directory of CNI configurations there, or set --cni-conf-dir"
    )]
    NoDirectory { dir: PathBuf },
    #[error("read our configuration {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("put our configuration on the host")]
    Write(#[source] StoreError),
    #[error("wait for meta-cni, which is at our configuration")]
    Lock(#[source] StoreError),
}

/// Brings the host to what it should be, one round after the other.
#[derive(Debug)]
struct Installer {
    host: Host,
    dir: NodeDirectory,
    executable: Executable,
    keeping: Keeping,
    swept: bool,
    places: BTreeSet<PathBuf>,
}

impl Installer {
    fn new(host: Host, dir: NodeDirectory) -> Self {
        let (executable, keeping) = (Executable::default(), Keeping::default());
        let places = BTreeSet::from([host.conf_dir.clone()]);
        Self { host, dir, executable, keeping, swept: false, places }
    }

    /// Watches, then looks. A look that leads to other places is repeated when those are watched too.
    fn watched_round(&mut self, watching: &mut Watching, complete: bool) -> (Round, io::Result<()>) {
        loop {
            let places = self.places.clone();
            let watched = watching.follow(&places);
            let round = self.round(complete, Instant::now());
            if watched.is_err() || self.places.is_subset(&places) {
                return (round, watched);
            }
        }
    }

    fn round(&mut self, complete: bool, now: Instant) -> Round {
        let settings = settings::read(&self.host, &self.dir).map_err(|error| chain_text(&error));
        let look = settings.as_ref().map_err(Clone::clone).and_then(|given| primary::look(&given.settings));
        self.places = self.places_of(settings.as_ref().ok(), &look);
        let of_multus =
            settings.as_ref().map(|given| primary::passed_over(&given.settings)).unwrap_or_default();
        let mut round = Round {
            primary: primary::told(&look, of_multus),
            installed: Installed::default(),
            passed_over: settings.iter().flat_map(|given| warnings(&given.settings)).collect(),
            failed: false,
            put_back_at: None,
        };
        if self.host.what == Install::None {
            round.installed.executable = executable::in_place(&self.host.executable());
            round.installed.configuration = self.host.configuration().is_file();
            return round;
        }
        let mut problems = Problems::default();
        problems.lasting(settings.as_ref().err().cloned());
        problems.passing(self.sweep());
        round.installed.executable = problems.passing(self.settle_executable()).is_some();
        let wanted = settings.ok().zip(look.ok()).map(|(settings, found)| {
            configuration::text(&configuration::configuration(&found.list, &settings.keys))
        });
        let may_appear = complete && round.installed.executable;
        if let Some(act) = problems.passing(self.keep(wanted, may_appear, now)) {
            round.installed.configuration = act == Some(Act::Nothing);
            round.put_back_at = if let Some(Act::PutBackAt(end)) = act { Some(end) } else { None };
        }
        problems.lasting(self.taken_instead());
        round.failed = problems.failed;
        round.installed.problem = problems.text();
        round
    }

    /// Every directory in which a change matters.
    fn places_of(&self, settings: Option<&PluginSettings>, look: &Look) -> BTreeSet<PathBuf> {
        let host = &self.host;
        let mut places =
            settings.map(|given| primary::directories(&given.settings, look)).unwrap_or_default();
        places.extend([host.conf_dir.clone(), host.bin_dir.clone()]);
        let files = host.settings.iter().chain((host.what == Install::All).then_some(&host.plugin));
        places.extend(files.filter_map(|file| file.parent()).map(Path::to_owned));
        places
    }

    /// Removes once what earlier runs left when they were killed.
    fn sweep(&mut self) -> Result<(), StoreError> {
        if !self.swept {
            atomic::sweep(&self.host.conf_dir)?;
            atomic::sweep(&self.host.bin_dir)?;
            self.swept = true;
            point::reached("install: swept");
        }
        Ok(())
    }

    fn settle_executable(&mut self) -> Result<(), executable::ExecutableError> {
        let target = self.host.executable();
        if self.host.what == Install::Configuration {
            return if executable::in_place(&target) {
                Ok(())
            } else {
                Err(executable::ExecutableError::Absent { path: target })
            };
        }
        if self.executable.settle(&self.host.plugin, &target)? {
            point::reached("install: executable in place");
            info!(path = %target.display(), "put the plugin on the host");
        }
        Ok(())
    }

    /// Brings our configuration to what is wanted. While that is not known, it is kept as it last was; `None`
    /// if that is not known either and there is none.
    fn keep(
        &mut self,
        wanted: Option<String>,
        may: bool,
        now: Instant,
    ) -> Result<Option<Act>, ConfigurationError> {
        if !self.host.conf_dir.is_dir() {
            return Err(ConfigurationError::NoDirectory { dir: self.host.conf_dir.clone() });
        }
        let path = self.host.configuration();
        // What an earlier node role left when it was taken away does no work for us: as good as none.
        let found = match std::fs::read(&path) {
            Ok(text) => Some(text).filter(|text| !leaving::is_retired(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(ConfigurationError::Read { path, source }),
        };
        let Some(wanted) = wanted.or_else(|| self.keeping.last().map(str::to_owned)) else {
            return Ok(found.map(|_| Act::Nothing));
        };
        let act = self.keeping.decide(&wanted, found.as_deref(), may, now);
        match act {
            Act::Await | Act::PutBackAt(_) => return Ok(Some(act)),
            Act::Nothing => {}
            Act::Write | Act::PutBack => {
                // It removes the file if it is retired, and must not if it is ours again.
                let _only =
                    Lock::of_configuration(&self.dir, leaving::PATIENCE).map_err(ConfigurationError::Lock)?;
                atomic::write(&path, wanted.as_bytes()).map_err(ConfigurationError::Write)?;
                point::reached("install: configuration in place");
            }
        }
        match act {
            Act::Write => info!(path = %path.display(), "put our configuration on the host"),
            Act::PutBack => {
                warn!(path = %path.display(), "somebody else removed or changed our configuration; put it back");
            }
            _ => {}
        }
        self.keeping.settle(&wanted, act, now);
        Ok(Some(Act::Nothing))
    }

    fn taken_instead(&self) -> Option<String> {
        let files = directory::files(&self.host.conf_dir, directory::CONFIGURATIONS).ok()?;
        let other = order::taken_instead(&files)?;
        Some(format!(
            "the runtime takes {} and not {}, because its name comes first: pods get no networks of Braid; \
             remove it, or give it a name that begins with 10 or more",
            other.display(),
            configuration::FILE
        ))
    }
}

/// What is wrong, collected: one problem does not hide another.
#[derive(Debug, Default)]
struct Problems {
    texts: Vec<String>,
    failed: bool,
}

impl Problems {
    /// Something that stays until people change it, which wakes us.
    fn lasting(&mut self, problem: Option<String>) {
        self.texts.extend(problem);
    }

    /// Something that may pass without a sign, such as a full disk.
    fn passing<T>(&mut self, outcome: Result<T, impl std::error::Error>) -> Option<T> {
        outcome
            .map_err(|error| {
                self.failed = true;
                self.texts.push(chain_text(&error));
            })
            .ok()
    }

    fn text(self) -> Option<String> {
        (!self.texts.is_empty()).then(|| self.texts.join("; "))
    }
}

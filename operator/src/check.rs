//! `braid check`: what the node role and meta-cni would say of files, without changing anything.
//!
//! The verdicts come from the code that those run: [`render`] for networks, the
//! annotation parser for pods, the configuration and settings parsers for files of the runtime; and, as at the
//! controller, from [`judgement`] for what only a run or another network would show.

mod lines;
mod pods;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use cni::NetworkList;
use cni::config::ConfigError;
use cni::config::directory::{self, LoadError};
use cni::error::chain_text;
use cni::json_slip;
use cni::reference::makes_no_interface;
use serde_json::{Map, Value};
use store::network::Outcome;
use store::settings::Settings;

use crate::controller::judgement::{self, Judgement, annotations, hints};
use crate::manifests::documents::{self, Form, Object};
use crate::manifests::{Added, Manifests, lookalikes};
use crate::node::render::{self, RenderError};
use crate::permissions::Permissions;
use crate::pod_rules::PodRules;
use crate::verdict::count;
use crate::{Verdict, Wrong};

/// Checks files; findings and a summary go to `out`, files that cannot be checked to `err`.
pub fn check(
    files: &[PathBuf],
    permissions: Permissions,
    rules: PodRules,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Verdict> {
    let mut report = Report::new(out, permissions, rules);
    let mut unable = false;
    for file in files {
        if let Err(problem) = check_file(file, &mut report)? {
            writeln!(err, "{}: {problem}", file.display())?;
            unable = true;
        }
    }
    networks(&mut report)?;
    report.close(files.len())?;
    Ok(match (unable, report.errors) {
        (true, _) => Verdict::Unable,
        (false, 0) => Verdict::Fine,
        (false, _) => Verdict::Wrong,
    })
}

/// Judges the networks of all files together: they may be in each other's way. What keeps a network from being
/// rendered has been told where it was found.
fn networks(report: &mut Report<'_>) -> io::Result<()> {
    let judgements = judgement::judge(&report.manifests.networks);
    for (name, judgement) in judgements {
        let Some(network) = report.manifests.networks.get(&name) else { continue };
        if !matches!(network.outcome, Outcome::Refused { .. }) {
            let origin = network.origin.clone();
            report.judgement(&origin, &name.to_string(), &judgement)?;
        }
    }
    Ok(())
}

/// What the files are found to hold, told as it is found.
struct Report<'a> {
    out: &'a mut dyn Write,
    manifests: Manifests,
    rules: PodRules,
    pods: usize,
    configurations: usize,
    errors: usize,
    warnings: usize,
}

impl<'a> Report<'a> {
    fn new(out: &'a mut dyn Write, permissions: Permissions, rules: PodRules) -> Self {
        let manifests = Manifests::new(permissions);
        Self { out, manifests, rules, pods: 0, configurations: 0, errors: 0, warnings: 0 }
    }

    fn error(&mut self, origin: &str, place: &str, text: &str) -> io::Result<()> {
        self.errors += 1;
        self.line(origin, place, "error", text)
    }

    fn warning(&mut self, origin: &str, place: &str, text: &str) -> io::Result<()> {
        self.warnings += 1;
        self.line(origin, place, "warning", text)
    }

    fn judgement(&mut self, origin: &str, place: &str, judgement: &Judgement) -> io::Result<()> {
        judgement.errors.iter().try_for_each(|text| self.error(origin, place, text))?;
        judgement.warnings.iter().try_for_each(|text| self.warning(origin, place, text))
    }

    fn line(&mut self, origin: &str, place: &str, kind: &str, text: &str) -> io::Result<()> {
        let separator = if place.is_empty() { "" } else { ": " };
        writeln!(self.out, "{origin}: {place}{separator}{kind}: {text}")
    }

    fn close(&mut self, files: usize) -> io::Result<()> {
        write!(
            self.out,
            "checked {}: {}, {}, {}",
            count(files, "file"),
            count(self.manifests.networks.len(), "network"),
            count(self.pods, "pod"),
            count(self.configurations, "CNI configuration"),
        )?;
        if self.manifests.others > 0 {
            write!(self.out, ", {} of other kinds", count(self.manifests.others, "object"))?;
        }
        writeln!(self.out, "; {}, {}", count(self.errors, "error"), count(self.warnings, "warning"))
    }
}

/// The inner error says why the file cannot be checked.
fn check_file(file: &Path, report: &mut Report<'_>) -> io::Result<Result<(), String>> {
    let text = match documents::read(file) {
        Ok(text) => text,
        Err(error) => return Ok(Err(chain_text(&error))),
    };
    let form = match file.extension().and_then(|extension| extension.to_str()) {
        Some("yaml" | "yml") => Form::Yaml,
        Some("json") if is_manifest(&text) => Form::Json,
        Some("json" | "conf" | "conflist") => return configuration(file, &text, report),
        _ => {
            let kinds = "YAML (.yaml, .yml), JSON (.json) and CNI configurations (.conf, .conflist)";
            return Ok(Err(format!("its name says nothing of what it is; checked are {kinds}")));
        }
    };
    let origin = file.display().to_string();
    for item in documents::objects(&text, form) {
        match item {
            Ok(object) => check_object(&origin, &text, object, report)?,
            Err(flaw) => report.error(&origin, &flaw.place, &flaw.reason)?,
        }
    }
    Ok(Ok(()))
}

/// Kubernetes objects in JSON say their kind, CNI configurations have none.
fn is_manifest(text: &str) -> bool {
    let first = serde_json::Deserializer::from_str(text).into_iter::<Map<String, Value>>().next();
    first.is_some_and(|object| object.is_ok_and(|object| object.contains_key("kind")))
}

fn check_object(origin: &str, text: &str, object: Object, report: &mut Report<'_>) -> io::Result<()> {
    let pods = pods::examine(&object, &report.rules);
    if pods.found > 0 {
        report.pods += pods.found;
        for text in &pods.errors {
            report.error(origin, &pods.place, text)?;
        }
        for text in &pods.warnings {
            report.warning(origin, &pods.place, text)?;
        }
        return Ok(());
    }
    let config = object.fields.get("spec").and_then(|spec| spec.get("config")).and_then(Value::as_str);
    let config = config.unwrap_or_default().to_owned();
    let (hints, line) = (hints_of_object(&object.fields), object.line);
    match report.manifests.add(origin, object) {
        Added::Network(network, None) => {
            let place = network.to_string();
            hints.iter().try_for_each(|hint| report.warning(origin, &place, hint))
        }
        Added::Network(network, Some(reason)) => {
            let reason = where_the_author_sees_it(reason, text, line, &config);
            report.error(origin, &network.to_string(), &reason)
        }
        Added::Wrong(Wrong { place, reason, .. }) => report.error(origin, &place, &reason),
        Added::Other => Ok(()),
    }
}

/// What is allowed in the object of a network, and seldom meant.
fn hints_of_object(object: &Map<String, Value>) -> Vec<String> {
    let config = object.get("spec").and_then(|spec| spec.get("config")).and_then(Value::as_str);
    let mut found: Vec<_> = config.map(hints).unwrap_or_default().into_iter().map(str::to_owned).collect();
    found.extend(lookalikes::unknown_keys(object));
    let annotations = object.get("metadata").and_then(|metadata| metadata.get("annotations"));
    let keys = annotations.and_then(Value::as_object).into_iter().flat_map(Map::keys);
    found.extend(keys.filter_map(|key| annotations::misspelt(key, annotations::OF_NETWORKS)));
    found
}

/// A reason that is a slip in the JSON of a configuration, with the line of the file; every other one as it is.
fn where_the_author_sees_it(reason: String, text: &str, line: usize, config: &str) -> String {
    let told = |slip| chain_text(&RenderError::Config(ConfigError::NotJson(slip)));
    match json_slip::first(config).map(told) {
        Some(as_rendered) if as_rendered == reason => {
            lines::slip(text, line, config).map(told).unwrap_or(reason)
        }
        _ => reason,
    }
}

/// A configuration of the runtime, with the plugins of its subdirectory.
fn configuration(file: &Path, text: &str, report: &mut Report<'_>) -> io::Result<Result<(), String>> {
    let origin = file.display().to_string();
    report.configurations += 1;
    let list = match directory::load(file) {
        Ok(list) => list,
        Err(LoadError::Config { path, source }) if path == file => {
            report.error(&origin, "", &chain_text(&source))?;
            return Ok(Ok(()));
        }
        Err(error @ LoadError::Config { .. }) => {
            report.error(&origin, "", &chain_text(&error))?;
            return Ok(Ok(()));
        }
        Err(error @ LoadError::Read { .. }) => return Ok(Err(chain_text(&error))),
    };
    if let Err(error) = render::examine(&list) {
        report.error(&origin, "", &chain_text(&error))?;
    }
    let mut judgement = Judgement::default();
    judgement::examine(&list, &mut judgement);
    report.judgement(&origin, "", &judgement)?;
    for hint in hints(text) {
        report.warning(&origin, "", hint)?;
    }
    settings(&origin, &list, report)?;
    if let Some(why) = makes_no_interface(&list) {
        report.warning(
            &origin,
            "",
            &format!("{why}; Braid does not take this configuration for the primary network"),
        )?;
    }
    Ok(Ok(()))
}

fn settings(origin: &str, list: &NetworkList, report: &mut Report<'_>) -> io::Result<()> {
    let ours = list.plugins.iter().filter(|plugin| plugin.plugin().as_str() == render::OURSELVES);
    for plugin in ours {
        match Settings::parse(plugin.object()) {
            Ok(settings) => {
                for passed_over in &settings.passed_over {
                    report.warning(origin, render::OURSELVES, &passed_over.to_string())?;
                }
                for path in &settings.below_host {
                    report.warning(origin, render::OURSELVES, &path.to_string())?;
                }
            }
            Err(error) => report.error(origin, render::OURSELVES, &chain_text(&error))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;

//! The network annotations of one pod, by the parser that meta-cni runs.

use std::collections::BTreeSet;

use cni::config::kind_of;
use cni::error::chain_text;
use cni::npwg::selection::{Selection, SelectionError};
use cni::npwg::{DEFAULT_NETWORK, NETWORKS, Namespace, parse_default_network, parse_selections};
use serde_json::{Map, Value};

use super::Judgement;
use super::annotations::{OF_PODS, misspelt};
use crate::pod_rules::PodRules;

/// What is said of pods that no plugin is asked about.
const HOST_NETWORK: &str = "a pod of the host's network gets no other networks";

/// What the annotations of a pod ask for.
#[derive(Debug, Default)]
pub struct Asked {
    /// Each selection with the annotation that it is from.
    pub selections: Vec<(&'static str, Selection)>,
    /// What is to be said of them.
    pub judgement: Judgement,
}

/// Reads the annotations of a pod of `own`.
pub fn asked(annotations: &Map<String, Value>, own: &Namespace, rules: &PodRules) -> Asked {
    let mut asked = Asked::default();
    if let Some(text) = asked.annotation(annotations, NETWORKS) {
        match parse_selections(text, own, rules.max_attachments) {
            Ok(selections) => asked.add("networks", NETWORKS, selections),
            Err(error) => asked.wrong(NETWORKS, &error),
        }
    }
    if let Some(text) = asked.annotation(annotations, DEFAULT_NETWORK) {
        match parse_default_network(text, &rules.multus_namespace) {
            Ok(selection) => asked.add("default-network", DEFAULT_NETWORK, vec![selection]),
            Err(error) => asked.wrong(DEFAULT_NETWORK, &error),
        }
    }
    asked.judgement.warnings.extend(annotations.keys().filter_map(|key| misspelt(key, OF_PODS)));
    asked
}

impl Asked {
    /// What is to be said where the pod is of the host's network, so that no plugin is called for it: nothing of what it
    /// asks for is done, and nothing of what is wrong with it keeps it from starting.
    pub fn of_host_network(self) -> Judgement {
        let given: BTreeSet<_> = self.selections.iter().map(|(annotation, _)| *annotation).collect();
        let ignored =
            given.into_iter().map(|annotation| format!("{HOST_NETWORK}: annotation {annotation} is ignored"));
        let errors = self.judgement.errors.into_iter().map(|error| format!("{HOST_NETWORK}, but: {error}"));
        Judgement { errors: Vec::new(), warnings: errors.chain(ignored).collect() }
    }

    /// What isolation forbids a pod of `own`.
    pub fn forbidden(&self, own: &Namespace, rules: &PodRules) -> Vec<String> {
        let refused = |(annotation, selection): &(&str, Selection)| {
            let error = rules.isolation.permits(own, &selection.network).err()?;
            Some(format!("annotation {annotation}: {error}"))
        };
        self.selections.iter().filter_map(refused).collect()
    }

    fn annotation<'a>(&mut self, annotations: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
        match annotations.get(key)? {
            Value::String(text) => Some(text),
            other => {
                let hint = "write JSON as a text, for example after \": |\"";
                let error = format!("annotation {key} is {}, not a string; {hint}", kind_of(other));
                self.judgement.errors.push(error);
                None
            }
        }
    }

    fn wrong(&mut self, annotation: &str, error: &SelectionError) {
        self.judgement.errors.push(format!("annotation {annotation}: {}", chain_text(error)));
    }

    fn add(&mut self, list: &str, annotation: &'static str, selections: Vec<Selection>) {
        for (index, selection) in selections.iter().enumerate() {
            for key in &selection.unknown_keys {
                let network = selection.network.to_string();
                self.judgement.warnings.push(format!(
                    "{list}[{index}] ({network:?}): key {key:?} is not known and has no effect"
                ));
            }
        }
        self.selections.extend(selections.into_iter().map(|selection| (annotation, selection)));
    }
}

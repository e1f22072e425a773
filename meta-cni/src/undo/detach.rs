//! Runs DEL of attachments, plugin by plugin, the last one first.

use std::time::Duration;

use cni::chain::{self, Attachment, ChainError};
use cni::env::Target;
use cni::reference::{self, outside};
use cni::{CapabilityArgs, CniArgs, CniError, PluginConfig, exec, point};
use serde_json::Value;
use store::record::AttachmentRecord;

use super::owed::{Added, FailedDel, How, Owed, owed};
use super::reservations;
use crate::attach::{Site, name, told};
use crate::log::Log;

/// For how long DEL has been failing, and for how long it may.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// The attempts after each of which another attachment is the first; 0 for the order of DEL.
    pub(crate) attempts: u32,
    /// Since when, up to now; `None` for the first attempt.
    pub(crate) failing_for: Option<Duration>,
    /// `missingPluginGrace`.
    pub(crate) grace: Duration,
}

/// A plugin that did not undo its part.
pub(crate) struct Undone {
    /// Why.
    pub(crate) error: CniError,
    /// Whether the pod is let go for it after the grace.
    pub(crate) can_wait: bool,
}

/// Undoes attachments in reverse and takes out those of which nothing is owed any more. Goes on after an error.
pub(crate) fn detach_all(
    site: &Site<'_>,
    attachments: &mut Vec<AttachmentRecord>,
    patience: &Patience,
    log: &Log,
) -> Vec<Undone> {
    let mut failures = Vec::new();
    let mut is_undone = vec![false; attachments.len()];
    let attempts = usize::try_from(patience.attempts).unwrap_or_default();
    for index in order(attachments.len(), attempts) {
        let (Some(attachment), Some(is_undone)) = (attachments.get(index), is_undone.get_mut(index)) else {
            continue;
        };
        let failed = Detach { site, attachment, patience, log }.run();
        point::reached("attach: one undone or not");
        *is_undone = failed.is_empty();
        failures.extend(failed);
    }
    let mut is_undone = is_undone.into_iter();
    attachments.retain(|_| !is_undone.next().unwrap_or_default());
    failures
}

/// From the last one to the first, beginning `attempts` places later, and around.
fn order(count: usize, attempts: usize) -> impl Iterator<Item = usize> {
    (0..count).rev().cycle().skip(attempts.checked_rem(count).unwrap_or_default()).take(count)
}

/// The DEL of one attachment.
struct Detach<'a> {
    site: &'a Site<'a>,
    attachment: &'a AttachmentRecord,
    patience: &'a Patience,
    log: &'a Log,
}

impl Detach<'_> {
    /// Runs the plugins of the list in reverse; what is still owed.
    fn run(&self) -> Vec<Undone> {
        let last_first = self.attachment.list.plugins.iter().enumerate().rev();
        last_first.filter_map(|(place, plugin)| self.undo(place, plugin).err()).collect()
    }

    fn undo(&self, place: usize, plugin: &PluginConfig) -> Result<(), Undone> {
        let added = self.added(place);
        let done = self.call(plugin, |at, config| {
            let (list, result) = (&self.attachment.list, self.attachment.result.as_ref());
            chain::del_by(config.plugin(), self.site.exec, list, config, at, result)
        });
        match done {
            Ok(()) if self.site.netns.is_none() && reference::forgets_addresses_without_namespace(plugin) => {
                self.free_addresses(plugin).map_err(|error| self.still_owed(plugin, added, &error, true))
            }
            Ok(()) => {
                if self.site.netns.is_none() && reference::forgets_rules_without_namespace(plugin) {
                    self.tell_of_rules(plugin);
                }
                Ok(())
            }
            Err(error) => self.settle(plugin, added, &error),
        }
    }

    /// How the ADD of the plugin at a place of the list ended.
    fn added(&self, place: usize) -> Added {
        match (&self.attachment.result, self.attachment.refused_by) {
            (None, None) => Added::NotKnown,
            (None, Some(refused)) if place == refused => Added::Refused,
            (None, Some(refused)) if place > refused => Added::Never,
            // Those before the one that refused have succeeded.
            (Some(_), _) | (None, Some(_)) => Added::Yes,
        }
    }

    /// The plugin needs the pod's interface to know which rules are the pod's, in every version.
    fn tell_of_rules(&self, plugin: &PluginConfig) {
        self.log.warn(
            "a plugin removes no packet filter rules without the pod's namespace; until the node is rebooted those of \
             this container stay: iptables-save or nft list ruleset shows them with its id",
            &[("network", &self.attachment.network), ("plugin", &plugin.plugin())],
        );
    }

    /// A plugin failed. Its addresses are freed without it where nothing of the pod can use them any more.
    fn settle(&self, plugin: &PluginConfig, added: Added, failed: &ChainError) -> Result<(), Undone> {
        let owes_nothing = self.owed(plugin, added, failed, false) == Owed::Nothing;
        if owes_nothing || self.site.netns.is_none() {
            let freed = self.free_addresses(plugin);
            if let Some(error) = freed.err().filter(|_| self.may_hold_addresses(plugin, added)) {
                return Err(self.still_owed(plugin, added, &error, true));
            }
        }
        if !owes_nothing {
            return Err(self.still_owed(plugin, added, failed, false));
        }
        self.log.warn(
            "a plugin failed at DEL and owes nothing: what it made is gone with the pod's namespace, or will be",
            &[
                ("network", &self.attachment.network),
                ("interface", &self.attachment.if_name),
                ("error", &failed.to_cni_error().msg),
            ],
        );
        Ok(())
    }

    /// Lets the IPAM plugin free the addresses by itself.
    fn free_addresses(&self, plugin: &PluginConfig) -> Result<(), ChainError> {
        let Some(ipam) = reference::ipam_run_by(plugin) else { return Ok(()) };
        self.call(plugin, |at, config| {
            let (list, result) = (&self.attachment.list, self.attachment.result.as_ref());
            chain::del_by(&ipam, self.site.exec, list, config, at, result)
        })
    }

    /// Whether an IPAM plugin that failed may hold addresses. One that was refused with its configuration, at ADD as at
    /// DEL, holds none; where that can be looked up it is.
    fn may_hold_addresses(&self, plugin: &PluginConfig, added: Added) -> bool {
        match (added, plugin.ipam_type()) {
            (Added::Never, _) | (_, Some("static")) => return false,
            (Added::Yes | Added::NotKnown, _) => return true,
            // What was refused and cannot be looked up cannot be named either.
            (Added::Refused, Some("host-local")) => {}
            (Added::Refused, _) => return false,
        }
        let AttachmentRecord { list, if_name, .. } = self.attachment;
        let held = reservations::held(&list.name, plugin, self.site.container_id, if_name);
        !held.is_ok_and(|held| held.is_empty())
    }

    fn owed(&self, plugin: &PluginConfig, added: Added, failed: &ChainError, holds_addresses: bool) -> Owed {
        let is_missing = |ipam| exec::find(&ipam, &self.site.path).is_none();
        owed(&FailedDel {
            outside: reference::leaves_outside(plugin),
            holds_addresses,
            added,
            namespace_is_gone: self.site.netns.is_none(),
            how: if failed.plugin_is_gone() || reference::ipam_run_by(plugin).is_some_and(is_missing) {
                How::Missing
            } else if failed.is_answer() {
                How::Answered
            } else {
                How::NotRun
            },
            failing_for: self.patience.failing_for,
            grace: self.patience.grace,
        })
    }

    fn still_owed(
        &self,
        plugin: &PluginConfig,
        added: Added,
        failed: &ChainError,
        holds_addresses: bool,
    ) -> Undone {
        let can_wait = self.owed(plugin, added, failed, holds_addresses) != Owed::Always;
        Undone { error: told(failed).of(name(self.attachment)), can_wait }
    }

    /// Calls with what DEL of a plugin needs.
    fn call<R>(&self, plugin: &PluginConfig, run: impl FnOnce(&Attachment<'_>, &PluginConfig) -> R) -> R {
        let AttachmentRecord { args, capabilities, if_name, .. } = self.attachment;
        let mut needed =
            Needed { args: args.clone(), capabilities: capabilities.clone(), config: plugin.clone() };
        if !reference::needs_requests_at_del(plugin) {
            needed.leave_requests_out();
        }
        let target = Target {
            container_id: self.site.container_id.clone(),
            netns: self.site.netns.clone(),
            if_name: if_name.clone(),
            args: needed.args,
        };
        run(
            &Attachment { target: &target, path: &self.site.path, capabilities: &needed.capabilities },
            &needed.config,
        )
    }
}

/// What DEL of a plugin is called with.
struct Needed {
    args: CniArgs,
    capabilities: CapabilityArgs,
    config: PluginConfig,
}

impl Needed {
    /// A request that made ADD fail would fail DEL as well.
    fn leave_requests_out(&mut self) {
        for key in outside::REQUESTS_IN_ARGS {
            self.args.remove(key);
        }
        for key in outside::REQUESTS_AS_CAPABILITIES {
            self.capabilities.remove(key);
        }
        let Some(Value::Object(args)) = self.config.object().get("args") else { return };
        let mut args = args.clone();
        if let Some(Value::Object(of_cni)) = args.get_mut("cni")
            && of_cni.remove("ips").is_some()
        {
            self.config.set("args", Value::Object(args));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attachment_is_the_first_once() {
        let order = |count, attempts| order(count, attempts).collect::<Vec<_>>();
        assert_eq!(order(3, 0), [2, 1, 0]);
        assert_eq!(order(3, 1), [1, 0, 2]);
        assert_eq!(order(3, 2), [0, 2, 1]);
        assert_eq!(order(3, 3), [2, 1, 0]);
        assert_eq!(order(1, 7), [0]);
        assert_eq!(order(0, 7), [0; 0]);
    }
}

//! What is still owed after a plugin failed at DEL. Pure.
//!
//! What a plugin made in the pod's namespace goes with the namespace. What it left outside (packet filter rules,
//! addresses) does not, and nobody knows what an unknown plugin left.
//!
//! | the plugin may have left outside | while the namespace is there | once it is gone |
//! |---|---|---|
//! | nothing | nothing is owed after the grace | nothing is owed |
//! | something, or nobody knows; ADD failed | the pod is held for the grace | the same; nothing is owed after an hour |
//! | something, or nobody knows; ADD succeeded | the pod is held | the pod is held for the grace |
//!
//! Addresses of an IPAM plugin that could not be freed are something.

use std::time::Duration;

use cni::reference::Outside;

/// Nothing that never was attached is owed for longer than this, or than the grace where that is longer: the plugin
/// would refuse its DEL for ever, as it refused its ADD.
const NEVER_ATTACHED: Duration = Duration::from_secs(3600);

/// A DEL of one plugin that failed.
#[derive(Debug, Clone, Copy)]
pub(super) struct FailedDel {
    /// What the plugin may have left outside of the namespace; `None` for a plugin that is not known.
    pub(super) outside: Option<Outside>,
    /// Whether its IPAM plugin may still hold addresses.
    pub(super) holds_addresses: bool,
    /// Whether the ADD of the attachment succeeded.
    pub(super) attached: bool,
    /// Whether the pod's namespace is gone.
    pub(super) namespace_is_gone: bool,
    /// How it failed.
    pub(super) how: How,
    /// How long DEL has been failing, up to this attempt; `None` for the first one.
    pub(super) failing_for: Option<Duration>,
    /// `missingPluginGrace`.
    pub(super) grace: Duration,
}

/// How a DEL failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// The plugin was run and failed.
    Answered,
    /// The executable of the plugin, or of its IPAM plugin, is not there.
    Missing,
    /// The plugin was not run: the node could not start it, or the time was over.
    NotRun,
}

/// What becomes of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owed {
    /// Nothing is left to undo.
    Nothing,
    /// It is tried again; DEL fails until the grace is over.
    UntilGrace,
    /// It is tried again; DEL fails as long as the plugin does.
    Always,
}

/// Decides what is owed.
pub(super) fn owed(failed: &FailedDel) -> Owed {
    let failing_longer_than = |bound| failed.failing_for.is_some_and(|time| time >= bound);
    let can_end = failed.namespace_is_gone || failing_longer_than(failed.grace);
    let in_namespace_only = failed.outside == Some(Outside::Nothing) && !failed.holds_addresses;
    let tried = failed.how != How::NotRun;
    if in_namespace_only && tried && can_end {
        return Owed::Nothing;
    }
    if !failed.attached {
        let is_over = failing_longer_than(failed.grace.max(NEVER_ATTACHED)) && failed.namespace_is_gone;
        return if is_over && tried && !failed.holds_addresses { Owed::Nothing } else { Owed::UntilGrace };
    }
    let goes_with_namespace = in_namespace_only && tried;
    let is_missing = failed.how == How::Missing;
    if is_missing || goes_with_namespace || (failed.namespace_is_gone && failed.how == How::Answered) {
        Owed::UntilGrace
    } else {
        Owed::Always
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(60);
    const NO_TIME: Option<Duration> = None;
    const AFTER_GRACE: Option<Duration> = Some(GRACE);
    const AFTER_AN_HOUR: Option<Duration> = Some(NEVER_ATTACHED);

    fn failed(
        outside: Option<Outside>,
        attached: bool,
        namespace_is_gone: bool,
        failing_for: Option<Duration>,
    ) -> FailedDel {
        FailedDel {
            outside,
            holds_addresses: false,
            attached,
            namespace_is_gone,
            how: How::Answered,
            failing_for,
            grace: GRACE,
        }
    }

    #[test]
    fn what_lived_in_the_namespace_is_gone_with_it() {
        let nothing = Some(Outside::Nothing);
        for attached in [true, false] {
            assert_eq!(owed(&failed(nothing, attached, true, NO_TIME)), Owed::Nothing);
            assert_eq!(owed(&failed(nothing, attached, false, NO_TIME)), Owed::UntilGrace);
            assert_eq!(owed(&failed(nothing, attached, false, AFTER_GRACE)), Owed::Nothing);
        }
    }

    #[test]
    fn what_may_be_outside_is_owed_and_holds_a_pod_without_a_namespace_for_the_grace_alone() {
        for outside in [Some(Outside::Rules), None] {
            for time in [NO_TIME, AFTER_GRACE, AFTER_AN_HOUR] {
                assert_eq!(owed(&failed(outside, true, false, time)), Owed::Always);
                assert_eq!(owed(&failed(outside, true, true, time)), Owed::UntilGrace);
            }
        }
    }

    #[test]
    fn what_never_was_attached_is_not_owed_for_ever() {
        for outside in [Some(Outside::Rules), None] {
            for (gone, time, expected) in [
                (false, NO_TIME, Owed::UntilGrace),
                (false, AFTER_AN_HOUR, Owed::UntilGrace),
                (true, NO_TIME, Owed::UntilGrace),
                (true, AFTER_GRACE, Owed::UntilGrace),
                (true, AFTER_AN_HOUR, Owed::Nothing),
            ] {
                assert_eq!(owed(&failed(outside, false, gone, time)), expected, "{gone} {time:?}");
            }
        }
    }

    #[test]
    fn addresses_that_could_not_be_freed_are_owed_whatever_else_is_known() {
        for attached in [true, false] {
            for (gone, time) in [(true, NO_TIME), (true, AFTER_AN_HOUR), (false, AFTER_GRACE)] {
                let it = FailedDel {
                    holds_addresses: true,
                    ..failed(Some(Outside::Nothing), attached, gone, time)
                };
                let expected = if attached && !gone { Owed::Always } else { Owed::UntilGrace };
                assert_eq!(owed(&it), expected);
            }
        }
    }

    #[test]
    fn a_plugin_that_was_not_run_still_owes_what_it_made() {
        for (outside, gone) in [(Some(Outside::Nothing), true), (None, true), (None, false)] {
            let it = FailedDel { how: How::NotRun, ..failed(outside, true, gone, AFTER_AN_HOUR) };
            assert_eq!(owed(&it), Owed::Always);
            let it = FailedDel { attached: false, ..it };
            assert_eq!(owed(&it), Owed::UntilGrace);
        }
    }

    #[test]
    fn a_plugin_that_is_missing_holds_a_pod_for_the_grace_alone() {
        for gone in [true, false] {
            let it = FailedDel { how: How::Missing, ..failed(None, true, gone, AFTER_AN_HOUR) };
            assert_eq!(owed(&it), Owed::UntilGrace);
        }
    }
}

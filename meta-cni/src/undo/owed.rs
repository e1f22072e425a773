//! What is still owed after a plugin failed at DEL. Pure.
//!
//! What a plugin made in the pod's namespace goes with the namespace. What it left outside (packet filter rules,
//! addresses) does not, and nobody knows what an unknown plugin left.
//!
//! | the plugin | while the namespace is there | once it is gone |
//! |---|---|---|
//! | never ran at ADD | nothing is owed | nothing is owed |
//! | refused ADD | the pod is held for the grace | nothing is owed |
//! | leaves nothing outside | the pod is held for the grace; then nothing is owed | nothing is owed |
//! | may have left something; whether ADD succeeded is not known | the pod is held for the grace | the same |
//! | may have left something; ADD succeeded | the pod is held | the pod is held for the grace |
//!
//! Addresses of an IPAM plugin that could not be freed are something. Where a pod is let go, what is owed stays recorded.

use std::time::Duration;

use cni::reference::Outside;

/// A DEL of one plugin that failed.
#[derive(Debug, Clone, Copy)]
pub(super) struct FailedDel {
    /// What the plugin may have left outside of the namespace; `None` for a plugin that is not known.
    pub(super) outside: Option<Outside>,
    /// Whether its IPAM plugin may still hold addresses.
    pub(super) holds_addresses: bool,
    /// How its ADD ended.
    pub(super) added: Added,
    /// Whether the pod's namespace is gone.
    pub(super) namespace_is_gone: bool,
    /// How it failed.
    pub(super) how: How,
    /// How long DEL has been failing, up to this attempt; `None` for the first one.
    pub(super) failing_for: Option<Duration>,
    /// `missingPluginGrace`.
    pub(super) grace: Duration,
}

/// How the ADD of a plugin ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Added {
    /// It succeeded.
    Yes,
    /// It was killed, or it ran before anybody wrote it down.
    NotKnown,
    /// The plugin said that it did not succeed.
    Refused,
    /// A plugin before it failed.
    Never,
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
    if failed.added == Added::Never {
        return Owed::Nothing;
    }
    let gone = failed.namespace_is_gone;
    let grace_is_over = failed.failing_for.is_some_and(|time| time >= failed.grace);
    let tried = failed.how != How::NotRun;
    let in_namespace_only = failed.outside == Some(Outside::Nothing) && !failed.holds_addresses;
    let refused = failed.added == Added::Refused && !failed.holds_addresses;
    if tried && (in_namespace_only && (gone || grace_is_over) || refused && gone) {
        return Owed::Nothing;
    }
    let answered_in_vain = gone && failed.how == How::Answered;
    if failed.added != Added::Yes
        || in_namespace_only && tried
        || failed.how == How::Missing
        || answered_in_vain
    {
        Owed::UntilGrace
    } else {
        Owed::Always
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(60);
    const FIRST: Option<Duration> = None;
    const AFTER_GRACE: Option<Duration> = Some(GRACE);
    const NOTHING: Option<Outside> = Some(Outside::Nothing);
    const RULES: Option<Outside> = Some(Outside::Rules);

    fn failed(
        outside: Option<Outside>,
        added: Added,
        gone: bool,
        failing_for: Option<Duration>,
    ) -> FailedDel {
        FailedDel {
            outside,
            holds_addresses: false,
            added,
            namespace_is_gone: gone,
            how: How::Answered,
            failing_for,
            grace: GRACE,
        }
    }

    #[test]
    fn what_lived_in_the_namespace_is_gone_with_it() {
        for added in [Added::Yes, Added::NotKnown, Added::Refused] {
            assert_eq!(owed(&failed(NOTHING, added, true, FIRST)), Owed::Nothing, "{added:?}");
            assert_eq!(owed(&failed(NOTHING, added, false, FIRST)), Owed::UntilGrace, "{added:?}");
            assert_eq!(owed(&failed(NOTHING, added, false, AFTER_GRACE)), Owed::Nothing, "{added:?}");
        }
    }

    #[test]
    fn what_may_be_outside_is_owed_for_ever_and_holds_a_pod_without_a_namespace_for_the_grace() {
        for outside in [RULES, None] {
            for time in [FIRST, AFTER_GRACE] {
                assert_eq!(owed(&failed(outside, Added::Yes, false, time)), Owed::Always);
                assert_eq!(owed(&failed(outside, Added::Yes, true, time)), Owed::UntilGrace);
                for gone in [true, false] {
                    assert_eq!(owed(&failed(outside, Added::NotKnown, gone, time)), Owed::UntilGrace);
                }
            }
        }
    }

    #[test]
    fn what_was_refused_owes_nothing_without_its_namespace_and_what_never_ran_nothing_at_all() {
        for outside in [NOTHING, RULES, None] {
            for (gone, time) in [(true, FIRST), (true, AFTER_GRACE), (false, FIRST), (false, AFTER_GRACE)] {
                assert_eq!(owed(&failed(outside, Added::Never, gone, time)), Owed::Nothing);
                let expected = if gone || outside == NOTHING && time == AFTER_GRACE {
                    Owed::Nothing
                } else {
                    Owed::UntilGrace
                };
                assert_eq!(
                    owed(&failed(outside, Added::Refused, gone, time)),
                    expected,
                    "{outside:?} {gone}"
                );
            }
        }
    }

    #[test]
    fn addresses_that_could_not_be_freed_are_owed_whatever_else_is_known() {
        for added in [Added::Yes, Added::NotKnown, Added::Refused] {
            for (gone, time) in [(true, FIRST), (true, AFTER_GRACE), (false, AFTER_GRACE)] {
                let it = FailedDel { holds_addresses: true, ..failed(NOTHING, added, gone, time) };
                let expected = if added == Added::Yes && !gone { Owed::Always } else { Owed::UntilGrace };
                assert_eq!(owed(&it), expected, "{added:?} {gone}");
            }
        }
    }

    #[test]
    fn a_plugin_that_was_not_run_still_owes_what_it_made() {
        for outside in [NOTHING, None] {
            for gone in [true, false] {
                let it = FailedDel { how: How::NotRun, ..failed(outside, Added::Yes, gone, AFTER_GRACE) };
                assert_eq!(owed(&it), Owed::Always);
                let it = FailedDel { added: Added::Refused, ..it };
                assert_eq!(owed(&it), Owed::UntilGrace);
            }
        }
    }

    #[test]
    fn a_plugin_that_is_missing_holds_a_pod_for_the_grace_alone() {
        for gone in [true, false] {
            let it = FailedDel { how: How::Missing, ..failed(None, Added::Yes, gone, AFTER_GRACE) };
            assert_eq!(owed(&it), Owed::UntilGrace);
        }
    }
}

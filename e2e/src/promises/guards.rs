//! Every guard, line by line. Where what keeps a promise is that something is not there, the edit puts it there.

use super::{Edit, Guard, Target, Test};

/// A test that calls the built plugin as a runtime does.
const fn process(file: &'static str, name: &'static str) -> Test {
    Test { package: "meta-cni", target: Target::Integration("process"), file, name, runs: &[] }
}

/// A unit test of the operator.
const fn operator(file: &'static str, name: &'static str) -> Test {
    Test { package: "operator", target: Target::Lib, file, name, runs: &[] }
}

/// The guards, in the order of their lines.
pub const GUARDS: &[Guard] = &[
    Guard {
        line: 1,
        holds: "our configuration stays on the host when the node role stops, unless its DaemonSet goes",
        test: operator(
            "operator/src/node/install/leave.rs",
            "node::install::leave::tests::the_configuration_goes_only_with_the_daemonset",
        ),
        edits: &[Edit {
            file: "operator/src/node/install/leave.rs",
            find: "Ok(false) => Some(Why::Wanted(name.to_owned())),",
            replace: "Ok(false) => None,",
        }],
    },
    Guard {
        line: 1,
        holds: "our configuration stays on the host when the primary's goes",
        test: operator(
            "operator/src/node/install/tests.rs",
            "node::install::tests::the_primary_is_followed_and_our_configuration_stays_when_it_goes",
        ),
        edits: &[Edit {
            file: "operator/src/node/install.rs",
            find: "let Some(wanted) = wanted.or_else(|| self.keeping.last().map(str::to_owned)) else {",
            replace: "let Some(wanted) = wanted else {\n            \
                      atomic::remove(&path).map_err(ConfigurationError::Write)?;",
        }],
    },
    Guard {
        line: 1,
        holds: "a pod whose network is not there is refused, and does not start without it",
        test: process(
            "meta-cni/tests/process/waiting.rs",
            "waiting::what_does_not_come_is_refused_with_its_path_and_what_to_do",
        ),
        edits: &[Edit {
            file: "meta-cni/src/add.rs",
            find: "wanted.push(networks::selected(settings, selection)?);",
            replace: "wanted.extend(networks::selected(settings, selection).ok());",
        }],
    },
    Guard {
        line: 1,
        holds: "after a reboot no pod gets a network in the form that it had before",
        test: process(
            "meta-cni/tests/process/waiting.rs",
            "waiting::a_network_from_before_a_reboot_is_not_used_until_the_operator_has_been_at_it",
        ),
        edits: &[Edit {
            file: "meta-cni/store/src/lookup.rs",
            find: "if NodeFacts::are_of_earlier_boot(dir) {\n        return Err(LookupError::OfEarlierBoot",
            replace: "if false {\n        return Err(LookupError::OfEarlierBoot",
        }],
    },
    Guard {
        line: 2,
        holds: "DEL fails if a delegate fails",
        test: process("meta-cni/tests/process/del.rs", "del::del_goes_on_after_errors_and_tells_all_of_them"),
        edits: &[Edit {
            file: "meta-cni/src/undo.rs",
            find: "let mut error = CniError::of_all(failures.iter().map(|failure| &failure.error))?;",
            replace: "let mut error = \
                      CniError::of_all(failures.iter().map(|failure| &failure.error)).filter(|_| false)?;",
        }],
    },
    Guard {
        line: 2,
        holds: "delegates get the whole configuration of ADD at DEL",
        test: process(
            "meta-cni/tests/process/del.rs",
            "del::del_undoes_what_add_did_whatever_the_node_says_now",
        ),
        edits: &[Edit {
            file: "meta-cni/src/undo/detach.rs",
            find: "last_first.filter_map(|(place, plugin)| self.undo(place, plugin).err()).collect()",
            replace: r#"let bare = last_first.filter_map(|(place, plugin)| {
            let bare = serde_json::json!({"type": plugin.plugin().to_string()});
            PluginConfig::from_json(bare, "").ok().map(|plugin| (place, plugin))
        });
        bare.filter_map(|(place, plugin)| self.undo(place, &plugin).err()).collect()"#,
        }],
    },
    Guard {
        line: 2,
        holds: "DEL fails if it cannot read what there is to undo",
        test: process(
            "meta-cni/tests/process/del.rs",
            "del::a_record_that_cannot_be_read_is_an_error_with_its_path_and_stays",
        ),
        edits: &[Edit {
            file: "meta-cni/src/del.rs",
            find: "match Record::read(dir, &key).map_err(|error| unreadable(&error, &key))? {",
            replace: "match Record::read(dir, &key).unwrap_or_default() {",
        }],
    },
    Guard {
        line: 2,
        holds: "what ADD is about to do is recorded before a delegate runs",
        test: process(
            "meta-cni/tests/process/unfinished.rs",
            "unfinished::an_add_that_was_killed_is_undone_by_the_next_add_after_its_own_work",
        ),
        edits: &[Edit {
            file: "meta-cni/src/add.rs",
            find: "record.write(dir).map_err(|error| store_error(&error))?;",
            replace: "",
        }],
    },
    Guard {
        line: 3,
        holds: "a storm of pods is a bounded number of requests at a time",
        test: operator(
            "operator/src/node/network_status/tests.rs",
            "node::network_status::tests::so_many_are_under_way_and_one_that_hangs_is_not_in_the_way_of_others",
        ),
        edits: &[Edit {
            file: "operator/src/node/network_status.rs",
            find: "let room = SIDE_BY_SIDE - under_way.len();",
            replace: "let room = usize::MAX;",
        }],
    },
    Guard {
        line: 3,
        holds: "events that wait to be written are bounded",
        test: operator(
            "operator/src/events/tests.rs",
            "events::tests::a_burst_is_bounded_and_what_does_not_fit_is_counted",
        ),
        edits: &[Edit {
            file: "operator/src/events.rs",
            find: "mpsc::channel(QUEUE)",
            replace: "mpsc::channel(QUEUE * 1000)",
        }],
    },
    Guard {
        line: 3,
        holds: "a list that would fill the memory is given up",
        test: Test {
            package: "operator",
            target: Target::Integration("conversations"),
            file: "operator/tests/conversations/networks.rs",
            name: "networks::a_list_that_would_fill_the_memory_is_given_up_and_comes_in_pages",
            runs: &[],
        },
        edits: &[Edit {
            file: "operator/src/cluster/line.rs",
            find: "const LONGEST_LIST: usize = 8 << 20;",
            replace: "const LONGEST_LIST: usize = usize::MAX;",
        }],
    },
    Guard {
        line: 3,
        holds: "of an object only what Braid goes by is kept",
        test: operator(
            "operator/src/lean/definition/tests.rs",
            "lean::definition::tests::a_configuration_that_is_too_long_is_told_with_its_length_and_not_kept",
        ),
        edits: &[Edit {
            file: "operator/src/lean/definition.rs",
            find: "length if length > LONGEST_CONFIG => Self::TooLong(length),",
            replace: "length if length > LONGEST_CONFIG && length == 0 => Self::TooLong(length),",
        }],
    },
    Guard {
        line: 4,
        holds: "ADD and DEL ask nobody",
        test: process(
            "meta-cni/tests/process/alone.rs",
            "alone::a_node_role_that_has_been_gone_for_a_year_holds_up_no_pod",
        ),
        edits: &[Edit {
            file: "meta-cni/src/call.rs",
            find: "tell_passed_over(&settings, verb, &log);",
            replace: r#"tell_passed_over(&settings, verb, &log);
        std::os::unix::net::UnixStream::connect("/run/braid/braid.sock").map_err(|error| {
            CniError::new(Code::TRY_AGAIN_LATER, format!("connect to the node role: {error}"))
        })?;"#,
        }],
    },
    Guard {
        line: 4,
        holds: "what the node role wrote does not grow old within a boot",
        test: process(
            "meta-cni/tests/process/alone.rs",
            "alone::a_node_role_that_has_been_gone_for_a_year_holds_up_no_pod",
        ),
        edits: &[Edit {
            file: "meta-cni/store/src/node.rs",
            find: "facts.is_ok_and(|facts| facts.is_some_and(|facts| facts.boot_id != boot::boot_id()))",
            replace: "let now = Self::complete_now(\"\").complete_at;\n        \
                      facts.is_ok_and(|facts| facts.is_some_and(|facts| now - facts.complete_at > 3600))",
        }],
    },
    Guard {
        line: 5,
        holds: "a plugin that runs is replaced by a rename",
        test: operator(
            "operator/src/node/install/executable.rs",
            "node::install::executable::tests::an_executable_that_runs_is_replaced_and_runs_on",
        ),
        edits: &[Edit {
            file: "operator/src/node/install/executable.rs",
            find: "atomic::copy(&mut file, target, MODE).map_err(ExecutableError::Write)?;",
            replace: "let mut there = File::create(target).map_err(incomparable)?;\n        \
                      io::copy(&mut file, &mut there).map_err(incomparable)?;",
        }],
    },
    Guard {
        line: 6,
        holds: "nothing but the plugin and its configuration is put on the host",
        test: operator(
            "operator/src/node/install/tests.rs",
            "node::install::tests::nothing_is_put_on_the_host_but_the_plugin_and_a_configuration_without_credentials",
        ),
        edits: &[Edit {
            file: "operator/src/node/install.rs",
            find: "atomic::write(&path, wanted.as_bytes()).map_err(ConfigurationError::Write)?;",
            replace: "atomic::write(&path, wanted.as_bytes()).map_err(ConfigurationError::Write)?;\n                \
                      atomic::write(&path.with_file_name(\"braid.kubeconfig\"), b\"token: secret\")\n                    \
                      .map_err(ConfigurationError::Write)?;",
        }],
    },
    Guard {
        line: 6,
        holds: "what a network's author wrote is readable to root alone",
        test: Test {
            package: "store",
            target: Target::Lib,
            file: "meta-cni/store/src/atomic.rs",
            name: "atomic::tests::directories_are_0700_and_files_0600",
            runs: &[],
        },
        edits: &[Edit {
            file: "meta-cni/store/src/atomic.rs",
            find: "const PRIVATE: u32 = 0o600;",
            replace: "const PRIVATE: u32 = 0o644;",
        }],
    },
    Guard {
        line: 7,
        holds: "a default route that a pod asks for is set, and replaces the other one",
        test: Test {
            package: "e2e",
            target: Target::Integration("real_plugins"),
            file: "e2e/tests/real_plugins/routes.rs",
            name: "routes::an_owner_of_one_family_leaves_the_other_to_the_primary",
            runs: &["meta-cni"],
        },
        edits: &[Edit {
            file: "meta-cni/src/add.rs",
            find: "if default_routes.are_asked_for() {",
            replace: "if false {",
        }],
    },
    Guard {
        line: 7,
        holds: "an empty list takes no default route away where the network brings none",
        test: Test {
            package: "meta-cni",
            target: Target::Bin("meta-cni"),
            file: "meta-cni/src/routes/tests.rs",
            name: "routes::tests::an_empty_list_owns_only_families_in_which_it_has_a_default_route",
            runs: &[],
        },
        edits: &[
            Edit {
                file: "meta-cni/src/routes.rs",
                find: "Family::of_net(route.dst) == family)?;",
                replace: "Family::of_net(route.dst) == family);",
            },
            Edit {
                file: "meta-cni/src/routes.rs",
                find: "gateway: route.gw.or_else(",
                replace: "gateway: route.and_then(|route| route.gw).or_else(",
            },
        ],
    },
    Guard {
        line: 8,
        holds: "nothing on the ADD path can talk to an API server",
        test: Test {
            package: "e2e",
            target: Target::Integration("workspace"),
            file: "e2e/tests/workspace.rs",
            name: "no_api_client_async_runtime_or_tls_is_on_the_add_path",
            runs: &[],
        },
        edits: &[Edit {
            file: "meta-cni/Cargo.toml",
            find: "thiserror.workspace = true\n",
            replace: "thiserror.workspace = true\ntokio.workspace = true\n",
        }],
    },
    Guard {
        line: 9,
        holds: "an ADD that fails undoes what it has begun, in reverse",
        test: process(
            "meta-cni/tests/process/undo.rs",
            "undo::a_failure_at_any_place_is_undone_in_reverse_and_told_with_its_code",
        ),
        edits: &[Edit {
            file: "meta-cni/src/add.rs",
            find: "let failures = undo::detach_all(site, &mut record.attachments, &patience, &call.log);",
            replace: "let failures = Vec::new();",
        }],
    },
    Guard {
        line: 10,
        holds: "a panic is answered with an error that a runtime understands",
        test: Test {
            package: "cni",
            target: Target::Lib,
            file: "meta-cni/cni/src/skel.rs",
            name: "skel::tests::an_error_keeps_its_code_and_a_panic_is_an_error_too",
            runs: &[],
        },
        edits: &[Edit {
            file: "meta-cni/cni/src/skel.rs",
            find: "let outcome = catch_unwind(AssertUnwindSafe(|| answer(plugin, around)));",
            replace: "let outcome: std::thread::Result<_> = Ok(answer(plugin, around));",
        }],
    },
    Guard {
        line: 10,
        holds: "what an annotation must not hold is refused with its place",
        test: process("meta-cni/tests/process/bad_input.rs", "bad_input::annotations_in_json"),
        edits: &[Edit {
            file: "meta-cni/cni/src/npwg/selection/json.rs",
            find: "return Err(Problem::NotAnObject(kind_of(&element)));",
            replace: "panic!(\"an element of an annotation is an object\");",
        }],
    },
    Guard {
        line: 11,
        holds: "a delegate's error goes up with its own code",
        test: process(
            "meta-cni/tests/process/undo.rs",
            "undo::a_failure_at_any_place_is_undone_in_reverse_and_told_with_its_code",
        ),
        edits: &[Edit {
            file: "meta-cni/src/attach.rs",
            find: "Err(told(&error).of(name(attachment)))",
            replace: "Err(CniError::new(cni::Code::INTERNAL, told(&error).msg).of(name(attachment)))",
        }],
    },
    Guard {
        line: 12,
        holds: "networks of two namespaces have names of their own, and with them data directories",
        test: operator(
            "operator/src/node/render/tests.rs",
            "node::render::tests::networks_of_two_namespaces_share_a_name_only_if_their_authors_wrote_it",
        ),
        edits: &[Edit {
            file: "operator/src/node/render.rs",
            find: r#"    format!("{}{BETWEEN}{}", network.namespace, network.name)"#,
            replace: "    network.name.to_string()",
        }],
    },
    Guard {
        line: 12,
        holds: "nobody can take the generated name of another's network",
        test: operator(
            "operator/src/node/render/tests.rs",
            "node::render::tests::no_author_can_take_the_generated_name_of_another_network",
        ),
        edits: &[Edit {
            file: "operator/src/node/render.rs",
            find: "owner_of(&list.name).filter(|owner| owner != network)",
            replace: "owner_of(&list.name).filter(|_| false)",
        }],
    },
    Guard {
        line: 12,
        holds: "GC tells each network of every attachment that is valid, so that no address in use is freed",
        test: process(
            "meta-cni/tests/process/gc.rs",
            "gc::stale_containers_are_undone_and_networks_learn_of_every_valid_interface",
        ),
        edits: &[Edit {
            file: "meta-cni/src/gc.rs",
            find: "recorded.chain(valid.iter().cloned()).collect();",
            replace: "recorded.filter(|_| false).chain(valid.iter().cloned()).collect();",
        }],
    },
    Guard {
        line: 12,
        holds: "a container that still runs keeps its addresses though its pod is gone from the API server",
        test: process(
            "meta-cni/tests/process/unfinished.rs",
            "unfinished::a_container_that_was_given_up_keeps_its_network_while_its_namespace_lives",
        ),
        edits: &[Edit {
            file: "meta-cni/src/unfinished.rs",
            find: "if let Some(in_use) = InUse::of(&record) {",
            replace: "if let Some(in_use) = InUse::of(&record).filter(|_| false) {",
        }],
    },
    Guard {
        line: 13,
        holds: "a network that was mended holds no pod for what its earlier form left",
        test: process("meta-cni/tests/process/owed.rs", "owed::a_network_that_is_mended_holds_no_pod"),
        edits: &[Edit {
            file: "meta-cni/src/earlier_sandboxes.rs",
            find: "record.pod.as_ref() == Some(pod) && again()",
            replace: "record.pod.as_ref() == Some(pod) && (again() || true)",
        }],
    },
    Guard {
        line: 13,
        holds: "what lived in a namespace that is gone holds no pod",
        test: process(
            "meta-cni/tests/process/owed.rs",
            "owed::a_plugin_that_fails_for_want_of_the_namespace_owes_nothing",
        ),
        edits: &[Edit {
            file: "meta-cni/src/undo/owed.rs",
            find: "failed.outside == Some(Outside::Nothing) && !failed.holds_addresses;",
            replace: "failed.outside == Some(Outside::Nothing) && !failed.holds_addresses && false;",
        }],
    },
    Guard {
        line: 13,
        holds: "an unknown plugin holds a pod without a namespace for a bounded time",
        test: process(
            "meta-cni/tests/process/owed.rs",
            "owed::an_unknown_plugin_holds_a_pod_without_a_namespace_for_the_grace_alone",
        ),
        edits: &[Edit {
            file: "meta-cni/src/undo/owed.rs",
            find: "let answered_in_vain = gone && failed.how == How::Answered;",
            replace: "let answered_in_vain = false;",
        }],
    },
    Guard {
        line: 13,
        holds: "a path that leads to no namespace is not given to plugins, which would fail on it for ever",
        test: process("meta-cni/tests/process/owed.rs", "owed::a_plain_file_is_no_namespace"),
        edits: &[Edit {
            file: "meta-cni/cni/src/netns.rs",
            find: "if !is_namespace(&file)? {",
            replace: "if !is_namespace(&file)? && false {",
        }],
    },
    Guard {
        line: 14,
        holds: "a call does not wait for work that earlier calls left",
        test: process(
            "meta-cni/tests/process/unfinished.rs",
            "unfinished::no_call_waits_for_the_work_of_others",
        ),
        edits: &[Edit {
            file: "meta-cni/src/background.rs",
            find: "child.spawn().map(|_| true).map_err(BackgroundError::Start)",
            replace: "child.status().map(|_| true).map_err(BackgroundError::Start)",
        }],
    },
    Guard {
        line: 14,
        holds: "STATUS does not keep pods without networks from starting",
        test: process(
            "meta-cni/tests/process/check.rs",
            "check::status_does_not_need_the_networks_of_the_node_unless_it_is_told_to",
        ),
        edits: &[Edit {
            file: "meta-cni/src/status.rs",
            find: "if settings.status_needs_networks {",
            replace: "if settings.status_needs_networks || true {",
        }],
    },
    Guard {
        line: 18,
        holds: "a setting that protects is read in whatever case it is written",
        test: process(
            "meta-cni/tests/process/isolation.rs",
            "isolation::isolation_holds_wherever_a_pod_names_a_network",
        ),
        edits: &[Edit {
            file: "meta-cni/store/src/settings/reader.rs",
            find: "same(key, setting) && !is_absent(value)",
            replace: "*key == setting && !is_absent(value)",
        }],
    },
    Guard {
        line: 18,
        holds: "a key that nearly is a setting that protects is an error",
        test: Test {
            package: "store",
            target: Target::Lib,
            file: "meta-cni/store/src/settings/tests.rs",
            name: "settings::tests::a_misspelt_setting_that_protects_is_an_error_and_others_are_told",
            runs: &[],
        },
        edits: &[Edit {
            file: "meta-cni/store/src/settings.rs",
            find: "misspelt::refuse_protecting(key)?;",
            replace: "let _ = misspelt::refuse_protecting(key);",
        }],
    },
    Guard {
        line: 19,
        holds: "a pod that asks for more networks than the administrator allows is refused before anything is looked for",
        test: process(
            "meta-cni/tests/process/bounds.rs",
            "bounds::too_many_networks_are_refused_before_anything_is_looked_for",
        ),
        edits: &[Edit {
            file: "meta-cni/src/pod.rs",
            find: "parse_selections(annotation, namespace, settings.max_attachments)",
            replace: "parse_selections(annotation, namespace, std::num::NonZeroUsize::MAX)",
        }],
    },
    Guard {
        line: 19,
        holds: "what one annotation and one of its elements ask for is bounded",
        test: Test {
            package: "cni",
            target: Target::Lib,
            file: "meta-cni/cni/src/npwg/selection/tests.rs",
            name: "npwg::selection::tests::what_one_annotation_and_one_element_ask_for_is_bounded",
            runs: &[],
        },
        edits: &[Edit {
            file: "meta-cni/cni/src/npwg/selection/json.rs",
            find: "is_bounded(&selection)?;",
            replace: "let _ = is_bounded(&selection);",
        }],
    },
];

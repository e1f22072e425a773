//! What the documentation tells people to do, done: every block of commands of a page, in its order, word for word.
//!
//! `sh` blocks run with `kubectl` and `helm` in the repository's root, `sh node` blocks as root on each node, `sh build`
//! blocks elsewhere.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use e2e::cluster::{Cluster, Feature};
use e2e::docs::{self, Block};
use e2e::program::output;
use e2e::source;
use e2e::suite::stage::Stage;
use e2e::suite::{Scenario, When};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "the_commands_of_install_md_work",
        when: When::Alone,
        needs: &[Feature::Nodes],
        links: &[],
        story: the_commands_of_install_md_work,
    },
    Scenario {
        name: "the_commands_of_first_network_md_work",
        when: When::Together,
        needs: &[Feature::Nodes],
        links: &["bridge"],
        story: the_commands_of_first_network_md_work,
    },
    Scenario {
        name: "the_commands_of_cookbook_md_work",
        when: When::Together,
        needs: &[Feature::Nodes],
        links: &["bridge"],
        story: the_commands_of_cookbook_md_work,
    },
    Scenario {
        name: "the_commands_of_observability_md_work",
        when: When::Together,
        needs: &[Feature::Nodes],
        links: &[],
        story: the_commands_of_observability_md_work,
    },
    Scenario {
        name: "the_commands_of_troubleshooting_md_work",
        when: When::Alone,
        needs: &[Feature::Nodes],
        links: &[],
        story: the_commands_of_troubleshooting_md_work,
    },
    Scenario {
        name: "the_commands_of_migration_md_work",
        when: When::Alone,
        needs: &[Feature::Nodes],
        links: &[],
        story: the_commands_of_migration_md_work,
    },
    Scenario {
        name: "the_commands_of_upgrade_md_work",
        when: When::Last,
        needs: &[Feature::Nodes],
        links: &[],
        story: the_commands_of_upgrade_md_work,
    },
    Scenario {
        name: "every_page_with_commands_for_a_cluster_has_its_scenario",
        when: When::Together,
        needs: &[],
        links: &[],
        story: every_page_with_commands_for_a_cluster_has_its_scenario,
    },
];

fn the_commands_of_install_md_work(stage: &Stage<'_>) -> Result<()> {
    installed_again(stage, page(stage, "docs/install.md"))
}

fn the_commands_of_first_network_md_work(stage: &Stage<'_>) -> Result<()> {
    page(stage, "docs/first-network.md")
}

fn the_commands_of_cookbook_md_work(stage: &Stage<'_>) -> Result<()> {
    page(stage, "docs/cookbook.md")
}

fn the_commands_of_observability_md_work(stage: &Stage<'_>) -> Result<()> {
    page(stage, "docs/observability.md")
}

fn the_commands_of_troubleshooting_md_work(stage: &Stage<'_>) -> Result<()> {
    page(stage, "docs/troubleshooting.md")
}

fn the_commands_of_migration_md_work(stage: &Stage<'_>) -> Result<()> {
    installed_again(stage, page(stage, "docs/migration.md"))
}

/// The page ends with taking Braid away.
fn the_commands_of_upgrade_md_work(stage: &Stage<'_>) -> Result<()> {
    installed_again(stage, page(stage, "docs/upgrade.md"))
}

/// Braid is for the next scenario as it was for this one, whatever became of this one.
fn installed_again(stage: &Stage<'_>, told: Result<()>) -> Result<()> {
    let installed = stage.cluster.install_braid(&[]);
    told.and(installed)
}

/// `e2e/tests/docs` sees that no other page has commands for a cluster.
fn every_page_with_commands_for_a_cluster_has_its_scenario(_: &Stage<'_>) -> Result<()> {
    for page in docs::ON_A_CLUSTER {
        let name = page.trim_start_matches("docs/").replace(['-', '.'], "_");
        let scenario = format!("the_commands_of_{name}_work");
        ensure!(SCENARIOS.iter().any(|one| one.name == scenario), "{page} has no scenario {scenario}");
    }
    Ok(())
}

/// Runs a page from its beginning to its end.
fn page(stage: &Stage<'_>, page: &str) -> Result<()> {
    let blocks = docs::blocks(&source(page))?;
    let tools = Tools::new(stage.cluster, page)?;
    let blocks: Vec<_> = blocks.iter().filter(|block| block.is("sh") || block.is("sh node")).collect();
    ensure!(!blocks.is_empty(), "{page} has no commands");
    for block in blocks {
        let ran = if block.is("sh") { tools.run(stage.cluster, block) } else { on_nodes(stage, block) };
        ran.with_context(|| format!("{page}:{}: running\n{}", block.line, block.text))?;
    }
    Ok(())
}

fn on_nodes(stage: &Stage<'_>, block: &Block) -> Result<()> {
    stage.cluster.nodes().iter().try_for_each(|node| stage.cluster.on_node(node, &block.text).map(drop))
}

/// The tools that a reader has, under their names.
struct Tools {
    dir: PathBuf,
}

impl Tools {
    fn new(cluster: &Cluster, page: &str) -> Result<Self> {
        let dir = cluster.directory().join("tools").join(page.replace('/', "-"));
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        // Not a link: the script finds what it needs beside itself.
        let script = source("scripts/helm").canonicalize().context("looking for scripts/helm")?;
        let helm = dir.join("helm");
        fs::write(&helm, format!("#!/bin/sh\nexec '{}' \"$@\"\n", script.display()))
            .and_then(|()| fs::set_permissions(&helm, fs::Permissions::from_mode(0o755)))
            .with_context(|| format!("writing {}", helm.display()))?;
        Ok(Self { dir })
    }

    /// Runs a block as a reader's shell would who stops at the first thing that fails.
    fn run(&self, cluster: &Cluster, block: &Block) -> Result<()> {
        let mut shell: Command = cluster.command("sh")?;
        let path = std::env::var("PATH").context("PATH is set")?;
        shell.env("PATH", format!("{}:{path}", self.dir.display()));
        shell.current_dir(source("")).args(["-euc", &block.text]);
        output(&mut shell).map(drop)
    }
}

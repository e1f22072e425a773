//! The documentation holds what it says: its blocks are what their tags say, its links lead somewhere, and the
//! messages that it quotes are Braid's. Its commands are run on a cluster by the suite.

#![allow(clippy::unwrap_used, clippy::panic)] // A test may fail as loudly as it can.

mod messages;
mod named_tests;
mod objects;
mod without_a_cluster;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use e2e::docs::{self, Block, ON_A_CLUSTER, Page, TAGS, programs};

/// What a cluster's user has at hand. No `sleep`: commands wait for a condition.
const AT_HAND: [&str; 16] = [
    "base64", "cat", "curl", "cut", "echo", "export", "false", "grep", "helm", "jq", "kill", "kubectl",
    "sed", "test", "trap", "true",
];
/// What a node has besides.
const ON_A_NODE: [&str; 6] = ["/opt/cni/bin/meta-cni", "find", "ip", "ls", "rm", "rmdir"];

/// Every file of the documentation, read.
fn pages() -> Vec<(PathBuf, Page)> {
    let files = docs::files().unwrap();
    files.into_iter().map(|file| (file.clone(), docs::page(&file).unwrap())).collect()
}

/// A file's path as people name it.
fn name(file: &Path) -> String {
    let root = e2e::source("");
    file.strip_prefix(&root).unwrap_or(file).display().to_string()
}

/// Fails with everything that is wrong, not only the first.
fn assert_none(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

/// What `look` finds wrong with any block.
fn problems_of_blocks(look: impl Fn(&str, &Block) -> Option<String>) -> Vec<String> {
    let mut problems = Vec::new();
    for (file, page) in pages() {
        let name = name(&file);
        let found = page.blocks.iter().filter_map(|block| {
            look(&name, block).map(|problem| format!("{name}:{}: {problem}", block.line))
        });
        problems.extend(found);
    }
    problems
}

#[test]
fn every_block_has_a_known_tag() {
    assert_none(&problems_of_blocks(|_, block| {
        let known = TAGS.iter().any(|tag| block.is(tag));
        (!known).then(|| format!("tag {:?}; known are {TAGS:?}", block.tag.join(" ")))
    }));
}

#[test]
fn every_command_is_run_by_somebody() {
    for page in ON_A_CLUSTER {
        assert!(e2e::source(page).is_file(), "{page} of ON_A_CLUSTER does not exist");
    }
    assert_none(&problems_of_blocks(|page, block| {
        if block.is("sh build") && block.run_by.is_none() {
            return Some("no comment `<!-- run by: … -->` above says who runs it".to_owned());
        }
        let commands = ["kubectl ", "helm ", "make "];
        if block.is("text")
            && block.text.lines().any(|line| commands.iter().any(|word| line.starts_with(word)))
        {
            return Some("commands belong into a block that somebody runs".to_owned());
        }
        let for_cluster = block.is("sh") || block.is("sh node");
        (for_cluster && !ON_A_CLUSTER.contains(&page))
            .then(|| "the suite runs commands of the pages of docs::ON_A_CLUSTER only".to_owned())
    }));
}

/// Beside tests, a page may run a block of another one: by having the same commands.
#[test]
fn a_block_that_another_page_runs_is_there_word_for_word() {
    let text_of = |page: &str| {
        let blocks = docs::blocks(&e2e::source(page)).unwrap();
        blocks.iter().map(|block| block.text.as_str()).collect::<String>()
    };
    assert_none(&problems_of_blocks(|_, block| {
        let page = block.run_by.as_deref().filter(|by| by.starts_with("docs/"))?;
        let text = text_of(page);
        let lost = block.text.lines().find(|line| !text.lines().any(|other| other == *line))?;
        Some(format!("{page} has no command {lost:?}"))
    }));
}

#[test]
fn commands_are_shell_and_call_what_is_there() {
    assert_none(&problems_of_blocks(|_, block| {
        if block.tag.first().is_none_or(|word| word != "sh") {
            return None;
        }
        if let Err(problem) = syntax(&block.text) {
            return Some(problem);
        }
        let mut here = BTreeSet::from(AT_HAND);
        here.extend(ON_A_NODE.iter().filter(|_| block.is("sh node")));
        let strange: Vec<_> =
            programs(&block.text).into_iter().filter(|word| !here.contains(word.as_str())).collect();
        (!block.is("sh build") && !strange.is_empty())
            .then(|| format!("calls {strange:?}; only these are everywhere: {here:?}"))
    }));
}

/// Whether a shell can read it; nothing is run.
fn syntax(text: &str) -> Result<(), String> {
    let mut shell =
        Command::new("sh").args(["-n", "-s"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    shell.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = shell.wait_with_output().unwrap();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

#[test]
fn what_no_shell_can_read_is_found() {
    assert!(syntax("if true; then\n").is_err());
    assert_eq!(syntax("exit 3\n"), Ok(()));
}

#[test]
fn every_link_leads_somewhere() {
    let mut problems = Vec::new();
    for (file, page) in pages() {
        for link in &page.links {
            if let Err(problem) = follow(&file, &link.target) {
                problems.push(format!("{}:{}: {}: {problem}", name(&file), link.line, link.target));
            }
        }
    }
    assert_none(&problems);
}

/// Looks where a relative link leads; others are not followed.
fn follow(from: &Path, target: &str) -> Result<(), String> {
    if target.contains("://") {
        return Ok(());
    }
    let (path, anchor) = target.split_once('#').map_or((target, None), |(path, name)| (path, Some(name)));
    let file = if path.is_empty() { from.to_owned() } else { from.parent().unwrap().join(path) };
    if !file.exists() {
        return Err("no such file".to_owned());
    }
    let Some(anchor) = anchor else { return Ok(()) };
    let anchors = docs::page(&file).map_err(|error| format!("{error:#}"))?.anchors;
    if anchors.contains(anchor) { Ok(()) } else { Err(format!("no such heading; there are {anchors:?}")) }
}

#[test]
fn a_link_to_a_file_or_heading_that_is_not_there_is_found() {
    let readme = e2e::source("README.md");
    assert_eq!(follow(&readme, "docs/architecture.md"), Ok(()));
    assert!(follow(&readme, "docs/no-such.md").unwrap_err().contains("no such file"));
    assert!(follow(&readme, "docs/architecture.md#no-such").unwrap_err().contains("no such heading"));
}

#[test]
fn the_readme_leads_to_every_page() {
    let readme = docs::page(&e2e::source("README.md")).unwrap();
    let linked: BTreeSet<_> = readme.links.iter().map(|link| link.target.as_str()).collect();
    let files = docs::files().unwrap();
    let lost: Vec<_> = files
        .iter()
        .map(|file| name(file))
        .filter(|file| file != "README.md" && !linked.contains(file.as_str()))
        .collect();
    assert_eq!(lost, [""; 0], "the README's table leads to none of these");
}

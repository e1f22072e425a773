//! The documentation as data: its fenced blocks, links and headings. So what it tells people to do can be done by
//! a test, word for word.
//!
//! | tag of a block | what it holds | who runs or checks it |
//! |---|---|---|
//! | `sh` | commands for a cluster, with `kubectl` and `helm` | the suite, file by file in the order of [`ON_A_CLUSTER`] |
//! | `sh node` | commands for a node, as root | the suite, in between |
//! | `sh build` | commands for a machine that has Braid's sources | the test that the comment `<!-- run by: … -->` above the block names |
//! | `yaml`, `json` | objects, values, configurations | `e2e/tests/docs` |
//! | `text` | output, pictures | nobody |
//! | `text message` | one message of Braid a line | `e2e/tests/docs`: the words are in the source code |

mod shell;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

pub use shell::programs;

/// The pages whose commands are for a cluster, in the order in which they can be run on one. The first installs
/// Braid, each of the next finds it installed and leaves it so, the last takes it away.
pub const ON_A_CLUSTER: [&str; 7] = [
    "docs/install.md",
    "docs/first-network.md",
    "docs/cookbook.md",
    "docs/observability.md",
    "docs/troubleshooting.md",
    "docs/migration.md",
    "docs/upgrade.md",
];

/// Every tag that a block may have.
pub const TAGS: [&str; 7] = ["sh", "sh node", "sh build", "yaml", "json", "text", "text message"];

/// A fenced block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The line of the fence that opens it.
    pub line: usize,
    /// The words behind that fence.
    pub tag: Vec<String>,
    /// What it holds.
    pub text: String,
    /// Who runs it, if a comment above it says so.
    pub run_by: Option<String>,
}

impl Block {
    /// Whether its tag is exactly this one.
    pub fn is(&self, tag: &str) -> bool {
        self.tag.join(" ") == tag
    }
}

/// A link to another place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The line where it begins.
    pub line: usize,
    /// Where it leads.
    pub target: String,
}

/// One file of the documentation.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Its fenced blocks, and indented ones, which have no tag.
    pub blocks: Vec<Block>,
    /// Its links.
    pub links: Vec<Link>,
    /// What links can name behind `#`.
    pub anchors: BTreeSet<String>,
}

/// The fenced blocks of a file, in order.
pub fn blocks(file: &Path) -> Result<Vec<Block>> {
    Ok(page(file)?.blocks)
}

/// Everything of a file that can be checked.
pub fn page(file: &Path) -> Result<Page> {
    let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    Ok(parse(&text))
}

/// The README and every file of `docs`.
pub fn files() -> Result<Vec<PathBuf>> {
    let dir = crate::source("docs");
    let entries = fs::read_dir(&dir).with_context(|| format!("listing {}", dir.display()))?;
    let mut files = vec![crate::source("README.md")];
    for entry in entries {
        let path = entry.with_context(|| format!("listing {}", dir.display()))?.path();
        if path.extension().is_some_and(|extension| extension == "md") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn parse(text: &str) -> Page {
    let mut reading = Reading { text, ..Reading::default() };
    for (event, range) in Parser::new_ext(text, Options::ENABLE_TABLES).into_offset_iter() {
        reading.take(event, range.start);
    }
    reading.page
}

/// A page while it is read.
#[derive(Default)]
struct Reading<'a> {
    text: &'a str,
    page: Page,
    block: Option<Block>,
    heading: Option<String>,
    /// The comment that was just read, for the block that may follow.
    comment: Option<String>,
    headings: BTreeMap<String, usize>,
}

impl Reading<'_> {
    fn take(&mut self, event: Event<'_>, at: usize) {
        match event {
            Event::Start(Tag::CodeBlock(kind)) => {
                let tag = match &kind {
                    CodeBlockKind::Fenced(info) => info.split_whitespace().map(str::to_owned).collect(),
                    CodeBlockKind::Indented => Vec::new(),
                };
                let run_by = self.comment.take();
                self.block = Some(Block { line: self.line(at), tag, text: String::new(), run_by });
            }
            Event::End(TagEnd::CodeBlock) => self.page.blocks.extend(self.block.take()),
            Event::Start(Tag::Heading { .. }) => self.heading = Some(String::new()),
            Event::End(TagEnd::Heading(_)) => self.end_heading(),
            Event::Start(Tag::Link { dest_url, .. }) => {
                let link = Link { line: self.line(at), target: dest_url.into_string() };
                self.page.links.push(link);
            }
            Event::Text(text) | Event::Code(text) => {
                self.comment = None;
                if let Some(block) = &mut self.block {
                    block.text.push_str(&text);
                } else if let Some(heading) = &mut self.heading {
                    heading.push_str(&text);
                }
            }
            Event::Html(html) => {
                self.comment = run_by(&html).or(self.comment.take());
            }
            _ => {}
        }
    }

    fn line(&self, at: usize) -> usize {
        self.text.get(..at).unwrap_or_default().matches('\n').count() + 1
    }

    /// Headings of one name are told apart by a number, as Git forges do.
    fn end_heading(&mut self) {
        let Some(heading) = self.heading.take() else { return };
        let slug = slug(&heading);
        let count = self.headings.entry(slug.clone()).or_default();
        self.page.anchors.insert(if *count == 0 { slug } else { format!("{slug}-{count}") });
        *count += 1;
    }
}

fn run_by(html: &str) -> Option<String> {
    let comment = html.trim().strip_prefix("<!--")?.strip_suffix("-->")?;
    comment.trim().strip_prefix("run by:").map(|who| who.trim().to_owned())
}

/// A heading as Git forges write it behind `#`.
fn slug(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c }).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# The `first` one, really\n\n[there](other.md#x)\n\n<!-- run by: make demo -->\n\
                        ```sh build\nmake demo\n```\n\n- in a list:\n\n  ```json\n  {}\n  ```\n\n## Again\n\n## Again\n";

    #[test]
    fn blocks_come_with_their_line_tag_text_and_who_runs_them() {
        let page = parse(PAGE);
        let [first, second] = page.blocks.as_slice() else { panic!("{page:?}") };
        assert_eq!((first.line, first.text.as_str()), (6, "make demo\n"));
        assert!(first.is("sh build") && !first.is("sh"));
        assert_eq!(first.run_by.as_deref(), Some("make demo"));
        assert_eq!((second.line, second.text.as_str(), &second.run_by), (12, "{}\n", &None));
    }

    #[test]
    fn links_and_the_anchors_of_headings_are_found() {
        let page = parse(PAGE);
        assert_eq!(page.links, [Link { line: 3, target: "other.md#x".to_owned() }]);
        let anchors: Vec<_> = page.anchors.iter().map(String::as_str).collect();
        assert_eq!(anchors, ["again", "again-1", "the-first-one-really"]);
    }

    #[test]
    fn a_comment_belongs_to_the_next_block_only_if_nothing_is_between() {
        let page = parse("<!-- run by: x -->\n\nwords\n\n```sh build\ntrue\n```\n");
        assert_eq!(page.blocks[0].run_by, None);
    }
}

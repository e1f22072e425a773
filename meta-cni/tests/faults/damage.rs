//! Files of the node directory that are cut off, overwritten, emptied or gone.

use std::fs;
use std::path::PathBuf;

use crate::harness::Node;
use crate::random::Random;

/// Damages one file of the node, of those that are there; what was done. `None` if that left everything as it was.
/// Records of other containers than this one are left alone.
pub(crate) fn one_file(random: &mut Random, node: &Node, container: &str) -> Option<String> {
    let dir = node.dir();
    let kind = random.below(8);
    let files: Vec<PathBuf> = match kind {
        0 => vec![dir.node()],
        1 => ["a", "b", "c"].iter().map(|name| node.path(&format!("run/networks/default/{name}"))).collect(),
        2 => vec![dir.pod("default", "web")],
        3 => vec![dir.records().join(container)],
        4 => vec![dir.unfinished().join(container)],
        5 => vec![dir.unfinished().join(".looked")],
        6 => files(dir.settled()),
        _ => ["container/bystander", "node", "unfinished"]
            .map(|lock| node.path(&format!("run/locks/{lock}")))
            .to_vec(),
    };
    let files: Vec<_> = files.into_iter().filter(|file| file.is_file()).collect();
    if files.is_empty() {
        return None;
    }
    let file = random.pick(&files);
    let whole = fs::read(file).unwrap();
    let how = random.below(4);
    // A record or a lock that is gone is nothing that damage alone can mend.
    let is_kept = [3, 7].contains(&kind);
    let text = match how {
        0 => whole[..random.below(whole.len().max(1))].to_vec(),
        1 => vec![0; whole.len()],
        2 => b"\xff{garbage".to_vec(),
        _ if is_kept => Vec::new(),
        _ => {
            fs::remove_file(file).unwrap();
            return Some(format!("{} is removed", file.display()));
        }
    };
    if text == whole {
        return None;
    }
    fs::write(file, &text).unwrap();
    Some(format!("{} is damaged: {} bytes of {} are left of it", file.display(), text.len(), whole.len()))
}

fn files(dir: PathBuf) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

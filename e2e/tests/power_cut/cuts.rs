//! Which power cuts are tried: at every change, everything that was not synced kept or lost, each part of it alone
//! kept, lost, torn or zero; and then parts by chance.

use std::collections::{BTreeMap, BTreeSet};

use e2e::chance::Chance;

use crate::disk::{Disk, Fate, Tree};

/// A power cut and what it leaves.
#[derive(Debug)]
pub(crate) struct Cut {
    /// It happens before this change.
    pub(crate) at: usize,
    /// What is left.
    pub(crate) tree: Tree,
    /// What became of changes that were not synced, for people.
    pub(crate) told: String,
}

/// At most so many power cuts of different outcome. If there are more, chance picks among them.
///
/// `marks` are places at which something else has become true: a cut before one and a cut behind it differ, even
/// where the disk looks the same. Cuts before one of the changes `always` are all tried, whatever chance says.
pub(crate) fn cuts(disk: &Disk, marks: &[usize], always: &[usize], chance: &mut Chance) -> Vec<Cut> {
    let (count, random) = (chance.count, &mut chance.random);
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    let mut add = |at: usize, fates: BTreeMap<usize, Fate>| {
        let tree = disk.after(at, &fates);
        let past = marks.iter().filter(|mark| **mark <= at).count();
        if seen.insert((past, tree.clone())) {
            found.push(Cut { at, tree, told: told(disk, at, &fates) });
        }
    };
    for at in 0..=disk.changes.len() {
        for fates in systematic(disk, at) {
            add(at, fates);
        }
    }
    // Chance finds the same again more and more often.
    for _ in 0..count {
        let at = random.usize(0..=disk.changes.len());
        let fates = disk.unsynced(at).into_iter().map(|index| (index, any(disk, index, random))).collect();
        add(at, fates);
    }
    let (mut picked, mut rest): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|cut| always.contains(&cut.at));
    random.shuffle(&mut rest);
    rest.truncate(count.saturating_sub(picked.len()));
    picked.append(&mut rest);
    picked
}

fn systematic(disk: &Disk, at: usize) -> Vec<BTreeMap<usize, Fate>> {
    let unsynced = disk.unsynced(at);
    let all = |fate: Fate| unsynced.iter().map(|index| (*index, fate)).collect::<BTreeMap<_, _>>();
    let mut fates = vec![all(Fate::Lost), all(Fate::Kept)];
    for index in &unsynced {
        for (rest, one) in [(Fate::Lost, Fate::Kept), (Fate::Kept, Fate::Lost)] {
            fates.push(all(rest).into_iter().chain([(*index, one)]).collect());
        }
        if let Some(bytes) = disk.bytes(*index) {
            for one in [Fate::Torn(bytes / 2), Fate::Zeroed] {
                fates.push(all(Fate::Kept).into_iter().chain([(*index, one)]).collect());
            }
        }
    }
    fates
}

fn any(disk: &Disk, index: usize, random: &mut fastrand::Rng) -> Fate {
    match (random.u8(0..8), disk.bytes(index)) {
        (0..3, _) => Fate::Kept,
        (3, Some(bytes)) => Fate::Torn(random.usize(0..=bytes)),
        (4, Some(_)) => Fate::Zeroed,
        _ => Fate::Lost,
    }
}

fn told(disk: &Disk, at: usize, fates: &BTreeMap<usize, Fate>) -> String {
    let text = |index: usize| format!("{index} ({})", disk.changes[index].1);
    let lost: Vec<String> = fates
        .iter()
        .filter(|(_, fate)| **fate != Fate::Kept)
        .map(|(index, fate)| format!("{fate:?} {}", text(*index)))
        .collect();
    let next = if at < disk.changes.len() { text(at) } else { "the end".to_owned() };
    format!(
        "before change {next}; {}",
        if lost.is_empty() { "nothing lost".to_owned() } else { lost.join(", ") }
    )
}

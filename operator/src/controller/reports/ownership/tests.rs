use std::time::Duration;

use super::*;

fn report(owners: Vec<OwnerReference>) -> Owned {
    Owned { uid: "r1".to_owned(), owners }
}

fn other() -> OwnerReference {
    OwnerReference { kind: "Shelf".to_owned(), ..owner("s", "u9") }
}

#[test]
fn a_report_belongs_to_its_node_and_to_nobody_elses() {
    let now = Instant::now();
    let adopt = |owners| Some(Deed::Adopt { uid: "r1".to_owned(), owners });
    let controlling = OwnerReference { controller: Some(true), ..owner("n", "u1") };
    for (what, owners, deed) in [
        ("new", vec![], adopt(vec![owner("n", "u1")])),
        ("right", vec![owner("n", "u1")], None),
        ("right, beside another kind", vec![other(), owner("n", "u1")], None),
        ("of the Node before", vec![owner("n", "u0")], adopt(vec![owner("n", "u1")])),
        ("of two Nodes", vec![owner("n", "u0"), owner("n", "u1")], adopt(vec![owner("n", "u1")])),
        ("others stay", vec![other()], adopt(vec![other(), owner("n", "u1")])),
        ("as a controller", vec![controlling], adopt(vec![owner("n", "u1")])),
    ] {
        assert_eq!(decide("n", &report(owners), Some("u1"), None, now), deed, "{what}");
    }
}

#[test]
fn a_report_without_a_node_goes_after_the_grace() {
    let start = Instant::now();
    let now = start + GRACE;
    let early = start + Duration::from_secs(1);
    let remove = Some(Deed::Remove { uid: "r1".to_owned() });
    for (missing, deed) in [(None, None), (Some(early), None), (Some(start), remove)] {
        assert_eq!(decide("n", &report(vec![owner("n", "u1")]), None, missing, now), deed, "{missing:?}");
    }
}

/// Both lists complete: reports of `n` and `m`, but only the Node `m`.
fn ledger(start: Instant) -> Ledger {
    let mut ledger = Ledger::default();
    ledger.put_report("n", report(vec![owner("n", "u1")]));
    ledger.put_report("m", report(vec![owner("m", "u2")]));
    assert_eq!(ledger.due(start), None, "the lists are not complete");
    ledger.keep_reports(&HashSet::from(["n".to_owned(), "m".to_owned()]));
    assert_eq!(ledger.due(start), None, "the Nodes are not complete");
    ledger.begin_nodes();
    ledger.list_node("m", "u2".to_owned());
    ledger.complete_nodes(start);
    ledger
}

#[test]
fn nothing_is_removed_before_both_lists_are_complete_and_the_grace_is_over() {
    let start = Instant::now();
    let mut ledger = ledger(start);
    assert_eq!(ledger.due(start), Some(start + GRACE));
    assert!(ledger.deeds(start).is_empty());
    let deeds = ledger.deeds(start + GRACE);
    assert_eq!(deeds, BTreeMap::from([("n".to_owned(), Deed::Remove { uid: "r1".to_owned() })]));
    assert!(ledger.deeds(start + GRACE).is_empty(), "it is under way");
    ledger.remove_report("n");
    assert_eq!(ledger.due(start + GRACE * 9), None);
}

#[test]
fn a_node_that_is_made_anew_keeps_its_report_and_adopts_it() {
    let start = Instant::now();
    let mut ledger = ledger(start);
    ledger.remove_node("m", start);
    ledger.put_node("m", "u3".to_owned());
    let deeds = ledger.deeds(start + GRACE);
    let adopted = Deed::Adopt { uid: "r1".to_owned(), owners: vec![owner("m", "u3")] };
    assert_eq!(deeds.get("m"), Some(&adopted));
    ledger.put_report("m", report(vec![owner("m", "u3")]));
    assert_eq!(ledger.deeds(start + GRACE * 3).get("m"), None);
}

#[test]
fn an_adoption_that_was_due_does_not_become_a_removal_when_the_node_goes() {
    let start = Instant::now();
    let mut ledger = ledger(start);
    ledger.put_report("m", report(vec![]));
    ledger.remove_node("m", start);
    assert_eq!(ledger.deeds(start + Duration::from_secs(29)).get("m"), None);
    assert!(matches!(ledger.deeds(start + GRACE * 2).get("m"), Some(Deed::Remove { .. })));
}

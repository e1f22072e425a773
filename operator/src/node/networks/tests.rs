use serde_json::{Value, json};
use store::node::NodeFacts;

use super::*;

fn keeper() -> (tempfile::TempDir, Keeper) {
    let temp = tempfile::tempdir().unwrap();
    let dir = NodeDirectory::new(temp.path().join("run"), temp.path().join("state"));
    let (metrics, _) = Metrics::new();
    let permissions = Permissions::default();
    (temp, Keeper { dir, permissions, known: Arc::default(), metrics, listing: None })
}

fn object(name: &str, generation: i64, spec: Value) -> Definition {
    serde_json::from_value(json!({
        "apiVersion": crds::nad::API_VERSION, "kind": crds::nad::KIND,
        "metadata": {"namespace": "default", "name": name, "generation": generation}, "spec": spec,
    }))
    .unwrap()
}

fn bridge(name: &str, generation: i64) -> Definition {
    object(name, generation, json!({"config": r#"{"type":"bridge"}"#}))
}

async fn list(keeper: &mut Keeper, objects: impl IntoIterator<Item = Definition>) -> Result<(), StoreError> {
    keeper.take(Event::Init).await?;
    for object in objects {
        keeper.take(Event::InitApply(object)).await?;
    }
    keeper.take(Event::InitDone).await
}

fn files(keeper: &Keeper) -> Vec<String> {
    RenderedNetwork::list(&keeper.dir).unwrap().iter().map(ToString::to_string).collect()
}

fn network(name: &str) -> NetworkRef {
    NetworkRef::parse("default", name).unwrap()
}

#[tokio::test]
async fn a_lists_networks_are_written_as_they_come_and_nothing_is_complete_or_removed_before_it_is() {
    let (_temp, mut keeper) = keeper();
    render::refused(network("old"), "test", String::new()).write(&keeper.dir).unwrap();
    keeper.take(Event::Init).await.unwrap();
    keeper.take(Event::InitApply(bridge("a", 1))).await.unwrap();
    assert_eq!(files(&keeper), ["default/a", "default/old"]);
    assert!(keeper.known.look().networks.complete.is_none());
    assert!(NodeFacts::read(&keeper.dir).unwrap().is_none());
    keeper.take(Event::InitDone).await.unwrap();
    assert_eq!(files(&keeper), ["default/a"]);
    assert!(keeper.known.look().networks.complete.is_some());
    assert!(NodeFacts::read(&keeper.dir).unwrap().is_some());
}

#[tokio::test]
async fn a_second_list_removes_what_is_no_longer_there() {
    let (_temp, mut keeper) = keeper();
    list(&mut keeper, [bridge("a", 1), bridge("b", 1)]).await.unwrap();
    list(&mut keeper, [bridge("b", 1), bridge("c", 1)]).await.unwrap();
    assert_eq!(files(&keeper), ["default/b", "default/c"]);
    assert_eq!(
        keeper.known.look().networks.all.keys().cloned().collect::<Vec<_>>(),
        [network("b"), network("c")]
    );
}

#[tokio::test]
#[should_panic(expected = "no disk is like that")]
async fn a_panic_while_a_list_is_compared_is_the_tasks_own() {
    let (_temp, keeper) = keeper();
    render::refused(network("old"), "test", String::new()).write(&keeper.dir).unwrap();
    end(Sync::begin(&keeper.dir), || panic!("no disk is like that")).await;
}

#[tokio::test]
async fn a_list_that_was_broken_off_leaves_nothing_behind() {
    let (_temp, mut keeper) = keeper();
    keeper.take(Event::Init).await.unwrap();
    keeper.take(Event::InitApply(bridge("half", 1))).await.unwrap();
    list(&mut keeper, [bridge("a", 1)]).await.unwrap();
    assert_eq!(files(&keeper), ["default/a"]);
}

#[tokio::test]
async fn events_change_one_network_and_only_changes_are_news() {
    let (_temp, mut keeper) = keeper();
    list(&mut keeper, [bridge("a", 1)]).await.unwrap();
    let mut news = keeper.known.news();
    keeper.take(Event::Apply(bridge("b", 1))).await.unwrap();
    assert!(news.has_changed().unwrap());
    news.mark_unchanged();
    keeper.take(Event::Apply(bridge("b", 1))).await.unwrap();
    assert!(!news.has_changed().unwrap(), "a label that changed is nobody's business");
    keeper.take(Event::Delete(bridge("a", 1))).await.unwrap();
    assert_eq!(files(&keeper), ["default/b"]);
}

#[tokio::test]
async fn a_network_that_turns_invalid_keeps_no_stale_file() {
    let (_temp, mut keeper) = keeper();
    list(&mut keeper, [bridge("a", 1)]).await.unwrap();
    keeper.take(Event::Apply(object("a", 2, json!({"config": "{}"})))).await.unwrap();
    let file = RenderedNetwork::read(&keeper.dir, &network("a")).unwrap().unwrap();
    assert!(matches!(file.outcome, Outcome::Refused { .. }));
    let state = keeper.known.look();
    let known = &state.networks.all[&network("a")];
    assert_eq!(known.generation, Some(2));
    assert!(matches!(known.fate, Fate::Invalid(_)), "{known:?}");
}

#[tokio::test]
async fn an_object_that_cannot_be_read_hinders_no_other_and_says_why() {
    let (_temp, mut keeper) = keeper();
    let odd = object("odd", 7, json!({"config": {"type": "bridge"}}));
    list(&mut keeper, [odd, bridge("a", 1)]).await.unwrap();
    let file = RenderedNetwork::read(&keeper.dir, &network("odd")).unwrap().unwrap();
    let Outcome::Refused { reason } = file.outcome else { panic!("{file:?}") };
    assert!(reason.contains("cannot be read as a NetworkAttachmentDefinition"), "{reason}");
    assert_eq!(file.generation, Some(7));
    assert_eq!(keeper.metrics.undecodable_objects.get(), 1);
    let state = keeper.known.look();
    assert!(matches!(state.networks.all[&network("odd")].fate, Fate::Undecodable(_)));
    assert_eq!(state.networks.all[&network("a")].fate, Fate::Usable);
    assert!(state.networks.complete.is_some());
}

#[tokio::test]
async fn what_the_directory_does_not_take_is_an_error_and_nothing_is_complete() {
    let (_temp, mut keeper) = keeper();
    std::fs::create_dir_all(keeper.dir.network(&network("a")).join("in the way")).unwrap();
    let outcome = list(&mut keeper, [bridge("a", 1), bridge("b", 1)]).await;
    assert!(outcome.is_err());
    assert!(keeper.known.look().networks.complete.is_none());
    assert_eq!(files(&keeper).last().map(String::as_str), Some("default/b"), "the others are written");
}

#[tokio::test]
async fn what_the_rules_do_not_permit_is_refused_in_its_file_from_the_list_and_from_the_watch() {
    let (_temp, mut keeper) = keeper();
    let rules =
        br#"{"rules": [{"namespaces": ["default"], "plugins": ["macvlan"], "interfaces": ["storage0"]}]}"#;
    keeper.permissions = Permissions::parse(rules).unwrap();
    let macvlan = |name: &str, master: &str| {
        object(name, 1, json!({"config": json!({"type": "macvlan", "master": master}).to_string()}))
    };
    let reason = |keeper: &Keeper, name: &str| {
        let rendered = RenderedNetwork::read(&keeper.dir, &network(name)).unwrap().unwrap();
        let fate = keeper.known.look().networks.all[&network(name)].fate.clone();
        match (rendered.outcome, fate) {
            (Outcome::Refused { reason }, Fate::Invalid(told)) if reason == told => Some(reason),
            (Outcome::Ready { .. }, Fate::Usable) => None,
            other => panic!("{other:?}"),
        }
    };
    list(&mut keeper, [macvlan("good", "storage0"), macvlan("bad", "eth0")]).await.unwrap();
    keeper.take(Event::Apply(macvlan("later", "eth0"))).await.unwrap();
    assert_eq!(reason(&keeper, "good"), None);
    for name in ["bad", "later"] {
        assert!(
            reason(&keeper, name).unwrap().contains("may not use interface \"eth0\" of the host"),
            "{name}"
        );
    }
    // A file of the node of the network's own name.
    keeper.take(Event::Apply(object("good", 2, json!({})))).await.unwrap();
    assert!(reason(&keeper, "good").unwrap().contains("may not use configuration \"good\" of the node"));
}

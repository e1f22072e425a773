//! One leader among replicas.

use std::time::{Duration, Instant};

use e2e::operator::Operator;
use e2e::wait;

use crate::scene::{Scene, possible};

const NO_WEBHOOK: &[&str] = &["--webhook-address", "127.0.0.1:0"];

fn leads(replica: &Operator) -> bool {
    replica.metric("braid_leader").ok().flatten() == Some(1.0)
}

fn leaders(scene: &Scene) -> usize {
    scene.replicas.iter().filter(|replica| leads(replica)).count()
}

#[test]
fn a_leader_that_stops_hands_over_at_once_and_one_that_is_killed_is_followed_in_time() {
    if !possible() {
        return;
    }
    let mut scene = Scene::new().unwrap();
    scene.start_replica(NO_WEBHOOK).unwrap();
    wait::until("the first leads", || Ok(leaders(&scene) == 1)).unwrap();
    scene.start_replica(NO_WEBHOOK).unwrap();
    scene.replicas[1].wait_until_ready().unwrap();
    assert_eq!(leaders(&scene), 1, "a second replica waits, and is ready");
    let begun = Instant::now();
    assert!(scene.replicas.remove(0).stop().unwrap().success());
    assert!(begun.elapsed() < Duration::from_secs(3), "it ends within two seconds");
    wait::until("the second leads", || Ok(leaders(&scene) == 1)).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(10), "the Lease was given back: {:?}", begun.elapsed());
    scene.start_replica(NO_WEBHOOK).unwrap();
    scene.replicas[1].wait_until_ready().unwrap();
    scene.replicas.remove(0).kill().unwrap();
    wait::until("the third leads", || Ok(leaders(&scene) == 1)).unwrap();
    scene.put_network("default", "storage", r#"{"type":"bridge"}"#).unwrap();
    let nad = ["nad", "storage"];
    scene.wait_for_part(&nad, r#"{.status.conditions[?(@.type=="Accepted")].status}"#, "True").unwrap();
}

#[test]
fn a_leader_that_the_api_server_does_not_answer_stops_leading_and_leads_again() {
    if !possible() {
        return;
    }
    let mut scene = Scene::new().unwrap();
    scene.start_replica(NO_WEBHOOK).unwrap();
    wait::until("it leads", || Ok(leaders(&scene) == 1)).unwrap();
    scene.plane.pause_api_server().unwrap();
    wait::until("it does not lead", || Ok(leaders(&scene) == 0)).unwrap();
    scene.plane.resume_api_server().unwrap();
    wait::until("it leads again", || Ok(leaders(&scene) == 1)).unwrap();
}

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::super::script::{self, Asked, failure};
use super::*;

const PATH: &str = "/apis/coordination.k8s.io/v1/namespaces/braid-system/leases";

fn config(identity: &str) -> Config {
    Config {
        namespace: "braid-system".to_owned(),
        name: "braid-controller".to_owned(),
        identity: identity.to_owned(),
        terms: Terms::default(),
    }
}

/// A Lease as the API server keeps it, with the rule of its version.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<(Option<Value>, u64)>>);

impl Kept {
    fn answer(&self, asked: &Asked) -> (u16, Value) {
        let (lease, writes) = &mut *self.0.lock().unwrap();
        let version = |lease: &Value| lease["metadata"]["resourceVersion"].clone();
        match (asked.method.as_str(), lease.as_ref()) {
            ("GET", Some(lease)) => return (200, lease.clone()),
            ("GET" | "PUT", None) => return failure(404, "NotFound"),
            ("POST", Some(_)) => return failure(409, "AlreadyExists"),
            ("PUT", Some(lease)) if version(lease) != version(&asked.body) => {
                return failure(409, "Conflict");
            }
            _ => {}
        }
        *writes += 1;
        let mut new = asked.body.clone();
        new["metadata"]["resourceVersion"] = json!(writes.to_string());
        (200, lease.insert(new).clone())
    }

    fn holder(&self) -> String {
        let (lease, _) = &*self.0.lock().unwrap();
        lease.as_ref().unwrap()["spec"]["holderIdentity"].as_str().unwrap().to_owned()
    }

    /// Somebody writes an annotation.
    fn annotate(&self) {
        let (lease, writes) = &mut *self.0.lock().unwrap();
        *writes += 1;
        lease.as_mut().unwrap()["metadata"]["resourceVersion"] = json!(writes.to_string());
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_makes_the_lease_and_the_second_takes_over_what_was_given_back() {
    let kept = Kept::default();
    let server = kept.clone();
    let (client, log) = script::client(move |asked| server.answer(asked));
    let (a_known, b_known) = (Known::default(), Known::default());
    let (a_leads, mut a_leading) = watch::channel(false);
    let (b_leads, mut b_leading) = watch::channel(false);
    let mut a = Box::pin(run(client.clone(), config("a"), a_leads, &a_known));
    tokio::select! {
        never = &mut a => match never {},
        leads = a_leading.wait_for(|leads| *leads) => { leads.unwrap(); }
    }
    assert_eq!(script::lines(&log), [format!("GET {PATH}/braid-controller"), format!("POST {PATH}")]);
    let mut b = Box::pin(run(client.clone(), config("b"), b_leads, &b_known));
    tokio::select! {
        never = &mut a => match never {},
        never = &mut b => match never {},
        () = tokio::time::sleep(Duration::from_secs(60)) => {}
    }
    assert!(*a_leading.borrow() && !*b_leading.borrow());
    drop(a);
    assert!(release(client, &config("a")).await.unwrap());
    let begun = Instant::now();
    tokio::select! {
        never = &mut b => match never {},
        leads = b_leading.wait_for(|leads| *leads) => { leads.unwrap(); }
    }
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(kept.holder(), "b");
    let lease: Lease = serde_json::from_value(kept.0.lock().unwrap().0.clone().unwrap()).unwrap();
    assert_eq!(record(&lease).transitions, 1);
}

#[tokio::test(start_paused = true)]
async fn an_annotation_of_somebody_else_does_not_cost_the_lead() {
    let kept = Kept::default();
    let server = kept.clone();
    let (client, log) = script::client(move |asked| server.answer(asked));
    let known = Known::default();
    let (leads, mut leading) = watch::channel(false);
    let mut running = Box::pin(run(client, config("a"), leads, &known));
    tokio::select! {
        never = &mut running => match never {},
        leads = leading.wait_for(|leads| *leads) => { leads.unwrap(); }
    }
    kept.annotate();
    leading.mark_unchanged();
    tokio::select! {
        never = &mut running => match never {},
        () = tokio::time::sleep(Duration::from_secs(20)) => {}
    }
    assert!(!leading.has_changed().unwrap() && *leading.borrow());
    let writes = script::lines(&log).iter().filter(|line| line.starts_with("PUT")).count();
    assert!(writes >= 9, "{writes}");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_renew_stops_at_the_deadline() {
    let kept = Kept::default();
    let server = kept.clone();
    let broken = Arc::new(Mutex::new(false));
    let fails = broken.clone();
    let (client, _) = script::client(move |asked| {
        if *fails.lock().unwrap() { failure(500, "InternalError") } else { server.answer(asked) }
    });
    let known = Known::default();
    let (leads, mut leading) = watch::channel(false);
    let mut running = Box::pin(run(client, config("a"), leads, &known));
    tokio::select! {
        never = &mut running => match never {},
        leads = leading.wait_for(|leads| *leads) => { leads.unwrap(); }
    }
    let begun = Instant::now();
    *broken.lock().unwrap() = true;
    tokio::select! {
        never = &mut running => match never {},
        leads = leading.wait_for(|leads| !*leads) => { leads.unwrap(); }
    }
    let took = begun.elapsed();
    assert!(took <= Duration::from_millis(10_010), "{took:?}");
    assert!(known.look().problems.contains_key(RENEW));
    *broken.lock().unwrap() = false;
    tokio::select! {
        never = &mut running => match never {},
        leads = leading.wait_for(|leads| *leads) => { leads.unwrap(); }
    }
    assert!(known.look().problems.is_empty());
}

#[tokio::test(start_paused = true)]
async fn only_the_holder_gives_the_lease_back() {
    let kept = Kept::default();
    let server = kept.clone();
    let (client, log) = script::client(move |asked| server.answer(asked));
    assert!(!release(client.clone(), &config("a")).await.unwrap(), "there is none");
    let body = json!({"metadata": {"name": "braid-controller"}, "spec": {"holderIdentity": "b"}});
    kept.answer(&Asked { method: "POST".to_owned(), path: PATH.to_owned(), body });
    assert!(!release(client, &config("a")).await.unwrap());
    assert!(script::lines(&log).iter().all(|line| line.starts_with("GET")));
    assert_eq!(kept.holder(), "b");
}

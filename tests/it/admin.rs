//! /livez, /readyz, /metrics, Probe, and that the page of metrics is true.

use std::collections::BTreeSet;

use crate::cases::world::World;

pub async fn get(world: &World, path: &str) -> (u16, String) {
    let url = format!("http://{}{path}", world.stage.driver().unwrap().admin());
    let answer =
        reqwest::Client::builder().no_proxy().build().unwrap().get(url).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_driver_tells_how_it_is() {
    let world = World::fake().await;
    assert_eq!(get(&world, "/livez").await.0, 200);
    assert_eq!(get(&world, "/readyz").await.0, 200);
    assert!(world.kubelet().probe().await.unwrap());
    assert_eq!(world.kubelet().node_id().await.unwrap(), "demo-node");
    assert_eq!(get(&world, "/nothing").await.0, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_that_kubelet_has_not_registered_says_so() {
    let stage = keyhole::demo::stage::Stage::new(crate::cases::world::program()).unwrap();
    stage.configure("vaults: {main: {address: \"http://127.0.0.1:1\"}}").unwrap();
    let driver =
        keyhole::demo::driver::Driver::start(crate::cases::world::program(), &stage.flags())
            .unwrap();
    keyhole::vault::tls::install_crypto();
    let url = format!("http://{}/readyz", driver.admin());
    let answer =
        reqwest::Client::builder().no_proxy().build().unwrap().get(url).send().await.unwrap();
    assert_eq!(answer.status(), 503);
    let reasons = answer.text().await.unwrap();
    assert!(reasons.contains("registration: kubelet has not asked for us yet"), "{reasons}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_metric_is_served_and_documented() {
    let world = World::fake().await;
    let (volume, pod) = world.mounted(&[("f/secret", "{}-db/creds/app")]).await;
    world.cat(&pod, "f");
    assert!(std::fs::read(volume.target.join("f")).is_err());
    let (_, text) = get(&world, "/metrics").await;
    for line in [
        "keyhole_volumes 1",
        "keyhole_sessions 1",
        "keyhole_leases 1",
        "keyhole_opens_total{outcome=\"served\"} 1",
        "keyhole_opens_total{outcome=\"denied\"} 1",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    let served: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter_map(|rest| rest.split(' ').next())
        .collect();
    let page =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/METRICS.md")).unwrap();
    let documented: BTreeSet<&str> = page
        .split('`')
        .filter(|word| word.starts_with("keyhole_"))
        .map(|word| word.trim_end_matches("_total"))
        .collect();
    let served: BTreeSet<&str> =
        served.iter().map(|name| name.trim_end_matches("_total")).collect();
    assert_eq!(served, documented);
}

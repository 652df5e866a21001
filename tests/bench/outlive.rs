//! What it costs to outlive a driver: a restart with 250 volumes, and the memory of driver and keeper together.

use std::time::Instant;

use keyhole::csi::client::InlineVolume;
use tokio::task::JoinSet;

use crate::node::{Figures, Node, PARALLEL, status, volume};

/// Volumes, and secrets of each.
const VOLUMES: u32 = 250;
const SECRETS: u32 = 4;
/// Restarts that are measured.
const RESTARTS: usize = 5;

/// Opens a file of every volume. The gate refuses (we are not in the pods), and that is an answer of the server's.
fn all_answer(volumes: &[InlineVolume]) {
    for volume in volumes {
        let refused = std::fs::File::open(volume.target.join("f0")).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied, "{refused}");
    }
}

pub async fn measure() -> Figures {
    let mut node = crate::node::node().await;
    let keys: Vec<(String, String)> = (1..SECRETS)
        .flat_map(|at| {
            let (key, field) = (format!("f{at}/secret"), format!("f{at}/field"));
            [(key, format!("bench/s{at}")), (field, "v".to_owned())]
        })
        .chain([("onStart".to_owned(), "fetch".to_owned())])
        .collect();
    let keys: Vec<_> = keys.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let volumes: Vec<_> = (0..VOLUMES).map(|at| volume(&node, 3000 + at, &keys)).collect();
    let mut calls = JoinSet::new();
    for volume in &volumes {
        if calls.len() == PARALLEL {
            calls.join_next().await.unwrap().unwrap();
        }
        let (kubelet, volume) = (node.stage.kubelet().unwrap().clone(), volume.clone());
        calls.spawn(async move { kubelet.publish(&volume).await.unwrap() });
    }
    calls.join_all().await;
    all_answer(&volumes);
    let before = node.requests();
    let mut took = Vec::new();
    for _ in 0..RESTARTS {
        let began = Instant::now();
        node.stage.kill_driver();
        let driver = node.stage.spawn_driver(&[]).unwrap();
        let waiting = volumes.clone();
        tokio::task::spawn_blocking(move || all_answer(&waiting)).await.unwrap();
        took.push(began.elapsed().as_secs_f64() * 1000.0);
        node.stage.meet_when_ready(driver).await.unwrap();
    }
    let asked = node.requests() - before;
    let memory = |pid| status(pid, "VmRSS:") / 1024.0;
    let keeper = memory(node.stage.keeper().unwrap().pid());
    let driver = memory(node.stage.driver().unwrap().pid());
    let figures = vec![
        ("restart_250_ms".to_owned(), crate::reader::median(took)),
        ("restart_250_vault_requests".to_owned(), asked),
        ("rss_250_both_mib".to_owned(), keeper + driver),
    ];
    for volume in &volumes {
        node.stage.kubelet().unwrap().unpublish(&volume.id, &volume.target).await.unwrap();
    }
    figures
}

impl Node {
    /// Logins, questions about engines, and reads that Vault was asked.
    fn requests(&self) -> f64 {
        use keyhole::fake_vault::kind::Kind;
        let kinds = [Kind::Login, Kind::Mount, Kind::Secret, Kind::RenewToken];
        kinds.map(|kind| self.fake().count(kind) as f64).iter().sum()
    }
}

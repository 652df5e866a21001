//! The calls of a node over fake use cases: turns, bounds, texts.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use super::*;
use crate::csi::proto::csi_v1::node_server::Node as _;
use crate::volume::publish::{PublishRequest, UnpublishRequest};
use crate::volume::{PublishError, UnpublishError};

#[derive(Default)]
struct Slow {
    running: AtomicUsize,
    go: Notify,
}

#[async_trait::async_trait]
impl Volumes for Slow {
    async fn publish(&self, request: PublishRequest) -> Result<(), PublishError> {
        if request.attributes.contains_key("role") {
            self.running.fetch_add(1, Ordering::SeqCst);
            self.go.notified().await;
            return Ok(());
        }
        Err(PublishError::Refused("role \"app\" is bound to nobody".into()))
    }

    async fn unpublish(&self, _: UnpublishRequest) -> Result<(), UnpublishError> {
        Ok(())
    }
}

fn request(attributes: &[(&str, &str)]) -> Request<wire::NodePublishVolumeRequest> {
    let pod = [
        ("csi.storage.k8s.io/pod.uid", "u"),
        ("csi.storage.k8s.io/pod.name", "shop-1"),
        ("csi.storage.k8s.io/pod.namespace", "shop"),
        ("csi.storage.k8s.io/serviceAccount.name", "app"),
    ];
    let mount = wire::volume_capability::AccessType::Mount(Default::default());
    Request::new(wire::NodePublishVolumeRequest {
        volume_id: "csi-1".into(),
        target_path: "/k/pods/u/mount".into(),
        readonly: true,
        volume_capability: Some(wire::VolumeCapability {
            access_type: Some(mount),
            access_mode: None,
        }),
        volume_context: pod
            .iter()
            .chain(attributes)
            .map(|(key, value)| ((*key).into(), (*value).into()))
            .collect(),
        ..Default::default()
    })
}

#[tokio::test(start_paused = true)]
async fn of_fifty_calls_for_one_volume_one_runs_and_the_rest_are_aborted() {
    let volumes = Arc::new(Slow::default());
    let node = Arc::new(Node::new(
        "node-1".into(),
        Arc::clone(&volumes) as Arc<dyn Volumes>,
        Metrics::new(),
    ));
    let calls: Vec<_> = (0..50)
        .map(|_| {
            let node = Arc::clone(&node);
            tokio::spawn(async move { node.node_publish_volume(request(&[("role", "app")])).await })
        })
        .collect();
    while volumes.running.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
    volumes.go.notify_one();
    let mut codes = Vec::new();
    for call in calls {
        codes.push(call.await.unwrap().map_or_else(|status| status.code(), |_| tonic::Code::Ok));
    }
    assert_eq!(codes.iter().filter(|code| **code == tonic::Code::Ok).count(), 1);
    assert_eq!(codes.iter().filter(|code| **code == tonic::Code::Aborted).count(), 49);
    assert_eq!(volumes.running.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_takes_too_long_is_answered_and_its_work_goes_on() {
    let volumes = Arc::new(Slow::default());
    let node = Node::new("n".into(), Arc::clone(&volumes) as Arc<dyn Volumes>, Metrics::new());
    let began = tokio::time::Instant::now();
    let status = node.node_publish_volume(request(&[("role", "app")])).await.err().unwrap();
    assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
    assert!(began.elapsed() < Duration::from_secs(10), "kubelet waited {:?}", began.elapsed());
    let again = node.node_publish_volume(request(&[("role", "app")])).await.err().unwrap();
    assert_eq!(again.code(), tonic::Code::Aborted, "the first one still has its turn");
    volumes.go.notify_one();
    while node.in_flight.begin("csi-1").is_none() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_text_of_a_refusal_arrives() {
    let node = Node::new("n".into(), Arc::new(Slow::default()), Metrics::new());
    let status = node.node_publish_volume(request(&[])).await.err().unwrap();
    assert_eq!(
        (status.code(), status.message()),
        (tonic::Code::PermissionDenied, "role \"app\" is bound to nobody")
    );
}

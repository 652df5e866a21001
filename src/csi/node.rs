//! CSI Node: each call is parse -> use case -> status, and is answered within the bound.
//!
//! See [`Node::bounded`] first. The work runs in a task of its own and keeps its turn until it ends:
//! when kubelet's wait is over, or kubelet goes away, the work goes on, and the next call for that
//! volume is ABORTED until it is done.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tonic::{Request, Response, Status};

use crate::csi::inflight::{InFlight, Turn};
use crate::csi::proto::csi_v1 as wire;
use crate::csi::proto::csi_v1::node_service_capability::rpc::Type as Capability;
use crate::csi::proto::csi_v1::node_service_capability::{Rpc, Type};
use crate::csi::{request, status};
use crate::telemetry::metrics::Metrics;
use crate::volume::publish::Volumes;

/// How long kubelet waits for any call; its own limit is 2 minutes, and it works on few at a time.
const BOUND: Duration = Duration::from_millis(9500);

/// Serves kubelet's calls about volumes.
pub struct Node {
    node_id: String,
    volumes: Arc<dyn Volumes>,
    in_flight: InFlight,
    metrics: Metrics,
}

impl Node {
    /// No call is under way yet.
    pub fn new(node_id: String, volumes: Arc<dyn Volumes>, metrics: Metrics) -> Self {
        Self { node_id, volumes, in_flight: InFlight::default(), metrics }
    }

    /// Runs `work` on its own task with this volume's `turn`, and waits for it up to the bound.
    async fn bounded(
        &self,
        method: &'static str,
        turn: Option<Turn>,
        volume: &str,
        work: impl Future<Output = Result<(), Status>> + Send + 'static,
    ) -> Result<(), Status> {
        let began = tokio::time::Instant::now();
        let outcome = match turn {
            None => Err(status::in_flight(volume)),
            Some(turn) => {
                let task = tokio::spawn(async move {
                    let outcome = work.await;
                    drop(turn);
                    outcome
                });
                match tokio::time::timeout(BOUND, task).await {
                    Ok(Ok(outcome)) => outcome,
                    Ok(Err(_)) => Err(status::died()),
                    Err(_) => Err(status::still_under_way()),
                }
            }
        };
        let code = outcome.as_ref().err().map_or(tonic::Code::Ok, Status::code);
        self.metrics.csi_operation(method, code_name(code), began.elapsed());
        if let Err(status) = &outcome {
            tracing::warn!(
                method,
                volume,
                code = code_name(code),
                reason = status.message(),
                "refused"
            );
        }
        outcome
    }
}

#[tonic::async_trait]
impl wire::node_server::Node for Node {
    async fn node_publish_volume(
        &self,
        request: Request<wire::NodePublishVolumeRequest>,
    ) -> Result<Response<wire::NodePublishVolumeResponse>, Status> {
        let request = request::publish(request.into_inner()).map_err(status::invalid)?;
        let (volumes, id) = (Arc::clone(&self.volumes), request.volume_id.clone());
        let work =
            async move { volumes.publish(request).await.map_err(|error| status::publish(&error)) };
        self.bounded("NodePublishVolume", self.in_flight.begin(&id), &id, work).await?;
        Ok(Response::new(wire::NodePublishVolumeResponse {}))
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<wire::NodeUnpublishVolumeRequest>,
    ) -> Result<Response<wire::NodeUnpublishVolumeResponse>, Status> {
        let request = request::unpublish(request.into_inner()).map_err(status::invalid)?;
        let (volumes, id) = (Arc::clone(&self.volumes), request.volume_id.clone());
        let work = async move {
            volumes.unpublish(request).await.map_err(|error| status::unpublish(&error))
        };
        self.bounded("NodeUnpublishVolume", self.in_flight.begin(&id), &id, work).await?;
        Ok(Response::new(wire::NodeUnpublishVolumeResponse {}))
    }

    async fn node_get_capabilities(
        &self,
        _: Request<wire::NodeGetCapabilitiesRequest>,
    ) -> Result<Response<wire::NodeGetCapabilitiesResponse>, Status> {
        // VOLUME_MOUNT_GROUP: kubelet passes fsGroup instead of walking the volume.
        let rpc = Rpc { r#type: Capability::VolumeMountGroup.into() };
        Ok(Response::new(wire::NodeGetCapabilitiesResponse {
            capabilities: vec![wire::NodeServiceCapability { r#type: Some(Type::Rpc(rpc)) }],
        }))
    }

    async fn node_get_info(
        &self,
        _: Request<wire::NodeGetInfoRequest>,
    ) -> Result<Response<wire::NodeGetInfoResponse>, Status> {
        Ok(Response::new(wire::NodeGetInfoResponse { node_id: self.node_id.clone() }))
    }
}

/// The code's name in the gRPC specification, for labels and logs.
fn code_name(code: tonic::Code) -> &'static str {
    match code {
        tonic::Code::Ok => "OK",
        tonic::Code::Cancelled => "CANCELLED",
        tonic::Code::Unknown => "UNKNOWN",
        tonic::Code::InvalidArgument => "INVALID_ARGUMENT",
        tonic::Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        tonic::Code::NotFound => "NOT_FOUND",
        tonic::Code::AlreadyExists => "ALREADY_EXISTS",
        tonic::Code::PermissionDenied => "PERMISSION_DENIED",
        tonic::Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        tonic::Code::FailedPrecondition => "FAILED_PRECONDITION",
        tonic::Code::Aborted => "ABORTED",
        tonic::Code::OutOfRange => "OUT_OF_RANGE",
        tonic::Code::Unimplemented => "UNIMPLEMENTED",
        tonic::Code::Internal => "INTERNAL",
        tonic::Code::Unavailable => "UNAVAILABLE",
        tonic::Code::DataLoss => "DATA_LOSS",
        tonic::Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
#[path = "node/tests.rs"]
mod tests;

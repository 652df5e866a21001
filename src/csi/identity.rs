//! CSI Identity: who we are, and whether we are ready. Probe tells the truth of `admin::readiness`.

use tonic::{Request, Response, Status};

use crate::admin::readiness::Readiness;
use crate::csi::Options;
use crate::csi::proto::csi_v1 as wire;

/// Answers kubelet's questions about the plugin.
pub struct Identity {
    name: String,
    version: String,
    readiness: Readiness,
}

impl Identity {
    /// As `options` say.
    pub fn new(options: &Options, readiness: Readiness) -> Self {
        Self { name: options.driver_name.clone(), version: options.version.clone(), readiness }
    }
}

#[tonic::async_trait]
impl wire::identity_server::Identity for Identity {
    async fn get_plugin_info(
        &self,
        _: Request<wire::GetPluginInfoRequest>,
    ) -> Result<Response<wire::GetPluginInfoResponse>, Status> {
        Ok(Response::new(wire::GetPluginInfoResponse {
            name: self.name.clone(),
            vendor_version: self.version.clone(),
        }))
    }

    async fn get_plugin_capabilities(
        &self,
        _: Request<wire::GetPluginCapabilitiesRequest>,
    ) -> Result<Response<wire::GetPluginCapabilitiesResponse>, Status> {
        Ok(Response::new(wire::GetPluginCapabilitiesResponse::default()))
    }

    async fn probe(
        &self,
        _: Request<wire::ProbeRequest>,
    ) -> Result<Response<wire::ProbeResponse>, Status> {
        // Not being registered yet is no reason: kubelet asks during registration.
        let ready = self.readiness.check_but("registration").is_ok();
        Ok(Response::new(wire::ProbeResponse { ready: Some(ready) }))
    }
}

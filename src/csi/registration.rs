//! The plugin registers itself with kubelet: no sidecar.
//!
//! See [`serve`] first. Kubelet watches its registration directory, dials each socket in it, asks
//! GetInfo, then tells how it went. When it refuses, the reason becomes a reason for not being ready,
//! and the socket is made anew after a while, because kubelet asks only sockets that are new to it.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use crate::admin::readiness::{Condition, Readiness};
use crate::csi::Options;
use crate::csi::proto::pluginregistration as wire;
use crate::csi::proto::pluginregistration::registration_server::RegistrationServer;
use crate::csi::socket::PrivateSocket;

/// The CSI versions we serve, as kubelet's validation reads them.
const SUPPORTED: &str = "1.0.0";
/// The first and the longest wait before asking kubelet again.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

struct Registration {
    options: Options,
    condition: Condition,
    refused: mpsc::Sender<()>,
}

#[tonic::async_trait]
impl wire::registration_server::Registration for Registration {
    async fn get_info(
        &self,
        _: Request<wire::InfoRequest>,
    ) -> Result<Response<wire::PluginInfo>, Status> {
        Ok(Response::new(wire::PluginInfo {
            r#type: "CSIPlugin".to_owned(),
            name: self.options.driver_name.clone(),
            endpoint: self.options.socket.display().to_string(),
            supported_versions: vec![SUPPORTED.to_owned()],
        }))
    }

    async fn notify_registration_status(
        &self,
        status: Request<wire::RegistrationStatus>,
    ) -> Result<Response<wire::RegistrationStatusResponse>, Status> {
        let status = status.into_inner();
        if status.plugin_registered {
            tracing::info!("registered with kubelet");
            self.condition.ok();
        } else {
            tracing::error!(reason = status.error, "kubelet refused the registration");
            self.condition.failing(&format!("kubelet refused it: {}", status.error));
            // A full queue means that it is known already.
            let _ = self.refused.try_send(());
        }
        Ok(Response::new(wire::RegistrationStatusResponse {}))
    }
}

/// Serves the registration socket until `stop`; does nothing without a registration directory.
pub(super) async fn serve(
    options: Options,
    readiness: Readiness,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let Some(directory) = options.registration_dir.clone() else {
        stop.cancelled().await;
        return Ok(());
    };
    let condition = readiness.condition("registration", "kubelet has not asked for us yet");
    let path = directory.join(format!("{}-reg.sock", options.driver_name));
    let mut wait = RETRY.0;
    loop {
        let socket = PrivateSocket::bind(&path)?;
        let (refused, mut refusals) = mpsc::channel(1);
        let service =
            Registration { options: options.clone(), condition: condition.clone(), refused };
        let end = stop.child_token();
        let server = Server::builder()
            .add_service(RegistrationServer::new(service))
            .serve_with_incoming_shutdown(socket.incoming()?, end.clone().cancelled_owned());
        tracing::info!(socket = %path.display(), "kubelet may register us");
        let server = tokio::spawn(server);
        tokio::select! {
            () = stop.cancelled() => {}
            Some(()) = refusals.recv() => tokio::time::sleep(wait).await,
        }
        end.cancel();
        if let Ok(Err(error)) = server.await {
            return Err(std::io::Error::other(error));
        }
        if stop.is_cancelled() {
            return Ok(());
        }
        wait = (wait * 2).min(RETRY.1);
    }
}

/// The service alone, for a test that plays kubelet without sockets.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::csi::proto::pluginregistration::registration_server::Registration as _;

    #[tokio::test]
    async fn kubelet_learns_the_endpoint_and_its_refusal_is_a_reason() {
        let readiness = Readiness::new();
        let (refused, mut refusals) = mpsc::channel(1);
        let service = Registration {
            options: Options {
                driver_name: "csi.keyhole.dev".into(),
                version: "1".into(),
                node_id: "n".into(),
                socket: "/var/lib/kubelet/plugins/csi.keyhole.dev/csi.sock".into(),
                registration_dir: None,
            },
            condition: readiness.condition("registration", "not asked"),
            refused,
        };
        let info =
            service.get_info(Request::new(wire::InfoRequest {})).await.ok().unwrap().into_inner();
        assert_eq!(info.r#type, "CSIPlugin");
        assert_eq!(info.endpoint, "/var/lib/kubelet/plugins/csi.keyhole.dev/csi.sock");
        assert_eq!(info.supported_versions, ["1.0.0"]);

        let status = |plugin_registered, error: &str| {
            Request::new(wire::RegistrationStatus { plugin_registered, error: error.into() })
        };
        assert!(readiness.check().is_err());
        drop(service.notify_registration_status(status(false, "name taken")).await);
        assert_eq!(
            readiness.check(),
            Err(vec!["registration: kubelet refused it: name taken".into()])
        );
        assert!(refusals.try_recv().is_ok());
        drop(service.notify_registration_status(status(true, "")).await);
        assert_eq!(readiness.check(), Ok(()));
    }
}

//! Kubelet's side: CSI Identity and Node, and the plugin's own registration, over Unix sockets.
//!
//! See [`serve`] first, then [`node`], where each call is parse -> use case -> status. Not served: the
//! Controller (volumes are inline), staging, statistics (kubelet would stat every volume) and expansion.

pub mod client;
pub mod identity;
mod inflight;
pub mod node;
pub mod proto;
pub mod registration;
mod request;
mod socket;
mod status;

use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::admin::readiness::Readiness;
use crate::csi::proto::csi_v1::identity_server::IdentityServer;
use crate::csi::proto::csi_v1::node_server::NodeServer;
use crate::csi::socket::PrivateSocket;
use crate::telemetry::metrics::Metrics;
use crate::volume::publish::Volumes;

/// The largest message taken: tokens, 64 KiB of attributes, and room.
const MAX_MESSAGE: usize = 4 * 1024 * 1024;

/// How the driver presents itself to kubelet.
#[derive(Clone, Debug)]
pub struct Options {
    /// The driver's name.
    pub driver_name: String,
    /// The driver's version.
    pub version: String,
    /// Name of the node, as in its Node object.
    pub node_id: String,
    /// Where kubelet finds the CSI socket.
    pub socket: PathBuf,
    /// Kubelet's plugin directory; `None` when somebody else registers the driver.
    pub registration_dir: Option<PathBuf>,
}

/// Serves kubelet until `stop`.
///
/// # Errors
/// A socket cannot be made, or the server failed.
pub async fn serve(
    options: Options,
    volumes: Arc<dyn Volumes>,
    readiness: Readiness,
    metrics: Metrics,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let starting = readiness.latch("CSI socket");
    let socket = PrivateSocket::bind(&options.socket)?;
    let identity = identity::Identity::new(&options, readiness.clone());
    let node = node::Node::new(options.node_id.clone(), volumes, metrics);
    let server = Server::builder()
        .add_service(IdentityServer::new(identity).max_decoding_message_size(MAX_MESSAGE))
        .add_service(NodeServer::new(node).max_decoding_message_size(MAX_MESSAGE))
        .serve_with_incoming_shutdown(socket.incoming()?, stop.clone().cancelled_owned());
    tracing::info!(socket = %options.socket.display(), "CSI is served");
    drop(starting);
    let registration = registration::serve(options, readiness, stop.clone());
    let (served, registered) = tokio::join!(server, registration);
    registered?;
    served.map_err(std::io::Error::other)
}

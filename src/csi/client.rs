//! [`Kubelet`]: kubelet's end of the sockets, for the demo, the tests and the bench.
//!
//! It fills requests in as kubelet does for an inline volume; a test that wants a wrong one takes
//! [`publish_request`] and spoils it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::csi::proto::csi_v1 as wire;
use crate::csi::proto::csi_v1::identity_client::IdentityClient;
use crate::csi::proto::csi_v1::node_client::NodeClient;
use crate::csi::proto::csi_v1::volume_capability::{
    AccessMode, AccessType, MountVolume, access_mode,
};
use crate::csi::proto::pluginregistration as registration;
use crate::csi::proto::pluginregistration::registration_client::RegistrationClient;
use crate::csi::request::TOKENS;
use crate::identity::pod::PodRef;

/// An inline volume, as kubelet knows it.
#[derive(Clone)]
pub struct InlineVolume {
    /// Kubelet's id for it.
    pub id: String,
    /// Where it wants it.
    pub target: PathBuf,
    /// Whose it is.
    pub pod: PodRef,
    /// `volumeAttributes` of the pod.
    pub attributes: HashMap<String, String>,
    /// Tokens by audience, and when each expires (RFC 3339).
    pub tokens: HashMap<String, (String, String)>,
    /// fsGroup of the pod.
    pub group: Option<u32>,
}

/// What the driver answered instead of OK: what kubelet writes into the pod's event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rpc error: code = {code:?} desc = {message}")]
pub struct Refusal {
    /// gRPC's code.
    pub code: Code,
    /// The text.
    pub message: String,
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self { code: status.code(), message: status.message().to_owned() }
    }
}

/// Kubelet, as the driver meets it.
#[derive(Clone)]
pub struct Kubelet {
    node: NodeClient<Channel>,
    identity: IdentityClient<Channel>,
}

async fn connect(socket: &Path) -> Result<Channel, tonic::transport::Error> {
    let socket = socket.to_owned();
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    // The address is not used: the connector knows the socket.
    Endpoint::from_static("http://localhost").connect_with_connector(connector).await
}

impl Kubelet {
    /// Connects to the CSI socket.
    ///
    /// # Errors
    /// Nobody listens there.
    pub async fn connect(socket: &Path) -> Result<Self, tonic::transport::Error> {
        let channel = connect(socket).await?;
        Ok(Self { node: NodeClient::new(channel.clone()), identity: IdentityClient::new(channel) })
    }

    /// Finds out about a plugin at its registration socket and tells it that it is registered.
    /// Returns the plugin's name and its CSI socket.
    ///
    /// # Errors
    /// The plugin did not answer as it must.
    pub async fn register(socket: &Path) -> Result<(String, PathBuf), Refusal> {
        let channel = connect(socket)
            .await
            .map_err(|error| Refusal { code: Code::Unavailable, message: error.to_string() })?;
        let mut client = RegistrationClient::new(channel);
        let info = client.get_info(registration::InfoRequest {}).await?.into_inner();
        let status =
            registration::RegistrationStatus { plugin_registered: true, error: String::new() };
        client.notify_registration_status(status).await?;
        Ok((info.name, info.endpoint.into()))
    }

    /// NodePublishVolume; kubelet sends it again every so often (`requiresRepublish`).
    ///
    /// # Errors
    /// What the pod's event would show.
    pub async fn publish(&self, volume: &InlineVolume) -> Result<(), Refusal> {
        self.publish_raw(publish_request(volume)).await
    }

    /// NodePublishVolume with a request of one's own.
    ///
    /// # Errors
    /// What the pod's event would show.
    pub async fn publish_raw(
        &self,
        request: wire::NodePublishVolumeRequest,
    ) -> Result<(), Refusal> {
        Ok(self.node.clone().node_publish_volume(request).await.map(drop)?)
    }

    /// NodeUnpublishVolume.
    ///
    /// # Errors
    /// What kubelet would log.
    pub async fn unpublish(&self, id: &str, target: &Path) -> Result<(), Refusal> {
        let request = wire::NodeUnpublishVolumeRequest {
            volume_id: id.to_owned(),
            target_path: target.to_string_lossy().into_owned(),
        };
        Ok(self.node.clone().node_unpublish_volume(request).await.map(drop)?)
    }

    /// Probe: whether the driver is ready.
    ///
    /// # Errors
    /// It did not answer.
    pub async fn probe(&self) -> Result<bool, Refusal> {
        let answer = self.identity.clone().probe(wire::ProbeRequest {}).await?.into_inner();
        Ok(answer.ready.unwrap_or(true))
    }

    /// NodeGetInfo: the node's name.
    ///
    /// # Errors
    /// It did not answer.
    pub async fn node_id(&self) -> Result<String, Refusal> {
        let answer = self.node.clone().node_get_info(wire::NodeGetInfoRequest {}).await?;
        Ok(answer.into_inner().node_id)
    }
}

/// The request that kubelet would send.
pub fn publish_request(volume: &InlineVolume) -> wire::NodePublishVolumeRequest {
    let mut context = volume.attributes.clone();
    let pod = &volume.pod;
    for (key, value) in [
        ("pod.name", pod.name.as_str()),
        ("pod.namespace", &pod.namespace),
        ("pod.uid", pod.uid.as_str()),
        ("serviceAccount.name", &pod.service_account),
        ("ephemeral", "true"),
    ] {
        context.insert(format!("csi.storage.k8s.io/{key}"), value.to_owned());
    }
    let tokens: serde_json::Map<_, _> = volume
        .tokens
        .iter()
        .map(|(audience, (token, expires))| {
            let token = serde_json::json!({ "token": token, "expirationTimestamp": expires });
            (audience.clone(), token)
        })
        .collect();
    let mount = MountVolume {
        volume_mount_group: volume.group.map(|gid| gid.to_string()).unwrap_or_default(),
        ..MountVolume::default()
    };
    wire::NodePublishVolumeRequest {
        volume_id: volume.id.clone(),
        target_path: volume.target.to_string_lossy().into_owned(),
        volume_capability: Some(wire::VolumeCapability {
            access_type: Some(AccessType::Mount(mount)),
            access_mode: Some(AccessMode { mode: access_mode::Mode::SingleNodeWriter.into() }),
        }),
        readonly: true,
        secrets: HashMap::from([(
            TOKENS.to_owned(),
            serde_json::Value::Object(tokens).to_string(),
        )]),
        volume_context: context,
        ..wire::NodePublishVolumeRequest::default()
    }
}

//! Whether a pod may have the volume that it asks for, before Vault is asked: the configuration's word, kubelet's
//! token, and what the login is filed under. Pure.

use crate::config::Config;
use crate::config::globs::matches;
use crate::identity::pod::PodRef;
use crate::identity::session::SessionKey;
use crate::spec::VolumeSpec;
use crate::volume::PublishError;
use crate::volume::publish::PublishRequest;

/// Whether the driver's configuration lets this pod use this connection with this role.
pub(super) fn admit(
    config: &Config,
    spec: &VolumeSpec,
    request: &PublishRequest,
) -> Result<(), PublishError> {
    let Some(connection) = config.connection(&spec.connection) else {
        return Err(PublishError::NotReady(format!(
            "the driver's configuration has no Vault connection {:?}; it has {}",
            spec.connection,
            config.vaults.keys().cloned().collect::<Vec<_>>().join(", ")
        )));
    };
    let allowed = |globs: &[String], name: &str| globs.is_empty() || matches(globs, name);
    if !allowed(&connection.allowed_namespaces, &request.pod.namespace) {
        return Err(PublishError::NotAllowed(format!(
            "pods of namespace {:?} may not use the Vault connection {:?}: the driver's configuration (vaults.{}.allowedNamespaces) allows {}",
            request.pod.namespace,
            spec.connection,
            spec.connection,
            connection.allowed_namespaces.join(", ")
        )));
    }
    if !allowed(&connection.allowed_roles, &spec.role) {
        return Err(PublishError::NotAllowed(format!(
            "role {:?} may not be used over the Vault connection {:?}: the driver's configuration (vaults.{}.allowedRoles) allows {}",
            spec.role,
            spec.connection,
            spec.connection,
            connection.allowed_roles.join(", ")
        )));
    }
    Ok(())
}

/// Kubelet's token of the audience that the volume names.
pub(super) fn token(
    spec: &VolumeSpec,
    request: &PublishRequest,
    wall: std::time::SystemTime,
) -> Result<crate::identity::token::ServiceAccountToken, PublishError> {
    let Some(token) = request.tokens.audience(&spec.audience) else {
        let had = request.tokens.audiences();
        let had = if had.is_empty() { "none".to_owned() } else { had.join(", ") };
        return Err(PublishError::NotReady(format!(
            "kubelet sent no service-account token for audience {:?} (it sent: {had}); list the audience in tokenRequests of the CSIDriver object, or name one of those in the volume's attribute `audience`",
            spec.audience
        )));
    };
    if token.expires <= wall {
        return Err(PublishError::NotReady(format!(
            "the service-account token for audience {:?} that kubelet sent has expired; kubelet sends a new one with its next try (is the node's clock right?)",
            spec.audience
        )));
    }
    Ok(token)
}

pub(super) fn session_key(spec: &VolumeSpec, pod: &PodRef) -> SessionKey {
    SessionKey {
        pod: pod.clone(),
        connection: spec.connection.clone(),
        namespace: spec.namespace.clone(),
        auth_method: spec.auth_method,
        auth_path: spec.auth_path.clone(),
        role: spec.role.clone(),
        audience: spec.audience.clone(),
    }
}

//! Sentences for people: what Vault refused, for whom, and what to do about it.
//!
//! See [`definite_no`] first: which refusals of a login stop the pod. The kubernetes auth method
//! answers a bare `permission denied` for any failure of its TokenReview call, so that one is no
//! definite no; neither is anything that passes by itself.
//! <https://developer.hashicorp.com/vault/api-docs/auth/kubernetes#login>

use crate::identity::session::{AuthMethod, SessionKey};
use crate::lease::FetchError;
use crate::secret::store::StoreError;

/// What Vault says, as a part of its text, when the role does not fit the pod's identity.
const NOT_AUTHORIZED: [&str; 8] = [
    "service account name not authorized",
    "namespace not authorized",
    "audience",
    "invalid role name",
    "could not be found",
    "claim",
    "subject",
    "no handler for route",
];

/// Whether this failure of a login is Vault's considered no: the same pod would be refused again.
pub(super) fn definite_no(error: &FetchError) -> bool {
    let FetchError::Login { error } = error else {
        return false;
    };
    match error {
        StoreError::BadRequest { .. } => true,
        StoreError::Denied { said } | StoreError::Missing { said } => {
            NOT_AUTHORIZED.iter().any(|part| said.contains(part))
        }
        StoreError::Lagging { .. }
        | StoreError::Throttled { .. }
        | StoreError::Sealed { .. }
        | StoreError::Failed { .. }
        | StoreError::Unreachable { .. }
        | StoreError::Broken { .. }
        | StoreError::Timeout { .. }
        | StoreError::Tls { .. }
        | StoreError::Malformed { .. }
        | StoreError::TooLarge { .. } => false,
    }
}

/// The whole sentence for a login that was refused: who, where, what Vault said, the cure.
pub(super) fn login(key: &SessionKey, error: &FetchError) -> String {
    format!(
        "login of service account {}/{} with role {:?} at auth/{} of connection {:?}{} failed: {error}. {}",
        key.pod.namespace,
        key.pod.service_account,
        key.role,
        key.auth_path,
        key.connection,
        in_namespace(key),
        cure(key, error),
    )
}

/// The whole sentence for a secret that was refused.
pub(super) fn read(key: &SessionKey, error: &FetchError) -> String {
    match error {
        FetchError::Login { .. } => login(key, error),
        FetchError::Read { error: StoreError::Denied { .. }, path } => format!(
            "{error} (role {:?}, service account {}/{}, connection {:?}{}). Allow it in a policy of the role: path {path:?} {{ capabilities = [\"read\"] }}",
            key.role,
            key.pod.namespace,
            key.pod.service_account,
            key.connection,
            in_namespace(key),
        ),
        FetchError::Read { .. }
        | FetchError::NoToken { .. }
        | FetchError::NoConnection { .. }
        | FetchError::Deadline { .. }
        | FetchError::Superseded
        | FetchError::Ended => {
            format!(
                "{error} (role {:?}, connection {:?}{})",
                key.role,
                key.connection,
                in_namespace(key)
            )
        }
    }
}

fn in_namespace(key: &SessionKey) -> String {
    if key.namespace.is_empty() {
        String::new()
    } else {
        format!(" in Vault namespace {:?}", key.namespace)
    }
}

fn cure(key: &SessionKey, error: &FetchError) -> String {
    let FetchError::Login { error } = error else {
        return "The pod's files wait for Vault".to_owned();
    };
    let role = format!("auth/{}/role/{}", key.auth_path, key.role);
    match error {
        StoreError::BadRequest { .. } if key.auth_method == AuthMethod::Jwt => format!(
            "Does the role exist and does it accept the token? See: vault read {role} (bound_audiences must hold {:?}, bound_subject system:serviceaccount:{}:{})",
            key.audience, key.pod.namespace, key.pod.service_account,
        ),
        StoreError::BadRequest { .. } => format!(
            "Create the role, or name another in the volume's attribute `role`: vault write {role} bound_service_account_names={} bound_service_account_namespaces={} audience={} token_policies=…",
            key.pod.service_account, key.pod.namespace, key.audience,
        ),
        StoreError::Missing { .. } => format!(
            "Is an auth method enabled at auth/{}? Name its path in the volume's attribute `authPath` or in the driver's configuration",
            key.auth_path,
        ),
        StoreError::Denied { said } if said.contains("audience") => format!(
            "The role wants another audience than {:?}: set it in the role ({role}) or in the volume's attribute `audience`",
            key.audience,
        ),
        StoreError::Denied { .. } => format!(
            "Bind the role to this service account: vault write {role} bound_service_account_names={} bound_service_account_namespaces={} (the pod's serviceAccountName says which one it runs as); if they fit, Vault could not ask the cluster (TokenReview)",
            key.pod.service_account, key.pod.namespace,
        ),
        StoreError::Tls { .. } => {
            "The driver's configuration (caFile, tlsServerName, clientCertFile) must fit Vault's certificate".to_owned()
        }
        StoreError::Lagging { .. }
        | StoreError::Throttled { .. }
        | StoreError::Sealed { .. }
        | StoreError::Failed { .. }
        | StoreError::Unreachable { .. }
        | StoreError::Broken { .. }
        | StoreError::Timeout { .. }
        | StoreError::Malformed { .. }
        | StoreError::TooLarge { .. } => "The pod's files wait for Vault".to_owned(),
    }
}

/// What was tried last, when a budget ended before it succeeded.
pub(super) fn innermost(error: &FetchError) -> &FetchError {
    match error {
        FetchError::Deadline { last: Some(last) } => innermost(last),
        FetchError::Login { .. }
        | FetchError::Read { .. }
        | FetchError::NoToken { .. }
        | FetchError::NoConnection { .. }
        | FetchError::Deadline { last: None }
        | FetchError::Superseded
        | FetchError::Ended => error,
    }
}

/// Whether Vault refused a read for a reason that only a person can change.
pub(super) fn refused(error: &FetchError) -> bool {
    matches!(error, FetchError::Read { error, .. } if !error.passes())
}

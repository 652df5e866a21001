//! From the wire to typed requests, every mistake at once; here the tokens leave the maps.
//!
//! See [`publish`] first. What it takes out of the request it wipes; what it hands on cannot be printed.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use crate::csi::proto::csi_v1 as wire;
use crate::csi::proto::csi_v1::volume_capability::AccessType;
use crate::identity::pod::{PodRef, PodUid};
use crate::identity::token::ServiceAccountTokens;
use crate::redact::SecretText;
use crate::spec::mistake::Mistake;
use crate::volume::publish::{PublishRequest, UnpublishRequest};

/// Where kubelet puts the tokens: in `secrets` since Kubernetes 1.35, else in `volume_context`.
/// <https://kubernetes-csi.github.io/docs/token-requests.html>
pub(super) const TOKENS: &str = "csi.storage.k8s.io/serviceAccount.tokens";
/// The most bytes that all attributes of a volume may have.
const MAX_ATTRIBUTES: usize = 64 * 1024;

/// Reads a NodePublishVolume request.
pub(super) fn publish(
    mut request: wire::NodePublishVolumeRequest,
) -> Result<PublishRequest, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    let tokens = tokens(&mut request, &mut mistakes);
    let volume_id = volume_id(request.volume_id, &mut mistakes);
    let target = target(&request.target_path, &mut mistakes);
    let group = group(request.volume_capability.as_ref(), &mut mistakes);
    if !request.readonly {
        mistakes.push(mistake(
            "readOnly",
            "must be true: else kubelet walks the volume to change owners and labels",
            "write `readOnly: true` beside `driver:` in the pod's volume",
        ));
    }
    let attributes: BTreeMap<String, String> = request.volume_context.into_iter().collect();
    let size: usize = attributes.iter().map(|(key, value)| key.len() + value.len()).sum();
    if size > MAX_ATTRIBUTES {
        mistakes.push(mistake(
            "volumeAttributes",
            &format!("{size} bytes are more than the {MAX_ATTRIBUTES} that are allowed"),
            "split the volume in two",
        ));
    }
    if attributes.get("csi.storage.k8s.io/ephemeral").is_some_and(|value| value != "true") {
        mistakes.push(mistake(
            "csi.storage.k8s.io/ephemeral",
            "this driver serves inline volumes only",
            "name the driver under `csi:` in the pod's own volumes",
        ));
    }
    let pod = pod(&attributes, &mut mistakes);
    match (mistakes.is_empty(), volume_id, target, pod) {
        (true, Some(volume_id), Some(target), Some(pod)) => {
            Ok(PublishRequest { volume_id, target, pod, attributes, tokens, group })
        }
        _ => Err(mistakes),
    }
}

/// Reads a NodeUnpublishVolume request.
pub(super) fn unpublish(
    request: wire::NodeUnpublishVolumeRequest,
) -> Result<UnpublishRequest, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    let volume_id = volume_id(request.volume_id, &mut mistakes);
    let target = target(&request.target_path, &mut mistakes);
    match (volume_id, target) {
        (Some(volume_id), Some(target)) => Ok(UnpublishRequest { volume_id, target }),
        _ => Err(mistakes),
    }
}

/// Takes the tokens out of both maps; `secrets` wins. Whatever else is a secret there is wiped.
fn tokens(
    request: &mut wire::NodePublishVolumeRequest,
    mistakes: &mut Vec<Mistake>,
) -> ServiceAccountTokens {
    let take = |map: &mut HashMap<String, String>| map.remove(TOKENS).map(SecretText::new);
    let (first, second) = (take(&mut request.secrets), take(&mut request.volume_context));
    for (_, secret) in request.secrets.drain() {
        drop(SecretText::new(secret));
    }
    let Some(json) = first.or(second) else {
        return ServiceAccountTokens::none();
    };
    ServiceAccountTokens::parse(&json).unwrap_or_else(|error| {
        mistakes.push(mistake(TOKENS, &error.to_string(), "kubelet writes it; is this kubelet?"));
        ServiceAccountTokens::none()
    })
}

fn volume_id(id: String, mistakes: &mut Vec<Mistake>) -> Option<String> {
    if id.is_empty() {
        mistakes.push(mistake("volume_id", "missing", ""));
        return None;
    }
    Some(id)
}

fn target(path: &str, mistakes: &mut Vec<Mistake>) -> Option<PathBuf> {
    if path.is_empty() {
        mistakes.push(mistake("target_path", "missing", ""));
        return None;
    }
    if !path.starts_with('/') || path.contains('\0') {
        mistakes.push(mistake("target_path", "not an absolute path", ""));
        return None;
    }
    Some(PathBuf::from(path))
}

fn group(capability: Option<&wire::VolumeCapability>, mistakes: &mut Vec<Mistake>) -> Option<u32> {
    let Some(access) = capability.and_then(|capability| capability.access_type.as_ref()) else {
        mistakes.push(mistake("volume_capability", "missing", ""));
        return None;
    };
    match access {
        AccessType::Block(_) => {
            mistakes.push(mistake(
                "volume_capability",
                "this driver has files, no block device",
                "",
            ));
            None
        }
        AccessType::Mount(mount) if mount.volume_mount_group.is_empty() => None,
        AccessType::Mount(mount) => mount.volume_mount_group.parse().ok().or_else(|| {
            mistakes.push(mistake("volume_mount_group", "not a number", ""));
            None
        }),
    }
}

fn pod(attributes: &BTreeMap<String, String>, mistakes: &mut Vec<Mistake>) -> Option<PodRef> {
    let mut take = |key: &str| {
        let value = attributes.get(key).filter(|value| !value.is_empty());
        if value.is_none() {
            mistakes.push(mistake(
                key,
                "missing",
                "the CSIDriver object must have `podInfoOnMount: true`",
            ));
        }
        value.cloned()
    };
    let uid = take("csi.storage.k8s.io/pod.uid");
    let name = take("csi.storage.k8s.io/pod.name");
    let namespace = take("csi.storage.k8s.io/pod.namespace");
    let service_account = take("csi.storage.k8s.io/serviceAccount.name");
    Some(PodRef {
        uid: PodUid::new(&uid?),
        name: name?,
        namespace: namespace?,
        service_account: service_account?,
    })
}

fn mistake(place: &str, what: &str, instead: &str) -> Mistake {
    Mistake { place: place.to_owned(), what: what.to_owned(), instead: instead.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> wire::NodePublishVolumeRequest {
        let pod = [
            ("csi.storage.k8s.io/pod.uid", "4d5C0aa0-0000-0000-0000-000000000001"),
            ("csi.storage.k8s.io/pod.name", "shop-1"),
            ("csi.storage.k8s.io/pod.namespace", "shop"),
            ("csi.storage.k8s.io/serviceAccount.name", "app"),
            ("csi.storage.k8s.io/ephemeral", "true"),
            ("role", "app"),
        ];
        wire::NodePublishVolumeRequest {
            volume_id: "csi-1".into(),
            target_path: "/var/lib/kubelet/pods/u/volumes/kubernetes.io~csi/s/mount".into(),
            readonly: true,
            volume_capability: Some(wire::VolumeCapability {
                access_type: Some(AccessType::Mount(wire::volume_capability::MountVolume {
                    volume_mount_group: "2000".into(),
                    ..Default::default()
                })),
                access_mode: None,
            }),
            volume_context: pod.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
            ..Default::default()
        }
    }

    fn token(jwt: &str) -> String {
        format!(r#"{{"vault":{{"token":"{jwt}","expirationTimestamp":"2026-11-24T13:00:00Z"}}}}"#)
    }

    #[test]
    fn a_good_request_is_read_whole() {
        let mut request = good();
        request.volume_context.insert(TOKENS.into(), token("from-context"));
        request.secrets.insert(TOKENS.into(), token("from-secrets"));
        let read = publish(request).ok().unwrap();
        assert_eq!(read.pod.uid.as_str(), "4d5c0aa0-0000-0000-0000-000000000001");
        assert_eq!(read.group, Some(2000));
        assert!(!read.attributes.contains_key(TOKENS), "the token has left the attributes");
        let jwt = read.tokens.audience("vault").unwrap().jwt;
        assert_eq!(jwt.expose(), "from-secrets", "secrets come before volume_context");
    }

    #[test]
    fn a_token_in_the_context_alone_is_found() {
        let mut request = good();
        request.volume_context.insert(TOKENS.into(), token("from-context"));
        let read = publish(request).ok().unwrap();
        assert_eq!(read.tokens.audience("vault").unwrap().jwt.expose(), "from-context");
    }

    #[test]
    fn an_empty_request_names_all_that_is_missing() {
        let mistakes = publish(wire::NodePublishVolumeRequest::default()).err().unwrap();
        let places: Vec<_> = mistakes.iter().map(|mistake| mistake.place.as_str()).collect();
        assert_eq!(
            places,
            [
                "volume_id",
                "target_path",
                "volume_capability",
                "readOnly",
                "csi.storage.k8s.io/pod.uid",
                "csi.storage.k8s.io/pod.name",
                "csi.storage.k8s.io/pod.namespace",
                "csi.storage.k8s.io/serviceAccount.name",
            ]
        );
    }

    #[test]
    fn each_single_mistake_is_told() {
        type Spoil = fn(&mut wire::NodePublishVolumeRequest);
        let cases: [(&str, Spoil); 6] = [
            ("readOnly", |request| request.readonly = false),
            ("target_path", |request| request.target_path = "relative".into()),
            ("volumeAttributes", |request| {
                request.volume_context.insert("a/secret".into(), "x".repeat(64 * 1024));
            }),
            ("csi.storage.k8s.io/ephemeral", |request| {
                request
                    .volume_context
                    .insert("csi.storage.k8s.io/ephemeral".into(), "false".into());
            }),
            ("volume_capability", |request| {
                request.volume_capability = Some(wire::VolumeCapability {
                    access_type: Some(AccessType::Block(Default::default())),
                    access_mode: None,
                });
            }),
            (TOKENS, |request| {
                request.secrets.insert(TOKENS.into(), "eyJ-canary".into());
            }),
        ];
        for (place, spoil) in cases {
            let mut request = good();
            spoil(&mut request);
            let mistakes = publish(request).err().unwrap_or_default();
            assert_eq!(mistakes.len(), 1, "{place}");
            assert_eq!(mistakes[0].place, place);
            assert!(!mistakes[0].to_string().contains("canary"));
        }
    }
}

//! Which pod a thread belongs to, read from the text of its `/proc/TID/cgroup`.
//!
//! See [`caller`] first. The *first* (shallowest) component that names a pod counts: a pod that may
//! make cgroups of its own can name a child after another pod. On cgroup v1 the lines of several
//! hierarchies are read; when they name different pods, nobody is recognised. Total: any text gives an
//! answer, at worst "no pod".

use crate::identity::pod::PodUid;

/// Who made a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The pod whose cgroup the thread is in; `None` for the host's own processes.
    pub pod: Option<PodUid>,
    /// Container id, when the cgroup names one.
    pub container: Option<String>,
    /// The user, as the host numbers it; not from the cgroup, filled in by who reads it.
    pub uid: Option<u32>,
}

/// Hierarchies of cgroup v1 that the container runtimes put pods into; v2 has an empty list.
const HIERARCHIES: [&str; 5] = ["", "pids", "memory", "cpu", "name=systemd"];

/// Who a thread is, from its `/proc/TID/cgroup`.
pub fn caller(text: &str) -> Caller {
    let mut found: Option<Caller> = None;
    for line in text.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        if !controllers.split(',').any(|name| HIERARCHIES.contains(&name)) {
            continue;
        }
        let Some(here) = in_path(path) else { continue };
        match &found {
            Some(had) if had.pod != here.pod => return Caller::default(),
            Some(_) => {}
            None => found = Some(here),
        }
    }
    found.unwrap_or_default()
}

fn in_path(path: &str) -> Option<Caller> {
    let mut components = path.split('/');
    let pod = components.find_map(pod_uid)?;
    // The container's own component comes right below its pod.
    let container = components.find_map(container_id);
    Some(Caller { pod: Some(pod), container, uid: None })
}

/// The pod that a component of a cgroup's path names: `pod<uid>` (cgroupfs) or `…-pod<uid with _>.slice` (systemd).
pub fn pod_uid(component: &str) -> Option<PodUid> {
    let name = match component.strip_suffix(".slice") {
        Some(slice) => {
            slice.rsplit_once("-pod").map_or(slice.strip_prefix("pod"), |(_, uid)| Some(uid))
        }
        None => component.strip_prefix("pod"),
    }?;
    let uid = PodUid::new(name);
    let shape = uid.as_str().split('-').map(str::len).eq([8, 4, 4, 4, 12]);
    let hex = uid.as_str().bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit());
    // Static pods are named by a hash of their manifest, without dashes.
    let hash = uid.as_str().len() == 32 && !uid.as_str().contains('-');
    (hex && (shape || hash)).then_some(uid)
}

/// 64 hex digits, bare or as `cri-containerd-<id>.scope`, `crio-<id>.scope`, `docker-<id>.scope`.
fn container_id(component: &str) -> Option<String> {
    let name = component.strip_suffix(".scope").unwrap_or(component);
    let id = name.rsplit(['-', ':']).next()?;
    (id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UID: &str = "2b41a9f0-8d6e-4a44-9f5e-0123456789ab";
    const OTHER: &str = "ffffffff-8d6e-4a44-9f5e-0123456789ab";
    const ID: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn pod(text: &str) -> Option<String> {
        caller(text).pod.map(|uid| uid.as_str().to_owned())
    }

    #[test]
    fn the_forms_of_every_runtime_are_known() {
        let slice = UID.replace('-', "_");
        for path in [
            format!("/kubepods/burstable/pod{UID}/{ID}"),
            format!("/kubepods/pod{UID}/{ID}"),
            format!(
                "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{slice}.slice/cri-containerd-{ID}.scope"
            ),
            format!("/kubepods.slice/kubepods-pod{slice}.slice/crio-{ID}.scope/container"),
            format!("/docker/{ID}/kubelet/kubepods/burstable/pod{UID}/{ID}"),
            format!(
                "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{slice}.slice/docker-{ID}.scope"
            ),
            format!("/kubepods/burstable/pod{UID}/{ID}/pod{OTHER}/x"),
        ] {
            for text in [
                format!("0::{path}\n"),
                format!("5:pids:{path}\n4:memory:{path}\n1:cpu,cpuacct:{path}\n0::/\n"),
            ] {
                let caller = caller(&text);
                assert_eq!(caller.pod.as_ref().map(PodUid::as_str), Some(UID), "{text}");
                assert_eq!(caller.container.as_deref(), Some(ID), "{text}");
            }
        }
    }

    #[test]
    fn the_host_and_what_only_looks_like_a_pod_are_nobody() {
        for text in [
            "",
            "0::/\n",
            "0::/system.slice/kubelet.service\n",
            "0::/user.slice/podman-123.scope\n",
            "0::/kubepods/burstable/podnot-a-uid/x\n",
            &format!("0::/../crio-{ID}.scope\n"),
            &format!("9:freezer:/kubepods/pod{UID}/{ID}\n"),
            &format!("5:pids:/kubepods/pod{UID}/{ID}\n4:memory:/kubepods/pod{OTHER}/{ID}\n"),
            "garbage without colons\n::\n",
        ] {
            assert_eq!(pod(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_gives_an_answer(text in "\\PC*", tail in "[0-9a-f/:_.-]*") {
            caller(&text);
            caller(&format!("0::/kubepods/pod{tail}"));
        }
    }
}

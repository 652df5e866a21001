//! [`HostPods`]: the port `volume::sweep::Pods` by kubelet's folders and the pods' cgroups.
//!
//! The folder alone says little: our own mount keeps it from being removed. A pod that runs, or whose containers
//! are being restarted, has a cgroup; kubelet removes it when the pod has ended. Where no cgroup hierarchy can be
//! read, the folder is all there is.

use std::path::{Path, PathBuf};

use async_trait::async_trait;

use crate::identity::cgroup::pod_uid;
use crate::identity::pod::PodUid;
use crate::volume::sweep::Pods;

/// Deeper than any runtime or nested cluster puts a pod.
const DEPTH: usize = 7;
/// More folders than a node's hierarchy has.
const MOST: usize = 100_000;

/// What this node knows of pods.
pub struct HostPods {
    hierarchy: Option<PathBuf>,
}

impl Default for HostPods {
    fn default() -> Self {
        let root = Path::new("/sys/fs/cgroup");
        let v2 = root.join("cgroup.controllers").exists();
        let hierarchy = if v2 { root.to_owned() } else { root.join("pids") };
        Self { hierarchy: hierarchy.is_dir().then_some(hierarchy) }
    }
}

#[async_trait]
impl Pods for HostPods {
    async fn is_there(&self, uid: &PodUid, target: &Path) -> bool {
        let (uid, target, hierarchy) = (uid.clone(), target.to_owned(), self.hierarchy.clone());
        let looked = tokio::task::spawn_blocking(move || {
            // The folder of the volume, which kubelet makes; not the mount itself, which may be dead.
            let folder = target.parent().is_some_and(Path::is_dir);
            folder && hierarchy.is_none_or(|hierarchy| has_cgroup(&hierarchy, &uid))
        });
        // What cannot be looked at is not ended.
        looked.await.unwrap_or(true)
    }
}

fn has_cgroup(hierarchy: &Path, uid: &PodUid) -> bool {
    let mut folders = vec![(hierarchy.to_owned(), 0)];
    let mut left = MOST;
    while let Some((folder, depth)) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            left = left.saturating_sub(1);
            if left == 0 {
                return true;
            }
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let found = entry.file_name().to_str().and_then(pod_uid);
            if found.as_ref() == Some(uid) {
                return true;
            }
            // Below another pod there are only that pod's own groups.
            if found.is_none() && depth < DEPTH {
                folders.push((entry.path(), depth + 1));
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_group_is_found_in_every_form_and_not_below_another_pod() {
        let uid = "2b41a9f0-8d6e-4a44-9f5e-0123456789ab";
        let other = "ffffffff-8d6e-4a44-9f5e-0123456789ab";
        let slice = format!(
            "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{}.slice",
            uid.replace('-', "_")
        );
        for path in [format!("kubepods/burstable/pod{uid}"), slice] {
            let root = tempfile::tempdir().unwrap();
            assert!(!has_cgroup(root.path(), &PodUid::new(uid)));
            std::fs::create_dir_all(root.path().join(&path).join("container")).unwrap();
            assert!(has_cgroup(root.path(), &PodUid::new(uid)), "{path}");
            assert!(!has_cgroup(root.path(), &PodUid::new(other)), "{path}");
        }
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join(format!("kubepods/pod{other}/pod{uid}"))).unwrap();
        assert!(!has_cgroup(root.path(), &PodUid::new(uid)));
    }
}

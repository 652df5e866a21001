//! [`Stage`]: a node with a driver on it, and the volumes that kubelet wants there.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use tempfile::TempDir;

use crate::clock::timestamp;
use crate::csi::client::{InlineVolume, Kubelet};
use crate::demo::driver::Driver;
use crate::fake_vault::cluster::{Claims, Cluster};
use crate::identity::pod::{PodRef, PodUid};

/// How long tokens of pods last.
const TOKEN: Duration = Duration::from_secs(3600);

/// A node: kubelet's directory, a driver with its configuration, kubelet's end of the sockets.
pub struct Stage {
    program: PathBuf,
    directory: TempDir,
    cluster: Arc<Cluster>,
    driver: Option<Driver>,
    kubelet: Option<Kubelet>,
    ready: Duration,
}

impl Stage {
    /// A node without a driver yet.
    ///
    /// # Errors
    /// No directory can be made.
    pub fn new(program: &Path) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("keyhole-").tempdir()?;
        std::fs::create_dir_all(directory.path().join("kubelet/plugins_registry"))?;
        let cluster = Arc::new(Cluster::new()?);
        let program = program.to_owned();
        Ok(Self { program, directory, cluster, driver: None, kubelet: None, ready: Duration::ZERO })
    }

    /// The cluster that signs the pods' tokens.
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// Kubelet's directory.
    pub fn kubelet_dir(&self) -> PathBuf {
        self.directory.path().join("kubelet")
    }

    /// The driver's configuration file.
    pub fn config(&self) -> PathBuf {
        self.directory.path().join("config.yaml")
    }

    /// A file of the node beside kubelet's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes the configuration as an operator does: a new file in the place of the old.
    ///
    /// # Errors
    /// The disk.
    pub fn configure(&self, text: &str) -> anyhow::Result<()> {
        let fresh = self.directory.path().join("config.new");
        std::fs::write(&fresh, text)?;
        Ok(std::fs::rename(fresh, self.config())?)
    }

    /// The flags that the driver is started with.
    pub fn flags(&self) -> Vec<String> {
        let (kubelet, config) = (self.kubelet_dir(), self.config());
        let path = |path: &Path| path.to_string_lossy().into_owned();
        ["--node-name".to_owned(), "demo-node".to_owned()]
            .into_iter()
            .chain([
                "--kubelet-dir".to_owned(),
                path(&kubelet),
                "--config".to_owned(),
                path(&config),
            ])
            .collect()
    }

    /// Starts the driver, and connects and registers it as kubelet does.
    ///
    /// # Errors
    /// It does not start; with its log.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        let driver = Driver::start(&self.program, &self.flags())?;
        let registry = self.kubelet_dir().join("plugins_registry");
        let found = std::fs::read_dir(&registry)?.next().context("no registration socket")??;
        let (_, socket) = Kubelet::register(&found.path()).await?;
        self.ready = driver.age();
        self.kubelet = Some(Kubelet::connect(&socket).await?);
        self.driver = Some(driver);
        Ok(())
    }

    /// From the start of the driver's process to Ready: kubelet has registered it.
    pub fn ready(&self) -> Duration {
        self.ready
    }

    /// The driver.
    ///
    /// # Errors
    /// It is not started.
    pub fn driver(&self) -> anyhow::Result<&Driver> {
        self.driver.as_ref().context("the driver is not started")
    }

    /// The driver, to stop it.
    ///
    /// # Errors
    /// It is not started.
    pub fn driver_mut(&mut self) -> anyhow::Result<&mut Driver> {
        self.driver.as_mut().context("the driver is not started")
    }

    /// Kubelet.
    ///
    /// # Errors
    /// The driver is not started.
    pub fn kubelet(&self) -> anyhow::Result<&Kubelet> {
        self.kubelet.as_ref().context("the driver is not started")
    }

    /// A volume of a pod in the namespace `shop` with the service account `checkout`.
    ///
    /// # Errors
    /// The machine has no randomness.
    pub fn volume(&self, number: u32, attributes: &[(&str, &str)]) -> anyhow::Result<InlineVolume> {
        let pod = PodRef {
            uid: PodUid::new(&format!("{number:08x}-8d6e-4a44-9f5e-0123456789ab")),
            name: format!("checkout-{number}"),
            namespace: "shop".to_owned(),
            service_account: "checkout".to_owned(),
        };
        let attributes =
            attributes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let mut volume = InlineVolume {
            id: format!("csi-{number:016x}"),
            target: self
                .kubelet_dir()
                .join(format!("pods/{}/volumes/kubernetes.io~csi/secrets/mount", pod.uid)),
            pod,
            attributes: attributes.collect(),
            tokens: HashMap::new(),
            group: None,
        };
        // Kubelet makes all but the last folder, which is the driver's.
        let parent = volume.target.parent().context("the target is the root")?;
        std::fs::create_dir_all(parent)?;
        self.renew_tokens(&mut volume, TOKEN)?;
        Ok(volume)
    }

    /// Gives the volume's pod a new token of the audience `vault`, which lasts that long.
    ///
    /// # Errors
    /// The machine has no randomness.
    pub fn renew_tokens(&self, volume: &mut InlineVolume, lasts: Duration) -> anyhow::Result<()> {
        let claims = Claims {
            namespace: volume.pod.namespace.clone(),
            service_account: volume.pod.service_account.clone(),
            pod: volume.pod.name.clone(),
            pod_uid: volume.pod.uid.as_str().to_owned(),
            audience: "vault".to_owned(),
            lasts,
        };
        let expires = timestamp(SystemTime::now() + lasts);
        volume.tokens.insert("vault".to_owned(), (self.cluster.token(&claims)?, expires));
        Ok(())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.driver = None;
        // What a failed run has left mounted must not keep the directory.
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let below = self.directory.path().to_string_lossy().into_owned();
        let points = mounts.lines().rev().filter_map(|line| line.split(' ').nth(4));
        for point in points.filter(|point| point.starts_with(&below)) {
            let _ = rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH);
        }
    }
}

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
use crate::demo::keeper::Keeper;
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
    keeper: Option<Keeper>,
    /// More flags of the driver, and its environment.
    pub flags: Vec<String>,
    /// How long the keeper lets volumes wait for a driver.
    pub grace: Duration,
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
        Ok(Self {
            program,
            directory,
            cluster,
            driver: None,
            keeper: None,
            flags: Vec::new(),
            grace: Duration::from_secs(30),
            kubelet: None,
            ready: Duration::ZERO,
        })
    }

    /// Starts another program from now on.
    pub fn run_as(&mut self, program: &Path) {
        program.clone_into(&mut self.program);
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

    /// The keeper's socket.
    pub fn keeper_socket(&self) -> PathBuf {
        self.directory.path().join("keeper/keeper.sock")
    }

    /// The flags that the driver is started with.
    pub fn flags(&self) -> Vec<String> {
        let (kubelet, config, keeper) = (self.kubelet_dir(), self.config(), self.keeper_socket());
        let path = |path: &Path| path.to_string_lossy().into_owned();
        ["--node-name".to_owned(), "demo-node".to_owned()]
            .into_iter()
            .chain([
                "--kubelet-dir".to_owned(),
                path(&kubelet),
                "--config".to_owned(),
                path(&config),
                "--keeper-socket".to_owned(),
                path(&keeper),
            ])
            .chain(self.flags.iter().cloned())
            .collect()
    }

    /// Starts the keeper, then the driver, and connects and registers it as kubelet does.
    ///
    /// # Errors
    /// One of them does not start; with its log.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        self.start_keeper()?;
        self.start_driver(&[]).await
    }

    /// Starts the keeper, or another in the place of the one that runs, which is killed.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_keeper(&mut self) -> anyhow::Result<()> {
        self.keeper = None;
        self.keeper = Some(Keeper::start(&self.program, &self.keeper_socket(), self.grace)?);
        Ok(())
    }

    /// Kills the keeper.
    pub fn kill_keeper(&mut self) {
        self.keeper = None;
    }

    /// The keeper.
    ///
    /// # Errors
    /// It is not started.
    pub fn keeper(&self) -> anyhow::Result<&Keeper> {
        self.keeper.as_ref().context("the keeper is not started")
    }

    /// The driver, which goes on beside one that is started now.
    ///
    /// # Errors
    /// It is not started.
    pub fn take_driver(&mut self) -> anyhow::Result<Driver> {
        self.driver.take().context("the driver is not started")
    }

    /// Kills the driver as `kill -9` does, and waits until it is gone.
    pub fn kill_driver(&mut self) {
        self.driver = None;
    }

    /// Starts a driver with these variables; one that runs goes on beside it until it leaves, and is killed then.
    ///
    /// # Errors
    /// It does not start; with its log.
    pub async fn start_driver(&mut self, variables: &[(&str, &str)]) -> anyhow::Result<()> {
        let driver = self.spawn_driver(variables)?;
        self.meet_when_ready(driver).await
    }

    /// Starts a driver and waits for nothing.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn_driver(&self, variables: &[(&str, &str)]) -> anyhow::Result<Driver> {
        Driver::spawn(&self.program, &self.flags(), variables)
    }

    /// Waits until a driver is ready, and kubelet meets it.
    ///
    /// # Errors
    /// It does not become ready; with its log.
    pub async fn meet_when_ready(&mut self, mut driver: Driver) -> anyhow::Result<()> {
        driver.until_ready()?;
        self.meet(driver).await
    }

    /// Kubelet meets a driver that is ready.
    ///
    /// # Errors
    /// It cannot be registered.
    pub async fn meet(&mut self, driver: Driver) -> anyhow::Result<()> {
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
        self.keeper = None;
        // What a failed run has left mounted must not keep the directory.
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let below = self.directory.path().to_string_lossy().into_owned();
        let points = mounts.lines().rev().filter_map(|line| line.split(' ').nth(4));
        for point in points.filter(|point| point.starts_with(&below)) {
            let _ = rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH);
        }
    }
}

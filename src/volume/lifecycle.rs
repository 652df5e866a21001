//! [`Lifecycle`]: publish, republish and unpublish as ordered, idempotent steps with undo.
//!
//! Start at [`Lifecycle::first_publish`]. Every step before the mount can fail and leaves nothing;
//! from the mount on a failure undoes what was made. Unpublish never waits for Vault. It refuses to
//! touch a healthy mount on republish: kubelet calls that every minute, for as long as the pod lives.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use dashmap::DashMap;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::clock::Clock;
use crate::config::Config;
use crate::failpoint;
use crate::fs::files::{Audit, Files};
use crate::fs::serve::{Callers, Errands, Mounts, Occupant};
use crate::kept::region::Shelf;
use crate::lease::Change;
use crate::lease::leases::Leases;
use crate::spec::{OnStart, VolumeSpec, attributes};
use crate::telemetry::metrics::Metrics;
use crate::volume::admission::{admit, session_key, token};
use crate::volume::keeping::Keeping;
use crate::volume::live::{Live, kept_as};
use crate::volume::publish::{PublishRequest, UnpublishRequest, Volumes};
use crate::volume::source::{VolumeSource, fetch_all};
use crate::volume::sweep::Pods;
use crate::volume::{PublishError, UnpublishError, changes, explain};

/// How long a publish waits for a login before it lets the pod start with a warning.
const CHECK_BUDGET: Duration = Duration::from_secs(4);
/// How long a publish waits for a keeper that has gone, before it goes on without.
const KEEPER_BUDGET: Duration = Duration::from_secs(5);
/// How long a publish waits until the kernel knows the names.
const PRIME_BUDGET: Duration = Duration::from_millis(200);

/// What the volumes of a node need of the rest of the program.
pub struct Surroundings {
    /// The driver's configuration as of now.
    pub config: Arc<ArcSwap<Config>>,
    /// Sessions and leases.
    pub leases: Leases,
    /// Mounts and serves.
    pub mounts: Arc<dyn Mounts>,
    /// Tells whose thread asks.
    pub callers: Arc<dyn Callers>,
    /// Hears of every open.
    pub audit: Arc<dyn Audit>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The figures.
    pub metrics: Metrics,
    /// Memory that outlives the process.
    pub shelf: Arc<dyn Shelf>,
    /// The keeper.
    pub keeping: Arc<dyn Keeping>,
    /// Work that must not be done by the server.
    pub errands: Arc<dyn Errands>,
    /// Which pods this node still has.
    pub pods: Arc<dyn Pods>,
}

/// All volumes of this node.
pub struct Lifecycle {
    pub(super) around: Surroundings,
    pub(super) table: DashMap<String, Arc<Live>>,
}

impl Lifecycle {
    /// No volume yet.
    pub fn new(around: Surroundings) -> Self {
        Self { around, table: DashMap::new() }
    }

    fn known(&self, id: &str) -> Option<Arc<Live>> {
        self.table.get(id).map(|live| Arc::clone(live.value()))
    }

    /// The files of a volume with nothing in them.
    pub(super) fn files(&self, spec: VolumeSpec, pod: &crate::identity::pod::PodUid) -> Files {
        let config = self.around.config.load();
        let gate = config.connection(&spec.connection).map(|had| had.gate).unwrap_or_default();
        Files::new(
            Arc::new(spec),
            pod.clone(),
            gate,
            Arc::clone(&self.around.callers),
            Arc::clone(&self.around.audit),
            self.around.clock.wall(),
        )
    }

    pub(super) fn source(&self, live: &Arc<Live>) -> Arc<VolumeSource> {
        Arc::new(VolumeSource {
            live: Arc::clone(live),
            leases: self.around.leases.clone(),
            clock: Arc::clone(&self.around.clock),
            metrics: self.around.metrics.clone(),
            errands: Arc::clone(&self.around.errands),
            priming: AtomicBool::new(false),
        })
    }

    /// Parse, admit, look, log in, mount, keep: in this order.
    async fn first_publish(&self, request: PublishRequest) -> Result<(), PublishError> {
        let config = self.around.config.load_full();
        let spec = attributes::parse(&request.attributes, &config.defaults(), request.group)
            .map_err(PublishError::Invalid)?;
        admit(&config, &spec, &request)?;
        let token = token(&spec, &request, self.around.clock.wall())?;
        match self.around.mounts.look(&request.target).await? {
            Occupant::Nothing => {}
            // Left by a driver that is gone: nobody serves it, and we have no state of it.
            Occupant::Ours => self.around.mounts.clear(&request.target).await?,
            Occupant::Foreign(kind) => {
                return Err(PublishError::NotReady(format!(
                    "something else ({kind}) is mounted at {}; unmount it on the node, then the pod starts by itself",
                    request.target.display()
                )));
            }
        }
        if !self.around.keeping.is_there_within(KEEPER_BUDGET).await {
            tracing::warn!(
                volume = request.volume_id,
                "there is no keeper: this mount does not outlive this driver until it is back"
            );
        }

        let session = Arc::new(session_key(&spec, &request.pod));
        let on_start = spec.on_start;
        let id = request.volume_id.clone();
        let (newer, inbox) = tokio::sync::mpsc::unbounded_channel();
        let holding =
            self.around.leases.attach(&id, Arc::clone(&session), Some(token), newer).await;
        let begun = self.begin(&request, spec, &session, &holding);
        let live = match begun {
            Ok(files) => Arc::new(Live::new(
                (id, request.target.clone()),
                request.pod.clone(),
                session,
                Arc::new(files),
                self.around.clock.now(),
            )),
            Err(error) => {
                self.around.leases.detach(&id);
                return Err(error.into());
            }
        };
        let source = self.source(&live);
        if let Err(error) = self.bring_up(&live, &source, on_start).await {
            live.ended.cancel();
            live.files().wipe();
            self.around.leases.detach(&live.id);
            return Err(error);
        }
        if on_start != OnStart::Lazy {
            let mut paths: Vec<String> =
                live.files().spec().files.iter().map(|file| file.secret.path.clone()).collect();
            paths.dedup();
            self.around.leases.prepare(&live.id, paths);
        }
        self.enter(live, source, inbox);
        Ok(())
    }

    /// The volume is there.
    pub(super) fn enter(
        &self,
        live: Arc<Live>,
        source: Arc<VolumeSource>,
        inbox: UnboundedReceiver<Change>,
    ) {
        drop(tokio::spawn(changes::follow(source, inbox)));
        self.table.insert(live.id.clone(), live);
        self.count();
    }

    /// The steps that can be refused: Vault's word first, then the mount.
    async fn bring_up(
        &self,
        live: &Arc<Live>,
        source: &Arc<VolumeSource>,
        on_start: OnStart,
    ) -> Result<(), PublishError> {
        match on_start {
            OnStart::Lazy => {}
            OnStart::Check => self.check(live).await?,
            OnStart::Fetch => fetch_all(live, source).await?,
        }
        self.mount(live, source).await
    }

    /// Logs in. Only a definite no stops the pod; an outage becomes a warning in its status.
    async fn check(&self, live: &Live) -> Result<(), PublishError> {
        let Err(error) = self.around.leases.login(&live.id, CHECK_BUDGET).await else {
            return Ok(());
        };
        let said = explain::innermost(&error);
        let sentence = explain::login(&live.session, said);
        if explain::definite_no(said) {
            return Err(PublishError::Refused(sentence));
        }
        tracing::warn!(volume = live.id, pod = %live.pod.uid, namespace = live.pod.namespace, name = live.pod.name, reason = sentence, "the pod starts without a login");
        live.files().warn(sentence, self.around.clock.wall());
        Ok(())
    }

    /// Mount, deposit, prime: nobody is told that the volume is there before it outlives us.
    async fn mount(
        &self,
        live: &Arc<Live>,
        source: &Arc<VolumeSource>,
    ) -> Result<(), PublishError> {
        let files = live.files();
        let source: Arc<VolumeSource> = Arc::clone(source);
        let mounted = self.around.mounts.mount(&live.target, Arc::clone(&files), source).await?;
        failpoint::reach("publish.mounted");
        live.mounted.store(Some(Arc::new(mounted)));
        self.deposit(live).await;
        failpoint::reach("publish.deposited");
        // So that kubelet's stats are answered from the kernel's memory, and a first open asks for content only.
        let names = files.spec().files.iter().map(|file| file.name.clone()).collect();
        let name = live.kept_as();
        let primed = self.around.errands.prime(&name, names);
        drop(tokio::time::timeout(PRIME_BUDGET, primed).await);
        Ok(())
    }

    /// Takes the newer token; rebuilds the mount if the kernel has given it up. Never fails: a final
    /// error of a republish makes kubelet delete the mount's directory under the running pod.
    /// <https://github.com/kubernetes/kubernetes/issues/121271>
    async fn republish(&self, live: &Arc<Live>, request: PublishRequest) {
        live.see(self.around.clock.now());
        match request.tokens.audience(&live.session.audience) {
            Some(token) => self.around.leases.refresh_token(&live.id, token),
            None => {
                tracing::warn!(
                    volume = live.id,
                    audience = live.session.audience,
                    "republished without a token"
                );
            }
        }
        if !live.is_alive() {
            return self.rebuild(live).await;
        }
        // Not by asking the server, which is us.
        if let Ok(Occupant::Nothing) = self.around.mounts.look(&live.target).await
            && let Some(mounted) = live.mounted.load_full()
        {
            match mounted.attach().await {
                Ok(()) => {
                    tracing::warn!(volume = live.id, pod = %live.pod.uid, "somebody had unmounted the volume; it is mounted again");
                    // The private mount is another.
                    self.deposit(live).await;
                }
                Err(error) => {
                    tracing::warn!(volume = live.id, %error, "the unmounted volume cannot be mounted again as it is");
                    drop(mounted.end(true).await);
                    self.rebuild(live).await;
                }
            }
        }
    }

    async fn rebuild(&self, live: &Arc<Live>) {
        tracing::warn!(volume = live.id, pod = %live.pod.uid, "the mount is dead; building it anew");
        if let Some(dead) = live.mounted.swap(None) {
            drop(dead.end(true).await);
        }
        if let Err(error) = self.around.mounts.clear(&live.target).await {
            tracing::warn!(volume = live.id, %error, "the dead mount could not be taken down whole");
        }
        let source = self.source(live);
        match self.mount(live, &source).await {
            Ok(()) => live.files().warn(
                "the mount had died and was built anew: files that were open stay broken until the pod restarts".to_owned(),
                self.around.clock.wall(),
            ),
            Err(error) => tracing::error!(volume = live.id, %error, "the mount could not be rebuilt; the next republish tries again"),
        }
    }

    pub(super) fn count(&self) {
        self.around.metrics.set_volumes(self.table.len());
    }

    /// Reads no request any more, for the end of this process.
    pub async fn stop(&self, limit: Duration) {
        let mounted = self.table.iter().filter_map(|live| live.mounted.load_full()).collect();
        self.around.mounts.stop(mounted, limit).await;
    }

    /// Ends a volume in the order in which nothing is lost: what is still kept is ended by the next driver.
    pub(super) async fn end(&self, live: &Arc<Live>) -> Result<(), UnpublishError> {
        live.ended.cancel();
        live.files().kept().manifest.end();
        let ended = match live.mounted.swap(None) {
            Some(mounted) => mounted.end(false).await,
            None => self.around.mounts.clear(&live.target).await,
        };
        live.files().wipe();
        failpoint::reach("unpublish.ended");
        self.around.keeping.withdraw(&live.kept_as()).await;
        failpoint::reach("unpublish.withdrawn");
        self.around.leases.detach(&live.id);
        self.table.remove(&live.id);
        self.count();
        // What is left of the mount, if anything, is cleared by kubelet's next call.
        Ok(ended?)
    }
}

#[async_trait]
impl Volumes for Lifecycle {
    async fn publish(&self, request: PublishRequest) -> Result<(), PublishError> {
        match self.known(&request.volume_id) {
            None => self.first_publish(request).await,
            Some(live) if live.target != request.target || live.pod.uid != request.pod.uid => {
                Err(PublishError::Conflict(format!(
                    "at {} for pod {}",
                    live.target.display(),
                    live.pod.uid
                )))
            }
            Some(live) => {
                if live.files().spec().files.is_empty() {
                    self.learn_again(&live, &request).await;
                } else {
                    self.republish(&live, request).await;
                }
                Ok(())
            }
        }
    }

    async fn unpublish(&self, request: UnpublishRequest) -> Result<(), UnpublishError> {
        let Some(live) = self.known(&request.volume_id) else {
            self.around.keeping.withdraw(&kept_as(&request.volume_id)).await;
            return Ok(self.around.mounts.clear(&request.target).await?);
        };
        self.end(&live).await
    }
}

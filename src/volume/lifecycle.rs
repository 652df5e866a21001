//! [`Lifecycle`]: publish, republish and unpublish as ordered, idempotent steps with undo.
//!
//! Start at [`Lifecycle::first_publish`]. Every step before the mount can fail and leaves nothing;
//! from the mount on a failure undoes what was made. Unpublish never waits for Vault. It refuses to
//! touch a healthy mount on republish: kubelet calls that every minute, for as long as the pod lives.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use async_trait::async_trait;
use dashmap::DashMap;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::Config;
use crate::config::globs::matches;
use crate::fs::files::{Audit, Files};
use crate::fs::serve::{Callers, Mounts, Occupant};
use crate::identity::session::SessionKey;
use crate::lease::leases::Leases;
use crate::spec::{OnStart, VolumeSpec, attributes};
use crate::telemetry::metrics::Metrics;
use crate::volume::live::Live;
use crate::volume::publish::{PublishRequest, UnpublishRequest, Volumes};
use crate::volume::source::VolumeSource;
use crate::volume::{PublishError, UnpublishError, changes, explain};

/// How long a publish waits for a login before it lets the pod start with a warning.
const CHECK_BUDGET: Duration = Duration::from_secs(4);
/// How long a publish with `onStart: fetch` waits for all files.
const FETCH_BUDGET: Duration = Duration::from_secs(8);

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
}

/// All volumes of this node.
pub struct Lifecycle {
    around: Surroundings,
    table: DashMap<String, Arc<Live>>,
}

impl Lifecycle {
    /// No volume yet.
    pub fn new(around: Surroundings) -> Self {
        Self { around, table: DashMap::new() }
    }

    fn known(&self, id: &str) -> Option<Arc<Live>> {
        self.table.get(id).map(|live| Arc::clone(live.value()))
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

        let gate = config.connection(&spec.connection).map(|had| had.gate).unwrap_or_default();
        let session = Arc::new(session_key(&spec, &request));
        let on_start = spec.on_start;
        let files = Arc::new(Files::new(
            Arc::new(spec),
            request.pod.uid.clone(),
            gate,
            Arc::clone(&self.around.callers),
            Arc::clone(&self.around.audit),
            self.around.clock.wall(),
        ));
        let live = Arc::new(Live {
            id: request.volume_id.clone(),
            target: request.target.clone(),
            pod: request.pod.clone(),
            session: Arc::clone(&session),
            files,
            mounted: ArcSwapOption::empty(),
            ended: CancellationToken::new(),
        });
        let (newer, inbox) = tokio::sync::mpsc::unbounded_channel();
        self.around.leases.attach(&live.id, session, Some(token), newer);
        let source = Arc::new(VolumeSource {
            live: Arc::clone(&live),
            leases: self.around.leases.clone(),
            clock: Arc::clone(&self.around.clock),
            metrics: self.around.metrics.clone(),
        });
        if let Err(error) = self.bring_up(&live, &source, on_start).await {
            live.ended.cancel();
            self.around.leases.detach(&live.id);
            return Err(error);
        }
        if on_start != OnStart::Lazy {
            let mut paths: Vec<String> =
                live.files.spec().files.iter().map(|file| file.secret.path.clone()).collect();
            paths.dedup();
            self.around.leases.prepare(&live.id, paths);
        }
        drop(tokio::spawn(changes::follow(source, inbox)));
        self.table.insert(live.id.clone(), live);
        self.count();
        Ok(())
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
        live.files.warn(sentence, self.around.clock.wall());
        Ok(())
    }

    async fn mount(
        &self,
        live: &Arc<Live>,
        source: &Arc<VolumeSource>,
    ) -> Result<(), PublishError> {
        let files = Arc::clone(&live.files);
        let source: Arc<VolumeSource> = Arc::clone(source);
        let mounted = self.around.mounts.mount(&live.target, files, source).await?;
        live.mounted.store(Some(Arc::new(mounted)));
        Ok(())
    }

    /// Takes the newer token; rebuilds the mount if the kernel has given it up. Never fails: a final
    /// error of a republish makes kubelet delete the mount's directory under the running pod.
    /// <https://github.com/kubernetes/kubernetes/issues/121271>
    async fn republish(&self, live: &Arc<Live>, request: PublishRequest) {
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
        if live.is_alive() {
            return;
        }
        tracing::warn!(volume = live.id, pod = %live.pod.uid, "the mount is dead; building it anew");
        drop(live.mounted.swap(None));
        if let Err(error) = self.around.mounts.clear(&live.target).await {
            tracing::warn!(volume = live.id, %error, "the dead mount could not be taken down whole");
        }
        let source = Arc::new(VolumeSource {
            live: Arc::clone(live),
            leases: self.around.leases.clone(),
            clock: Arc::clone(&self.around.clock),
            metrics: self.around.metrics.clone(),
        });
        match self.mount(live, &source).await {
            Ok(()) => live.files.warn(
                "the mount had died and was built anew: files that were open stay broken until the pod restarts".to_owned(),
                self.around.clock.wall(),
            ),
            Err(error) => tracing::error!(volume = live.id, %error, "the mount could not be rebuilt; the next republish tries again"),
        }
    }

    fn count(&self) {
        self.around.metrics.set_volumes(self.table.len());
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
                self.republish(&live, request).await;
                Ok(())
            }
        }
    }

    async fn unpublish(&self, request: UnpublishRequest) -> Result<(), UnpublishError> {
        let Some(live) = self.known(&request.volume_id) else {
            return Ok(self.around.mounts.clear(&request.target).await?);
        };
        live.ended.cancel();
        let ended = match live.mounted.swap(None) {
            Some(mounted) => mounted.end().await,
            None => self.around.mounts.clear(&live.target).await,
        };
        live.files.wipe();
        self.around.leases.detach(&live.id);
        self.table.remove(&live.id);
        self.count();
        // What is left of the mount, if anything, is cleared by kubelet's next call.
        Ok(ended?)
    }
}

/// Whether the driver's configuration lets this pod use this connection with this role.
fn admit(config: &Config, spec: &VolumeSpec, request: &PublishRequest) -> Result<(), PublishError> {
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
fn token(
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

fn session_key(spec: &VolumeSpec, request: &PublishRequest) -> SessionKey {
    SessionKey {
        pod: request.pod.clone(),
        connection: spec.connection.clone(),
        namespace: spec.namespace.clone(),
        auth_method: spec.auth_method,
        auth_path: spec.auth_path.clone(),
        role: spec.role.clone(),
        audience: spec.audience.clone(),
    }
}

/// Renders every file before the pod starts; what cannot be had stops the pod.
async fn fetch_all(live: &Arc<Live>, source: &Arc<VolumeSource>) -> Result<(), PublishError> {
    let mut flights = tokio::task::JoinSet::new();
    for file in 0..live.files.spec().files.len() {
        let source = Arc::clone(source);
        flights.spawn(async move { source.bring(file, FETCH_BUDGET).await });
    }
    let mut failures: Vec<(bool, String)> = Vec::new();
    while let Some(outcome) = flights.join_next().await {
        if let Ok(Err(error)) = outcome {
            let said = explain::innermost(&error);
            failures.push((
                explain::definite_no(said) || explain::refused(said),
                explain::read(&live.session, &error),
            ));
        }
    }
    failures.extend(live.files.unrendered().into_iter().map(|reason| (true, reason)));
    failures.sort();
    failures.dedup();
    if failures.is_empty() {
        return Ok(());
    }
    let definite = failures.iter().any(|(definite, _)| *definite);
    let text = failures.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join("; ");
    Err(if definite { PublishError::Refused(text) } else { PublishError::NotYet(text) })
}

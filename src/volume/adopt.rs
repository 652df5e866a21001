//! A volume outlives its driver: how it is written down and deposited, and how the next driver goes on with it.
//!
//! ```text
//! found: manifest read, journal read   -> as it was; nobody notices
//!        manifest read, journal lost   -> generation mark + 1, empty: the next opens ask Vault anew
//!        manifest not read             -> EIO, until kubelet's next republish tells what the volume was
//! ```

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::fs::files::Files;
use crate::fs::serve::{Handed, MountError, Source};
use crate::identity::pod::{PodRef, PodUid};
use crate::identity::session::SessionKey;
use crate::kept::Kept;
use crate::kept::journal::Journal;
use crate::kept::manifest::{self, Manifest, ManifestError};
use crate::kept::region::Region;
use crate::spec::{VolumeSpec, attributes};
use crate::volume::PublishError;
use crate::volume::admission::{admit, session_key};
use crate::volume::keeping::{Deposit, FoundVolume};
use crate::volume::lifecycle::Lifecycle;
use crate::volume::live::{Live, kept_as};
use crate::volume::manifest::{Body, FORMAT};
use crate::volume::publish::PublishRequest;
use crate::volume::rotation;
use crate::volume::source::VolumeSource;

fn host(step: &'static str) -> impl FnOnce(std::io::Error) -> MountError {
    move |source| MountError::Host { step, source }
}

impl Lifecycle {
    /// A new volume's files, written down from the first byte.
    pub(super) fn begin(
        &self,
        request: &PublishRequest,
        spec: VolumeSpec,
        session: &SessionKey,
        holding: &str,
    ) -> Result<Files, MountError> {
        let files = self.files(spec, &request.pod.uid);
        let body = self.body(request, &files, session, holding);
        let kept = self.written(&body, files.generations().0)?;
        Ok(files.keep(kept))
    }

    fn body(
        &self,
        request: &PublishRequest,
        files: &Files,
        session: &SessionKey,
        holding: &str,
    ) -> Body {
        Body {
            format: FORMAT,
            least_reader: FORMAT,
            id: request.volume_id.clone(),
            target: request.target.clone(),
            pod: request.pod.clone(),
            session: session.clone(),
            holding: holding.to_owned(),
            spec: files.spec().clone(),
            born: self.around.clock.wall(),
            names: files.names(),
        }
    }

    /// Memory for a volume, with its manifest in it.
    fn written(&self, body: &Body, mark: u32) -> Result<Kept, MountError> {
        let shelf = &self.around.shelf;
        let (bytes, count) = (body.bytes(), body.spec.files.len());
        let page = shelf.page(manifest::space(&bytes, count)).map_err(host("make a manifest"))?;
        let journal = Journal::create(&kept_as(&body.id), Arc::clone(shelf))
            .map_err(host("make a journal"))?;
        let manifest = Manifest::create(page, &bytes, count, mark);
        Ok(Kept { journal: Arc::new(journal), manifest: Arc::new(manifest) })
    }

    /// Gives the keeper copies of all that the next driver needs.
    pub(super) async fn deposit(&self, live: &Live) {
        let copies = || {
            let mounted = live.mounted.load_full();
            let handed = mounted.map(|mounted| mounted.hand())?.ok()?;
            let Kept { journal, manifest } = live.files().kept();
            let copy = |descriptor: Option<std::os::fd::BorrowedFd<'_>>| {
                descriptor.and_then(|descriptor| descriptor.try_clone_to_owned().ok())
            };
            let (manifest, journal) = (manifest.lend(copy)?, journal.lend(copy)?);
            Some(Deposit { handed, manifest, journal })
        };
        let Some(deposit) = copies() else { return };
        self.around.keeping.deposit(&live.kept_as(), deposit).await;
        // It may have moved meanwhile: the last word is the journal's own, under its lock.
        let journal = live.files().kept().journal;
        drop(tokio::task::spawn_blocking(move || journal.put()).await);
    }

    /// Goes on with a volume of the driver before. Nothing is asked of Vault. Blocks for a moment.
    pub async fn adopt(&self, found: FoundVolume) {
        let name = found.name.clone();
        if self.table.contains_key(name.trim_start_matches("volume/")) {
            return;
        }
        if let Err(error) = self.go_on(found).await {
            tracing::error!(name, %error, "a volume of the driver before cannot be served; kubelet's next republish builds it anew");
            self.around.metrics.state_lost();
            self.around.keeping.withdraw(&name).await;
        }
    }

    async fn go_on(&self, found: FoundVolume) -> Result<(), MountError> {
        let FoundVolume { name, handed, manifest: page, journal } = found;
        let read = manifest::read(page.bytes());
        let body = read.as_ref().ok().and_then(|read| Body::read(&read.body));
        match (read, body) {
            (Ok(read), Some(body)) if read.ending => self.finish(&name, handed, body).await,
            (Ok(read), Some(body)) => self.serve(handed, (page, read), body, journal).await,
            (read, _) => {
                let mark = match read {
                    Ok(read) => read.mark,
                    Err(ManifestError::Body { mark, .. }) => mark,
                    Err(error @ ManifestError::Foreign) => {
                        return Err(host("read the manifest")(std::io::Error::other(error)));
                    }
                };
                tracing::error!(
                    name,
                    mark,
                    "a volume's manifest is damaged or of a later version: its files are EIO until kubelet's next republish"
                );
                self.around.metrics.state_lost();
                self.limited(&name, handed, mark).await
            }
        }
    }

    async fn serve(
        &self,
        handed: Handed,
        (page, read): (Box<dyn Region>, manifest::Found),
        body: Body,
        journal: Box<dyn Region>,
    ) -> Result<(), MountError> {
        let epoch = self.around.keeping.epoch();
        let shelf = Arc::clone(&self.around.shelf);
        let manifest = Arc::new(Manifest::reopen(page, &read));
        let files = self.files(body.spec.clone(), &body.pod.uid);
        let name = kept_as(&body.id);
        let restored = match Journal::reopen(&name, shelf, journal) {
            Ok(journal) => {
                let kept = Kept { journal: Arc::new(journal), manifest: Arc::clone(&manifest) };
                files
                    .restore(kept, &read, epoch)
                    .map_err(|files| (*files, "it is behind the mark".to_owned()))
            }
            Err(error) => Err((files, error.to_string())),
        };
        let (files, lost) = match restored {
            Ok(files) => (files, false),
            Err((files, why)) => {
                tracing::error!(
                    name,
                    why,
                    mark = read.mark,
                    "a volume's journal is lost: its files are fetched anew, under numbers that were never shown"
                );
                self.around.metrics.state_lost();
                let journal = Journal::create(&name, Arc::clone(&self.around.shelf))
                    .map_err(host("make a journal"))?;
                let kept = Kept { journal: Arc::new(journal), manifest };
                (files.after_loss(kept, (read.mark, read.linked), &read.sizes, epoch), true)
            }
        };

        let shown =
            files.spec().files.iter().map(|file| (file.secret.clone(), file.refresh)).collect();
        let session = Arc::new(body.session);
        let live = Arc::new(Live::new(
            (body.id, body.target),
            body.pod,
            Arc::clone(&session),
            Arc::new(files),
            self.around.clock.now(),
        ));
        let (newer, inbox) = tokio::sync::mpsc::unbounded_channel();
        let leases = &self.around.leases;
        let source = self.source(&live);
        let held = leases.attach_again(&live.id, &body.holding, shown, newer.clone());
        if held.is_none() {
            // Its session is lost: the next republish brings a token to log in with.
            drop(leases.attach(&live.id, session, None, newer).await);
        }
        let from: Arc<VolumeSource> = Arc::clone(&source);
        let mounted =
            self.around.mounts.take_over(Some(&live.target), handed, live.files(), from)?;
        // From here on readers are served; the rest they need not wait for.
        live.mounted.store(Some(Arc::new(mounted)));
        // That driver may have died between Vault's answer and the files that show it.
        source.show_again(held.unwrap_or_default());
        if lost {
            self.deposit(&live).await;
        }
        let (newest, linked) = live.files().generations();
        self.enter(Arc::clone(&live), source, inbox);
        self.around.metrics.taken_over();
        if newest != linked {
            let errands = Arc::clone(&self.around.errands);
            drop(tokio::spawn(rotation::rotate(live, errands, self.around.metrics.clone())));
        }
        Ok(())
    }

    /// Ends a volume whose end the driver before had begun.
    async fn finish(&self, name: &str, handed: Handed, body: Body) -> Result<(), MountError> {
        tracing::info!(name, "ending what the driver before had begun to end");
        let files = Arc::new(self.files(body.spec, &body.pod.uid));
        let target = Some(body.target.as_path());
        let mounted = self.around.mounts.take_over(target, handed, files, Arc::new(Nothing));
        if let Ok(mounted) = mounted {
            mounted.end(false).await?;
        }
        self.around.mounts.clear(&body.target).await?;
        self.around.keeping.withdraw(name).await;
        Ok(())
    }

    /// Answers EIO for a volume that nothing is known of but its connection, until [`Self::learn_again`].
    async fn limited(&self, name: &str, handed: Handed, mark: u32) -> Result<(), MountError> {
        let id = name.trim_start_matches("volume/").to_owned();
        let spec = VolumeSpec::unknown();
        let files = self.files(spec, &PodUid::new(""));
        let files = Arc::new(files.after_loss(Kept::none(), (mark, mark), &[], 0));
        let mounted =
            self.around.mounts.take_over(None, handed, Arc::clone(&files), Arc::new(Nothing))?;
        let target = mounted.target();
        // <kubelet>/pods/UID/volumes/...: all that is known of whose it is.
        let mut parts = target.iter().skip_while(|part| *part != "pods").skip(1);
        let uid = parts.next().map(|uid| uid.to_string_lossy().into_owned()).unwrap_or_default();
        let pod = PodRef { uid: PodUid::new(&uid), ..PodRef::default() };
        let session = Arc::new(session_key(files.spec(), &pod));
        let live = Live::new((id, target), pod, session, files, self.around.clock.now());
        live.mounted.store(Some(Arc::new(mounted)));
        self.table.insert(live.id.clone(), Arc::new(live));
        self.count();
        Ok(())
    }

    /// Kubelet tells what a volume was whose manifest could not be read: it is served again, under its old mount.
    pub(super) async fn learn_again(&self, limited: &Arc<Live>, request: &PublishRequest) {
        let config = self.around.config.load_full();
        let spec = attributes::parse(&request.attributes, &config.defaults(), request.group)
            .map_err(PublishError::Invalid);
        let learnt = match spec.and_then(|spec| admit(&config, &spec, request).map(|()| spec)) {
            Ok(spec) => self.begin_anew(limited, request, spec).await.map_err(PublishError::from),
            Err(error) => Err(error),
        };
        if let Err(error) = learnt {
            tracing::error!(volume = limited.id, %error, "kubelet's republish does not tell what the volume was");
        }
    }

    async fn begin_anew(
        &self,
        limited: &Arc<Live>,
        request: &PublishRequest,
        spec: VolumeSpec,
    ) -> Result<(), MountError> {
        // One more than what was shown; the next is one more again.
        let mark = limited.files().generations().0;
        let session = Arc::new(session_key(&spec, &request.pod));
        let (newer, inbox) = tokio::sync::mpsc::unbounded_channel();
        let token = request.tokens.audience(&spec.audience);
        let attached = self.around.leases.attach(&limited.id, Arc::clone(&session), token, newer);
        let holding = attached.await;
        let files = self.files(spec, &request.pod.uid);
        let kept = self.written(&self.body(request, &files, &session, &holding), mark)?;
        let files = files.after_loss(kept, (mark, mark), &[], self.around.keeping.epoch());
        let live = Arc::new(Live::new(
            (limited.id.clone(), limited.target.clone()),
            request.pod.clone(),
            session,
            Arc::new(files),
            self.around.clock.now(),
        ));
        let source = self.source(&live);
        if let Some(mounted) = limited.mounted.swap(None) {
            let from: Arc<VolumeSource> = Arc::clone(&source);
            mounted.show(live.files(), from);
            live.mounted.store(Some(mounted));
        }
        self.deposit(&live).await;
        self.enter(Arc::clone(&live), source, inbox);
        let errands = Arc::clone(&self.around.errands);
        drop(tokio::spawn(rotation::rotate(live, errands, self.around.metrics.clone())));
        Ok(())
    }
}

/// Where the files of a volume come from that nothing is known of.
struct Nothing;

#[async_trait]
impl Source for Nothing {
    async fn fetch(&self, _: usize, _: Duration) {}

    async fn listed(&self) {}
}

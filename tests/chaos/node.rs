//! [`Node`]: fake Vault, keeper, driver, volumes and their pods.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use keyhole::csi::client::{InlineVolume, Kubelet, Refusal};
use keyhole::demo::operator::Operator;
use keyhole::demo::pod::Pod;
use keyhole::demo::stage::Stage;
use keyhole::fake_vault::kind::Kind;
use keyhole::fake_vault::{FakeVault, ROOT};
use serde_json::json;
use tokio::sync::watch::{Receiver, Sender};
use tokio::task::JoinSet;

use crate::contents::{FRESH, value};

/// Calls that kubelet has under way at a time.
const PARALLEL: usize = 16;
/// How often kubelet repeats a call that did not come through: a driver is back long before.
const TRIES: usize = 300;
/// How long it waits before it does, unless the next driver is there.
const AGAIN: Duration = Duration::from_millis(100);

/// A volume and its pod.
pub struct Member {
    pub volume: InlineVolume,
    pub pod: Pod,
}

pub struct Node {
    pub stage: Stage,
    pub vault: Arc<FakeVault>,
    pub program: PathBuf,
    pub operator: Operator,
    /// Kubelet's connection to the driver that is there now.
    pub kubelet: Sender<Kubelet>,
}

/// The volume with the changing pair, or the one that stays as it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Quiet,
    Rotating,
    Fresh,
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Quiet => "quiet",
            Self::Rotating => "rotating",
            Self::Fresh => "first",
        }
    }
}

impl Node {
    pub async fn new(program: PathBuf, mode: &str) -> Self {
        let vault = FakeVault::start().await.unwrap();
        let address = vault.address();
        let operator = Operator::new(&address, ROOT).unwrap();
        let mut stage = Stage::new(&program).unwrap();
        stage.flags = vec!["--takeover".to_owned(), mode.to_owned()];
        let kv = json!({ "type": "kv", "options": { "version": "2" } });
        operator.write("sys/mounts/kv", kv).await.unwrap();
        operator.write("sys/mounts/db", json!({ "type": "database" })).await.unwrap();
        let day = json!({ "db_name": "shop", "default_ttl": "24h", "max_ttl": "48h" });
        operator.write("db/roles/app", day).await.unwrap();
        for secret in ["plain", "big"]
            .map(str::to_owned)
            .into_iter()
            .chain((0..FRESH).map(|at| format!("fresh{at}")))
        {
            let data = json!({ "data": { "v": value(&secret, "v", 1) } });
            operator.write(&format!("kv/data/{secret}"), data).await.unwrap();
        }
        let policy =
            r#"{"path":{"kv/*":{"capabilities":["read"]},"db/*":{"capabilities":["read"]}}}"#;
        operator.write("sys/policies/acl/app", json!({ "policy": policy })).await.unwrap();
        operator.write("sys/auth/jwt", json!({ "type": "jwt" })).await.unwrap();
        let keys = json!({ "jwt_validation_pubkeys": [stage.cluster().public_key_pem()] });
        operator.write("auth/jwt/config", keys).await.unwrap();
        let role = json!({
            "role_type": "jwt",
            "user_claim": "sub",
            "bound_audiences": ["vault"],
            "token_policies": ["app"],
            "token_ttl": "24h",
        });
        operator.write("auth/jwt/role/app", role).await.unwrap();
        // The budget protects a real Vault from a node; here it would be what is measured.
        stage
            .configure(&format!(
                "defaultVault: main\nvaults:\n  main:\n    address: {address}\n    authMethod: jwt\n    budget: {{inFlight: 64, perSecond: 100000}}\n",
            ))
            .unwrap();
        stage.start().await.unwrap_or_else(|error| panic!("{error:#}"));
        let kubelet = Sender::new(stage.kubelet().unwrap().clone());
        let node = Self { stage, vault: Arc::new(vault), program, operator, kubelet };
        node.change("pair", 1).await;
        node.change("rot", 1).await;
        node
    }

    /// Writes a version of a pair: two fields of one secret.
    pub async fn change(&self, secret: &str, version: u64) {
        change(&self.operator, secret, version).await;
    }

    pub fn volume(&self, number: u32, role: Role) -> InlineVolume {
        let fresh = (0..FRESH).map(|at| (format!("fresh{at}"), format!("kv/fresh{at}"), "v"));
        let own =
            [("plain", "kv/plain", "v"), ("big", "kv/big", "v"), ("db.json", "db/creds/app", "")];
        let own = own.map(|(file, secret, field)| (file.to_owned(), secret.to_owned(), field));
        let secret = if role == Role::Rotating { "kv/rot" } else { "kv/pair" };
        let pair = ["a", "b"].map(|field| (format!("pair.{field}"), secret.to_owned(), field));
        let files: Vec<_> = if role == Role::Fresh {
            fresh.collect()
        } else {
            own.into_iter().chain(pair).collect()
        };
        let mut attributes = vec![("role".to_owned(), "app".to_owned())];
        for (file, secret, field) in files {
            if secret == "kv/rot" {
                attributes.push((format!("{file}/refresh"), "1s".to_owned()));
            }
            if !field.is_empty() {
                attributes.push((format!("{file}/field"), field.to_owned()));
            }
            attributes.push((format!("{file}/secret"), secret));
        }
        let attributes: Vec<_> =
            attributes.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        // The number is in the names of cgroups: two runs on one machine must not meet.
        let own = (std::process::id() & 0x7fff) << 16;
        self.stage.volume(own + number, &attributes).unwrap()
    }

    /// Publishes volumes and starts their pods.
    pub async fn members(&self, numbers: std::ops::Range<u32>, role: Role) -> Vec<Member> {
        let volumes: Vec<_> = numbers.map(|number| self.volume(number, role)).collect();
        let mut calls = JoinSet::new();
        for volume in &volumes {
            if calls.len() == PARALLEL {
                calls.join_next().await.unwrap().unwrap();
            }
            let (kubelet, volume) = (self.kubelet.subscribe(), volume.clone());
            calls.spawn(async move { publish(&kubelet, &volume).await.unwrap() });
        }
        calls.join_all().await;
        let pod = |volume: InlineVolume| {
            let pod = Pod::start(&volume.pod.uid, &volume.target).unwrap();
            Member { volume, pod }
        };
        volumes.into_iter().map(pod).collect()
    }

    /// Logins, mount questions and reads so far.
    pub fn asked(&self) -> u64 {
        [Kind::Login, Kind::Mount, Kind::Secret].map(|kind| self.vault.count(kind)).iter().sum()
    }
}

pub async fn change(operator: &Operator, secret: &str, version: u64) {
    let data =
        json!({ "data": { "a": value(secret, "a", version), "b": value(secret, "b", version) } });
    operator.write(&format!("kv/data/{secret}"), data).await.unwrap();
}

/// As kubelet: a call whose driver died is made again.
pub async fn publish(kubelet: &Receiver<Kubelet>, volume: &InlineVolume) -> Result<(), String> {
    again(kubelet, volume, false).await
}

/// The same for the end of a volume.
pub async fn unpublish(kubelet: &Receiver<Kubelet>, volume: &InlineVolume) -> Result<(), String> {
    again(kubelet, volume, true).await
}

async fn again(
    kubelet: &Receiver<Kubelet>,
    volume: &InlineVolume,
    ends: bool,
) -> Result<(), String> {
    let (mut kubelet, mut last) = (kubelet.clone(), String::new());
    for _ in 0..TRIES {
        let now = kubelet.borrow_and_update().clone();
        let answer = match ends {
            true => now.unpublish(&volume.id, &volume.target).await,
            false => now.publish(volume).await,
        };
        match answer {
            Ok(()) => return Ok(()),
            Err(refusal) if died(&refusal) => last = refusal.to_string(),
            Err(refusal) => return Err(refusal.to_string()),
        }
        drop(tokio::time::timeout(AGAIN, kubelet.changed()).await);
    }
    Err(last)
}

/// Nobody answered, or not to the end.
fn died(refusal: &Refusal) -> bool {
    use tonic::Code;
    matches!(refusal.code, Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Aborted)
}

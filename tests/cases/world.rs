//! [`World`]: a node with the real driver, and a Vault with engines, roles and secrets on it.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use keyhole::csi::client::{InlineVolume, Kubelet, Refusal};
use keyhole::demo::operator::{Operator, at};
use keyhole::demo::pod::Pod;
use keyhole::demo::stage::Stage;
use keyhole::fake_vault::kind::Kind;
use keyhole::fake_vault::{FakeVault, ROOT};
use serde_json::{Value, json};

/// The plainest volume: the file `f` shows `anna`, the user of a KV 2 secret.
pub const USER: [(&str, &str); 2] = [("f/secret", "{}-kv/app"), ("f/field", "user")];

/// Pods and worlds are numbered: two tests never share one.
static NUMBER: AtomicU32 = AtomicU32::new(1);

/// The program under test.
pub fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_keyhole"))
}

fn next() -> u32 {
    // Test binaries that run at the same time must not meet in the same cgroups.
    (std::process::id() << 12) + NUMBER.fetch_add(1, Ordering::Relaxed)
}

/// Everything a test needs.
pub struct World {
    pub stage: Stage,
    pub operator: Operator,
    pub address: String,
    /// Before every mount, policy and auth method of this world.
    pub name: String,
    /// The Vault, when it is the fake one.
    fake: Option<FakeVault>,
}

/// Where the database behind the engine is, when there is one.
pub struct Database {
    pub plugin: &'static str,
    pub config: Value,
    /// What makes a user.
    pub creation: &'static str,
}

impl World {
    /// A world on the fake Vault.
    pub async fn fake() -> Self {
        Self::begin().await.run().await
    }

    /// The same before anything is started but Vault.
    pub async fn begin() -> Self {
        keyhole::vault::tls::install_crypto();
        let fake = FakeVault::start().await.unwrap();
        let stage = Stage::new(program()).unwrap();
        fake.trust(stage.cluster());
        let operator = Operator::new(&fake.address(), ROOT).unwrap();
        let address = fake.address();
        Self { stage, operator, address, name: "w".to_owned(), fake: Some(fake) }
    }

    /// Sets the fake Vault up and starts the rest.
    pub async fn run(self) -> Self {
        let database = Database { plugin: "none", config: json!({}), creation: "" };
        // Its TokenReview is in the fake itself.
        self.started("https://kubernetes.default.svc", &database).await
    }

    /// A world on a Vault that runs; `host` answers its TokenReviews with `stage`'s cluster.
    pub async fn on(
        stage: Stage,
        address: &str,
        token: &str,
        host: &str,
        database: &Database,
    ) -> Self {
        let operator = Operator::new(address, token).unwrap();
        let name = format!("w{}", next());
        let address = address.to_owned();
        Self { stage, operator, address, name, fake: None }.started(host, database).await
    }

    async fn started(mut self, host: &str, database: &Database) -> Self {
        self.set_up(host, database).await.unwrap_or_else(|error| panic!("{error:#}"));
        self.stage.configure(&self.config("")).unwrap();
        self.stage.start().await.unwrap_or_else(|error| panic!("{error:#}"));
        if let Some(fake) = &self.fake {
            fake.count_anew();
        }
        self
    }

    /// The driver's configuration: the connections `main` (kubernetes) and `jwt`, `more` below both.
    pub fn config(&self, more: &str) -> String {
        let (address, name) = (&self.address, &self.name);
        let connection = |own: &str, method: &str| {
            format!(
                "  {own}:\n    address: {address}\n    authMethod: {method}\n    authPath: {name}-{method}\n{more}"
            )
        };
        let (main, jwt) = (connection("main", "kubernetes"), connection("jwt", "jwt"));
        format!("defaultVault: main\nvaults:\n{main}{jwt}")
    }

    async fn set_up(&self, host: &str, database: &Database) -> anyhow::Result<()> {
        let (vault, name) = (&self.operator, &self.name);
        let mount = |kind: &str, version: &str| {
            if version.is_empty() {
                json!({ "type": kind })
            } else {
                json!({ "type": kind, "options": { "version": version } })
            }
        };
        for (engine, kind, version) in [
            ("kv", "kv", "2"),
            ("v1", "kv", "1"),
            ("db", "database", ""),
            ("pki", "pki", ""),
            ("transit", "transit", ""),
        ] {
            vault.write(&format!("sys/mounts/{name}-{engine}"), mount(kind, version)).await?;
        }
        vault.until_ready(&format!("{name}-kv/data/probe")).await?;
        for (path, data) in [
            (
                "app",
                json!({ "user": "anna", "password": "pa\"ss\nword", "port": 5432, "tls": true }),
            ),
            ("bytes", json!({ "raw": "AAECAwQ=" })),
            ("other", json!({ "key": "value" })),
        ] {
            vault.write(&format!("{name}-kv/data/{path}"), json!({ "data": data })).await?;
        }
        vault.write(&format!("{name}-v1/app"), json!({ "user": "bert" })).await?;

        let role = json!({
            "db_name": "shop",
            "creation_statements": database.creation,
            "default_ttl": "1h",
            "max_ttl": "24h",
        });
        let mut config = database.config.clone();
        config["plugin_name"] = json!(database.plugin);
        config["allowed_roles"] = json!("*");
        vault.write(&format!("{name}-db/config/shop"), config).await?;
        vault.write(&format!("{name}-db/roles/app"), role).await?;

        let root = json!({ "common_name": "root.test", "ttl": "24h", "key_type": "ec" });
        vault.write(&format!("{name}-pki/root/generate/internal"), root).await?;
        let role = json!({ "allow_any_name": true, "ttl": "1h", "key_type": "ec" });
        vault.write(&format!("{name}-pki/roles/app"), role).await?;
        vault.write(&format!("{name}-transit/keys/app"), json!({})).await?;

        let capability = |word: &str| json!({ "capabilities": [word] });
        let paths = json!({
            format!("{name}-kv/data/*"): capability("read"),
            format!("{name}-kv/data/secret-of-others"): capability("deny"),
            format!("{name}-v1/*"): capability("read"),
            format!("{name}-db/creds/app"): capability("read"),
            format!("{name}-db/creds/short"): capability("read"),
            format!("{name}-pki/issue/app"): capability("update"),
            format!("{name}-transit/decrypt/app"): capability("update"),
        });
        let policy = json!({ "path": paths }).to_string();
        vault.write(&format!("sys/policies/acl/{name}"), json!({ "policy": policy })).await?;

        // Required, though the stand-in speaks plain HTTP.
        let authority =
            rcgen::generate_simple_self_signed(vec!["kubernetes".to_owned()])?.cert.pem();
        vault
            .write(&format!("sys/auth/{name}-kubernetes"), json!({ "type": "kubernetes" }))
            .await?;
        vault
            .write(
                &format!("auth/{name}-kubernetes/config"),
                json!({
                    "kubernetes_host": host,
                    "disable_local_ca_jwt": true,
                    "kubernetes_ca_cert": authority,
                    "token_reviewer_jwt": "reviewer",
                    "disable_iss_validation": true,
                }),
            )
            .await?;
        vault.write(&format!("sys/auth/{name}-jwt"), json!({ "type": "jwt" })).await?;
        let keys = json!({ "jwt_validation_pubkeys": [self.stage.cluster().public_key_pem()] });
        vault.write(&format!("auth/{name}-jwt/config"), keys).await?;
        self.put_role("app", "1h").await
    }

    /// Writes the role into both auth methods, for the service account `shop/checkout`.
    pub async fn put_role(&self, role: &str, ttl: &str) -> anyhow::Result<()> {
        let name = &self.name;
        self.operator
            .write(
                &format!("auth/{name}-kubernetes/role/{role}"),
                json!({
                    "bound_service_account_names": ["checkout"],
                    "bound_service_account_namespaces": ["shop"],
                    "audience": "vault",
                    "token_policies": [name],
                    "token_ttl": ttl,
                }),
            )
            .await?;
        self.operator
            .write(
                &format!("auth/{name}-jwt/role/{role}"),
                json!({
                    "role_type": "jwt",
                    "user_claim": "sub",
                    "bound_audiences": ["vault"],
                    "bound_subject": "system:serviceaccount:shop:checkout",
                    "token_policies": [name],
                    "token_ttl": ttl,
                }),
            )
            .await?;
        Ok(())
    }

    /// The fake Vault.
    pub fn vault(&self) -> &FakeVault {
        self.fake.as_ref().expect("this test needs the fake Vault")
    }

    pub fn kubelet(&self) -> &Kubelet {
        self.stage.kubelet().unwrap()
    }

    /// A volume of a new pod, with `role: app` unless it says otherwise. `{}` stands for the world's name.
    pub fn volume(&self, attributes: &[(&str, &str)]) -> InlineVolume {
        let mut volume = self.stage.volume(next(), &[("role", "app")]).unwrap();
        for (key, value) in attributes {
            let value = value.replacen("{}", &self.name, 1);
            volume.attributes.insert((*key).to_owned(), value);
        }
        volume
    }

    pub async fn publish(&self, volume: &InlineVolume) {
        let answer = self.kubelet().publish(volume).await;
        answer.unwrap_or_else(|error| panic!("{error}\n{}", self.log()));
    }

    pub async fn refused(&self, volume: &InlineVolume) -> Refusal {
        self.kubelet().publish(volume).await.expect_err("it was published")
    }

    pub async fn unpublish(&self, volume: &InlineVolume) {
        let answer = self.kubelet().unpublish(&volume.id, &volume.target).await;
        answer.unwrap_or_else(|error| panic!("{error}\n{}", self.log()));
    }

    /// A published volume and a pod that sees it.
    pub async fn mounted(&self, attributes: &[(&str, &str)]) -> (InlineVolume, Pod) {
        let volume = self.volume(attributes);
        self.publish(&volume).await;
        let pod = Pod::start(&volume.pod.uid, &volume.target).unwrap();
        (volume, pod)
    }

    /// What a file holds, read in the pod.
    pub fn cat(&self, pod: &Pod, file: &str) -> String {
        pod.output(&["cat", file]).unwrap_or_else(|error| panic!("{error}\n{}", self.log()))
    }

    /// Writes a secret of the KV 2 mount.
    pub async fn put(&self, path: &str, data: Value) {
        let path = format!("{}-kv/data/{path}", self.name);
        self.operator.write(&path, json!({ "data": data })).await.unwrap();
        if let Some(fake) = &self.fake {
            fake.uncount(Kind::Secret);
        }
    }

    /// The volume's status, read in the pod.
    pub fn status(&self, pod: &Pod) -> Value {
        serde_json::from_str(&self.cat(pod, ".keyhole/status.json")).unwrap()
    }

    /// Why a file is not there, from the volume's status.
    pub fn reason(&self, pod: &Pod, file: &str) -> String {
        let status = self.status(pod);
        let files = status["files"].as_array().unwrap().iter();
        let file = files.clone().find(|had| had["name"] == file).unwrap().clone();
        at(&file, &["error", "reason"]).as_str().unwrap_or_default().to_owned()
    }

    pub fn log(&self) -> String {
        self.stage.driver().unwrap().log()
    }
}

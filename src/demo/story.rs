//! The story: a pod's life with a Keyhole volume, step by step.

use std::path::Path;

use anyhow::{Context, ensure};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::DemoOptions;
use crate::csi::client::InlineVolume;
use crate::demo::driver::Driver;
use crate::demo::operator::Operator;
use crate::demo::outlive;
use crate::demo::pod::{Pod, VOLUME};
use crate::demo::stage::Stage;
use crate::demo::teller::Teller;
use crate::fake_vault::kind::Kind;
use crate::fake_vault::{FakeVault, ROOT};

/// Everything that is made in Vault has this in its name.
const OWN: &str = "keyhole-demo";

/// What the volume shows; each line is explained by the attribute table in README.
const FILES: [(&str, &str); 8] = [
    ("role", OWN),
    ("stripe-key/secret", "keyhole-demo/checkout/stripe"),
    ("stripe-key/field", "api_key"),
    ("app.env/secret", "keyhole-demo/checkout/app"),
    ("app.env/format", "dotenv"),
    ("app/secret", "keyhole-demo/checkout/app"),
    ("app/field", "*"),
    ("db.json/secret", "keyhole-demo-db/creds/checkout"),
];

/// Plays it.
pub(super) async fn play(options: &DemoOptions, program: &Path) -> anyhow::Result<()> {
    let mut teller = Teller::new();
    let fake = match options.vault {
        None => Some(FakeVault::start().await?),
        Some(_) => None,
    };
    let address = match (&options.vault, &fake) {
        (Some(given), _) => given.clone(),
        (None, Some(fake)) => fake.address(),
        (None, None) => anyhow::bail!("no Vault"),
    };
    let operator = Operator::new(&address, options.token.as_deref().unwrap_or(ROOT))?;
    let mut stage = Stage::new(program)?;
    // From here on Ctrl-C is an ending like others: what was made in Vault is taken back.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let played = match set_up(&operator, &stage, fake.is_some()).await {
        Ok(()) => {
            tokio::select! {
                played = act(options, &mut stage, &operator, fake.as_ref(), &address, &mut teller) => played,
                _ = interrupt.recv(), if !options.hold => Err(anyhow::anyhow!("interrupted")),
            }
        }
        Err(error) => Err(error),
    };
    teller.begin();
    // A stopped fake is gone with all that was made in it.
    let played = played.map_err(|error| {
        let log = stage.driver().map(Driver::log).unwrap_or_default();
        error.context(format!("the driver logged:\n{log}\nand the demo stopped"))
    });
    let undone = if fake.is_some() { Ok(()) } else { operator.undo().await };
    if fake.is_none() && undone.is_ok() {
        teller.step("mounts, policy and role are removed from Vault")?;
    }
    played.and(undone)
}

async fn set_up(operator: &Operator, stage: &Stage, database: bool) -> anyhow::Result<()> {
    operator
        .make(&format!("sys/mounts/{OWN}"), json!({ "type": "kv", "options": { "version": "2" } }))
        .await?;
    operator.until_ready(&format!("{OWN}/data/probe")).await?;
    let app =
        json!({ "data": { "USER": "checkout", "GREETING": "it's \"here\"", "REGION": "eu-1" } });
    operator.write(&format!("{OWN}/data/checkout/app"), app).await?;
    let stripe = json!({ "data": { "api_key": "sk_demo_4eC39HqLyjWDarjtT1zdp7dc" } });
    operator.write(&format!("{OWN}/data/checkout/stripe"), stripe).await?;
    let read = json!({ "capabilities": ["read"] });
    let mut paths = serde_json::Map::new();
    paths.insert(format!("{OWN}/data/checkout/*"), read.clone());
    if database {
        let mount = format!("{OWN}-db");
        operator.make(&format!("sys/mounts/{mount}"), json!({ "type": "database" })).await?;
        let role = json!({ "db_name": "shop", "default_ttl": "1h", "max_ttl": "24h" });
        operator.write(&format!("{mount}/roles/checkout"), role).await?;
        paths.insert(format!("{mount}/creds/checkout"), read);
    }
    let policy = json!({ "path": paths }).to_string();
    operator.make(&format!("sys/policies/acl/{OWN}"), json!({ "policy": policy })).await?;
    operator.make(&format!("sys/auth/{OWN}"), json!({ "type": "jwt" })).await?;
    let keys = json!({ "jwt_validation_pubkeys": [stage.cluster().public_key_pem()] });
    operator.write(&format!("auth/{OWN}/config"), keys).await?;
    let role = json!({
        "role_type": "jwt",
        "user_claim": "sub",
        "bound_audiences": ["vault"],
        "bound_subject": "system:serviceaccount:shop:checkout",
        "token_policies": [OWN],
        "token_ttl": "1h",
    });
    operator.write(&format!("auth/{OWN}/role/{OWN}"), role).await?;
    Ok(())
}

async fn act(
    options: &DemoOptions,
    stage: &mut Stage,
    operator: &Operator,
    fake: Option<&FakeVault>,
    address: &str,
    teller: &mut Teller,
) -> anyhow::Result<()> {
    let which = if fake.is_some() { "fake Vault" } else { "Vault" };
    teller.step(format!(
        "{which} at {address} has a KV 2 mount, a policy and a role of a jwt auth method"
    ))?;
    stage.configure(&format!(
        "defaultVault: main\nvaults:\n  main:\n    address: {address}\n    authMethod: jwt\n    authPath: {OWN}\n"
    ))?;
    stage.start().await?;
    let took = stage.ready().as_secs_f64() * 1000.0;
    teller.step(format!("the driver is ready ({took:.1} ms) and registered with kubelet"))?;

    // Without a database behind it, a real Vault shows the rest.
    let attributes: Vec<_> = FILES
        .into_iter()
        .filter(|(key, _)| fake.is_some() || !key.starts_with("db.json"))
        .collect();
    // Its number is in the names of cgroups: two demos on one machine must not meet.
    let number = std::process::id() << 8;
    let volume = stage.volume(number, &attributes)?;
    teller.begin();
    stage.kubelet()?.publish(&volume).await?;
    teller.step("kubelet: NodePublishVolume; mounted, and the login was checked")?;

    let pod = Pod::start(&volume.pod.uid, &volume.target)?;
    teller.step(
        "the pod starts: a cgroup and a mount namespace of its own, the volume bound into it",
    )?;
    read(&pod, fake, teller)?;
    outlive::play(stage, &pod, teller).await?;
    denied(stage, teller).await?;
    if let Some(fake) = fake {
        outage(fake, &pod, teller).await?;
    }
    if options.hold {
        hold(&pod, &volume, teller).await?;
    }
    end(stage, &volume, pod, operator, fake, teller).await
}

fn read(pod: &Pod, fake: Option<&FakeVault>, teller: &mut Teller) -> anyhow::Result<()> {
    let key = pod.output(&["cat", "stripe-key"])?;
    teller.step("cat stripe-key: the first read logs in and asks Vault")?;
    ensure!(key == "sk_demo_4eC39HqLyjWDarjtT1zdp7dc", "stripe-key is not what was written");
    teller.show(&key)?;
    pod.output(&["cat", "stripe-key"])?;
    teller.step("cat stripe-key again: nobody is asked (most of this time is starting `cat`)")?;
    let env = pod.output(&["cat", "app.env"])?;
    teller.step("cat app.env: the whole secret as dotenv")?;
    teller.show(&env)?;
    let fields = pod.output(&["grep", "-r", "", "app/"])?;
    teller.step("grep -r '' app/: a folder with one file per field")?;
    teller.show(&fields)?;
    if fake.is_some() {
        let credential = pod.output(&["cat", "db.json"])?;
        teller.step("cat db.json: a database credential, made for this pod, with a lease")?;
        teller.show(&credential)?;
    }
    let list = pod.output(&["ls", "-lL", "--time-style=+%H:%M:%S"])?;
    teller.step("ls -lL: true sizes")?;
    teller.show(&list)?;
    let status = pod.output(&["cat", ".keyhole/status.json"])?;
    teller.step("cat .keyhole/status.json: where everything comes from, and never a value")?;
    teller.show(&status)?;
    Ok(())
}

async fn denied(stage: &Stage, teller: &mut Teller) -> anyhow::Result<()> {
    let other = stage.volume(
        (std::process::id() << 8) + 1,
        &[("role", "nobody-has-this-role"), ("x/secret", "keyhole-demo/x")],
    )?;
    teller.begin();
    let refusal = stage.kubelet()?.publish(&other).await.err();
    let refusal = refusal.context("a role that does not exist was accepted")?;
    teller.step("another pod names a role that does not exist; its event says:")?;
    let text = format!("MountVolume.SetUp failed for volume \"secrets\" : {refusal}");
    teller.show(&text)?;
    Ok(())
}

async fn outage(fake: &FakeVault, pod: &Pod, teller: &mut Teller) -> anyhow::Result<()> {
    fake.stop();
    teller.begin();
    let key = pod.output(&["cat", "stripe-key", "app.env", "db.json"])?;
    ensure!(!key.is_empty(), "nothing was read");
    teller.step("Vault is stopped; what was fetched is read as before")?;
    fake.resume().await?;
    teller.step("Vault is back")?;
    Ok(())
}

async fn hold(pod: &Pod, volume: &InlineVolume, teller: &mut Teller) -> anyhow::Result<()> {
    // Before anybody is told to press Ctrl-C.
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    teller.say(&format!(
        "The volume stays until Ctrl-C. Try, in another terminal:\n  \
         a shell in the pod, where {VOLUME} is the volume:\n    {}\n  \
         the same from the host, which the gate refuses (Permission denied):\n    cat {}/stripe-key\n  \
         what the driver knows (names work for everybody):\n    ls -l {}",
        pod.shell(),
        volume.target.display(),
        volume.target.display(),
    ))?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    teller.say("")?;
    Ok(())
}

async fn end(
    stage: &mut Stage,
    volume: &InlineVolume,
    pod: Pod,
    operator: &Operator,
    fake: Option<&FakeVault>,
    teller: &mut Teller,
) -> anyhow::Result<()> {
    let leases = match fake {
        Some(_) => operator.leases("keyhole-demo-db/creds/checkout").await?.len(),
        None => 0,
    };
    drop(pod);
    teller.begin();
    stage.kubelet()?.unpublish(&volume.id, &volume.target).await?;
    ensure!(!volume.target.exists(), "the directory is still there");
    teller.step("the pod ends; kubelet: NodeUnpublishVolume; unmounted and forgotten")?;
    if let Some(fake) = fake {
        ensure!(leases == 1, "{leases} leases instead of one");
        fake.answered(Kind::RevokeToken, 1).await;
        let left = fake.leases().len();
        ensure!(left == 0, "{left} leases are left");
        teller.step("Vault: the token is revoked, and the database credential's lease with it")?;
    }
    let driver = stage.driver_mut()?;
    teller.begin();
    ensure!(driver.stop()?, "the driver failed: {}", driver.log());
    teller.step("the driver stops")?;
    Ok(())
}

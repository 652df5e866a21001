//! One OpenBao (dev mode) and one Redis as its database, for the whole test binary.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};

use keyhole::demo::operator::Operator;
use keyhole::demo::stage::Stage;
use serde_json::{Value, json};

use crate::api_server;
use crate::cases::world::{Database, World, program};

pub const TOKEN: &str = "root-of-the-tests";

/// A tool that `make tools` has built.
pub fn tool(name: &str) -> PathBuf {
    let tools =
        std::env::var_os("KEYHOLE_TOOLS").expect("KEYHOLE_TOOLS is not set: run `make servers`");
    let path = PathBuf::from(tools).join(name);
    assert!(path.exists(), "{} is missing: run `make tools`", path.display());
    path
}

struct Servers {
    vault: u16,
    redis: u16,
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Starts a server that dies with this process, whichever way that ends.
pub fn spawn(mut command: Command) {
    // The signal comes when the thread that started it ends: this one never does.
    std::thread::spawn(move || {
        let mut child = command.stdin(Stdio::null()).spawn().expect("the server cannot be started");
        drop(child.wait());
    });
}

fn servers() -> &'static Servers {
    static SERVERS: OnceLock<Servers> = OnceLock::new();
    SERVERS.get_or_init(|| {
        let (vault, redis) = (free_port(), free_port());
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(tool("bao"));
        command.args(["server", "-dev", "-dev-no-store-token", "-log-level=warn"]);
        command.arg(format!("-dev-root-token-id={TOKEN}"));
        command.arg(format!("-dev-listen-address=127.0.0.1:{vault}"));
        spawn({
            command.stdout(Stdio::null()).stderr(Stdio::null());
            command
        });
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "redis-server", "--save", "", "--requirepass", "pw"]);
        command.args(["--bind", "127.0.0.1", "--port", &redis.to_string()]);
        spawn({
            command.stdout(Stdio::null());
            command
        });
        Servers { vault, redis }
    })
}

/// Waits until both take connections and OpenBao is unsealed.
async fn up(servers: &Servers, address: &str) {
    let operator = Operator::new(address, TOKEN).unwrap();
    let ready = async {
        loop {
            let health = operator.exchange(http::Method::GET, "sys/health", "", &Value::Null).await;
            let redis = tokio::net::TcpStream::connect(("127.0.0.1", servers.redis)).await;
            if matches!(health, Ok((200, _))) && redis.is_ok() {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    let within = std::time::Duration::from_secs(60);
    tokio::time::timeout(within, ready).await.expect("OpenBao or Redis does not come up");
}

/// Where it is.
pub fn address() -> String {
    format!("http://127.0.0.1:{}", servers().vault)
}

/// A hand with its root token, once it is up.
pub async fn operator() -> Operator {
    keyhole::vault::tls::install_crypto();
    let address = address();
    up(servers(), &address).await;
    Operator::new(&address, TOKEN).unwrap()
}

/// A world on it.
pub async fn world() -> World {
    drop(operator().await);
    let (servers, address) = (servers(), address());
    let stage = Stage::new(program()).unwrap();
    let host = api_server::start(Arc::clone(stage.cluster())).await;
    let database = Database {
        plugin: "valkey-database-plugin",
        config: json!({
            "host": "127.0.0.1",
            "port": servers.redis,
            "username": "default",
            "password": "pw",
        }),
        creation: r#"["+@read"]"#,
    };
    World::on(stage, &address, TOKEN, &host, &database).await
}

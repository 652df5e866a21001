//! The command line: what was typed. No behaviour; dependent defaults are filled in here.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::fuse::mode::Takeover;
use crate::telemetry::LogFormat;

/// Secrets from HashiCorp Vault or OpenBao as files in Kubernetes pods, with no sidecar.
// No Debug: one of the flags is a token.
#[derive(Parser)]
#[command(name = "keyhole", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand)]
pub enum Command {
    /// The node plugin: serves kubelet and the files of every pod on this node.
    Driver(DriverArgs),
    /// Keeps what the driver deposits, so that mounts outlive it. Knows no secret and no network.
    Keeper(KeeperOptions),
    /// The keeper's child that answers EIO while there is no driver.
    #[command(hide = true)]
    Responder {
        /// The end of a socket pair that the keeper serves.
        #[arg(long)]
        keeper_fd: i32,
    },
    /// The keeper's child that renames inside mounts.
    #[command(hide = true)]
    Rotator {
        /// The end of a socket pair that errands come from.
        #[arg(long)]
        control_fd: i32,
    },
    /// Plays everything on this machine: a Vault, the driver, kubelet and a pod. Needs root and FUSE.
    Demo(DemoOptions),
    /// The demo's reader, in the pod.
    #[command(hide = true)]
    DemoReader,
    /// Prints the version and the commit it was built from.
    Version,
}

/// Flags of `keyhole driver`.
#[derive(Args, Clone, Debug)]
pub struct DriverArgs {
    /// Name of this node, as in its Node object.
    #[arg(long, env = "KEYHOLE_NODE_NAME")]
    node_name: String,
    /// Kubelet's directory, as the driver sees it and as kubelet does.
    #[arg(long, env = "KEYHOLE_KUBELET_DIR", default_value = "/var/lib/kubelet")]
    kubelet_dir: PathBuf,
    /// The CSI socket (default: plugins/csi.keyhole.dev/csi.sock in the kubelet directory)
    #[arg(long, env = "KEYHOLE_CSI_SOCKET")]
    csi_socket: Option<PathBuf>,
    /// Where kubelet looks for new plugins (default: plugins_registry in the kubelet directory)
    #[arg(long, env = "KEYHOLE_REGISTRATION_DIR")]
    registration_dir: Option<PathBuf>,
    /// Where /livez, /readyz and /metrics are served; port 0 takes a free one and logs it.
    #[arg(long, env = "KEYHOLE_ADMIN_LISTEN", default_value = "127.0.0.1:9809")]
    admin_listen: SocketAddr,
    /// The configuration file.
    #[arg(long, env = "KEYHOLE_CONFIG", default_value = "/etc/keyhole/config.yaml")]
    config: PathBuf,
    /// Where the keeper listens; empty for none: then mounts end with the driver.
    #[arg(long, env = "KEYHOLE_KEEPER_SOCKET", default_value = "/run/keyhole/keeper.sock")]
    keeper_socket: PathBuf,
    /// What becomes of requests that a killed driver had read; auto is what the kernel can do.
    #[arg(long, env = "KEYHOLE_TAKEOVER", value_enum, default_value_t)]
    takeover: Takeover,
    /// How often to look for volumes whose pod has vanished; one that is found twice is ended.
    #[arg(long, env = "KEYHOLE_SWEEP_INTERVAL", default_value = "5m", value_parser = duration)]
    sweep_interval: Duration,
    /// How log lines look.
    #[arg(long, env = "KEYHOLE_LOG_FORMAT", value_enum, default_value_t)]
    log_format: LogFormat,
    /// error, warn, info, debug or trace.
    #[arg(long, env = "KEYHOLE_LOG_LEVEL", default_value = "info")]
    log_level: String,
}

/// What `keyhole driver` shall do, every default filled in.
#[derive(Clone, Debug)]
pub struct DriverOptions {
    /// Name of this node.
    pub node_name: String,
    /// Kubelet's directory.
    pub kubelet_dir: PathBuf,
    /// The CSI socket.
    pub csi_socket: PathBuf,
    /// Kubelet's plugin directory.
    pub registration_dir: PathBuf,
    /// The admin address.
    pub admin_listen: SocketAddr,
    /// The configuration file.
    pub config: PathBuf,
    /// Where the keeper listens.
    pub keeper_socket: Option<PathBuf>,
    /// What becomes of requests that a killed driver had read.
    pub takeover: Takeover,
    /// How often to look for volumes whose pod has vanished.
    pub sweep_interval: Duration,
    /// How log lines look.
    pub log_format: LogFormat,
    /// The least important level that is logged.
    pub log_level: String,
}

impl From<DriverArgs> for DriverOptions {
    fn from(typed: DriverArgs) -> Self {
        let below = |path: &str| typed.kubelet_dir.join(path);
        Self {
            csi_socket: typed
                .csi_socket
                .unwrap_or_else(|| below("plugins/csi.keyhole.dev/csi.sock")),
            registration_dir: typed.registration_dir.unwrap_or_else(|| below("plugins_registry")),
            kubelet_dir: typed.kubelet_dir.clone(),
            node_name: typed.node_name,
            admin_listen: typed.admin_listen,
            config: typed.config,
            keeper_socket: Some(typed.keeper_socket).filter(|path| !path.as_os_str().is_empty()),
            takeover: typed.takeover,
            sweep_interval: typed.sweep_interval,
            log_format: typed.log_format,
            log_level: typed.log_level,
        }
    }
}

/// Flags of `keyhole keeper`.
#[derive(Args, Clone, Debug)]
pub struct KeeperOptions {
    /// Where drivers connect; its folder becomes root's alone.
    #[arg(long, env = "KEYHOLE_KEEPER_SOCKET", default_value = "/run/keyhole/keeper.sock")]
    pub socket: PathBuf,
    /// How long there may be no driver before volumes answer EIO instead of waiting.
    #[arg(long, env = "KEYHOLE_ORPHAN_GRACE", default_value = "30s", value_parser = duration)]
    pub orphan_grace: Duration,
}

fn duration(text: &str) -> Result<Duration, String> {
    crate::spec::values::duration(text).map_err(|_| "write one like 30s, 5m or 1h30m".to_owned())
}

/// Flags of `keyhole demo`.
#[derive(Args, Clone)]
pub struct DemoOptions {
    /// A Vault or OpenBao to play on; without it a fake one is started.
    #[arg(long, requires = "token")]
    pub vault: Option<String>,
    /// A token that may make mounts, policies and roles there; the variable keeps it out of `ps`.
    #[arg(long, requires = "vault", env = "KEYHOLE_DEMO_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Leaves the volume mounted until Ctrl-C and says what to try.
    #[arg(long)]
    pub hold: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn driver(typed: &[&str]) -> DriverOptions {
        let words = ["keyhole", "driver", "--node-name", "n"].iter().chain(typed);
        match Cli::try_parse_from(words).unwrap().command {
            Command::Driver(args) => args.into(),
            Command::Demo(_)
            | Command::DemoReader
            | Command::Keeper(_)
            | Command::Responder { .. }
            | Command::Rotator { .. }
            | Command::Version => panic!("not the driver"),
        }
    }

    #[test]
    fn sockets_follow_the_kubelet_directory_unless_they_are_given() {
        let options = driver(&[]);
        let socket = "/var/lib/kubelet/plugins/csi.keyhole.dev/csi.sock";
        assert_eq!(options.csi_socket, PathBuf::from(socket));
        assert_eq!(options.registration_dir, PathBuf::from("/var/lib/kubelet/plugins_registry"));
        assert_eq!(options.admin_listen.to_string(), "127.0.0.1:9809");
        let options = driver(&["--kubelet-dir", "/k", "--csi-socket", "/s"]);
        assert_eq!(options.csi_socket, PathBuf::from("/s"));
        assert_eq!(options.registration_dir, PathBuf::from("/k/plugins_registry"));
    }

    #[test]
    fn the_keeper_needs_no_flag() {
        let parse = |words: &[&str]| {
            let typed = Cli::try_parse_from(["keyhole", "keeper"].iter().chain(words)).ok()?;
            let Command::Keeper(options) = typed.command else { return None };
            Some((options.socket, options.orphan_grace))
        };
        let socket = PathBuf::from("/run/keyhole/keeper.sock");
        assert_eq!(parse(&[]), Some((socket.clone(), Duration::from_secs(30))));
        assert_eq!(parse(&["--orphan-grace", "1m30s"]), Some((socket, Duration::from_secs(90))));
        assert_eq!(parse(&["--orphan-grace", "soon"]), None);
    }

    #[test]
    fn a_demo_on_a_real_vault_needs_both_flags() {
        assert!(Cli::try_parse_from(["keyhole", "demo", "--vault", "http://v"]).is_err());
        assert!(Cli::try_parse_from(["keyhole", "demo", "--token", "t"]).is_err());
    }
}

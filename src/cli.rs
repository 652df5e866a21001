//! The command line: what was typed. No behaviour; dependent defaults are filled in here.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

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
    /// Plays everything on this machine: a Vault, the driver, kubelet and a pod. Needs root and FUSE.
    Demo(DemoOptions),
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
            log_format: typed.log_format,
            log_level: typed.log_level,
        }
    }
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
            Command::Demo(_) | Command::Version => panic!("not the driver"),
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
    fn a_demo_on_a_real_vault_needs_both_flags() {
        assert!(Cli::try_parse_from(["keyhole", "demo", "--vault", "http://v"]).is_err());
        assert!(Cli::try_parse_from(["keyhole", "demo", "--token", "t"]).is_err());
    }
}

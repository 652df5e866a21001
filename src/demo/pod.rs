//! [`Pod`]: processes in a cgroup and a mount namespace like those of a container, with a volume in them.

use std::ffi::OsStr;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use anyhow::Context;

use crate::identity::pod::PodUid;

/// Where the pod sees its volume.
pub const VOLUME: &str = "/mnt";
/// The container's id in the cgroup path.
const CONTAINER: &str = "c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00";

/// A pod that runs; it ends, with all its processes, when this is dropped.
pub struct Pod {
    /// Holds the mount namespace.
    holder: Child,
    /// The container's cgroup in each hierarchy that counts.
    groups: Vec<PathBuf>,
}

/// `<hierarchy>/<our own group>` for each cgroup hierarchy that a container runtime would use.
fn hierarchies() -> anyhow::Result<Vec<PathBuf>> {
    let own = std::fs::read_to_string("/proc/self/cgroup")?;
    let root = Path::new("/sys/fs/cgroup");
    let v2 = root.join("cgroup.controllers").exists();
    let groups = own.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (name, path) = (parts.next()?, parts.next()?.trim_start_matches('/'));
        match (v2, name) {
            (true, "") => Some(root.join(path)),
            (false, "pids") => Some(root.join("pids").join(path)),
            _ => None,
        }
    });
    let groups: Vec<_> = groups.filter(|path| path.is_dir()).collect();
    anyhow::ensure!(!groups.is_empty(), "no cgroup hierarchy in /sys/fs/cgroup can hold a pod");
    Ok(groups)
}

impl Pod {
    /// Starts a pod with the volume that is mounted at `target`.
    ///
    /// # Errors
    /// This machine does not let us make cgroups or namespaces.
    pub fn start(uid: &PodUid, target: &Path) -> anyhow::Result<Self> {
        let mut groups = Vec::new();
        for hierarchy in hierarchies()? {
            let group = hierarchy.join(format!("kubepods/burstable/pod{uid}")).join(CONTAINER);
            std::fs::create_dir_all(&group)
                .with_context(|| format!("cgroup {}", group.display()))?;
            groups.push(group);
        }
        // As runc: the volume is bound into a private namespace.
        let script = format!("mount --bind \"$1\" {VOLUME} && echo up && exec sleep infinity");
        let mut holder = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private"])
            .args(["sh", "-c", &script, "sh"])
            .arg(target)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("setpriv and unshare of util-linux are needed")?;
        let mut up = [0; 3];
        let told = holder.stdout.as_mut().map(|out| out.read_exact(&mut up));
        let pod = Self { holder, groups };
        anyhow::ensure!(matches!(told, Some(Ok(()))), "the volume cannot be bound into the pod");
        Ok(pod)
    }

    /// A command in the pod; its working directory is the volume.
    pub fn command<S: AsRef<OsStr>>(&self, words: &[S]) -> Command {
        self.command_as(0, words)
    }

    /// The same for a user of the container.
    pub fn command_as<S: AsRef<OsStr>>(&self, uid: u32, words: &[S]) -> Command {
        let join = self
            .groups
            .iter()
            .map(|group| format!("echo $$ >'{}/cgroup.procs'; ", group.display()));
        let script = format!("{}exec \"$@\"", join.collect::<String>());
        let mut command = Command::new("sh");
        command.args(["-ec", &script, "sh", "nsenter", "--mount", "--target"]);
        command.arg(self.holder.id().to_string()).arg(format!("--wdns={VOLUME}"));
        if uid != 0 {
            let id = uid.to_string();
            command.args(["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"]);
        }
        command.args(words).stdin(Stdio::null());
        command
    }

    /// Runs a command in the pod.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn run<S: AsRef<OsStr>>(&self, words: &[S]) -> anyhow::Result<Output> {
        Ok(self.command(words).output()?)
    }

    /// What a command in the pod prints.
    ///
    /// # Errors
    /// It failed: with what it said.
    pub fn output<S: AsRef<OsStr>>(&self, words: &[S]) -> anyhow::Result<String> {
        let output = self.run(words)?;
        let said = String::from_utf8_lossy(&output.stderr);
        let words: Vec<_> = words.iter().map(|word| word.as_ref().to_string_lossy()).collect();
        anyhow::ensure!(output.status.success(), "{}: {}", words.join(" "), said.trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The process that holds the mount namespace: `/proc/<pid>/root` is what the pod sees.
    pub fn pid(&self) -> u32 {
        self.holder.id()
    }

    /// What to type on this machine to run a shell in the pod.
    pub fn shell(&self) -> String {
        let join = self
            .groups
            .iter()
            .map(|group| format!("echo \\$\\$ >{}/cgroup.procs; ", group.display()));
        let join: String = join.collect();
        format!("sh -c \"{join}exec nsenter --mount --target {} --wdns={VOLUME} sh\"", self.pid())
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        drop(self.holder.kill());
        drop(self.holder.wait());
        for group in &self.groups {
            // The pod's and the container's group; kubepods may hold others.
            for path in group.ancestors().take(2) {
                drop(std::fs::remove_dir(path));
            }
        }
    }
}

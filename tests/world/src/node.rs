//! One node: booted, spoken to, and gone without a trace when its [`Node`] is dropped.
//!
//! A shell (`keeper.sh`) holds the node and reads from a pipe whose other end is ours. When this
//! process drops the node, panics or is killed, the pipe ends and the keeper takes the node down: so
//! a `static` node needs no exit handler.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::image::{Image, prepare};
use crate::run::{WorldError, output, wait_until};

const KEEPER_SCRIPT: &str = include_str!("node/keeper.sh");
const ROOT_SCRIPT: &str = include_str!("node/root.sh");

/// A node boots in about half a second; a loaded machine may take this long.
const BOOT_LIMIT: Duration = Duration::from_secs(90);
/// How long the keeper may take to remove a node.
const TEARDOWN_LIMIT: Duration = Duration::from_secs(20);
/// How long nsenter may take to notice that the program it started was killed.
const CHILD_LIMIT: Duration = Duration::from_secs(5);
/// Where the instance metadata service answers on Azure.
const METADATA_ADDRESS: &str = "169.254.169.254/32";

/// The Azure host names that a node resolves to its own loopback, where an emulator may listen.
pub const AZURE_HOSTS: [&str; 18] = [
    "login.microsoftonline.com",
    "login.microsoft.com",
    "login.windows.net",
    "sts.windows.net",
    "login.microsoftonline.us",
    "login.partner.microsoftonline.cn",
    "login.chinacloudapi.cn",
    "management.azure.com",
    "management.usgovcloudapi.net",
    "management.chinacloudapi.cn",
    "graph.microsoft.com",
    "graph.microsoft.us",
    "microsoftgraph.chinacloudapi.cn",
    "pas.windows.net",
    "pasff.usgovcloudapi.net",
    "pas.chinacloudapi.cn",
    "authorization.azure.net",
    "westeurope.authorization.azure.net",
];

/// What a node is to be.
#[derive(Clone, Debug, Default)]
pub struct NodeSpec {
    /// Further host names that resolve to the node's loopback.
    pub hosts: Vec<String>,
    /// The kernel's keyrings may be used, as on a machine of its own. They are the host's, and a user's keys outlive the
    /// node: a story that opens them takes a uid of its own and forgets what it put there.
    pub keyring: bool,
}

/// A running node. Dropping it removes it.
#[derive(Debug)]
pub struct Node {
    id: String,
    folder: PathBuf,
    image: Image,
    leader: u32,
    boot_time: Duration,
    keeper: Child,
    /// Held open for as long as the node is to live.
    lifeline: Option<ChildStdin>,
}

impl Node {
    /// Boots a node and waits until systemd says that it runs.
    ///
    /// # Errors
    /// When the image cannot be made or the node does not come up; its console is in the error.
    pub fn boot(spec: &NodeSpec) -> Result<Self, WorldError> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let image = prepare()?;
        let start = Instant::now();
        let id = format!("nlw-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(&id);
        fs::create_dir(&folder).map_err(|why| WorldError::io(folder.display(), &why))?;
        let console = folder.join("console");
        let file = File::create(&console).map_err(|why| WorldError::io(console.display(), &why))?;
        let file_too = file.try_clone().map_err(|why| WorldError::io(console.display(), &why))?;

        let mut command = Command::new("sh");
        command.args(["-c", KEEPER_SCRIPT, "keeper.sh", &id]).arg(&folder).arg(image.file()).arg(ROOT_SCRIPT);
        command.arg(if spec.keyring { "@keyring" } else { "" }).arg(image.below());
        // A Ctrl-C at the terminal is for the owner; the keeper hears of it by the end of the pipe.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.stdin(Stdio::piped()).stdout(file).stderr(file_too);
        let mut keeper = command.spawn().map_err(|why| WorldError::io("sh", &why))?;
        let lifeline = keeper.stdin.take();
        let mut node = Self { id, folder, image, leader: 0, boot_time: Duration::ZERO, keeper, lifeline };

        if let Err(why) = node.wait_for_boot().and_then(|()| node.dress(spec)) {
            let console = fs::read_to_string(&console).unwrap_or_default();
            return Err(WorldError::new(format!("the node did not boot: {why}\nits console:\n{console}")));
        }
        node.boot_time = start.elapsed();
        Ok(node)
    }

    fn wait_for_boot(&mut self) -> Result<(), WorldError> {
        let mut leader = None;
        let mut gone = false;
        wait_until("pid 1 of the node", BOOT_LIMIT, || {
            let outer =
                fs::read_to_string(self.folder.join("pid")).ok().and_then(|text| text.trim().parse().ok());
            if let Some(outer) = outer {
                leader = leader_below(outer);
                gone = !Path::new(&format!("/proc/{outer}")).exists();
            }
            leader.is_some() || gone
        })?;
        self.leader = leader.ok_or_else(|| WorldError::new("it ended while it started"))?;
        let mut state = String::new();
        wait_until("systemctl is-system-running", BOOT_LIMIT, || {
            state = self.exec(&["systemctl", "is-system-running"]).map_or_else(
                |why| why.to_string(),
                |done| String::from_utf8_lossy(&done.stdout).trim().to_owned(),
            );
            matches!(state.as_str(), "running" | "degraded")
        })
        .map_err(|why| WorldError::new(format!("{why}: {state}")))?;
        Ok(())
    }

    /// What only a running node can be given: its addresses and names.
    fn dress(&self, spec: &NodeSpec) -> Result<(), WorldError> {
        let names = AZURE_HOSTS.iter().map(|name| (*name).to_owned()).chain(spec.hosts.iter().cloned());
        let lines: String = names.map(|name| format!("127.0.0.1 {name}\n")).collect();
        let lines = format!("127.0.0.1 localhost {}\n::1 localhost\n{lines}", self.id);
        self.write_file("/etc/hosts", lines.as_bytes(), 0o644, "root:root")?;
        self.shell(&format!("ip link set lo up && ip address add {METADATA_ADDRESS} dev lo"))?;
        wait_until("sshd on port 22", BOOT_LIMIT, || {
            self.exec(&["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/22"])
                .is_ok_and(|done| done.status.success())
        })?;
        Ok(())
    }

    /// The node's name: its host name, its folder in `/tmp` and its control group.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How long the boot took, up to the answer of its sshd.
    #[must_use]
    pub const fn boot_time(&self) -> Duration {
        self.boot_time
    }

    /// The node's pid 1, as the host counts.
    #[must_use]
    pub const fn leader_pid(&self) -> u32 {
        self.leader
    }

    /// The image that the node was made from.
    #[must_use]
    pub const fn image(&self) -> &Image {
        &self.image
    }

    /// The node's root, seen from the host: `/run` and other mounts included. An absolute symlink in
    /// there leads to the host, so use [`Self::read_file`] for paths that may hold one.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.leader))
    }

    /// A command inside the node, as root, with a clean environment.
    #[must_use]
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.leader.to_string(), "--all", "--", "env", "-i"]);
        command.args(["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"]);
        command.args(["LANG=C.UTF-8", "SYSTEMD_PAGER=cat", "SYSTEMD_COLORS=0"]).args(words);
        command
    }

    /// Runs a program in the node as root and collects what it says.
    ///
    /// # Errors
    /// Only when it could not be started; its exit status is in the answer.
    pub fn exec(&self, words: &[&str]) -> Result<Output, WorldError> {
        output(&mut self.command(words))
    }

    /// Runs a program in the node as another user, with that user's groups and no session.
    ///
    /// # Errors
    /// As [`Self::exec`].
    pub fn exec_as(&self, user: &str, words: &[&str]) -> Result<Output, WorldError> {
        let prefix = ["runuser", "-u", user, "--"];
        output(&mut self.command(&[&prefix, words].concat()))
    }

    /// Runs a shell line in the node as root and insists that it succeeds; the result is its output.
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub fn shell(&self, line: &str) -> Result<String, WorldError> {
        crate::run::succeed(&mut self.command(&["sh", "-c", line]))
    }

    /// Writes a file in the node: whole or not at all, with its mode and `user:group` from the start.
    ///
    /// # Errors
    /// When the folder is missing or the owner is unknown in the node.
    pub fn write_file(&self, path: &str, content: &[u8], mode: u32, owner: &str) -> Result<(), WorldError> {
        let script = r#"set -e; umask 077; cat >"$1.new"; chown "$3" "$1.new"; chmod "$2" "$1.new"; mv -T "$1.new" "$1""#;
        let mut command = self.command(&["sh", "-c", script, "write", path, &format!("{mode:o}"), owner]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|why| WorldError::io("nsenter", &why))?;
        if let Some(mut pipe) = child.stdin.take() {
            pipe.write_all(content).map_err(|why| WorldError::io(path, &why))?;
        }
        let done = child.wait_with_output().map_err(|why| WorldError::io(path, &why))?;
        if done.status.success() {
            return Ok(());
        }
        Err(WorldError::new(format!("writing {path} in the node: {}", String::from_utf8_lossy(&done.stderr))))
    }

    /// Copies a file of the host into the node, owned by root.
    ///
    /// # Errors
    /// When it cannot be read here or written there.
    pub fn copy_in(&self, from: &Path, path: &str, mode: u32) -> Result<(), WorldError> {
        let content = fs::read(from).map_err(|why| WorldError::io(from.display(), &why))?;
        self.write_file(path, &content, mode, "root:root")
    }

    /// Makes the node's programs trust a certificate authority, as PEM text.
    ///
    /// # Errors
    /// When the node's bundle cannot be written.
    pub fn trust_ca(&self, pem: &str) -> Result<(), WorldError> {
        let bundle = "/etc/ssl/certs/ca-certificates.crt";
        let mut all = self.read_file(bundle)?;
        all.extend_from_slice(format!("\n{}\n", pem.trim_end()).as_bytes());
        self.write_file(bundle, &all, 0o644, "root:root")
    }

    /// The content of a file in the node.
    ///
    /// # Errors
    /// When it is not there.
    pub fn read_file(&self, path: &str) -> Result<Vec<u8>, WorldError> {
        let done = self.exec(&["cat", "--", path])?;
        if done.status.success() {
            return Ok(done.stdout);
        }
        Err(WorldError::new(format!("reading in the node: {}", String::from_utf8_lossy(&done.stderr))))
    }

    /// The node's journal, one message a line; `filter` is given to `journalctl` (such as `-u`, `ssh`).
    ///
    /// # Errors
    /// When journalctl refuses the filter.
    pub fn journal(&self, filter: &[&str]) -> Result<String, WorldError> {
        // What was logged before this call is on its way to journald: have it written first.
        self.exec(&["journalctl", "--sync"])?;
        let words = [&["journalctl", "--no-pager", "--quiet", "--output=cat"], filter].concat();
        crate::run::succeed(&mut self.command(&words))
    }

    /// A program of the *host* in the node's network: it sees the host's files and the node's ports.
    #[must_use]
    pub fn network_command(&self, words: &[String]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.leader.to_string(), "--net", "--"]).args(words);
        command
    }

    /// Runs a program of the host in the node's network to its end.
    ///
    /// # Errors
    /// Only when it could not be started.
    pub fn netns_exec(&self, words: &[&str]) -> Result<Output, WorldError> {
        output(&mut self.network_command(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()))
    }

    /// Starts a program of the host in the node's network, such as an emulator. It ends with the handle,
    /// and with the node even if this process is killed: it lives in the node's pid namespace.
    ///
    /// # Errors
    /// When it could not be started.
    pub fn spawn_in_netns(&self, words: &[&str]) -> Result<InNetwork, WorldError> {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.leader.to_string(), "--net", "--pid", "--"]).args(words);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let child = command.spawn().map_err(|why| WorldError::io("nsenter", &why))?;
        Ok(InNetwork { child })
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        let keeper = &mut self.keeper;
        let ended =
            wait_until("the keeper", TEARDOWN_LIMIT, || keeper.try_wait().is_ok_and(|end| end.is_some()));
        if ended.is_err() && !std::thread::panicking() {
            drop(keeper.kill());
            drop(keeper.wait());
        }
    }
}

/// A program of the host that runs in a node's network. Dropping it kills it.
#[derive(Debug)]
pub struct InNetwork {
    child: Child,
}

impl InNetwork {
    /// Its standard output, once.
    pub const fn stdout(&mut self) -> Option<std::process::ChildStdout> {
        self.child.stdout.take()
    }
}

impl Drop for InNetwork {
    fn drop(&mut self) {
        // nsenter forked to enter the pid namespace: the program is its child.
        for pid in children_of(self.child.id()) {
            if let Ok(pid) = i32::try_from(pid) {
                let _ = nix::sys::signal::kill(
                    nix::unistd::Pid::from_raw(pid),
                    nix::sys::signal::Signal::SIGKILL,
                );
            }
        }
        // nsenter collects its child and ends. Ended before that, it would leave a zombie to the host's pid 1,
        // and one that collects nothing, as in many containers, would keep the node from ending.
        let child = &mut self.child;
        let ended = wait_until("nsenter", CHILD_LIMIT, || child.try_wait().is_ok_and(|end| end.is_some()));
        if ended.is_err() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// The first process below `outer` that is pid 1 of a pid namespace two levels down from ours.
fn leader_below(outer: u32) -> Option<u32> {
    let ours = namespace_pids(std::process::id())?.len();
    let mut todo = vec![outer];
    while let Some(pid) = todo.pop() {
        let pids = namespace_pids(pid)?;
        if pids.len() == ours + 2 && pids.last() == Some(&1) {
            return Some(pid);
        }
        todo.extend(children_of(pid));
    }
    None
}

fn namespace_pids(pid: u32) -> Option<Vec<u32>> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    Some(line.split_whitespace().filter_map(|word| word.parse().ok()).collect())
}

fn children_of(pid: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

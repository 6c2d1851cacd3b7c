//! Programs in a node as services of their own: a unit, a user and an environment, as an administrator would
//! start them; and clients that others wrote, put into the node for them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::node::Node;
use crate::run::{WorldError, output, source_folder, succeed};

/// Where a node has the clients that were put into it.
const CLIENTS: &str = "/opt/interop";

/// A service that runs one program to its end.
#[derive(Debug)]
pub struct Service<'a> {
    node: &'a Node,
    options: Vec<String>,
}

impl Node {
    /// A service called `unit` (such as `backup.service`) that runs as `user`.
    #[must_use]
    pub fn service(&self, unit: &str, user: &str) -> Service<'_> {
        let options = ["--quiet", "--wait", "--pipe", "--collect", "--service-type=exec"];
        let mut options: Vec<String> = options.map(str::to_owned).into();
        options.extend([format!("--unit={unit}"), format!("--property=User={user}")]);
        Service { node: self, options }
    }

    /// Makes users without a home or a login, one group each.
    ///
    /// # Errors
    /// When one is there already.
    pub fn add_users(&self, names: &[&str]) -> Result<(), WorldError> {
        let lines: Vec<String> = names
            .iter()
            .map(|name| {
                format!("useradd --system --user-group --no-create-home --shell /usr/sbin/nologin {name}")
            })
            .collect();
        self.shell(&lines.join(" && ")).map(drop)
    }

    /// Lets ordinary users of the node reach a program below a private folder of the host, such as root's own
    /// Python: the folders above it become searchable, in the node's root only.
    ///
    /// # Errors
    /// When the node does not see the program.
    pub fn open_way(&self, program: &Path) -> Result<(), WorldError> {
        let climb = "p=$(readlink -e \"$1\") && while [ \"$p\" != / ]; do p=$(dirname \"$p\"); chmod o+x \"$p\"; done";
        let done = self.exec(&["sh", "-c", climb, "climb", &program.display().to_string()])?;
        if done.status.success() {
            return Ok(());
        }
        Err(WorldError::new(format!("the node does not see {} of the host", program.display())))
    }

    /// Shows the node a folder of the host, read-only in intent: bound where the node sees it, copied where it
    /// lies on another file system of the host. The result is the folder's path in the node.
    ///
    /// # Errors
    /// When it cannot be read here or laid there.
    pub fn lend(&self, folder: &Path, name: &str) -> Result<String, WorldError> {
        let (from, to) = (folder.display().to_string(), format!("{CLIENTS}/{name}"));
        let bind = "mkdir -p \"$2\" && { mountpoint -q \"$2\" || { test -d \"$1\" && mount --bind \"$1\" \"$2\"; }; }";
        let done = self.exec(&["sh", "-c", bind, "lend", &from, &to])?;
        if done.status.success() {
            return Ok(to);
        }
        let mut packed = Command::new("tar");
        packed.args(["-C", &from, "-cf", "-", "."]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut packed = packed.spawn().map_err(|why| WorldError::io("tar", &why))?;
        let mut unpack = self.command(&["tar", "-C", &to, "-xf", "-"]);
        if let Some(pipe) = packed.stdout.take() {
            unpack.stdin(pipe);
        }
        let unpacked = unpack.output().map_err(|why| WorldError::io("tar in the node", &why))?;
        let sent = packed.wait().map_err(|why| WorldError::io("tar", &why))?;
        if sent.success() && unpacked.status.success() {
            return Ok(to);
        }
        Err(WorldError::new(format!(
            "copying {from} into the node: {}",
            String::from_utf8_lossy(&unpacked.stderr)
        )))
    }
}

impl Service<'_> {
    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.options.push(format!("--setenv={name}={value}"));
        self
    }

    /// Sets a property of the unit, such as `SupplementaryGroups=devs`.
    #[must_use]
    pub fn property(mut self, text: &str) -> Self {
        self.options.push(format!("--property={text}"));
        self
    }

    /// Runs a program to its end and collects what it says.
    ///
    /// # Errors
    /// Only when systemd-run could not be started; the program's exit status is in the answer.
    pub fn run(&self, words: &[&str]) -> Result<Output, WorldError> {
        output(&mut self.command(words))
    }

    /// The same as a command, for a program that is to run beside others.
    #[must_use]
    pub fn command(&self, words: &[&str]) -> Command {
        let options: Vec<&str> = self.options.iter().map(String::as_str).collect();
        self.node.command(&[&["systemd-run"], options.as_slice(), &["--"], words].concat())
    }
}

/// What `tests/interop/kit.py WHAT` makes on the host, where there is a package index: the folder's path.
///
/// # Errors
/// What pip or npm said.
pub fn interop(what: &str) -> Result<PathBuf, WorldError> {
    let kit = source_folder().join("tests/interop/kit.py");
    let said = succeed(Command::new("python3").arg(kit).arg(what).env("PYTHONDONTWRITEBYTECODE", "1"))?;
    let line = said.lines().last().unwrap_or_default();
    Ok(PathBuf::from(OsStr::new(line)))
}

/// The folder of the drivers, `tests/interop`.
#[must_use]
pub fn interop_drivers() -> PathBuf {
    source_folder().join("tests/interop")
}

//! The node image, made once and cached under the target folder: what a node has beside the host's root or, for a node of
//! another release than the host's, its whole root.
//!
//! It is made in a mount namespace of its own. The host gets nothing: not even systemd, since a node is booted by the
//! image's own nspawn.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::{WorldError, find_program, output, succeed, target_folder};

/// What a node needs: an init, a login stack, and what stories use inside it.
const PACKAGES: [&str; 19] = [
    "systemd",
    "systemd-sysv",
    "systemd-container",
    "dbus",
    "dbus-user-session",
    "libpam-systemd",
    "libnss-systemd",
    "openssh-server",
    "openssh-client",
    "sudo",
    "cron",
    "at",
    "ca-certificates",
    "python3",
    "iproute2",
    "procps",
    "strace",
    "curl",
    "openssl",
];

/// What a node of a newer Debian needs as well: without it logind lets nobody but root linger.
const NEWER_PACKAGES: [&str; 1] = ["polkitd"];

/// What the host has installed, below an image of its own release.
const STATUS: &str = "/var/lib/dpkg/status";

const HOST_SCRIPT: &str = concat!(include_str!("node/image_parts.sh"), include_str!("node/image_host.sh"));
const DEBIAN_SCRIPT: &str =
    concat!(include_str!("node/image_parts.sh"), include_str!("node/image_debian.sh"));

/// Names the release of all nodes, where it is not the host's.
const RELEASE_VARIABLE: &str = "NIGHTLATCH_NODE_RELEASE";

/// Which distribution nodes are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Release {
    /// The host's own.
    Host,
    /// Debian 13. Only a Debian host can make it: the packages come from its own mirrors.
    Trixie,
    /// Debian 13 with the newest OpenSSH that is made for it: it changes from month to month.
    TrixieBackports,
}

impl Release {
    /// The one that the environment names.
    fn told() -> Result<Self, WorldError> {
        match std::env::var(RELEASE_VARIABLE).as_deref() {
            Err(_) | Ok("") => Ok(Self::Host),
            Ok("trixie") => Ok(Self::Trixie),
            Ok("trixie-backports") => Ok(Self::TrixieBackports),
            Ok(other) => Err(WorldError::new(format!(
                "{RELEASE_VARIABLE}={other}: there are trixie and trixie-backports"
            ))),
        }
    }

    /// The release's name, where it is not the host's.
    const fn other(self) -> Option<&'static str> {
        match self {
            Self::Trixie => Some("trixie"),
            Self::TrixieBackports => Some("trixie-backports"),
            Self::Host => None,
        }
    }

    /// How its image is made, and from which packages beside those of all.
    const fn recipe(self) -> (&'static str, &'static [&'static str]) {
        match self.other() {
            Some(_) => (DEBIAN_SCRIPT, &NEWER_PACKAGES),
            None => (HOST_SCRIPT, &[]),
        }
    }
}

/// Programs of the host that the world is built with; all are Essential in Debian and Ubuntu.
const NEEDED: [&str; 9] =
    ["unshare", "nsenter", "setpriv", "mount", "tar", "chroot", "apt-get", "awk", "find"];

/// A finished node image.
#[derive(Clone, Debug)]
pub struct Image {
    release: Release,
    file: PathBuf,
    tools: PathBuf,
}

impl Image {
    /// What lies below it in a node's root: the host's own root, or nothing.
    pub(crate) fn below(&self) -> &'static str {
        if self.release.other().is_some() { "" } else { "/" }
    }

    /// The tar file that becomes the upper side of a node's root.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// A command that runs a client program (`ssh`, `ssh-keygen`) on the host: the host's own where it
    /// has one, else the image's with the image's libraries.
    ///
    /// # Errors
    /// When the image cannot be read.
    pub fn tool(&self, name: &str) -> Result<Vec<String>, WorldError> {
        if let Some(program) = find_program(name) {
            return Ok(vec![program.to_string_lossy().into_owned()]);
        }
        let program = self.tools.join("usr/bin").join(name);
        if !program.exists() {
            fs::create_dir_all(&self.tools).map_err(|why| WorldError::io(self.tools.display(), &why))?;
            succeed(Command::new("tar").arg("-C").arg(&self.tools).arg("-xf").arg(&self.file).args([
                "--wildcards",
                "./usr/bin/ssh*",
                "./usr/lib/*-linux-gnu/lib*",
            ]))?;
        }
        let script = "t=$1; shift; LD_LIBRARY_PATH=$(echo \"$t\"/usr/lib/*-linux-gnu) exec \"$@\"";
        let words = ["sh", "-c", script, "tool"]
            .map(str::to_owned)
            .into_iter()
            .chain([&self.tools, &program].map(|path| path.to_string_lossy().into_owned()));
        Ok(words.collect())
    }
}

impl Image {
    /// [`Self::tool`] as a command that takes further arguments.
    pub(crate) fn command(&self, name: &str) -> Result<Command, WorldError> {
        let words = self.tool(name)?;
        let (program, rest) = words.split_first().ok_or_else(|| WorldError::new(format!("no {name}")))?;
        let mut command = Command::new(program);
        command.args(rest);
        Ok(command)
    }
}

/// Makes the node image, or finds it made. Safe to call from several processes at once.
///
/// # Errors
/// Says which privilege, program or mount is missing, or shows the end of what apt said.
pub fn prepare() -> Result<Image, WorldError> {
    check_host()?;
    let release = Release::told()?;
    let name = release.other().map_or_else(|| "node-image".to_owned(), |name| format!("node-image-{name}"));
    let cache = target_folder().join(name);
    fs::create_dir_all(&cache).map_err(|why| WorldError::io(cache.display(), &why))?;
    let lock_path = cache.join("lock");
    let lock = File::create(&lock_path).map_err(|why| WorldError::io(lock_path.display(), &why))?;
    lock.lock().map_err(|why| WorldError::io(format!("lock {}", lock_path.display()), &why))?;

    let key = image_key(release)?;
    let file = cache.join(format!("{key}.tar"));
    if !file.exists() {
        build(release, &cache, &file)?;
    }
    Ok(Image { release, file, tools: cache.join(format!("{key}.tools")) })
}

/// What the image depends on: the list, the way it is made, and the system it is laid over.
fn image_key(release: Release) -> Result<String, WorldError> {
    let mut hasher = DefaultHasher::new();
    PACKAGES.hash(&mut hasher);
    release.recipe().hash(&mut hasher);
    let below =
        if release.other().is_some() { &["/etc/os-release"][..] } else { &["/etc/os-release", STATUS] };
    for path in below {
        fs::read(path).map_err(|why| WorldError::io(path, &why))?.hash(&mut hasher);
    }
    Ok(format!("{:016x}", hasher.finish()))
}

fn build(release: Release, cache: &Path, file: &Path) -> Result<(), WorldError> {
    for old in fs::read_dir(cache).map_err(|why| WorldError::io(cache.display(), &why))?.flatten() {
        let path = old.path();
        match path.extension().and_then(|text| text.to_str()) {
            Some("tar" | "part") => drop(fs::remove_file(path)),
            Some("tools") => drop(fs::remove_dir_all(path)),
            _ => {}
        }
    }
    let scratch = tempfile::Builder::new()
        .prefix("nightlatch-image-")
        .tempdir()
        .map_err(|why| WorldError::io("a folder in /tmp", &why))?;
    let part = file.with_extension("part");
    let mut command = Command::new("unshare");
    let (script, more) = release.recipe();
    command.args(["--mount", "--propagation", "private", "sh", "-c", script, "image.sh"]);
    command.arg(scratch.path()).arg(&part).args(release.other()).args(PACKAGES).args(more);
    let done = output(&mut command)?;
    if !done.status.success() {
        let said = [done.stdout, done.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<&str> = said.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(30)..).unwrap_or_default().join("\n");
        return Err(WorldError::new(format!("the node image could not be made ({}):\n{tail}", done.status)));
    }
    fs::rename(&part, file).map_err(|why| WorldError::io(file.display(), &why))
}

/// Everything that a boot would otherwise fail on half-way, with words that help.
fn check_host() -> Result<(), WorldError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(WorldError::new("nodes are booted by root: run this as root (sudo make …)"));
    }
    for name in NEEDED {
        if find_program(name).is_none() {
            return Err(WorldError::new(format!("{name} is not installed; a Debian or Ubuntu host has it")));
        }
    }
    let known =
        fs::read_to_string("/proc/filesystems").map_err(|why| WorldError::io("/proc/filesystems", &why))?;
    for kind in ["overlay", "tmpfs"] {
        let there = known.lines().any(|line| line.split_whitespace().last() == Some(kind));
        if !there && !output(Command::new("modprobe").arg(kind)).is_ok_and(|done| done.status.success()) {
            return Err(WorldError::new(format!(
                "this kernel has no {kind} file system; a node cannot be laid"
            )));
        }
    }
    let probe = "mount -t tmpfs tmpfs /mnt";
    let done = output(Command::new("unshare").args(["--mount", "--pid", "--fork", "sh", "-c", probe]))?;
    if !done.status.success() {
        return Err(WorldError::new(format!(
            "mount and pid namespaces are not allowed here ({}); in a container run it with --privileged",
            String::from_utf8_lossy(&done.stderr).trim()
        )));
    }
    Ok(())
}

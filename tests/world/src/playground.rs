//! `make playground`: the demo's world left running until it is interrupted, with its endpoints, keys and
//! people in files that shells and programs can read.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nightlatch_emulator::world;

use crate::cluster::Cluster;
use crate::run::{WorldError, target_folder};

/// Where the files of the playground are: `target/playground`.
#[must_use]
pub fn folder() -> std::path::PathBuf {
    target_folder().join("playground")
}

/// Writes `env` and `users.json` for a running world.
///
/// # Errors
/// When a file cannot be written.
pub fn describe(cluster: &Cluster) -> Result<(), WorldError> {
    let folder = folder();
    fs::create_dir_all(&folder).map_err(|why| WorldError::io(folder.display(), &why))?;
    let users =
        fs::read(cluster.tenant.file("users.json")).map_err(|why| WorldError::io("users.json", &why))?;
    write(&folder.join("users.json"), &users)?;
    write(&folder.join("env"), variables(cluster).as_bytes())
}

/// Removes what [`describe`] wrote.
pub fn forget() {
    for name in ["env", "users.json"] {
        drop(fs::remove_file(folder().join(name)));
    }
}

/// Shell variables, one a line, quoted.
fn variables(cluster: &Cluster) -> String {
    let pid = cluster.node.leader_pid();
    let root = cluster.node.root();
    let file = |name: &str| cluster.tenant.file(name).display().to_string();
    let socket = |name: &str| root.join("run/nightlatch").join(name).display().to_string();
    let mut text = String::new();
    let rows = [
        ("NODE_PID", pid.to_string()),
        ("NODE_ROOT", root.display().to_string()),
        ("NODE_EXEC", format!("nsenter --target {pid} --all --")),
        ("NODE_NETWORK", format!("nsenter --target {pid} --net --")),
        ("SSH", format!("nsenter --target {pid} --net -- ssh -F none -o IdentitiesOnly=yes")),
        ("HOOK_SOCKET", socket("hook.sock")),
        ("ACCOUNT_SOCKET", socket("account.sock")),
        ("ADMIN_SOCKET", socket("admin.sock")),
        ("CONTROL", file("control.sock")),
        ("TENANT", world::TENANT.to_owned()),
        ("NODE_RESOURCE_ID", world::NODE.to_owned()),
        ("LOGIN_URL", "https://login.microsoftonline.com".to_owned()),
        ("PDP_URL", format!("https://{}.authorization.azure.net", world::REGION)),
        ("IMDS_URL", "http://169.254.169.254".to_owned()),
        ("TLS_CA", file("tls-ca.pem")),
        ("SSH_CA", file("ssh-ca")),
        ("TOKEN_KEY", file("token-signing.pem")),
        ("USERS", folder().join("users.json").display().to_string()),
    ];
    for (name, value) in rows {
        let _ = writeln!(text, "NIGHTLATCH_{name}='{value}'");
    }
    text
}

/// The files name private keys of a throw-away tenant: readable by their owner alone all the same.
fn write(path: &Path, bytes: &[u8]) -> Result<(), WorldError> {
    drop(fs::remove_file(path));
    let file = fs::File::options().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| std::io::Write::write_all(&mut file, bytes))
        .map_err(|why| WorldError::io(path.display(), &why))
}

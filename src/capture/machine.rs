//! What stands on the machine itself. Files are read, sshd is asked for its version; nothing is
//! written, started or stopped.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use super::scrub::Scrubber;
use crate::imds::{AZURE_JSON, AzureJson};
use crate::store::read_capped;

/// The largest file that is looked into, in bytes.
const MAX_FILE_BYTES: u64 = 256 * 1024;
/// How long sshd may take to say its version.
const SSHD_LIMIT: Duration = Duration::from_secs(5);
/// The Arc agent's folder.
pub(super) const ARC_FOLDER: &str = "/var/opt/azcmagent";

/// What was found.
pub(super) struct Machine {
    /// `ID` and `VERSION_ID` of os-release.
    pub(super) os: Option<(String, String)>,
    /// What `sshd -V` begins with.
    pub(super) sshd: Option<String>,
    /// azure.json, when it is there and can be read.
    pub(super) azure_json: Option<AzureJson>,
    /// Whether azure.json is there.
    pub(super) azure_json_exists: bool,
    /// Names of this machine that must not come through.
    pub(super) names: Vec<String>,
}

/// Looks around.
pub(super) async fn look() -> Machine {
    let os = text("/usr/lib/os-release").or_else(|| text("/etc/os-release")).map(|text| {
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.unwrap_or_default().trim_matches('"').to_owned()
        };
        (value("ID"), value("VERSION_ID"))
    });
    let host = text("/proc/sys/kernel/hostname").map(|name| name.trim().to_owned());
    Machine {
        os,
        sshd: sshd_version().await,
        azure_json: AzureJson::read(Path::new(AZURE_JSON)).ok(),
        azure_json_exists: Path::new(AZURE_JSON).exists(),
        names: host.into_iter().collect(),
    }
}

impl Machine {
    /// The form in which it is told.
    pub(super) fn shape(&self, scrub: &mut Scrubber) -> Value {
        let os = self
            .os
            .as_ref()
            .map(|(id, version)| json!({"id": scrub.word(id), "version": scrub.word(version)}));
        let says = |path: &str, word: &str| text(path).is_some_and(|text| text.contains(word));
        let pam = ["/etc/pam.d/sshd", "/etc/pam.d/common-auth", "/etc/pam.d/password-auth"];
        json!({
            "os": os,
            "arch": std::env::consts::ARCH,
            "sshd": self.sshd.as_ref().map(|version| scrub.word(version)),
            "azure_json": match (&self.azure_json, self.azure_json_exists) {
                (Some(json), _) => json!({"cloud": json.cloud.name(), "names_an_identity": json.kubelet_identity.is_some(),
                    "vm_type": json.vm_type.as_ref().map(|kind| scrub.word(kind))}),
                (None, true) => json!("does not understand"),
                (None, false) => Value::Null,
            },
            "arc_agent": Path::new(ARC_FOLDER).exists(),
            "aadsshlogin": {
                "certhandler": Path::new("/usr/sbin/aad_certhandler").exists(),
                "aadpasswd": Path::new("/etc/aadpasswd").exists(),
                "nsswitch": text("/etc/nsswitch.conf").is_some_and(|text| text.split_ascii_whitespace().any(|w| w == "aad")),
                "pam": pam.into_iter().any(|path| says(path, "pam_aad")),
                "sshd_config": says("/etc/ssh/sshd_config", "aad_certhandler"),
            },
        })
    }
}

fn text(path: &str) -> Option<String> {
    let bytes = read_capped(Path::new(path), MAX_FILE_BYTES).ok().flatten()?;
    String::from_utf8(bytes).ok()
}

/// Newer servers print their version, older ones complain about `-V` and print it all the same.
async fn sshd_version() -> Option<String> {
    let mut command = tokio::process::Command::new("/usr/sbin/sshd");
    command.arg("-V").env_clear().stdin(Stdio::null()).kill_on_drop(true);
    let said = tokio::time::timeout(SSHD_LIMIT, command.output()).await.ok()?.ok()?;
    version_in(&[said.stderr, said.stdout].concat())
}

fn version_in(said: &[u8]) -> Option<String> {
    let said = String::from_utf8_lossy(said);
    let from = said.get(said.find("OpenSSH_")?..)?;
    let version = from.split([',', '\n', '\r']).next().unwrap_or_default().trim();
    Some(version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_found_in_what_old_and_new_servers_say() {
        let new = b"OpenSSH_9.2p1 Debian-2+deb12u3, OpenSSL 3.0.15\n";
        assert_eq!(version_in(new).as_deref(), Some("OpenSSH_9.2p1 Debian-2+deb12u3"));
        let old = b"unknown option -- V\nOpenSSH_8.9p1 Ubuntu-3, OpenSSL 3.0.2\nusage: sshd";
        assert_eq!(version_in(old).as_deref(), Some("OpenSSH_8.9p1 Ubuntu-3"));
        assert_eq!(version_in(b"sh: not found"), None);
    }
}

//! The sealed store and the key to it, which systemd hands over when `nightlatch-seal.service` made one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tracing::warn;
use zeroize::Zeroizing;

use crate::store::sealed::{Found, Places, SealKind, Sealed};
use crate::store::{RealDisk, read_capped};

/// The credential's name in the unit.
const CREDENTIAL: &str = "nightlatch-seal";
/// The largest credential, in bytes.
const MAX_CREDENTIAL_BYTES: u64 = 4 * 1024;
/// The sealed file and the newest generation, in the state folder.
const STORE: &str = "sign-ins.sealed";
const HIGH_WATER: &str = "sign-ins.generation";

/// What `status` says.
pub(super) struct Words {
    pub(super) state: &'static str,
    pub(super) detail: String,
}

/// Opens the store; without a usable key one in memory, so that sign-ins work and end with the daemon.
pub(super) fn open_store(state: &Path) -> (Sealed, Words) {
    let in_memory = |why: String| {
        warn!("sign-ins are kept in memory only: {why}");
        (Sealed::in_memory(), Words { state: "degraded", detail: format!("in memory only: {why}") })
    };
    let (kind, key) = match handed_over() {
        Ok(found) => found,
        Err(why) => return in_memory(why),
    };
    let machine_id = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let places = Places { store: state.join(STORE), high_water: state.join(HIGH_WATER) };
    match Sealed::open(Arc::new(RealDisk), places, &key, kind, machine_id.trim()) {
        Ok((sealed, found)) => {
            let discarded = matches!(found, Found::Discarded(_));
            if discarded {
                warn!("the sealed sign-ins cannot be used, people have to sign in again: {found:?}");
            }
            let detail =
                format!("sealed with {kind}{}", if discarded { "; the old file was discarded" } else { "" });
            (sealed, Words { state: "ok", detail })
        }
        Err(cause) => in_memory(cause.to_string()),
    }
}

/// The credential is the word of what protects it, a space, and the key in base64.
fn handed_over() -> Result<(SealKind, Zeroizing<Vec<u8>>), String> {
    let none = || format!("no `{CREDENTIAL}` was handed over; see `systemctl status nightlatch-seal`");
    let folder = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from).ok_or_else(none)?;
    let bytes = read_capped(&folder.join(CREDENTIAL), MAX_CREDENTIAL_BYTES)
        .map_err(|cause| cause.to_string())?
        .ok_or_else(none)?;
    read(&Zeroizing::new(bytes))
        .ok_or_else(|| format!("`{CREDENTIAL}` is not what nightlatch-seal.service writes"))
}

fn read(credential: &[u8]) -> Option<(SealKind, Zeroizing<Vec<u8>>)> {
    let text = std::str::from_utf8(credential).ok()?;
    let (kind, key) = text.trim_end().split_once(' ')?;
    Some((SealKind::of_key(kind)?, Zeroizing::new(STANDARD.decode(key).ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_credential_is_what_the_unit_writes() {
        let (kind, key) = read(b"host AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
        assert_eq!((kind, key.len()), (SealKind::Host, 32));
        assert_eq!(read(b"host+tpm2 AAEC\n").unwrap().0, SealKind::TpmAndHost);
        for bad in [&b""[..], b"host", b"host !", b"moon AAEC", b"\xff AAEC"] {
            assert!(read(bad).is_none());
        }
    }

    /// Runs the unit's own script before a `systemd-creds` that opens what does not begin with `BAD`.
    fn run_the_unit(folder: &Path) -> std::process::Output {
        const UNIT: &str = include_str!("../../../systemd/nightlatch-seal.service");
        let line = UNIT.lines().find_map(|line| line.strip_prefix("ExecStart=/bin/sh -ceu '")).unwrap();
        let script = line.strip_suffix('\'').unwrap().replace("%%", "%");
        let script =
            script.replace("/etc/credstore.encrypted", &folder.join("credstore").display().to_string());
        let creds = folder.join("systemd-creds");
        let stand_in = r#"#!/bin/sh
            case "$1" in
                decrypt) ! head -c 3 "$3" | grep -q BAD ;;
                encrypt) cat > "$5" ;;
                *) false ;;
            esac
        "#;
        std::fs::write(&creds, stand_in).unwrap();
        let path = format!("{}:/usr/bin:/bin", folder.display());
        let chmod = ["+x".as_ref(), creds.as_os_str()];
        assert!(std::process::Command::new("chmod").args(chmod).status().unwrap().success());
        std::process::Command::new("/bin/sh").env("PATH", path).args(["-ceu", &script]).output().unwrap()
    }

    #[test]
    fn a_key_that_does_not_open_any_more_is_put_aside_and_does_not_stop_the_daemon() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("credstore").join(CREDENTIAL);
        let done = run_the_unit(folder.path());
        assert!(done.status.success(), "{done:?}");
        let made = std::fs::read(&file).unwrap();
        assert_eq!(self::read(&made).unwrap().1.len(), 32);
        // One that opens stays as it is.
        assert!(run_the_unit(folder.path()).status.success());
        assert_eq!(std::fs::read(&file).unwrap(), made);
        // systemd refuses to start a service whose credential does not decrypt (systemd.exec(5)).
        std::fs::write(&file, b"BAD").unwrap();
        let done = run_the_unit(folder.path());
        assert!(done.status.success() && !done.stderr.is_empty(), "{done:?}");
        let anew = std::fs::read(&file).unwrap();
        assert!(anew != made && self::read(&anew).is_some());
        assert_eq!(std::fs::read(file.with_extension("unusable")).unwrap(), b"BAD");
    }
}

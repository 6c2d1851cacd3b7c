//! The program itself, and the unmodified msal package against it.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

const EMULATOR: &str = env!("CARGO_BIN_EXE_nightlatch-emulator");

#[test]
fn the_program_says_ready_and_ends_on_sigterm() {
    let dir = tempfile::TempDir::new().unwrap();
    let socket = dir.path().join("control.sock");
    let mut child = Command::new(EMULATOR)
        .arg("--state")
        .arg(dir.path())
        .args(["--https", "127.0.0.1:0", "--https", "127.0.0.1:0", "--imds", "127.0.0.1:0"])
        .arg("--control-socket")
        .arg(&socket)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    let endpoints: Value =
        serde_json::from_str(&std::fs::read_to_string(dir.path().join("endpoints.json")).unwrap()).unwrap();
    assert_eq!(endpoints["https"].as_array().unwrap().len(), 2);
    assert!(endpoints["himds"].is_null() && endpoints["control"].is_null() && socket.exists());
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    assert!(child.wait().unwrap().success());
    assert!(!socket.exists());
}

/// Needs root or user namespaces, and once a package index for msal.
#[test]
fn msal_gets_certificates_that_openssh_reads() {
    let dir = tempfile::TempDir::new().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../interop/msal_ssh_cert.py");
    let out =
        Command::new("python3").arg(script).arg(dir.path()).args(["--emulator", EMULATOR]).output().unwrap();
    assert!(
        out.status.success(),
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    let summary: Value =
        serde_json::from_str(&std::fs::read_to_string(dir.path().join("summary.json")).unwrap()).unwrap();
    assert_eq!(summary.as_object().unwrap().len(), 8);
    assert_eq!(summary["mixed-case"]["login_name"], "mixed.case@contoso.com");
    assert_eq!(summary["mixed-case"]["principal"], "Mixed.Case@contoso.com");
    assert_eq!(summary["guest"]["principal"], "bob@fabrikam.com");
}

//! Against programs that none of this repository wrote: the unmodified `msal` package asks for the
//! certificate, and what comes back logs in.

use std::path::Path;

use nightlatch_emulator::world;
use nightlatch_world::Person;

use crate::tenant::cluster;

#[test]
fn a_certificate_that_msal_got_logs_in() {
    let cluster = cluster();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().display().to_string();
    let names: Vec<String> =
        nightlatch_world::AZURE_HOSTS.iter().map(|host| format!("127.0.0.1 {host}")).collect();
    let hosts = folder.path().join("hosts");
    std::fs::write(&hosts, format!("127.0.0.1 localhost\n{}\n", names.join("\n"))).unwrap();
    // The driver is a program of the host in the node's network, with Microsoft's names on loopback.
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/msal_ssh_cert.py");
    // Made out here: in the node's network there is no package index.
    let folder_of_script = script.parent().unwrap();
    let prepared = std::process::Command::new("python3")
        .args(["-c", "import msal_ssh_cert; msal_ssh_cert.venv_python()"])
        .env("PYTHONPATH", folder_of_script)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    assert!(prepared.status.success(), "{}", String::from_utf8_lossy(&prepared.stderr));
    let line = format!(
        "mount --bind {} /etc/hosts && exec python3 {} {out} --here --state {} --control-socket {} --flow refresh --flow secret",
        hosts.display(),
        script.display(),
        cluster.tenant.file(".").display(),
        cluster.tenant.file("control.sock").display(),
    );
    let done = cluster
        .node
        .netns_exec(&["unshare", "--mount", "--propagation", "private", "sh", "-c", &line])
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{said}");
    for (flow, name) in [("refresh", world::ALICE.upn), ("secret", world::CI_PIPELINE.oid)] {
        let person = Person::from_folder(&folder.path().join(flow)).unwrap();
        let login = cluster.ssh(&person, name, &["id -un"]);
        assert_eq!(
            (login.status, login.stdout.trim()),
            (0, name),
            "{flow}: {login:?}\n{}",
            cluster.journal()
        );
    }
}

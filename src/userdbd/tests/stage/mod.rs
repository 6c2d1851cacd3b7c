//! A folder with a snapshot and a passwd file, and a client that speaks varlink.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

pub const SERVICE: &str = "io.nightlatch.UserDatabase";
/// Longer than any answer may take, so that a wait that never ends fails instead.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Files {
    pub folder: tempfile::TempDir,
    pub socket: PathBuf,
    pub snapshot: PathBuf,
    pub passwd: PathBuf,
}

/// Lays the files out, with `count` known people `known0@contoso.com` and on.
pub fn files(count: u32, passwd: &str) -> Files {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let at = |name: &str| folder.path().join(name);
    let (socket, snapshot, local) = (at(SERVICE), at("snapshot.json"), at("passwd"));
    let low = nightlatch_model::UID_LOW;
    let account = |n: u32| json!({ "name": format!("known{n}@contoso.com"), "uid": low + n, "admin": true, "unlocked_until": i64::MAX });
    let accounts: Vec<Value> = (0..count).map(account).collect();
    let whole = json!({
        "version": 1, "tenant": "11111111-2222-3333-4444-555555555555", "domains": [], "shell": "/bin/bash",
        "accounts": accounts,
    });
    fs::write(&snapshot, whole.to_string()).unwrap();
    fs::write(&local, passwd).unwrap();
    Files { folder, socket, snapshot, passwd: local }
}

pub fn connect(socket: &Path) -> UnixStream {
    let stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

pub fn question(name: &str) -> String {
    let parameters = json!({ "userName": name, "service": SERVICE });
    format!("{}\0", json!({ "method": "io.systemd.UserDatabase.GetUserRecord", "parameters": parameters }))
}

/// Reads one message; `None` at the end of the connection.
pub fn receive(stream: &mut UnixStream) -> Option<Value> {
    let mut text = Vec::new();
    let mut byte = [0_u8];
    loop {
        match stream.read(&mut byte) {
            Err(cause) if cause.kind() == ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => return None,
            Ok(_) if byte == [0] => return Some(serde_json::from_slice(&text).unwrap()),
            Ok(_) => text.push(byte[0]),
        }
    }
}

pub fn ask(stream: &mut UnixStream, name: &str) -> Value {
    stream.write_all(question(name).as_bytes()).unwrap();
    let mut text = Vec::new();
    let mut chunk = [0_u8; 4096];
    while text.last() != Some(&0) {
        let read = match stream.read(&mut chunk) {
            // A read with a time limit is broken off when the machine was stopped for a moment (signal(7)).
            Err(cause) if cause.kind() == ErrorKind::Interrupted => continue,
            read => read.unwrap(),
        };
        assert_ne!(read, 0, "the connection ended without an answer");
        text.extend_from_slice(&chunk[..read]);
    }
    text.pop();
    serde_json::from_slice(&text).unwrap()
}

pub fn is_no_record(answer: &Value) -> bool {
    answer["error"] == json!("io.systemd.UserDatabase.NoRecordFound")
}

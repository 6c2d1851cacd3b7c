//! The name responder: what any local user can ask it, and the snapshot that it must not believe blindly.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use nightlatch_model::{
    ADMIN_GID, ADMIN_GROUP, LoginName, MAX_ACCOUNTS, Snapshot, Timestamp, home_of, is_our_uid,
};
use nightlatch_userdbd::{Answerer, INTERFACE, Source};
use serde_json::{Value, json};

const NOW: Timestamp = Timestamp(1_000_000);
const SERVICE: &str = "io.nightlatch.UserDatabase";
const PASSWD: &str =
    "root:x:0:0::/root:/bin/sh\nazureuser:x:1000:1000::/:/bin/sh\nodd:x:1900000000:1::/:/bin/sh\n";
/// What one answer may be longer than six times its question, in bytes: the frame, and a record.
const FRAME_BYTES: usize = 4096;
/// Every error that may come out (systemd.io, "User/Group Record Lookup API via Varlink"; varlink.org).
const ERRORS: [&str; 7] = [
    "io.systemd.UserDatabase.NoRecordFound",
    "io.systemd.UserDatabase.BadService",
    "io.systemd.UserDatabase.ConflictingRecordFound",
    "io.systemd.UserDatabase.EnumerationNotSupported",
    "org.varlink.service.MethodNotFound",
    "org.varlink.service.InvalidParameter",
    "org.varlink.service.ExpectedMore",
];

struct Stage {
    folder: tempfile::TempDir,
}

impl Stage {
    fn new(snapshot: &[u8]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(folder.path(), mode).expect("the folder is ours");
        fs::write(folder.path().join("passwd"), PASSWD).expect("the accounts are written");
        let stage = Self { folder };
        stage.write(snapshot);
        stage
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("snapshot.json")
    }

    fn write(&self, snapshot: &[u8]) {
        fs::write(self.path(), snapshot).expect("the snapshot is written");
        fs::set_permissions(self.path(), fs::Permissions::from_mode(0o644)).expect("the snapshot is ours");
    }

    /// An answerer that has read nothing yet. What it says must be fit for the journal.
    fn answerer(&self) -> Answerer {
        let say = |line: &str| {
            assert!(line.len() < 1024 && line.bytes().all(|b| b == b' ' || b.is_ascii_graphic()), "{line:?}");
        };
        let source = Source::new(self.path(), self.folder.path().join("passwd"), Arc::new(say));
        Answerer::new(source, SERVICE, Arc::new(|| NOW))
    }
}

/// Every answer to one message, each of them one JSON text that ends with the only NUL in it.
fn ask(answerer: &Answerer, message: &[u8]) -> io::Result<Vec<Value>> {
    let mut answers = Vec::new();
    answerer.answer(message, &mut |bytes| {
        let (end, text) = bytes.split_last().expect("an answer is not empty");
        assert!(*end == 0 && !text.contains(&0), "one NUL, at the end");
        assert!(text.len() <= FRAME_BYTES + 6 * message.len(), "{} bytes", text.len());
        answers.push(serde_json::from_slice(text).expect("an answer is JSON"));
        Ok(())
    })?;
    Ok(answers)
}

fn enumerate(answerer: &Answerer, method: &str) -> Vec<Value> {
    let call = json!({ "method": format!("{INTERFACE}.{method}"), "parameters": { "service": SERVICE }, "more": true });
    let answers = ask(answerer, call.to_string().as_bytes()).expect("a well-formed call is answered");
    check(&answers, true);
    answers.into_iter().filter(|answer| answer.get("error").is_none()).collect()
}

/// The rules that no answer breaks, whatever was asked and whatever the snapshot says.
fn check(answers: &[Value], more: bool) {
    assert!(more || answers.len() <= 1, "one answer to a call that asked for one");
    for (at, answer) in answers.iter().enumerate() {
        let last = at + 1 == answers.len();
        assert_eq!(answer["continues"] == true, !last, "all but the last continue");
        if let Some(error) = answer.get("error") {
            assert!(
                last && at == 0 && error.as_str().is_some_and(|error| ERRORS.contains(&error)),
                "{error}"
            );
            continue;
        }
        let parameters = &answer["parameters"];
        let record = &parameters["record"];
        if record.get("userName").is_some() {
            check_user(record);
        } else if record.get("groupName").is_some() {
            let group = record["groupName"].as_str().expect("a group has a name");
            let gid = number(&record["gid"]);
            assert_eq!(group == ADMIN_GROUP, gid == ADMIN_GID, "{record}");
            assert!(group == ADMIN_GROUP || (is_ours(group) && is_our_uid(gid)), "{record}");
            assert!(record.get("members").is_none());
        } else if let Some(user) = parameters.get("userName") {
            assert_eq!(parameters["groupName"], ADMIN_GROUP, "no membership but ours");
            assert!(user.as_str().is_some_and(is_ours), "{user}");
        } else {
            assert_eq!(parameters["product"], "nightlatch-userdbd", "{answer}");
        }
    }
}

fn check_user(record: &Value) {
    let uid = number(&record["uid"]);
    assert!(is_our_uid(uid) && uid != 1_900_000_000, "{record}");
    assert_eq!(number(&record["gid"]), uid);
    assert_eq!(record["homeDirectory"], home_of(uid));
    assert_eq!(record["disposition"], "regular");
    assert_eq!(record["service"], SERVICE);
    assert!(record["locked"].is_boolean());
    assert!(record["userName"].as_str().is_some_and(is_ours), "{record}");
    let shell = record["shell"].as_str().expect("a shell");
    assert!(shell.starts_with('/') && shell.len() <= 128);
    assert!(shell.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'-' | b'_' | b'.')));
    for secret in ["privileged", "hashedPassword", "memberOf", "sshAuthorizedKeys"] {
        assert!(record.get(secret).is_none(), "{record}");
    }
}

fn number(value: &Value) -> u32 {
    value.as_u64().and_then(|number| u32::try_from(number).ok()).expect("a number of 32 bits")
}

/// A canonical login name that no local account has or would be mistaken for.
fn is_ours(name: &str) -> bool {
    LoginName::parse(name).is_ok_and(|name| {
        !["root", "azureuser", "odd"].contains(&name.local_part().unwrap_or_else(|| name.as_str()))
    })
}

/// Any bytes as a request: no answer, one error, or records that keep the rules; the connection ends
/// over nothing but what is no call at all.
pub fn userdb_request(data: &[u8]) {
    static ANSWERER: LazyLock<(Stage, Answerer)> = LazyLock::new(|| {
        let stage = Stage::new(include_bytes!("seeds/snapshot/three-people.json"));
        let answerer = stage.answerer();
        (stage, answerer)
    });
    match ask(&ANSWERER.1, data) {
        Ok(answers) => {
            // What is passed over may be no JSON to a reader who keeps all of it.
            let Ok(call) = serde_json::from_slice::<Value>(data) else { return check(&answers, true) };
            assert_eq!(answers.is_empty(), call["oneway"] == true, "one-way calls alone have no answer");
            check(&answers, call["more"] == true);
            let asked = call["parameters"]["userName"].as_str();
            for user in answers.iter().map(|answer| &answer["parameters"]["record"]) {
                if let (Some(asked), Some(name)) = (asked, user["userName"].as_str()) {
                    assert_eq!(name, asked, "nobody else is answered for");
                }
                assert!(user["locked"] != false || user["userName"] == "alice@contoso.com", "{user}");
            }
        }
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}"),
    }
}

/// Any bytes as the snapshot: one that the model refuses is answered for by nobody; one that it takes
/// gives each person one user and one group, in our range, under names and uids that are theirs alone.
pub fn snapshot(data: &[u8]) {
    thread_local! {
        static STAGE: Stage = Stage::new(b"");
    }
    let answerer = STAGE.with(|stage| {
        stage.write(data);
        stage.answerer()
    });
    let (users, groups) = (enumerate(&answerer, "GetUserRecord"), enumerate(&answerer, "GetGroupRecord"));
    let members = enumerate(&answerer, "GetMemberships");
    let local = ["root", "azureuser", "odd"];
    let taken: Option<Snapshot> = serde_json::from_slice(data).ok();
    let taken = taken.filter(|snapshot| snapshot.check(|name| local.contains(&name)).is_ok());
    let Some(taken) = taken else {
        assert!(users.is_empty() && members.is_empty(), "a refused snapshot lets nobody appear");
        assert!(groups.len() <= 1);
        return;
    };
    assert!(taken.accounts.len() <= MAX_ACCOUNTS);
    let shown: Vec<_> =
        taken.accounts.iter().filter(|a| is_ours(a.name.as_str()) && a.uid != 1_900_000_000).collect();
    assert_eq!((users.len(), groups.len()), (shown.len(), shown.len() + 1), "one user and one group each");
    let mut seen = HashSet::new();
    for (account, user) in shown.iter().zip(&users) {
        let record = &user["parameters"]["record"];
        assert_eq!((&record["userName"], number(&record["uid"])), (&json!(account.name), account.uid));
        assert_eq!(record["shell"], taken.shell);
        assert_eq!(record["locked"], account.unlocked_until.is_none_or(|until| until <= NOW));
        assert!(seen.insert(account.name.to_string()) && seen.insert(account.uid.to_string()));
    }
    let open = |a: &&&_| -> bool {
        let account: &nightlatch_model::Account = a;
        account.admin && account.unlocked_until.is_some_and(|until| NOW < until)
    };
    assert_eq!(members.len(), shown.iter().filter(open).count(), "administrators with an open account");
}

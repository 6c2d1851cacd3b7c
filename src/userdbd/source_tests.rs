//! Which files are believed, and what stays in force when one is not.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};

use nightlatch_model::UID_LOW;
use serde_json::{Value, json};

use super::*;
use crate::directory::Miss;

const NOW: Timestamp = Timestamp(1_000_000);

struct Stage {
    folder: tempfile::TempDir,
    source: Source,
    said: Arc<Mutex<Vec<String>>>,
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(folder.path().join("accounts")).unwrap();
        fs::write(folder.path().join("passwd"), "root:x:0:0::/root:/bin/sh\n").unwrap();
        let said = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&said);
        let say: Say = Arc::new(move |line| sink.lock().unwrap().push(line.to_owned()));
        let source =
            Source::new(folder.path().join("accounts/snapshot.json"), folder.path().join("passwd"), say);
        Self { folder, source, said }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("accounts/snapshot.json")
    }

    /// As the daemon does it: a new file, renamed into place.
    fn put(&self, text: &str) {
        let new = self.folder.path().join("accounts/new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.path()).unwrap();
    }

    fn has(&self, name: &str) -> bool {
        // A never-seen name would be computed: ask by uid, which finds only known people.
        let view = self.source.view(NOW);
        view.user(Some(name), None).is_ok_and(|user| view.user(None, Some(user.uid)).is_ok())
    }

    fn said(&self) -> usize {
        self.said.lock().unwrap().len()
    }

    fn last(&self) -> String {
        self.said.lock().unwrap().last().unwrap().clone()
    }
}

fn snapshot(accounts: &[(&str, u32)]) -> Value {
    let accounts: Vec<Value> = accounts
        .iter()
        .map(|(name, uid)| json!({ "name": name, "uid": uid, "admin": true, "unlocked_until": 2_000_000 }))
        .collect();
    json!({
        "version": 1, "tenant": "11111111-2222-3333-4444-555555555555", "domains": [], "shell": "/bin/bash",
        "accounts": accounts,
    })
}

fn alice() -> String {
    snapshot(&[("alice@contoso.com", UID_LOW)]).to_string()
}

#[test]
fn a_rename_shows_in_the_next_answer() {
    let stage = Stage::new();
    assert!(!stage.has("alice@contoso.com"));
    stage.put(&alice());
    assert!(stage.has("alice@contoso.com"));
    for round in 1..50 {
        stage.put(&snapshot(&[("bob@contoso.com", UID_LOW + round)]).to_string());
        let view = stage.source.view(NOW);
        assert_eq!(view.user(Some("bob@contoso.com"), None).unwrap().uid, UID_LOW + round);
    }
    assert_eq!(stage.said(), 2, "nothing there at first, then accepted; good changes are not reported");
}

/// What a broken or hostile daemon could write; each must leave alice as she was.
#[test]
fn one_bad_record_keeps_the_last_good_snapshot() {
    let good = ("carol@contoso.com", UID_LOW + 9);
    let planted = |key: &str, value: Value| {
        let mut whole = snapshot(&[good]);
        whole["accounts"][0][key] = value;
        whole.to_string()
    };
    let mut version = snapshot(&[good]);
    version["version"] = json!(2);
    let mut shell = snapshot(&[good]);
    shell["shell"] = json!("/bin/sh\n");
    let mut group = snapshot(&[good]);
    group["memberships"] = json!([{ "userName": "bob", "groupName": "sudo" }]);
    let twice = snapshot(&[good]).to_string().replacen("\"admin\"", "\"uid\":0,\"admin\"", 1);
    let bad = [
        snapshot(&[good, ("mallory@contoso.com", 0)]).to_string(),
        snapshot(&[good, ("mallory@contoso.com", 1000)]).to_string(),
        snapshot(&[good, ("mallory@contoso.com", 65_534)]).to_string(),
        snapshot(&[good, ("mallory@contoso.com", nightlatch_model::ADMIN_GID)]).to_string(),
        snapshot(&[good, ("mallory@contoso.com", u32::MAX)]).to_string(),
        snapshot(&[good, ("bob", UID_LOW + 1)]).to_string(),
        snapshot(&[good, ("root", UID_LOW + 1)]).to_string(),
        snapshot(&[good, ("../x@contoso.com", UID_LOW + 1)]).to_string(),
        snapshot(&[good, ("Dave@contoso.com", UID_LOW + 1)]).to_string(),
        snapshot(&[good, (good.0, UID_LOW + 1)]).to_string(),
        snapshot(&[good, ("dave@contoso.com", good.1)]).to_string(),
        planted("gid", json!(0)),
        planted("groups", json!(["sudo"])),
        planted("homeDirectory", json!("/root")),
        planted("hashedPassword", json!(["$6$x"])),
        version.to_string(),
        shell.to_string(),
        group.to_string(),
        twice,
        snapshot(&[good]).to_string() + "x",
        snapshot(&[good]).to_string()[..100].to_owned(),
        String::new(),
        "[".repeat(100_000),
        "\u{1b}[31m".to_owned(),
        " ".repeat(usize::try_from(MAX_SNAPSHOT_BYTES).unwrap()) + &snapshot(&[good]).to_string(),
    ];
    let stage = Stage::new();
    stage.put(&alice());
    assert!(stage.has("alice@contoso.com"));
    for text in bad {
        let before = stage.said();
        stage.put(&text);
        let shown: String = text.chars().take(300).collect();
        for _ in 0..20 {
            assert!(stage.has("alice@contoso.com"), "{shown}");
            assert!(!stage.has("carol@contoso.com") && !stage.has("mallory@contoso.com"), "{shown}");
        }
        assert_eq!(stage.said(), before + 1, "one line per change: {shown}");
        assert!(stage.last().contains("the last good one stays in force"), "{}", stage.last());
        assert!(stage.last().chars().all(|c| c == ' ' || c.is_ascii_graphic()), "{}", stage.last());
        assert!(stage.last().len() < 600, "{}", stage.last());
    }
    stage.put(&snapshot(&[good]).to_string());
    assert!(stage.has("carol@contoso.com") && !stage.has("alice@contoso.com"), "a good one is taken again");
    assert!(stage.last().contains("accepted"));
}

#[test]
fn a_file_that_is_not_the_daemons_is_refused() {
    let stage = Stage::new();
    stage.put(&alice());
    assert!(stage.has("alice@contoso.com"));
    let bob = snapshot(&[("bob@contoso.com", UID_LOW + 1)]).to_string();
    let elsewhere = stage.folder.path().join("elsewhere");
    fs::write(&elsewhere, &bob).unwrap();
    fs::remove_file(stage.path()).unwrap();
    assert!(stage.has("alice@contoso.com"), "a file that is gone changes nothing");
    symlink(&elsewhere, stage.path()).unwrap();
    assert!(!stage.has("bob@contoso.com"), "a link is not followed");
    stage.put(&bob);
    fs::set_permissions(stage.path(), fs::Permissions::from_mode(0o666)).unwrap();
    assert!(!stage.has("bob@contoso.com"), "others may write it");
    // The repair alone, the file's bytes and time untouched, is seen.
    fs::set_permissions(stage.path(), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(stage.has("bob@contoso.com"));
}

/// Unreadable for the moment: asked again each time, said once, and taken when it can be read.
#[test]
fn what_may_pass_is_tried_again() {
    let stage = Stage::new();
    stage.put(&alice());
    assert!(stage.has("alice@contoso.com"));
    // A link to itself: the system says no (ELOOP), and the file's own stamp never comes.
    let passwd = stage.folder.path().join("passwd");
    fs::remove_file(&passwd).unwrap();
    symlink(&passwd, &passwd).unwrap();
    let before = stage.said();
    for _ in 0..20 {
        assert!(stage.has("alice@contoso.com"));
    }
    assert_eq!(stage.said(), before + 1, "{}", stage.last());
    fs::remove_file(&passwd).unwrap();
    fs::write(&passwd, "alice:x:1000:1000::/:\n").unwrap();
    assert!(!stage.has("alice@contoso.com"));
}

/// Needs root to give files away, as the node's own tests have; a plain user cannot make the
/// situation, and so need not fear it.
#[test]
fn the_owner_of_the_folder_must_own_the_file() {
    let stage = Stage::new();
    stage.put(&alice());
    if chown(stage.path(), Some(65_534), None).is_err() {
        return;
    }
    assert!(!stage.has("alice@contoso.com"));
    assert!(stage.last().contains("belongs to uid 65534"), "{}", stage.last());
    let folder = stage.folder.path().join("accounts");
    chown(&folder, Some(65_534), None).unwrap();
    assert!(stage.has("alice@contoso.com"), "the folder's new owner owns the file");
}

#[test]
fn a_new_local_account_hides_a_known_person_at_once() {
    let stage = Stage::new();
    stage.put(&alice());
    assert!(stage.has("alice@contoso.com"));
    let passwd = stage.folder.path().join("passwd");
    let write = |text: &str| {
        let new = stage.folder.path().join("passwd+");
        fs::write(&new, text).unwrap();
        fs::rename(new, &passwd).unwrap();
    };
    let gone = |name| stage.source.view(NOW).user(Some(name), None) == Err(Miss::NoRecord);
    // By its first part only: hidden, and the snapshot is not refused for it.
    write("alice:x:1000:1000::/:/bin/sh\n");
    assert!(gone("alice@contoso.com"));
    stage.put(&snapshot(&[("alice@contoso.com", UID_LOW), ("bob@contoso.com", UID_LOW + 1)]).to_string());
    assert!(stage.has("bob@contoso.com") && gone("alice@contoso.com"));
    // By its whole name: the snapshot is refused, and the record kept from before is hidden too.
    write("alice@contoso.com:x:1000:1000::/:/bin/sh\n");
    assert!(gone("alice@contoso.com") && stage.has("bob@contoso.com"));
    assert!(stage.last().contains("is also a local account"), "{}", stage.last());
    // The same snapshot is good again once the local account is gone.
    write("root:x:0:0::/:\n");
    assert!(stage.has("alice@contoso.com"));
    // Without /etc/passwd the names read last stay in force.
    write("dave:x:1000:1000::/:/bin/sh\n");
    assert!(gone("dave@contoso.com"));
    fs::remove_file(&passwd).unwrap();
    assert!(gone("dave@contoso.com") && stage.has("alice@contoso.com"));
}

#[test]
fn without_local_accounts_nobody_is_answered_for() {
    let stage = Stage::new();
    fs::remove_file(stage.folder.path().join("passwd")).unwrap();
    stage.put(&alice());
    let nobody = || stage.source.view(NOW).user(Some("alice@contoso.com"), None) == Err(Miss::NoRecord);
    assert!(nobody() && nobody());
    assert_eq!(stage.said(), 2, "one line for each file, however often asked");
    fs::write(stage.folder.path().join("passwd"), "root:x:0:0::/:\n").unwrap();
    assert!(stage.has("alice@contoso.com"));
}

/// The daemon may rename at any moment while many ask: each answer is one of the versions,
/// never a mixture, and never older than what stood when the question came.
#[test]
fn renames_under_load_are_never_torn() {
    let stage = Stage::new();
    stage.put(&snapshot(&[("alice@contoso.com", UID_LOW)]).to_string());
    assert!(stage.has("alice@contoso.com"));
    let newest = std::sync::atomic::AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let least = newest.load(std::sync::atomic::Ordering::SeqCst);
                    let user = stage.source.view(NOW).user(Some("alice@contoso.com"), None).unwrap();
                    assert!((UID_LOW + least..=UID_LOW + 200).contains(&user.uid), "{} {least}", user.uid);
                    if least == 200 {
                        return;
                    }
                }
            });
        }
        for round in 1..=200 {
            stage.put(&snapshot(&[("alice@contoso.com", UID_LOW + round)]).to_string());
            newest.store(round, std::sync::atomic::Ordering::SeqCst);
        }
    });
}

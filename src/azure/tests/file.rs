//! The roles file.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::*;
use crate::azure::{RolesFile, RolesFileError};

struct Fixture {
    folder: tempfile::TempDir,
    source: RoleSource,
    file: RolesFile,
}

impl Fixture {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("roles.toml"), text);
        let file = RolesFile::new(&folder.path().join("roles.toml"));
        Self { folder, source: RoleSource::File(file.clone()), file }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("roles.toml")
    }

    async fn ask(&self) -> RoleAnswer {
        self.source.roles(&question(), &login(100)).await.answer
    }
}

/// As an editor saves it: a new file in the place of the old one.
fn write(path: &PathBuf, text: &str) {
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, text).unwrap();
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::rename(&fresh, path).unwrap();
}

fn entry(rest: &str) -> String {
    format!("[[assignment]]\nprincipal = \"{OID}\"\n{rest}\n")
}

async fn answer(text: &str) -> RoleAnswer {
    let fixture = Fixture::new(text);
    assert_eq!(fixture.file.problem(), None, "{text}");
    fixture.ask().await
}

#[tokio::test]
async fn roles_actions_scopes_and_windows() {
    let window = |from: i64, to: i64| {
        format!("role = \"user\"\nstarts = \"{}\"\nends = {}", NOW.plus(from), NOW.plus(to))
    };
    let cases = [
        (entry("role = \"user\""), Some(Role::User)),
        (entry("role = \"admin\""), Some(Role::Admin)),
        (entry(&format!("actions = [\"{LOGIN}\"]")), Some(Role::User)),
        (entry("actions = [\"microsoft.compute/*\"]"), Some(Role::Admin)),
        (entry(&format!("actions = [\"{ADMIN}\"]")), None),
        (entry("role = \"admin\"\nscope = \"cluster\""), None),
        (entry(&format!("role = \"admin\"\nscope = \"{NODE}\"")), Some(Role::Admin)),
        (entry("role = \"admin\"\nscope = \"/subscriptions/other\""), None),
        (entry(&window(-1, 1)), Some(Role::User)),
        (entry(&window(-2, -1)), None),
        (entry(&window(1, 2)), None),
        ("assignment = []\n".to_owned(), None),
        (entry("role = \"admin\"") + "[[deny]]\nprincipal = \"everyone\"", None),
        (entry("role = \"admin\"") + &format!("[[deny]]\nprincipal = \"{OID}\""), None),
        (
            entry("role = \"admin\"") + &format!("[[deny]]\nprincipal = \"everyone\"\nexcept = [\"{OID}\"]"),
            Some(Role::Admin),
        ),
        (
            entry("role = \"admin\"") + &format!("[[deny]]\nprincipal = \"{OID}\"\nactions = [\"{ADMIN}\"]"),
            Some(Role::User),
        ),
    ];
    for (text, expected) in cases {
        let answer = answer(&text).await;
        assert_eq!(role(&answer), expected, "{text}{answer:?}");
        assert!(!matches!(answer, RoleAnswer::Unknown(_)), "{text}{answer:?}");
    }
}

#[tokio::test]
async fn a_machine_without_an_arm_id_has_its_roles_too() {
    let fixture = Fixture::new(&entry("role = \"user\""));
    let question = RoleQuestion { scopes: Vec::new(), ..question() };
    let found = fixture.source.roles(&question, &login(100)).await;
    assert_eq!(role(&found.answer), Some(Role::User));
}

#[tokio::test]
async fn a_change_shows_at_once_and_a_bad_file_changes_nothing() {
    let fixture = Fixture::new(&entry("role = \"user\""));
    assert_eq!(role(&fixture.ask().await), Some(Role::User));
    write(&fixture.path(), &entry("role = \"admin\""));
    assert_eq!(role(&fixture.ask().await), Some(Role::Admin));

    write(&fixture.path(), "[[assignment]]\nprincipal = 7");
    assert_eq!(role(&fixture.ask().await), Some(Role::Admin));
    assert!(matches!(fixture.file.problem(), Some(RolesFileError::NotUnderstood { .. })));

    std::fs::remove_file(fixture.path()).unwrap();
    assert_eq!(role(&fixture.ask().await), Some(Role::Admin));
    assert!(matches!(fixture.file.problem(), Some(RolesFileError::Read { .. })));

    // Emptied by a full disk it throws nobody out; that nobody is to have a right is said.
    for emptied in ["", "# nothing\n", "[[deny]]\nprincipal = \"everyone\"\n"] {
        write(&fixture.path(), emptied);
        assert_eq!(role(&fixture.ask().await), Some(Role::Admin), "{emptied:?}");
        let problem = fixture.file.problem().unwrap().to_string();
        assert!(problem.contains("write `assignment = []`"), "{problem}");
    }
    write(&fixture.path(), "assignment = []\n");
    assert_eq!(fixture.ask().await, NOBODY);
    assert_eq!(fixture.file.problem(), None);
}

#[tokio::test]
async fn a_file_that_was_never_good_is_unknown() {
    let twice = entry("role = \"user\"\nactions = [\"x\"]");
    for text in [
        "",
        "[[assignment]]",
        "[[assignments]]",
        "x = 1",
        &entry(""),
        &entry("actions = []"),
        &entry("role = \"owner\""),
        &entry("role = \"user\"\nscope = \"nodes\""),
        &entry("role = \"user\"\nscope = \"/subscriptions/\""),
        &entry("role = \"user\"\nends = \"tomorrow\""),
        &entry("role = \"user\"\nend = \"2026-12-31T00:00:00Z\""),
        &entry("role = \"user\"\nends = 2026-12-31"),
        "[[deny]]\nprincipal = \"all\"",
        &twice,
        &"#".repeat(1024 * 1024 + 1),
    ] {
        let fixture = Fixture::new(text);
        assert!(matches!(cause(&fixture.ask().await), UnknownCause::Upstream(_)), "{text}");
        assert!(fixture.file.problem().is_some());
    }
    let missing = RolesFile::new(std::path::Path::new("/nonexistent/roles.toml"));
    let found = RoleSource::File(missing).roles(&question(), &login(100)).await;
    assert!(matches!(cause(&found.answer), UnknownCause::Upstream(text) if text.contains("/nonexistent")));
}

#[tokio::test]
async fn a_file_that_others_can_write_is_not_believed() {
    let fixture = Fixture::new("assignment = []");
    std::fs::set_permissions(fixture.path(), std::fs::Permissions::from_mode(0o664)).unwrap();
    assert!(matches!(fixture.file.problem(), Some(RolesFileError::Writable(_))));
}

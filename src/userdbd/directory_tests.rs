//! Look-ups in a snapshot: who is answered for, who is not, and with what.

use std::sync::Arc;

use nightlatch_model::{UID_HIGH, UID_LOW, is_our_uid};

use super::*;

const NOW: Timestamp = Timestamp(1_000_000);

fn tenant() -> TenantId {
    "11111111-2222-3333-4444-555555555555".parse().unwrap()
}

fn name(text: &str) -> LoginName {
    LoginName::parse(text).unwrap()
}

fn account(text: &str, uid: u32, admin: bool, unlocked_until: Option<i64>) -> Account {
    Account { name: name(text), uid, admin, unlocked_until: unlocked_until.map(Timestamp) }
}

fn view_of(domains: &[&str], accounts: Vec<Account>, passwd: &str) -> View {
    view_that(false, domains, accounts, passwd)
}

fn view_that(silent: bool, domains: &[&str], accounts: Vec<Account>, passwd: &str) -> View {
    let snapshot = Snapshot {
        version: 1,
        tenant: tenant(),
        domains: domains.iter().map(|domain| (*domain).to_owned()).collect(),
        shell: "/bin/bash".into(),
        accounts,
        silent,
    };
    let directory = Directory::new(snapshot, &Local::default()).unwrap();
    View::new(Some(Arc::new(directory)), Some(Arc::new(Local::parse(passwd.as_bytes()))), NOW)
}

fn view() -> View {
    let accounts = vec![
        account("alice@contoso.com", UID_LOW, true, Some(NOW.0 + 1)),
        account("bob@contoso.com", UID_LOW + 1, true, Some(NOW.0)),
        account("carol@contoso.com", UID_LOW + 2, false, Some(NOW.0 + 60)),
        account("1c0163c0-47e6-4577-8991-ea5c82e286e4", UID_HIGH - 1, false, None),
    ];
    view_of(&["contoso.com"], accounts, "root:x:0:0::/root:/bin/sh\nazureuser:x:1000:1000::/:/bin/sh\n")
}

/// While a node only observes, another agent answers for the same names: a locked record of ours before
/// theirs would keep their people out.
#[test]
fn a_silent_snapshot_answers_no_name_and_still_knows_who_owns_files() {
    let accounts = vec![account("alice@contoso.com", UID_LOW, true, Some(NOW.0 + 1))];
    let view = view_that(true, &[], accounts, "root:x:0:0::/root:/bin/sh\n");
    for text in ["alice@contoso.com", "dave@contoso.com", "00000000-0000-0000-0000-000000000001"] {
        assert_eq!(view.user(Some(text), None), Err(Miss::NoRecord), "{text}");
    }
    assert_eq!(view.user(None, Some(UID_LOW)).unwrap().name, name("alice@contoso.com"));
}

#[test]
fn a_known_account_is_unlocked_until_its_very_second() {
    let view = view();
    let locked = |text| view.user(Some(text), None).unwrap().locked;
    assert!(!locked("alice@contoso.com"), "one second left");
    assert!(locked("bob@contoso.com"), "ends now");
    assert!(!locked("carol@contoso.com"));
    assert!(locked("1c0163c0-47e6-4577-8991-ea5c82e286e4"), "never unlocked");
    assert_eq!(view.user(None, Some(UID_LOW)).unwrap().name, name("alice@contoso.com"));
}

#[test]
fn a_name_never_seen_is_computed_and_locked() {
    let view = view();
    for text in ["dave@contoso.com", "00000000-0000-0000-0000-000000000001"] {
        let user = view.user(Some(text), None).unwrap();
        assert_eq!(user.uid, uid_of(tenant(), &name(text)));
        assert!(user.locked);
        assert_eq!(view.user(None, Some(user.uid)), Err(Miss::NoRecord), "not found by uid");
        assert_eq!(view.user(Some(text), Some(user.uid)), Ok(user.clone()));
        assert_eq!(view.user(Some(text), Some(user.uid - 1)), Err(Miss::Conflict));
        assert_eq!(view.group(Some(text), None), Err(Miss::NoRecord), "no group before the first yes");
        assert_eq!(view.group(None, Some(user.uid)), Err(Miss::NoRecord));
    }
}

#[test]
fn domains_bind_strangers_and_are_folded() {
    let view = view_of(&["Contoso.COM"], vec![account("x@fabrikam.com", UID_LOW, false, None)], "");
    assert!(view.user(Some("dave@contoso.com"), None).is_ok());
    assert_eq!(view.user(Some("dave@fabrikam.com"), None), Err(Miss::NoRecord));
    assert_eq!(view.user(Some("dave@sub.contoso.com"), None), Err(Miss::NoRecord));
    assert!(view.user(Some("x@fabrikam.com"), None).is_ok(), "somebody known still owns files");
    assert!(view_of(&[], vec![], "").user(Some("dave@fabrikam.com"), None).is_ok(), "no list, all domains");
}

#[test]
fn name_and_uid_must_agree() {
    let view = view();
    assert!(view.user(Some("alice@contoso.com"), Some(UID_LOW)).is_ok());
    assert_eq!(view.user(Some("alice@contoso.com"), Some(UID_LOW + 1)), Err(Miss::Conflict));
    assert_eq!(view.user(Some("alice@contoso.com"), Some(0)), Err(Miss::Conflict));
    assert_eq!(view.user(Some("nobody"), Some(UID_LOW)), Err(Miss::NoRecord));
    assert_eq!(view.group(Some(ADMIN_GROUP), Some(ADMIN_GID)).unwrap().gid, ADMIN_GID);
    assert_eq!(view.group(Some(ADMIN_GROUP), Some(27)), Err(Miss::Conflict));
    assert_eq!(view.group(Some("alice@contoso.com"), Some(ADMIN_GID)), Err(Miss::Conflict));
    assert_eq!(view.user(None, None), Err(Miss::NoRecord));
    assert_eq!(view.group(None, None), Err(Miss::NoRecord));
}

/// Two names that meet on one uid: the known person keeps it, the other stays locked for the
/// daemon to refuse with a reason.
#[test]
fn a_collision_gives_nothing_away() {
    let uid = uid_of(tenant(), &name("mallory@contoso.com"));
    let view = view_of(&[], vec![account("victim@contoso.com", uid, true, Some(NOW.0 + 60))], "");
    let mallory = view.user(Some("mallory@contoso.com"), None).unwrap();
    assert_eq!((mallory.uid, mallory.locked), (uid, true));
    assert_eq!(view.user(None, Some(uid)).unwrap().name, name("victim@contoso.com"));
    assert_eq!(view.user(Some("mallory@contoso.com"), Some(uid)), Err(Miss::Conflict));
    assert!(view.user(Some("victim@contoso.com"), Some(uid)).is_ok());
    assert_eq!(view.group(Some("mallory@contoso.com"), None), Err(Miss::NoRecord));
    assert_eq!(view.admins(Some("mallory@contoso.com"), None).count(), 0);
}

#[test]
fn local_accounts_are_never_ours() {
    let passwd = format!("alice:x:1000:1000::/:\nsvc:x:{}:1::/:\nroot:x:0:0::/:\n", UID_LOW + 1);
    let accounts = vec![
        account("alice@contoso.com", UID_LOW, true, Some(NOW.0 + 60)),
        account("bob@contoso.com", UID_LOW + 1, true, Some(NOW.0 + 60)),
        account("carol@contoso.com", UID_LOW + 2, true, Some(NOW.0 + 60)),
    ];
    let view = view_of(&[], accounts, &passwd);
    for hidden in ["alice@contoso.com", "bob@contoso.com", "root@contoso.com", "svc@fabrikam.com"] {
        assert_eq!(view.user(Some(hidden), None), Err(Miss::NoRecord), "{hidden}");
        assert_eq!(view.admins(Some(hidden), None).count(), 0, "{hidden}");
    }
    assert_eq!(view.user(None, Some(UID_LOW)), Err(Miss::NoRecord), "name taken by a local account");
    assert_eq!(view.user(None, Some(UID_LOW + 1)), Err(Miss::NoRecord), "uid taken by a local account");
    assert_eq!(view.users().map(|user| user.name).collect::<Vec<_>>(), [name("carol@contoso.com")]);
    assert_eq!(view.groups().count(), 2);
    assert_eq!(view.admins(None, None).collect::<Vec<_>>(), [&name("carol@contoso.com")]);
}

#[test]
fn only_unlocked_admins_are_members_of_the_one_group() {
    let view = view();
    let alice = name("alice@contoso.com");
    let admins = |user, group| view.admins(user, group).collect::<Vec<_>>();
    assert_eq!(admins(None, Some(ADMIN_GROUP)), [&alice]);
    assert_eq!(admins(Some("alice@contoso.com"), None), [&alice]);
    assert_eq!(admins(Some("alice@contoso.com"), Some(ADMIN_GROUP)), [&alice]);
    for (user, group) in [
        (None, Some("sudo")),
        (Some("alice@contoso.com"), Some("sudo")),
        (Some("bob@contoso.com"), None),
        (Some("carol@contoso.com"), None),
        (Some("dave@contoso.com"), None),
        (Some("root"), None),
        (Some("azureuser"), Some(ADMIN_GROUP)),
    ] {
        assert_eq!(admins(user, group), Vec::<&LoginName>::new(), "{user:?} {group:?}");
    }
}

#[test]
fn nobody_is_answered_for_before_both_files_were_read() {
    let whole = view();
    for view in [
        View::new(None, whole.local.clone(), NOW),
        View::new(whole.directory.clone(), None, NOW),
        View::new(None, None, NOW),
    ] {
        assert_eq!(view.user(Some("alice@contoso.com"), None), Err(Miss::NoRecord));
        assert_eq!(view.user(None, Some(UID_LOW)), Err(Miss::NoRecord));
        assert_eq!((view.users().count(), view.admins(None, None).count()), (0, 0));
        assert!(view.group(Some(ADMIN_GROUP), None).is_ok(), "the group itself is always there");
    }
}

/// Names that a file, a shell, sshd or a reader could take for something else.
#[test]
fn hostile_names_get_no_record() {
    let view = view_of(&[], vec![], "root:x:0:0::/:\n");
    let long = format!("{}@contoso.com", "a".repeat(300));
    let corpus = [
        "",
        "root",
        "ROOT",
        "0",
        "12345",
        "-x",
        "-x@contoso.com",
        ".x@contoso.com",
        "../../bin/cp",
        "a/../b@contoso.com",
        "Alice@contoso.com",
        "alice@Contoso.com",
        "ROOT@contoso.com",
        "1C0163C0-47e6-4577-8991-ea5c82e286e4",
        "a#EXT#@contoso.onmicrosoft.com",
        "o'brien@contoso.com",
        "a b@contoso.com",
        "a@b@contoso.com",
        "a@contoso",
        "@contoso.com",
        "a@",
        "@",
        "a@contoso.com.",
        "a@contoso.com\n",
        "a@contoso.com\0",
        "a\0@contoso.com",
        "a@contoso.com:x",
        "a,b@contoso.com",
        "a\u{1b}[31m@contoso.com",
        "\u{212a}im@contoso.com",
        "ａ@contoso.com",
        "\u{430}lice@contoso.com",
        "a\u{301}@contoso.com",
        "\u{202e}a@contoso.com",
        "alice@xn--contso-rta.com",
        "CONTOSO\\alice",
        "alice@contoso.com@",
        "*@contoso.com",
        "????????-????-????-????-????????????",
        &long,
    ];
    for text in corpus {
        assert_eq!(view.user(Some(text), None), Err(Miss::NoRecord), "{text:?}");
        assert_eq!(view.group(Some(text), None), Err(Miss::NoRecord), "{text:?}");
        assert_eq!(view.admins(Some(text), None).count(), 0, "{text:?}");
    }
}

#[test]
fn ten_thousand_names_keep_their_answers() {
    let view = view();
    let ask = |at: u32| view.user(Some(&format!("user{at}@contoso.com")), None).unwrap();
    let first: Vec<User> = (0..10_000).map(ask).collect();
    assert!(first.iter().all(|user| user.locked && is_our_uid(user.uid)));
    assert!((0..10_000).rev().all(|at| ask(at) == first[at as usize]));
}

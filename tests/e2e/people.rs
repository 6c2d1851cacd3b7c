//! Renamed people, re-used names, and two names that fall on one uid.

use std::collections::HashMap;

use nightlatch_model::{LoginName, TenantId, uid_of};

use crate::site::{Site, TENANT, oid_of, site};

/// The person keeps the uid and the home under the new name; the old name opens nothing.
#[test]
fn a_renamed_person_keeps_the_uid_and_the_home() {
    let site = site();
    let (old, new) = ("maria.miller@contoso.com", "maria.garcia@contoso.com");
    let oid = oid_of(old);
    site.roles_of(&[(oid.clone(), "user")]);
    let person = site.person(old);
    let first = site.ssh(&person, old, &["id -u; pwd; echo kept >note"]);
    assert!(first.is_in(), "{first:?}");

    site.certify(&person, &site.spec_as(new, &oid, TENANT));
    // sshd holds the new name's own uid since its first look-up: this login must not go on with it.
    site.assert_closed(&person, new, "renamed");
    let second = site.ssh(&person, new, &["id -u; pwd; cat note"]);
    assert!(second.is_in(), "{second:?}");
    assert_eq!(second.stdout, format!("{}kept\n", first.stdout));
    assert_eq!(site.assert_in(&person, new).status, 0);

    // Somebody else who gets the old name finds a uid that is Maria's.
    let joiner = "00000000-0000-4000-8000-00000000aa01".to_owned();
    site.roles_of(&[(joiner.clone(), "user")]);
    let other = site.person_with(&site.spec_as(old, &joiner, TENANT));
    site.assert_closed(&other, old, "uid_taken");
    site.assert_in(&person, new);
}

/// A leaver's name given to a joiner, with the leaver's home still there.
#[test]
fn past_bug_row_12_a_reused_name_is_not_the_same_person() {
    let site = site();
    let name = "reused@contoso.com";
    site.roles(&[(name, "admin")]);
    let leaver = site.person(name);
    assert!(site.ssh(&leaver, name, &["echo secret >note"]).is_in());
    let joiner_oid = "00000000-0000-4000-8000-00000000aa02".to_owned();
    site.roles_of(&[(joiner_oid.clone(), "admin")]);
    let joiner = site.person_with(&site.spec_as(name, &joiner_oid, TENANT));
    let refused = site.assert_closed(&joiner, name, "name_reused");
    assert!(refused.stderr.contains("belonged to another person before"), "{refused:?}");
    site.assert_explained(name, "name_reused");
    // The leaver's right ends; that makes the name no more the joiner's.
    site.roles(&[(name, "none")]);
    site.assert_closed(&leaver, name, "no_vm_role");
    site.assert_closed(&joiner, name, "name_reused");
}

/// Two names of this tenant with the same computed uid.
fn colliding() -> (String, String) {
    let tenant: TenantId = TENANT.parse().unwrap();
    let mut seen: HashMap<u32, String> = HashMap::new();
    for number in 0..1_000_000 {
        let name = format!("user{number}@contoso.com");
        let uid = uid_of(tenant, &LoginName::parse(&name).unwrap());
        if let Some(other) = seen.insert(uid, name.clone()) {
            return (other, name);
        }
    }
    panic!("no collision in a million names");
}

#[test]
fn past_bug_row_32_two_names_on_one_uid_are_never_merged() {
    let site = Site::start();
    let (first, second) = colliding();
    site.roles(&[(&first, "user"), (&second, "admin")]);
    let (one, two) = (site.person(&first), site.person(&second));
    let uid = site.uid(&first);
    assert_eq!(site.uid(&second), uid);
    site.assert_in(&one, &first);
    let refused = site.assert_closed(&two, &second, "uid_taken");
    assert!(refused.stderr.contains("uid_overrides"), "{refused:?}");
    site.assert_explained(&second, "uid_taken");
    assert_eq!(site.node.shell(&format!("id -un {uid}")).unwrap().trim(), first);
    site.assert_in(&one, &first);

    // The administrator's cure.
    let other = uid ^ 1;
    site.configure(&format!("[login.uid_overrides]\n\"{second}\" = {other}\n"));
    site.node.shell("systemctl restart nightlatchd").unwrap();
    assert_eq!(site.uid(&second), other);
    site.assert_in(&two, &second);
    site.assert_in(&one, &first);
    assert_eq!(site.uid(&first), uid);
    assert_eq!(site.node.shell(&format!("id -un {other}")).unwrap().trim(), second);
}

/// An override that puts a name onto somebody's uid is no way in either.
#[test]
fn an_override_onto_a_taken_uid_lets_nobody_in() {
    let site = Site::start();
    let (first, second) = ("owner@contoso.com", "intruder@contoso.com");
    site.roles(&[(first, "user"), (second, "admin")]);
    let (one, two) = (site.person(first), site.person(second));
    site.assert_in(&one, first);
    let uid = site.uid(first);
    site.configure(&format!("[login.uid_overrides]\n\"{second}\" = {uid}\n"));
    site.node.shell("systemctl restart nightlatchd").unwrap();
    site.assert_in(&one, first);
    let login = site.ssh(&two, second, &["id"]);
    assert!(login.status == 255 && login.stdout.is_empty(), "{login:?}");
    assert!(login.stderr.contains("reason uid_"), "{login:?}");
    assert_eq!(site.node.shell(&format!("id -un {uid}")).unwrap().trim(), first);
    site.assert_in(&one, first);
}

/// Somebody who became a local account is no longer taken from Entra.
#[test]
fn past_bug_row_30_local_accounts_are_never_shadowed() {
    let site = site();
    let name = "gerda@contoso.com";
    site.roles(&[(name, "admin"), ("daemon@contoso.com", "admin"), ("root@contoso.com", "admin")]);
    let person = site.person(name);
    site.assert_in(&person, name);
    let uid = site.uid(name);
    site.local("gerda");
    let found = site.node.exec(&["getent", "passwd", name]).unwrap();
    assert!(!found.status.success(), "hidden at once");
    assert!(!site.node.exec(&["getent", "passwd", &uid.to_string()]).unwrap().status.success());
    assert!(site.ssh(&person, name, &["id"]).is_refused());
    site.node.shell("userdel -rf gerda 2>/dev/null; rm -f /etc/sudoers.d/gerda").unwrap();
    assert_eq!(site.uid(name), uid, "and the same person again");

    for name in ["daemon@contoso.com", "root@contoso.com"] {
        let person = site.person(name);
        assert!(site.ssh(&person, name, &["id"]).is_refused(), "{name}");
        assert!(!site.node.exec(&["getent", "passwd", name]).unwrap().status.success(), "{name}");
    }
}

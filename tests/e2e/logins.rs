//! People who log in, and people who do not.

use crate::site::{oid_of, site};

#[test]
fn entra_user_logs_in() {
    let site = site();
    site.roles(&[("alice@contoso.com", "user")]);
    let alice = site.person("alice@contoso.com");
    let login = site.ssh(&alice, "alice@contoso.com", &["id -un; id -u; pwd; stat -c %a ."]);
    assert!(login.is_in(), "{login:?}\n{}", site.node.journal(&["-n", "60"]).unwrap());
    let lines: Vec<&str> = login.stdout.lines().collect();
    assert_eq!(lines, ["alice@contoso.com", "2053995215", "/home/nl-2053995215", "700"]);
    let passwd = String::from_utf8(site.node.read_file("/etc/passwd").unwrap()).unwrap();
    assert!(!passwd.contains("alice@"));
}

#[test]
fn a_person_without_a_role_reads_why() {
    let site = site();
    let norman = site.person("norman@contoso.com");
    let login = site.ssh(&norman, "norman@contoso.com", &["id"]);
    assert_eq!(login.status, 255);
    assert!(login.stderr.contains("you have no VM login role on this node"), "{login:?}");
    assert!(login.stderr.contains(&oid_of("norman@contoso.com")), "the command that would fix it: {login:?}");
    assert!(login.stderr.contains("reason no_vm_role, ref "), "{login:?}");
}

#[test]
fn an_admin_runs_sudo_and_a_user_does_not() {
    let site = site();
    site.roles(&[("adele@contoso.com", "admin"), ("ulf@contoso.com", "user")]);
    let adele = site.person("adele@contoso.com");
    let login = site.ssh(&adele, "adele@contoso.com", &["sudo -n id -u"]);
    assert!(login.is_in(), "{login:?}\n{}", site.node.journal(&["-n", "60"]).unwrap());
    assert_eq!(login.stdout.trim(), "0");
    let ulf = site.person("ulf@contoso.com");
    let login = site.ssh(&ulf, "ulf@contoso.com", &["sudo -n id -u"]);
    assert_ne!(login.status, 0, "{login:?}");
    assert!(!login.stdout.contains('0'), "{login:?}");
}

#[test]
fn a_local_key_user_logs_in_as_before() {
    let site = site();
    let bob = site.local("bob");
    let login = site.ssh(&bob, "bob", &["id -un"]);
    assert_eq!((login.status, login.stdout.trim()), (0, "bob"), "{login:?}");
}

use super::*;
use crate::attach::sshd_config::walk;

const GOOD: &str = "usepam yes\npubkeyauthentication yes\nauthorizedkeysfile none\ntrustedusercakeys none\n\
    authenticationmethods publickey\npermituserenvironment no\nmaxauthtries 6\nlogingracetime 60\n\
    authorizedkeyscommand /usr/libexec/nightlatch/authorized-keys %u %U %t %k\n\
    authorizedkeyscommanduser nightlatch-hook\n";

fn expected() -> Expected {
    Expected { user: "probe@contoso.com".into(), login_grace_s: 60, ..Expected::default() }
}

/// The checks that are not ok, with their words.
fn wrong(text: &str, main: &str, version: (u32, u32)) -> Vec<(&'static str, State, String)> {
    let lines = walk(main, &|_| Vec::new());
    for_our_user(&Effective::parse(text), &lines, &expected(), Some(version))
        .into_iter()
        .filter(|finding| finding.state != State::Ok)
        .map(|finding| {
            assert!(!finding.remedy.is_empty(), "{finding:?}");
            (finding.check, finding.state, finding.seen)
        })
        .collect()
}

#[test]
fn a_sound_sshd_has_no_finding() {
    assert_eq!(wrong(GOOD, "", (9, 2)), []);
}

#[test]
fn each_thing_that_is_off_is_found_and_nothing_else() {
    for (was, is, check) in [
        ("authorizedkeysfile none", "authorizedkeysfile .ssh/authorized_keys", "sshd.key_files"),
        ("trustedusercakeys none", "trustedusercakeys /etc/ssh/ca.pub", "sshd.ca_keys"),
        ("usepam yes", "usepam no", "sshd.pam"),
        ("pubkeyauthentication yes", "pubkeyauthentication no", "sshd.pubkey"),
        ("authenticationmethods publickey", "authenticationmethods any", "sshd.methods"),
        ("commanduser nightlatch-hook", "commanduser root", "sshd.hook_user"),
        ("permituserenvironment no", "permituserenvironment yes", "sshd.user_environment"),
        ("maxauthtries 6", "maxauthtries 2", "sshd.auth_tries"),
        ("logingracetime 60", "logingracetime 20", "sshd.login_grace"),
        ("usepam yes", "usepam yes\nallowusers azureuser", "sshd.allow_deny"),
        ("usepam yes", "usepam yes\nallowusers *@contoso.com", "sshd.allow_deny"),
        ("usepam yes", "usepam yes\ndenyusers root\ndenyusers probe*", "sshd.allow_deny"),
        ("usepam yes", "usepam yes\nallowgroups sudo ssh", "sshd.allow_deny"),
        ("usepam yes", "usepam yes\nauthorizedprincipalscommand /x", "sshd.principals"),
        ("%u %U %t %k", "%u %k", "sshd.hook"),
        ("%u %U %t %k", "%u %U %t %k %C", "sshd.hook"),
        ("/usr/libexec/nightlatch/authorized-keys %u %U %t %k", "none", "sshd.hook"),
    ] {
        let text = GOOD.replace(was, is);
        assert_ne!(text, GOOD);
        let found = wrong(&text, "", (9, 2));
        assert_eq!(found.iter().map(|found| found.0).collect::<Vec<_>>(), [check], "{is}: {found:?}");
    }
}

#[test]
fn what_does_not_shut_out_is_no_finding() {
    // AKS denies these, which are none of our names.
    let text = format!(
        "{GOOD}denyusers root\ndenyusers omsagent\nallowusers azureuser\nallowusers *@contoso.com@*\n"
    );
    assert_eq!(wrong(&text, "", (8, 9)), []);
}

#[test]
fn the_hook_that_wins_is_named_with_its_place() {
    let main = "Match User *@*,????????-????-????-????-???????????? # Added by aadsshlogin installer\n\
                \tAuthorizedKeysCommand /usr/sbin/aad_certhandler %u %k\n";
    let text = GOOD
        .replace("/usr/libexec/nightlatch/authorized-keys %u %U %t %k", "/usr/sbin/aad_certhandler %u %k");
    let found = wrong(&text, main, (8, 9));
    let (check, state, seen) = found.first().unwrap();
    assert_eq!((*check, *state), ("sshd.hook", State::Fail));
    assert!(seen.contains("aad_certhandler") && seen.contains("/etc/ssh/sshd_config:2"), "{seen}");
}

#[test]
fn an_sshd_that_reads_no_utc_is_said() {
    assert_eq!(age(Some((8, 9))).unwrap().state, State::Warn);
    assert!(age(Some((8, 9))).unwrap().seen.contains("`Z`"));
    assert_eq!(age(Some((9, 1))).unwrap().state, State::Ok);
    assert_eq!(age(None).unwrap().state, State::Unknown);
}

#[test]
fn local_users_are_left_alone() {
    let of = |text: &str, main: &str| {
        let found = for_local_users(&Effective::parse(text), &walk(main, &|_| Vec::new()));
        found.into_iter().map(|finding| (finding.check, finding.state, finding.seen)).collect::<Vec<_>>()
    };
    assert_eq!(of("authorizedkeyscommand none\n", "").first().unwrap().1, State::Ok);
    assert_eq!(
        of("authorizedkeyscommand /usr/libexec/nightlatch/authorized-keys %u\n", "")[0].1,
        State::Fail
    );
    let main = "AuthorizedKeysCommand /usr/bin/userdbctl ssh-authorized-keys %u\n";
    let found = of(
        "authorizedkeyscommand /usr/bin/userdbctl ssh-authorized-keys %u\npubkeyauthentication no\n",
        main,
    );
    assert_eq!(found[0].1, State::Warn);
    assert!(found[0].2.contains("userdbctl") && found[0].2.contains("sshd_config:1"), "{found:?}");
    assert_eq!(found[1].0, "sshd.break_glass");
}

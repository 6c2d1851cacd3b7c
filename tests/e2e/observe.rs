//! Mode `observe`: others decide, nightlatch watches and reports; and switching under load.
#![allow(clippy::print_stdout, reason = "the figures are for the reader of the test's output")]

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nightlatch_world::{Person, local_user, wait_until};
use serde_json::Value;

use crate::site::{SOON, Site, text};

/// How long attach and detach may each take.
const SWITCH_WITHIN: Duration = Duration::from_secs(5);
/// How often nightlatch is attached and detached under load.
const SWITCHES: usize = 50;

/// Another agent, as Azure's own is: a Match block whose hook believes the same authority and prints the
/// certificate's line, and accounts of its own for the people.
const OTHERS_HOOK: &str = r#"#!/bin/sh
printf 'cert-authority,principals="%s" %s\n' "$1" "$(head -n1 /etc/nightlatch/ca.pub)"
"#;

/// A node on which another agent decides, and nightlatch observes.
fn observed() -> Site {
    let site = Site::start();
    site.node.shell("nightlatch detach").unwrap();
    site.configure_mode("observe", "");
    site.node.shell("systemctl restart nightlatchd").unwrap();
    site.node.write_file("/usr/sbin/other-certhandler", OTHERS_HOOK.as_bytes(), 0o755, "root:root").unwrap();
    // The other agent's way into NSS.
    site.node
        .shell("install -d /run/userdb && sed -i -E 's/^(passwd|group|shadow):.*/\\1: files systemd/' /etc/nsswitch.conf")
        .unwrap();
    site.node
        .shell(
            "printf '%s\n' 'Match User *@*' '  AuthenticationMethods publickey' '  PubkeyAuthentication yes' \
             '  AuthorizedKeysCommand /usr/sbin/other-certhandler %u %k' '  AuthorizedKeysCommandUser root' \
             'Match all' >>/etc/ssh/sshd_config && systemctl reload ssh",
        )
        .unwrap();
    site
}

impl Site {
    /// An account that another agent answers for: a record for nss-systemd, since the other agent's people are
    /// in no file either. Gives its home.
    fn others_account(&self, name: &str, uid: u32) -> String {
        let home = format!("/home/o{uid}");
        let user = serde_json::json!({"userName": name, "uid": uid, "gid": uid, "homeDirectory": home,
            "shell": "/bin/bash", "disposition": "regular"});
        let group = serde_json::json!({"groupName": name, "gid": uid, "disposition": "regular"});
        for (kind, record) in [("user", user), ("group", group)] {
            let path = format!("/run/userdb/{name}.{kind}");
            self.node.write_file(&path, record.to_string().as_bytes(), 0o644, "root:root").unwrap();
            self.node.shell(&format!("ln -sf '{path}' /run/userdb/{uid}.{kind}")).unwrap();
        }
        self.node.shell(&format!("install -d -m 0700 -o {uid} -g {uid} {home} {home}/.ssh")).unwrap();
        home
    }

    fn report(&self) -> Vec<Value> {
        let words = ["nightlatch", "-o", "json", "observe", "report", "--since", "14d"];
        let done = self.node.exec(&words).unwrap();
        let list: Value = serde_json::from_slice(&done.stdout).unwrap_or_else(|_| panic!("{}", text(&done)));
        list.as_array().unwrap().clone()
    }
}

#[test]
fn observing_names_exactly_who_would_be_refused_and_refuses_nobody() {
    let site = observed();
    let before = site.node.shell("cat /etc/pam.d/sshd /etc/ssh/sshd_config /etc/nsswitch.conf").unwrap();
    let attached = site.node.exec(&["nightlatch", "attach"]).unwrap();
    assert!(attached.status.success(), "{}", text(&attached));
    let sshd = site.node.shell("cat /etc/ssh/sshd_config /etc/nsswitch.conf").unwrap();
    assert!(before.ends_with(&sshd), "sshd and NSS stay as they were");

    // Ten people of the other agent, half of whom have the role; ten logins by keys in files, of which half are
    // of people whose names nightlatch would answer for.
    let mut refused = Vec::new();
    let mut logins = 0;
    for number in 0..10 {
        let name = format!("person{number}@contoso.com");
        site.others_account(&name, 70_000 + number);
        if number % 2 == 0 {
            site.roles(&[(&name, "user")]);
        } else {
            refused.push((name.clone(), "no_vm_role"));
        }
        let person = site.person(&name);
        let login = site.ssh(&person, &name, &["id -un"]);
        assert!(login.is_in(), "{name}: {login:?}\n{}", site.node.journal(&["-n", "40"]).unwrap());
        logins += 1;
    }
    for number in 0..10 {
        let name =
            if number % 2 == 0 { format!("local{number}") } else { format!("keyed{number}@contoso.com") };
        let person = Person::with_key(&site.image, "ed25519").unwrap();
        if number % 2 == 0 {
            local_user(&site.node, &name, &person).unwrap();
        } else {
            let uid = 71_000 + number;
            let home = site.others_account(&name, uid);
            let line = format!("{}\n", person.public_key().unwrap());
            let path = format!("{home}/.ssh/authorized_keys");
            site.node.write_file(&path, line.as_bytes(), 0o600, &format!("{uid}:{uid}")).unwrap();
            refused.push((name.clone(), "not_a_certificate"));
        }
        let login = site.ssh(&person, &name, &["id -un"]);
        assert!(login.is_in(), "{name}: {login:?}");
        logins += 1;
    }
    assert_eq!((logins, refused.len()), (20, 10));

    let mut rows = vec![];
    wait_until("the observations", SOON, || {
        rows = site.report();
        rows.iter().map(|row| row["logins"].as_u64().unwrap()).sum::<u64>() == 20
    })
    .unwrap_or_else(|why| panic!("{why}: {rows:#?}\n{}", site.node.journal(&["-n", "40"]).unwrap()));
    let of = |verdict: &str| -> Vec<(String, String)> {
        let matching = rows.iter().filter(|row| row["verdict"] == verdict);
        let mut found: Vec<(String, String)> = matching
            .map(|row| (row["user"].as_str().unwrap().into(), row["reason"].as_str().unwrap().into()))
            .collect();
        found.sort();
        found
    };
    let mut expected: Vec<(String, String)> =
        refused.iter().map(|(name, reason)| (name.clone(), (*reason).to_owned())).collect();
    expected.sort();
    assert_eq!(of("refuse"), expected);
    assert_eq!(of("permit").len(), 5, "{rows:#?}");
    assert_eq!(of("local").len(), 5, "{rows:#?}");
    let table = site.node.exec(&["nightlatch", "observe", "report"]).unwrap();
    assert!(text(&table).contains("10 people would have been refused; nobody was"), "{}", text(&table));

    // A daemon that is gone costs an observed login nothing that a person would notice.
    let person = site.person("person0@contoso.com");
    site.node.shell("systemctl stop nightlatchd nightlatchd-account.socket").unwrap();
    let login = site.ssh(&person, "person0@contoso.com", &["true"]);
    assert!(login.is_in(), "{login:?}");
    site.node.shell("systemctl start nightlatchd-account.socket nightlatchd").unwrap();
    assert!(site.node.exec(&["nightlatch", "detach"]).unwrap().status.success());
    let after = site.node.shell("cat /etc/pam.d/sshd /etc/ssh/sshd_config /etc/nsswitch.conf").unwrap();
    assert_eq!(after, before, "to the byte");
}

/// Somebody attaches and detaches while people log in: a login by a local key works all the time. sshd does
/// not listen for a moment during its own reload; a client that tries again within a second gets in.
#[test]
fn attach_and_detach_fifty_times_under_logins() {
    let site = Site::start();
    let bob = site.local("bob");
    let (over, logins, failed) = (AtomicBool::new(false), AtomicU32::new(0), AtomicU32::new(0));
    let mut slowest = Duration::ZERO;
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let options = ["-o", "ConnectionAttempts=5"];
                    let login = site.node.ssh(&bob, "bob", &["true"], &options).unwrap();
                    logins.fetch_add(1, Ordering::Relaxed);
                    if !login.is_in() {
                        println!("failed: {login:?}");
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        for round in 0..SWITCHES {
            for word in ["detach", "attach"] {
                let start = Instant::now();
                let done = site.node.exec(&["nightlatch", word]).unwrap();
                slowest = slowest.max(start.elapsed());
                if !done.status.success() {
                    over.store(true, Ordering::Relaxed);
                    panic!("round {round}, {word}: {}", text(&done));
                }
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    let (logins, failed) = (logins.into_inner(), failed.into_inner());
    let rate = f64::from(logins) / start.elapsed().as_secs_f64();
    println!(
        "{SWITCHES} times attached and detached, slowest {slowest:?}; {logins} logins, {rate:.1} a second, {failed} failed"
    );
    assert_eq!(failed, 0);
    assert!(logins > 50 && slowest < SWITCH_WITHIN);
    let name = "after@contoso.com";
    site.roles(&[(name, "user")]);
    site.assert_in(&site.person(name), name);
}

//! `nightlatch attach`, `detach` and `doctor` on real nodes: what sshd says it would do, what people
//! can do, and whether doctor names what is wrong.

use nightlatch_world::{Node, NodeSpec};
use serde_json::Value;

use crate::site::{HELPER, HOOK, Site, text};

const DROP_IN: &str = "/etc/ssh/sshd_config.d/50-nightlatch.conf";
const OURS: &str = "authorizedkeyscommand /usr/libexec/nightlatch/authorized-keys %u %U %t %k";
const AADSSHLOGIN: &str = "Match User *@*,????????-????-????-????-????????????    # Added by aadsshlogin installer\n    \
    AuthenticationMethods publickey\n    PubkeyAuthentication yes\n    \
    AuthorizedKeysCommand /usr/sbin/aad_certhandler %u %k\n    AuthorizedKeysCommandUser root\n";

/// One line of doctor.
#[derive(Debug)]
struct Row {
    check: String,
    state: String,
    seen: String,
    remedy: String,
}

fn doctor(site: &Site) -> (i32, Vec<Row>) {
    let done = site.node.exec(&["nightlatch", "doctor", "-o", "json"]).unwrap();
    let rows: Value =
        serde_json::from_slice(&done.stdout).unwrap_or_else(|why| panic!("{why}: {}", text(&done)));
    let word = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    let rows = rows.as_array().unwrap().iter().map(|row| Row {
        check: word(row, "check"),
        state: word(row, "state"),
        seen: word(row, "seen"),
        remedy: word(row, "remedy"),
    });
    (done.status.code().unwrap(), rows.collect())
}

/// What sshd would do for a user, by its own words.
fn effective(site: &Site, user: &str) -> String {
    site.node.shell(&format!("sshd -T -C user={user},host=x,addr=127.0.0.1")).unwrap()
}

/// Every file that attach touches, with mode, owner and content.
fn fingerprint(node: &Node) -> String {
    node.shell(
        "find /etc/ssh /etc/pam.d /etc/nsswitch.conf /etc/sudoers /etc/sudoers.d -printf '%p %y %m %U:%G\\n' | sort
         find /etc/ssh /etc/pam.d /etc/nsswitch.conf /etc/sudoers /etc/sudoers.d -type f -exec sha256sum {} + | sort",
    )
    .unwrap()
}

fn fails(row: &Row) -> bool {
    row.state == "fail" || row.state == "unknown"
}

#[test]
fn acceptance_06_doctor_names_each_fault() {
    let site = Site::start();
    let node = &site.node;
    assert_eq!(effective(&site, "a@contoso.com").lines().filter(|line| *line == OURS).count(), 1);
    let (status, rows) = doctor(&site);
    assert_eq!(status, 0, "{rows:#?}");
    assert!(rows.len() > 25 && !rows.iter().any(fails), "{rows:#?}");

    let append = format!("printf '%s' '{AADSSHLOGIN}' >>/etc/ssh/sshd_config");
    let global = "printf 'AuthorizedKeysCommand /usr/bin/userdbctl ssh-authorized-keys %%u\\nAuthorizedKeysCommandUser root\\n' >/etc/ssh/sshd_config.d/20-systemd-userdb.conf";
    let earlier = "printf 'Match User *@*\\n AuthorizedKeysCommand /opt/other %%u\\n AuthorizedKeysCommandUser root\\n' >/etc/ssh/sshd_config.d/10-other.conf";
    // (what breaks, the check that must say so, its state, a word that it must name)
    let faults: [(&str, &str, &str, &str); 13] = [
        ("sed -i 's/^shadow:.*/shadow: files/' /etc/nsswitch.conf", "nss.shadow", "fail", "shadow: files"),
        (&format!("chmod 0775 {HOOK}"), "files.programs", "fail", HOOK),
        ("chmod g+w /usr/libexec/nightlatch", "files.programs", "fail", "/usr/libexec/nightlatch`"),
        (&format!("rm {HELPER}"), "files.programs", "fail", HELPER),
        (
            &format!("sed -i 's|AuthorizedKeysFile none|AuthorizedKeysFile .ssh/authorized_keys|' {DROP_IN}"),
            "sshd.key_files",
            "fail",
            DROP_IN,
        ),
        (global, "sshd.local_users", "warn", "20-systemd-userdb.conf"),
        (global, "other_hook", "warn", "systemd-userdbd"),
        (earlier, "sshd.hook", "fail", "10-other.conf:2"),
        (&append, "other_agent", "fail", "aad_certhandler"),
        (
            "echo 'AllowUsers azureuser' >/etc/ssh/sshd_config.d/10-other.conf",
            "sshd.allow_deny",
            "fail",
            "AllowUsers azureuser",
        ),
        ("sed -i 's/user_unknown=ignore //' /etc/pam.d/sudo", "pam.sudo", "fail", "no gate"),
        ("rm /etc/sudoers.d/nightlatch", "sudo.line", "fail", "does not name the administrators"),
        ("systemctl stop nightlatch-userdbd", "userdb.answer", "fail", "nobody answers"),
    ];
    let kept = "/etc/ssh /etc/pam.d /etc/nsswitch.conf /etc/sudoers.d /usr/libexec/nightlatch";
    node.shell(&format!("tar -C / -cpf /root/kept.tar {kept} 2>/dev/null")).unwrap();
    for (breaks, check, state, word) in faults {
        node.shell(breaks).unwrap();
        let (status, rows) = doctor(&site);
        let named = rows.iter().any(|row| {
            row.check == check && row.state == state && row.seen.contains(word) && !row.remedy.is_empty()
        });
        assert!(named, "{breaks}: {rows:#?}");
        assert_eq!(status, i32::from(state == "fail"), "{breaks}: {rows:#?}");
        if breaks == global {
            assert!(effective(&site, "a@contoso.com").contains(OURS), "ours still wins for our names");
            assert!(effective(&site, "bob").contains("userdbctl"));
        }
        node.shell("rm -f /etc/ssh/sshd_config.d/*.conf && tar -C / -xpf /root/kept.tar && systemctl start nightlatch-userdbd")
            .unwrap();
        let (status, rows) = doctor(&site);
        assert_eq!(
            status,
            0,
            "after mending {breaks}: {:#?}",
            rows.iter().filter(|row| fails(row)).collect::<Vec<_>>()
        );
    }
    let done = node.exec_as("nobody", &["nightlatch", "doctor"]).unwrap();
    assert_eq!(done.status.code(), Some(3), "{}", text(&done));
    let (user, rows) =
        (node.exec(&["nightlatch", "doctor", "--user", "Not A Name"]).unwrap(), doctor(&site).1);
    assert_eq!(user.status.code(), Some(2), "{}", text(&user));
    assert!(rows.iter().any(|row| row.check == "nss.person" && row.state == "ok"), "{rows:#?}");
}

/// AKS: no glob, mode 0600, and with Entra logins switched on no keys for anybody outside of a Match.
#[test]
fn attach_on_an_aks_like_sshd_config_lets_people_in() {
    let site = Site::start();
    let node = &site.node;
    site.roles(&[("alice@contoso.com", "admin")]);
    let alice = site.person("alice@contoso.com");
    node.shell("nightlatch detach").unwrap();
    assert!(site.ssh(&alice, "alice@contoso.com", &["id"]).is_refused());
    let aks = "# Package generated configuration file\nInclude /etc/ssh/sshd_config.d/99-aks-cis.conf\nPort 22\n\
        PubkeyAuthentication no\nPermitUserEnvironment no\nMaxAuthTries 4\nLoginGraceTime 60\nUsePAM yes\n\
        DenyUsers root omsagent nxautomation\nSubsystem sftp /usr/lib/openssh/sftp-server";
    node.shell("cp /etc/ssh/sshd_config.d/10-world.conf /etc/ssh/sshd_config.d/99-aks-cis.conf").unwrap();
    node.write_file("/etc/ssh/sshd_config", aks.as_bytes(), 0o600, "root:root").unwrap();
    let before = fingerprint(node);

    let shown = node.exec(&["nightlatch", "attach", "--dry-run"]).unwrap();
    assert!(text(&shown).contains(&format!("+ Include {DROP_IN}")), "{}", text(&shown));
    assert_eq!(fingerprint(node), before, "a dry run changes nothing");

    node.shell("nightlatch attach").unwrap();
    let main = String::from_utf8(node.read_file("/etc/ssh/sshd_config").unwrap()).unwrap();
    assert_eq!(main.matches(DROP_IN).count(), 1, "{main}");
    assert!(main.ends_with(aks), "{main}");
    assert_eq!(node.shell("stat -c '%a %U:%G' /etc/ssh/sshd_config").unwrap().trim(), "600 root:root");
    let ours = effective(&site, "alice@contoso.com");
    for line in [
        OURS,
        "authorizedkeyscommanduser nightlatch-hook",
        "authorizedkeysfile none",
        "pubkeyauthentication yes",
    ] {
        assert!(ours.lines().any(|found| found == line), "{line}: {ours}");
    }
    let local = effective(&site, "azureuser");
    assert!(
        local.contains("pubkeyauthentication no") && local.contains("authorizedkeyscommand none"),
        "{local}"
    );
    site.assert_in(&alice, "alice@contoso.com");
    // `sudo -i` is a PAM service of its own on Debian: it must ask as well.
    let login = site.ssh(&alice, "alice@contoso.com", &["sudo -n -i id -u"]);
    assert_eq!((login.status, login.stdout.trim()), (0, "0"), "{login:?}");
    node.shell("grep -q nightlatch/pam /etc/pam.d/sudo-i").unwrap();
    let (status, rows) = doctor(&site);
    assert_eq!(status, 0, "{rows:#?}");
    assert!(rows.iter().any(|row| row.check == "sshd.break_glass" && row.state == "warn"), "{rows:#?}");

    let shown = node.shell("nightlatch config show --effective").unwrap();
    for (key, source) in [("mode", "/etc/nightlatch/nightlatch.toml"), ("trust.max_lifetime", "default")] {
        assert!(shown.lines().any(|line| line.starts_with(key) && line.ends_with(source)), "{key}: {shown}");
    }
    let shown = node.shell("nightlatch config show").unwrap();
    assert!(shown.contains("roles_from") && !shown.contains("default"), "{shown}");

    node.shell("nightlatch detach").unwrap();
    assert_eq!(fingerprint(node), before);
}

#[test]
fn detach_gives_back_every_byte_and_keeps_what_others_wrote() {
    let site = Site::start();
    let node = &site.node;
    let fresh = Node::boot(&NodeSpec::default()).unwrap();
    let attached = fingerprint(node);
    let again = node.exec(&["nightlatch", "attach"]).unwrap();
    assert!(again.status.success() && text(&again).contains("nothing to do"), "{}", text(&again));
    assert_eq!(fingerprint(node), attached);

    node.shell("nightlatch detach").unwrap();
    let (now, never) = (fingerprint(node), fingerprint(&fresh));
    let differ: Vec<&str> = now.lines().filter(|line| !never.contains(line)).collect();
    assert!(now == never, "not as on a node that never had it: {differ:#?}");
    assert!(!effective(&site, "a@contoso.com").contains("nightlatch"));
    node.shell("test ! -e /var/lib/nightlatch-attach").unwrap();

    let bob = site.local("bob");
    // A machine without our word in NSS, and people who write into the same files meanwhile.
    node.shell("sed -i -E 's/^(passwd|group|shadow):.*/\\1:\\tfiles/' /etc/nsswitch.conf").unwrap();
    node.shell("nightlatch attach").unwrap();
    node.shell("getent passwd a@contoso.com && getent shadow a@contoso.com").unwrap();
    node.shell("echo 'session optional pam_lastlog.so' >>/etc/pam.d/sshd && sed -i 's/^group:.*/& mymachines/' /etc/nsswitch.conf")
        .unwrap();
    node.shell("nightlatch detach").unwrap();
    let pam = String::from_utf8(node.read_file("/etc/pam.d/sshd").unwrap()).unwrap();
    assert!(pam.ends_with("session optional pam_lastlog.so\n") && !pam.contains("nightlatch"), "{pam}");
    let names = String::from_utf8(node.read_file("/etc/nsswitch.conf").unwrap()).unwrap();
    assert!(names.contains("passwd:\tfiles\n") && names.contains("group:\tfiles mymachines\n"), "{names}");
    site.assert_in(&bob, "bob");
}

/// Package scripts that touched sshd while its configuration was broken have locked everybody out.
#[test]
fn past_bug_row_79_a_foreign_broken_sshd_config_gets_no_worse() {
    let site = Site::start();
    let node = &site.node;
    let bob = site.local("bob");
    node.shell("nightlatch detach").unwrap();
    let sound = fingerprint(node);
    let main_pid = || node.shell("systemctl show -p MainPID --value ssh").unwrap();
    let pid = main_pid();

    node.shell("cp -p /etc/ssh/sshd_config /root/sound && echo 'NoSuchKeyword yes' >>/etc/ssh/sshd_config")
        .unwrap();
    let broken = fingerprint(node);
    let refused = node.exec(&["nightlatch", "attach"]).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    assert!(
        text(&refused).contains("NoSuchKeyword") && text(&refused).contains("nothing was changed"),
        "{}",
        text(&refused)
    );
    assert_eq!(fingerprint(node), broken);
    assert_eq!(main_pid(), pid, "the running sshd was left alone");
    site.assert_in(&bob, "bob");

    // Broken after attach: detach takes our part out and leaves the running sshd alone.
    node.shell("cp -p /root/sound /etc/ssh/sshd_config && nightlatch attach").unwrap();
    node.shell("echo 'NoSuchKeyword yes' >>/etc/ssh/sshd_config").unwrap();
    let done = node.exec(&["nightlatch", "detach"]).unwrap();
    assert_eq!(done.status.code(), Some(1), "{}", text(&done));
    assert!(text(&done).contains("not reloaded"), "{}", text(&done));
    node.shell("systemctl is-active ssh").unwrap();
    site.assert_in(&bob, "bob");
    node.shell("cp -p /root/sound /etc/ssh/sshd_config && systemctl reload ssh").unwrap();
    assert_eq!(fingerprint(node), sound);
    site.assert_in(&bob, "bob");

    // Another agent's block and a helper that is gone or open: nothing is touched.
    for (state, word, mend) in [
        (
            format!("printf '%s' '{AADSSHLOGIN}' >>/etc/ssh/sshd_config"),
            "aad_certhandler",
            "cp -p /root/sound /etc/ssh/sshd_config",
        ),
        (format!("mv {HELPER} /root/helper"), HELPER, "mv /root/helper /usr/libexec/nightlatch/pam"),
        (format!("chmod 0775 {HOOK}"), "chmod go-w", "chmod 0755 /usr/libexec/nightlatch/authorized-keys"),
    ] {
        node.shell(&state).unwrap();
        let before = fingerprint(node);
        let refused = node.exec(&["nightlatch", "attach"]).unwrap();
        assert_eq!(refused.status.code(), Some(1), "{state}: {}", text(&refused));
        assert!(text(&refused).contains(word), "{state}: {}", text(&refused));
        assert_eq!(fingerprint(node), before, "{state}");
        node.shell(mend).unwrap();
    }
    assert_eq!(fingerprint(node), sound);

    // Observing, another agent may decide: one line in one file, and sshd is left alone.
    let pid = main_pid();
    node.shell("sed -i 's/^mode.*/mode = \"observe\"/' /etc/nightlatch/nightlatch.toml").unwrap();
    node.shell(&format!("printf '%s' '{AADSSHLOGIN}' >>/etc/ssh/sshd_config")).unwrap();
    let done = node.exec(&["nightlatch", "attach"]).unwrap();
    assert!(done.status.success() && text(&done).contains("attached in mode observe"), "{}", text(&done));
    assert!(
        text(&done).contains("aad_certhandler") && text(&done).matches("change ").count() == 1,
        "{}",
        text(&done)
    );
    node.shell("tail -n 2 /etc/pam.d/sshd | grep -qx 'session optional pam_exec.so seteuid quiet /usr/libexec/nightlatch/pam observe'")
        .unwrap();
    assert_eq!(main_pid(), pid, "PAM is read at each login");
    site.assert_in(&bob, "bob");
    node.shell("cp -p /root/sound /etc/ssh/sshd_config && nightlatch detach").unwrap();
    node.shell("sed -i 's/^mode.*/mode = \"enforce\"/' /etc/nightlatch/nightlatch.toml").unwrap();
    assert_eq!(fingerprint(node), sound);
    let done = node.exec_as("nobody", &["nightlatch", "attach"]).unwrap();
    assert_eq!(done.status.code(), Some(2), "{}", text(&done));
    assert!(text(&done).contains("only root"), "{}", text(&done));
}

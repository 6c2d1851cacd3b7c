//! Past bugs of what a node is given to stand on: its configuration, its state folder, its list of names.

use nightlatch_world::wait_until;

use crate::site::{SOON, Site, text};

/// Past bug rows 14, 26, 34, 67: a configuration that must not be in force. The daemon does not start,
/// says which line, and nobody local notices.
#[test]
fn past_bug_rows_14_26_34_67_a_bad_configuration_stops_only_the_daemon() {
    let site = Site::start();
    let node = &site.node;
    let name = "row67@contoso.com";
    site.roles(&[(name, "user")]);
    let (person, bob) = (site.person(name), site.local("bob"));
    site.assert_in(&person, name);
    let record = node.shell(&format!("getent passwd {name}")).unwrap();
    for (more, said) in [
        ("allowed_groups = [\"Linux Admins\"]\n", "allowed_groups"),
        ("domains = [\"Contoso.com\"]\n", "Contoso.com"),
        ("roles_from = \"anybody\"\n", "roles_from"),
        ("[login.uid_overrides]\n\"row67@contoso.com\" = 0\n", "row67@contoso.com"),
        ("[login.uid_overrides]\n\"row67@contoso.com\" = 61184\n", "row67@contoso.com"),
        ("[login.uid_overrides]\n\"row67@contoso.com\" = 2147483648\n", "row67@contoso.com"),
        ("[login.uid_overrides]\n\"root\" = 1900000000\n", "root"),
        ("shell = 7\n", "shell"),
        ("[[[\n", "nightlatch.toml"),
        ("", "no tenant"),
    ] {
        site.configure(more);
        if more.is_empty() {
            node.shell("sed -i '/^tenant/d' /etc/nightlatch/nightlatch.toml").unwrap();
        }
        let cursor = node.shell("journalctl -q -n0 --show-cursor | sed -n 's/^-- cursor: //p'").unwrap();
        node.exec(&["systemctl", "restart", "--no-block", "nightlatchd"]).unwrap();
        let mut journal = String::new();
        let told = wait_until("the complaint", SOON, || {
            journal = node.journal(&["--after-cursor", cursor.trim(), "-u", "nightlatchd"]).unwrap();
            journal.contains(said)
        });
        assert!(told.is_ok(), "{more}: {journal}");
        assert!(!journal.contains("panicked"), "{journal}");
        assert!(!site.ssh(&person, name, &["id"]).is_in(), "{more}");
    }
    site.assert_local_unaffected(&bob, "bob", "the daemon does not start");
    assert_eq!(node.shell(&format!("getent passwd {name}")).unwrap(), record, "the responder goes on");
    site.configure("");
    node.shell("systemctl restart nightlatchd").unwrap();
    site.assert_in(&person, name);
    // A roles file that is not understood gives nobody a right, and takes none from the daemon.
    let pid = site.main_pid("nightlatchd");
    for bad in
        ["[[assignment]]\nprincipal = \"everyone\"\nrole = \"admin\"\n", "[[assignment]\n", "x = 1\n", ""]
    {
        node.write_file("/etc/nightlatch/roles.toml", bad.as_bytes(), 0o644, "root:root").unwrap();
        wait_until("the status to say it", SOON, || {
            node.shell("nightlatch status || true").unwrap().contains("roles.toml cannot be understood")
        })
        .unwrap();
        let stranger = site.person("stranger67@contoso.com");
        assert!(!site.ssh(&stranger, "stranger67@contoso.com", &["id"]).is_in(), "{bad}");
    }
    site.roles(&[(name, "user")]);
    site.assert_in(&person, name);
    site.assert_sound(pid);
}

/// Files and folders that somebody prepared: the daemon refuses to start on them, or systemd has put
/// them right before; userdbd and the local users go on.
#[test]
fn past_bug_row_53_planted_state_is_refused() {
    let site = Site::start();
    let node = &site.node;
    let name = "row53@contoso.com";
    site.roles(&[(name, "user")]);
    let (person, bob) = (site.person(name), site.local("bob"));
    site.assert_in(&person, name);
    let record = node.shell(&format!("getent passwd {name}")).unwrap();
    let state = "/var/lib/nightlatch";
    let book = "/var/lib/nightlatch/accounts.json";
    for (plant, mend) in [
        (
            format!("mv {book} /root/book && ln -s /root/book {book}"),
            format!("rm {book} && mv /root/book {book}"),
        ),
        (
            format!("mv {book} /root/book && mkfifo {book} && chown nightlatch {book}"),
            format!("rm {book} && mv /root/book {book}"),
        ),
        (format!("ln {book} {state}/again"), format!("rm {state}/again")),
        (format!("cp -p {book} /root/book && echo '[{{' >{book}"), format!("mv /root/book {book}")),
        (
            format!("mv {state} /srv/elsewhere && ln -s /srv/elsewhere {state}"),
            format!("rm {state} && mv /srv/elsewhere {state}"),
        ),
    ] {
        node.shell("systemctl stop nightlatchd").unwrap();
        node.shell(&plant).unwrap();
        let cursor = node.shell("journalctl -q -n0 --show-cursor | sed -n 's/^-- cursor: //p'").unwrap();
        node.exec(&["systemctl", "start", "--no-block", "nightlatchd"]).unwrap();
        let mut journal = String::new();
        let told = wait_until("the complaint", SOON, || {
            journal = node.journal(&["--after-cursor", cursor.trim(), "-u", "nightlatchd"]).unwrap();
            // A link in the place of the folder is already systemd's to refuse.
            journal.contains("accounts.json") || journal.contains("STATE_DIRECTORY")
        });
        assert!(told.is_ok() && !journal.contains("panicked"), "{plant}: {journal}");
        assert!(!site.is_active("nightlatchd"), "{plant}");
        assert!(!site.ssh(&person, name, &["id"]).is_in(), "{plant}");
        site.assert_local_unaffected(&bob, "bob", &plant);
        assert_eq!(node.shell(&format!("getent passwd {name}")).unwrap(), record, "{plant}");
        node.shell("systemctl stop nightlatchd").unwrap();
        node.shell(&mend).unwrap();
        node.shell("systemctl start nightlatchd").unwrap();
        site.assert_in(&person, name);
    }
    // A folder that everybody may write is closed before the daemon believes what is in it.
    node.shell(&format!("systemctl stop nightlatchd; chmod 0777 {state}; systemctl start nightlatchd"))
        .unwrap();
    assert_eq!(node.shell(&format!("stat -c '%a %U' {state}")).unwrap().trim(), "700 nightlatch");
    site.assert_in(&person, name);
    assert_eq!(
        site.uid(name).to_string(),
        record.split(':').nth(2).unwrap(),
        "the uid is the same all along"
    );
}

/// Every local name, and as many that nobody has: answered at once and without the daemon.
#[test]
fn past_bug_row_65_local_and_random_names_never_reach_the_daemon() {
    let site = Site::start();
    let node = &site.node;
    let pid = site.main_pid("nightlatchd");
    node.shell(&format!("kill -STOP {pid}")).unwrap();
    let script = r"
import grp, os, pwd, random, time
random.seed(65)
names = [entry.pw_name for entry in pwd.getpwall()]
letters = 'abcxyz0189._-+@\\ \u00e4\u212a%:'
names += [''.join(random.choice(letters) for _ in range(random.randint(1, 40))) for _ in range(2000)]
slow = found = 0
for name in names:
    start = time.monotonic()
    try:
        record = pwd.getpwnam(name)
        os.getgrouplist(name, record.pw_gid)
        found += 1
    except (KeyError, ValueError, OSError):
        pass
    slow += time.monotonic() - start > 0.25
print(len(names), found, slow)
";
    let done = node.exec(&["python3", "-c", script]).unwrap();
    node.shell(&format!("kill -CONT {pid}")).unwrap();
    let said = text(&done);
    let counts: Vec<usize> = said.split_whitespace().map(|word| word.parse().unwrap()).collect();
    assert!(counts[0] > 2000 && counts[1] >= counts[0] - 2000, "{said}");
    assert!(counts[2] <= 2, "slow answers: {said}");
    site.assert_sound(pid);
}

//! What a review of the design found on a real node, each with what must come of it now.

use nightlatch_world::wait_until;

use crate::site::{HOOK, SOON, Site, oid_of, site, text};

/// Whoever breaks into the daemon must not become root, or a local user's colleague, by its snapshot.
#[test]
fn review_07_a_planted_snapshot_is_refused_whole_and_the_last_good_one_stays() {
    let site = Site::start();
    let node = &site.node;
    let name = "honest@contoso.com";
    site.roles(&[(name, "admin")]);
    let person = site.person(name);
    let bob = site.local("bob");
    site.assert_in(&person, name);
    let record = node.shell(&format!("getent passwd {name}; getent group nightlatch-admins")).unwrap();
    assert!(record.contains(&format!(":{name}")), "an administrator: {record}");
    let path = "/run/nightlatch/accounts/snapshot.json";
    let good = String::from_utf8(node.read_file(path).unwrap()).unwrap();
    let uid = site.uid(name);
    let account = good.split_once("\"accounts\":[").unwrap().1;
    let account = &account[..=account.find('}').unwrap()];
    let evil = |change: &dyn Fn(&str) -> String| {
        let planted = change(&account.replace(name, "evil@contoso.com"));
        good.replace(account, &format!("{account},{planted}"))
    };
    let number = uid.to_string();
    let free = (uid ^ 1).to_string();
    let planted = [
        ("uid 0", evil(&|text| text.replace(&number, "0"))),
        ("bob's uid", evil(&|text| text.replace(&number, "1000"))),
        ("the same uid", evil(&str::to_owned)),
        ("a plain name", evil(&|text| text.replace(&number, &free).replace("evil@contoso.com", "mallory"))),
        ("root's name", evil(&|text| text.replace(&number, &free).replace("evil@contoso.com", "root"))),
        (
            "a group",
            evil(&|text| {
                text.replace(&number, &free).replace("\"admin\"", "\"groups\":[\"sudo\"],\"admin\"")
            }),
        ),
        ("a gid", evil(&|text| text.replace(&number, &free).replace("\"admin\"", "\"gid\":0,\"admin\""))),
        (
            "a membership",
            good.replace("\"accounts\":[", "\"memberships\":[[\"bob\",\"sudo\"]],\"accounts\":["),
        ),
        ("a shell", good.replace("/bin/bash", "/bin/bash\\nroot2:x:0:0")),
        ("half of it", good[..good.len() / 2].to_owned()),
        ("nothing", String::new()),
    ];
    let bobs = node.shell("id bob").unwrap();
    for (what, text) in planted {
        assert_ne!(text, good, "{what}");
        node.write_file(path, text.as_bytes(), 0o644, "nightlatch:nightlatch").unwrap();
        assert_eq!(
            node.shell(&format!("getent passwd {name}; getent group nightlatch-admins")).unwrap(),
            record,
            "{what}"
        );
        assert_eq!(node.shell("id bob").unwrap(), bobs, "{what}");
        for query in [["passwd", "mallory"], ["group", "mallory"], ["passwd", &free]] {
            assert!(
                !node.exec(&["getent", query[0], query[1]]).unwrap().status.success(),
                "{what}: {query:?}"
            );
        }
        assert!(node.shell("getent passwd 0").unwrap().starts_with("root:x:0:0:"), "{what}");
        assert!(node.shell("getent passwd root").unwrap().starts_with("root:x:0:0:"), "{what}");
        let stranger = node.shell("getent passwd evil@contoso.com").unwrap();
        assert!(!stranger.contains(":0:") && !stranger.contains(&format!(":{free}:")), "{what}: {stranger}");
    }
    // A file of somebody else, or one that others may write, is not the daemon's word.
    let other = good.replace("\"admin\":true", "\"admin\":false");
    assert_ne!(other, good);
    for (mode, owner) in [(0o644, "bob:bob"), (0o644, "root:root"), (0o666, "nightlatch:nightlatch")] {
        node.write_file(path, other.as_bytes(), mode, owner).unwrap();
        assert_eq!(
            node.shell(&format!("getent passwd {name}; getent group nightlatch-admins")).unwrap(),
            record
        );
    }
    let said = node.journal(&["-u", "nightlatch-userdbd"]).unwrap();
    assert!(said.contains("the last good one stays in force"), "{said}");
    node.shell(&format!("rm {path}")).unwrap();
    assert_eq!(node.shell(&format!("getent passwd {name}; getent group nightlatch-admins")).unwrap(), record);
    site.assert_local_unaffected(&bob, "bob", "the snapshot is gone");
    // The daemon's own next word is believed again.
    site.roles(&[(name, "user")]);
    site.assert_in(&person, name);
    assert!(!node.shell("getent group nightlatch-admins").unwrap().contains(name));
}

/// PAM's account phase runs in a child of the monitor under keyboard-interactive; it must still find
/// the certificate of its connection.
#[test]
fn review_10_keyboard_interactive_finds_its_certificate() {
    let site = Site::start_with("interactive_reason = true\n");
    let node = &site.node;
    let name = "kay@contoso.com";
    site.roles(&[(name, "user")]);
    let person = site.person(name);
    let sshd = String::from_utf8(node.read_file("/etc/pam.d/sshd").unwrap()).unwrap();
    let set = |methods: &str, auth: &str| {
        let block = "/etc/ssh/sshd_config.d/50-nightlatch.conf";
        node.shell(&format!(
            "sed -i 's/^    AuthenticationMethods .*/    AuthenticationMethods {methods}\\n    KbdInteractiveAuthentication yes/; /KbdInteractiveAuthentication/{{x;s/^/x/;/^xx/{{x;d}};x}}' {block} && sshd -t && systemctl reload ssh"
        ))
        .unwrap();
        node.write_file("/etc/pam.d/sshd", format!("{auth}\n{sshd}").as_bytes(), 0o644, "root:root").unwrap();
    };
    // sshd does not listen for a moment while it reloads.
    let interactive = ["-o", "BatchMode=no", "-o", "ConnectionAttempts=10"];

    // A second factor that is always content: both methods must pass, then account asks.
    set("publickey,keyboard-interactive:pam", "auth sufficient pam_permit.so");
    let login = node.ssh(&person, name, &["id", "-un"], &interactive).unwrap();
    assert!(login.is_in(), "{login:?}\n{}", node.journal(&["-n", "40"]).unwrap());
    assert_eq!(login.stdout.trim(), name);
    let norman = site.person("norman@contoso.com");
    let login = node.ssh(&norman, "norman@contoso.com", &["id"], &interactive).unwrap();
    assert!(login.status == 255 && login.stdout.is_empty(), "{login:?}");
    site.assert_explained("norman@contoso.com", "no_vm_role");

    // Or keyboard-interactive as a way to read why the certificate was refused; it never lets in.
    set(
        "publickey keyboard-interactive:pam",
        "auth requisite pam_exec.so seteuid quiet stdout /usr/libexec/nightlatch/pam",
    );
    let mut expired = site.spec(name);
    expired.validity = "-2h:-1h".into();
    site.certify(&person, &expired);
    let login = node.ssh(&person, name, &["id"], &interactive).unwrap();
    assert!(login.status == 255 && login.stdout.is_empty(), "{login:?}");
    assert!(login.stderr.contains("the certificate has expired"), "{login:?}");
    let quiet = site.ssh(&person, name, &["id"]);
    assert!(quiet.status == 255 && !quiet.stderr.contains("expired"), "{quiet:?}");
    // Whoever shows no certificate learns nothing about the name.
    person.drop_certificate();
    let login = node.ssh(&person, name, &["id"], &interactive).unwrap();
    assert!(login.status == 255 && !login.stderr.contains("role"), "{login:?}");
    site.certify(&person, &site.spec(name));
    site.assert_in(&person, name);
}

/// Without `interactive_reason` the terminal learns nothing before the proof; the node knows it all.
#[test]
fn review_02_what_the_hook_refuses_is_explained_on_the_node_only() {
    let site = site();
    let name = "silent@contoso.com";
    let mut spec = site.spec(name);
    spec.validity = "-2h:-1h".into();
    let person = site.person_with(&spec);
    let login = site.ssh(&person, name, &["id"]);
    assert!(login.is_refused() && !login.stderr.contains("expired"), "{login:?}");
    site.assert_explained(name, "cert_expired");
    let explained = site.explain(name);
    assert_eq!(explained.verdict, "denial");
    assert!(explained.all.contains(&oid_of(name)) || explained.all.contains("validity"), "{explained:?}");
    // The correlation id leads to the same record, and to the journal's.
    let same = site.node.exec(&["nightlatch", "explain", &explained.correlation]).unwrap();
    assert_eq!(same.status.code(), Some(1), "{}", text(&same));
    let filter = format!("NIGHTLATCH_CORRELATION={}", explained.correlation);
    let journal = site.node.journal(&[&filter, "NIGHTLATCH_REASON=cert_expired"]).unwrap();
    assert!(journal.contains(name), "{journal}");
}

/// The hook, run by hand for a person whose roles the daemon cannot know: it waits for nothing.
#[test]
fn review_02_the_hook_prints_its_line_whatever_the_role() {
    let site = site();
    let name = "roleless@contoso.com";
    let line = std::fs::read_to_string(site.person(name).certificate_path()).unwrap();
    let done = site.hook(name, &line);
    let printed = String::from_utf8(done.stdout).unwrap();
    assert!(nightlatch_wire::line::is_admit_line(printed.trim_end_matches('\n').as_bytes()), "{printed}");
    assert_eq!(printed.matches('\n').count(), 1);
    assert!(printed.contains(&format!("principals=\"{name}\"")) && printed.contains("expiry-time="));
}

/// Our lines in PAM run for nobody else.
#[test]
fn review_04_the_helper_never_runs_for_a_local_user() {
    let site = Site::start();
    let node = &site.node;
    let name = "gated@contoso.com";
    site.roles(&[(name, "admin")]);
    let (person, bob) = (site.person(name), site.local("bob"));
    let script = "#!/bin/sh -p\nprintf '%s %s %s\\n' \"$PAM_USER\" \"$PAM_SERVICE\" \"$(grep ^Uid: /proc/self/status | tr -s '\\t' ' ')\" >>/run/helper-runs\nexec /usr/libexec/nightlatch/pam.real\n";
    node.shell("mv /usr/libexec/nightlatch/pam /usr/libexec/nightlatch/pam.real").unwrap();
    node.write_file("/usr/libexec/nightlatch/pam", script.as_bytes(), 0o755, "root:root").unwrap();
    site.assert_local_unaffected(&bob, "bob", "the helper counts");
    assert!(!node.exec(&["test", "-e", "/run/helper-runs"]).unwrap().status.success());
    let login = site.ssh(&person, name, &["sudo -n id -u"]);
    assert_eq!(login.stdout.trim(), "0", "{login:?}");
    // Root altogether, also under sudo: otherwise the person could stop it with a signal. sshd's PAM asks for
    // the account, opens the session and closes it.
    let sshd = format!("{name} sshd Uid: 0 0 0 0\n");
    let expected = format!("{sshd}{sshd}{name} sudo Uid: 0 0 0 0\n{sshd}");
    let closed = wait_until("the end of the session", SOON, || {
        node.shell("cat /run/helper-runs").is_ok_and(|runs| runs == expected)
    });
    assert!(closed.is_ok(), "{}", node.shell("cat /run/helper-runs").unwrap());
    site.assert_local_unaffected(&bob, "bob", "the helper counted");
    assert_eq!(node.shell("cat /run/helper-runs").unwrap(), expected);
}

/// Past bug rows 36 and 37: the hook with root's groups, a foreign library, a foreign environment.
#[test]
fn past_bug_rows_36_37_the_hook_trusts_nothing_that_it_inherits() {
    let site = site();
    let name = "inherit@contoso.com";
    let line = std::fs::read_to_string(site.person(name).certificate_path()).unwrap();
    let (key_type, key) = line.split_once(' ').unwrap();
    let uid = site.uid(name).to_string();
    let call = [HOOK, name, &uid, key_type, key];
    // Below a shell: what enters the node from outside has no parent in there.
    let shell = ["sh", "-c", "\"$@\"; exit $?", "sh"];
    let run = |before: &[&str]| site.node.exec(&[&shell[..], before, &call[..]].concat()).unwrap();
    let as_hook = ["setpriv", "--reuid=nightlatch-hook", "--regid=nightlatch-hook"];
    let good = run(&[&as_hook[..], &["--clear-groups"]].concat());
    assert!(good.status.success() && !good.stdout.is_empty(), "{}", text(&good));
    // As root, with root's group beside its own, with root's group as its own.
    for before in [
        &["env"][..],
        &[&as_hook[..], &["--groups=root"]].concat(),
        &["setpriv", "--reuid=nightlatch-hook", "--regid=root", "--clear-groups"],
    ] {
        let done = run(before);
        assert!(!done.status.success() && done.stdout.is_empty(), "{before:?}: {}", text(&done));
    }
    // A static program has no loader that could be told to load something.
    let hostile = [
        "LD_PRELOAD=/tmp/evil.so",
        "LD_LIBRARY_PATH=/tmp",
        "PATH=/tmp",
        "NIGHTLATCH_SOCKET=/tmp/x",
        "HOME=/tmp",
    ];
    let done = run(&[&as_hook[..], &["--clear-groups", "env"], &hostile].concat());
    assert!(done.status.success() && done.stdout == good.stdout, "{}", text(&done));
    let program = site.node.read_file(HOOK).unwrap();
    assert!(!program.windows(12).any(|part| part == b"/lib64/ld-li"), "no interpreter is named");
}

/// Past bug row 47: the socket's owner is checked before anything is said, and nobody but root can
/// put a socket there.
#[test]
fn past_bug_row_47_a_squatters_socket_is_not_believed() {
    let site = Site::start();
    let node = &site.node;
    let name = "squat@contoso.com";
    site.roles(&[(name, "user")]);
    let person = site.person(name);
    site.assert_in(&person, name);
    for folder in ["/run/nightlatch", "/run/nightlatch-userdbd", "/usr/libexec/nightlatch"] {
        let mode = node.shell(&format!("stat -c '%U %a' {folder}")).unwrap();
        let owner = if folder.ends_with("userdbd") { "nightlatch-userdb" } else { "root" };
        assert_eq!(mode.trim(), format!("{owner} 755"), "{folder}");
    }
    // Somebody got the place all the same: a yes to everything, bound by root, listened on by nobody.
    node.shell("systemctl stop 'nightlatchd*.socket' nightlatchd; rm -f /run/nightlatch/*.sock").unwrap();
    let yes = nightlatch_wire::Message::Permit { until: i64::MAX, admin: true }.encode().unwrap();
    let yes: String = yes.iter().map(|byte| format!("{byte:02x}")).collect();
    let fake = format!(
        "import os,socket\nos.umask(0)\ns=socket.socket(socket.AF_UNIX)\ns.bind('/run/nightlatch/account.sock')\nos.setuid(65534)\ns.listen(9)\nopen('/tmp/ready','w')\nwhile True:\n  c,_=s.accept()\n  try: c.send(bytes.fromhex('{yes}'))\n  except OSError: pass\n"
    );
    let mut server = node.command(&["python3", "-c", &fake]).spawn().unwrap();
    wait_until("the squatter", SOON, || node.exec(&["test", "-e", "/tmp/ready"]).unwrap().status.success())
        .unwrap();
    let asked = node
        .exec(&[
            "env",
            "PAM_TYPE=account",
            &format!("PAM_USER={name}"),
            "PAM_SERVICE=sshd",
            "PAM_RHOST=127.0.0.1",
            "/usr/libexec/nightlatch/pam",
        ])
        .unwrap();
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(!asked.status.success(), "{}", text(&asked));
    assert!(text(&asked).contains("cannot be decided now"), "{}", text(&asked));
}

//! A sign-in at the prompt: whoever lacks what a rule wants is given a code beside their certificate, signs in with it on
//! another device, and the login goes on. It takes the place of nothing: without the certificate there is no prompt.

use std::process::Stdio;
use std::time::Duration;

use nightlatch_emulator::world;
use nightlatch_openpubkey::KeyType;
use nightlatch_world::{
    AtThePrompt, OPENPUBKEY_CLIENT, Person, SshOutcome, local_user, openpubkey_person, register_openpubkey,
    wait_until,
};
use serde_json::{Value, json};

use crate::site::SOON;
use crate::tenant::Cluster;

const ALICE: &str = world::ALICE.upn;
const ADELE: &str = world::ADELE.upn;
/// Everybody needs the context.
const WANTS_C1: &str = "[[rule]]\nname = \"prod\"\neffect = \"step-up\"\nwho = { anyone = true }\nrequire = { acrs = [\"c1\"] }\n";

fn start(login: &str) -> Cluster {
    let cluster = Cluster::start(&format!(
        "[login]\nstep_up_prompt = true\nrejudge = \"5s\"\n{login}\n[openpubkey]\nclient_ids = [\"{OPENPUBKEY_CLIENT}\"]\n"
    ));
    register_openpubkey(&cluster.tenant).unwrap();
    let codes = json!({"device_approve_after": null, "device_interval": 1});
    cluster.tenant.control("PUT", "entra", &codes).unwrap();
    cluster
}

/// Logs in; `at_the_prompt` is run with the code once there is one, and then the line is answered.
fn log_in(
    client: &AtThePrompt,
    cluster: &Cluster,
    person: &Person,
    user: &str,
    words: &[&str],
    at_the_prompt: impl FnOnce(&str),
) -> SshOutcome {
    let at_the_prompt = |code: Option<&str>| at_the_prompt(code.expect("a code"));
    client.login(&cluster.node, person, user, words, &[], at_the_prompt).unwrap()
}

impl Cluster {
    fn approve(&self, code: &str, user: Option<&str>) {
        self.tenant.control("POST", &format!("device/{code}"), &json!({"user": user})).unwrap();
    }

    fn decided(&self, name: &str) -> String {
        self.node.shell(&format!("nightlatch explain {name} --last || true")).unwrap()
    }
}

#[test]
fn whoever_lacks_a_context_signs_in_at_the_prompt_and_is_in() {
    let cluster = start("");
    let alice = cluster.person(ALICE);

    // Without a rule nobody is asked anything, and the certificate alone still lets in.
    let client = AtThePrompt::new().unwrap();
    let login = log_in(&client, &cluster, &alice, ALICE, &["id -un"], |_| panic!("asked for nothing"));
    assert!(login.is_in() && login.stdout.trim() == ALICE, "{login:?}\n{}", cluster.journal());
    let batch = cluster.ssh(&alice, ALICE, &["id -un"]);
    assert_eq!(batch.status, 255, "a client that answers no prompt cannot: {batch:?}");

    cluster.rules(WANTS_C1);
    let client = AtThePrompt::new().unwrap();
    let login =
        log_in(&client, &cluster, &alice, ALICE, &["id -un"], |code| cluster.approve(code, Some(ALICE)));
    assert!(login.is_in() && login.stdout.trim() == ALICE, "{login:?}\n{}", cluster.journal());
    let said = client.said().unwrap();
    for words in [
        "rule `prod` asks for",
        "the authentication context `c1`",
        "open https://login.microsoft.com/device and",
        "then press Enter",
    ] {
        assert!(said.contains(words), "{said}");
    }
    assert_eq!(client.prompts(), 1);
    let decided = cluster.decided(ALICE);
    assert!(decided.contains("sign-in at the prompt") && decided.contains("signed in at"), "{decided}");
    assert!(decided.contains("prod permits"), "{decided}");

    // Each login is asked for itself: the same certificate, moments later.
    let client = AtThePrompt::new().unwrap();
    let login =
        log_in(&client, &cluster, &alice, ALICE, &["true"], |code| cluster.approve(code, Some(ALICE)));
    assert!(login.is_in() && client.prompts() == 1, "{login:?}\n{}", cluster.journal());

    // A certificate with claims gets what it lacks as well.
    cluster
        .tenant
        .control(
            "PUT",
            &format!("users/{ADELE}/claims"),
            &json!({"amr": ["pwd"], "acrs": [], "deviceid": null, "auth_time": null}),
        )
        .unwrap();
    let adele = openpubkey_person(&cluster.image, &cluster.node, ADELE, KeyType::Ed25519).unwrap();
    let client = AtThePrompt::new().unwrap();
    let login =
        log_in(&client, &cluster, &adele, ADELE, &["true"], |code| cluster.approve(code, Some(ADELE)));
    assert!(login.is_in() && client.prompts() == 1, "{login:?}\n{}", cluster.journal());

    // A missing role, and what no sign-in could show, is said without asking for one, once.
    let norman = cluster.person(world::NORMAN.upn);
    let client = AtThePrompt::new().unwrap();
    let login = log_in(&client, &cluster, &norman, world::NORMAN.upn, &["id"], |_| panic!("no role"));
    assert_eq!(login.stderr.matches("reason no_vm_role").count(), 1, "{login:?}");
    cluster.rules(&WANTS_C1.replace("acrs = [\"c1\"]", "acrs = [\"c1\"], device = true"));
    let client = AtThePrompt::new().unwrap();
    let login = log_in(&client, &cluster, &alice, ALICE, &["id"], |_| panic!("no device"));
    assert_eq!(login.stderr.matches("reason step_up").count(), 1, "{login:?}");
    assert!(login.stderr.contains("on a registered device run `nightlatch cert --acrs c1"), "{login:?}");

    let doctor = cluster.node.shell("nightlatch doctor -o json || true").unwrap();
    let findings: Value = serde_json::from_str(&doctor).unwrap();
    let state = |check: &str| {
        let all = findings["findings"].as_array().or_else(|| findings.as_array()).unwrap();
        all.iter().find(|one| one["check"] == check).map(|one| one["state"].clone())
    };
    for check in ["pam.step_up", "sshd.methods", "pam.sshd"] {
        assert_eq!(state(check), Some(json!("ok")), "{check}: {doctor}");
    }
}

#[test]
fn a_sign_in_of_somebody_else_or_of_nobody_lets_nobody_in_and_says_why() {
    // So little time that the third does not take long.
    let cluster = start("login_grace_time = \"30s\"");
    cluster.rules(WANTS_C1);
    let alice = cluster.person(ALICE);
    type Ending = fn(&Cluster, &str);
    let endings: [(&str, Ending, &str); 3] = [
        ("another", |cluster, code| cluster.approve(code, Some(ADELE)), "another person than the holder"),
        ("declined", |cluster, code| cluster.approve(code, None), "did not come to an end"),
        ("nobody", |_, _| {}, "nobody signed in with the code in time"),
    ];
    for (which, ending, words) in endings {
        let client = AtThePrompt::new().unwrap();
        let login = log_in(&client, &cluster, &alice, ALICE, &["id"], |code| ending(&cluster, code));
        assert!(login.status == 255 && login.stdout.is_empty(), "{which}: {login:?}");
        assert!(login.stderr.contains(words), "{which}: {login:?}\n{}", cluster.journal());
        // The decision is the account phase's: said once, with the command that needs no prompt.
        assert_eq!(login.stderr.matches("reason step_up, ref ").count(), 1, "{which}: {login:?}");
        assert!(login.stderr.contains("`nightlatch cert --acrs c1"), "{which}: {login:?}");
        assert_eq!(client.prompts(), 1, "{which}: {login:?}");
        assert!(cluster.decided(ALICE).contains("sign-in at the prompt"), "{which}");
    }
    // Pressing Enter first is not an answer: the login waits for the sign-in.
    let client = AtThePrompt::new().unwrap();
    let login = std::thread::scope(|scope| {
        let login = scope.spawn(|| log_in(&client, &cluster, &alice, ALICE, &["id -un"], |_| {}));
        wait_until("the answer", SOON, || client.answers()).unwrap();
        std::thread::sleep(Duration::from_secs(2));
        assert!(!login.is_finished());
        cluster.approve(&client.code().unwrap(), Some(ALICE));
        login.join().unwrap()
    });
    assert!(login.is_in(), "{login:?}\n{}", cluster.journal());
    // A code that Entra does not give: the refusal is the one without a prompt.
    cluster.tenant.control("PUT", "faults/entra", &json!({"kind": "status", "status": 503})).unwrap();
    let client = AtThePrompt::new().unwrap();
    let login = log_in(&client, &cluster, &alice, ALICE, &["id"], |_| panic!("there is no code"));
    assert!(login.stderr.contains("reason step_up, ref "), "{login:?}\n{}", cluster.journal());
}

#[test]
fn without_the_certificate_there_is_no_prompt_and_no_way_in() {
    let cluster = start("");
    cluster.rules(WANTS_C1);
    let node = &cluster.node;
    let alice = cluster.person(ALICE);
    let asked = AtThePrompt::new().unwrap();
    let stranger = Person::new(&cluster.image).unwrap();
    for (who, options) in [
        (&alice, &["-o", "PreferredAuthentications=keyboard-interactive"][..]),
        (&alice, &["-o", "PreferredAuthentications=password"]),
        (&alice, &["-o", "PubkeyAuthentication=no"]),
        (&stranger, &[]),
    ] {
        let login = asked.login(node, who, ALICE, &["id"], options, |_| {}).unwrap();
        assert!(login.is_refused() && login.stdout.is_empty(), "{options:?}: {login:?}");
    }
    assert_eq!(asked.prompts(), 0, "nobody was asked anything");

    // PAM's lines alone, without sshd's word that a certificate was proven, say no, whatever is typed.
    let pam = |variables: &str, stage: &str| {
        let words = format!(
            "{variables} PAM_TYPE=auth PAM_USER={ALICE} PAM_SERVICE=sshd PAM_RHOST=127.0.0.1 \
             /usr/libexec/nightlatch/pam step-up {stage}; echo $?"
        );
        node.shell(&words).unwrap()
    };
    let certificate = std::fs::read_to_string(alice.certificate_path()).unwrap();
    let mut words = certificate.split(' ');
    let proven = format!("SSH_AUTH_INFO_0='publickey {} {}'", words.next().unwrap(), words.next().unwrap());
    for stage in ["begin", "shown", "over"] {
        assert!(pam("", stage).ends_with("1\n"), "{stage}");
        // The public half of a certificate is no proof: the connection is no sshd's.
        assert!(pam(&proven, stage).ends_with("1\n"), "{stage}");
    }
    // Who is not ours is asked as ever, whatever becomes of us.
    let bob = Person::new(&cluster.image).unwrap();
    local_user(node, "bob", &bob).unwrap();
    for broken in
        ["true", "systemctl stop nightlatchd", "mv /usr/libexec/nightlatch/pam /usr/libexec/nightlatch/p"]
    {
        node.shell(broken).unwrap();
        let login = cluster.ssh(&bob, "bob", &["id -un"]);
        assert!(login.is_in(), "{broken}: {login:?}");
    }
    // By PAM's own password as well, for which sshd runs the phase that has our lines, to its end.
    node.shell(
        "printf 'Match User bob\\n    KbdInteractiveAuthentication yes\\n' >/etc/ssh/sshd_config.d/60-bob.conf; \
         echo bob:sesame | chpasswd; sshd -t && systemctl reload ssh",
    )
    .unwrap();
    let typing = AtThePrompt::new().unwrap();
    typing.answer("sesame").unwrap();
    // sshd does not listen for a moment while it reloads.
    let options = ["-o", "PreferredAuthentications=keyboard-interactive", "-o", "ConnectionAttempts=10"];
    let login = typing.login(node, &bob, "bob", &["id -un"], &options, |_| {}).unwrap();
    assert_eq!(login.stdout.trim(), "bob", "{login:?}");
    assert_eq!(typing.prompts(), 1);

    let client = AtThePrompt::new().unwrap();
    let login = log_in(&client, &cluster, &alice, ALICE, &["id"], |_| panic!("nobody asks"));
    assert!(login.status == 255 && login.stdout.is_empty(), "{login:?}");
    node.shell(
        "mv /usr/libexec/nightlatch/p /usr/libexec/nightlatch/pam; systemctl kill -s STOP nightlatchd",
    )
    .unwrap();
    let login = log_in(&client, &cluster, &alice, ALICE, &["id"], |_| panic!("nobody asks"));
    assert!(login.status == 255 && login.stdout.is_empty(), "{login:?}");
    node.shell("systemctl kill -s CONT nightlatchd").unwrap();
}

#[test]
fn what_was_shown_at_the_prompt_counts_for_that_session_alone() {
    let cluster = start("");
    let adele = cluster.person(ADELE);
    // From one network without the context, from everywhere else with it; sudo wants it.
    let rules = "[[rule]]\nname = \"root\"\neffect = \"step-up\"\nwho = { anyone = true }\nservice = [\"sudo\"]\nrequire = { acrs = [\"c1\"] }\n\
                 [[rule]]\nname = \"near\"\neffect = \"permit\"\nwho = { anyone = true }\nnetwork = [\"127.0.0.2/32\"]\n";
    cluster.rules(&format!("{rules}{WANTS_C1}"));
    let client = AtThePrompt::new().unwrap();
    let script = "sudo -n id -u; touch /tmp/is-in; for i in $(seq 600); do test -e /tmp/go-on && break; sleep 0.1; done; sudo -n id -u; echo alive";
    let far = std::thread::scope(|scope| {
        let login = scope.spawn(|| {
            log_in(&client, &cluster, &adele, ADELE, &[script], |code| cluster.approve(code, Some(ADELE)))
        });
        let is_in = || cluster.node.exec(&["test", "-e", "/tmp/is-in"]).unwrap().status.success();
        wait_until("the session", SOON, is_in).unwrap_or_else(|why| panic!("{why}\n{}", cluster.journal()));
        // Another session with the same certificate, which was never asked: it may stay and may not become root.
        let near = cluster.node.ssh_command(
            &adele,
            ADELE,
            &["-o", "BatchMode=no", "-o", "BindAddress=127.0.0.2"],
            &["sudo -n id -u || echo no; echo near"],
        );
        let near = near.unwrap().stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&near.stdout).into_owned();
        assert!(said.contains("no\nnear") && !said.lines().any(|line| line == "0"), "{said} {near:?}");
        // Judged again some times, by what it showed itself.
        std::thread::sleep(Duration::from_secs(13));
        assert!(!login.is_finished(), "{}", cluster.journal());
        cluster.node.shell("touch /tmp/go-on").unwrap();
        login.join().unwrap()
    });
    let said: Vec<&str> = far.stdout.lines().filter(|line| !line.starts_with("nightlatch:")).collect();
    assert_eq!(said, ["0", "0", "alive"], "{far:?}\n{}", cluster.journal());
}

#[test]
fn turned_off_again_the_certificate_alone_lets_in() {
    let cluster = start("");
    let alice = cluster.person(ALICE);
    let node = &cluster.node;
    node.shell("sed -i 's/^step_up_prompt = true/step_up_prompt = false/' /etc/nightlatch/nightlatch.toml /etc/nightlatch/conf.d/*.toml 2>/dev/null || true; systemctl restart nightlatchd").unwrap();
    // Off for the daemon and on for sshd: a certificate still lets in, and nobody is asked.
    let client = AtThePrompt::new().unwrap();
    let login = log_in(&client, &cluster, &alice, ALICE, &["true"], |_| panic!("asked for nothing"));
    assert!(login.is_in(), "{login:?}\n{}", cluster.journal());
    let doctor = node.shell("nightlatch doctor || true").unwrap();
    assert!(doctor.contains("authenticationmethods publickey,keyboard-interactive:pam"), "{doctor}");
    node.shell("nightlatch attach").unwrap();
    let login = cluster.ssh(&alice, ALICE, &["id -un"]);
    assert!(login.is_in() && login.stdout.trim() == ALICE, "{login:?}\n{}", cluster.journal());
    let pam = node.shell("cat /etc/pam.d/sshd").unwrap();
    assert!(!pam.contains("step-up"), "{pam}");
    node.shell("nightlatch detach").unwrap();
    let pam = node.shell("cat /etc/pam.d/sshd").unwrap();
    assert!(!pam.contains("nightlatch"), "{pam}");
}

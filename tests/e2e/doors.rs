//! What may be said on the sockets, by whom, and what becomes of everything else: never a line, never
//! a panic, and a daemon that goes on.

use nightlatch_model::Reason;
use nightlatch_wire::line::is_admit_line;
use nightlatch_wire::{Account, Auth, Message, Offer, Parent, Prompt, PromptStage, UNSUPPORTED};

use crate::site::{SOON, Site, oid_of, site, text};

/// The only two callers.
const HOOK_USER: &str = "nightlatch-hook";
const ROOT: &str = "root";

/// sshd's hook call for a name, on the connection of a made-up monitor.
fn offer(site: &Site, name: &str, certificate: &str, monitor: u32) -> Offer {
    let (key_type, key) = certificate.split_once(' ').unwrap();
    Offer {
        user: name.to_owned(),
        uid: site.uid(name),
        key_type: key_type.to_owned(),
        key: key.to_owned(),
        key_len: u32::try_from(key.len()).unwrap(),
        parents: vec![Parent { pid: monitor, start: 7 }, Parent { pid: 1, start: 0 }],
    }
}

fn account(name: &str, monitor: u32) -> Message {
    account_by(name, Parent { pid: monitor, start: 7 })
}

fn account_by(name: &str, monitor: Parent) -> Message {
    Message::Account(Account {
        user: name.to_owned(),
        service: "sshd".into(),
        rhost: "127.0.0.9".into(),
        tty: "ssh".into(),
        loginuid: u32::MAX,
        audit_session: u32::MAX,
        parents: vec![monitor, Parent { pid: 1, start: 0 }],
    })
}

fn denied(answer: &Message) -> &str {
    match answer {
        Message::Deny { code, .. } => code,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

fn certificate_of(site: &Site, name: &str) -> String {
    std::fs::read_to_string(site.person(name).certificate_path()).unwrap()
}

/// sshd keeps the uid of its first look-up to the end of the session: a yes for another uid would run
/// the person under somebody else's.
#[test]
fn review_01_a_uid_of_another_moment_is_refused() {
    let site = site();
    let name = "held.uid@contoso.com";
    site.roles(&[(name, "user")]);
    let certificate = certificate_of(site, name);
    let mut good = offer(site, name, &certificate, 4_100_001);
    for (monitor, uid) in
        [(4_100_002, good.uid + 1), (4_100_003, 0), (4_100_004, 1000), (4_100_005, u32::MAX)]
    {
        let mut other = offer(site, name, &certificate, monitor);
        other.uid = uid;
        let line = site.ask(HOOK_USER, "hook", &Message::Offer(other));
        assert!(matches!(line, Message::Line(_)), "{line:?}");
        assert_eq!(denied(&site.ask(ROOT, "account", &account(name, monitor))), "uid_changed", "{uid}");
    }
    let monitor = site.monitor();
    good.parents[0] = monitor;
    assert!(matches!(site.ask(HOOK_USER, "hook", &Message::Offer(good)), Message::Line(_)));
    let answer = site.ask(ROOT, "account", &account_by(name, monitor));
    assert!(matches!(answer, Message::Permit { admin: false, .. }), "{answer:?}");
}

/// No admit on this connection and for this name, no yes: whoever else was admitted.
#[test]
fn review_08_account_wants_an_admit_of_this_connection_and_name() {
    let site = site();
    let (name, other) = ("admitted@contoso.com", "not.admitted@contoso.com");
    site.roles(&[(name, "admin"), (other, "admin")]);
    let mut first = offer(site, name, &certificate_of(site, name), 4_200_001);
    let monitor = site.monitor();
    first.parents[0] = monitor;
    assert!(matches!(site.ask(HOOK_USER, "hook", &Message::Offer(first)), Message::Line(_)));
    // Another connection, another name on the same connection, a reused pid, no chain of parents.
    assert_eq!(denied(&site.ask(ROOT, "account", &account(name, 4_200_002))), "no_admit");
    assert_eq!(denied(&site.ask(ROOT, "account", &account_by(other, monitor))), "no_admit");
    let Message::Account(mut reused) = account_by(name, monitor) else { unreachable!() };
    reused.parents[0].start += 1;
    assert_eq!(denied(&site.ask(ROOT, "account", &Message::Account(reused.clone()))), "no_admit");
    reused.parents.clear();
    assert_eq!(denied(&site.ask(ROOT, "account", &Message::Account(reused))), "no_admit");
    // The person of a plain name is none of ours.
    assert_eq!(denied(&site.ask(ROOT, "account", &account_by("alice", monitor))), "name_not_allowed");
    let answer = site.ask(ROOT, "account", &account_by(name, monitor));
    assert!(matches!(answer, Message::Permit { admin: true, .. }), "{answer:?}");
}

/// The last call of the hook is the one whose signature sshd checks: it is the one that is judged.
#[test]
fn review_09_a_later_call_replaces_what_was_admitted_before() {
    let site = site();
    let (name, poor) = ("last.call@contoso.com", "last.call@contoso.com/poor");
    site.roles(&[(name, "admin"), (poor, "none")]);
    let rich = certificate_of(site, name);
    let spec = site.spec_as(name, &oid_of(poor), crate::site::TENANT);
    let poor = std::fs::read_to_string(site.person_with(&spec).certificate_path()).unwrap();
    let say = |certificate: &str, monitor| {
        let answer = site.ask(HOOK_USER, "hook", &Message::Offer(offer(site, name, certificate, monitor)));
        matches!(answer, Message::Line(_))
    };
    // Probe with the administrator's public half, then sign with one's own.
    assert!(say(&rich, 4_300_001) && say(&poor, 4_300_001));
    assert_eq!(denied(&site.ask(ROOT, "account", &account(name, 4_300_001))), "no_vm_role");
    // A refused last call takes the earlier admission away.
    assert!(say(&rich, 4_300_002) && !say("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA", 4_300_002));
    assert_eq!(denied(&site.ask(ROOT, "account", &account(name, 4_300_002))), "no_admit");
    let monitor = site.monitor();
    for certificate in [&poor, &rich] {
        let mut good = offer(site, name, certificate, 0);
        good.parents[0] = monitor;
        assert!(matches!(site.ask(HOOK_USER, "hook", &Message::Offer(good)), Message::Line(_)));
    }
    let answer = site.ask(ROOT, "account", &account_by(name, monitor));
    assert!(matches!(answer, Message::Permit { .. }), "{answer:?}");
}

/// The same through sshd: a certificate of the administrator's without its key is offered first.
#[test]
fn review_09_the_certificate_that_signed_is_judged() {
    let site = site();
    let name = "switched@contoso.com";
    let poor = "00000000-0000-4000-8000-00000000aa09".to_owned();
    site.roles(&[(name, "admin")]);
    let owner = site.person(name);
    let thief = site.person_with(&site.spec_as(name, &poor, crate::site::TENANT));
    let stolen = format!("CertificateFile={}", owner.certificate_path().display());
    let login = site.node.ssh(&thief, name, &["id"], &["-o", &stolen]).unwrap();
    assert!(login.status == 255 && login.stdout.is_empty(), "{login:?}");
    assert!(login.stderr.contains("reason no_vm_role") && login.stderr.contains(&poor), "{login:?}");
    site.assert_in(&owner, name);
}

/// A hundred frames that nobody sends, all of the right length or of none.
fn garbage() -> Vec<Vec<u8>> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[0]
    };
    let mut frames: Vec<Vec<u8>> = (0..60)
        .map(|size: usize| {
            let body: Vec<u8> = (0..size * 7).map(|_| random()).collect();
            [&u32::try_from(body.len()).unwrap().to_be_bytes()[..], &body].concat()
        })
        .collect();
    frames.extend((0..20).map(|size: usize| (0..size).map(|_| random()).collect()));
    // A length beyond the limit, one without a body, every verb with nothing in it, versions.
    frames.push(vec![0xff; 4]);
    frames.push(vec![0, 1, 0x20, 0x01]);
    frames.push(vec![0, 0, 0, 0]);
    frames.extend((0..=12).map(|verb| vec![0, 0, 0, 2, 1, verb]));
    frames.extend([0, 2, 255].map(|version| vec![0, 0, 0, 2, version, 1]));
    frames
}

/// True for an answer that opens something.
fn opens(answer: &[u8]) -> bool {
    match answer.get(4..).map(Message::decode) {
        Some(Ok(Message::Line(_) | Message::Permit { .. })) => true,
        _ => answer.windows(9).any(|part| part == b"restrict,") || is_admit_line(answer),
    }
}

#[test]
fn garbage_is_never_answered_with_a_line_or_a_yes() {
    let site = Site::start();
    let pid = site.main_pid("nightlatchd");
    let frames = garbage();
    for (user, socket) in [(HOOK_USER, "hook"), (ROOT, "account"), (ROOT, "admin")] {
        for half in [true, false] {
            let frames = if half { &frames[..] } else { &frames[..60] };
            let answers = site.send_raw(user, socket, frames, half);
            assert!(answers.iter().all(|answer| !opens(answer)), "{socket}");
        }
    }
    // Every frame of a good offer cut short, and with one byte turned.
    let name = "cut@contoso.com";
    site.roles(&[(name, "user")]);
    let certificate = certificate_of(&site, name);
    let good = Message::Offer(offer(&site, name, &certificate, 4_400_001)).encode().unwrap();
    let cut: Vec<Vec<u8>> = (0..good.len()).step_by(41).map(|end| good[..end].to_vec()).collect();
    assert!(site.send_raw(HOOK_USER, "hook", &cut, true).iter().all(|answer| !opens(answer)));
    let name_at = good.windows(name.len()).position(|part| part == name.as_bytes()).unwrap();
    let turned: Vec<Vec<u8>> = (0..good.len())
        .step_by(13)
        .filter(|at| *at > name_at + name.len() + 4 && *at < good.len() - 40)
        .map(|at| {
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            bytes
        })
        .collect();
    assert!(turned.len() > 50);
    assert!(site.send_raw(HOOK_USER, "hook", &turned, false).iter().all(|answer| !opens(answer)));
    site.assert_sound(pid);
    // The whole one is answered, on a connection that has not called too often.
    let whole = Message::Offer(offer(&site, name, &certificate, 4_400_002));
    assert!(matches!(site.ask(HOOK_USER, "hook", &whole), Message::Line(_)));
    site.assert_in(&site.person(name), name);

    // What the journal keeps of it is bounded: a record each at most, and some say what was wrong.
    let said = site.node.journal(&["-u", "nightlatchd"]).unwrap();
    assert!(said.contains("a frame that cannot be read"), "{said}");
    assert!(said.lines().count() < 2_000, "{}", said.lines().count());
    site.assert_sound(pid);
}

#[test]
fn one_socket_takes_one_set_of_verbs() {
    let site = site();
    let name = "verbs@contoso.com";
    site.roles(&[(name, "admin")]);
    let parents = vec![Parent { pid: 4_500_001, start: 7 }];
    let offer = Message::Offer(offer(site, name, &certificate_of(site, name), 4_500_001));
    let auth =
        Message::Auth(Auth { user: name.into(), service: "sshd".into(), rhost: String::new(), parents });
    let answers = [
        Message::Line("restrict,pty".into()),
        Message::None,
        Message::Permit { until: i64::MAX, admin: true },
        Message::Deny { code: Reason::Internal.word().into(), text: String::new() },
        Message::Text("x".into()),
        Message::Err("x".into()),
    ];
    let unsupported = Message::Err(UNSUPPORTED.into());
    let prompt = Message::Prompt(Prompt {
        stage: PromptStage::Begin,
        user: name.into(),
        service: "sshd".into(),
        rhost: String::new(),
        auth: format!("publickey {}", certificate_of(site, name).trim()),
        parents: vec![Parent { pid: 4_500_001, start: 7 }],
    });
    for question in answers.iter().chain([&account(name, 4_500_001), &auth, &prompt]) {
        assert_eq!(site.ask(HOOK_USER, "hook", question), unsupported, "{question:?}");
    }
    for question in answers.iter().chain([&offer]) {
        assert_eq!(site.ask(ROOT, "account", question), unsupported, "{question:?}");
    }
    // Whose certificate sshd has not asked about has proven none, whatever PAM is told.
    let answer = site.ask(ROOT, "account", &prompt);
    assert!(matches!(&answer, Message::Deny { code, .. } if code == Reason::NoAdmit.word()), "{answer:?}");
    // A text is shown in the auth phase only where it was configured; it never holds a fact.
    assert_eq!(site.ask(ROOT, "account", &auth), Message::Text(String::new()));
}

#[test]
fn each_socket_has_one_caller() {
    let site = site();
    let name = "callers@contoso.com";
    site.roles(&[(name, "admin")]);
    let offer = Message::Offer(offer(site, name, &certificate_of(site, name), 4_600_001)).encode().unwrap();
    let account = account(name, 4_600_001).encode().unwrap();
    // The file's mode stops most; root passes it and is stopped by the daemon.
    for (user, socket, frame, expected) in [
        ("nobody", "hook", &offer, "PermissionError"),
        ("nobody", "account", &account, "PermissionError"),
        ("nobody", "admin", &account, "PermissionError"),
        (HOOK_USER, "account", &account, "PermissionError"),
        (HOOK_USER, "admin", &account, "PermissionError"),
        ("nightlatch", "account", &account, "PermissionError"),
        ("nightlatch-userdb", "hook", &offer, "PermissionError"),
        (ROOT, "hook", &offer, ""),
    ] {
        let answer = &site.send_raw(user, socket, std::slice::from_ref(frame), false)[0];
        let said = String::from_utf8_lossy(answer);
        // Closed without a word: before, while or after the question was written.
        let closed = ["", "ConnectionResetError", "BrokenPipeError"].contains(&said.as_ref());
        let refused = if expected.is_empty() { closed } else { said == expected };
        assert!(refused, "{user} at {socket}: {said:?}");
    }
    let journal = site.node.journal(&["-u", "nightlatchd"]).unwrap();
    assert!(journal.contains("uid 0 may not use this socket"), "{journal}");
    // Root of a container, that is of another pid namespace, is not root of the node.
    let script = format!(
        "unshare --pid --fork --mount-proc python3 -c \"$1\" /run/nightlatch/account.sock <<<{}",
        hex(&account)
    );
    let nested = site
        .node
        .exec(&["bash", "-c", &script, "nested", "import socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.settimeout(9)\ns.connect(sys.argv[1])\ntry:\n  s.sendall(bytes.fromhex(sys.stdin.read().strip()))\n  print(len(s.recv(99)))\nexcept OSError as e:\n  print(0)"])
        .unwrap();
    assert_eq!(text(&nested).trim(), "0");
    let journal = site.node.journal(&["-u", "nightlatchd"]).unwrap();
    assert!(journal.contains("another pid namespace"), "{journal}");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One connection may call the hook often, but not for ever; another one is not touched by it.
#[test]
fn one_connection_cannot_call_for_ever() {
    let site = site();
    let name = "often@contoso.com";
    site.roles(&[(name, "user")]);
    let frame = Message::Offer(offer(site, name, &certificate_of(site, name), 4_700_001)).encode().unwrap();
    let answers = site.send_raw(HOOK_USER, "hook", &vec![frame; 80], false);
    let opened = answers.iter().filter(|answer| opens(answer)).count();
    assert!((5..80).contains(&opened), "{opened}");
    assert!(!opens(&answers[79]));
    assert_eq!(denied(&site.ask(ROOT, "account", &account(name, 4_700_001))), "no_admit");
    nightlatch_world::wait_until("the record", SOON, || {
        site.decisions(name).iter().any(|(.., reason)| reason == "rate_limited")
    })
    .unwrap();
    site.assert_in(&site.person(name), name);
}

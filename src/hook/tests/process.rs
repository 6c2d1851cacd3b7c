//! The programs as whole processes: the timer, rights, exit status and output that sshd and PAM see. The
//! real programs know one socket only; `hook-rig` is the same code with the socket as an argument.
//! Run as root, the tests step down to another user; run as a user, they use that user's own rights.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a test may stop at the first surprise
#![allow(clippy::disallowed_methods)] // the subject is how long a process lives: real time is measured

mod place;

use std::io::{BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nightlatch_wire::Message;

use place::{NOBODY, Place, own_uid, text, with_full_backlog};

const SIGALRM: i32 = 14;
const USER: [&str; 4] = ["ann@contoso.com", "1900000000", "ssh-rsa", "AAAA"];
const LINE: &str = "restrict,pty,cert-authority,principals=\"ann@contoso.com\",expiry-time=\"20261121223000Z\" \
                    ssh-rsa AAAA\n";
/// The deadline of the product and what starting and reaping a process may add.
const DEADLINE: &str = "300";
const LIVES_AT_LEAST: Duration = Duration::from_millis(295);
const LIVES_AT_MOST: Duration = Duration::from_millis(350);
/// Other programs share the machine: the best of so many runs is what the program itself takes.
const TRIES: usize = 8;

fn offer(place: &Place, owner: u32) -> Command {
    let mut command = place.program("rig");
    command.arg("offer").arg(place.socket()).args([&owner.to_string(), DEADLINE]).args(USER);
    command
}

fn account(place: &Place, owner: u32, deadline: &str, wait: &str) -> Command {
    let mut command = place.program("rig");
    command.arg("account").arg(place.socket()).args([&owner.to_string(), deadline, wait]);
    command.envs([("PAM_TYPE", "account"), ("PAM_USER", "ann@contoso.com"), ("PAM_SERVICE", "sshd")]);
    command
}

struct Kept(Child);

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs until one run was as short as the product promises; each run must end by the timer, silent.
fn ends_by_its_timer(mut make: impl FnMut() -> Command) {
    let mut shortest = Duration::MAX;
    for _ in 0..TRIES {
        let begun = Instant::now();
        let output = make().output().unwrap();
        let lived = begun.elapsed();
        assert_eq!(output.status.signal(), Some(SIGALRM), "{output:?}");
        assert_eq!(text(&output.stdout), "");
        assert!(lived >= LIVES_AT_LEAST, "ended before its timer, after {lived:?}");
        shortest = shortest.min(lived);
        if shortest <= LIVES_AT_MOST {
            return;
        }
    }
    panic!("no run of {TRIES} ended within {LIVES_AT_MOST:?}; the shortest took {shortest:?}");
}

#[test]
fn the_hook_prints_the_line_and_a_newline() {
    let place = Place::new();
    place.serve(Message::Line(LINE.trim_end().to_owned()));
    let output = offer(&place, own_uid()).output().unwrap();
    assert_eq!((output.status.code(), text(&output.stdout), text(&output.stderr)), (Some(0), LINE, ""));
}

#[test]
fn the_hook_is_silent_and_well_when_nobody_is_admitted() {
    let place = Place::new();
    place.serve(Message::None);
    let output = offer(&place, own_uid()).output().unwrap();
    assert_eq!((output.status.code(), text(&output.stdout), text(&output.stderr)), (Some(0), "", ""));
}

#[test]
fn the_hook_ends_by_its_timer_when_the_daemon_is_mute() {
    let place = Place::new();
    let _listener = place.mute();
    ends_by_its_timer(|| offer(&place, own_uid()));
}

/// A stopped daemon whose backlog strangers have filled: connect itself blocks, without any timeout.
#[test]
fn the_hook_ends_by_its_timer_when_connect_blocks_on_a_full_backlog() {
    let place = Place::new();
    let listener = place.mute();
    with_full_backlog(listener, &place.socket(), || ends_by_its_timer(|| offer(&place, own_uid())));
}

#[test]
fn the_timer_works_although_the_caller_ignored_its_signal() {
    let place = Place::new();
    let _listener = place.mute();
    ends_by_its_timer(|| {
        let inner = offer(&place, own_uid());
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", "trap '' ALRM; exec \"$0\" \"$@\""]);
        shell.arg(inner.get_program()).args(inner.get_args());
        if own_uid() == 0 {
            shell.uid(NOBODY).gid(NOBODY);
        }
        shell
    });
}

/// Socket squatting: a listener bound by somebody else than uid 0 says yes, and is not believed.
#[test]
fn a_fake_server_not_bound_by_uid_0_is_refused() {
    let place = Place::new();
    let mut server =
        Kept(place.program("rig").arg("listen").arg(place.socket()).stdout(Stdio::piped()).spawn().unwrap());
    let mut ready = String::new();
    BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    assert_eq!(ready, "ready\n");
    let server_uid = if own_uid() == 0 { NOBODY } else { own_uid() };

    let refused = offer(&place, 0).output().unwrap();
    assert_eq!((refused.status.code(), text(&refused.stdout)), (Some(1), ""));
    let no = account(&place, 0, "10000", "9000").output().unwrap();
    assert_eq!(no.status.code(), Some(1));
    assert!(text(&no.stdout).starts_with("nightlatch: login cannot be decided now"), "{no:?}");

    // The twin: the same server, expected to be who it is, is believed.
    let printed = offer(&place, server_uid).output().unwrap();
    assert_eq!((printed.status.code(), text(&printed.stdout)), (Some(0), LINE));
    let yes = account(&place, server_uid, "10000", "9000").output().unwrap();
    assert_eq!((yes.status.code(), text(&yes.stdout)), (Some(0), ""));
}

/// Guards CVE-2021-41617: a command run with groups it should not have.
#[test]
fn the_hook_does_not_run_with_root_s_rights() {
    let place = Place::new();
    place.serve(Message::Line(LINE.trim_end().to_owned()));
    let inner = offer(&place, own_uid());
    let with = |arguments: &[&str]| -> Output {
        let mut command = Command::new("setpriv");
        command.env_clear().env("PATH", "/usr/bin:/bin").args(arguments);
        command.arg(inner.get_program()).args(inner.get_args()).output().unwrap()
    };
    if own_uid() == 0 {
        for rights in [
            &["--reuid=0", "--regid=65534", "--clear-groups"][..],
            &["--reuid=65534", "--regid=0", "--clear-groups"],
            &["--reuid=65534", "--regid=65534", "--groups=0"],
            &["--reuid=65534", "--regid=65534", "--groups=7,0,9"],
        ] {
            let output = with(rights);
            assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), ""), "{rights:?}");
        }
        let output = with(&["--reuid=65534", "--regid=65534", "--groups=7,9"]);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), LINE));
    } else {
        let output = with(&["--no-new-privs"]);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), LINE));
    }
}

#[test]
fn the_real_hook_passes_over_local_names_and_refuses_what_sshd_never_says() {
    let place = Place::new();
    for (args, code) in [
        (&["root", "0", "ssh-rsa", "AAAA"][..], 0),
        (&["azureuser", "1000", "ssh-ed25519", "AAAA"], 0),
        (&["ann@contoso.com", "+1", "ssh-rsa", "AAAA"], 1),
        (&["ann@contoso.com", "1", "ssh-rsa"], 1),
        (&[], 1),
        (&["--help"], 1),
    ] {
        let output = place.program("authorized-keys").args(args).output().unwrap();
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(code), ""), "{args:?}");
    }
    let usage = place.program("authorized-keys").output().unwrap();
    assert!(text(&usage.stderr).starts_with("usage: authorized-keys USER UID KEY-TYPE KEY"));
}

#[test]
fn the_real_pam_program_says_no_to_every_other_phase() {
    let place = Place::new();
    for kind in ["setcred", "password", ""] {
        let output = place.program("pam").env("PAM_TYPE", kind).env("PAM_USER", "a@b").output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{kind}");
        assert_eq!(
            text(&output.stdout),
            "nightlatch: only for the account, auth and session phases of PAM\n"
        );
    }
}

#[test]
fn pam_ends_with_0_on_a_permit_only() {
    for (reply, code, shown) in [
        (Message::Permit { until: 1, admin: false }, 0, ""),
        (
            Message::Deny { code: "no-role".to_owned(), text: "no role\u{1b}[2J\nref 7".to_owned() },
            1,
            "nightlatch: no role?[2J\nnightlatch: ref 7\n",
        ),
    ] {
        let place = Place::new();
        place.serve(reply);
        let output = account(&place, own_uid(), "10000", "9000").output().unwrap();
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(code), shown));
    }
    // The auth phase shows its text and fails, also when the server would say yes.
    for reply in [Message::Text("expired".to_owned()), Message::Permit { until: 1, admin: true }] {
        let place = Place::new();
        place.serve(reply);
        let output = account(&place, own_uid(), "10000", "9000").env("PAM_TYPE", "auth").output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stdout).starts_with("nightlatch: "), "{output:?}");
    }
}

#[test]
fn pam_says_why_when_connect_blocks_and_no_yes_comes_from_its_timer() {
    let place = Place::new();
    let listener = place.mute();
    with_full_backlog(listener, &place.socket(), || {
        let told = account(&place, own_uid(), "60000", "200").output().unwrap();
        assert_eq!(told.status.code(), Some(1));
        assert!(text(&told.stdout).starts_with("nightlatch: login cannot be decided now"), "{told:?}");
        ends_by_its_timer(|| account(&place, own_uid(), DEADLINE, "60000"));
    });
}

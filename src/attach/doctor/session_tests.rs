use super::*;
use crate::attach::interactive::Interactive;
use crate::attach::pam_edit::{Wanted, attach, observe};
use crate::attach::pam_stack::phase;

const SSHD: &str = "@include common-account\nsession required pam_loginuid.so\n@include common-session\n";
/// Debian's: its jump ends before us.
const COMMON: &str = "session [default=1] pam_permit.so\nsession requisite pam_deny.so\n\
    session required pam_permit.so\nsession optional pam_systemd.so\n";

fn rules(text: &str) -> Vec<Rule> {
    phase("sshd", "session", &|name| match name {
        "sshd" => Some(text.to_owned()),
        "common-session" => Some(COMMON.to_owned()),
        _ => None,
    })
}

fn deciding() -> String {
    attach("sshd", SSHD, Wanted { interactive: Interactive::Nothing, session: true }).unwrap()
}

fn watching() -> String {
    observe("sshd", SSHD).unwrap()
}

#[test]
fn what_attach_writes_is_sound_in_its_mode() {
    let good = judge(&rules(&deciding()), false);
    assert_eq!(good.state, State::Ok, "{good:?}");
    let good = judge(&rules(&watching()), true);
    assert_eq!(good.state, State::Ok, "{good:?}");
}

#[test]
fn the_other_modes_line_is_named_with_the_remedy() {
    let both = format!("{}session optional pam_exec.so seteuid quiet {HELPER} observe\n", deciding());
    for (text, observing, word) in [
        (deciding(), true, "that of mode enforce"),
        (watching(), false, "that of mode observe"),
        (both, false, "as well"),
    ] {
        let finding = judge(&rules(&text), observing);
        assert_eq!((finding.state, finding.remedy.as_str()), (State::Fail, ATTACH), "{finding:?}");
        assert!(finding.seen.contains(word), "{word} in {}", finding.seen);
    }
}

#[test]
fn no_line_at_all() {
    assert_eq!(judge(&rules(SSHD), false).state, State::Fail);
    assert_eq!(judge(&rules(SSHD), true).state, State::Warn);
}

#[test]
fn each_weakening_is_named() {
    let (deciding, watching) = (deciding(), watching());
    let late =
        |text: &str| format!("{}session required pam_loginuid.so\n", text.replace("pam_loginuid", "pam_x"));
    for (text, observing, state, word) in [
        (
            deciding.replacen("session [success=ignore user_unknown", "session [success=ignore x", 1),
            false,
            State::Fail,
            "no gate",
        ),
        (
            deciding.replace("session required pam_exec", "session optional pam_exec"),
            false,
            State::Fail,
            "not `required`",
        ),
        (deciding.replace(" stdout", ""), false, State::Fail, "lacks `stdout`"),
        (late(&deciding), false, State::Fail, "pam_loginuid"),
        (late(&watching), true, State::Warn, "pam_loginuid"),
        (
            watching.replace("session optional pam_exec", "session required pam_exec"),
            true,
            State::Fail,
            "not `optional`",
        ),
        (watching.replace(" seteuid", ""), true, State::Fail, "lacks `seteuid`"),
        (format!("session sufficient pam_a.so\n{deciding}"), false, State::Fail, "pass it by"),
        (
            format!("session [success=done default=ignore] pam_a.so\n{watching}"),
            true,
            State::Fail,
            "pass it by",
        ),
        // pam_loginuid, the four of common-session, our gate: the sixth is passed by with a jump of six.
        (
            format!("session [success=6 default=ignore] pam_a.so\n{deciding}"),
            false,
            State::Fail,
            "pass it by",
        ),
    ] {
        let finding = judge(&rules(&text), observing);
        assert_eq!(finding.state, state, "{text}");
        assert!(finding.seen.contains(word), "{word} in {}", finding.seen);
        assert!(!finding.remedy.is_empty());
    }
    let short = format!("session [success=5 default=ignore] pam_a.so\n{deciding}");
    assert_eq!(judge(&rules(&short), false).state, State::Ok, "a jump that lands on our gate passes nothing");
}

#[test]
fn what_mode_enforce_left_is_named_file_by_file() {
    let folder = tempfile::tempdir().unwrap();
    let root = Root::at(folder.path().to_path_buf());
    for path in ["/etc/ssh/sshd_config.d", "/etc/pam.d", "/etc/sudoers.d"] {
        std::fs::create_dir_all(root.path(path)).unwrap();
    }
    root.write("/etc/pam.d/sshd", &watching(), 0o644).unwrap();
    root.write(sshd_config::MAIN, "UsePAM yes\n", 0o600).unwrap();
    assert_eq!(left_of_enforce(&root).state, State::Ok);
    let sudo = attach(
        "sudo",
        "account required pam_unix.so\n",
        Wanted { interactive: Interactive::Nothing, session: false },
    )
    .unwrap();
    for (path, text) in [
        ("/etc/pam.d/sudo", sudo),
        (plan::SUDOERS, plan::sudoers()),
        (sshd_edit::DROP_IN, sshd_edit::drop_in(Interactive::Nothing)),
        (sshd_config::MAIN, sshd_edit::attach("UsePAM yes\n").unwrap()),
    ] {
        let before = root.text(path).unwrap();
        root.write(path, &text, 0o644).unwrap();
        let finding = left_of_enforce(&root);
        assert_eq!((finding.state, finding.remedy.as_str()), (State::Fail, ATTACH), "{path}");
        assert!(finding.seen.contains(path), "{path} in {}", finding.seen);
        match before {
            Some(text) => root.write(path, &text, 0o644).unwrap(),
            None => root.remove(path).unwrap(),
        }
        assert_eq!(left_of_enforce(&root).state, State::Ok, "{path}");
    }
}

//! What `pam` makes of its arguments, of `PAM_TYPE` and of `SSH_AUTH_INFO_0`, in this process.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use nightlatch_hook::phase::Call;
use nightlatch_hook::session::key_line;
use nightlatch_wire::PromptStage;

#[test]
fn each_call_of_pam_has_one_meaning() {
    let call =
        |args: &[&str], phase: &str| Call::of(args.iter().map(OsString::from), Some(OsStr::new(phase)));
    for (phase, plain, observing) in [
        ("account", Call::Decide, Call::Pass),
        ("auth", Call::Decide, Call::Pass),
        ("password", Call::Decide, Call::Pass),
        ("open_session", Call::Open, Call::Observe),
        ("close_session", Call::Close, Call::Pass),
        ("OPEN_SESSION", Call::Decide, Call::Pass),
        ("open_session ", Call::Decide, Call::Pass),
        ("", Call::Decide, Call::Pass),
    ] {
        assert_eq!(call(&[], phase), plain, "{phase:?}");
        assert_eq!(call(&["observe"], phase), observing, "{phase:?}");
        for args in [&[""][..], &["Observe"], &["--observe"], &["observe", "x"], &["observe", ""], &["x"]] {
            assert_eq!(call(args, phase), Call::Unknown, "{args:?} {phase:?}");
        }
    }
    for (stage, call_of) in
        [("begin", PromptStage::Begin), ("shown", PromptStage::Shown), ("over", PromptStage::Over)]
    {
        assert_eq!(call(&["step-up", stage], "auth"), Call::StepUp(call_of));
        for phase in ["account", "open_session", "close_session", "password", "AUTH", ""] {
            assert_eq!(call(&["step-up", stage], phase), Call::Unknown, "{stage} {phase:?}");
        }
        assert_eq!(call(&["step-up", stage, "x"], "auth"), Call::Unknown);
        assert_eq!(call(&["observe", stage], "auth"), Call::Unknown);
    }
    for args in [&["step-up"][..], &["step-up", ""], &["step-up", "Begin"], &["begin"], &["", "begin"]] {
        assert_eq!(call(args, "auth"), Call::Unknown, "{args:?}");
    }
    assert_eq!(Call::of([], None), Call::Decide);
    assert_eq!(Call::of([], Some(OsStr::from_bytes(b"open_session\xff"))), Call::Decide);
}

#[test]
fn the_key_line_is_the_first_of_its_kind_in_the_form_that_sshd_writes() {
    for (auth_info, expected) in [
        ("publickey ssh-ed25519 AAAA\n", "publickey ssh-ed25519 AAAA"),
        ("publickey ssh-ed25519 AAAA", "publickey ssh-ed25519 AAAA"),
        ("password\npublickey c D\npublickey e F\n", "publickey c D"),
        ("keyboard-interactive/pam\npublickey a B\n", "publickey a B"),
        ("publickey a B info\npublickey c D\n", "publickey a B info"),
        ("password\n", ""),
        ("", ""),
        ("\n\n", ""),
        ("publickey\n", ""),
        ("publickey/x a B\n", ""),
        (" publickey a B\n", ""),
        ("hostbased ssh-rsa AAAA publickey a B\n", ""),
        ("publickey a B\r\n", ""),
        ("publickey a \u{1b}[2J\npublickey c D\n", ""),
        ("publickey a\tB\n", ""),
        ("publickey a \u{9b}\n", ""),
    ] {
        assert_eq!(key_line(OsString::from(auth_info)), expected, "{auth_info:?}");
    }
    assert_eq!(key_line(OsString::from_vec(b"publickey a B\n\xff\n".to_vec())), "");
}

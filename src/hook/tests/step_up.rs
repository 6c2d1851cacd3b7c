//! What `pam step-up` makes of every answer, in this process: the server is a thread, the variables are a table.
#![allow(clippy::unwrap_used, clippy::panic)] // a test may stop at the first surprise

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nightlatch_hook::Server;
use nightlatch_hook::parents::parents;
use nightlatch_hook::step_up::{self, Waits};
use nightlatch_wire::{Message, PromptStage, read_frame, write_frame};

const WAIT: Duration = Duration::from_secs(30);

fn own_uid() -> u32 {
    std::fs::metadata("/proc/self").unwrap().uid()
}

fn nowhere() -> Server<'static> {
    Server { path: Path::new("/nonexistent/nightlatch.sock"), owner: 0 }
}

/// A server that gives these answers, one connection each: what was asked.
fn answers(replies: Vec<Message>) -> (PathBuf, JoinHandle<Vec<Message>>) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("nightlatch-step-up-{}-{n}.sock", process::id()));
    let listener = UnixListener::bind(&path).unwrap();
    let thread = thread::spawn(move || {
        let mut asked = Vec::new();
        for reply in replies {
            let (mut stream, _) = listener.accept().unwrap();
            asked.push(read_frame(&mut stream).unwrap());
            write_frame(&mut stream, &reply).unwrap();
        }
        asked
    });
    (path, thread)
}

fn pam_variable(name: &str) -> Option<OsString> {
    let value = match name {
        "PAM_USER" => "ann@contoso.com",
        "PAM_SERVICE" => "sshd",
        "PAM_RHOST" => "10.0.0.7",
        "SSH_AUTH_INFO_0" => "publickey ssh-rsa-cert-v01@openssh.com AAAA\n",
        _ => return None,
    };
    Some(value.into())
}

#[test]
fn a_sign_in_at_the_prompt_goes_on_only_with_the_daemons_word() {
    let text = |text: &str| Message::Text(text.to_owned());
    let deny = Message::Deny { code: "no_proof".to_owned(), text: "no".to_owned() };
    for stage in [PromptStage::Begin, PromptStage::Shown, PromptStage::Over] {
        for (reply, yes, shown) in [
            (Message::Done, true, Some("")),
            (deny.clone(), false, Some(if stage == PromptStage::Shown { "" } else { "nightlatch: no\n" })),
            (
                text("go to\nthere\u{1b}"),
                false,
                (stage == PromptStage::Begin).then_some("nightlatch: go to\nnightlatch: there?\n"),
            ),
            (Message::None, false, None),
            (Message::Permit { until: 1, admin: true }, false, None),
            (Message::Opened(1), false, None),
            (Message::Line("restrict,pty".to_owned()), false, None),
            (Message::Err("unsupported".to_owned()), false, None),
        ] {
            if (stage, &reply) == (PromptStage::Over, &Message::None) {
                continue;
            }
            let (path, thread) = answers(vec![reply.clone()]);
            let server = Server { path: &path, owner: own_uid() };
            let waits = Waits { answer: WAIT, questions: 3 };
            let verdict = step_up::advance(stage, server, waits, pam_variable);
            assert_eq!(verdict.yes, yes, "{stage:?} {reply:?}");
            match shown {
                Some(shown) => assert_eq!(verdict.shown, shown, "{stage:?} {reply:?}"),
                None if stage == PromptStage::Shown => assert_eq!(verdict.shown, "", "{reply:?}"),
                None => assert!(verdict.shown.contains("no sign-in can be asked for"), "{stage:?} {reply:?}"),
            }
            let asked = thread.join().unwrap();
            let [Message::Prompt(prompt)] = asked.as_slice() else { panic!("{asked:?}") };
            assert_eq!(prompt.stage, stage);
            assert_eq!((prompt.user.as_str(), prompt.service.as_str()), ("ann@contoso.com", "sshd"));
            assert_eq!(prompt.rhost, "10.0.0.7");
            assert_eq!(prompt.auth, "publickey ssh-rsa-cert-v01@openssh.com AAAA");
            assert_eq!(prompt.parents, parents());
            std::fs::remove_file(path).unwrap();
        }
        let waits = Waits { answer: WAIT, questions: 3 };
        let verdict = step_up::advance(stage, nowhere(), waits, pam_variable);
        let said = verdict.shown.contains("no sign-in can be asked for");
        assert!(!verdict.yes && said != (stage == PromptStage::Shown), "{stage:?} {verdict:?}");
    }
}

#[test]
fn the_end_of_a_sign_in_is_asked_for_again_and_not_for_ever() {
    let waits = Waits { answer: WAIT, questions: 3 };
    for (replies, yes, shown) in [
        (vec![Message::None, Message::None, Message::Done], true, ""),
        (vec![Message::None, Message::None, Message::None], false, "nightlatch: nobody signed in in time"),
    ] {
        let count = replies.len();
        let (path, thread) = answers(replies);
        let server = Server { path: &path, owner: own_uid() };
        let verdict = step_up::advance(PromptStage::Over, server, waits, pam_variable);
        assert!(verdict.yes == yes && verdict.shown.starts_with(shown), "{verdict:?}");
        assert_eq!(thread.join().unwrap().len(), count);
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn what_is_not_passed_on_is_no_sign_in() {
    for odd in ["PAM_USER", "PAM_RHOST", "PAM_SERVICE"] {
        let variable =
            |name: &str| if name == odd { Some(OsString::from_vec(vec![0xff])) } else { pam_variable(name) };
        let waits = Waits { answer: WAIT, questions: 1 };
        let verdict = step_up::advance(PromptStage::Begin, nowhere(), waits, variable);
        assert!(!verdict.yes && verdict.shown.contains("form that is not passed on"), "{verdict:?}");
    }
}

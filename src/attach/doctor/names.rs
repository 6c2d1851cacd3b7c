//! Whether the machine finds our users: nsswitch.conf, nss-systemd, and the responder itself.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::{Finding, State};
use crate::attach::nsswitch::{self, DATABASES, PATH, SERVICE};
use crate::attach::place::Root;
use crate::attach::ready;

/// The check of the responder.
pub(super) const ANSWER: &str = "userdb.answer";
/// Where nss-systemd looks for us.
const LINK: &str = "/run/systemd/userdb/io.nightlatch.UserDatabase";
/// Where our responder listens.
const SOCKET: &str = "/run/nightlatch-userdbd/io.nightlatch.UserDatabase";
const INTERFACE: &str = "io.nightlatch.UserDatabase";
/// A slower answer is felt at every look-up on the machine.
const ANSWER_LIMIT: Duration = Duration::from_millis(100);
/// The largest answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 4096;
const ATTACH: &str = "run `nightlatch attach`";

pub(super) fn examine(root: &Root) -> Vec<Finding> {
    let mut findings = match root.text(PATH) {
        Ok(Some(text)) => databases(&text),
        _ => vec![Finding::fail(
            "nss.passwd",
            format!("{PATH} cannot be read"),
            "restore it, then `nightlatch attach`",
        )],
    };
    findings.push(if ready::has_nss_systemd(root) {
        Finding::ok("nss.library", "nss-systemd is installed")
    } else {
        Finding::fail("nss.library", "libnss_systemd.so.2 is not installed", "install `libnss-systemd`")
    });
    findings.push(link(root));
    findings.push(responder(root));
    findings
}

/// Judges the text of nsswitch.conf.
pub(super) fn databases(text: &str) -> Vec<Finding> {
    let checks = ["nss.passwd", "nss.group", "nss.shadow"];
    let mut findings: Vec<Finding> = checks
        .into_iter()
        .zip(DATABASES)
        .map(|(check, database)| database_of(check, database, text))
        .collect();
    // Where glibc has a line for it, group memberships are looked up through it alone.
    if nsswitch::words(text, "initgroups").is_some_and(|words| !words.contains(&SERVICE)) {
        let seen = "`initgroups` does not name systemd: administrators get no group";
        findings.push(Finding::fail("nss.initgroups", seen, format!("add `systemd` to it in {PATH}")));
    }
    findings
}

fn database_of(check: &'static str, database: &str, text: &str) -> Finding {
    let words = nsswitch::words(text, database).unwrap_or_default();
    let shown = format!("{database}: {}", words.join(" "));
    let Some(at) = words.iter().position(|word| *word == SERVICE) else {
        let what = match database {
            "shadow" => "pam_unix refuses every Entra login",
            "group" => "administrators get no group",
            _ => "Entra users are not found",
        };
        return Finding::fail(check, format!("`{shown}` does not name systemd: {what}"), ATTACH);
    };
    let before = words.get(..at).unwrap_or_default();
    if let Some(action) = before.iter().find(|word| word.starts_with('[') && nsswitch::stops(word)) {
        let seen = format!("`{shown}` stops at {action}, before systemd");
        return Finding::fail(check, seen, format!("put `systemd` before it in {PATH}"));
    }
    if !before.iter().any(|word| matches!(*word, "files" | "compat")) {
        let seen = format!("`{shown}` asks systemd before the local files");
        return Finding::warn(
            check,
            seen,
            format!("put `files` first in {PATH}, so that local users wait for nobody"),
        );
    }
    Finding::ok(check, shown)
}

fn link(root: &Root) -> Finding {
    const CHECK: &str = "userdb.link";
    const MEND: &str = "run `systemd-tmpfiles --create`";
    match std::fs::read_link(root.path(LINK)) {
        Ok(target) if target.to_str() == Some(SOCKET) => {
            Finding::ok(CHECK, format!("{LINK} leads to our responder"))
        }
        Ok(target) => Finding::fail(CHECK, format!("{LINK} leads to {}", target.display()), MEND),
        Err(_) => Finding::fail(CHECK, format!("{LINK} is missing: nobody finds Entra users"), MEND),
    }
}

/// Asks the responder for a name that it must not know; the kind of answer is what counts.
fn responder(root: &Root) -> Finding {
    const CHECK: &str = ANSWER;
    const MEND: &str = "see `systemctl status nightlatch-userdbd` and its journal";
    let request = format!(
        "{{\"method\":\"io.systemd.UserDatabase.GetUserRecord\",\"parameters\":{{\"userName\":\"nightlatch doctor\",\"service\":\"{INTERFACE}\"}}}}\0"
    );
    let asked = || -> std::io::Result<Vec<u8>> {
        let mut stream = UnixStream::connect(root.path(SOCKET))?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream.set_write_timeout(Some(ANSWER_LIMIT))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = vec![0_u8; MAX_ANSWER_BYTES];
        let length = stream.read(&mut answer)?;
        answer.truncate(length);
        Ok(answer)
    };
    match asked() {
        Ok(answer)
            if answer.ends_with(b"\0")
                && String::from_utf8_lossy(&answer).contains("io.systemd.UserDatabase.") =>
        {
            Finding::ok(CHECK, format!("it answers within {} ms", ANSWER_LIMIT.as_millis()))
        }
        Ok(_) => Finding::fail(CHECK, "what listens there speaks no io.systemd.UserDatabase", MEND),
        Err(cause)
            if matches!(cause.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) =>
        {
            let seen = format!(
                "no answer within {} ms: every look-up on this machine waits for it",
                ANSWER_LIMIT.as_millis()
            );
            Finding::fail(CHECK, seen, MEND)
        }
        Err(cause) if cause.kind() == std::io::ErrorKind::PermissionDenied => {
            Finding::bad(CHECK, State::Unknown, "not allowed to ask it", "run doctor as root")
        }
        Err(cause) => Finding::fail(CHECK, format!("nobody answers on {SOCKET} ({})", cause.kind()), MEND),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> Vec<(&'static str, State)> {
        let findings = databases(text);
        findings.into_iter().filter(|f| f.state != State::Ok).map(|f| (f.check, f.state)).collect()
    }

    #[test]
    fn shapes_of_real_machines() {
        assert_eq!(
            wrong(
                "passwd:         files systemd\ngroup:          files systemd\nshadow:         files systemd\ngshadow: files\n"
            ),
            []
        );
        assert_eq!(
            wrong(
                "passwd: files [SUCCESS=merge] systemd\ngroup: files [SUCCESS=merge] systemd\nshadow: files systemd\n"
            ),
            []
        );
        // Ubuntu 22.04 as libnss-systemd 249 leaves it, Azure Linux as shipped.
        let jammy = "passwd:         files systemd\ngroup:          files systemd\nshadow:         files\n";
        assert_eq!(wrong(jammy), [("nss.shadow", State::Fail)]);
        assert_eq!(wrong("passwd: files\ngroup: files\nshadow: files\n").len(), 3);
    }

    #[test]
    fn what_never_reaches_us_is_found() {
        let text = "passwd: files [NOTFOUND=return] systemd\ngroup: systemd files\ninitgroups: files\n";
        assert_eq!(
            wrong(text),
            [
                ("nss.passwd", State::Fail),
                ("nss.group", State::Warn),
                ("nss.shadow", State::Fail),
                ("nss.initgroups", State::Fail)
            ]
        );
    }

    #[test]
    fn a_missing_responder_is_a_fault() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::at(folder.path().to_path_buf());
        assert_eq!(responder(&root).state, State::Fail);
        assert_eq!(link(&root).state, State::Fail);
    }

    /// What doctor says about a responder that answers every question so; `None` is mute.
    fn judged(answer: Option<&'static [u8]>) -> Finding {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::at(folder.path().to_path_buf());
        std::fs::create_dir_all(root.path(SOCKET).parent().unwrap()).unwrap();
        let listener = std::os::unix::net::UnixListener::bind(root.path(SOCKET)).unwrap();
        let Some(answer) = answer else { return responder(&root) };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut taken = [0_u8; 1024];
                assert!(stream.read(&mut taken).unwrap() > 0);
                stream.write_all(answer).unwrap();
            });
            responder(&root)
        })
    }

    #[test]
    fn a_mute_responder_is_a_fault_and_an_answer_is_not() {
        assert!(judged(None).seen.contains("no answer within 100 ms"));
        let answer = b"{\"error\":\"io.systemd.UserDatabase.NoRecordFound\",\"parameters\":{}}\0";
        assert_eq!(judged(Some(answer)).state, State::Ok);
        assert!(judged(Some(b"HTTP/1.1 400 Bad Request\r\n")).seen.contains("speaks no"));
    }
}

//! `nightlatch capture`.
//!
//! Says first what it will do, and asks. The recording goes to a new file or to stdout; everything
//! said to the person goes to stderr, so that stdout is the recording and nothing else.

use std::fs::OpenOptions;
use std::io::{BufRead, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use nightlatch_model::ObjectId;

use super::output::{NO, UNKNOWN, USAGE, YES, complain, say};
use crate::capture::{CaptureError, Question, Verdict, findings, plan, record};
use crate::clock::Clock;
use crate::config::load;
use crate::login::Extensions;
use crate::store::read_capped;

/// The largest certificate file, in bytes.
const MAX_CERT_FILE_BYTES: u64 = 128 * 1024;
/// The longest answer to a yes-or-no question, in bytes.
const MAX_ANSWER_BYTES: u64 = 64;
const CONFIG: &str = "/etc/nightlatch/nightlatch.toml";
const DROP_INS: &str = "/etc/nightlatch/conf.d";

/// What to record.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A certificate as `az ssh cert` wrote it, to record its form.
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// The object id of somebody whose login roles here are asked for (`az ad signed-in-user show`).
    #[arg(long, value_name = "OID", value_parser = object_id)]
    person: Option<ObjectId>,
    /// Write the recording to this new file instead of printing it.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Do not ask before beginning.
    #[arg(long)]
    yes: bool,
}

fn object_id(text: &str) -> Result<ObjectId, String> {
    let hint = "give the object id, such as 00000000-0000-0000-0000-000000000000, not a name";
    text.parse().map_err(|_| hint.to_owned())
}

pub(super) fn run(arguments: &Arguments) -> u8 {
    match prepare(arguments) {
        Ok(question) => work(arguments, &question),
        Err((status, message)) => {
            complain(&message);
            status
        }
    }
}

fn prepare(arguments: &Arguments) -> Result<Question, (u8, String)> {
    if !nix::unistd::geteuid().is_root() {
        return Err((
            UNKNOWN,
            "capture reads azure.json and what the Arc agent keeps for root: run it with sudo".into(),
        ));
    }
    let usage = |message: String| (USAGE, message);
    if let Some(out) = &arguments.out {
        if std::fs::symlink_metadata(out).is_ok() {
            return Err(usage(format!("`{}` exists and is not overwritten: name a new file", out.display())));
        }
        let folder =
            out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        if !folder.is_dir() {
            return Err(usage(format!("the folder `{}` does not exist: make it first", folder.display())));
        }
    }
    let certificate = arguments.cert.as_deref().map(read_certificate).transpose().map_err(usage)?;
    let config =
        load(Path::new(CONFIG), Path::new(DROP_INS)).map_err(|cause| usage(cause.to_string()))?.config;
    let assumed = Extensions::default();
    let question = Question {
        oid_extension: config.identity.oid_extension.clone().unwrap_or(assumed.oid),
        tid_extension: config.identity.tid_extension.clone().unwrap_or(assumed.tid),
        config,
        certificate,
        person: arguments.person,
    };
    tell("this will take about a minute; it");
    plan(&question).iter().for_each(|line| tell(&format!("  - {line}")));
    if arguments.yes || agreed()? { Ok(question) } else { Err((NO, "nothing was done".into())) }
}

fn read_certificate(path: &Path) -> Result<Vec<u8>, String> {
    let bytes = read_capped(path, MAX_CERT_FILE_BYTES).map_err(|cause| cause.to_string())?;
    bytes.ok_or_else(|| {
        format!("`{}` does not exist: give the file that `az ssh cert --file` wrote", path.display())
    })
}

fn agreed() -> Result<bool, (u8, String)> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err((USAGE, "nobody can be asked here (stdin is no terminal): add --yes".into()));
    }
    tell("go on? [y/N]");
    let mut answer = String::new();
    let read = std::io::Read::take(stdin.lock(), MAX_ANSWER_BYTES).read_line(&mut answer);
    Ok(read.is_ok() && matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

fn work(arguments: &Arguments, question: &Question) -> u8 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let recording = match runtime.map_err(|cause| format!("cannot start: {cause}")).and_then(|runtime| {
        runtime.block_on(record(question, &Clock::System)).map_err(|cause: CaptureError| cause.to_string())
    }) {
        Ok(recording) => recording,
        Err(message) => {
            complain(&message);
            return UNKNOWN;
        }
    };
    let text = format!("{recording:#}");
    match &arguments.out {
        None => say(&text),
        Some(out) => {
            if let Err(cause) = write_new(out, &text) {
                complain(&format!("`{}` cannot be written: {cause}", out.display()));
                return UNKNOWN;
            }
        }
    }
    let found = findings(&recording);
    for finding in &found {
        tell(&format!("{}: {}: {}", finding.verdict, finding.about, finding.text));
        if let Some(line) = &finding.line {
            tell(&format!("    {line}"));
        }
    }
    if let Some(out) = &arguments.out {
        tell(&format!("recorded in `{}`; read it before you send it", out.display()));
    }
    status(found.iter().map(|finding| finding.verdict))
}

/// Yes: everything that could be seen is as assumed. No: something is not. Else nothing was seen.
fn status(verdicts: impl Iterator<Item = Verdict> + Clone) -> u8 {
    if verdicts.clone().any(|verdict| matches!(verdict, Verdict::Set | Verdict::Unsupported)) {
        NO
    } else if verdicts.clone().any(|verdict| verdict == Verdict::Holds) {
        YES
    } else {
        UNKNOWN
    }
}

fn write_new(path: &Path, text: &str) -> std::io::Result<()> {
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC;
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).custom_flags(flags).open(path)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")
}

/// To the person, beside the recording.
fn tell(line: &str) {
    // Nobody reads a closed stderr; the recording is what counts.
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_recording_is_the_owners_alone_and_never_replaces_anything() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.json");
        write_new(&path, "{}").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(write_new(&path, "x").is_err());
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path().join("elsewhere"), &link).unwrap();
        assert!(write_new(&link, "x").is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{}\n");
    }

    #[test]
    fn one_difference_is_a_no_and_nothing_seen_is_neither() {
        use Verdict::{Holds, NotSeen, Set, Unsupported};
        assert_eq!(status([Holds, NotSeen].into_iter()), YES);
        assert_eq!(status([Holds, Set].into_iter()), NO);
        assert_eq!(status([Unsupported].into_iter()), NO);
        assert_eq!(status([NotSeen].into_iter()), UNKNOWN);
        assert!(object_id("alice@contoso.com").unwrap_err().contains("not a name"));
    }
}

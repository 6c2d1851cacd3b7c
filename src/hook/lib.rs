//! What sshd (`authorized-keys`) and PAM (`pam`) run: ask the daemon or sessiond one question, pass on one
//! answer.
//!
//! Both run for strangers, one of them as root. They never decide, never read configuration or the working
//! directory, never outlive their timer, and never print what was not answered. Where an entry hangs on it,
//! every doubt is a no; where none does ([`session::close`], [`session::observe`]), nothing is said, and the
//! login goes on after a bounded wait. Standard library, [`nightlatch_wire`] and one `sys.rs`; nothing else is linked.

use std::fmt;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nightlatch_wire::{Message, ReadError, read_frame, write_frame};

pub mod account;
pub mod audit;
pub mod offer;
pub mod parents;
pub mod person;
pub mod phase;
pub mod session;
pub mod step_up;
mod sys;

/// How long `authorized-keys` may live. sshd itself would wait until LoginGraceTime.
pub const HOOK_DEADLINE: Duration = Duration::from_millis(300);

/// How long `pam` may live in the account and auth phases.
pub const PAM_DEADLINE: Duration = Duration::from_secs(10);

/// How long `pam` waits for the daemon's answer in these phases: less than [`PAM_DEADLINE`], so that there is
/// time left to tell the person.
pub const PAM_ANSWER_WAIT: Duration = Duration::from_secs(9);

/// How long `pam` may live while a session opens.
pub const OPEN_DEADLINE: Duration = Duration::from_secs(6);

/// How long an opening session waits to be recorded. sessiond is back 100 ms after a crash; meanwhile its
/// socket is held by systemd, and `connect` queues.
pub const OPEN_ANSWER_WAIT: Duration = Duration::from_secs(5);

/// How long `pam` may live while a session closes: longer than [`CLOSE_ANSWER_WAIT`], because a process that
/// a signal ended has not ended with 0.
pub const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// How long a closing session waits: it must not hang.
pub const CLOSE_ANSWER_WAIT: Duration = Duration::from_secs(1);

/// How long `pam step-up over` may live. sshd's LoginGraceTime ends it earlier, unless that is longer or none.
pub const STEP_UP_DEADLINE: Duration = Duration::from_secs(600);

/// How often `pam step-up over` asks whether the person signed in. The daemon answers after at most 5 s, and knows by
/// LoginGraceTime, and after at most 9 min, that nobody will.
pub const STEP_UP_QUESTIONS: u32 = 115;

/// How long `pam observe` may live: so much it may cost a login that is not ours.
pub const OBSERVE_DEADLINE: Duration = Duration::from_millis(300);

/// How long `pam observe` waits: so much less than [`OBSERVE_DEADLINE`] that it ends by itself, with 0, on a
/// busy machine too.
pub const OBSERVE_ANSWER_WAIT: Duration = Duration::from_millis(200);

/// Where the daemon is asked, and who must have bound the socket.
#[derive(Clone, Copy, Debug)]
pub struct Server<'a> {
    /// The socket.
    pub path: &'a Path,
    /// The uid that called `listen` on it.
    pub owner: u32,
}

impl Server<'static> {
    /// Where `authorized-keys` asks; bound by systemd as root.
    #[must_use]
    pub fn hook() -> Self {
        Self { path: Path::new("/run/nightlatch/hook.sock"), owner: 0 }
    }

    /// Where `pam` asks in the account and auth phases, and reports what it observes; bound by systemd as
    /// root.
    #[must_use]
    pub fn account() -> Self {
        Self { path: Path::new("/run/nightlatch/account.sock"), owner: 0 }
    }

    /// Where `pam` has sessions recorded; bound by systemd as root.
    #[must_use]
    pub fn session() -> Self {
        Self { path: Path::new("/run/nightlatch/session.sock"), owner: 0 }
    }
}

/// Proof that the process timer runs. SIGALRM's default action ends the process with nothing printed, and
/// neither sshd nor PAM takes a yes from a process that a signal ended.
#[derive(Debug)]
pub struct Armed(());

/// Starts the process timer. To be called before anything else.
#[must_use]
pub fn arm(deadline: Duration) -> Option<Armed> {
    sys::arm_timer(deadline).then_some(Armed(()))
}

/// Why there is no answer.
#[derive(Debug)]
pub enum AskError {
    /// No connection: the socket is missing, or not for us.
    Connect(io::Error),
    /// Somebody else than the expected uid listens there.
    Owner(Option<u32>),
    /// The question could not be sent.
    Send(io::Error),
    /// No answer, or none that can be read.
    Answer(ReadError),
    /// The answer did not come in time.
    Late,
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => write!(f, "cannot reach the agent: {error}"),
            Self::Owner(Some(uid)) => write!(f, "the agent's socket was bound by uid {uid}: remove it"),
            Self::Owner(None) => f.write_str("cannot tell who bound the agent's socket"),
            Self::Send(error) => write!(f, "cannot ask the agent: {error}"),
            Self::Answer(error) => write!(f, "no answer from the agent: {error}"),
            Self::Late => f.write_str("the agent did not answer in time"),
        }
    }
}

impl std::error::Error for AskError {}

/// Asks one question on a connection of its own. Waits as long as the server does; the process timer, or
/// [`account::ask_within`], bounds it. (`connect` itself blocks while the server's backlog is full, and
/// std has no timeout for it.)
///
/// # Errors
/// [`AskError`]; nothing was sent when the socket's owner is wrong.
pub fn ask(server: Server<'_>, question: &Message) -> Result<Message, AskError> {
    let mut stream = UnixStream::connect(server.path).map_err(AskError::Connect)?;
    match sys::peer_uid(&stream) {
        Some(uid) if uid == server.owner => {}
        other => return Err(AskError::Owner(other)),
    }
    write_frame(&mut stream, question).map_err(AskError::Send)?;
    read_frame(&mut stream).map_err(AskError::Answer)
}

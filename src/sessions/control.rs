//! The questions to sessiond over control.sock: one connection each, one frame each way.

use std::path::PathBuf;
use std::time::Duration;

use nightlatch_wire::session::{End, List, Pending, Row, Say, Target};
use nightlatch_wire::{Message, frame_len};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::sys::Peer;

/// Where sessiond listens for the daemon.
pub const CONTROL_SOCKET: &str = "/run/nightlatch/control.sock";
/// How long one question may take: sessiond is back a tenth of a second after it was killed, and the
/// questions wait for it in the socket's queue.
const ASK_LIMIT: Duration = Duration::from_secs(3);
/// The most pages of one list: with the smallest page more sessions than a node has processes.
const MAX_PAGES: usize = 1_024;
/// Who must have bound the socket: systemd.
const OWNER: u32 = 0;

/// Why sessiond did not do what was asked.
#[derive(Debug, Error)]
pub enum ControlError {
    /// No connection, or it broke.
    #[error("sessiond cannot be asked: look at `systemctl status nightlatch-sessiond`")]
    Io(#[source] std::io::Error),
    /// No answer in time.
    #[error("sessiond did not answer within 3 s: look at `systemctl status nightlatch-sessiond`")]
    Late,
    /// Somebody else listens there.
    #[error("control.sock was not bound by systemd: remove it and restart its socket unit")]
    Stranger,
    /// The answer is not one to the question.
    #[error("sessiond answered with something else: install the same release of both")]
    Odd,
    /// It said no.
    #[error("sessiond refused: {0}")]
    Refused(String),
}

/// The way to sessiond.
#[derive(Clone, Debug)]
pub struct Control {
    path: PathBuf,
    owner: u32,
}

impl Default for Control {
    fn default() -> Self {
        Self { path: CONTROL_SOCKET.into(), owner: OWNER }
    }
}

impl Control {
    /// Another socket, bound by `owner`.
    #[must_use]
    pub const fn at(path: PathBuf, owner: u32) -> Self {
        Self { path, owner }
    }

    /// Says whose session the next one of this monitor will be. It must stand before PAM gets its yes.
    ///
    /// # Errors
    /// The caller must refuse.
    pub async fn pending(&self, pending: Pending) -> Result<(), ControlError> {
        self.done(Message::Pending(pending)).await
    }

    /// Every live session, or every ended one that is remembered.
    ///
    /// # Errors
    /// When sessiond does not say.
    pub async fn list(&self, ended: bool) -> Result<Vec<Row>, ControlError> {
        let mut rows: Vec<Row> = Vec::new();
        for _ in 0..MAX_PAGES {
            let after = rows.last().map_or(0, |row| row.id);
            let Message::Sessions(page) = self.ask(Message::List(List { after, ended })).await? else {
                return Err(ControlError::Odd);
            };
            let more = page.more && !page.rows.is_empty();
            rows.extend(page.rows);
            if !more {
                return Ok(rows);
            }
        }
        Err(ControlError::Odd)
    }

    /// Says something on the terminals of a session.
    ///
    /// # Errors
    /// When sessiond does not know it.
    pub async fn say(&self, id: u64, text: &str) -> Result<(), ControlError> {
        self.done(Message::Say(Say { id, text: text.to_owned() })).await
    }

    /// Ends a session or all of a person; sessiond carries it out after it has answered.
    ///
    /// # Errors
    /// When sessiond does not take the order.
    pub async fn end(
        &self,
        target: Target,
        grace_s: u16,
        reason: &str,
        text: &str,
    ) -> Result<(), ControlError> {
        let (reason, text) = (reason.to_owned(), text.to_owned());
        self.done(Message::End(End { target, grace_s, reason, text })).await
    }

    async fn done(&self, question: Message) -> Result<(), ControlError> {
        match self.ask(question).await? {
            Message::Done => Ok(()),
            _ => Err(ControlError::Odd),
        }
    }

    async fn ask(&self, question: Message) -> Result<Message, ControlError> {
        match timeout(ASK_LIMIT, self.exchange(&question)).await {
            Err(_) => Err(ControlError::Late),
            Ok(Ok(Message::Err(word))) => Err(ControlError::Refused(word)),
            Ok(answer) => answer,
        }
    }

    async fn exchange(&self, question: &Message) -> Result<Message, ControlError> {
        let bytes = question.encode().map_err(|_| ControlError::Odd)?;
        let mut stream = UnixStream::connect(&self.path).await.map_err(ControlError::Io)?;
        if Peer::of(&stream).map_err(|_| ControlError::Stranger)?.uid != self.owner {
            return Err(ControlError::Stranger);
        }
        stream.write_all(&bytes).await.map_err(ControlError::Io)?;
        let mut prefix = [0_u8; 4];
        stream.read_exact(&mut prefix).await.map_err(ControlError::Io)?;
        let mut body = vec![0_u8; frame_len(prefix).map_err(|_| ControlError::Odd)?];
        stream.read_exact(&mut body).await.map_err(ControlError::Io)?;
        Message::decode(&body).map_err(|_| ControlError::Odd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nightlatch_wire::session::Sessions;
    use nightlatch_wire::{Parent, session};
    use tokio::net::UnixListener;

    fn row(id: u64) -> Row {
        Row {
            id,
            origin: session::Origin::Login,
            state: session::State::Open,
            user: "a@b.c".into(),
            uid: 1_900_000_000,
            oid: String::new(),
            correlation: String::new(),
            certificate: String::new(),
            rhost: String::new(),
            ttys: String::new(),
            monitor: Parent { pid: 1, start: 1 },
            audit_session: 1,
            started: 1,
            until: 0,
            admin: false,
            degraded: false,
            ended: 0,
            reason: String::new(),
            escaped: String::new(),
        }
    }

    /// Answers each question with the next of `answers`.
    fn serve(answers: Vec<Message>) -> (tempfile::TempDir, Control) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let listener = UnixListener::bind(&path).unwrap();
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut prefix = [0_u8; 4];
                stream.read_exact(&mut prefix).await.unwrap();
                let mut body = vec![0; frame_len(prefix).unwrap()];
                stream.read_exact(&mut body).await.unwrap();
                stream.write_all(&answer.encode().unwrap()).await.unwrap();
            }
        });
        let owner = nix::unistd::geteuid().as_raw();
        (folder, Control::at(path, owner))
    }

    #[tokio::test]
    async fn pages_are_put_together() {
        let page = |ids: &[u64], more| {
            Message::Sessions(Sessions { rows: ids.iter().map(|id| row(*id)).collect(), more })
        };
        let (_folder, control) = serve(vec![page(&[1, 2], true), page(&[5], false)]);
        let ids: Vec<u64> = control.list(false).await.unwrap().iter().map(|row| row.id).collect();
        assert_eq!(ids, [1, 2, 5]);
    }

    #[tokio::test]
    async fn a_refusal_and_an_odd_answer_are_no_yes() {
        let (_folder, control) = serve(vec![Message::Err("unknown".into()), Message::None]);
        assert!(matches!(control.say(1, "x").await, Err(ControlError::Refused(word)) if word == "unknown"));
        assert!(matches!(control.say(1, "x").await, Err(ControlError::Odd)));
    }

    #[tokio::test]
    async fn nobody_and_a_stranger_are_no_yes() {
        let (folder, control) = serve(vec![Message::Done]);
        let stranger = Control { owner: control.owner.wrapping_add(1), ..control };
        assert!(matches!(stranger.list(false).await, Err(ControlError::Stranger)));
        let nobody = Control::at(folder.path().join("none"), 0);
        assert!(matches!(nobody.list(false).await, Err(ControlError::Io(_))));
    }
}

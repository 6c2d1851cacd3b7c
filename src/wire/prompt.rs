//! What `pam` and the daemon say in PAM's auth phase, where a login may be asked for a sign-in at the prompt. Nothing that is
//! said here lets anybody in: the account question decides.

use std::fmt;

use crate::field::{FieldReader, FieldWriter};
use crate::message::{RHOST, SERVICE, USER, parents, put_parents};
use crate::session::AUTH;
use crate::{FrameError, Parent};

/// Where PAM's auth phase stands with a sign-in at the prompt, on a connection that has proven its certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PromptStage {
    /// Does this login lack what a sign-in would show? Then begin one: [`crate::Message::Text`] is to be shown. [`crate::Message::Done`]
    /// when there is nothing to ask for.
    Begin,
    /// Does a sign-in wait for the person? [`crate::Message::Done`] or [`crate::Message::None`].
    Shown,
    /// Is it over, whichever way? [`crate::Message::Done`], or [`crate::Message::None`] while it is not: ask again.
    Over,
}

impl PromptStage {
    const fn byte(self) -> u8 {
        match self {
            Self::Begin => 1,
            Self::Shown => 2,
            Self::Over => 3,
        }
    }

    const fn of(byte: u8) -> Result<Self, FrameError> {
        match byte {
            1 => Ok(Self::Begin),
            2 => Ok(Self::Shown),
            3 => Ok(Self::Over),
            _ => Err(FrameError::Value("stage")),
        }
    }
}

/// PAM's auth question where a sign-in at the prompt may be asked for.
#[derive(Clone, PartialEq, Eq)]
pub struct Prompt {
    /// How far it is.
    pub stage: PromptStage,
    /// `PAM_USER`.
    pub user: String,
    /// `PAM_SERVICE`.
    pub service: String,
    /// `PAM_RHOST`; empty when there is none.
    pub rhost: String,
    /// The line of `SSH_AUTH_INFO_0` that tells the key which was proven; empty when there is none.
    pub auth: String,
    /// Who called, nearest first.
    pub parents: Vec<Parent>,
}

impl fmt::Debug for Prompt {
    /// Without the key, as [`crate::Offer`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prompt")
            .field("stage", &self.stage)
            .field("user", &self.user)
            .field("rhost", &self.rhost)
            .field("parents", &self.parents)
            .finish_non_exhaustive()
    }
}

pub(crate) fn put(out: &mut FieldWriter, prompt: &Prompt) -> Result<(), FrameError> {
    out.raw(&[prompt.stage.byte()]);
    out.bytes(USER, prompt.user.as_bytes())?;
    out.bytes(SERVICE, prompt.service.as_bytes())?;
    out.bytes(RHOST, prompt.rhost.as_bytes())?;
    out.bytes(AUTH, prompt.auth.as_bytes())?;
    put_parents(out, &prompt.parents)
}

pub(crate) fn read(from: &mut FieldReader<'_>) -> Result<Prompt, FrameError> {
    Ok(Prompt {
        stage: PromptStage::of(from.u8("stage")?)?,
        user: from.text(USER)?,
        service: from.text(SERVICE)?,
        rhost: from.text(RHOST)?,
        auth: from.text(AUTH)?,
        parents: parents(from)?,
    })
}

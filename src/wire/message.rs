//! The things that can be said on the sockets, and their bytes. A text is `u16 BE length + bytes`,
//! a number has its fixed width (big-endian), parents are a `u8` count and that many pairs. Every field is
//! there in every frame, in the order of the struct; a byte too few or too many is an error. What is said
//! about sessions stands in [`crate::session`], and about sign-ins at the prompt in `prompt.rs`.

use std::fmt;

use crate::field::{Alphabet, Field, FieldReader, FieldWriter};
use crate::frame::{MAX_FRAME, VERSION};
use crate::prompt::{self, Prompt};
use crate::session::{self, Close, End, List, Observed, Open, Pending, Say, Sessions};
use crate::{FrameError, Parent};

/// Longest login name that is passed on, in bytes. Longer than any name we answer to, so that the daemon
/// can say why a name was refused.
pub const MAX_USER_BYTES: usize = 256;
/// Longest key or certificate, in bytes of base64 text.
pub const MAX_KEY_BYTES: usize = 65_535;
/// Longest key type word, in bytes.
pub const MAX_KEY_TYPE_BYTES: usize = 64;
/// Longest PAM service name, in bytes.
pub const MAX_SERVICE_BYTES: usize = 64;
/// Longest client address or host name, in bytes (a DNS name has at most 253).
pub const MAX_RHOST_BYTES: usize = 256;
/// Longest terminal name, in bytes.
pub const MAX_TTY_BYTES: usize = 64;
/// Longest line for sshd, in bytes: 8 KiB of base64 and the options before it.
pub const MAX_LINE_BYTES: usize = 9 * 1024;
/// Longest reason code or error word, in bytes.
pub const MAX_WORD_BYTES: usize = 64;
/// Longest text for a person, in bytes.
pub const MAX_TEXT_BYTES: usize = 4 * 1024;
/// Most processes in a chain of parents.
pub const MAX_PARENTS: usize = 2;

/// What `/proc/self/loginuid` holds while no login was recorded.
pub const NO_LOGINUID: u32 = u32::MAX;

/// The word of an [`Message::Err`] that answers an unknown version or verb.
pub const UNSUPPORTED: &str = "unsupported";

/// Room for every field of an OFFER beside the key.
const SMALL_FIELDS_BYTES: usize = 512;

pub(crate) const fn field(name: &'static str, min: usize, max: usize, alphabet: Alphabet) -> Field {
    Field { name, min, max, alphabet }
}

pub(crate) const USER: Field = field("user", 1, MAX_USER_BYTES, Alphabet::Word);
const KEY_TYPE: Field = field("key type", 1, MAX_KEY_TYPE_BYTES, Alphabet::Visible);
const KEY: Field = field("key", 0, MAX_KEY_BYTES, Alphabet::Visible);
pub(crate) const SERVICE: Field = field("service", 1, MAX_SERVICE_BYTES, Alphabet::Word);
pub(crate) const RHOST: Field = field("rhost", 0, MAX_RHOST_BYTES, Alphabet::Word);
const TTY: Field = field("tty", 0, MAX_TTY_BYTES, Alphabet::Word);
const LINE: Field = field("line", 1, MAX_LINE_BYTES, Alphabet::Printable);
pub(crate) const CODE: Field = field("code", 1, MAX_WORD_BYTES, Alphabet::Visible);
pub(crate) const TEXT: Field = field("text", 0, MAX_TEXT_BYTES, Alphabet::Text);
const WORD: Field = field("error word", 1, MAX_WORD_BYTES, Alphabet::Visible);

/// A key or certificate that somebody offers, before any proof that they own it.
#[derive(Clone, PartialEq, Eq)]
pub struct Offer {
    /// The login name (`%u`).
    pub user: String,
    /// The uid that sshd has for that name (`%U`) and keeps to the end of the session.
    pub uid: u32,
    /// The key type (`%t`).
    pub key_type: String,
    /// The key in base64 (`%k`); empty when it has more than [`MAX_KEY_BYTES`].
    pub key: String,
    /// The true length of the key in bytes of base64, also when it was too long to pass on.
    pub key_len: u32,
    /// Who called, nearest first.
    pub parents: Vec<Parent>,
}

impl fmt::Debug for Offer {
    /// Without the key: some clients put an access token into a certificate.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offer")
            .field("user", &self.user)
            .field("uid", &self.uid)
            .field("key_type", &self.key_type)
            .field("key_len", &self.key_len)
            .field("parents", &self.parents)
            .finish_non_exhaustive()
    }
}

/// PAM's account question: may this person enter?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// `PAM_USER`.
    pub user: String,
    /// `PAM_SERVICE`.
    pub service: String,
    /// `PAM_RHOST`; empty when there is none.
    pub rhost: String,
    /// `PAM_TTY`; empty when there is none.
    pub tty: String,
    /// `/proc/self/loginuid`; [`NO_LOGINUID`] when unset.
    pub loginuid: u32,
    /// `/proc/self/sessionid`, by which sessiond knows a session; [`NO_LOGINUID`] when unset.
    pub audit_session: u32,
    /// Who called, nearest first.
    pub parents: Vec<Parent>,
}

/// PAM's auth question: is there a text to show for the refusal of this connection?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// `PAM_USER`.
    pub user: String,
    /// `PAM_SERVICE`.
    pub service: String,
    /// `PAM_RHOST`; empty when there is none.
    pub rhost: String,
    /// Who called, nearest first.
    pub parents: Vec<Parent>,
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Hook to daemon.
    Offer(Offer),
    /// Daemon to hook: print this line (without newline). The hook checks it before it does.
    Line(String),
    /// Daemon to hook: print nothing.
    None,
    /// PAM helper to daemon.
    Account(Account),
    /// Daemon to PAM helper: yes.
    Permit {
        /// When the access ends by itself, in seconds since 1970.
        until: i64,
        /// Whether the person has the administrator's role.
        admin: bool,
    },
    /// Daemon to PAM helper: no.
    Deny {
        /// The reason's word.
        code: String,
        /// Sentences for the person; may hold newlines. The helper filters every other control byte.
        text: String,
    },
    /// PAM helper to daemon, authentication phase.
    Auth(Auth),
    /// Daemon to PAM helper: sentences for the person; empty when there is nothing to say.
    Text(String),
    /// Any server: the question was not understood or cannot be answered.
    Err(String),
    /// PAM helper to sessiond.
    Open(Open),
    /// Sessiond to PAM helper: the session is recorded under this number.
    Opened(u64),
    /// PAM helper to sessiond.
    Close(Close),
    /// Any server: understood and done.
    Done,
    /// PAM helper to a daemon that observes.
    Observed(Observed),
    /// Daemon to sessiond.
    Pending(Pending),
    /// Daemon to sessiond.
    List(List),
    /// Sessiond to daemon.
    Sessions(Sessions),
    /// Daemon to sessiond.
    Say(Say),
    /// Daemon to sessiond.
    End(End),
    /// PAM helper to daemon, authentication phase with a sign-in at the prompt.
    Prompt(Prompt),
}

impl Message {
    const fn verb(&self) -> u8 {
        match self {
            Self::Offer(_) => 1,
            Self::Line(_) => 2,
            Self::None => 3,
            Self::Account(_) => 4,
            Self::Permit { .. } => 5,
            Self::Deny { .. } => 6,
            Self::Auth(_) => 7,
            Self::Text(_) => 8,
            Self::Err(_) => 9,
            Self::Open(_) => 10,
            Self::Opened(_) => 11,
            Self::Close(_) => 12,
            Self::Done => 13,
            Self::Observed(_) => 14,
            Self::Pending(_) => 15,
            Self::List(_) => 16,
            Self::Sessions(_) => 17,
            Self::Say(_) => 18,
            Self::End(_) => 19,
            Self::Prompt(_) => 20,
        }
    }

    /// The whole frame, length prefix included.
    ///
    /// # Errors
    /// [`FrameError`] when a field breaks its limit; a frame that this returns decodes to the same value.
    pub fn encode(&self) -> Result<Vec<u8>, FrameError> {
        // A key is large, and one copy of it is enough: the buffer is not to grow behind it, and the length
        // prefix is filled in at the end.
        let key_len = if let Self::Offer(offer) = self { offer.key.len() } else { 0 };
        let mut out = FieldWriter::new(Vec::with_capacity(key_len.min(MAX_KEY_BYTES) + SMALL_FIELDS_BYTES));
        out.raw(&[0, 0, 0, 0, VERSION, self.verb()]);
        match self {
            Self::None | Self::Done => {}
            Self::Offer(offer) => {
                check_key_len(&offer.key, offer.key_len)?;
                out.bytes(USER, offer.user.as_bytes())?;
                out.raw(&offer.uid.to_be_bytes());
                out.bytes(KEY_TYPE, offer.key_type.as_bytes())?;
                out.bytes(KEY, offer.key.as_bytes())?;
                out.raw(&offer.key_len.to_be_bytes());
                put_parents(&mut out, &offer.parents)?;
            }
            Self::Account(account) => {
                out.bytes(USER, account.user.as_bytes())?;
                out.bytes(SERVICE, account.service.as_bytes())?;
                out.bytes(RHOST, account.rhost.as_bytes())?;
                out.bytes(TTY, account.tty.as_bytes())?;
                out.raw(&account.loginuid.to_be_bytes());
                out.raw(&account.audit_session.to_be_bytes());
                put_parents(&mut out, &account.parents)?;
            }
            Self::Auth(auth) => {
                out.bytes(USER, auth.user.as_bytes())?;
                out.bytes(SERVICE, auth.service.as_bytes())?;
                out.bytes(RHOST, auth.rhost.as_bytes())?;
                put_parents(&mut out, &auth.parents)?;
            }
            Self::Permit { until, admin } => {
                out.raw(&until.to_be_bytes());
                out.raw(&[u8::from(*admin)]);
            }
            Self::Deny { code, text } => {
                out.bytes(CODE, code.as_bytes())?;
                out.bytes(TEXT, text.as_bytes())?;
            }
            Self::Line(line) => out.bytes(LINE, line.as_bytes())?,
            Self::Text(text) => out.bytes(TEXT, text.as_bytes())?,
            Self::Err(word) => out.bytes(WORD, word.as_bytes())?,
            Self::Open(open) => session::put_open(&mut out, open)?,
            Self::Opened(id) => out.raw(&id.to_be_bytes()),
            Self::Close(close) => session::put_close(&mut out, close)?,
            Self::Observed(seen) => session::put_observed(&mut out, seen)?,
            Self::Pending(pending) => session::put_pending(&mut out, pending)?,
            Self::List(list) => session::put_list(&mut out, *list),
            Self::Sessions(page) => session::put_sessions(&mut out, page)?,
            Self::Say(say) => session::put_say(&mut out, say)?,
            Self::End(end) => session::put_end(&mut out, end)?,
            Self::Prompt(prompt) => prompt::put(&mut out, prompt)?,
        }
        let mut frame = out.into_bytes();
        let body_len = frame.len() - size_of::<u32>();
        let size = u32::try_from(body_len).unwrap_or(u32::MAX);
        if body_len > MAX_FRAME {
            return Err(FrameError::Length(size));
        }
        if let Some(prefix) = frame.first_chunk_mut() {
            *prefix = size.to_be_bytes();
        }
        Ok(frame)
    }

    /// Reads what follows the length prefix.
    ///
    /// # Errors
    /// [`FrameError`]; version and verb are judged before anything else.
    pub fn decode(body: &[u8]) -> Result<Self, FrameError> {
        if body.len() > MAX_FRAME {
            return Err(FrameError::Length(u32::try_from(body.len()).unwrap_or(u32::MAX)));
        }
        let mut from = FieldReader::new(body);
        let version = from.u8("version")?;
        if version != VERSION {
            return Err(FrameError::Version(version));
        }
        let message = match from.u8("verb")? {
            1 => Self::Offer(offer(&mut from)?),
            2 => Self::Line(from.text(LINE)?),
            3 => Self::None,
            4 => Self::Account(Account {
                user: from.text(USER)?,
                service: from.text(SERVICE)?,
                rhost: from.text(RHOST)?,
                tty: from.text(TTY)?,
                loginuid: from.u32("loginuid")?,
                audit_session: from.u32("audit session")?,
                parents: parents(&mut from)?,
            }),
            5 => Self::Permit { until: from.i64("until")?, admin: from.flag("admin")? },
            6 => Self::Deny { code: from.text(CODE)?, text: from.text(TEXT)? },
            7 => Self::Auth(Auth {
                user: from.text(USER)?,
                service: from.text(SERVICE)?,
                rhost: from.text(RHOST)?,
                parents: parents(&mut from)?,
            }),
            8 => Self::Text(from.text(TEXT)?),
            9 => Self::Err(from.text(WORD)?),
            10 => Self::Open(session::open(&mut from)?),
            11 => Self::Opened(from.u64("session")?),
            12 => Self::Close(session::close(&mut from)?),
            13 => Self::Done,
            14 => Self::Observed(session::observed(&mut from)?),
            15 => Self::Pending(session::pending(&mut from)?),
            16 => Self::List(session::list(&mut from)?),
            17 => Self::Sessions(session::sessions(&mut from)?),
            18 => Self::Say(session::say(&mut from)?),
            19 => Self::End(session::end(&mut from)?),
            20 => Self::Prompt(prompt::read(&mut from)?),
            verb => return Err(FrameError::Verb(verb)),
        };
        from.end()?;
        Ok(message)
    }
}

fn offer(from: &mut FieldReader<'_>) -> Result<Offer, FrameError> {
    let offer = Offer {
        user: from.text(USER)?,
        uid: from.u32("uid")?,
        key_type: from.text(KEY_TYPE)?,
        key: from.text(KEY)?,
        key_len: from.u32("key length")?,
        parents: parents(from)?,
    };
    check_key_len(&offer.key, offer.key_len)?;
    Ok(offer)
}

/// The stated length is the key's own, or that of a key too long to be here.
fn check_key_len(key: &str, stated: u32) -> Result<(), FrameError> {
    let stated = usize::try_from(stated).unwrap_or(usize::MAX);
    let left_out = key.is_empty() && stated > MAX_KEY_BYTES;
    if left_out || stated == key.len() { Ok(()) } else { Err(FrameError::Value("key length")) }
}

pub(crate) fn parent(from: &mut FieldReader<'_>) -> Result<Parent, FrameError> {
    Ok(Parent { pid: from.u32("parents")?, start: from.u64("parents")? })
}

pub(crate) fn put_parent(out: &mut FieldWriter, parent: Parent) {
    out.raw(&parent.pid.to_be_bytes());
    out.raw(&parent.start.to_be_bytes());
}

pub(crate) fn parents(from: &mut FieldReader<'_>) -> Result<Vec<Parent>, FrameError> {
    let count = usize::from(from.u8("parents")?);
    if count > MAX_PARENTS {
        return Err(FrameError::Value("parents"));
    }
    (0..count).map(|_| parent(from)).collect()
}

pub(crate) fn put_parents(out: &mut FieldWriter, parents: &[Parent]) -> Result<(), FrameError> {
    let count = u8::try_from(parents.len()).map_err(|_| FrameError::Value("parents"))?;
    if parents.len() > MAX_PARENTS {
        return Err(FrameError::Value("parents"));
    }
    out.raw(&[count]);
    parents.iter().for_each(|parent| put_parent(out, *parent));
    Ok(())
}

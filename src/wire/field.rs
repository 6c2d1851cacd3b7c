//! Single fields of a frame: texts are `u16 BE length + bytes`, numbers have a fixed width and are
//! big-endian. One [`Field`] value holds the limit and the alphabet of a text, and both directions go
//! through it, so that nothing can be sent that the other side would refuse. Nothing here reads past the
//! slice it was given.

use std::fmt;

/// Why a frame could not be read or written. The words say what to look at, never the bytes themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// The length prefix is above [`crate::MAX_FRAME`], or too small to hold a version and a verb.
    Length(u32),
    /// The version byte is one that this build does not speak. Answer `ERR unsupported`.
    Version(u8),
    /// The verb byte is one that this build does not know. Answer `ERR unsupported`.
    Verb(u8),
    /// The frame ends inside the named field.
    Short(&'static str),
    /// So many bytes follow the last field.
    Trailing(usize),
    /// The named field has fewer or more bytes than it may.
    Size(&'static str),
    /// The named field is not UTF-8, or holds a byte that its alphabet does not have.
    Alphabet(&'static str),
    /// The named number has a value outside its set.
    Value(&'static str),
}

impl FrameError {
    /// Whether the frame may be a sound one of a newer build, to be answered `ERR unsupported`.
    #[must_use]
    pub const fn is_unsupported(self) -> bool {
        matches!(self, Self::Version(_) | Self::Verb(_))
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(n) => write!(f, "frame length {n} is outside 2..={}", crate::MAX_FRAME),
            Self::Version(v) => {
                write!(f, "frame version {v} is unknown: install the same release on both sides")
            }
            Self::Verb(v) => write!(f, "verb {v} is unknown: install the same release on both sides"),
            Self::Short(name) => write!(f, "frame ends inside {name}"),
            Self::Trailing(n) => write!(f, "{n} bytes after the last field of the frame"),
            Self::Size(name) => write!(f, "{name} is empty or too long"),
            Self::Alphabet(name) => write!(f, "{name} holds a byte that is not allowed there"),
            Self::Value(name) => write!(f, "{name} has a value that is not allowed"),
        }
    }
}

impl std::error::Error for FrameError {}

/// What bytes a text may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alphabet {
    /// UTF-8 without control characters: names that end up in a journal record.
    Word,
    /// ASCII 0x21 to 0x7e: a key as sshd hands it over.
    Visible,
    /// ASCII 0x20 to 0x7e: a line for sshd.
    Printable,
    /// UTF-8, control characters included: text for a person, which the printer filters.
    Text,
}

impl Alphabet {
    fn holds(self, bytes: &[u8]) -> bool {
        match self {
            Self::Visible => bytes.iter().all(|b| (0x21..=0x7e).contains(b)),
            Self::Printable => bytes.iter().all(|b| (0x20..=0x7e).contains(b)),
            Self::Text => std::str::from_utf8(bytes).is_ok(),
            Self::Word => std::str::from_utf8(bytes).is_ok_and(|t| !t.chars().any(char::is_control)),
        }
    }
}

/// The limits of one text field.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) min: usize,
    pub(crate) max: usize,
    pub(crate) alphabet: Alphabet,
}

impl Field {
    fn check(self, bytes: &[u8]) -> Result<(), FrameError> {
        if bytes.len() < self.min || bytes.len() > self.max {
            return Err(FrameError::Size(self.name));
        }
        if self.alphabet.holds(bytes) { Ok(()) } else { Err(FrameError::Alphabet(self.name)) }
    }
}

/// Takes fields off the front of a frame's body.
pub(crate) struct FieldReader<'a> {
    left: &'a [u8],
}

impl<'a> FieldReader<'a> {
    pub(crate) const fn new(body: &'a [u8]) -> Self {
        Self { left: body }
    }

    pub(crate) fn array<const N: usize>(&mut self, name: &'static str) -> Result<[u8; N], FrameError> {
        let (head, rest) = self.left.split_first_chunk::<N>().ok_or(FrameError::Short(name))?;
        self.left = rest;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self, name: &'static str) -> Result<u8, FrameError> {
        self.array::<1>(name).map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self, name: &'static str) -> Result<u16, FrameError> {
        self.array(name).map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self, name: &'static str) -> Result<u32, FrameError> {
        self.array(name).map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self, name: &'static str) -> Result<u64, FrameError> {
        self.array(name).map(u64::from_be_bytes)
    }

    pub(crate) fn i64(&mut self, name: &'static str) -> Result<i64, FrameError> {
        self.array(name).map(i64::from_be_bytes)
    }

    pub(crate) fn flag(&mut self, name: &'static str) -> Result<bool, FrameError> {
        match self.u8(name)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(FrameError::Value(name)),
        }
    }

    pub(crate) fn bytes(&mut self, field: Field) -> Result<Vec<u8>, FrameError> {
        let size = usize::from(self.array(field.name).map(u16::from_be_bytes)?);
        let (head, rest) = self.left.split_at_checked(size).ok_or(FrameError::Short(field.name))?;
        field.check(head)?;
        self.left = rest;
        Ok(head.to_vec())
    }

    pub(crate) fn text(&mut self, field: Field) -> Result<String, FrameError> {
        String::from_utf8(self.bytes(field)?).map_err(|_| FrameError::Alphabet(field.name))
    }

    pub(crate) const fn end(self) -> Result<(), FrameError> {
        if self.left.is_empty() { Ok(()) } else { Err(FrameError::Trailing(self.left.len())) }
    }
}

/// Puts fields behind each other; the first error stands.
pub(crate) struct FieldWriter {
    out: Vec<u8>,
}

impl FieldWriter {
    pub(crate) const fn new(out: Vec<u8>) -> Self {
        Self { out }
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    pub(crate) fn bytes(&mut self, field: Field, bytes: &[u8]) -> Result<(), FrameError> {
        field.check(bytes)?;
        let size = u16::try_from(bytes.len()).map_err(|_| FrameError::Size(field.name))?;
        self.raw(&size.to_be_bytes());
        self.raw(bytes);
        Ok(())
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.out
    }
}

//! The envelope: `u32 BE length · u8 version · u8 verb · fields`, one frame each way on a connection.
//!
//! The length is checked before a byte of the body is stored. Nothing here waits by itself: deadlines are
//! the caller's (a process timer in the hook, a timeout in the daemon).

use std::fmt;
use std::io::{self, Read, Write};

use crate::{FrameError, Message};

/// Most bytes that may follow the length prefix: the largest key, and room for every other field.
pub const MAX_FRAME: usize = 72 * 1024;

/// The one version this build speaks.
pub const VERSION: u8 = 1;

/// Fewest bytes that may follow the length prefix: version and verb.
const MIN_FRAME: usize = 2;

/// A process above the sender, as `/proc/PID/stat` shows it. The pair names one process for the whole
/// uptime of the machine, which the pid alone does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Parent {
    /// Process id in the sender's pid namespace.
    pub pid: u32,
    /// Field 22 of `/proc/PID/stat`: start after boot, in clock ticks.
    pub start: u64,
}

/// Why no message came off a stream.
#[derive(Debug)]
pub enum ReadError {
    /// The other side closed the connection before a whole frame was there.
    Closed,
    /// The operating system refused the read.
    Io(io::Error),
    /// A frame came, and it is not one of ours.
    Frame(FrameError),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("connection closed before a whole frame was there"),
            Self::Io(error) => write!(f, "cannot read the frame: {error}"),
            Self::Frame(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ReadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Closed => None,
            Self::Io(error) => Some(error),
            Self::Frame(error) => Some(error),
        }
    }
}

impl From<FrameError> for ReadError {
    fn from(error: FrameError) -> Self {
        Self::Frame(error)
    }
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof { Self::Closed } else { Self::Io(error) }
    }
}

/// The number of bytes that follow this length prefix, for a server that reads by itself:
/// 4 bytes, then this many, then [`Message::decode`].
///
/// # Errors
/// [`FrameError::Length`] when it is below 2 or above [`MAX_FRAME`].
pub fn frame_len(prefix: [u8; 4]) -> Result<usize, FrameError> {
    let announced = u32::from_be_bytes(prefix);
    match usize::try_from(announced) {
        Ok(size) if (MIN_FRAME..=MAX_FRAME).contains(&size) => Ok(size),
        _ => Err(FrameError::Length(announced)),
    }
}

/// Reads exactly one frame and no byte more.
///
/// # Errors
/// [`ReadError`]; after one the stream is of no further use.
pub fn read_frame(from: &mut impl Read) -> Result<Message, ReadError> {
    let mut prefix = [0; 4];
    from.read_exact(&mut prefix)?;
    let mut body = vec![0; frame_len(prefix)?];
    from.read_exact(&mut body)?;
    Ok(Message::decode(&body)?)
}

/// Writes one frame in one piece.
///
/// # Errors
/// What the stream says; [`io::ErrorKind::InvalidInput`] around a [`FrameError`] when the message does
/// not fit the limits, in which case nothing was written.
pub fn write_frame(to: &mut impl Write, message: &Message) -> io::Result<()> {
    let bytes = message.encode().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    to.write_all(&bytes)?;
    to.flush()
}

//! The frames that the hook, the PAM helper, sessiond and the daemon exchange, and the one line that the hook may
//! print for sshd.
//!
//! Standard library only: this room is linked into programs that sshd and PAM start for unauthenticated
//! strangers. It must never allocate by a length it has not checked, never guess at what it cannot read,
//! and never let a byte from a certificate or a user name reach sshd outside the closed grammar of
//! [`mod@line`].

mod check;
mod field;
mod frame;
pub mod hammer;
pub mod line;
mod message;
mod prompt;
pub mod session;

pub use field::FrameError;
pub use frame::{MAX_FRAME, Parent, ReadError, VERSION, frame_len, read_frame, write_frame};
pub use message::{
    Account, Auth, MAX_KEY_BYTES, MAX_KEY_TYPE_BYTES, MAX_LINE_BYTES, MAX_PARENTS, MAX_RHOST_BYTES,
    MAX_SERVICE_BYTES, MAX_TEXT_BYTES, MAX_TTY_BYTES, MAX_USER_BYTES, MAX_WORD_BYTES, Message, NO_LOGINUID,
    Offer, UNSUPPORTED,
};
pub use prompt::{Prompt, PromptStage};

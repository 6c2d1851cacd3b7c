//! Live sessions as the daemon sees them: the questions to sessiond, and when each is judged again.
//!
//! sessiond owns the table and alone may end anything; here stands what is asked of it. This room never
//! decides whether somebody may stay: it says whose turn it is.

mod control;
mod due;

pub use control::{CONTROL_SOCKET, Control, ControlError};
pub use due::{Due, Turn, WARNINGS_S};

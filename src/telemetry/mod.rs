//! What the daemon says to the journal, and that saying it never delays a decision.
//!
//! Records go through a bounded queue to one thread that alone writes to the journal and to the
//! ring of decisions. When more come than a person can read, the rest is counted and the count
//! is said once a second. A secret has no `Display` and cannot get here.

mod journal;
mod observations;
mod recorder;
mod service_time;

pub use journal::{log_chain, start_logging};
pub use observations::{Counted, Observation, Observations};
pub use recorder::{AccessInput, Outcome, Record, Recorder, StepRecord, message_id};
pub use service_time::{SERVICE_TIMES_KEPT, ServiceTime, ServiceTimes};

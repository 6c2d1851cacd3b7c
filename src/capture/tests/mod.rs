//! Nothing of a person gets out, and what got out is enough for the readers.

mod canaries;
mod replay;
mod stand_in;

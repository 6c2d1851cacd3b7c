//! Files that outlive a crash: whole-file replacement and a capped ring of lines.
//!
//! No file is ever named by user input, and nothing is opened through a symlink.

mod replace;
mod ring;

pub use replace::{StoreError, check_folder, read_capped, replace_file};
pub use ring::Ring;

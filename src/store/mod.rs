//! Files that outlive a crash: whole-file replacement, a capped ring of lines, and one sealed file for
//! what must stay secret at rest. For what may not be in a file at all, the kernel's memory.
//!
//! No file is ever named by user input, and nothing is opened through a symlink.

mod disk;
mod folder;
mod keyring;
mod replace;
mod ring;
pub mod sealed;

pub use disk::{Created, Disk, RealDisk};
pub use folder::{FileStamp, Folder, Stamp, stamp, text};
pub use keyring::{Keyring, KeyringError};
pub use replace::{StoreError, check_folder, read_capped, read_through_links, replace_file};
pub use ring::Ring;

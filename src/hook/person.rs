//! Text for a person at a terminal. pam_exec passes our output to the client, in some phases byte by byte:
//! nothing that a terminal would obey may leave here.

/// Most lines that are shown.
pub const MAX_LINES: usize = 8;

/// Most bytes that are shown, prefixes and newlines included.
pub const MAX_BYTES: usize = 2 * 1024;

const PREFIX: &str = "nightlatch: ";

/// `text` line by line, each behind `nightlatch: `; every byte outside 0x20 to 0x7e becomes `?`, empty
/// lines and what is above the limits are left out. Ends with a newline unless it is empty.
#[must_use]
pub fn for_terminal(text: &str) -> String {
    let mut out = String::new();
    for line in text.split('\n').filter(|line| !line.is_empty()).take(MAX_LINES) {
        let room = MAX_BYTES.saturating_sub(out.len() + PREFIX.len() + 1);
        if room == 0 {
            break;
        }
        out.push_str(PREFIX);
        let harmless = |b: u8| if (0x20..=0x7e).contains(&b) { char::from(b) } else { '?' };
        out.extend(line.bytes().take(room).map(harmless));
        out.push('\n');
    }
    out
}

//! Blocks between two marks in a text that belongs to somebody else. What was put in can be taken
//! out to the byte, and whatever others wrote around it stays.

const BEGIN: &str = "# BEGIN nightlatch";
const END: &str = "# END nightlatch";
/// Said in the first mark when the text before it lacked its last newline.
const JOINED: &str = ", after a line without its end";
const EXPLANATION: &str = ": `nightlatch detach` removes these lines";

/// Lays `lines` (each with its newline) between the marks.
fn block(lines: &str, joined: bool) -> String {
    let note = if joined { JOINED } else { "" };
    format!("{BEGIN}{EXPLANATION}{note}\n{lines}{END}\n")
}

/// `text` with a block before byte `at`, which must be the start of a line.
pub(super) fn insert(text: &str, at: usize, lines: &str) -> String {
    let (before, after) = text.split_at_checked(at).unwrap_or((text, ""));
    format!("{before}{}{after}", block(lines, false))
}

/// `text` with a block at its end.
pub(super) fn append(text: &str, lines: &str) -> String {
    let joined = !text.is_empty() && !text.ends_with('\n');
    let newline = if joined { "\n" } else { "" };
    format!("{text}{newline}{}", block(lines, joined))
}

/// `text` without any block; `None` when a mark lacks its partner, so that nobody's line is lost.
pub(super) fn remove(text: &str) -> Option<String> {
    let mut kept = String::with_capacity(text.len());
    let mut inside = false;
    let mut joined = false;
    for line in text.split_inclusive('\n') {
        let bare = line.trim_end();
        if bare.starts_with(BEGIN) {
            if inside {
                return None;
            }
            inside = true;
            joined |= bare.ends_with(JOINED);
        } else if bare == END {
            if !inside {
                return None;
            }
            inside = false;
        } else if !inside {
            // Somebody wrote behind the block: the newline that we added is needed now.
            joined = false;
            kept.push_str(line);
        }
    }
    if joined && kept.ends_with('\n') {
        kept.pop();
    }
    (!inside).then_some(kept)
}

/// Whether a block stands in the text.
pub(super) fn has(text: &str) -> bool {
    text.lines().any(|line| line.starts_with(BEGIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_in_comes_out_to_the_byte() {
        for text in ["", "a\n", "a", "a\nb", "a\n\n", "\n"] {
            assert_eq!(remove(&append(text, "x\n")).unwrap(), text, "append to {text:?}");
            assert_eq!(remove(&insert(text, 0, "x\n")).unwrap(), text, "insert into {text:?}");
            let both = append(&insert(text, 0, "x\n"), "y\nz\n");
            assert!(has(&both) && !has(text));
            assert_eq!(remove(&both).unwrap(), text, "both in {text:?}");
        }
    }

    #[test]
    fn what_others_added_later_stays() {
        let text = format!("# theirs\n{}theirs too\n", append("a", "x\n"));
        assert_eq!(remove(&text).unwrap(), "# theirs\na\ntheirs too\n");
    }

    #[test]
    fn a_lost_mark_is_not_guessed() {
        let text = append("a\n", "x\n");
        assert_eq!(remove(&text.replace("# END nightlatch\n", "")), None);
        assert_eq!(remove(&text.replace(BEGIN, "# ")), None);
    }
}

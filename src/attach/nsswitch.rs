//! nsswitch.conf(5): our users are found through nss-systemd, and pam_unix asks for their shadow
//! entry, so `passwd`, `group` and `shadow` must name it. A line has no room for marks, so what a
//! line was is remembered.

use serde::{Deserialize, Serialize};

use super::refusal::Refusal;

/// Where it is.
pub const PATH: &str = "/etc/nsswitch.conf";
/// The databases through which a login looks.
pub const DATABASES: [&str; 3] = ["passwd", "group", "shadow"];
/// The service that reads our records.
pub const SERVICE: &str = "systemd";

/// A line that was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swap {
    /// `passwd`, `group` or `shadow`.
    pub database: String,
    /// The line as it was, without newline; `None` when there was none.
    pub was: Option<String>,
    /// The line as it is now.
    pub now: String,
    /// Whether the text lacked its last newline before ours was added.
    #[serde(default)]
    pub joined: bool,
}

/// The words of a database: services and `[…]` actions, comment cut.
#[must_use]
pub fn words<'a>(text: &'a str, database: &str) -> Option<Vec<&'a str>> {
    let line = text.lines().find(|line| is_of(line, database))?;
    let rest = line.split_once(':')?.1.split('#').next()?;
    let mut words = Vec::new();
    let mut rest = rest.trim_start();
    while !rest.is_empty() {
        let end = if rest.starts_with('[') {
            rest.find(']').map_or(rest.len(), |at| at.saturating_add(1))
        } else {
            rest.find(|c: char| c.is_whitespace() || c == '[').unwrap_or(rest.len())
        };
        let (word, tail) = rest.split_at_checked(end)?;
        words.push(word);
        rest = tail.trim_start();
    }
    Some(words)
}

fn is_of(line: &str, database: &str) -> bool {
    line.trim_start().strip_prefix(database).is_some_and(|rest| rest.trim_start().starts_with(':'))
}

/// Whether an action ends the search for a name that the service before it does not know.
#[must_use]
pub fn stops(action: &str) -> bool {
    let inside = action.trim_matches(['[', ']']).to_ascii_lowercase();
    inside.split_whitespace().any(|pair| matches!(pair, "notfound=return" | "!success=return"))
}

/// The text with `systemd` behind the local files, and what was changed.
///
/// # Errors
/// [`Refusal::NssStops`].
pub fn attach(text: &str) -> Result<(String, Vec<Swap>), Refusal> {
    let mut new = text.to_owned();
    let mut swaps = Vec::new();
    for database in DATABASES {
        let Some(words) = words(&new, database) else {
            let now = format!("{database}: files {SERVICE}");
            let joined = !new.is_empty() && !new.ends_with('\n');
            new = format!("{new}{}{now}\n", if joined { "\n" } else { "" });
            swaps.push(Swap { database: database.to_owned(), was: None, now, joined });
            continue;
        };
        if words.contains(&SERVICE) {
            continue;
        }
        let line = new.lines().find(|line| is_of(line, database)).unwrap_or_default().to_owned();
        let now = with_service(&line, &words).ok_or_else(|| Refusal::NssStops(line.clone()))?;
        new = replace_line(&new, &line, Some(&now));
        swaps.push(Swap { database: database.to_owned(), was: Some(line), now, joined: false });
    }
    Ok((new, swaps))
}

/// A line with our service behind `files` (and the action that belongs to it), else at its end.
fn with_service(line: &str, words: &[&str]) -> Option<String> {
    let local = words.iter().position(|word| matches!(*word, "files" | "compat"));
    let action = local.and_then(|at| words.get(at.saturating_add(1))).filter(|word| word.starts_with('['));
    if action.is_some_and(|action| stops(action)) {
        return None;
    }
    let anchor = match (action, local.and_then(|at| words.get(at))) {
        (Some(action), _) => action,
        (None, Some(word)) => word,
        (None, None) => words.last().unwrap_or(&":"),
    };
    let colon = line.find(':')?;
    let (name, rest) = line.split_at_checked(colon)?;
    let end = rest.find(anchor)?.checked_add(anchor.len())?;
    let (before, after) = rest.split_at_checked(end)?;
    Some(format!("{name}{before} {SERVICE}{after}"))
}

fn replace_line(text: &str, old: &str, new: Option<&str>) -> String {
    let mut done = false;
    let mut kept = String::with_capacity(text.len().saturating_add(16));
    for line in text.split_inclusive('\n') {
        let bare = line.strip_suffix('\n').unwrap_or(line);
        if done || bare != old {
            kept.push_str(line);
            continue;
        }
        done = true;
        if let Some(new) = new {
            kept.push_str(new);
            kept.push_str(line.strip_prefix(bare).unwrap_or(""));
        }
    }
    kept
}

/// The text as it would be without us. A line that others have changed since loses only our word.
#[must_use]
pub fn detach(text: &str, swaps: &[Swap]) -> String {
    let mut new = text.to_owned();
    for swap in swaps.iter().rev() {
        if new.lines().any(|line| line == swap.now) {
            new = replace_line(&new, &swap.now, swap.was.as_deref());
            if swap.joined && new.ends_with('\n') {
                new.pop();
            }
            continue;
        }
        let Some(line) = new.lines().find(|line| is_of(line, &swap.database)).map(str::to_owned) else {
            continue;
        };
        let without = line.replacen(&format!(" {SERVICE}"), "", 1);
        new = replace_line(&new, &line, Some(&without));
    }
    new
}

/// What must be remembered after one more attach: the older knowledge of a line that still stands.
#[must_use]
pub fn remember(text: &str, old: &[Swap], new: Vec<Swap>) -> Vec<Swap> {
    let standing = |swap: &&Swap| {
        words(text, &swap.database).is_some_and(|words| words.contains(&SERVICE))
            && !new.iter().any(|newer| newer.database == swap.database)
    };
    let mut all: Vec<Swap> = old.iter().filter(standing).cloned().collect();
    all.extend(new);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIAN: &str = "# x\npasswd:         files systemd\ngroup:          files\nshadow:         files # local\n\nhosts: files dns\n";

    #[test]
    fn each_database_gets_it_once() {
        let (text, swaps) = attach(DEBIAN).unwrap();
        assert!(text.contains("group:          files systemd\nshadow:         files systemd # local\n"));
        assert_eq!(swaps.len(), 2);
        let (again, none) = attach(&text).unwrap();
        assert_eq!((again.as_str(), none.len()), (text.as_str(), 0));
        let kept = remember(&text, &swaps, none);
        assert_eq!(detach(&text, &kept), DEBIAN);
    }

    #[test]
    fn other_shapes_keep_their_meaning() {
        for (was, now) in [
            ("passwd: files sss", "passwd: files systemd sss"),
            ("passwd: files [SUCCESS=merge] sss", "passwd: files [SUCCESS=merge] systemd sss"),
            ("passwd:files", "passwd:files systemd"),
            ("passwd: compat", "passwd: compat systemd"),
            ("passwd: sss", "passwd: sss systemd"),
        ] {
            let (text, swaps) = attach(was).unwrap();
            assert_eq!(text.lines().next(), Some(now));
            assert_eq!(detach(&text, &swaps), was);
        }
        assert!(matches!(attach("passwd: files [NOTFOUND=return] nis\n"), Err(Refusal::NssStops(_))));
    }

    #[test]
    fn lines_that_others_changed_lose_only_our_word() {
        let (text, swaps) = attach("passwd: files\ngroup: files\nshadow: files\n").unwrap();
        let changed = text
            .replace("group: files systemd", "group: files systemd sss")
            .replace("shadow: files systemd\n", "");
        assert_eq!(detach(&changed, &swaps), "passwd: files\ngroup: files sss\n");
    }

    #[test]
    fn words_are_split_as_glibc_splits_them() {
        let text = "passwd:\tfiles[SUCCESS=merge]systemd [ !UNAVAIL=return ]  dns # no\n";
        assert_eq!(
            words(text, "passwd").unwrap(),
            ["files", "[SUCCESS=merge]", "systemd", "[ !UNAVAIL=return ]", "dns"]
        );
        assert!(words(text, "pass").is_none());
        assert!(stops("[NOTFOUND=return]") && !stops("[SUCCESS=merge]"));
    }
}

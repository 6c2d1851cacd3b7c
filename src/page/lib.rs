//! A file of rules at hand: reading it, and saying where in it something is wrong and what to write instead.
//!
//! What the rules mean is their reader's. Text of the file that is quoted comes out printable and short.

use std::fmt;

use serde::de::DeserializeOwned;
use thiserror::Error;
use toml::Spanned;

/// The largest file of rules, in bytes.
pub const MAX_POLICY_FILE_BYTES: usize = 256 * 1024;
/// The most files of rules in one folder.
pub const MAX_POLICY_FILES: usize = 64;
/// The most rules in all files together.
pub const MAX_RULES: usize = 1_000;
/// The most entries in one list of a rule.
pub const MAX_LIST: usize = 256;
/// The longest word in a list, in bytes.
pub const MAX_WORD_BYTES: usize = 256;
/// The longest name of a rule, in bytes.
const MAX_RULE_NAME_BYTES: usize = 64;
/// The longest quotation, in characters.
const MAX_QUOTED: usize = 300;

/// Why the rules were refused. Nothing of them is used then; those before stay.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{file}`, line {line}: {problem}; {hint}")]
pub struct PolicyError {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong.
    pub problem: String,
    /// What to write instead.
    pub hint: String,
}

/// Something that works, and is likely not meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The rule.
    pub rule: String,
    /// What is doubtful, and what to write instead.
    pub text: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`, line {}: rule `{}`: {}", self.file, self.line, self.rule, self.text)
    }
}

/// A list of words, each with its place.
pub type Words = Spanned<Vec<Spanned<String>>>;

/// A file at hand.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// Its name.
    pub file: &'a str,
    /// Its text.
    pub text: &'a str,
}

impl Page<'_> {
    /// The line of byte `at`, from 1.
    #[must_use]
    pub fn line(&self, at: usize) -> usize {
        let before = self.text.as_bytes().get(..at.min(self.text.len())).unwrap_or_default();
        before.iter().filter(|byte| **byte == b'\n').count().saturating_add(1)
    }

    /// An error at byte `at`.
    pub fn error(&self, at: usize, problem: impl Into<String>, hint: impl Into<String>) -> PolicyError {
        PolicyError {
            file: printable(self.file),
            line: self.line(at),
            problem: printable(&problem.into()),
            hint: printable(&hint.into()),
        }
    }

    /// A warning about `rule` at byte `at`.
    pub fn warning(&self, at: usize, rule: &str, text: impl Into<String>) -> Warning {
        Warning { file: printable(self.file), line: self.line(at), rule: rule.to_owned(), text: text.into() }
    }

    /// The rules of the file, of which there must be one: emptied by a full disk, or read between two writes, a file must
    /// not mean that nothing is demanded or denied.
    ///
    /// # Errors
    /// There is none.
    pub fn some_rules<T>(&self, rules: Vec<T>) -> Result<Vec<T>, PolicyError> {
        if rules.is_empty() {
            let hint = "write a `[[rule]]` into it, or remove the file";
            return Err(self.error(0, "the file holds no rule", hint));
        }
        Ok(rules)
    }

    /// Reads the file. `form` says what it should look like.
    ///
    /// # Errors
    /// It is too large, no TOML, or has a key that is not known: a misspelt limit would be no limit.
    pub fn read<T: DeserializeOwned>(&self, form: &str) -> Result<T, PolicyError> {
        if self.text.len() > MAX_POLICY_FILE_BYTES {
            let problem = format!("the file has more than {MAX_POLICY_FILE_BYTES} bytes");
            return Err(self.error(0, problem, "spread the rules over several files"));
        }
        toml::from_str(self.text).map_err(|cause| {
            let at = cause.span().map_or(0, |span| span.start);
            let (problem, hint) = in_plain_words(cause.message(), form);
            self.error(at, problem, hint)
        })
    }

    /// The name of a rule, checked. `taken` are names that mean something else.
    ///
    /// # Errors
    /// It is no plain name, or taken.
    pub fn rule_name<'n>(&self, name: &'n Spanned<String>, taken: &[&str]) -> Result<&'n str, PolicyError> {
        let (at, text) = (name.span().start, name.get_ref().as_str());
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if text.is_empty() || text.len() > MAX_RULE_NAME_BYTES || !text.bytes().all(plain) {
            let hint = format!("write 1 to {MAX_RULE_NAME_BYTES} letters, digits, `-`, `_` and `.`");
            return Err(self.error(at, "the name of the rule is not a plain name", hint));
        }
        if taken.contains(&text) {
            return Err(self.error(at, format!("`{text}` is the name of a built-in rule"), "take another"));
        }
        Ok(text)
    }

    /// A list that has something in it and not too much.
    ///
    /// # Errors
    /// It has nothing or too much.
    pub fn length(&self, at: usize, len: usize) -> Result<(), PolicyError> {
        if len == 0 {
            let hint = "leave the key out, or name something";
            return Err(self.error(at, "an empty list matches nothing", hint));
        }
        if len > MAX_LIST {
            let problem = format!("a list of more than {MAX_LIST}");
            return Err(self.error(at, problem, "spread it over several rules"));
        }
        Ok(())
    }

    /// One printable word.
    ///
    /// # Errors
    /// It is empty, too long or has a space in it.
    pub fn word<'w>(&self, word: &'w Spanned<String>) -> Result<&'w str, PolicyError> {
        let text = word.get_ref();
        if text.is_empty() || text.len() > MAX_WORD_BYTES || !text.bytes().all(|b| b.is_ascii_graphic()) {
            let hint = format!("write 1 to {MAX_WORD_BYTES} printable characters without a space");
            return Err(self.error(word.span().start, "this entry of the list is not a plain name", hint));
        }
        Ok(text)
    }

    /// A checked list; `form` gives the kept form, or what is expected instead.
    ///
    /// # Errors
    /// The first word that is not accepted.
    pub fn words<T>(
        &self,
        list: &Words,
        form: impl Fn(&str) -> Result<T, &'static str>,
    ) -> Result<Vec<T>, PolicyError> {
        self.length(list.span().start, list.get_ref().len())?;
        let one = |word: &Spanned<String>| {
            let text = self.word(word)?;
            form(text)
                .map_err(|hint| self.error(word.span().start, format!("`{text}` is not accepted here"), hint))
        };
        list.get_ref().iter().map(one).collect()
    }
}

/// What the parser says, without the words of programmers, and what to write instead.
fn in_plain_words<'h>(message: &str, form: &'h str) -> (String, &'h str) {
    let starts = |word| message.starts_with(word);
    let same = |hint| (message.to_owned(), hint);
    if starts("unknown field") {
        return same("a key that is not known is refused, because a misspelt limit would be no limit");
    }
    if starts("unknown variant") {
        return same("write one of these words, in quotes and in small letters");
    }
    if starts("wanted string or table") {
        return ("one word is expected".to_owned(), "write it in quotes and without brackets");
    }
    if starts("duplicate key") {
        return same("a key can stand only once in a table");
    }
    let wrong = ["invalid type", "invalid length", "invalid value"].into_iter().any(starts);
    let Some((found, wanted)) = message.split_once(", expected ").filter(|_| wrong) else {
        let readable = wrong || starts("missing field");
        return same(if readable {
            form
        } else {
            "this is no TOML: is a quote, a bracket or a `=` missing?"
        });
    };
    let plain = found.replace("sequence", "list").replace("map", "table");
    match wanted {
        "a string" => (format!("{plain}, expected text"), "write it in quotes"),
        "a boolean" => (message.to_owned(), "write `true` or `false`, without quotes"),
        "a sequence" if found.ends_with("map") => (format!("{plain}, expected a list"), form),
        "a sequence" => (format!("{plain}, expected a list"), "write a list: `[\"...\"]`"),
        _ if wanted == "a map" || wanted.starts_with("struct ") => {
            (format!("{plain}, expected a table"), "write a table: `{ ... }`")
        }
        _ => same(form),
    }
}

/// One line of printable text: what a parser quotes may hold anything.
#[must_use]
pub fn printable(text: &str) -> String {
    text.trim()
        .chars()
        .map(|c| if c == '\n' { ' ' } else { c })
        .flat_map(|c| {
            let plain = c == ' ' || c.is_ascii_graphic();
            plain.then_some(c).into_iter().chain((!plain).then(|| c.escape_default()).into_iter().flatten())
        })
        .take(MAX_QUOTED)
        .collect()
}

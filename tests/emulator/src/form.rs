//! Reading `application/x-www-form-urlencoded` bodies and query strings, and writing query values.
//! It never fails: a broken escape is kept as it stands, since a server sees what the client sent.

/// Names and values in the order they came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fields(Vec<(String, String)>);

impl Fields {
    /// Split a query string or a form body.
    pub(crate) fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|part| !part.is_empty());
        Self(
            pairs
                .map(|part| {
                    let (name, value) = part.split_once('=').unwrap_or((part, ""));
                    (decode(name), decode(value))
                })
                .collect(),
        )
    }

    /// The first value of `name`; names compare without case, as ARM's `$Filter` and `$filter` do.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(have, _)| have.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// As [`Self::get`], with empty for absent.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or("")
    }

    /// Every pair, for the request log.
    pub(crate) fn pairs(&self) -> &[(String, String)] {
        &self.0
    }
}

/// Undo percent escapes and `+`.
pub(crate) fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        match (first, after) {
            (b'%', [high, low, tail @ ..]) => match (hex_value(*high), hex_value(*low)) {
                (Some(high), Some(low)) => {
                    out.push(high * 16 + low);
                    rest = tail;
                }
                _ => {
                    out.push(b'%');
                    rest = after;
                }
            },
            (b'+', _) => {
                out.push(b' ');
                rest = after;
            }
            _ => {
                out.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Escape everything that is not unreserved (RFC 3986 §2.3).
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn hex_value(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_and_plus_are_undone() {
        let fields = Fields::parse("scope=a%2Fb+c&empty=&bad=%zz&Last");
        assert_eq!(fields.get("SCOPE"), Some("a/b c"));
        assert_eq!(fields.get("empty"), Some(""));
        assert_eq!(fields.get("bad"), Some("%zz"));
        assert_eq!(fields.get("last"), Some(""));
        assert_eq!(fields.get("none"), None);
        assert_eq!(decode(&encode("https://x/y?z=1&ä")), "https://x/y?z=1&ä");
    }
}

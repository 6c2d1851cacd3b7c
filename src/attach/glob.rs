//! Patterns of `*`, `?` and `!` as sshd_config(5) and glob(3) use them.

/// Whether `text` fits `pattern`, where `*` is any run of characters and `?` any one of them.
#[must_use]
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0_usize, 0_usize);
    // Where to go on when the last star takes one character more.
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match (pattern.get(p), text.get(t)) {
            (Some(b'*'), _) => {
                retry = Some((p, t));
                p = p.saturating_add(1);
            }
            (Some(b'?'), _) => (p, t) = (p.saturating_add(1), t.saturating_add(1)),
            (Some(a), Some(b)) if a == b => (p, t) = (p.saturating_add(1), t.saturating_add(1)),
            _ => match retry {
                Some((star, from)) => {
                    let next = from.saturating_add(1);
                    retry = Some((star, next));
                    (p, t) = (star.saturating_add(1), next);
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|b| *b == b'*'))
}

/// Whether a pattern of AllowUsers or DenyUsers fits the name. sshd takes what follows the *last* `@`
/// for a host (openssh match.c, match_user), so `*@contoso.com` is anybody from that host.
#[must_use]
pub fn user_matches(pattern: &str, user: &str) -> bool {
    match pattern.rsplit_once('@') {
        None => matches(pattern, user),
        Some((name, host)) => matches(name, user) && matches(host, "192.0.2.1"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks() {
        for (pattern, text, fits) in [
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abcd", false),
            ("*@*", "alice@contoso.com", true),
            ("??", "a", false),
            ("/etc/ssh/sshd_config.d/*.conf", "/etc/ssh/sshd_config.d/50-nightlatch.conf", true),
            ("*a*b", "xaxbxb", true),
            ("", "", true),
        ] {
            assert_eq!(matches(pattern, text), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn what_follows_the_last_at_is_a_host() {
        assert!(!user_matches("*@contoso.com", "alice@contoso.com"));
        assert!(user_matches("*@contoso.com@*", "alice@contoso.com"));
        assert!(user_matches("*", "alice@contoso.com"));
        assert!(user_matches("*@*", "alice@contoso.com"));
        assert!(!user_matches("azureuser", "alice@contoso.com"));
    }
}

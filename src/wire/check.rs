//! The second opinion on a line for sshd: a walk over finished bytes, written apart from the printer in
//! [`mod@crate::line`] and sharing neither code nor constants with it, so that one mistake there is not
//! repeated here. It must never accept a line that it has not read to the last byte.

/// Whether `line` is exactly one line of the closed grammar of [`mod@crate::line`], without a newline.
#[must_use]
pub fn is_admit_line(line: &[u8]) -> bool {
    walk(line).is_some()
}

fn walk(line: &[u8]) -> Option<()> {
    let mut rest = line.strip_prefix(b"restrict,pty,")?;
    // Each of these at most once, in this order.
    for optional in [&b"port-forwarding,"[..], b"agent-forwarding,", b"X11-forwarding,"] {
        rest = rest.strip_prefix(optional).unwrap_or(rest);
    }
    rest = rest.strip_prefix(b"cert-authority,principals=\"")?;
    let (principal, rest) = until(rest, b'"', 128)?;
    if principal.is_empty() || !principal.iter().all(|b| is_name_byte(*b)) {
        return None;
    }
    let rest = rest.strip_prefix(b",expiry-time=\"")?;
    let (end, rest) = until(rest, b'"', 15)?;
    is_date(end).then_some(())?;
    let rest = rest.strip_prefix(b" ")?;
    let (kind, key) = until(rest, b' ', 19)?;
    match kind {
        b"ssh-rsa" | b"ssh-ed25519" | b"ecdsa-sha2-nistp256" | b"ecdsa-sha2-nistp384" => {}
        _ => return None,
    }
    is_base64(key).then_some(())
}

/// Splits at the first `stop`, which must come after at most `limit` bytes.
fn until(bytes: &[u8], stop: u8, limit: usize) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().take(limit + 1).position(|b| *b == stop)?;
    let (head, tail) = bytes.split_at_checked(at)?;
    Some((head, tail.split_first()?.1))
}

const fn is_name_byte(byte: u8) -> bool {
    matches!(byte, b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'+' | b'@' | b'-')
}

fn is_date(text: &[u8]) -> bool {
    let digits = match text {
        [digits @ .., b'Z'] => digits,
        digits => digits,
    };
    let &[y1, y2, y3, y4, mo1, mo2, d1, d2, h1, h2, mi1, mi2, s1, s2] = digits else {
        return false;
    };
    if !digits.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let pair = |tens: u8, ones: u8| u32::from(tens - b'0') * 10 + u32::from(ones - b'0');
    let (year, month, day) = (pair(y1, y2) * 100 + pair(y3, y4), pair(mo1, mo2), pair(d1, d2));
    let days = match (month, year % 400, year % 100, year % 4) {
        (1 | 3 | 5 | 7 | 8 | 10 | 12, ..) => 31,
        (4 | 6 | 9 | 11, ..) => 30,
        (2, 0, _, _) => 29,
        (2, _, 0, _) => 28,
        (2, _, _, 0) => 29,
        (2, ..) => 28,
        _ => return false,
    };
    year >= 1970
        && day >= 1
        && day <= days
        && pair(h1, h2) <= 23
        && pair(mi1, mi2) <= 59
        && pair(s1, s2) <= 59
}

/// Whole groups of four; padding and zero spare bits in the last group only.
fn is_base64(text: &[u8]) -> bool {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    if text.is_empty() || text.len() > 8192 {
        return false;
    }
    let (groups, odd) = text.as_chunks::<4>();
    let Some((last, full)) = groups.split_last() else {
        return false;
    };
    let known = |b: &u8| ALPHABET.contains(b);
    // With one byte in the last group the second letter carries 4 spare bits, with two the third carries 2.
    let last_is_sound = match last {
        [a, b, b'=', b'='] => known(a) && b"AQgw".contains(b),
        [a, b, c, b'='] => known(a) && known(b) && b"AEIMQUYcgkosw048".contains(c),
        group => group.iter().all(known),
    };
    odd.is_empty() && last_is_sound && full.iter().flatten().all(known)
}

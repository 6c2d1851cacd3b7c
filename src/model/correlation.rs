//! Correlation ids: what a person reads out over the phone and an operator pastes into `explain`.

/// Ten characters without look-alikes from eight random bytes: 50 bits, plenty for one node.
#[must_use]
pub fn correlation_id(random: [u8; 8]) -> String {
    const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let bits = u64::from_be_bytes(random);
    (0..10)
        .map(|at| {
            let index = usize::try_from((bits >> (at * 5)) & 31).unwrap_or(0);
            char::from(ALPHABET.get(index).copied().unwrap_or(b'0'))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_plain_and_differ() {
        assert_eq!(correlation_id([0; 8]), "0000000000");
        assert_ne!(correlation_id([1; 8]), correlation_id([2; 8]));
        assert!(correlation_id([0xff; 8]).bytes().all(|b| b.is_ascii_alphanumeric()));
    }
}

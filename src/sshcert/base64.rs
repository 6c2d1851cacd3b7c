//! Standard base64 with padding (RFC 4648 §4), one spelling per value: no blanks, no line breaks,
//! no missing padding, no stray bits under the padding.

use crate::error::CertError;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// No character of the alphabet.
const NONE: u8 = 0xff;

const VALUES: [u8; 256] = {
    let mut values = [NONE; 256];
    let mut at = 0;
    while at < ALPHABET.len() {
        // Indexing by constants, checked by the compiler.
        #[allow(clippy::indexing_slicing)]
        {
            values[ALPHABET[at] as usize] = at as u8;
        }
        at += 1;
    }
    values
};

/// Decodes at most `max` bytes.
///
/// # Errors
/// [`CertError::TooLarge`] before anything is decoded, else [`CertError::Base64`].
pub(crate) fn decode(text: &[u8], max: usize) -> Result<Vec<u8>, CertError> {
    if text.len() / 4 * 3 > max.saturating_add(2) {
        return Err(CertError::TooLarge);
    }
    let (quads, rest) = text.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(CertError::Base64);
    }
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let Some((last, body)) = quads.split_last() else { return Ok(out) };
    for quad in body {
        out.extend_from_slice(&sextets(*quad)?);
    }
    match *last {
        [a, b, b'=', b'='] => match sextets([a, b, b'A', b'A'])? {
            [first, 0, 0] => out.push(first),
            _ => return Err(CertError::Base64),
        },
        [a, b, c, b'='] => match sextets([a, b, c, b'A'])? {
            [first, second, 0] => out.extend_from_slice(&[first, second]),
            _ => return Err(CertError::Base64),
        },
        quad => out.extend_from_slice(&sextets(quad)?),
    }
    if out.len() > max { Err(CertError::TooLarge) } else { Ok(out) }
}

fn sextets(quad: [u8; 4]) -> Result<[u8; 3], CertError> {
    let value = |byte: u8| VALUES.get(usize::from(byte)).copied().unwrap_or(NONE);
    let [a, b, c, d] = quad.map(value);
    // NONE is the only value with the top bit set.
    if (a | b | c | d) & 0x80 != 0 {
        return Err(CertError::Base64);
    }
    Ok([a << 2 | b >> 4, b << 4 | c >> 2, c << 6 | d])
}

/// Encodes with padding.
pub(crate) fn encode(bytes: &[u8]) -> String {
    let letter = |value: u32| char::from(ALPHABET.get((value & 63) as usize).copied().unwrap_or(b'='));
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| chunk.get(at).copied().map_or(0, u32::from);
        let word = byte(0) << 16 | byte(1) << 8 | byte(2);
        out.push(letter(word >> 18));
        out.push(letter(word >> 12));
        out.push(if chunk.len() > 1 { letter(word >> 6) } else { '=' });
        out.push(if chunk.len() > 2 { letter(word) } else { '=' });
    }
    out
}

#[cfg(test)]
mod tests {
    use ::base64::Engine as _;
    use ::base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn second_spellings_are_refused() {
        assert_eq!(decode(b"", 9), Ok(vec![]));
        assert_eq!(decode(b"/+8=", 9), Ok(vec![0xff, 0xef]));
        for wrong in [
            "=",
            "====",
            "AA",
            "AA=",
            "AAA",
            "A===",
            "AB==",
            "AAB=",
            "AA==AAAA",
            "AA=A",
            "-_8=",
            "AAA A",
            "AAA\n",
            "AAAA\n",
            "AAAA ",
            "\u{ff21}A",
        ] {
            assert_eq!(decode(wrong.as_bytes(), 99), Err(CertError::Base64), "{wrong:?}");
        }
    }

    #[test]
    fn the_limit_counts_decoded_bytes() {
        assert!(decode(encode(&[7; 10]).as_bytes(), 10).is_ok());
        assert_eq!(decode(encode(&[7; 11]).as_bytes(), 10), Err(CertError::TooLarge));
        assert_eq!(decode(&[b'!'; 4000], 10), Err(CertError::TooLarge));
    }

    proptest! {
        #[test]
        fn agrees_with_another_encoder(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let text = encode(&bytes);
            prop_assert_eq!(&text, &STANDARD.encode(&bytes));
            prop_assert_eq!(decode(text.as_bytes(), 200), Ok(bytes));
        }

        #[test]
        fn agrees_with_another_decoder(text in "[A-Da-d0-2+/=_ -]{0,24}") {
            prop_assert_eq!(decode(text.as_bytes(), 99).ok(), STANDARD.decode(&text).ok());
        }
    }
}

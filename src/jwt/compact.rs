//! The compact form: three parts between two dots (RFC 7515 §3.1).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::limits::MAX_TOKEN_BYTES;
use crate::refusal::Refusal;

/// A token taken apart; nothing of it is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Compact<'a> {
    /// What is signed: header and payload as they came.
    pub(crate) signed: &'a str,
    /// The header's bytes.
    pub(crate) header: Vec<u8>,
    /// The payload's bytes.
    pub(crate) payload: Vec<u8>,
    /// The signature as it came.
    pub(crate) signature: &'a str,
}

impl<'a> Compact<'a> {
    /// Takes a token apart.
    pub(crate) fn parse(token: &'a str) -> Result<Self, Refusal> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Refusal::TooLarge);
        }
        let mut parts = token.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Refusal::NotCompact);
        };
        let signed = token.get(..header.len() + 1 + payload.len()).ok_or(Refusal::NotCompact)?;
        decode(signature)?;
        Ok(Self { signed, header: decode(header)?, payload: decode(payload)?, signature })
    }
}

/// base64url without padding, in the one spelling.
pub(crate) fn decode(part: &str) -> Result<Vec<u8>, Refusal> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Refusal::Base64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_one_spelling_of_three_parts_is_taken() {
        let good = Compact::parse("e30.e30.AA").unwrap();
        assert_eq!((good.signed, good.signature), ("e30.e30", "AA"));
        assert_eq!((&good.header[..], &good.payload[..]), (&b"{}"[..], &b"{}"[..]));
        for wrong in ["", "e30", "e30.e30", "e30.e30.AA.AA", "e30.e30.AA.", "{\"payload\":\"\"}"] {
            assert_eq!(Compact::parse(wrong), Err(Refusal::NotCompact), "{wrong}");
        }
        for wrong in ["e30=.e30.AA", "e30.e3 0.AA", "e30.e30.AB", "e30.e30.A", "e30.e30.A+A_", "e30\n.e30.AA"]
        {
            assert_eq!(Compact::parse(wrong), Err(Refusal::Base64), "{wrong}");
        }
        assert_eq!(Compact::parse(&".".repeat(MAX_TOKEN_BYTES + 1)), Err(Refusal::TooLarge));
        assert_eq!(Compact::parse(&".".repeat(MAX_TOKEN_BYTES)), Err(Refusal::NotCompact));
    }
}

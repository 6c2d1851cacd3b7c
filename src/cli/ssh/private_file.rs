//! The file of a private key as ssh-keygen writes it (PROTOCOL.key), for one key without a passphrase.
//!
//! It is this form and no other, since ssh reads the public half in it without opening the private one, and pairs it with its
//! certificate. OpenSSH 10.3 ends in a fault when it signs for a certificate with an RSA key of the form PKCS#8.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nightlatch_model::Secret;
use zeroize::Zeroizing;

/// How the file begins.
const MAGIC: &[u8] = b"openssh-key-v1\0";
const BEGIN: &str = "-----BEGIN OPENSSH PRIVATE KEY-----\n";
const END: &str = "-----END OPENSSH PRIVATE KEY-----\n";
/// The line length of an armoured key file, in characters (RFC 7468 §2).
const LINE: usize = 64;
/// Cipher, key derivation and its options, of a file without a passphrase.
const PLAIN: [&[u8]; 3] = [b"none", b"none", b""];
/// What the private part is a multiple of, in bytes.
const BLOCK: usize = 8;

/// The file; `public` is the key's SSH public key, `private` its type and numbers, `check` any number.
pub(super) fn write(public: &[u8], private: &[u8], check: u32, comment: &str) -> Secret {
    let mut inner = Zeroizing::new([check.to_be_bytes(), check.to_be_bytes()].concat());
    inner.extend_from_slice(private);
    inner.extend(string(comment.as_bytes()));
    let padding = (1_u8..).take((BLOCK - inner.len() % BLOCK) % BLOCK);
    inner.extend(padding);
    let mut file = Zeroizing::new(MAGIC.to_vec());
    for part in PLAIN {
        file.extend(string(part));
    }
    file.extend(1_u32.to_be_bytes());
    file.extend(string(public));
    file.extend(string(&inner));
    let text = Zeroizing::new(STANDARD.encode(&*file));
    let mut armoured = String::from(BEGIN);
    for line in text.as_bytes().chunks(LINE).filter_map(|line| str::from_utf8(line).ok()) {
        armoured.push_str(line);
        armoured.push('\n');
    }
    armoured.push_str(END);
    Secret::new(armoured)
}

/// The key's SSH public key, and what [`write`] was given as `private` with comment and padding behind it; `None` for any
/// other file.
pub(super) fn read(file: &Secret) -> Option<(Vec<u8>, Zeroizing<Vec<u8>>)> {
    let bytes = bytes(file)?;
    let (plain, public, inner) = parts(&bytes)?;
    plain.then_some(())?;
    let (first, rest) = inner.split_first_chunk::<4>()?;
    let (second, rest) = rest.split_first_chunk::<4>()?;
    (first == second).then(|| (public.to_vec(), Zeroizing::new(rest.to_vec())))
}

/// The SSH public key in a file, also in one that its owner has put a passphrase on.
pub(super) fn public(file: &Secret) -> Option<Vec<u8>> {
    let bytes = bytes(file)?;
    parts(&bytes).map(|(_, public, _)| public.to_vec())
}

fn bytes(file: &Secret) -> Option<Zeroizing<Vec<u8>>> {
    let (body, _) = file.expose().strip_prefix(BEGIN)?.split_once(END.trim_end())?;
    let body = Zeroizing::new(body.replace('\n', ""));
    STANDARD.decode(body.as_bytes()).ok().map(Zeroizing::new)
}

/// Whether it is without a passphrase, the public half, and the private one.
fn parts(bytes: &[u8]) -> Option<(bool, &[u8], &[u8])> {
    let mut rest = bytes.strip_prefix(MAGIC)?;
    let mut plain = true;
    for expected in PLAIN {
        plain &= take(&mut rest)? == expected;
    }
    rest = rest.strip_prefix(&1_u32.to_be_bytes())?;
    Some((plain, take(&mut rest)?, take(&mut rest)?))
}

/// The next string of RFC 4251 §5.
pub(super) fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, tail) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (string, tail) = tail.split_at_checked(length)?;
    *rest = tail;
    Some(string)
}

/// A string of RFC 4251 §5. What is written here is some kilobytes.
pub(super) fn string(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], bytes].concat()
}

//! The mutations, field by field. A mutation that this crate refuses on purpose, although
//! ssh-keygen takes it, leaves its mark; the others must be judged alike by both.

use nightlatch_sshcert::testing::{CertificateBuilder, TestKey, mpint, string, strings};

use crate::generate::{Case, modulus, text_of};
use crate::random::Random;
use crate::refusals::Refusal;

pub(crate) fn holder(random: &mut Random, builder: &mut CertificateBuilder, marks: &mut Vec<Refusal>) {
    let e = mpint(&[1, 0, 1]);
    let n = modulus(random, 2048);
    let mut rsa = |marks: &mut Vec<Refusal>, numbers: Vec<u8>, mark: Option<Refusal>| {
        builder.cert_type = b"ssh-rsa-cert-v01@openssh.com".to_vec();
        builder.numbers = numbers;
        marks.extend(mark);
    };
    match random.below(12) {
        0 => rsa(marks, [e, string(&[&[0, 0], &n[..]].concat())].concat(), Some(Refusal::Mpint)),
        1 => rsa(marks, [string(&[0, 1, 0, 1]), mpint(&n)].concat(), Some(Refusal::Mpint)),
        2 => rsa(marks, [e, string(&n)].concat(), None),
        3 => rsa(marks, [e, string(&[])].concat(), None),
        4 => {
            let bits = random.pick(&[1024, 1536, 2040, 2047, 8193, 9000, 16384]);
            rsa(marks, [e, mpint(&modulus(random, bits))].concat(), Some(Refusal::RsaSize));
        }
        5 => rsa(marks, [e, mpint(&modulus(random, 512))].concat(), None),
        6 => {
            let mut even = n;
            *even.last_mut().unwrap() &= 0xfe;
            rsa(marks, [e, mpint(&even)].concat(), Some(Refusal::RsaNumbers));
        }
        7 => {
            let e = random.pick(&[&[][..], &[1], &[2], &[2, 0, 0, 0, 1], &[5; 9]]).to_vec();
            rsa(marks, [mpint(&e), mpint(&n)].concat(), Some(Refusal::RsaNumbers));
        }
        8 => {
            builder.cert_type = b"ssh-ed25519-cert-v01@openssh.com".to_vec();
            let length = random.pick(&[0, 31, 32, 33]);
            builder.numbers = string(&random.bytes(length));
        }
        9 => {
            let key = TestKey::ecdsa("nistp521");
            builder.cert_type = b"ecdsa-sha2-nistp521-cert-v01@openssh.com".to_vec();
            builder.numbers = key.numbers();
            marks.push(Refusal::KeyType);
        }
        10 => {
            builder.cert_type = b"sk-ssh-ed25519-cert-v01@openssh.com".to_vec();
            builder.numbers = strings([&random.bytes(32)[..], b"ssh:"]);
            marks.push(Refusal::KeyType);
        }
        _ => {
            let key = TestKey::p256().numbers();
            let (head, point) = key.split_at(4 + 8 + 4);
            let mut wrong = point.to_vec();
            builder.cert_type = b"ecdsa-sha2-nistp256-cert-v01@openssh.com".to_vec();
            builder.numbers = match random.below(5) {
                0 => strings([b"nistp384", point]),
                1 => strings([&b"nistp256"[..], &[&[2 | point[64] & 1], &point[1..33]].concat()]),
                2 => strings([&b"nistp256"[..], &[0]]),
                3 => strings([&b"nistp256"[..], &point[..64]]),
                _ => {
                    wrong[64] ^= 1;
                    [head, &wrong].concat()
                }
            };
        }
    }
}

pub(crate) fn names(random: &mut Random, builder: &mut CertificateBuilder, marks: &mut Vec<Refusal>) {
    let refused: &[&[u8]] = &[
        b"deploy,root",
        b"root,",
        b",root",
        b"root\0",
        b"\0",
        b"",
        b"a b",
        b"a\"b",
        b"a\\b",
        b"a\x1b[2J",
        b"\xc3\xa4",
        b"a\nb",
        &[b'a'; 257],
    ];
    match random.below(5) {
        0 | 1 => {
            builder.principals.extend(string(random.pick(refused)));
            marks.push(Refusal::Principal);
        }
        2 => builder.principals.extend(string(b"root\0x")),
        3 => builder.principals = (0..257 + random.below(9)).flat_map(|_| string(b"n")).collect(),
        _ => {
            let broken: &[&[u8]] = &[&[0, 0, 0], &[0, 0, 0, 2, b'a'], &[0xff, 0xff, 0xff, 0xff], b"alice"];
            builder.principals.extend_from_slice(random.pick(broken));
        }
    }
}

pub(crate) fn texts(random: &mut Random, builder: &mut CertificateBuilder, marks: &mut Vec<Refusal>) {
    match random.below(4) {
        0 => builder.key_id = b"inner\0nul".to_vec(),
        1 => {
            builder.key_id.push(0);
            marks.push(Refusal::KeyId);
        }
        2 => {
            builder.key_id = vec![b'k'; 1025 + random.below(5000)];
            marks.push(Refusal::KeyId);
        }
        _ => builder.key_id = b"two\nlines".to_vec(),
    }
}

pub(crate) fn options(random: &mut Random, builder: &mut CertificateBuilder, marks: &mut Vec<Refusal>) {
    let critical = random.one_in(2);
    let section = if critical { &mut builder.critical } else { &mut builder.extensions };
    match random.below(9) {
        0 => {
            *section = strings([&b"x"[..], b"1", b"x", random.pick(&[&b"1"[..], b""])]);
            marks.push(Refusal::OptionTwice);
        }
        1 => {
            *section = strings(["b", "1", "a", ""]);
            marks.extend(critical.then_some(Refusal::OptionOrder));
        }
        2 => {
            let names: &[&[u8]] = &[b"", b"two words", b"zz\0", b"zz\n", b"zz\xff", b"zz\x7f"];
            *section = strings([random.pick(names), &b""[..]]);
            marks.push(Refusal::OptionName);
        }
        3 => {
            *section = strings([vec![b'z'; 129 + random.below(99)], vec![]]);
            marks.push(Refusal::OptionSize);
        }
        4 => {
            *section = strings([b"zzz".to_vec(), vec![b'z'; 32_769 + random.below(2000)]]);
            marks.push(Refusal::OptionSize);
        }
        5 => {
            *section = (100..165).flat_map(|at| strings([format!("o{at}"), String::new()])).collect();
            marks.push(Refusal::OptionSize);
        }
        6 if random.one_in(2) => {
            // Seven values of 7 kB each: every part within its limit, the whole too large.
            *section = (0..7).flat_map(|at| strings([vec![b'0' + at], vec![at; 7100]])).collect();
        }
        6 if random.one_in(3) => *section = strings([b"permit-pty", &b"data"[..]]),
        6 | 7 => section.extend(string(b"zzzz")),
        _ => section.extend(random.pick(&[&[0, 0, 0][..], &[0, 0, 0, 9, b'a'], &[0xff; 8]])),
    }
}

pub(crate) fn authority(
    random: &mut Random,
    builder: &mut CertificateBuilder,
    marks: &mut Vec<Refusal>,
    ca: &TestKey,
) {
    let name = ca.type_name();
    match (random.below(5), ca) {
        (0, _) => builder.signature_key = Some(CertificateBuilder::new(ca).sign(ca)),
        (1, _) => builder.signature_key = Some([ca.blob(), vec![0]].concat()),
        (2, _) => builder.signature_key = Some(TestKey::ed25519([7; 32]).blob()),
        (3, TestKey::Rsa(_)) => {
            let (n, e) = ca.rsa_n_e().unwrap();
            let padded = string(&[&[0, 0], &n[..]].concat());
            builder.signature_key = Some([string(name.as_bytes()), mpint(&e), padded].concat());
            marks.push(Refusal::Mpint);
        }
        (_, TestKey::Rsa(_) | TestKey::Ed25519(_)) => {
            // Names that OpenSSH takes for the same key inside an authority's blob.
            let rsa = matches!(ca, TestKey::Rsa(_));
            let other = if rsa { random.pick(&["RSA", "rsa", "rsa-sha2-256"]) } else { "ED25519" };
            builder.signature_key = Some([string(other.as_bytes()), ca.numbers()].concat());
            marks.push(Refusal::TypeName);
        }
        _ => builder.signature_key = Some([string(b"ssh-dss"), ca.numbers()].concat()),
    }
}

pub(crate) fn type_name(random: &mut Random, builder: &mut CertificateBuilder, marks: &mut Vec<Refusal>) {
    match random.below(4) {
        0 => {
            builder.cert_type.push(0);
            marks.push(Refusal::TypeName);
        }
        1 => builder.cert_type = b"ssh-rsa".to_vec(),
        2 if builder.cert_type.starts_with(b"ssh-rsa") => {
            builder.cert_type = b"rsa-sha2-256-cert-v01@openssh.com".to_vec();
            marks.push(Refusal::TypeName);
        }
        2 => {
            // The bytes of a P-521 key read as RSA make a modulus of 1059 bits.
            builder.cert_type = b"ssh-rsa-cert-v01@openssh.com".to_vec();
            marks.push(Refusal::RsaSize);
        }
        _ => builder.cert_type = b"ssh-dss-cert-v01@openssh.com".to_vec(),
    }
}

/// Adds the order of the Ed25519 group to the scalar: the same equation, another spelling.
fn second_scalar(signature: &mut [u8]) {
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut carry = 0;
    for (byte, add) in signature[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        *byte = sum as u8;
        carry = sum >> 8;
    }
}

/// A signature that is wrong, or right in an unusual form.
pub(crate) fn signature(
    random: &mut Random,
    builder: &CertificateBuilder,
    mut marks: Vec<Refusal>,
    ca: &TestKey,
) -> Case {
    let body = builder.to_be_signed(ca);
    let name = ca.algorithm();
    let mut inner = ca.sign_raw(&name, &body);
    let mut label = name.into_bytes();
    let mut tail = Vec::new();
    let ecdsa = matches!(ca, TestKey::Ecdsa(..));
    match random.below(9) {
        0 => {
            label.push(0);
            marks.push(Refusal::SignatureLabel);
        }
        1 => {
            label =
                random.pick(&["ssh-rsa", "rsa-sha2-512", "ssh-ed25519", "ssh-dss", ""]).as_bytes().to_vec()
        }
        2 if matches!(ca, TestKey::Ed25519(_)) => {
            second_scalar(&mut inner);
            marks.push(Refusal::Ed25519Scalar);
        }
        2 | 3 if ecdsa => {
            let (r, s) = inner.split_at(4 + usize::from(inner[3]));
            inner = [string(&[&[0, 0], &r[4..]].concat()), s.to_vec()].concat();
            marks.push(Refusal::Mpint);
        }
        2 | 3 => {
            let zeros = inner.iter().take_while(|byte| **byte == 0).count();
            inner.drain(..zeros);
        }
        4 => inner.insert(0, 0),
        5 => inner.push(0),
        6 => tail = string(b""),
        7 => {
            let at = random.below(inner.len());
            inner[at] ^= 1 << random.below(8);
        }
        _ => inner.truncate(random.below(inner.len())),
    }
    let field = [strings([label, inner]), tail].concat();
    let mut blob = [body, string(&field)].concat();
    if random.one_in(8) {
        blob.push(0);
    } else if random.one_in(8) {
        blob.truncate(random.below(blob.len()).max(4));
    }
    if blob.len() > nightlatch_sshcert::MAX_CERT_BYTES {
        marks.push(Refusal::Size);
    }
    Case { line: text_of(&blob), marks }
}

//! Certificates from mutated fields. Each mutation that this crate refuses on purpose, although
//! ssh-keygen takes it, is marked; no other disagreement is excused.

use nightlatch_sshcert::testing::{CertificateBuilder, TestKey, line, mpint, string};

use crate::mutate::{authority, holder, names, options, signature, texts, type_name};
use crate::random::Random;
use crate::refusals::Refusal;

/// One line for ssh-keygen, and what may be held against it on purpose.
pub(crate) struct Case {
    pub(crate) line: Vec<u8>,
    pub(crate) marks: Vec<Refusal>,
}

/// The authorities, made once.
pub(crate) struct Keys {
    authorities: Vec<TestKey>,
    foreign: TestKey,
}

impl Keys {
    pub(crate) fn new() -> Self {
        Self {
            authorities: vec![
                TestKey::rsa2048(),
                TestKey::p256(),
                TestKey::ecdsa("nistp384"),
                TestKey::ed25519([1; 32]),
            ],
            foreign: TestKey::ecdsa("nistp521"),
        }
    }

    pub(crate) fn any(&self, random: &mut Random) -> &TestKey {
        // P-256 is quick on both sides; P-384 and Ed25519 cost ssh-keygen milliseconds each.
        &self.authorities[random.pick(&[0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 3, 3])]
    }
}

/// A modulus of exactly `bits` bits that nobody holds the factors of.
pub(crate) fn modulus(random: &mut Random, bits: usize) -> Vec<u8> {
    let mut n = random.bytes(bits.div_ceil(8));
    let top = (bits - 1) % 8;
    n[0] = (n[0] & ((1 << top) - 1)) | 1 << top;
    *n.last_mut().unwrap() |= 1;
    n
}

/// A holder's key: mostly RSA, as Entra's are.
fn subject(random: &mut Random) -> Vec<u8> {
    match random.below(24) {
        0 => TestKey::p256().blob(),
        1 => TestKey::ecdsa("nistp384").blob(),
        2 => TestKey::ed25519(random.bytes(32).try_into().unwrap()).blob(),
        _ => {
            let bits = random.pick(&[2048, 2048, 2048, 3072, 4096, 2049, 2055, 8192]);
            let e = random.pick(&[&[1, 0, 1][..], &[3], &[35], &[1, 0, 0, 0, 1]]).to_vec();
            [string(b"ssh-rsa"), mpint(&e), mpint(&modulus(random, bits))].concat()
        }
    }
}

/// A certificate that both sides take, with every field at some legal value.
pub(crate) fn plain(random: &mut Random) -> CertificateBuilder {
    let mut builder = CertificateBuilder::for_blob(&subject(random));
    let count = random.pick(&[0, 16, 32, 32, 64, 256]);
    builder.nonce = random.bytes(count);
    builder.serial = random.pick(&[0, 1, u64::MAX, 1 << 63]) ^ (random.next() >> random.below(64));
    builder.kind = if random.one_in(10) { 2 } else { 1 };
    builder.key_id = match random.below(6) {
        0 => vec![],
        1 => (1..=255).filter(|byte| *byte != b'\n').collect(),
        2 => vec![b'k'; 1024],
        _ => random.text(36, b"0123456789abcdef-\" \\%s"),
    };
    let count = random.pick(&[0, 1, 1, 1, 1, 2, 5]);
    let letters = b"abcXYZ019.@_+-#~!'/:*?$`;&|<>()[]{}^=%";
    builder.principals = (0..count)
        .flat_map(|_| {
            let length = 1 + random.below(40);
            string(&random.text(length, letters))
        })
        .collect();
    if random.one_in(200) {
        builder.principals = (0..256).flat_map(|at| string(format!("n{at}").as_bytes())).collect();
    }
    let now = 1_795_000_000 + random.next() % 100_000_000;
    (builder.valid_after, builder.valid_before) = random.pick(&[
        (0, u64::MAX),
        (now, now + 3600),
        (now, u64::MAX),
        (0, now),
        (now, now),
        (now, now - 1),
        (253_402_300_799, 951_782_399),
        (u64::MAX, 0),
        (1 << 63, u64::MAX - 1),
    ]);
    if random.one_in(4) {
        builder = builder.critical("force-command", string(&random.text(9, b"ab /-'")));
    }
    if random.one_in(4) {
        builder = builder.critical("source-address", string(b"10.0.0.0/8,::1/128"));
    }
    if random.one_in(4) {
        let data = random.bytes(8);
        builder = builder.critical("zz@example.com", data);
    }
    if random.one_in(2) {
        builder = builder.permit_all();
    }
    for name in ["tid@example.com", "oid@example.com", "a"] {
        let length = random.pick(&[0, 1, 36, 300]);
        builder = match random.below(3) {
            0 => builder.extension(name, random.bytes(length)),
            1 => builder.text_extension(name, random.text(length, b"0123456789abcdef-")),
            _ => builder,
        };
    }
    builder
}

/// A certificate with up to two mutated fields, signed with the right key.
pub(crate) fn mutated(random: &mut Random, keys: &Keys) -> Case {
    let mut builder = plain(random);
    let (mut marks, mut touched) = (Vec::new(), Vec::new());
    let mut ca = keys.any(random);
    for _ in 0..random.pick(&[0, 0, 0, 1, 1, 1, 2]) {
        let choice = random.below(12);
        // A field is mutated once: a second mutation could heal the first.
        let field = match choice {
            3 => 2,
            6 => 0,
            other => other,
        };
        if touched.contains(&field) {
            continue;
        }
        touched.push(field);
        match choice {
            0 => holder(random, &mut builder, &mut marks),
            1 => names(random, &mut builder, &mut marks),
            2 | 3 => options(random, &mut builder, &mut marks),
            4 => texts(random, &mut builder, &mut marks),
            5 => authority(random, &mut builder, &mut marks, ca),
            6 => type_name(random, &mut builder, &mut marks),
            7 => builder.kind = random.pick(&[0, 2, 3, 256, u32::MAX]),
            8 => {
                builder.reserved = random.bytes(3);
                marks.push(Refusal::Reserved);
            }
            9 if random.one_in(3) => {
                ca = &keys.foreign;
                marks.push(Refusal::KeyType);
            }
            9 => {
                let length = 257 + random.below(200);
                builder.nonce = random.bytes(length);
                marks.push(Refusal::Nonce);
            }
            _ => return signature(random, &builder, marks, ca),
        }
    }
    if let TestKey::Rsa(_) = ca
        && random.one_in(2)
    {
        builder.algorithm = Some("rsa-sha2-512".to_owned());
    }
    let blob = builder.sign(ca);
    if blob.len() > nightlatch_sshcert::MAX_CERT_BYTES {
        marks.push(Refusal::Size);
    }
    written(random, &blob, marks)
}

/// The certificate as text, which may be wrong too.
fn written(random: &mut Random, blob: &[u8], mut marks: Vec<Refusal>) -> Case {
    let mut text = line(blob).into_bytes();
    let space = text.iter().position(|byte| *byte == b' ').unwrap();
    if random.one_in(25) {
        match random.below(6) {
            0 => text.push(b'='),
            1 => {
                text.pop();
            }
            2 => {
                let at = space + 1 + random.below(text.len() - space - 1);
                text.insert(at, random.pick(b"\r\x0b\x0c"));
                marks.push(Refusal::Base64);
            }
            3 => {
                text.splice(..space, *b"rsa-sha2-512-cert-v01@openssh.com");
                marks.push(Refusal::TypeName);
            }
            4 => {
                text.splice(..space, *b"ecdsa-sha2-nistp384-cert-v01@openssh.com");
            }
            _ => text.insert(space + 1 + random.below(text.len() - space - 1), random.pick(b"-_!\x80=")),
        }
    }
    // A NUL cannot be written in a line of text: ssh-keygen would see a shorter line.
    text.retain(|byte| *byte != 0);
    Case { line: text, marks }
}

/// One to three bytes changed before the signature is made: any structure may result.
pub(crate) fn edited(random: &mut Random, keys: &Keys) -> Case {
    let mut builder = plain(random);
    builder.nonce.truncate(16);
    let ca = keys.any(random);
    // The numbers of the keys are most of the bytes and the least of the structure.
    let key = builder.cert_type.len() + 8 + builder.nonce.len();
    let skip = key + 20..key + builder.numbers.len();
    let blob = builder.sign_edited(ca, |bytes| {
        for _ in 0..1 + random.below(3) {
            let mut at = random.below(bytes.len());
            if skip.contains(&at) && random.below(8) > 0 {
                at = (skip.end + random.below(bytes.len() - skip.end)).min(bytes.len() - 1);
            }
            bytes[at] = match random.below(4) {
                0 => 0,
                1 => random.next() as u8,
                2 => bytes[at] ^ 1 << random.below(8),
                _ => bytes[at].wrapping_add(1),
            };
        }
    });
    Case { line: text_of(&blob), marks: Refusal::ALL.to_vec() }
}

/// One to three bytes changed after the signature was made.
pub(crate) fn broken(random: &mut Random, keys: &Keys) -> Case {
    let mut blob = plain(random).sign(keys.any(random));
    for _ in 0..1 + random.below(3) {
        let at = random.below(blob.len());
        match random.below(4) {
            0 => blob[at] = random.next() as u8,
            1 => blob[at] ^= 1 << random.below(8),
            2 => blob.insert(at, random.next() as u8),
            _ => {
                blob.remove(at);
            }
        }
    }
    Case { line: text_of(&blob), marks: Vec::new() }
}

/// The type in front as the bytes inside have it, even when that is no text.
pub(crate) fn text_of(blob: &[u8]) -> Vec<u8> {
    let length = blob.first_chunk::<4>().map_or(0, |length| u32::from_be_bytes(*length) as usize);
    if blob.len() < 4 + length {
        let known = [&string(b"ssh-ed25519-cert-v01@openssh.com")[..], blob].concat();
        let text = line(&known).into_bytes();
        return text;
    }
    let mut text = line(blob).into_bytes();
    text.retain(|byte| *byte != 0 && *byte != b'\n');
    text
}

//! Frames: what is written is what is read, every limit refuses one byte above it, and no damage to a
//! frame is read as another message without its bytes being another message.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a test may stop at the first surprise

mod random;

use std::io::Cursor;

use nightlatch_wire::hammer::Xorshift;
use nightlatch_wire::{
    Account, Auth, FrameError, MAX_FRAME, MAX_KEY_BYTES, MAX_KEY_TYPE_BYTES, MAX_LINE_BYTES, MAX_RHOST_BYTES,
    MAX_SERVICE_BYTES, MAX_TEXT_BYTES, MAX_TTY_BYTES, MAX_USER_BYTES, MAX_WORD_BYTES, Message, NO_LOGINUID,
    Offer, Parent, Prompt, PromptStage, ReadError, frame_len, read_frame, write_frame,
};

use random::message;

const ROUNDS: u32 = 6_000;

fn body(message: &Message) -> Vec<u8> {
    message.encode().unwrap()[4..].to_vec()
}

fn offer() -> Offer {
    Offer {
        user: "ann@contoso.com".to_owned(),
        uid: 1_900_000_000,
        key_type: "ssh-rsa-cert-v01@openssh.com".to_owned(),
        key: "AAAA".to_owned(),
        key_len: 4,
        parents: vec![Parent { pid: 7, start: 8 }],
    }
}

fn account() -> Account {
    Account {
        user: "ann@contoso.com".to_owned(),
        service: "sshd".to_owned(),
        rhost: "192.0.2.7".to_owned(),
        tty: "ssh".to_owned(),
        loginuid: NO_LOGINUID,
        audit_session: NO_LOGINUID,
        parents: vec![],
    }
}

#[test]
fn every_message_survives_the_way_there_and_back() {
    let mut random = Xorshift::new(1);
    let mut verbs_seen = [0_u32; 21];
    for _ in 0..ROUNDS {
        let before = message(&mut random);
        let mut bytes = Vec::new();
        write_frame(&mut bytes, &before).unwrap();
        verbs_seen[usize::from(bytes[5])] += 1;
        bytes.push(0xff); // belongs to whatever comes next on the stream
        let mut stream = Cursor::new(bytes);
        assert_eq!(read_frame(&mut stream).unwrap(), before);
        assert_eq!(stream.position() + 1, stream.get_ref().len() as u64, "not a byte more than the frame");
    }
    assert!(verbs_seen[1..].iter().all(|n| *n > 100), "{verbs_seen:?}");
}

#[test]
fn bytes_are_as_documented() {
    let permit = Message::Permit { until: 258, admin: true }.encode().unwrap();
    assert_eq!(permit, [0, 0, 0, 11, 1, 5, 0, 0, 0, 0, 0, 0, 1, 2, 1]);
    assert_eq!(Message::None.encode().unwrap(), [0, 0, 0, 2, 1, 3]);
    let auth = Auth {
        user: "a@b".to_owned(),
        service: "sshd".to_owned(),
        rhost: String::new(),
        parents: vec![Parent { pid: 1, start: 2 }],
    };
    let expected = [
        &[0, 0, 0, 28, 1, 7, 0, 3][..],
        b"a@b",
        &[0, 4],
        b"sshd",
        &[0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2],
    ]
    .concat();
    assert_eq!(Message::Auth(auth).encode().unwrap(), expected);
    let prompt = |stage| Prompt {
        stage,
        user: "a@b".to_owned(),
        service: "sshd".to_owned(),
        rhost: "r".to_owned(),
        auth: "publickey x y".to_owned(),
        parents: Vec::new(),
    };
    for (stage, byte) in [(PromptStage::Begin, 1), (PromptStage::Shown, 2), (PromptStage::Over, 3)] {
        let expected = [
            &[0, 0, 0, 33, 1, 20, byte, 0, 3][..],
            b"a@b",
            &[0, 4],
            b"sshd",
            &[0, 1],
            b"r",
            &[0, 13],
            b"publickey x y",
            &[0],
        ]
        .concat();
        assert_eq!(Message::Prompt(prompt(stage)).encode().unwrap(), expected);
        let mut other = expected[4..].to_vec();
        for wrong in [0, 4, 255] {
            other[2] = wrong;
            assert_eq!(Message::decode(&other), Err(FrameError::Value("stage")), "{wrong}");
        }
    }
}

#[test]
fn a_damaged_frame_is_refused_or_is_another_message_in_full() {
    let mut random = Xorshift::new(2);
    let (mut refused, mut other) = (0_u32, 0_u32);
    for _ in 0..ROUNDS {
        let mut bytes = body(&message(&mut random));
        for _ in 0..=random.below(3) {
            if bytes.is_empty() {
                break;
            }
            let at = random.below(bytes.len());
            match random.below(4) {
                0 => bytes[at] = random.next() as u8,
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, random.next() as u8),
                _ => bytes.truncate(at.max(1)),
            }
        }
        match Message::decode(&bytes) {
            Err(_) => refused += 1,
            // Strict decoding has one encoding per message: nothing was skipped, nothing was guessed.
            Ok(read) => {
                assert_eq!(body(&read), bytes);
                other += 1;
            }
        }
    }
    assert!(refused > ROUNDS / 4 && other > ROUNDS / 50, "{refused} {other}");
}

#[test]
fn every_shorter_frame_and_every_longer_frame_is_refused() {
    for whole in
        [Message::Offer(offer()), Message::Account(account()), Message::Permit { until: 1, admin: false }]
    {
        let bytes = body(&whole);
        for cut in 0..bytes.len() {
            assert!(matches!(Message::decode(&bytes[..cut]), Err(FrameError::Short(_))), "cut at {cut}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(Message::decode(&longer), Err(FrameError::Trailing(1)));
    }
}

#[test]
fn unknown_version_and_verb_are_told_apart_from_garbage_so_that_a_server_can_answer_unsupported() {
    for (bytes, expected, unsupported) in [
        (&[2, 3][..], FrameError::Version(2), true),
        (&[0, 3], FrameError::Version(0), true),
        (&[2, 1, 9, 9, 9], FrameError::Version(2), true),
        (&[1, 0], FrameError::Verb(0), true),
        (&[1, 21], FrameError::Verb(21), true),
        (&[1, 255, 7, 7], FrameError::Verb(255), true),
        (&[1], FrameError::Short("verb"), false),
        (&[], FrameError::Short("version"), false),
        (&[1, 3, 0], FrameError::Trailing(1), false),
        (&[1, 5, 0, 0, 0, 0, 0, 0, 0, 0, 2], FrameError::Value("admin"), false),
        (&[1, 9, 0, 1, 0xff], FrameError::Alphabet("error word"), false),
        (&[1, 9, 0, 0], FrameError::Size("error word"), false),
        (&[1, 9, 0, 9, b'x'], FrameError::Short("error word"), false),
        (&[1, 8, 0, 2, 0xc3, 0x28], FrameError::Alphabet("text"), false),
        (&[1, 2, 0, 2, b'a', b'\n'], FrameError::Alphabet("line"), false),
    ] {
        let error = Message::decode(bytes).unwrap_err();
        assert_eq!(error, expected, "{bytes:?}");
        assert_eq!(error.is_unsupported(), unsupported, "{bytes:?}");
        assert!(!error.to_string().is_empty());
    }
}

#[test]
fn length_prefix_is_judged_before_anything_is_stored() {
    let most = u32::try_from(MAX_FRAME).unwrap();
    for (announced, sound) in
        [(0, false), (1, false), (2, true), (most, true), (most + 1, false), (u32::MAX, false)]
    {
        assert_eq!(frame_len(announced.to_be_bytes()).is_ok(), sound, "{announced}");
        // Only the prefix is on the stream: a refusal must not depend on more bytes.
        let read = read_frame(&mut Cursor::new(announced.to_be_bytes()));
        match read {
            Err(ReadError::Closed) => assert!(sound),
            Err(ReadError::Frame(error)) => assert_eq!(error, FrameError::Length(announced)),
            other => panic!("{announced}: {other:?}"),
        }
    }
    assert_eq!(Message::decode(&vec![1; MAX_FRAME + 1]), Err(FrameError::Length(most + 1)));
    assert!(matches!(read_frame(&mut Cursor::new([0, 0])), Err(ReadError::Closed)));
}

/// Each case is a sound message with one field at its limit (accepted) and one byte above it (refused, in
/// both directions).
#[test]
fn every_field_has_its_limit() {
    type Case = (&'static str, usize, fn(String) -> Message);
    let cases: [Case; 11] = [
        ("user", MAX_USER_BYTES, |v| Message::Offer(Offer { user: v, ..offer() })),
        ("key type", MAX_KEY_TYPE_BYTES, |v| Message::Offer(Offer { key_type: v, ..offer() })),
        ("user", MAX_USER_BYTES, |v| Message::Account(Account { user: v, ..account() })),
        ("service", MAX_SERVICE_BYTES, |v| Message::Account(Account { service: v, ..account() })),
        ("rhost", MAX_RHOST_BYTES, |v| Message::Account(Account { rhost: v, ..account() })),
        ("tty", MAX_TTY_BYTES, |v| Message::Account(Account { tty: v, ..account() })),
        ("line", MAX_LINE_BYTES, Message::Line),
        ("code", MAX_WORD_BYTES, |v| Message::Deny { code: v, text: String::new() }),
        ("text", MAX_TEXT_BYTES, |v| Message::Deny { code: "x".to_owned(), text: v }),
        ("text", MAX_TEXT_BYTES, Message::Text),
        ("error word", MAX_WORD_BYTES, Message::Err),
    ];
    for (name, max, make) in cases {
        let bytes = body(&make("x".repeat(max)));
        assert_eq!(Message::decode(&bytes), Ok(make("x".repeat(max))), "{name} at its limit");
        assert_eq!(make("x".repeat(max + 1)).encode(), Err(FrameError::Size(name)));
        // The same by hand, past our own encoder.
        let run = vec![b'x'; max];
        let at = bytes.windows(max).position(|w| w == run).unwrap();
        let mut longer = bytes.clone();
        longer.insert(at, b'x');
        longer[at - 2..at].copy_from_slice(&u16::try_from(max + 1).unwrap().to_be_bytes());
        assert_eq!(Message::decode(&longer), Err(FrameError::Size(name)));
    }
}

#[test]
fn a_key_too_long_to_pass_on_still_says_how_long_it_was() {
    let with = |key: &str, key_len: u32| {
        Message::Offer(Offer { key: key.to_owned(), key_len, ..offer() }).encode().map(|b| b.len())
    };
    let full = "A".repeat(MAX_KEY_BYTES);
    assert!(with(&full, 65_535).unwrap() <= MAX_FRAME + 4);
    assert!(with("", 65_536).is_ok() && with("", 0).is_ok() && with("AAAA", 4).is_ok());
    for (key, key_len) in [("", 1), ("", 65_535), ("AAAA", 5), ("AAAA", 65_536), ("AAAA", 0)] {
        assert_eq!(with(key, key_len), Err(FrameError::Value("key length")), "{key} {key_len}");
    }
    // And read back past our own encoder: the last field but one of an OFFER without parents.
    let mut bytes = body(&Message::Offer(Offer { parents: vec![], ..offer() }));
    let at = bytes.len() - 2;
    bytes[at] = 9;
    assert_eq!(Message::decode(&bytes), Err(FrameError::Value("key length")));
}

#[test]
fn at_most_two_parents() {
    let parent = Parent { pid: 1, start: 1 };
    let three = Message::Account(Account { parents: vec![parent; 3], ..account() });
    assert_eq!(three.encode(), Err(FrameError::Value("parents")));
    let mut bytes = body(&Message::Account(account()));
    *bytes.last_mut().unwrap() = 3;
    bytes.extend([0; 36]);
    assert_eq!(Message::decode(&bytes), Err(FrameError::Value("parents")));
}

/// Guards CVE-2025-58160 and journald field injection: a name with a control byte never becomes a message.
#[test]
fn names_that_would_forge_a_journal_record_are_not_passed_on() {
    for hostile in ["a\nMESSAGE=x", "a\r", "\u{1b}[2J", "a\0", "\u{7f}", "\u{85}", "\u{9b}31m"] {
        let offered = Message::Offer(Offer { user: hostile.to_owned(), ..offer() });
        assert_eq!(offered.encode(), Err(FrameError::Alphabet("user")), "{hostile:?}");
        let asked = Message::Account(Account { rhost: hostile.to_owned(), ..account() });
        assert_eq!(asked.encode(), Err(FrameError::Alphabet("rhost")), "{hostile:?}");
        let mut bytes = body(&Message::Account(Account { tty: "#".repeat(hostile.len()), ..account() }));
        let at = bytes.windows(hostile.len()).position(|w| w.iter().all(|b| *b == b'#')).unwrap();
        bytes[at..at + hostile.len()].copy_from_slice(hostile.as_bytes());
        assert_eq!(Message::decode(&bytes), Err(FrameError::Alphabet("tty")), "{hostile:?}");
    }
}

/// Guards polkit CVE-2018-19788: uids above INT_MAX are plain numbers.
#[test]
fn uids_above_int_max_stay_what_they_are() {
    for uid in [0, 2_147_483_647, 2_147_483_648, 4_294_967_294, 4_294_967_295] {
        let sent = Message::Offer(Offer { uid, ..offer() });
        assert_eq!(Message::decode(&body(&sent)), Ok(sent));
    }
}

#[test]
fn a_message_that_does_not_fit_writes_nothing() {
    let mut out = Vec::new();
    let error = write_frame(&mut out, &Message::Err(String::new())).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    assert!(out.is_empty());
}

#[test]
fn debug_of_an_offer_does_not_show_the_key() {
    let shown =
        format!("{:?}", Message::Offer(Offer { key: "SECRETTOKEN".to_owned(), key_len: 11, ..offer() }));
    assert!(shown.contains("ann@contoso.com") && !shown.contains("SECRETTOKEN"));
}

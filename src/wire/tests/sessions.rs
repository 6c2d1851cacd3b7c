//! What is said about sessions: every field of verbs 10 to 19 has its limit in both directions, values outside
//! their sets are refused, and a table of any length arrives whole, page by page.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a test may stop at the first surprise

mod random;

use nightlatch_wire::hammer::Xorshift;
use nightlatch_wire::session::{
    Close, End, List, MAX_AUTH_BYTES, MAX_END_GRACE_S, MAX_ID_BYTES, MAX_NOTE_BYTES, MAX_ROWS, NO_DIGEST,
    Observed, Open, Origin, Pending, Row, Say, Sessions, State, Target,
};
use nightlatch_wire::{
    FrameError, MAX_FRAME, MAX_RHOST_BYTES, MAX_SERVICE_BYTES, MAX_TEXT_BYTES, MAX_USER_BYTES,
    MAX_WORD_BYTES, Message, NO_LOGINUID, Parent, Prompt, PromptStage,
};

use random::{message, row};

const SEED_ROUNDS: u32 = 5_000;
/// Offsets in a body: version, verb, and the first field.
const FIRST_FIELD: usize = 2;

fn body(message: &Message) -> Vec<u8> {
    message.encode().unwrap()[4..].to_vec()
}

fn open() -> Open {
    Open {
        user: "ann@contoso.com".to_owned(),
        rhost: "192.0.2.7".to_owned(),
        auth: "publickey ssh-rsa AAAA".to_owned(),
        audit_session: 17,
        loginuid: 1_900_000_000,
        parents: vec![Parent { pid: 7, start: 8 }],
    }
}

fn close() -> Close {
    Close { user: "ann@contoso.com".to_owned(), audit_session: NO_LOGINUID, parents: vec![] }
}

fn observed() -> Observed {
    Observed {
        user: "bob".to_owned(),
        service: "sshd".to_owned(),
        rhost: "192.0.2.7".to_owned(),
        auth: String::new(),
    }
}

fn pending() -> Pending {
    Pending {
        monitor: Parent { pid: 7, start: 8 },
        user: "ann@contoso.com".to_owned(),
        uid: 1_900_000_000,
        oid: "1111".to_owned(),
        correlation: "c0ffee".to_owned(),
        certificate: "serial 5".to_owned(),
        digest: NO_DIGEST,
        rhost: "192.0.2.7".to_owned(),
        until: 1_795_000_000,
        admin: false,
        degraded: false,
        open_within_s: 125,
    }
}

fn plain_row(id: u64) -> Row {
    Row {
        id,
        origin: Origin::Login,
        state: State::Open,
        user: "ann@contoso.com".to_owned(),
        uid: 1_900_000_000,
        oid: "1111".to_owned(),
        correlation: "c0ffee".to_owned(),
        certificate: "serial 5".to_owned(),
        rhost: "192.0.2.7".to_owned(),
        ttys: "pts/0".to_owned(),
        monitor: Parent { pid: 7, start: 8 },
        audit_session: 17,
        started: 1,
        until: 2,
        admin: true,
        degraded: false,
        ended: 0,
        reason: String::new(),
        escaped: String::new(),
    }
}

fn end() -> End {
    End { target: Target::Session(17), grace_s: 0, reason: "no_vm_role".to_owned(), text: String::new() }
}

fn prompt() -> Prompt {
    Prompt {
        stage: PromptStage::Begin,
        user: "ann@contoso.com".to_owned(),
        service: "sshd".to_owned(),
        rhost: String::new(),
        auth: String::new(),
        parents: Vec::new(),
    }
}

fn one_row(row: Row) -> Message {
    Message::Sessions(Sessions { rows: vec![row], more: false })
}

/// A field's name, its fewest and most bytes, and a message that holds it.
type Case = (&'static str, usize, usize, fn(String) -> Message);

const TEXT_FIELDS: [Case; 32] = [
    ("user", 1, MAX_USER_BYTES, |v| Message::Prompt(Prompt { user: v, ..prompt() })),
    ("service", 1, MAX_SERVICE_BYTES, |v| Message::Prompt(Prompt { service: v, ..prompt() })),
    ("rhost", 0, MAX_RHOST_BYTES, |v| Message::Prompt(Prompt { rhost: v, ..prompt() })),
    ("auth info", 0, MAX_AUTH_BYTES, |v| Message::Prompt(Prompt { auth: v, ..prompt() })),
    ("user", 1, MAX_USER_BYTES, |v| Message::Open(Open { user: v, ..open() })),
    ("rhost", 0, MAX_RHOST_BYTES, |v| Message::Open(Open { rhost: v, ..open() })),
    ("auth info", 0, MAX_AUTH_BYTES, |v| Message::Open(Open { auth: v, ..open() })),
    ("user", 1, MAX_USER_BYTES, |v| Message::Close(Close { user: v, ..close() })),
    ("user", 1, MAX_USER_BYTES, |v| Message::Observed(Observed { user: v, ..observed() })),
    ("service", 1, MAX_SERVICE_BYTES, |v| Message::Observed(Observed { service: v, ..observed() })),
    ("rhost", 0, MAX_RHOST_BYTES, |v| Message::Observed(Observed { rhost: v, ..observed() })),
    ("auth info", 0, MAX_AUTH_BYTES, |v| Message::Observed(Observed { auth: v, ..observed() })),
    ("user", 1, MAX_USER_BYTES, |v| Message::Pending(Pending { user: v, ..pending() })),
    ("id", 0, MAX_ID_BYTES, |v| Message::Pending(Pending { oid: v, ..pending() })),
    ("id", 0, MAX_ID_BYTES, |v| Message::Pending(Pending { correlation: v, ..pending() })),
    ("note", 0, MAX_NOTE_BYTES, |v| Message::Pending(Pending { certificate: v, ..pending() })),
    ("rhost", 0, MAX_RHOST_BYTES, |v| Message::Pending(Pending { rhost: v, ..pending() })),
    ("user", 0, MAX_USER_BYTES, |v| one_row(Row { user: v, ..plain_row(1) })),
    ("id", 0, MAX_ID_BYTES, |v| one_row(Row { oid: v, ..plain_row(1) })),
    ("id", 0, MAX_ID_BYTES, |v| one_row(Row { correlation: v, ..plain_row(1) })),
    ("note", 0, MAX_NOTE_BYTES, |v| one_row(Row { certificate: v, ..plain_row(1) })),
    ("rhost", 0, MAX_RHOST_BYTES, |v| one_row(Row { rhost: v, ..plain_row(1) })),
    ("id", 0, MAX_ID_BYTES, |v| one_row(Row { ttys: v, ..plain_row(1) })),
    ("reason", 0, MAX_WORD_BYTES, |v| one_row(Row { reason: v, ..plain_row(1) })),
    ("note", 0, MAX_NOTE_BYTES, |v| one_row(Row { escaped: v, ..plain_row(1) })),
    ("text", 0, MAX_TEXT_BYTES, |v| Message::Say(Say { id: 1, text: v })),
    ("code", 1, MAX_WORD_BYTES, |v| Message::End(End { reason: v, ..end() })),
    ("text", 0, MAX_TEXT_BYTES, |v| Message::End(End { text: v, ..end() })),
    // A second row is held to the same as the first.
    ("user", 0, MAX_USER_BYTES, |v| two_rows(Row { user: v, ..plain_row(2) })),
    ("reason", 0, MAX_WORD_BYTES, |v| two_rows(Row { reason: v, ..plain_row(2) })),
    ("note", 0, MAX_NOTE_BYTES, |v| two_rows(Row { escaped: v, ..plain_row(2) })),
    ("id", 0, MAX_ID_BYTES, |v| two_rows(Row { ttys: v, ..plain_row(2) })),
];

fn two_rows(second: Row) -> Message {
    Message::Sessions(Sessions { rows: vec![plain_row(1), second], more: true })
}

/// The body of `message` with its one run of `x`, `size` long, made a byte longer by hand.
fn longer_by_hand(message: &Message, size: usize) -> Vec<u8> {
    let mut bytes = body(message);
    let at = bytes.windows(size).position(|window| window.iter().all(|byte| *byte == b'x')).unwrap();
    bytes.insert(at, b'x');
    let announced = u16::try_from(size + 1).unwrap_or(0);
    bytes[at - 2..at].copy_from_slice(&announced.to_be_bytes());
    bytes
}

#[test]
fn every_text_has_its_limits_in_both_directions() {
    for (name, min, max, make) in TEXT_FIELDS {
        for size in [min, min + 1, max - 1, max] {
            let sent = make("x".repeat(size));
            assert_eq!(Message::decode(&body(&sent)), Ok(sent), "{name} with {size} bytes");
        }
        let above = make("x".repeat(max + 1));
        assert_eq!(above.encode(), Err(FrameError::Size(name)), "{name} with {} bytes", max + 1);
        let longer = longer_by_hand(&make("x".repeat(max)), max);
        if max < usize::from(u16::MAX) {
            assert_eq!(Message::decode(&longer), Err(FrameError::Size(name)));
        } else {
            // Its length has no number: what would be announced is 0, and the rest is no message.
            assert!(Message::decode(&longer).is_err(), "{name}");
        }
        if min == 1 {
            assert_eq!(make(String::new()).encode(), Err(FrameError::Size(name)), "{name}, empty");
        }
    }
}

#[test]
fn control_bytes_reach_a_text_for_a_person_and_nothing_else() {
    for (name, _, _, make) in TEXT_FIELDS {
        for hostile in ["a\nMESSAGE=x", "a\r", "\u{1b}[2J", "a\0", "\u{7f}", "\u{85}", "\u{9b}31m"] {
            let message = make(hostile.to_owned());
            if name == "text" {
                assert_eq!(Message::decode(&body(&message)), Ok(message));
                continue;
            }
            assert_eq!(message.encode(), Err(FrameError::Alphabet(name)), "{hostile:?}");
            // Past our own encoder: the same bytes in the place of a harmless run of that length.
            let mut bytes = body(&make("#".repeat(hostile.len())));
            let at = bytes.windows(hostile.len()).position(|w| w.iter().all(|b| *b == b'#')).unwrap();
            bytes[at..at + hostile.len()].copy_from_slice(hostile.as_bytes());
            assert_eq!(Message::decode(&bytes), Err(FrameError::Alphabet(name)), "{hostile:?}");
        }
        let mut not_utf8 = body(&make("##".to_owned()));
        let at = not_utf8.windows(2).position(|w| w == b"##").unwrap();
        not_utf8[at..at + 2].copy_from_slice(&[0xc3, 0x28]);
        assert_eq!(Message::decode(&not_utf8), Err(FrameError::Alphabet(name)));
    }
}

#[test]
fn bytes_are_as_documented() {
    assert_eq!(Message::Opened(258).encode().unwrap(), [0, 0, 0, 10, 1, 11, 0, 0, 0, 0, 0, 0, 1, 2]);
    assert_eq!(Message::Done.encode().unwrap(), [0, 0, 0, 2, 1, 13]);
    let list = Message::List(List { after: 5, ended: true });
    assert_eq!(list.encode().unwrap(), [0, 0, 0, 11, 1, 16, 0, 0, 0, 0, 0, 0, 0, 5, 1]);
    let closed = Close { user: "a@b".to_owned(), audit_session: 9, parents: vec![] };
    let expected = [&[0, 0, 0, 12, 1, 12, 0, 3][..], b"a@b", &[0, 0, 0, 9, 0]].concat();
    assert_eq!(Message::Close(closed).encode().unwrap(), expected);
    let ended = End { target: Target::Person(7), grace_s: 3, reason: "x".to_owned(), text: "y".to_owned() };
    let expected = [0, 0, 0, 19, 1, 19, 2, 0, 0, 0, 0, 0, 0, 0, 7, 0, 3, 0, 1, b'x', 0, 1, b'y'];
    assert_eq!(Message::End(ended).encode().unwrap(), expected);
    let none = Message::Sessions(Sessions { rows: vec![], more: false });
    assert_eq!(none.encode().unwrap(), [0, 0, 0, 4, 1, 17, 0, 0]);
}

/// Each verb's own shape: any cut is refused, and so is a byte behind it.
#[test]
fn every_shorter_and_every_longer_frame_is_refused() {
    for whole in [
        Message::Open(open()),
        Message::Opened(7),
        Message::Close(close()),
        Message::Done,
        Message::Observed(observed()),
        Message::Pending(pending()),
        Message::List(List { after: 7, ended: false }),
        two_rows(plain_row(2)),
        Message::Say(Say { id: 7, text: "go".to_owned() }),
        Message::End(end()),
    ] {
        let bytes = body(&whole);
        for cut in 0..bytes.len() {
            let read = Message::decode(&bytes[..cut]);
            assert!(matches!(read, Err(FrameError::Short(_))), "{whole:?} cut at {cut}: {read:?}");
        }
        assert_eq!(Message::decode(&[&bytes[..], &[0]].concat()), Err(FrameError::Trailing(1)));
    }
}

#[test]
fn values_outside_their_sets_are_refused() {
    let with = |message: &Message, at: usize, byte: u8| {
        let mut bytes = body(message);
        bytes[at] = byte;
        Message::decode(&bytes).unwrap_err()
    };
    let list = Message::List(List { after: 0, ended: true });
    assert_eq!(with(&list, FIRST_FIELD + 8, 2), FrameError::Value("ended"));
    let page = one_row(plain_row(1));
    assert_eq!(with(&page, FIRST_FIELD + 1, 2), FrameError::Value("more"));
    // A row: 8 bytes of id behind the count and `more`, then origin and state.
    for byte in [0, 4, 255] {
        assert_eq!(with(&page, FIRST_FIELD + 10, byte), FrameError::Value("origin"));
        assert_eq!(with(&page, FIRST_FIELD + 11, byte), FrameError::Value("state"));
    }
    let order = Message::End(End { target: Target::Person(7), ..end() });
    for byte in [0, 3, 255] {
        assert_eq!(with(&order, FIRST_FIELD, byte), FrameError::Value("target"));
    }
    // A person's number is a uid: nothing above 32 bits is cut down to one.
    assert_eq!(with(&order, FIRST_FIELD + 4, 1), FrameError::Value("target"));
    // PENDING ends with admin, degraded and two bytes of time.
    let yes = Message::Pending(pending());
    let last = body(&yes).len();
    assert_eq!(with(&yes, last - 4, 2), FrameError::Value("admin"));
    assert_eq!(with(&yes, last - 3, 2), FrameError::Value("degraded"));
}

#[test]
fn nobody_is_given_more_than_an_hour() {
    let of = |grace_s: u16| Message::End(End { grace_s, ..end() });
    assert_eq!(Message::decode(&body(&of(MAX_END_GRACE_S))), Ok(of(MAX_END_GRACE_S)));
    for above in [MAX_END_GRACE_S + 1, u16::MAX] {
        assert_eq!(of(above).encode(), Err(FrameError::Value("grace")));
        let mut bytes = body(&of(0));
        bytes[FIRST_FIELD + 9..FIRST_FIELD + 11].copy_from_slice(&above.to_be_bytes());
        assert_eq!(Message::decode(&bytes), Err(FrameError::Value("grace")));
    }
}

#[test]
fn at_most_two_parents() {
    let three = vec![Parent { pid: 1, start: 1 }; 3];
    let opening = Message::Open(Open { parents: three.clone(), ..open() });
    let closing = Message::Close(Close { parents: three, ..close() });
    for message in [opening, closing] {
        assert_eq!(message.encode(), Err(FrameError::Value("parents")));
    }
    for whole in [Message::Open(Open { parents: vec![], ..open() }), Message::Close(close())] {
        let mut bytes = body(&whole);
        *bytes.last_mut().unwrap() = 3;
        bytes.extend([0; 36]);
        assert_eq!(Message::decode(&bytes), Err(FrameError::Value("parents")));
    }
}

/// Guards polkit CVE-2018-19788, and the numbers that stand for "none": they arrive as they were sent.
#[test]
fn large_numbers_stay_what_they_are() {
    for number in [0, 2_147_483_647, 2_147_483_648, u32::MAX - 1, u32::MAX] {
        for sent in [
            Message::Open(Open { loginuid: number, audit_session: number, ..open() }),
            Message::Close(Close { audit_session: number, ..close() }),
            Message::Pending(Pending { uid: number, ..pending() }),
            Message::End(End { target: Target::Person(number), ..end() }),
            one_row(Row { uid: number, audit_session: number, ..plain_row(u64::MAX) }),
        ] {
            assert_eq!(Message::decode(&body(&sent)), Ok(sent));
        }
    }
}

#[test]
fn debug_of_a_session_s_opening_does_not_show_the_key() {
    let auth = || "publickey ssh-rsa SECRETTOKEN".to_owned();
    let opening = format!("{:?}", Message::Open(Open { auth: auth(), ..open() }));
    assert!(opening.contains("ann@contoso.com") && !opening.contains("SECRETTOKEN"), "{opening}");
    let seen = format!("{:?}", Message::Observed(Observed { auth: auth(), ..observed() }));
    assert!(seen.contains("bob") && !seen.contains("SECRETTOKEN"), "{seen}");
}

/// Asks for page after page as a client does, and gives what arrived and in how many frames.
fn read_all(table: &[Row]) -> (Vec<Row>, usize) {
    let (mut arrived, mut pages): (Vec<Row>, usize) = (Vec::new(), 0);
    loop {
        let after = arrived.last().map_or(0, |row| row.id);
        let page = Sessions::fitting(table.iter().filter(|row| row.id > after).cloned()).unwrap();
        let frame = Message::Sessions(page).encode().unwrap();
        assert!(frame.len() <= MAX_FRAME + 4, "{} bytes", frame.len());
        let Ok(Message::Sessions(page)) = Message::decode(&frame[4..]) else { panic!("no page") };
        assert!(page.rows.len() <= MAX_ROWS);
        assert!(!page.rows.is_empty() || !page.more, "a page without rows would never end");
        arrived.extend(page.rows);
        pages += 1;
        if !page.more {
            return (arrived, pages);
        }
    }
}

#[test]
fn a_thousand_rows_arrive_once_each_whatever_their_size() {
    let mut random = Xorshift::new(3);
    let mixed: Vec<Row> = (1..=1_000).map(|id| Row { id, ..row(&mut random) }).collect();
    let small: Vec<Row> = (1..=1_000).map(plain_row).collect();
    let long = |max: usize| "x".repeat(max);
    let large = |id| Row {
        user: long(MAX_USER_BYTES),
        oid: long(MAX_ID_BYTES),
        correlation: long(MAX_ID_BYTES),
        certificate: long(MAX_NOTE_BYTES),
        rhost: long(MAX_RHOST_BYTES),
        ttys: long(MAX_ID_BYTES),
        reason: long(MAX_WORD_BYTES),
        escaped: long(MAX_NOTE_BYTES),
        ..plain_row(id)
    };
    let largest: Vec<Row> = (1..=1_000).map(large).collect();
    for table in [mixed, small, largest] {
        let (arrived, pages) = read_all(&table);
        assert!(arrived == table, "{} of {} rows, in order", arrived.len(), table.len());
        // As few pages as the rows need, and at most one row's room left in each.
        let sizes = table.iter().map(|row| body(&one_row(row.clone())).len());
        let (sum, max) = (sizes.clone().sum::<usize>(), sizes.max().unwrap());
        let least = (sum / MAX_FRAME).max(table.len().div_ceil(MAX_ROWS));
        let most = (sum / (MAX_FRAME - 64 - max)).max(table.len() / MAX_ROWS) + 1;
        assert!((least..=most).contains(&pages), "{pages} pages instead of {least} to {most}");
    }
}

#[test]
fn a_page_says_that_there_is_more_only_if_there_is() {
    assert_eq!(Sessions::fitting([]).unwrap(), Sessions { rows: vec![], more: false });
    let rows = |count: u64| Sessions::fitting((1..=count).map(plain_row)).unwrap();
    for (count, kept, more) in [(1, 1, false), (254, 254, false), (255, 255, false), (256, 255, true)] {
        let page = rows(count);
        assert_eq!((page.rows.len(), page.more), (kept, more), "{count}");
    }
    let broken = [plain_row(1), Row { reason: "two words".to_owned(), ..plain_row(2) }];
    assert_eq!(Sessions::fitting(broken), Err(FrameError::Alphabet("reason")));
}

#[test]
fn a_page_with_too_many_rows_or_bytes_is_not_sent() {
    let rows = |count: u64, note: &str| {
        let row = |id| Row { escaped: note.to_owned(), ..plain_row(id) };
        Message::Sessions(Sessions { rows: (1..=count).map(row).collect(), more: false })
    };
    assert!(rows(255, "").encode().is_ok());
    assert_eq!(rows(256, "").encode(), Err(FrameError::Value("rows")));
    let refused = rows(255, &"x".repeat(MAX_NOTE_BYTES)).encode().unwrap_err();
    assert!(matches!(refused, FrameError::Length(size) if size as usize > MAX_FRAME), "{refused:?}");
}

/// Damage to a frame of a session verb is refused or is another message in full, as for the others.
#[test]
fn a_damaged_frame_is_refused_or_is_another_message_in_full() {
    let mut random = Xorshift::new(4);
    let (mut refused, mut other) = ([0_u32; 21], [0_u32; 21]);
    for _ in 0..SEED_ROUNDS {
        let mut bytes = body(&message(&mut random));
        let verb = usize::from(bytes[1]);
        // Version and verb stay: the fields are the subject.
        let at = FIRST_FIELD + random.below(bytes.len() - FIRST_FIELD);
        match random.below(4) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => drop(bytes.remove(at)),
            2 => bytes.insert(at, random.next() as u8),
            _ => bytes.truncate(at),
        }
        match Message::decode(&bytes) {
            Err(_) => refused[verb] += 1,
            Ok(read) => {
                assert_eq!(body(&read), bytes);
                other[verb] += 1;
            }
        }
    }
    assert!(refused[10..].iter().all(|count| *count > 50), "{refused:?}");
    assert!(other[10..].iter().sum::<u32>() > 100, "{other:?}");
}

//! Messages made from a seed: every verb, every field over its whole width.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test may stop at the first surprise
#![allow(unreachable_pub)] // a module of test programs, each a crate of its own

use nightlatch_wire::hammer::Xorshift;
use nightlatch_wire::session::{
    Close, End, List, MAX_AUTH_BYTES, MAX_END_GRACE_S, MAX_ID_BYTES, MAX_NOTE_BYTES, Observed, Open, Origin,
    Pending, Row, Say, Sessions, State, Target,
};
use nightlatch_wire::{
    Account, Auth, MAX_KEY_BYTES, MAX_KEY_TYPE_BYTES, MAX_LINE_BYTES, MAX_RHOST_BYTES, MAX_SERVICE_BYTES,
    MAX_TEXT_BYTES, MAX_TTY_BYTES, MAX_USER_BYTES, MAX_WORD_BYTES, Message, NO_LOGINUID, Offer, Parent,
    Prompt, PromptStage,
};

/// Uids and audit sessions at the edges of what the kernel says.
const NUMBERS: [u32; 4] = [0, 1_000, 2_147_483_648, NO_LOGINUID];

fn word(random: &mut Xorshift, min: usize, max: usize) -> String {
    let size = min + random.below(max - min + 1);
    (0..size).map(|_| char::from(0x21 + u8::try_from(random.below(94)).unwrap())).collect()
}

fn unicode(random: &mut Xorshift, min: usize, max: usize) -> String {
    let wide = ['é', 'Ж', '中', '🦉'];
    let mut out = word(random, min, max / 2);
    if random.below(2) == 0 && out.len() + 4 <= max {
        out.push(random.pick(&wide));
    }
    out
}

fn parents(random: &mut Xorshift) -> Vec<Parent> {
    (0..random.below(3)).map(|_| parent(random)).collect()
}

/// Any message, each verb as often as another.
pub fn message(random: &mut Xorshift) -> Message {
    match random.below(20) {
        0 => {
            let big = random.below(8) == 0;
            let key = if big { String::new() } else { word(random, 0, 3_000) };
            let extra = if big { MAX_KEY_BYTES + 1 + random.below(1_000_000) } else { 0 };
            Message::Offer(Offer {
                user: unicode(random, 1, MAX_USER_BYTES),
                uid: random.next() as u32,
                key_type: word(random, 1, MAX_KEY_TYPE_BYTES),
                key_len: u32::try_from(key.len() + extra).unwrap(),
                key,
                parents: parents(random),
            })
        }
        1 => Message::Line(word(random, 1, MAX_LINE_BYTES)),
        2 => Message::None,
        3 => Message::Account(Account {
            user: unicode(random, 1, MAX_USER_BYTES),
            service: unicode(random, 1, MAX_SERVICE_BYTES),
            rhost: unicode(random, 0, MAX_RHOST_BYTES),
            tty: unicode(random, 0, MAX_TTY_BYTES),
            loginuid: random.pick(&NUMBERS),
            audit_session: random.pick(&NUMBERS),
            parents: parents(random),
        }),
        4 => Message::Permit { until: random.next().cast_signed(), admin: flag(random) },
        5 => Message::Deny {
            code: word(random, 1, MAX_WORD_BYTES),
            text: format!("{}\n\u{1b}", unicode(random, 0, 900)),
        },
        6 => Message::Auth(Auth {
            user: unicode(random, 1, MAX_USER_BYTES),
            service: unicode(random, 1, MAX_SERVICE_BYTES),
            rhost: unicode(random, 0, MAX_RHOST_BYTES),
            parents: parents(random),
        }),
        7 => Message::Text(unicode(random, 0, MAX_TEXT_BYTES)),
        8 => Message::Err(word(random, 1, MAX_WORD_BYTES)),
        9 => Message::Open(Open {
            user: unicode(random, 1, MAX_USER_BYTES),
            rhost: unicode(random, 0, MAX_RHOST_BYTES),
            auth: auth(random),
            audit_session: random.pick(&NUMBERS),
            loginuid: random.pick(&NUMBERS),
            parents: parents(random),
        }),
        10 => Message::Opened(random.next()),
        11 => Message::Close(Close {
            user: unicode(random, 1, MAX_USER_BYTES),
            audit_session: random.pick(&NUMBERS),
            parents: parents(random),
        }),
        12 => Message::Done,
        13 => Message::Observed(Observed {
            user: unicode(random, 1, MAX_USER_BYTES),
            service: unicode(random, 1, MAX_SERVICE_BYTES),
            rhost: unicode(random, 0, MAX_RHOST_BYTES),
            auth: auth(random),
        }),
        14 => Message::Pending(pending(random)),
        15 => Message::List(List { after: random.next(), ended: flag(random) }),
        16 => Message::Sessions(Sessions {
            rows: (0..random.below(6)).map(|_| row(random)).collect(),
            more: flag(random),
        }),
        17 => Message::Prompt(Prompt {
            stage: [PromptStage::Begin, PromptStage::Shown, PromptStage::Over][random.below(3)],
            user: unicode(random, 1, MAX_USER_BYTES),
            service: unicode(random, 1, MAX_SERVICE_BYTES),
            rhost: unicode(random, 0, MAX_RHOST_BYTES),
            auth: auth(random),
            parents: parents(random),
        }),
        18 => Message::Say(Say { id: random.next(), text: format!("{}\n\u{1b}", unicode(random, 0, 900)) }),
        _ => Message::End(End {
            target: if flag(random) {
                Target::Session(random.next())
            } else {
                Target::Person(random.pick(&NUMBERS))
            },
            grace_s: u16::try_from(random.below(usize::from(MAX_END_GRACE_S) + 1)).unwrap(),
            reason: word(random, 1, MAX_WORD_BYTES),
            text: unicode(random, 0, 900),
        }),
    }
}

fn flag(random: &mut Xorshift) -> bool {
    random.below(2) == 1
}

fn parent(random: &mut Xorshift) -> Parent {
    Parent { pid: random.next() as u32, start: random.next() }
}

/// Mostly a line as sshd writes it, now and then as long as it may be.
fn auth(random: &mut Xorshift) -> String {
    match random.below(8) {
        0 => String::new(),
        1 => "a".repeat(MAX_AUTH_BYTES - random.below(3)),
        _ => format!("publickey ssh-rsa {}", word(random, 1, 3_000)),
    }
}

fn pending(random: &mut Xorshift) -> Pending {
    Pending {
        monitor: parent(random),
        user: unicode(random, 1, MAX_USER_BYTES),
        uid: random.pick(&NUMBERS),
        oid: word(random, 0, MAX_ID_BYTES),
        correlation: word(random, 0, MAX_ID_BYTES),
        certificate: unicode(random, 0, MAX_NOTE_BYTES),
        digest: std::array::from_fn(|_| random.next() as u8),
        rhost: unicode(random, 0, MAX_RHOST_BYTES),
        until: random.next().cast_signed(),
        admin: flag(random),
        degraded: flag(random),
        open_within_s: random.next() as u16,
    }
}

/// A session in any state.
pub fn row(random: &mut Xorshift) -> Row {
    Row {
        id: random.next(),
        origin: [Origin::Login, Origin::Adopted, Origin::BreakGlass][random.below(3)],
        state: [State::Open, State::Ending, State::Ended][random.below(3)],
        user: unicode(random, 0, MAX_USER_BYTES),
        uid: random.pick(&NUMBERS),
        oid: word(random, 0, MAX_ID_BYTES),
        correlation: word(random, 0, MAX_ID_BYTES),
        certificate: unicode(random, 0, MAX_NOTE_BYTES),
        rhost: unicode(random, 0, MAX_RHOST_BYTES),
        ttys: word(random, 0, MAX_ID_BYTES),
        monitor: parent(random),
        audit_session: random.pick(&NUMBERS),
        started: random.next().cast_signed(),
        until: random.next().cast_signed(),
        admin: flag(random),
        degraded: flag(random),
        ended: random.next().cast_signed(),
        reason: word(random, 0, MAX_WORD_BYTES),
        escaped: unicode(random, 0, MAX_NOTE_BYTES),
    }
}

//! The arithmetic of events: what repeats is one, the counts add up, and nobody hides another.

use std::sync::Arc;
use std::time::Duration;

use nightlatch_model::{Secret, Timestamp};
use nightlatch_tokens::{Caller, Purpose, Token, TokenKey};

use super::audit::{Event, Happened, Ledger, Outcome, WINDOW};
use super::surface_tests::{CANARY, caller};

fn token(number: u32) -> Arc<Token> {
    Arc::new(Token::bearer(Secret::new(format!("{CANARY}{number}")), Timestamp(9_000), None))
}

fn key() -> TokenKey {
    TokenKey {
        identity: "node".into(),
        owner: None,
        resource: "https://vault.azure.net".parse().unwrap(),
        scopes: vec![],
        cae: false,
        pop_key: None,
        purpose: Purpose::Agent,
        on_behalf_of: Some("abc".into()),
    }
}

struct Book {
    ledger: Ledger,
    events: Vec<Event>,
    ids: u32,
}

impl Book {
    fn new() -> Self {
        Self { ledger: Ledger::default(), events: vec![], ids: 0 }
    }

    fn note(&mut self, caller: &Caller, rule: &str, outcome: Outcome<'_>, boot: u64) -> Arc<str> {
        let key = key();
        let what = Happened { caller, rule, key: Some(&key), resource: "https://vault.azure.net", outcome };
        self.ids += 1;
        let id = format!("id-{}", self.ids);
        let (id, event) = self.ledger.note(&what, Duration::from_secs(boot), Timestamp(100), || id);
        self.events.extend(event);
        id
    }

    fn close(&mut self, boot: u64) {
        self.events.extend(self.ledger.close(Duration::from_secs(boot), false));
    }

    fn counted(&self) -> u64 {
        self.events.iter().map(|event| event.count).sum::<u64>() + self.ledger.take_uncounted()
    }
}

fn given(token: &Arc<Token>) -> Outcome<'_> {
    Outcome::HandedOut { token, fresh: false, age: Duration::from_secs(3), expires: Timestamp(9_000) }
}

#[test]
fn repeats_within_a_minute_are_one_event_and_one_count() {
    let mut book = Book::new();
    let (one, anna) = (token(1), caller(1_000));
    let first = book.note(&anna, "web", given(&one), 10);
    for second in 11..=60 {
        assert_eq!(book.note(&anna, "web", given(&one), second), first);
    }
    book.close(10 + WINDOW.as_secs() - 1);
    assert_eq!((book.events.len(), book.events[0].count), (1, 1));
    book.close(10 + WINDOW.as_secs());
    assert_eq!((book.events[1].outcome, book.events[1].count), ("repeated", 50));
    assert_eq!(book.events[1].correlation, *first);
    assert_eq!(book.counted(), 51);
    // The next window begins with an event of its own.
    assert_ne!(book.note(&anna, "web", given(&one), 71), first);
    book.close(200);
    assert_eq!((book.events.len(), book.counted()), (3, 52));
}

#[test]
fn another_caller_rule_or_token_is_another_event() {
    let mut book = Book::new();
    let (one, two, anna) = (token(1), token(2), caller(1_000));
    let mut other_process = anna.clone();
    other_process.process.as_mut().unwrap().pid = 8;
    book.note(&anna, "web", given(&one), 1);
    book.note(&anna, "web", given(&two), 1);
    book.note(&anna, "other", given(&one), 1);
    book.note(&other_process, "web", given(&one), 1);
    book.note(&caller(1_016), "web", given(&one), 1);
    let refused = Outcome::Refused { word: "not_allowed", sentence: "no" };
    book.note(&anna, "web", refused, 1);
    book.note(&anna, "web", refused, 1);
    assert_eq!(book.events.len(), 6);
    book.close(100);
    assert_eq!((book.events.len(), book.counted()), (7, 7));
    let event = &book.events[6];
    assert_eq!((event.outcome, event.word, event.count), ("repeated", Some("not_allowed"), 1));
}

#[test]
fn one_uid_with_many_processes_is_bounded_and_hides_nobody() {
    let mut book = Book::new();
    let (one, mut crowd) = (token(1), caller(1_000));
    for pid in 0..10_000 {
        crowd.process.as_mut().unwrap().pid = pid;
        book.note(&crowd, "web", given(&one), 1);
    }
    let of_the_crowd = book.events.len();
    assert!((64..=128).contains(&of_the_crowd), "{of_the_crowd}");
    // The last one stands for all that are not told apart.
    assert_eq!(book.events.last().unwrap().pid, None);
    for word in 0..5_000 {
        // Refusals under ever new rules are too many to keep apart, and are counted.
        book.note(&crowd, &format!("r{word}"), Outcome::Refused { word: "not_allowed", sentence: "" }, 1);
    }
    assert!(book.events.len() <= 128, "{}", book.events.len());
    // In the same shard, and still told apart.
    book.note(&caller(1_016), "web", given(&one), 1);
    assert_eq!(book.events.last().unwrap().uid, 1_016);
    book.close(100);
    assert_eq!(book.counted(), 15_001);
}

#[test]
fn an_event_says_who_got_what_and_never_the_token() {
    let mut book = Book::new();
    let one = token(1);
    book.note(&caller(1_000), "web", given(&one), 1);
    let line = serde_json::to_string(&book.events[0]).unwrap();
    assert!(!line.contains(CANARY), "{line}");
    for part in [
        "\"correlation\":\"id-1\"",
        "\"outcome\":\"handed_out\"",
        "\"uid\":1000",
        "\"pid\":7",
        "\"unit\":\"web.service\"",
        "\"door\":\"imds.sock\"",
        "\"rule\":\"web\"",
        "\"identity\":\"node\"",
        "\"resource\":\"https://vault.azure.net\"",
        "\"purpose\":\"agent\"",
        "\"on_behalf_of\":\"abc\"",
        "\"source\":\"cache\"",
        "\"age\":3",
        "\"expires\":9000",
    ] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
}

//! People against a token endpoint that lies, a disk that fails, and each other.

mod emulated;
mod entra;
mod killed;
mod logins;

use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use serde_json::{Value, json};
use tokio::sync::Semaphore;

use self::entra::{ADELE, ALICE, CLIENT, Entra, sign_in, tokens};
use super::*;
use crate::store::sealed::tests::disk::{Fault, Left, MemoryDisk};
use crate::store::sealed::{Found, Places, SealKind};

const VAULT: &str = "https://vault.azure.net";

fn key(owner: Option<u32>) -> TokenKey {
    TokenKey {
        identity: PERSON.into(),
        owner,
        resource: VAULT.parse().unwrap(),
        scopes: Vec::new(),
        cae: false,
        pop_key: None,
        purpose: nightlatch_tokens::Purpose::Program,
        on_behalf_of: None,
    }
}

fn sealed_on(disk: &MemoryDisk) -> (Arc<Sealed>, Found) {
    let places = Places { store: "/s/sealed".into(), high_water: "/s/high".into() };
    let (sealed, found) =
        Sealed::open(Arc::new(disk.clone()), places, &[1; 32], SealKind::Host, "m").unwrap();
    (Arc::new(sealed), found)
}

fn stored(sealed: &Sealed, uid: u32) -> Option<String> {
    let name = record::name_of(uid);
    Record::read(&name, &sealed.get(&name)?).map(|record| record.refresh_token.expose().to_owned())
}

/// Answers each refresh with the next tokens of `oid`.
async fn rotating(oid: &'static str) -> Entra {
    let number = AtomicU64::new(0);
    Entra::start(move |form| (200, tokens(&form["base"], oid, number.fetch_add(1, Ordering::SeqCst) + 1)))
        .await
}

#[tokio::test]
async fn the_next_refresh_token_is_on_the_disk_before_the_access_token_leaves() {
    let disk = MemoryDisk::default();
    let entra = rotating(ALICE).await;
    let (sealed, _) = sealed_on(&disk);
    let people = entra.people(&sealed);
    sign_in(&people, 1000, ALICE, "rt-0").await;
    let claims = Claims::new(r#"{"access_token":{"nbf":{"essential":true,"value":"1"}}}"#).unwrap();
    let mut wanted = key(Some(1000));
    wanted.cae = true;
    let token = people.fetch(&wanted, Some(&claims)).await.unwrap();
    assert_eq!((token.stamp.uti.as_deref(), token.expires.0), (Some("at-1"), entra::NOW + 3600));
    // What a crash right now would leave.
    let after = sealed_on(&disk.after_power_loss(0, Left::Nothing)).0;
    assert_eq!(stored(&after, 1000).as_deref(), Some("rt-1"));
    assert_eq!(people.fetch(&key(Some(1000)), None).await.unwrap().stamp.uti.as_deref(), Some("at-2"));
    let asked = entra.asked();
    let sent: Vec<_> = asked.iter().map(|form| form["refresh_token"].as_str()).collect();
    assert_eq!(sent, ["rt-0", "rt-1"], "the old one is not used again");
    assert_eq!(asked[0]["scope"], "https://vault.azure.net/.default openid profile offline_access");
    let sent: Value = serde_json::from_str(&asked[0]["claims"]).unwrap();
    assert_eq!(sent["access_token"]["xms_cc"]["values"], json!(["cp1"]));
    assert_eq!(sent["access_token"]["nbf"]["value"], "1");
    assert!(!asked[1].contains_key("claims"));
    // The person is still there after a restart, for this application and for no other.
    let again = entra.people(&sealed_on(&disk).0);
    assert_eq!(again.person(1000).unwrap().object_id, entra::object(ALICE));
    assert_eq!(people.circuit(&wanted), again.circuit(&wanted));
    assert!(entra::people(&entra.base, ADELE, &sealed_on(&disk).0).person(1000).is_none());
}

#[tokio::test]
async fn a_disk_that_fails_serves_nothing_and_loses_nothing() {
    let entra = rotating(ALICE).await;
    for step in 1..=10 {
        for fault in [Fault::Refused, Fault::DoneButFailed] {
            let disk = MemoryDisk::default();
            let (sealed, _) = sealed_on(&disk);
            let people = entra.people(&sealed);
            sign_in(&people, 1000, ALICE, "rt-0").await;
            let before = entra.asked().len();
            disk.fail_at(step, fault);
            let first = people.fetch(&key(Some(1000)), None).await;
            let newest = entra.asked().len();
            assert_eq!(newest, before + 1);
            let failure = first.err().unwrap_or_else(|| panic!("step {step}, {fault:?}: it was served"));
            assert_eq!(failure.class, FailureClass::Transient);
            assert!(failure.sentence.contains("cannot be kept"), "{}", failure.sentence);
            people.fetch(&key(Some(1000)), None).await.unwrap();
            // The token that could not be written was not forgotten.
            assert_eq!(entra.asked()[newest]["refresh_token"], format!("rt-{newest}"));
            let kept = stored(&sealed_on(&disk).0, 1000);
            assert_eq!(kept, Some(format!("rt-{}", newest + 1)), "step {step}");
        }
    }
}

#[tokio::test]
async fn past_bug_23_an_answer_about_somebody_else_is_refused_and_ends_the_sign_in() {
    for name in ["oid", "tid", "aud", "iss", "none"] {
        let entra = Entra::start(move |form| {
            let mut body = tokens(&form["base"], ALICE, 1);
            let mut claims = json!({"iss": format!("{}/{}/v2.0", form["base"], entra::TENANT),
                "aud": CLIENT, "tid": entra::TENANT, "oid": ALICE, "exp": entra::NOW + 60});
            claims[name] = ADELE.into();
            body["id_token"] = if name == "none" { Value::Null } else { entra::jwt(&claims).into() };
            (200, body)
        })
        .await;
        let disk = MemoryDisk::default();
        let people = entra.people(&sealed_on(&disk).0);
        sign_in(&people, 1000, ALICE, "rt-0").await;
        let purged = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&purged);
        people.on_change(move |uid| seen.lock().unwrap().push(uid));
        let failure = people.fetch(&key(Some(1000)), None).await.err().unwrap();
        assert_eq!(failure.class, FailureClass::NeedsUser, "{name}: {}", failure.sentence);
        assert!(failure.sentence.contains("`nightlatch login`"), "{}", failure.sentence);
        assert_eq!((people.person(1000), purged.lock().unwrap().as_slice()), (None, &[1000][..]));
        assert!(people.fetch(&key(Some(1000)), None).await.is_err());
        assert_eq!(entra.asked().len(), 1, "{name}: the refresh token was sent again");
        assert_eq!(stored(&sealed_on(&disk).0, 1000), None, "{name}");
    }
}

#[tokio::test]
async fn a_sign_in_that_was_taken_back_is_never_shown_to_entra_again() {
    let entra = Entra::start(|_| {
        (
            400,
            json!({"error": "invalid_grant", "suberror": "bad_token", "error_codes": [50173],
            "error_description": "AADSTS50173: revoked. Trace ID: x"}),
        )
    })
    .await;
    let disk = MemoryDisk::default();
    let people = entra.people(&sealed_on(&disk).0);
    let withdrawn = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&withdrawn);
    people.on_withdrawn(move |oid| heard.lock().unwrap().push(oid));
    sign_in(&people, 1000, ALICE, "rt-0").await;
    let mut asks = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let people = people.clone();
        asks.spawn(async move { people.fetch(&key(Some(1000)), None).await.map(drop) });
    }
    // While this is held the sign-in cannot be taken off the disk, and the others have their turn.
    let mut held = Some(people.0.changing.lock().await);
    let mut revoked = 0;
    for answered in 0..20 {
        if answered == 19 {
            held.take();
        }
        let next = tokio::time::timeout(Duration::from_secs(10), asks.join_next());
        let failure = next.await.expect("it was shown to Entra again").unwrap().unwrap().unwrap_err();
        assert!(failure.sentence.contains("run `nightlatch login`"), "{}", failure.sentence);
        revoked += u32::from(failure.class == FailureClass::Revoked);
    }
    assert_eq!((revoked, entra.asked().len()), (1, 1));
    // Whoever keeps sessions hears of it, once.
    assert_eq!(*withdrawn.lock().unwrap(), [entra::object(ALICE)]);
    let again = entra.people(&sealed_on(&disk).0);
    assert_eq!(again.fetch(&key(Some(1000)), None).await.err().unwrap().class, FailureClass::NeedsUser);
    assert_eq!(entra.asked().len(), 1);
}

#[tokio::test]
async fn what_needs_a_person_names_the_claims_and_keeps_the_sign_in() {
    let entra = Entra::start(|form| match form.get("claims") {
        None => (
            400,
            json!({"error": "interaction_required", "suberror": "basic_action",
            "claims": r#"{"access_token":{"acrs":{"value":"c1"}}}"#}),
        ),
        Some(_) => (400, json!({"error": "invalid_grant", "suberror": "consent_required"})),
    })
    .await;
    let (sealed, _) = sealed_on(&MemoryDisk::default());
    let people = entra.people(&sealed);
    sign_in(&people, 1000, ALICE, "rt-0").await;
    let failure = people.fetch(&key(Some(1000)), None).await.err().unwrap();
    assert_eq!(failure.class, FailureClass::NeedsUser);
    assert_eq!(failure.claims.as_deref(), Some(r#"{"access_token":{"acrs":{"value":"c1"}}}"#));
    let challenge = Claims::new(r#"{"access_token":{"nbf":1}}"#).unwrap();
    let failure = people.fetch(&key(Some(1000)), Some(&challenge)).await.err().unwrap();
    assert_eq!(failure.claims.as_deref(), Some(challenge.as_str()), "Entra named none");
    assert!(failure.sentence.ends_with("run `nightlatch login`"), "{}", failure.sentence);
    assert_eq!(stored(&sealed, 1000).as_deref(), Some("rt-0"));
}

#[tokio::test]
async fn past_bug_17_an_id_or_refresh_token_is_never_served_as_an_access_token() {
    for other in ["id_token", "refresh_token", "sent"] {
        let entra = Entra::start(move |form| {
            let mut body = tokens(&form["base"], ALICE, 1);
            body["access_token"] =
                if other == "sent" { form["refresh_token"].clone().into() } else { body[other].clone() };
            (200, body)
        })
        .await;
        let people = entra.people(&sealed_on(&MemoryDisk::default()).0);
        sign_in(&people, 1000, ALICE, "rt-0").await;
        assert!(people.fetch(&key(Some(1000)), None).await.is_err(), "{other} was served");
    }
}

/// Numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

#[tokio::test]
async fn past_bug_22_no_spelling_reaches_another_persons_token() {
    let entra = Entra::start(|form| {
        let oid = if form["refresh_token"].contains("alice") { ALICE } else { ADELE };
        let mut body = tokens(&form["base"], oid, 1);
        body["refresh_token"] = form["refresh_token"].clone().into();
        (200, body)
    })
    .await;
    let people = entra.people(&sealed_on(&MemoryDisk::default()).0);
    let (alice, adele) = (1000, 1001);
    sign_in(&people, alice, ALICE, "rt-alice").await;
    sign_in(&people, adele, ADELE, "rt-adele").await;
    let names = [
        ALICE,
        "alice@contoso.com",
        "1000@contoso.com",
        "person/1000",
        "person",
        "1000",
        "uid:1000",
        "person\0",
        "person ",
        "/person",
        "me",
        "*",
        "",
    ];
    let owners = [None, Some(adele), Some(0), Some(1002), Some(u32::MAX), Some(65_534), Some(alice)];
    let (mut dice, mut served, mut refused) = (Dice(0x9e37_79b9_7f4a_7c15), 0, 0);
    for round in 0..100_000 {
        let mut wanted = key(owners[dice.below(owners.len())]);
        let plain: &str = names[dice.below(names.len())];
        let odd: String =
            plain.chars().map(|c| if dice.below(2) == 0 { c.to_ascii_uppercase() } else { c }).collect();
        // Now and then the one right name, so that the way is known to be open.
        wanted.identity = if round % 100 == 0 { PERSON.into() } else { odd.as_str().into() };
        wanted.scopes = vec![plain.to_owned(); dice.below(2)];
        wanted.pop_key = (dice.below(4) == 0 && round % 100 != 0).then(|| plain.to_owned());
        wanted.on_behalf_of = (dice.below(4) == 0 && round % 100 != 0).then(|| ALICE.to_owned());
        match people.fetch(&wanted, None).await {
            Ok(token) => {
                let whose = if wanted.owner == Some(alice) { ALICE } else { ADELE };
                assert!(matches!(wanted.owner, Some(owner) if owner == alice || owner == adele));
                assert_eq!(token.stamp.oid.as_deref(), Some(whose), "{wanted:?}");
                assert_eq!(&*wanted.identity, PERSON);
                served += 1;
            }
            Err(_) => refused += 1,
        }
    }
    assert!(served > 100 && refused > 90_000, "{served} served, {refused} refused");
}

#[tokio::test]
async fn an_answer_is_stored_although_whoever_asked_went_away() {
    let asked = Arc::new(Semaphore::new(0));
    let heard = Arc::clone(&asked);
    let entra = Entra::start(move |form| {
        heard.add_permits(1);
        (200, tokens(&form["base"], ALICE, 1))
    })
    .await;
    let (sealed, _) = sealed_on(&MemoryDisk::default());
    let people = entra.people(&sealed);
    sign_in(&people, 1000, ALICE, "rt-0").await;
    let wanted = key(Some(1000));
    tokio::select! {
        biased;
        _ = asked.acquire() => {}
        _ = people.fetch(&wanted, None) => panic!("it was answered before it was asked"),
    }
    assert_eq!(stored(&sealed, 1000).as_deref(), Some("rt-0"), "whoever asked did not go away in time");
    tokio::time::timeout(Duration::from_secs(10), async {
        while stored(&sealed, 1000).as_deref() != Some("rt-1") {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_sign_out_is_final_also_for_what_is_under_way() {
    let asked = Arc::new(Semaphore::new(0));
    let heard = Arc::clone(&asked);
    let entra = Entra::start(move |form| {
        heard.add_permits(1);
        (200, tokens(&form["base"], ALICE, 1))
    })
    .await;
    let disk = MemoryDisk::default();
    let (sealed, _) = sealed_on(&disk);
    let people = entra.people(&sealed);
    let purged = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&purged);
    people.on_change(move |_| {
        seen.fetch_add(1, Ordering::SeqCst);
    });
    assert_eq!(people.logout(1000).await, Ok(None));
    sign_in(&people, 1000, ALICE, "rt-0").await;
    sign_in(&people, 1001, ADELE, "rt-x").await;
    let under_way = tokio::spawn({
        let people = people.clone();
        async move { people.fetch(&key(Some(1000)), None).await }
    });
    asked.acquire().await.unwrap().forget();
    let who = people.logout(1000).await.unwrap().unwrap();
    assert_eq!(who.object_id, entra::object(ALICE));
    // Served before the sign-out, or not at all: nothing of it is kept.
    let _ = under_way.await.unwrap();
    assert_eq!((people.person(1000), purged.load(Ordering::SeqCst)), (None, 3));
    let after = sealed_on(&disk.after_power_loss(0, Left::Nothing)).0;
    assert_eq!((stored(&after, 1000), stored(&after, 1001).as_deref()), (None, Some("rt-x")));
    assert_eq!(people.logout(1000).await, Ok(None));
    // A disk that refuses is told, and the person is out all the same.
    disk.fail_at(1, Fault::PowerOff);
    assert!(matches!(people.logout(1001).await, Err(LoginError::NotStored(_))));
    assert!(people.person(1001).is_none() && people.fetch(&key(Some(1001)), None).await.is_err());
}

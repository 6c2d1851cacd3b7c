//! kill -9 in the middle of rotations: a child does them one after the other and says so before and
//! after each, and is killed at a moment that nobody chose.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use super::entra::{ALICE, Entra, sign_in, tokens};
use super::*;
use crate::store::RealDisk;

/// Set for the child: the folder of the store.
const CHILD: &str = "NIGHTLATCH_TEST_ROTATIONS";
const THIS: &str =
    "broker::people::tests::killed::a_kill_at_any_moment_leaves_the_newest_or_the_previous_token";
/// Kills in one run, and in a long one (`NIGHTLATCH_SOAK=1`).
const KILLS: usize = 25;
const KILLS_SOAK: usize = 200;
/// The child is let do at most so many lines before it is killed.
const MOST_LINES: usize = 24;
/// After its last line it runs on for at most so many turns of a loop.
const MOST_SPINS: usize = 400_000;

fn open(folder: &Path) -> (Arc<Sealed>, Found) {
    let places = Places { store: folder.join("sealed"), high_water: folder.join("sealed.generation") };
    let (sealed, found) = Sealed::open(Arc::new(RealDisk), places, &[1; 32], SealKind::Host, "m").unwrap();
    (Arc::new(sealed), found)
}

fn number(sealed: &Sealed) -> u64 {
    stored(sealed, 1000).unwrap().strip_prefix("rt-").unwrap().parse().unwrap()
}

/// One line to the parent, whole and at once.
fn say(word: &str, number: u64) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{word} {number}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

async fn rotate_for_ever(folder: &Path) {
    let (sealed, _) = open(folder);
    let next = AtomicU64::new(number(&sealed));
    let entra = Entra::start(move |form| {
        let number = next.fetch_add(1, Ordering::SeqCst) + 1;
        say("issued", number);
        (200, tokens(&form["base"], ALICE, number))
    })
    .await;
    // The issuer is the stand-in's own, and the record is bound to tenant and application only.
    let people = entra.people(&sealed);
    loop {
        let token = people.fetch(&key(Some(1000)), None).await.unwrap();
        say("served", token.stamp.uti.unwrap().strip_prefix("at-").unwrap().parse().unwrap());
    }
}

#[test]
fn a_kill_at_any_moment_leaves_the_newest_or_the_previous_token() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if let Some(folder) = std::env::var_os(CHILD) {
        runtime.block_on(rotate_for_ever(Path::new(&folder)));
        unreachable!("it ends by being killed");
    }
    let mut random = [0; 8];
    aws_lc_rs::rand::fill(&mut random).unwrap();
    let given = std::env::var("NIGHTLATCH_SEED").ok().map(|seed| seed.parse().unwrap());
    let seed = given.unwrap_or_else(|| u64::from_le_bytes(random) | 1);
    println!("NIGHTLATCH_SEED={seed}");
    let mut dice = Dice(seed);
    let folder = tempfile::tempdir().unwrap();
    runtime.block_on(async {
        let people = entra::people("http://127.0.0.1:1", CLIENT, &open(folder.path()).0);
        sign_in(&people, 1000, ALICE, "rt-0").await;
    });
    let soak = std::env::var_os("NIGHTLATCH_SOAK").is_some_and(|on| on == "1");
    let (mut rotations, mut unserved) = (0, 0);
    for round in 0..if soak { KILLS_SOAK } else { KILLS } {
        let begun = number(&open(folder.path()).0);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", THIS, "--nocapture", "--test-threads=1"])
            .env(CHILD, folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (mut issued, mut served) = (begun, begun);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut hear = |line: &str| {
            // The name of the test stands before the first line.
            let mut words = line.rsplit(' ');
            let number = words.next().and_then(|word| word.parse().ok());
            match (line.contains("issued "), line.contains("served "), number) {
                (true, _, Some(number)) => issued = number,
                (_, true, Some(number)) => served = number,
                _ => {}
            }
        };
        for _ in 0..3 + dice.below(MOST_LINES) {
            hear(&lines.next().unwrap().unwrap());
        }
        for _ in 0..dice.below(MOST_SPINS) {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines.map_while(Result::ok) {
            hear(&line);
        }
        let (sealed, found) = open(folder.path());
        let kept = number(&sealed);
        let what = format!("round {round}, seed {seed}: issued {issued}, served {served}, kept {kept}");
        assert_eq!(found, Found::Whole, "{what}");
        assert!(kept == issued || kept + 1 == issued, "{what}");
        assert!(kept >= served, "{what}: a token was served before its successor was kept");
        rotations += issued - begun;
        unserved += issued - served;
    }
    println!("{rotations} rotations, {unserved} of them cut short");
    assert!(rotations > 25 && unserved > 0, "{rotations} rotations, {unserved} cut short");
}

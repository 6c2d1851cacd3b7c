//! What one uid does to the doors, another uid does not feel.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixSocket, UnixStream};
use tokio::time::{Instant, timeout};

use super::door::MAX_CONNECTIONS_PER_UID;
use super::surface_tests::{RULES, Rig, ask, policy};

/// Connections of the uid that floods; as many as a test may make.
const FLOOD: usize = 3_000;
/// Questions of the uid that goes on working.
const QUESTIONS: usize = 200;
/// What the other uid may wait for at most, in 99 of 100 questions.
const P99: Duration = Duration::from_millis(100);

fn question() -> &'static str {
    "GET /msi/token?api-version=2019-08-01&resource=https%3A%2F%2Fvault.azure.net HTTP/1.1\r\nHost: localhost\r\n\r\n"
}

/// Whether the other end closes the connection, after at most the settings that HTTP/2 begins with.
async fn is_closed(stream: &mut UnixStream) -> bool {
    let mut greeting = Vec::new();
    let end = timeout(Duration::from_secs(20), stream.read_to_end(&mut greeting)).await;
    end.is_ok() && greeting.len() < 200
}

async fn fill(rig: &Rig, door: &PathBuf, uid: u32) -> Vec<UnixStream> {
    let mut held = Vec::new();
    for _ in 0..MAX_CONNECTIONS_PER_UID {
        held.push(rig.connect(door, uid).await);
    }
    while rig.slots.in_use() < MAX_CONNECTIONS_PER_UID {
        tokio::task::yield_now().await;
    }
    held
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn past_bug_68_a_flood_of_one_uid_leaves_another_its_time() {
    let rig = Arc::new(Rig::new());
    let door = rig.http(None);
    let mut held = fill(&rig, &door, 1_000).await;
    // Half a head in each of its places, and then ever more connections.
    for stream in &mut held {
        stream.write_all(b"GET /msi/tok").await.unwrap();
    }
    let flood = tokio::spawn({
        let (rig, door) = (Arc::clone(&rig), door.clone());
        async move {
            let mut turned_away = 0;
            for _ in 0..FLOOD {
                let mut stream = rig.connect(&door, 1_000).await;
                turned_away += usize::from(is_closed(&mut stream).await);
            }
            turned_away
        }
    });
    let mut took = Vec::with_capacity(QUESTIONS);
    for _ in 0..QUESTIONS {
        let start = Instant::now();
        let mut stream = rig.connect(&door, 1_001).await;
        let reply = ask(&mut stream, question()).await.expect("an answer");
        took.push(start.elapsed());
        assert_eq!(reply.status, 200);
    }
    took.sort();
    assert!(took[QUESTIONS * 99 / 100] < P99, "{:?}", took[QUESTIONS * 99 / 100]);
    // Those whose half a head took too long made room for some; the rest was turned away at once.
    let turned_away = flood.await.unwrap();
    assert_eq!(turned_away, FLOOD);
    drop(held);
}

#[tokio::test]
async fn past_bug_68_places_come_back_when_their_holders_are_slow_or_gone() {
    let rig = Rig::new();
    let door = rig.http(None);
    let held = fill(&rig, &door, 1_000).await;
    let mut one_more = rig.connect(&door, 1_000).await;
    assert!(is_closed(&mut one_more).await);
    drop(held);
    while rig.slots.in_use() > 0 {
        tokio::task::yield_now().await;
    }
    let mut stream = rig.connect(&door, 1_000).await;
    assert_eq!(ask(&mut stream, question()).await.unwrap().status, 200);
}

#[tokio::test]
async fn past_bug_68_both_doors_share_the_places_of_a_uid() {
    let rig = Rig::new();
    let (http, grpc) = (rig.http(None), rig.grpc());
    let _held = fill(&rig, &http, 1_000).await;
    let mut stranger = rig.connect(&grpc, 1_000).await;
    assert!(is_closed(&mut stranger).await);
    let mut other = rig.connect(&grpc, 1_001).await;
    other.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut frame = [0; 9];
    timeout(Duration::from_secs(20), other.read_exact(&mut frame)).await.unwrap().unwrap();
    assert_eq!(frame[3], 4, "the server's settings");
}

#[tokio::test]
async fn past_bug_68_silence_half_a_question_and_half_a_greeting_end() {
    let rig = Rig::new();
    let (http, grpc) = (rig.http(None), rig.grpc());
    let start = Instant::now();
    let mut silent = rig.connect(&http, 1_000).await;
    let mut half = rig.connect(&http, 1_000).await;
    half.write_all(b"GET /msi/token").await.unwrap();
    let mut half_body = rig.connect(&http, 1_000).await;
    let head = "POST /msi/token HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nresource";
    half_body.write_all(head.as_bytes()).await.unwrap();
    let mut silent_greeting = rig.connect(&grpc, 1_000).await;
    let mut half_greeting = rig.connect(&grpc, 1_000).await;
    half_greeting.write_all(b"PRI * HTTP/2.0").await.unwrap();
    assert!(is_closed(&mut silent).await, "silence on imds.sock");
    assert!(is_closed(&mut silent_greeting).await, "silence on broker.sock");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert!(is_closed(&mut half).await, "half a head");
    assert!(is_closed(&mut half_greeting).await, "half a greeting");
    let mut rest = Vec::new();
    // What was asked for is not answered with a token; a word about the broken form may come.
    timeout(Duration::from_secs(20), half_body.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    while rig.slots.in_use() > 0 {
        tokio::task::yield_now().await;
    }
}

/// A real door with the kernel's word: the test's own uid is asked for, and a connection whose maker has
/// ended has no identity, although somebody else still holds it.
#[tokio::test]
async fn past_bug_45_a_connection_that_was_handed_on_has_nobodys_identity() {
    let rig = Rig::new();
    let uid = nix::unistd::getuid().as_raw();
    rig.broker.set_policy(policy(&RULES.replace("[1000, 1001]", &format!("[{uid}]"))));
    let (listener, door) = rig.listen();
    let serving = super::http::serve(listener, Arc::clone(&rig.broker), Arc::clone(&rig.slots));
    let serving = tokio::spawn(serving);
    let mut own = UnixStream::connect(&door).await.unwrap();
    assert_eq!(ask(&mut own, question()).await.unwrap().status, 200);

    // The child connects a socket that this process goes on holding, asks nothing, and ends.
    let held = UnixSocket::new_stream().unwrap();
    let theirs = held.as_fd().try_clone_to_owned().unwrap();
    let code = "import socket,sys; socket.socket(fileno=0).connect(sys.argv[1])";
    let mut child = std::process::Command::new("python3")
        .args(["-c", code])
        .arg(&door)
        .stdin(std::process::Stdio::from(theirs))
        .spawn()
        .unwrap();
    assert!(tokio::task::spawn_blocking(move || child.wait()).await.unwrap().unwrap().success());
    let mut handed_on = UnixStream::from_std(std::os::unix::net::UnixStream::from(
        held.as_fd().try_clone_to_owned().unwrap(),
    ))
    .unwrap();
    let reply = ask(&mut handed_on, question()).await;
    // Closed at once, or refused by name: in no case a token.
    assert!(reply.as_ref().is_none_or(|reply| reply.status == 403), "{reply:?}");
    assert_eq!(ask(&mut own, question()).await.unwrap().status, 200);
    serving.abort();
}

/// A frame of HTTP/2 (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The head of a question in HPACK (RFC 7541): indexed and literal fields without indexing.
fn head_of_a_question() -> Vec<u8> {
    let mut head = vec![0x83, 0x86];
    for (name, value) in [
        (":path", "/nightlatch.broker.v1.TokenBroker/GetToken"),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ] {
        head.push(0);
        for text in [name, value] {
            head.push(u8::try_from(text.len()).unwrap());
            head.extend(text.as_bytes());
        }
    }
    head
}

/// Everything that a connection lets itself be given without one whole question on it.
async fn swallowed(stream: &mut UnixStream) -> usize {
    const MOST: usize = 8 * 1024 * 1024;
    let mut hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    hello.extend(frame(4, 0, 0, &[]));
    stream.write_all(&hello).await.unwrap();
    // By stream, 0 for the connection: what may still be sent (RFC 9113, section 6.9).
    let mut windows = std::collections::HashMap::<u32, i64>::from([(0, 65_535)]);
    let (mut first, mut given, mut read) = (65_535_i64, 0, Vec::new());
    for number in 0..super::grpc::MAX_STREAMS {
        stream.write_all(&frame(1, 4, 2 * number + 1, &head_of_a_question())).await.unwrap();
    }
    loop {
        // What the server says: until it has been silent for a while.
        while let Ok(Ok(1..)) = timeout(Duration::from_millis(300), stream.read_buf(&mut read)).await {}
        while read.len() >= 9 {
            let length = usize::from(read[0]) << 16 | usize::from(read[1]) << 8 | usize::from(read[2]);
            if read.len() < 9 + length {
                break;
            }
            let (kind, flags, number) =
                (read[3], read[4], u32::from_be_bytes(read[5..9].try_into().unwrap()));
            let payload: Vec<u8> = read.drain(..9 + length).skip(9).collect();
            match kind {
                4 if flags == 0 => {
                    for setting in payload.chunks(6).filter(|setting| setting[..2] == [0, 4]) {
                        first = i64::from(u32::from_be_bytes(setting[2..].try_into().unwrap()));
                    }
                    stream.write_all(&frame(4, 1, 0, &[])).await.unwrap();
                }
                8 => {
                    let more = i64::from(u32::from_be_bytes(payload[..].try_into().unwrap()));
                    *windows.entry(number).or_insert(0) += more;
                }
                _ => {}
            }
        }
        let before = given;
        for number in (0..super::grpc::MAX_STREAMS).map(|number| 2 * number + 1) {
            // The length of a message that the server would take, and all of it but the last byte.
            let most = super::grpc::MAX_QUESTION_BYTES;
            let sent = i64::try_from(most + 4).unwrap();
            let mine = *windows.entry(number).or_insert(0);
            let already = windows.get(&(number | 1 << 31)).copied().unwrap_or(0);
            let may = (first + mine - already).min(windows[&0]).min(sent - already).min(16_000);
            let Ok(may @ 1..) = usize::try_from(may) else { continue };
            let mut payload = vec![0; may];
            if already == 0 {
                payload[1..5].copy_from_slice(&u32::try_from(most).unwrap().to_be_bytes());
            }
            if stream.write_all(&frame(0, 0, number, &payload)).await.is_err() {
                return given;
            }
            *windows.get_mut(&0).unwrap() -= i64::try_from(may).unwrap();
            *windows.entry(number | 1 << 31).or_insert(0) += i64::try_from(may).unwrap();
            given += may;
        }
        if given == before || given > MOST {
            return given;
        }
    }
}

#[tokio::test]
async fn past_bug_68_questions_that_are_never_whole_take_little_memory() {
    // What the unit file allows the daemon (MemoryMax), and how much of it one uid may fill in this way.
    const MEMORY: usize = 128 * 1024 * 1024;
    let rig = Rig::new();
    let mut stream = rig.connect(&rig.grpc(), 1_000).await;
    let given = swallowed(&mut stream).await;
    assert!(given > 64 * 1024, "the questions went in: {given}");
    let of_uid = given * usize::try_from(MAX_CONNECTIONS_PER_UID).unwrap();
    assert!(of_uid < MEMORY / 8, "{given} bytes on one connection are {of_uid} of one uid");
}

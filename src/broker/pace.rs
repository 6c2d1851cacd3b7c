//! How long a connection may take for each thing: the first byte, a question, an answer, nothing at all.
//!
//! The limits sit in the stream itself, below HTTP: whatever a peer leaves half done, the stream ends with
//! an error when the time for it is over. The timer is set again only when it fires or when a shorter limit
//! begins, so a connection that keeps its pace pays for a reading of the clock and no more.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tokio::time::Sleep;

/// From the connection to its first byte.
pub const FIRST_BYTE: Duration = Duration::from_secs(2);
/// From the first byte of a question to its last.
pub const QUESTION: Duration = Duration::from_secs(5);
/// From a whole question to its answer; longer than the longest wait for a source.
pub const WORK: Duration = Duration::from_secs(40);
/// From the answer to its last byte.
pub const ANSWER: Duration = Duration::from_secs(5);
/// Between an answer and the next question.
pub const IDLE: Duration = Duration::from_secs(30);
/// The limits of a connection.
#[derive(Clone, Copy, Debug)]
struct Limits {
    first_byte: Duration,
    question: Duration,
    work: Duration,
    answer: Duration,
    idle: Duration,
}

const LIMITS: Limits =
    Limits { first_byte: FIRST_BYTE, question: QUESTION, work: WORK, answer: ANSWER, idle: IDLE };

/// What an HTTP/2 client sends before anything else: the preface and the head of its settings (RFC 9113,
/// sections 3.4 and 4.1).
const GREETING_BYTES: usize = 24 + 9;

const WAITING: u8 = 0;
const ASKING: u8 = 1;
const WORKING: u8 = 2;
const ANSWERING: u8 = 3;
const FREE: u8 = 4;

/// The pace of one connection; the surface says when a question is whole and when its answer is ready.
pub struct Pace {
    start: Instant,
    phase: AtomicU8,
    until: AtomicU64,
    limits: Limits,
}

impl Pace {
    fn new(limits: Limits) -> Arc<Self> {
        let (phase, until) = (AtomicU8::new(WAITING), AtomicU64::new(0));
        let pace = Self { start: Instant::now(), phase, until, limits };
        pace.enter(WAITING, limits.first_byte);
        Arc::new(pace)
    }

    /// The question is whole.
    pub fn question_is_whole(&self) {
        self.enter(WORKING, self.limits.work);
    }

    /// The answer is ready.
    pub fn answer_is_ready(&self) {
        self.enter(ANSWERING, self.limits.answer);
    }

    fn enter(&self, phase: u8, limit: Duration) {
        let end = self.start.elapsed().saturating_add(limit);
        self.until.store(u64::try_from(end.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.phase.store(phase, Ordering::Relaxed);
    }

    fn phase(&self) -> u8 {
        self.phase.load(Ordering::Relaxed)
    }

    fn end(&self) -> Instant {
        self.start + Duration::from_millis(self.until.load(Ordering::Relaxed))
    }
}

/// A stream that keeps its peer to the pace.
pub struct Paced<S> {
    stream: S,
    pace: Arc<Pace>,
    timer: Pin<Box<Sleep>>,
    /// What is left of an HTTP/2 greeting; none for HTTP/1, where each question is watched.
    greeting: Option<usize>,
}

impl<S> Paced<S> {
    /// For HTTP/1: each question and each answer is watched.
    pub fn questions(stream: S) -> Self {
        Self::new(stream, None, LIMITS)
    }

    /// For HTTP/2: the greeting is watched; afterwards the protocol's own pings are.
    pub fn greeting(stream: S) -> Self {
        Self::new(stream, Some(GREETING_BYTES), LIMITS)
    }

    fn new(stream: S, greeting: Option<usize>, limits: Limits) -> Self {
        let pace = Pace::new(limits);
        let timer = Box::pin(tokio::time::sleep_until(pace.end()));
        Self { stream, pace, timer, greeting }
    }

    /// The pace, for the surface.
    pub fn pace(&self) -> Arc<Pace> {
        Arc::clone(&self.pace)
    }

    fn read_some(&mut self, len: usize) {
        if self.pace.phase() == WAITING {
            self.pace.enter(ASKING, self.pace.limits.question);
        }
        if let Some(left) = &mut self.greeting {
            *left = left.saturating_sub(len);
            if *left == 0 {
                self.greeting = None;
                self.pace.phase.store(FREE, Ordering::Relaxed);
            }
        }
    }

    /// Pending, or the end when the time is over.
    fn wait(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        if self.pace.phase() == FREE {
            return Poll::Pending;
        }
        let end = self.pace.end();
        if self.timer.deadline() > end {
            self.timer.as_mut().reset(end);
        }
        while self.timer.as_mut().poll(context).is_ready() {
            if Instant::now() >= end {
                return Poll::Ready(io::ErrorKind::TimedOut.into());
            }
            self.timer.as_mut().reset(end);
        }
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Ready(done) => {
                let read = buffer.filled().len().saturating_sub(before);
                if read > 0 {
                    self.read_some(read);
                }
                Poll::Ready(done)
            }
            Poll::Pending => self.wait(context).map(Err),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(context, bytes) {
            Poll::Pending => self.wait(context).map(Err),
            done => done,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_flush(context) {
            Poll::Ready(Ok(())) => {
                if self.pace.phase() == ANSWERING {
                    self.pace.enter(WAITING, self.pace.limits.idle);
                }
                Poll::Ready(Ok(()))
            }
            Poll::Pending => self.wait(context).map(Err),
            failed => failed,
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write_vectored(context, parts) {
            Poll::Pending => self.wait(context).map(Err),
            done => done,
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::{sleep, timeout};

    /// The limits, a hundred times shorter and far enough from each other to be told apart.
    const SHORT: Limits = Limits {
        first_byte: Duration::from_millis(100),
        question: Duration::from_millis(400),
        work: Duration::from_millis(900),
        answer: Duration::from_millis(400),
        idle: Duration::from_secs(30),
    };
    /// More than any of them but `idle`.
    const LONG: Duration = Duration::from_secs(10);

    /// Reads until the pace ends the stream: what was read, and after how long.
    async fn read_until_the_end(stream: &mut Paced<DuplexStream>) -> (Vec<u8>, Duration) {
        let start = Instant::now();
        let mut all = Vec::new();
        let failed = timeout(LONG, stream.read_to_end(&mut all)).await.expect("it ends").unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::TimedOut);
        (all, start.elapsed())
    }

    #[tokio::test]
    async fn silence_and_a_question_in_drips_end_in_their_time() {
        let (_silent, ours) = duplex(64);
        let took = read_until_the_end(&mut Paced::new(ours, None, SHORT)).await.1;
        assert!(took >= SHORT.first_byte, "{took:?}");
        let (mut theirs, ours) = duplex(64);
        theirs.write_all(b"GET").await.unwrap();
        let drip = tokio::spawn(async move {
            // One byte now and then keeps no question open.
            while theirs.write_all(b"x").await.is_ok() {
                sleep(SHORT.first_byte / 2).await;
            }
        });
        let (read, took) = read_until_the_end(&mut Paced::new(ours, None, SHORT)).await;
        assert!(took >= SHORT.question && read.len() > 3, "{took:?} {read:?}");
        drip.await.unwrap();
    }

    #[tokio::test]
    async fn a_stalled_question_after_a_rest_has_its_own_limit() {
        let (mut theirs, ours) = duplex(64);
        let mut ours = Paced::new(ours, None, SHORT);
        theirs.write_all(b"question").await.unwrap();
        let mut bytes = [0; 8];
        ours.read_exact(&mut bytes).await.unwrap();
        ours.pace().question_is_whole();
        ours.pace().answer_is_ready();
        ours.flush().await.unwrap();
        let rest = SHORT.question * 2;
        let (_, (read, took)) = tokio::join!(
            async {
                sleep(rest).await;
                theirs.write_all(b"half").await.unwrap();
            },
            read_until_the_end(&mut ours)
        );
        assert!(read == b"half" && took >= rest + SHORT.question, "{took:?}");
    }

    #[tokio::test]
    async fn an_answer_that_nobody_reads_and_one_that_never_comes_end_too() {
        let (_theirs, ours) = duplex(8);
        let mut ours = Paced::new(ours, None, SHORT);
        ours.pace().answer_is_ready();
        let failed = timeout(LONG, ours.write_all(&[0; 64])).await.expect("it ends").unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::TimedOut);
        let (_theirs, ours) = duplex(8);
        let mut ours = Paced::new(ours, None, SHORT);
        ours.pace().question_is_whole();
        assert!(read_until_the_end(&mut ours).await.1 >= SHORT.work);
    }

    #[tokio::test]
    async fn a_greeting_is_waited_for_and_then_the_stream_is_free() {
        let (mut theirs, ours) = duplex(64);
        theirs.write_all(&[0; GREETING_BYTES - 1]).await.unwrap();
        let took = read_until_the_end(&mut Paced::new(ours, Some(GREETING_BYTES), SHORT)).await.1;
        assert!(took >= SHORT.question, "{took:?}");
        let (mut theirs, ours) = duplex(64);
        let mut ours = Paced::new(ours, Some(GREETING_BYTES), SHORT);
        theirs.write_all(&[0; GREETING_BYTES]).await.unwrap();
        let mut bytes = [0; GREETING_BYTES];
        ours.read_exact(&mut bytes).await.unwrap();
        let silence = timeout(SHORT.work * 2, ours.read_u8());
        assert!(silence.await.is_err(), "still open after every limit");
    }
}

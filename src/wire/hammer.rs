//! Hostile input for the printer of [`mod@crate::line`], made from a seed: the same seed gives the same inputs
//! on every machine. Tests run 100,000; a bench or a soak run asks for as many as it likes. This room must
//! never decide anything: it only tries to get a wrong line printed.

use crate::line::{AdmitLine, CA_KEY_TYPES, Expiry, LineOptions, is_admit_line};

/// A small generator (xorshift64*, Vigna 2014): for inputs only, never for secrets.
#[derive(Clone, Debug)]
pub struct Xorshift(u64);

impl Xorshift {
    /// A generator for this seed; zero, which would stick, becomes one.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(if seed == 0 { 1 } else { seed })
    }

    /// The next 64 bits.
    pub const fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `end`; zero when `end` is zero.
    pub fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap_or(u64::MAX).max(1);
        usize::try_from((self.next() >> 11) % end).unwrap_or(0)
    }

    /// One of `from`; the type's default when there is none.
    pub fn pick<T: Copy + Default>(&mut self, from: &[T]) -> T {
        let at = self.below(from.len());
        from.get(at).copied().unwrap_or_default()
    }
}

/// What a run of [`hammer`] saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Inputs that the printer refused.
    pub refused: u64,
    /// Inputs that became a line which the checker accepts.
    pub printed: u64,
}

/// Pieces that once broke a line somewhere: separators, quotes, newlines, other options.
const HOSTILE: &[&str] = &[
    "\"",
    ",",
    "\n",
    "\r",
    " ",
    "\t",
    "\0",
    "\\",
    "\\\"",
    "=",
    "#",
    "\u{1b}[31m",
    "\u{85}",
    "\u{2028}",
    "\u{e9}",
    "root",
    ",root",
    "\",command=\"sh",
    "\"\nssh-rsa AAAA",
    "environment=\"A=B\"",
    "cert-authority",
    "-oX",
    "..",
    "no-pty",
    "from=\"*\"",
    "==",
    "=A",
    "-",
    "%u",
    "$(id)",
    "\u{202e}",
];

const PLAIN: &[&str] =
    &["ann", "bob", "@", "contoso.com", ".", "_", "+", "7", "Zoe", "AAAA", "B3Nz", "aC1l", "ssh-rsa", "Z"];

fn text(random: &mut Xorshift, hostile_in_ten: usize, pieces: usize) -> String {
    let mut out = String::new();
    for _ in 0..random.below(pieces) {
        let list = if random.below(10) < hostile_in_ten { HOSTILE } else { PLAIN };
        out.push_str(random.pick(list));
    }
    out
}

fn expiry(random: &mut Xorshift) -> Option<Expiry> {
    let mut byte = |end: usize| u8::try_from(random.below(end)).unwrap_or(0);
    let civil = (i64::from(byte(255)) * 50, byte(14), byte(33), byte(25), byte(61), byte(61));
    match random.below(4) {
        0 => Expiry::utc(civil).ok(),
        1 => Expiry::local(civil).ok(),
        2 => Expiry::parse(&text(random, 5, 8)).ok(),
        _ => Expiry::parse(random.pick(&["20261121223000Z", "20261121223000"])).ok(),
    }
}

/// Sends `count` generated inputs through the printer. Every line that comes out must be accepted by the
/// independent checker, be one line, and say exactly what was put in.
///
/// # Errors
/// The first line that breaks the rule, for a bug report.
pub fn hammer(seed: u64, count: u64) -> Result<Tally, String> {
    let mut random = Xorshift::new(seed);
    let mut tally = Tally::default();
    for _ in 0..count {
        let bits = random.next();
        let options = LineOptions {
            port_forwarding: bits & 1 != 0,
            agent_forwarding: bits & 2 != 0,
            x11_forwarding: bits & 4 != 0,
        };
        // Half of the inputs are hostile in one place only, so that no check hides behind another.
        let place = random.below(8);
        let level = |at: usize| {
            if place >= 4 {
                2
            } else if place == at {
                6
            } else {
                0
            }
        };
        let principal = text(&mut random, level(0), 7);
        let kind = if place == 1 { text(&mut random, 6, 3) } else { random.pick(&CA_KEY_TYPES).to_owned() };
        let key = if place == 2 { text(&mut random, 6, 5) } else { "AAAA".repeat(1 + random.below(9)) };
        let Some(expires) = expiry(&mut random) else {
            tally.refused += 1;
            continue;
        };
        let Ok(line) = AdmitLine::new(options, &principal, expires, &kind, &key) else {
            tally.refused += 1;
            continue;
        };
        let ends_right = line.as_str().ends_with(&format!("\" {kind} {key}"));
        let named = format!(",principals=\"{principal}\",expiry-time=\"{expires}\"");
        let one_line = line.as_bytes().iter().all(|b| (0x20..0x7f).contains(b));
        let named_once = line.as_str().matches(&named).count() == 1;
        if !(is_admit_line(line.as_bytes()) && one_line && ends_right && named_once) {
            return Err(line.into_string());
        }
        tally.printed += 1;
    }
    Ok(tally)
}

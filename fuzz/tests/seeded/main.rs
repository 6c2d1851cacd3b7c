//! The fuzz targets over seeded input: valid samples, the samples changed, and noise. It keeps them
//! compiled and true in every test run; it does not replace a fuzzer. Each test also asserts that enough
//! samples got past the first check.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code")]

mod documents;
mod strangers;
mod tokens;

/// SplitMix64: the same seed, the same input.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// One change of a byte, or a cut.
    fn change(&mut self, data: &mut Vec<u8>) {
        let at = self.below(data.len());
        match self.below(5) {
            0 => data.insert(at, self.next() as u8),
            1 if !data.is_empty() => drop(data.remove(at)),
            2 => data.truncate(self.below(data.len() + 1).max(data.len() / 2)),
            _ if !data.is_empty() => data[at] = data[at].wrapping_add(self.next() as u8 % 3),
            _ => {}
        }
    }

    /// One change of a whole word or line, so that a document often stays one.
    fn rewrite(&mut self, data: &mut Vec<u8>, samples: &[Vec<u8>]) {
        let other = &samples[self.below(samples.len())];
        let (theirs, ours) = if self.below(3) == 0 {
            (spans(other, |byte| byte == b'\n'), spans(data, |byte| byte == b'\n'))
        } else {
            (spans(other, is_mark), spans(data, is_mark))
        };
        if theirs.is_empty() || ours.is_empty() {
            return;
        }
        let (from, to) = theirs[self.below(theirs.len())];
        let (start, end) = ours[self.below(ours.len())];
        let words: [&[u8]; 10] =
            [b"0", b"-1", b"null", b"true", b"18446744073709551616", b"1e400", b"[]", b"{}", b"\"\"", b""];
        let fresh = if self.below(4) == 0 { words[self.below(words.len())] } else { &other[from..to] };
        data.splice(start..end, fresh.iter().copied());
    }
}

/// What stands between the words of JSON, TOML and lines.
fn is_mark(byte: u8) -> bool {
    matches!(byte, b'{' | b'}' | b'[' | b']' | b':' | b',' | b'=' | b' ' | b'\n')
}

fn spans(data: &[u8], is_end: impl Fn(u8) -> bool) -> Vec<(usize, usize)> {
    let mut spans = Vec::new();
    let mut start = 0;
    for (at, byte) in data.iter().enumerate() {
        if is_end(*byte) {
            spans.extend((start < at).then_some((start, at)));
            start = at + 1;
        }
    }
    spans.extend((start < data.len()).then_some((start, data.len())));
    spans
}

/// Runs `target` over `rounds` inputs made from the samples; returns how often `valid` held for a
/// changed one.
fn run(samples: &[Vec<u8>], rounds: usize, target: fn(&[u8]), valid: fn(&[u8]) -> bool) -> usize {
    let mut random = Random(1);
    for sample in samples {
        assert!(valid(sample), "{}", sample.escape_ascii());
        target(sample);
    }
    let mut hits = 0;
    for round in 0..rounds {
        let mut data = samples[round % samples.len()].clone();
        if round % 10 == 9 {
            let length = random.below(300);
            data = (0..length).map(|_| random.next() as u8).collect();
        }
        for _ in 0..1 + random.below(3) {
            if random.below(2) == 0 { random.rewrite(&mut data, samples) } else { random.change(&mut data) }
        }
        target(&data);
        hits += usize::from(valid(&data));
    }
    hits
}

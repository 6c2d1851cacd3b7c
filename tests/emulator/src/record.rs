//! What was asked of the emulator: a counter per service and path, and the last requests in full, so that
//! a test can assert "0 calls" or look at what a client really sent.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;

use crate::faults::Service;

/// Requests kept in full.
const KEPT_REQUESTS: usize = 500;
/// Bytes of a body kept.
const KEPT_BODY_BYTES: usize = 16 * 1024;

/// One request as it came.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Seen {
    pub(crate) service: Service,
    pub(crate) method: String,
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
    /// Unix seconds by the emulator's clock.
    pub(crate) at: i64,
    /// Status answered; 0 until then, and for a call that is never answered.
    pub(crate) status: u16,
    #[serde(skip)]
    number: u64,
}

/// Counters and the request log.
#[derive(Debug, Default)]
pub(crate) struct Record {
    counts: BTreeMap<Service, BTreeMap<String, u64>>,
    /// Requests read and not yet answered, and the most there ever were at once.
    open: BTreeMap<Service, u64>,
    peak: BTreeMap<Service, u64>,
    requests: VecDeque<Seen>,
    numbered: u64,
}

impl Seen {
    /// A request just read.
    pub(crate) fn new(service: Service, method: &str, host: &str, path: &str, query: &str, at: i64) -> Self {
        Self {
            service,
            method: method.into(),
            host: host.into(),
            path: path.into(),
            query: query.into(),
            headers: BTreeMap::new(),
            body: String::new(),
            at,
            status: 0,
            number: 0,
        }
    }

    /// Keep the body's beginning, as text.
    pub(crate) fn keep_body(&mut self, body: &[u8]) {
        let part = body.get(..body.len().min(KEPT_BODY_BYTES)).unwrap_or(body);
        self.body = String::from_utf8_lossy(part).into_owned();
    }
}

impl Record {
    /// Count and keep a request; the number is for [`Self::answered`].
    pub(crate) fn add(&mut self, mut seen: Seen) -> u64 {
        let key = format!("{} {}", seen.method, seen.path);
        *self.counts.entry(seen.service).or_default().entry(key).or_default() += 1;
        self.numbered += 1;
        seen.number = self.numbered;
        if self.requests.len() == KEPT_REQUESTS {
            self.requests.pop_front();
        }
        self.requests.push_back(seen);
        self.numbered
    }

    /// Note the status a request got.
    pub(crate) fn answered(&mut self, number: u64, status: u16) {
        if let Some(seen) = self.requests.iter_mut().rev().find(|seen| seen.number == number) {
            seen.status = status;
        }
    }

    /// A request is being worked on; the number is how many there are now, this one included.
    pub(crate) fn enter(&mut self, service: Service) -> u64 {
        let open = self.open.entry(service).or_default();
        *open += 1;
        let peak = self.peak.entry(service).or_default();
        *peak = (*peak).max(*open);
        *open
    }

    /// It is answered, or its caller went away.
    pub(crate) fn leave(&mut self, service: Service) {
        let open = self.open.entry(service).or_default();
        *open = open.saturating_sub(1);
    }

    /// The most requests that were open at once since the counters were cleared.
    pub(crate) fn peak(&self, service: Service) -> u64 {
        self.peak.get(&service).copied().unwrap_or(0)
    }

    /// Count something that is not a path, such as a grant.
    pub(crate) fn count(&mut self, service: Service, what: &str) {
        *self.counts.entry(service).or_default().entry(what.to_owned()).or_default() += 1;
    }

    /// Counts of one service.
    pub(crate) fn of(&self, service: Service) -> BTreeMap<String, u64> {
        self.counts.get(&service).cloned().unwrap_or_default()
    }

    /// The last requests, oldest first.
    pub(crate) fn requests(&self) -> impl Iterator<Item = &Seen> {
        self.requests.iter()
    }

    /// Forget everything.
    pub(crate) fn clear(&mut self) {
        self.counts.clear();
        self.peak.clear();
        self.requests.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_keeps_a_bounded_log() {
        let mut record = Record::default();
        let mut last = 0;
        for _ in 0..=KEPT_REQUESTS {
            last = record.add(Seen::new(Service::Arm, "GET", "h", "/p", "", 0));
        }
        record.answered(last, 204);
        assert_eq!(record.of(Service::Arm).get("GET /p"), Some(&501));
        assert_eq!(record.requests().count(), KEPT_REQUESTS);
        assert_eq!(record.requests().last().unwrap().status, 204);
        assert!(record.of(Service::Pdp).is_empty());
    }

    #[test]
    fn the_peak_is_of_what_was_open_at_once() {
        let mut record = Record::default();
        assert_eq!((record.enter(Service::Imds), record.enter(Service::Imds)), (1, 2));
        record.leave(Service::Imds);
        assert_eq!((record.enter(Service::Imds), record.peak(Service::Imds)), (2, 2));
        record.clear();
        assert_eq!(record.peak(Service::Imds), 0);
        assert_eq!(record.enter(Service::Imds), 3, "what is open stays open");
    }
}

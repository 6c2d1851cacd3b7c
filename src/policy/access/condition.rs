//! The conditions of a rule that need more than a comparison: networks, times, resource ids.

use core::net::IpAddr;

use nightlatch_model::Timestamp;

/// Seconds of a day.
const DAY_S: i64 = 86_400;
/// Minutes of a day.
const DAY_MIN: i64 = 1_440;

/// Whether something holds. The order is the one of "at most".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Truth {
    /// It does not.
    No,
    /// It could not be found out.
    Unknown,
    /// It does.
    Yes,
}

impl From<bool> for Truth {
    fn from(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }
}

/// Addresses that begin alike (RFC 4632, RFC 4291).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// The network of this address and prefix length; `None` where the prefix is too long or the address has bits behind
    /// it. An IPv4 address in IPv6 clothes is an IPv4 address.
    #[must_use]
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let mapped = matches!(address, IpAddr::V6(_)) && address.to_canonical().is_ipv4();
        let prefix = if mapped { prefix.checked_sub(96)? } else { prefix };
        let network = Self { address: address.to_canonical(), prefix };
        let (bits, width) = bits(network.address);
        let behind = u32::from(prefix);
        if behind > width {
            return None;
        }
        let rest = width - behind;
        (bits.trailing_zeros() >= rest).then_some(network)
    }

    /// Whether an address lies in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let (own, width) = bits(self.address);
        let (other, other_width) = bits(address.to_canonical());
        let rest = width.saturating_sub(u32::from(self.prefix));
        // A shift by the whole width of the type is none; /0 of IPv6 contains every address.
        width == other_width && own.checked_shr(rest).unwrap_or(0) == other.checked_shr(rest).unwrap_or(0)
    }
}

fn bits(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(four) => (u128::from(u32::from(four)), 32),
        IpAddr::V6(six) => (u128::from(six), 128),
    }
}

/// Resource ids that begin with these segments; `*` stands for any text within a segment. Case does not matter, as in
/// Azure.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ResourcePattern(Vec<String>);

impl ResourcePattern {
    /// Reads `/subscriptions/…`; `None` where it does not begin with a slash or has an empty segment.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let segments: Vec<String> = text.strip_prefix('/')?.split('/').map(str::to_ascii_lowercase).collect();
        segments.iter().all(|segment| !segment.is_empty()).then_some(Self(segments))
    }

    /// Whether a resource id is, or lies below, what the pattern names.
    #[must_use]
    pub fn matches(&self, resource: &str) -> bool {
        let folded = resource.to_ascii_lowercase();
        let mut segments = folded.strip_prefix('/').unwrap_or(&folded).split('/');
        self.0.iter().all(|pattern| segments.next().is_some_and(|segment| fits(pattern, segment)))
    }
}

/// Whether `*` in the pattern can stand for something so that it is the text. Each star takes as little as it can, which
/// is enough for stars alone.
fn fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut rest = rest;
    let mut last = None;
    for part in parts {
        if let Some(before) = last.replace(part) {
            let Some((_, behind)) = rest.split_once(before) else { return false };
            rest = behind;
        }
    }
    last.map_or(rest.is_empty(), |end| rest.ends_with(end))
}

/// Some days of the week, from a time of day to a time of day, in one time zone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct When {
    /// The days on which it begins, from Monday.
    pub days: [bool; 7],
    /// The first minute of the day.
    pub from_min: u16,
    /// The first minute of the day that is no longer in it; at most [`When::from_min`] means on the next day, and 1440
    /// is midnight.
    pub to_min: u16,
    /// Which of the policy's time zones.
    pub zone: usize,
}

impl When {
    fn has_day(&self, day: i64) -> bool {
        usize::try_from(day.rem_euclid(7)).ok().and_then(|day| self.days.get(day)).copied().unwrap_or(false)
    }

    /// How many minutes it lasts from its beginning.
    fn length(&self) -> i64 {
        let (from, to) = (i64::from(self.from_min), i64::from(self.to_min));
        if to > from { to - from } else { to + DAY_MIN - from }
    }

    /// Whether `now` lies in it, in a zone that is `offset` seconds east of UTC, and when it is over; `None` is never.
    #[must_use]
    pub fn holds(&self, now: Timestamp, offset: i32) -> Option<Option<Timestamp>> {
        let local = now.0.saturating_add(i64::from(offset));
        // The first day of 1970 was a Thursday.
        let today = local.div_euclid(DAY_S).saturating_add(3);
        let second = local.rem_euclid(DAY_S);
        let begins = i64::from(self.from_min) * 60;
        let length = self.length() * 60;
        // What began today, or yesterday and reaches into today.
        let (day, passed) = [(today, second - begins), (today - 1, second + DAY_S - begins)]
            .into_iter()
            .find(|(day, passed)| self.has_day(*day) && (0..length).contains(passed))?;
        let mut left = length - passed;
        // A whole day goes on in the next one.
        if length == DAY_S {
            let more = (1..7).take_while(|next| self.has_day(day + next)).count();
            if more == 6 {
                return Some(None);
            }
            left = left.saturating_add(i64::try_from(more).unwrap_or(0) * DAY_S);
        }
        Some(Some(now.plus(left)))
    }
}

//! The node's own time zone, for the one reader that knows no other: sshd before 9.1.

use nightlatch_model::{Civil, Timestamp};

/// Year, month, day, hour, minute, second in the node's time zone; UTC where it cannot be told.
#[must_use]
pub fn local_civil(at: Timestamp) -> Civil {
    let seconds: nix::libc::time_t = at.0;
    let mut parts = std::mem::MaybeUninit::<nix::libc::tm>::zeroed();
    // SAFETY: both pointers are to live values of the right types, and `localtime_r` keeps neither; a zeroed
    // `tm` is a valid one, so the value is initialised whatever the call answers.
    #[expect(unsafe_code)]
    let (found, parts) = unsafe {
        let found = !nix::libc::localtime_r(&raw const seconds, parts.as_mut_ptr()).is_null();
        (found, parts.assume_init())
    };
    let small = |value: i32| u8::try_from(value).ok();
    let civil = (|| {
        let month = small(parts.tm_mon.checked_add(1)?)?;
        let day = small(parts.tm_mday)?;
        Some((
            i64::from(parts.tm_year) + 1_900,
            month,
            day,
            small(parts.tm_hour)?,
            small(parts.tm_min)?,
            small(parts.tm_sec)?,
        ))
    })();
    civil.filter(|_| found).unwrap_or_else(|| at.civil())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_time_is_at_most_a_day_from_utc_and_keeps_the_seconds() {
        for seconds in [0, 951_782_400, 1_795_300_205, 253_402_214_400] {
            let at = Timestamp(seconds);
            let (year, month, day, hour, minute, second) = local_civil(at);
            let read = Timestamp::from_civil(year, month, day, hour, minute, second).unwrap();
            assert!(read.since(at).abs() <= 86_400, "{at} {read}");
            assert_eq!(read.since(at) % 60, 0, "zones differ by whole minutes: {at} {read}");
        }
    }
}

//! Windows of time, beside three weeks of marked minutes.

use nightlatch_model::Timestamp;
use nightlatch_policy::When;

use crate::dice::Dice;
use crate::world::{DAY, MONDAY, WINDOWS, when};

/// How many days of minutes are marked, of which those of [`WALKED`] weeks in the middle are walked.
const MARKED: i64 = 36;
const WALKED: std::ops::Range<i64> = 7 * 1_440..28 * 1_440;

/// Where it goes on to the end of what is marked, more than a week later.
const NEVER: i64 = i64::MAX;

/// The minutes since [`MONDAY`] in local time that lie in a window, and after each the next that does not.
fn marks(window: When) -> Vec<Option<i64>> {
    let mut inside = vec![false; usize::try_from(MARKED * 1_440).unwrap()];
    for day in -1..MARKED {
        if !window.days[usize::try_from(day.rem_euclid(7)).unwrap()] {
            continue;
        }
        let next_day = if window.to_min <= window.from_min { 1 } else { 0 };
        let end = (day + next_day) * 1_440 + i64::from(window.to_min);
        for minute in day * 1_440 + i64::from(window.from_min)..end {
            if let Some(mark) = usize::try_from(minute).ok().and_then(|at| inside.get_mut(at)) {
                *mark = true;
            }
        }
    }
    let mut ends = vec![None; inside.len()];
    let mut next = NEVER;
    for at in (0..inside.len()).rev() {
        if inside[at] {
            ends[at] = Some(next);
        } else {
            next = i64::try_from(at).unwrap();
        }
    }
    ends
}

fn windows() -> Vec<When> {
    let mut all: Vec<_> = WINDOWS.map(when).to_vec();
    let dice = &mut Dice(7);
    for _ in 0..40 {
        let minute = |dice: &mut Dice| u16::try_from(dice.pick(&[0, 0, 1, 719, 720, 1_438, 1_439])).unwrap();
        let from_min = minute(dice);
        let to_min =
            dice.pick(&[0, 1, 1_440, 1_440, from_min, from_min + 1, from_min.saturating_sub(1), 721]);
        let days = [(); 7].map(|()| dice.once_in(2));
        let days = if dice.once_in(4) { [true; 7] } else { days };
        all.push(When { days, from_min, to_min, zone: 0 });
    }
    all
}

/// Three weeks, minute by minute, first and last second of each and one between.
#[test]
fn a_window_is_walked_minute_by_minute() {
    let (mut inside, mut never, mut outside) = (0_u32, 0_u32, 0_u32);
    for (number, window) in windows().into_iter().enumerate() {
        let ends = marks(window);
        let offsets = [0, 3_600, -12_600, 20_700, 50_400, -43_200, 1_172];
        for offset in [offsets[number % 7], offsets[(number + 3) % 7]] {
            for minute in WALKED {
                let begin = MONDAY + minute * 60 - i64::from(offset);
                let want = ends[usize::try_from(minute).unwrap()]
                    .map(|end| (end != NEVER).then(|| Timestamp(MONDAY + end * 60 - i64::from(offset))));
                for second in [0, 31, 59] {
                    let found = window.holds(Timestamp(begin + second), offset);
                    assert_eq!(found, want, "{window:?} {offset} minute {minute} second {second}");
                }
                match want {
                    None => outside += 1,
                    Some(None) => never += 1,
                    Some(Some(_)) => inside += 1,
                }
            }
        }
    }
    assert!(inside > 200_000 && never > 60_000 && outside > 200_000, "{inside} {never} {outside}");
}

#[test]
fn no_moment_is_too_far_away_for_a_window() {
    for window in windows() {
        for now in [i64::MIN, i64::MIN + 1, -1, 0, i64::MAX - 1, i64::MAX] {
            for offset in [i32::MIN, -1, 0, i32::MAX] {
                let closes = window.holds(Timestamp(now), offset).flatten();
                assert!(closes.is_none_or(|end| end > Timestamp(now) || now >= i64::MAX - 1));
            }
        }
    }
    let weekend =
        When { days: [false, false, false, false, false, true, true], from_min: 0, to_min: 1_440, zone: 0 };
    // 1970-01-01 was a Thursday, so was 1969-12-25.
    for thursday in [0, -7 * DAY] {
        assert_eq!(weekend.holds(Timestamp(thursday + 2 * DAY - 1), 0), None);
        let closes = Some(Some(Timestamp(thursday + 4 * DAY)));
        assert_eq!(weekend.holds(Timestamp(thursday + 2 * DAY), 0), closes);
        assert_eq!(weekend.holds(Timestamp(thursday + 4 * DAY - 1), 0), closes);
        assert_eq!(weekend.holds(Timestamp(thursday + 4 * DAY), 0), None);
    }
}

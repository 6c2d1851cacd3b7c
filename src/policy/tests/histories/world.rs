//! Random histories of one node: what happened to its clocks, who asked for what, and what Azure said.
//!
//! A history depends on its seed only, never on an answer, so that any one can be told again.

use nightlatch_policy::Service;

/// One second, in milliseconds.
pub(crate) const SECOND: i64 = 1_000;
/// One minute, in milliseconds.
pub(crate) const MINUTE: i64 = 60 * SECOND;
/// One hour, in milliseconds.
pub(crate) const HOUR: i64 = 60 * MINUTE;
/// One day, in milliseconds.
pub(crate) const DAY: i64 = 24 * HOUR;
/// Where every history begins, in milliseconds since 1970: the civil date does not matter.
const BEGINNING: i64 = 1_795_300_205 * SECOND;
/// How long the node has been up when a history begins, in milliseconds.
const UP_AT_FIRST: i64 = 12 * HOUR;
/// How many people there are; each has the name of the same number.
pub(crate) const PEOPLE: usize = 3;
/// The login names; the last one has a domain of its own.
pub(crate) const NAMES: [&str; 4] =
    ["alice@contoso.com", "bob@contoso.com", "carol@contoso.com", "alice@fabrikam.com"];
/// The name outside of the node's domain.
pub(crate) const FOREIGN_NAME: usize = 3;
/// Windows in milliseconds: none, short, common, and beyond what is allowed.
const WINDOWS: [i64; 8] = [0, 5 * SECOND, MINUTE, HOUR, HOUR, DAY, 30 * HOUR, 3 * DAY];

/// xorshift64*: enough for histories, and the same everywhere.
pub(crate) struct Dice(u64);

impl Dice {
    /// Dice whose neighbours' seeds give unlike throws.
    pub(crate) fn new(seed: u64) -> Self {
        let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self((z ^ (z >> 31)) | 1)
    }

    fn below(&mut self, n: i64) -> i64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as i64;
        high % n
    }

    fn once_in(&mut self, n: i64) -> bool {
        self.below(n) == 0
    }

    fn index(&mut self, n: usize) -> usize {
        self.below(n as i64) as usize
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.index(from.len())]
    }

    /// Anything from a second to `most`, short spans as likely as long ones.
    fn span(&mut self, most: i64) -> i64 {
        let scale = self.pick(&[10 * SECOND, 10 * MINUTE, 2 * HOUR, DAY, 3 * DAY]).min(most);
        SECOND * (1 + self.below(scale / SECOND))
    }
}

/// What the node's configuration says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// How long a user's yes may stand in, in milliseconds; may be beyond the ceiling.
    pub(crate) user_window: i64,
    /// The same for an administrator's.
    pub(crate) admin_window: i64,
    /// The longest permit, in seconds.
    pub(crate) max_session: Option<u32>,
    /// Whether only one domain is accepted.
    pub(crate) one_domain: bool,
    /// Whether guests are accepted.
    pub(crate) guests: bool,
}

/// A yes that the node finds on its disk when the history begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) person: usize,
    pub(crate) name: usize,
    pub(crate) admin: bool,
    /// Its age in milliseconds, in whole seconds; less than 0 when it says that it comes from the future.
    pub(crate) age: i64,
    /// Whether it was written before the node last started.
    pub(crate) before_restart: bool,
    /// Whether it was given while the clock was suspect.
    pub(crate) suspect: bool,
    /// Whether it was given to the same number in another tenant.
    pub(crate) other_tenant: bool,
    /// When the right to log in and the administrator's end, in seconds from now on the wall clock.
    pub(crate) ends: Option<i64>,
    pub(crate) admin_ends: Option<i64>,
}

/// What happens to the clocks between two questions.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    /// Time goes by, in milliseconds; a suspended node's time goes by as well.
    Wait(i64),
    /// The node sleeps, and its wall clock comes back wrong by the second number; both in milliseconds.
    Suspend(i64, i64),
    /// The wall clock is set forward or back, in milliseconds.
    Jump(i64),
    /// The node is off for so long and then runs for so long before the question; both in milliseconds.
    Restart(i64, i64),
    /// The clock falls so far behind its high-water mark, in seconds, that it is suspect.
    Suspect(i64),
    /// The clock is believed again.
    Trusted,
}

/// What is wrong with a question beside the role.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flaw {
    Nothing,
    NotAdmitted,
    OtherTenant,
    NoTenant,
    IdentityWithdrawn,
    IdentityOfOtherTenant,
    NoEnd,
    NoUid,
    UidMoved,
    UidOfAnother,
    NameOfAnother,
    Renamed,
}

const FLAWS: [Flaw; 11] = [
    Flaw::NotAdmitted,
    Flaw::OtherTenant,
    Flaw::NoTenant,
    Flaw::IdentityWithdrawn,
    Flaw::IdentityOfOtherTenant,
    Flaw::NoEnd,
    Flaw::NoUid,
    Flaw::UidMoved,
    Flaw::UidOfAnother,
    Flaw::NameOfAnother,
    Flaw::Renamed,
];

/// Why Azure could not say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cause {
    NodeNotPermitted,
    Throttled,
    ScopeUnknown,
    Upstream,
}

const CAUSES: [Cause; 4] = [Cause::NodeNotPermitted, Cause::Throttled, Cause::ScopeUnknown, Cause::Upstream];

/// What a user's answer says about the administrator's right.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AdminPart {
    No,
    Refused,
    Unknown(Cause),
    /// One scope did not answer, another one refused.
    UnknownAndRefused(Cause),
    /// One scope did not answer, another one has a deny assignment.
    UnknownAndDenied(Cause),
}

/// What Azure says; the ends are seconds from now on the wall clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Right {
    User(Option<i64>, AdminPart),
    Admin(Option<i64>, Option<i64>),
    DenyAssignment,
    PimNotActive,
    Conditional,
    NoAssignment,
    Unknown(Cause),
}

impl Right {
    /// When the right to log in and the administrator's end, where Azure says so.
    pub(crate) const fn ends(self) -> (Option<i64>, Option<i64>) {
        match self {
            Self::User(end, _) => (end, None),
            Self::Admin(end, admin_end) => (end, admin_end),
            _ => (None, None),
        }
    }
}

/// One question.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    pub(crate) service: Service,
    pub(crate) person: usize,
    pub(crate) name: usize,
    /// Whose old yes the caller hands over.
    pub(crate) handed: usize,
    pub(crate) flaws: [Flaw; 2],
    /// Whether the person is a guest, where a source says so.
    pub(crate) guest: Option<bool>,
    pub(crate) right: Right,
    /// The end of the credential, in seconds from now on the wall clock.
    pub(crate) credential: i64,
}

/// What happened, and then the question.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) events: [Option<Event>; 2],
    pub(crate) ask: Ask,
}

/// A history that is being told.
pub(crate) struct History {
    dice: Dice,
    pub(crate) settings: Settings,
    pub(crate) found: Option<Found>,
    /// How many steps are still to come.
    left: i64,
    /// Whom most of it is about.
    hero: usize,
    suspect: bool,
    /// Milliseconds since the beginning, and when the questions were asked: for waits to the very edge.
    elapsed: i64,
    asked: Vec<i64>,
    /// When a role ends of which Azure told, by the same count.
    role_ends: Vec<i64>,
}

impl History {
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let settings = Settings {
            user_window: dice.pick(&WINDOWS),
            admin_window: if dice.once_in(3) { 0 } else { dice.pick(&WINDOWS) },
            max_session: if dice.once_in(2) { None } else { Some(dice.pick(&[1, 30, 3_600, 43_200])) },
            one_domain: dice.once_in(2),
            guests: dice.once_in(2),
        };
        let hero = dice.index(PEOPLE);
        let found = if dice.once_in(3) { Some(found(&mut dice, hero)) } else { None };
        // 4 to 12, short ones more often.
        let left = 4 + dice.below(9).min(dice.below(9)).min(dice.below(9));
        let (asked, role_ends) = (Vec::with_capacity(12), Vec::with_capacity(12));
        Self { dice, settings, found, left, hero, suspect: false, elapsed: 0, asked, role_ends }
    }

    fn events(&mut self) -> [Option<Event>; 2] {
        let first = match self.dice.below(8) {
            0 => None,
            1..=4 => Some(Event::Wait(self.dice.span(HOUR))),
            5 => Some(Event::Wait(self.dice.span(3 * DAY))),
            _ => self.edge_wait(),
        };
        let span = self.dice.span(3 * DAY);
        let second = match self.dice.below(20) {
            0 => Some(Event::Jump(-span)),
            1 => Some(Event::Jump(span)),
            2 => Some(Event::Suspend(span, self.dice.pick(&[0, -span, -MINUTE, 7 * SECOND]))),
            3 | 4 => Some(Event::Restart(self.dice.span(HOUR), self.dice.span(HOUR))),
            5 => Some(if self.suspect {
                Event::Trusted
            } else {
                Event::Suspect(120 + self.dice.below(86_400))
            }),
            // A clock does not stay suspect for the rest of the history.
            6..=11 if self.suspect => Some(Event::Trusted),
            _ => None,
        };
        for event in [first, second].into_iter().flatten() {
            match event {
                Event::Wait(by) | Event::Suspend(by, _) => self.elapsed += by,
                Event::Restart(off, up) => self.elapsed += off + up,
                Event::Suspect(_) => self.suspect = true,
                Event::Trusted => self.suspect = false,
                Event::Jump(_) => {}
            }
        }
        [first, second]
    }

    /// A wait after which an earlier question is exactly a window old, or a role that was given then ends,
    /// or a hair more or less.
    fn edge_wait(&mut self) -> Option<Event> {
        if self.asked.is_empty() {
            return None;
        }
        let last = self.asked.len() - 1;
        let from = if self.dice.once_in(2) { last } else { self.dice.index(last + 1) };
        let window = self.dice.pick(&[self.settings.user_window, self.settings.admin_window]).min(DAY);
        let edge = if !self.role_ends.is_empty() && self.dice.once_in(3) {
            self.dice.pick(&self.role_ends)
        } else {
            self.asked[from] + window
        };
        let wait = edge - self.elapsed + self.dice.pick(&[0, 0, -SECOND, SECOND, -1, 1]);
        (wait > 0).then_some(Event::Wait(wait))
    }

    fn ask(&mut self) -> Ask {
        let dice = &mut self.dice;
        let person = if dice.once_in(5) { dice.index(PEOPLE) } else { self.hero };
        let name = if dice.once_in(10) { dice.index(NAMES.len()) } else { person };
        let mut flaws = [Flaw::Nothing; 2];
        if dice.once_in(10) {
            flaws[0] = dice.pick(&FLAWS);
            if dice.once_in(4) {
                flaws[1] = dice.pick(&FLAWS);
            }
        }
        Ask {
            service: dice.pick(&[Service::Ssh, Service::Ssh, Service::Sudo, Service::Live, Service::Other]),
            person,
            name,
            handed: if dice.once_in(25) { dice.index(PEOPLE) } else { person },
            flaws,
            guest: dice
                .pick(&[None, Some(false), Some(false), Some(false), Some(false)])
                .or_else(|| dice.once_in(3).then_some(true)),
            right: right(dice),
            credential: match dice.below(20) {
                0 => -dice.below(86_400),
                1 => 0,
                2..=5 => 1 + dice.below(90),
                _ => 3_600 + dice.below(86_400),
            },
        }
    }
}

impl Iterator for History {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let step = Step { events: self.events(), ask: self.ask() };
        self.asked.push(self.elapsed);
        let (end, admin_end) = step.ask.right.ends();
        self.role_ends.extend(admin_end.or(end).map(|end| self.elapsed + end * SECOND));
        Some(step)
    }
}

fn found(dice: &mut Dice, person: usize) -> Found {
    let age = dice.span(2 * DAY);
    let admin = dice.once_in(2);
    let ends = end(dice);
    Found {
        person,
        name: if dice.once_in(8) { dice.index(NAMES.len()) } else { person },
        admin,
        age: if dice.once_in(6) { -age } else { age },
        // No older than the node has been up.
        before_restart: age >= UP_AT_FIRST || dice.once_in(2),
        suspect: dice.once_in(8),
        other_tenant: dice.once_in(12),
        ends,
        // The administrator's right never ends after the right to log in.
        admin_ends: if admin { end(dice).into_iter().chain(ends).min() } else { None },
    }
}

/// The end of a role: over already, soon, or none.
fn end(dice: &mut Dice) -> Option<i64> {
    match dice.below(10) {
        0 => Some(-dice.below(3_600)),
        1..=3 => Some(1 + dice.below(7_200)),
        _ => None,
    }
}

fn right(dice: &mut Dice) -> Right {
    match dice.below(20) {
        0..=8 => Right::Unknown(dice.pick(&CAUSES)),
        9..=12 => {
            let admin = match dice.below(8) {
                0 => AdminPart::Refused,
                1 | 2 => AdminPart::Unknown(dice.pick(&CAUSES)),
                3 => AdminPart::UnknownAndRefused(dice.pick(&CAUSES)),
                4 => AdminPart::UnknownAndDenied(dice.pick(&CAUSES)),
                _ => AdminPart::No,
            };
            Right::User(end(dice), admin)
        }
        13..=18 => {
            let user = end(dice);
            Right::Admin(user, end(dice).into_iter().chain(user).min())
        }
        _ => {
            dice.pick(&[Right::DenyAssignment, Right::PimNotActive, Right::Conditional, Right::NoAssignment])
        }
    }
}

/// The clocks of the node as its programs read them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clocks {
    /// What the wall clock itself says, in milliseconds since 1970.
    wall: i64,
    /// How far the high-water mark is above the wall clock, in seconds; none when the clock is believed.
    pub(crate) lift: Option<i64>,
    /// Milliseconds since the node started.
    pub(crate) up: i64,
    /// How often it was started.
    pub(crate) starts: u8,
}

impl Clocks {
    pub(crate) const fn new() -> Self {
        Self { wall: BEGINNING, lift: None, up: UP_AT_FIRST, starts: 1 }
    }

    /// What a decision takes for the time, in whole seconds since 1970.
    pub(crate) fn seconds(&self) -> i64 {
        self.wall.div_euclid(SECOND) + self.lift.unwrap_or(0)
    }

    pub(crate) fn pass(&mut self, event: Event) {
        match event {
            Event::Wait(by) => {
                self.wall += by;
                self.up += by;
            }
            Event::Suspend(by, wrong) => {
                self.wall += by + wrong;
                self.up += by;
            }
            Event::Jump(by) => self.wall += by,
            Event::Restart(off, up) => {
                self.wall += off + up;
                self.up = up;
                self.starts += 1;
            }
            Event::Suspect(lift) => self.lift = Some(lift),
            Event::Trusted => self.lift = None,
        }
    }
}

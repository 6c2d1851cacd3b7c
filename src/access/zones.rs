//! Time zones, from the node's own database where it has one, else from the one that is built in.

use jiff::tz::{TimeZone, TimeZoneDatabase};
use nightlatch_model::Timestamp;
use nightlatch_rules::Zones;

/// The word for the node's own zone.
const LOCAL: &str = "local";

/// The zones that this node knows.
#[derive(Clone, Copy, Debug)]
pub struct NodeZones;

/// One zone, read once.
#[derive(Clone, Debug)]
pub(super) struct Zone(TimeZone);

impl Zone {
    pub(super) fn find(zone: &str) -> Option<Self> {
        let found: Result<TimeZone, jiff::Error> = match zone {
            "UTC" => Ok(TimeZone::UTC),
            // systemd takes a missing /etc/localtime for UTC.
            LOCAL => TimeZone::try_system().or(Ok(TimeZone::UTC)),
            // Names move between packages of the node's database; the built-in one knows them all.
            name => TimeZone::get(name).or_else(|_| TimeZoneDatabase::bundled().get(name)),
        };
        found.ok().map(Self)
    }

    pub(super) fn offset(&self, at: Timestamp) -> Option<i32> {
        jiff::Timestamp::from_second(at.0).ok().map(|at| self.0.to_offset(at).seconds())
    }
}

impl Zones for NodeZones {
    fn exists(&self, zone: &str) -> bool {
        Zone::find(zone).is_some()
    }

    fn offset(&self, zone: &str, at: Timestamp) -> Option<i32> {
        Zone::find(zone)?.offset(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summer_time_comes_and_goes_and_unknown_zones_are_none() {
        let at = |text: &str| Timestamp::from_rfc3339(text).unwrap();
        let berlin = |text| NodeZones.offset("Europe/Berlin", at(text));
        assert_eq!(berlin("2026-01-15T12:00:00Z"), Some(3_600));
        assert_eq!(berlin("2026-03-29T00:59:59Z"), Some(3_600));
        assert_eq!(berlin("2026-03-29T01:00:00Z"), Some(7_200));
        assert_eq!(berlin("2026-10-25T01:00:00Z"), Some(3_600));
        assert_eq!(NodeZones.offset("UTC", at("2026-06-15T12:00:00Z")), Some(0));
        assert_eq!(NodeZones.offset("Asia/Kolkata", at("2026-06-15T12:00:00Z")), Some(19_800));
        assert!(NodeZones.exists("local"));
        for odd in ["Europe/Nowhere", "", "../../etc/passwd", "/etc/passwd"] {
            assert!(!NodeZones.exists(odd), "{odd}");
        }
    }
}

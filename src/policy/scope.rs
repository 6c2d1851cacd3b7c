//! ARM scopes: where a role or a deny assignment holds, and what lies below it.
//!
//! A scope is compared segment by segment, never as text: `/subscriptions/S1` says nothing about
//! `/subscriptions/S10`. Shapes that ARM does not have (`/subscriptions` alone, `..`) do not parse, so
//! that no slip of a pen in a roles file is wider than it looks.

use std::fmt;
use std::str::FromStr;

/// The longest scope, in bytes; ARM's own ids stay well below.
const MAX_SCOPE_BYTES: usize = 2048;

/// Why a text is not an ARM scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScopeError {
    /// Empty, or longer than 2048 bytes.
    Length,
    /// Not the shape of an ARM id.
    Shape,
    /// A character that no ARM name holds.
    Alphabet,
}

impl fmt::Display for ScopeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Length => "a scope has 1 to 2048 bytes",
            Self::Shape => {
                "not an ARM scope: expected `/`, a management group, a subscription, a resource group or a resource id"
            }
            Self::Alphabet => "a scope holds a character that no Azure name may hold",
        })
    }
}

impl std::error::Error for ScopeError {}

/// A place in Azure's tree: `/`, a management group, a subscription, a resource group or a resource.
///
/// Printed as it was given (without a trailing slash); equal when only the case differs.
#[derive(Clone)]
pub struct Scope(String);

impl Scope {
    /// Reads an ARM id. One trailing slash is forgiven.
    ///
    /// # Errors
    /// [`ScopeError`] says which rule the text breaks.
    pub fn parse(text: &str) -> Result<Self, ScopeError> {
        if text.is_empty() || text.len() > MAX_SCOPE_BYTES {
            return Err(ScopeError::Length);
        }
        let Some(rest) = text.strip_prefix('/') else { return Err(ScopeError::Shape) };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.is_empty() {
            return if text == "/" { Ok(Self("/".to_owned())) } else { Err(ScopeError::Shape) };
        }
        if rest.chars().any(|c| c.is_control() || c.is_whitespace() || "%?#\\&<>\"'`$;|*".contains(c)) {
            return Err(ScopeError::Alphabet);
        }
        let segments: Vec<&str> = rest.split('/').collect();
        if segments.iter().any(|s| s.is_empty() || *s == "." || *s == "..") || !is_arm_shape(&segments) {
            return Err(ScopeError::Shape);
        }
        Ok(Self(format!("/{rest}")))
    }

    /// The scope as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True when what is assigned here holds at `target` too: this is `target`, or lies above it.
    ///
    /// Which subscriptions a management group holds is not in its id. Azure lists only those at or
    /// above the scope that was asked for, so one that was listed counts as above everything.
    #[must_use]
    pub fn covers(&self, target: &Self) -> bool {
        if self.is_management_group() {
            return true;
        }
        let mut theirs = target.segments();
        self.segments().all(|mine| theirs.next().is_some_and(|their| same(mine, their)))
    }

    fn is_management_group(&self) -> bool {
        let mut segments = self.segments();
        let head = ["providers", "Microsoft.Management", "managementGroups"];
        head.into_iter().all(|want| segments.next().is_some_and(|have| same(want, have)))
            && segments.next().is_some()
            && segments.next().is_none()
    }

    fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').filter(|segment| !segment.is_empty())
    }
}

/// `[/subscriptions/S[/resourceGroups/R]]` and then any number of `/providers/NS(/type/name)+`.
fn is_arm_shape(segments: &[&str]) -> bool {
    let mut rest = segments;
    if let [head, _, tail @ ..] = rest
        && same(head, "subscriptions")
    {
        rest = tail;
        if let [group, _, tail @ ..] = rest
            && same(group, "resourceGroups")
        {
            rest = tail;
        }
    }
    while let [head, _namespace, kind, _name, tail @ ..] = rest {
        if !same(head, "providers") || same(kind, "providers") {
            return false;
        }
        rest = tail;
        while let [kind, _name, tail @ ..] = rest {
            if same(kind, "providers") {
                break;
            }
            rest = tail;
        }
    }
    rest.is_empty()
}

/// ARM compares names without case. An ASCII name never equals one outside ASCII, so that no
/// look-alike (the Kelvin sign folds to `k`) stands for another group.
fn same(a: &str, b: &str) -> bool {
    if a.is_ascii() && b.is_ascii() {
        return a.eq_ignore_ascii_case(b);
    }
    a.is_ascii() == b.is_ascii() && a.to_lowercase() == b.to_lowercase()
}

impl PartialEq for Scope {
    fn eq(&self, other: &Self) -> bool {
        self.segments().count() == other.segments().count()
            && self.segments().zip(other.segments()).all(|(a, b)| same(a, b))
    }
}

impl Eq for Scope {}

impl FromStr for Scope {
    type Err = ScopeError;
    fn from_str(text: &str) -> Result<Self, ScopeError> {
        Self::parse(text)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(above: &str, below: &str) -> bool {
        Scope::parse(above).unwrap().covers(&Scope::parse(below).unwrap())
    }

    const NODE: &str = "/subscriptions/S1/resourceGroups/MC_rg/providers/Microsoft.Compute/virtualMachineScaleSets/np1/virtualMachines/0";

    #[test]
    fn every_level_above_covers_the_node() {
        for above in [
            "/",
            "/providers/Microsoft.Management/managementGroups/corp",
            "/providers/microsoft.management/MANAGEMENTGROUPS/corp",
            "/subscriptions/s1",
            "/subscriptions/S1/",
            "/SUBSCRIPTIONS/S1/resourcegroups/mc_RG",
            "/subscriptions/S1/resourceGroups/MC_rg/providers/Microsoft.Compute/virtualMachineScaleSets/np1",
            NODE,
        ] {
            assert!(covers(above, NODE), "{above}");
        }
    }

    /// Past bug: ancestry tested as a string prefix.
    #[test]
    fn scope_prefix_confusion() {
        for other in [
            "/subscriptions/S10",
            "/subscriptions/S",
            "/subscriptions/S1/resourceGroups/MC_r",
            "/subscriptions/S1/resourceGroups/MC_rg2",
            "/subscriptions/S1/resourceGroups/MC_rg/providers/Microsoft.Compute/virtualMachineScaleSets/np",
            "/subscriptions/S1/resourceGroups/MC_rg/providers/Microsoft.Compute/virtualMachineScaleSets/np1/virtualMachines/00",
            "/subscriptions/S1/providers/Microsoft.Compute/virtualMachines/0",
        ] {
            assert!(!covers(other, NODE), "{other}");
        }
        assert!(!covers("/subscriptions/S1", "/subscriptions/S10"));
        assert!(!covers(NODE, "/subscriptions/S1"), "what is below does not count above");
    }

    #[test]
    fn look_alike_letters_are_other_names() {
        assert!(!covers(
            "/subscriptions/S1/resourceGroups/\u{212a}it",
            "/subscriptions/S1/resourceGroups/kit"
        ));
        assert!(covers("/subscriptions/S1/resourceGroups/ÄÖ", "/subscriptions/s1/resourceGroups/äö"));
    }

    #[test]
    fn shapes_that_arm_does_not_have_are_refused() {
        for text in [
            "",
            "//",
            "///",
            "subscriptions/S1",
            "/subscriptions",
            "/subscriptions/",
            "/subscriptions//resourceGroups/r",
            "/subscriptions/S1/resourceGroups",
            "/subscriptions/S1/../S2",
            "/subscriptions/S1/x/y",
            "/resourceGroups/r",
            "/providers",
            "/providers/Microsoft.Management",
            "/providers/Microsoft.Management/managementGroups",
            "/subscriptions/S1/providers/Microsoft.Compute",
            "/subscriptions/S1/providers/Microsoft.Compute/virtualMachines",
            "/subscriptions/S1/resourceGroups/a b",
            "/subscriptions/S1/resourceGroups/a%2f..",
            "/subscriptions/S1/resourceGroups/$(id)",
            "/subscriptions/S1\n",
            "/subscriptions/*",
        ] {
            assert!(Scope::parse(text).is_err(), "{text:?}");
        }
        assert!(Scope::parse(&format!("/subscriptions/{}", "s".repeat(MAX_SCOPE_BYTES))).is_err());
        assert!(Scope::parse("/subscriptions/S1/resourceGroups/r(1)_a.b-c").is_ok());
        assert!(Scope::parse(&format!("{NODE}/providers/Microsoft.Authorization/locks/l")).is_ok());
    }

    #[test]
    fn equal_without_case_and_trailing_slash() {
        let scope = |text: &str| Scope::parse(text).unwrap();
        assert_eq!(scope("/subscriptions/A"), scope("/SUBSCRIPTIONS/a/"));
        assert_ne!(scope("/subscriptions/A"), scope("/subscriptions/A/resourceGroups/r"));
        assert_eq!(scope("/subscriptions/A/").as_str(), "/subscriptions/A");
    }
}

//! Networks and resource ids, beside strings of bits and a matcher that tries everything.

use core::net::IpAddr;
use nightlatch_policy::{Network, ResourcePattern};

use crate::dice::Dice;
use crate::mistakes::Mistake;
use crate::plain::{below, bits};

fn address(dice: &mut Dice) -> IpAddr {
    // Few bits are set, so that many begin alike and many end in nothing.
    let byte = |dice: &mut Dice| dice.pick(&[0_u8, 0, 0, 0x80, 0xff, 1, 0x0a]);
    let four: [u8; 4] = [(); 4].map(|()| byte(dice));
    match dice.below(3) {
        0 => IpAddr::from(four),
        1 => std::net::Ipv4Addr::from(four).to_ipv6_mapped().into(),
        _ => IpAddr::from([(); 16].map(|()| byte(dice))),
    }
}

/// An address without the bits behind a prefix.
fn cut(address: IpAddr, prefix: u8) -> IpAddr {
    let bare = |width: u32| u128::MAX.checked_shl(width.saturating_sub(u32::from(prefix))).unwrap_or(0);
    match address {
        IpAddr::V4(four) => {
            let mask = u32::try_from(bare(32) & u128::from(u32::MAX)).unwrap();
            IpAddr::from(std::net::Ipv4Addr::from(u32::from(four) & mask))
        }
        IpAddr::V6(six) => IpAddr::from(std::net::Ipv6Addr::from(u128::from(six) & bare(128))),
    }
}

/// A prefix is told in the clothes that its address wears; what it leaves over must be nothing.
#[test]
fn a_network_is_a_prefix_of_bits() {
    let dice = &mut Dice(3);
    let (mut networks, mut inside, mut mapped, mut refused) = (0_u32, 0_u32, 0_u32, 0_u32);
    for _ in 0..120_000 {
        let prefix = u8::try_from(dice.below(131)).unwrap();
        let prefix = if dice.once_in(2) { prefix % 34 } else { prefix };
        let mut written = address(dice);
        if !dice.once_in(4) {
            written = cut(written, prefix);
        }
        let (_, worn) = bits(written, false);
        let (family, bare) = bits(written, true);
        let clothes = worn.len() - bare.len();
        let own = usize::from(prefix).checked_sub(clothes).filter(|own| *own <= bare.len());
        let clean = own.filter(|own| !bare[*own..].contains('1'));
        let found = Network::new(written, prefix);
        assert_eq!(found.is_some(), clean.is_some(), "{written}/{prefix}");
        let (Some(network), Some(own)) = (found, clean) else {
            refused += u32::from(own.is_some());
            continue;
        };
        networks += 1;
        for _ in 0..4 {
            let other = address(dice);
            let (other_family, other_bits) = bits(other, true);
            let want = family == other_family && other_bits[..own] == bare[..own];
            assert_eq!(network.contains(other), want, "{other} in {written}/{prefix}");
            inside += u32::from(want);
            mapped += u32::from(want && (clothes > 0 || (other.is_ipv6() && family == '4')));
        }
        assert!(network.contains(written), "{written}/{prefix}");
    }
    println!(
        "{networks} networks, {refused} with bits behind the prefix, {inside} inside, {mapped} in clothes"
    );
    assert!(networks > 40_000 && inside > 12_000 && mapped > 4_000 && refused > 8_000, "it shows nothing");
}

#[test]
fn networks_by_hand() {
    let network = |text: &str, prefix| Network::new(text.parse().unwrap(), prefix);
    let contains =
        |text, prefix, address: &str| network(text, prefix).unwrap().contains(address.parse().unwrap());
    for (text, prefix) in [
        ("10.0.0.1", 8),
        ("10.0.0.0", 33),
        ("10.0.0.0", 255),
        ("2001:db8::1", 64),
        ("2001:db8::", 129),
        ("::ffff:10.0.0.0", 8),
        ("::ffff:10.0.0.0", 95),
        ("::ffff:10.0.0.1", 104),
    ] {
        assert_eq!(network(text, prefix), None, "{text}/{prefix}");
    }
    assert!(
        contains("::ffff:10.0.0.0", 104, "10.255.255.255") && !contains("::ffff:10.0.0.0", 104, "11.0.0.0")
    );
    assert!(contains("0.0.0.0", 0, "::ffff:8.8.8.8") && !contains("::", 0, "8.8.8.8"));
    assert!(contains("::", 0, "fe80::1") && !contains("0.0.0.0", 0, "::1"));
    assert!(contains("10.1.2.3", 32, "::ffff:10.1.2.3") && !contains("10.1.2.3", 32, "10.1.2.2"));
}

/// All words of up to `longest` letters.
fn all_words(letters: &[char], longest: usize) -> Vec<String> {
    let mut all = vec![String::new()];
    let mut last = 0;
    for _ in 0..longest {
        let from = last;
        last = all.len();
        for at in from..last {
            all.extend(letters.iter().map(|letter| format!("{}{letter}", all[at])).collect::<Vec<_>>());
        }
    }
    all
}

/// Every pattern and every resource of a few letters.
#[test]
fn a_resource_pattern_matches_as_back_tracking_does() {
    let resources: Vec<_> = all_words(&['a', 'B', '/'], 6).iter().map(|word| format!("/{word}")).collect();
    let (mut patterns, mut fit, mut fit_not) = (0_u32, 0_u32, 0_u32);
    for word in all_words(&['a', 'b', '*', '/'], 5) {
        let text = format!("/{word}");
        let whole = text.split('/').skip(1).all(|segment| !segment.is_empty());
        let Some(pattern) = ResourcePattern::new(&text) else {
            assert!(!whole, "{text}");
            continue;
        };
        assert!(whole, "{text}");
        assert_eq!(ResourcePattern::new(&word), None, "it does not begin with a slash");
        patterns += 1;
        for resource in &resources {
            let want = below(&text, resource, Mistake::Nothing);
            assert_eq!(pattern.matches(resource), want, "{text} {resource}");
            if want { fit += 1 } else { fit_not += 1 }
        }
    }
    println!("{patterns} patterns, {fit} fit, {fit_not} do not");
    assert!(patterns > 500 && fit > 50_000 && fit_not > 50_000, "it shows nothing");
}

#[test]
fn resources_by_hand() {
    let matches = |pattern: &str, resource| ResourcePattern::new(pattern).unwrap().matches(resource);
    assert!(matches("/subscriptions/S1", "/SUBSCRIPTIONS/s1/resourceGroups/a"));
    assert!(!matches("/subscriptions/s1", "/subscriptions/s10"), "a segment is whole");
    assert!(!matches("/subscriptions/*/x", "/subscriptions/a/b/x"), "a star stays within its segment");
    assert!(!matches("/subscriptions/s1/resourceGroups/a", "/subscriptions/s1"), "above is not below");
    // A matcher that tries everything would not be done before the sun is out.
    let stars = format!("/{}b", "a*".repeat(40));
    assert!(!matches(&stars, &format!("/{}", "a".repeat(4_000))));
}

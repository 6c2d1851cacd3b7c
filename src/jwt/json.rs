//! JSON as it must be here: one object, no member twice, bounded in depth and number.
//!
//! The library's own reader keeps the last of two equal members, and another reader may keep the first.

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::limits::{MAX_DEPTH, MAX_NODES};

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number written as one.
    Int(i64),
    /// Any other number; what it was does not matter to anybody.
    OtherNumber,
    /// A string.
    Text(String),
    /// An array.
    List(Vec<Self>),
    /// An object.
    Object(Object),
}

/// An object, whose members are all different.
pub(crate) type Object = Vec<(String, Json)>;

/// Why a text is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JsonError {
    /// No object, too deep, too many values, or no JSON.
    Malformed,
    /// A member stands twice.
    Duplicate,
}

/// The member of this name.
pub(crate) fn member<'a>(object: &'a Object, name: &str) -> Option<&'a Json> {
    object.iter().find(|(found, _)| found == name).map(|(_, value)| value)
}

/// The member of this name, where it is a text.
pub(crate) fn text<'a>(object: &'a Object, name: &str) -> Option<&'a str> {
    match member(object, name) {
        Some(Json::Text(text)) => Some(text),
        _ => None,
    }
}

/// Reads one object and nothing behind it.
pub(crate) fn object(text: &[u8]) -> Result<Object, JsonError> {
    let state = State { left: Cell::new(MAX_NODES), duplicate: Cell::new(false) };
    let mut reader = serde_json::Deserializer::from_slice(text);
    let read = Value { state: &state, depth: MAX_DEPTH }.deserialize(&mut reader);
    match (read, reader.end()) {
        (Ok(Json::Object(object)), Ok(())) => Ok(object),
        _ if state.duplicate.get() => Err(JsonError::Duplicate),
        _ => Err(JsonError::Malformed),
    }
}

struct State {
    left: Cell<usize>,
    duplicate: Cell<bool>,
}

#[derive(Clone, Copy)]
struct Value<'a> {
    state: &'a State,
    depth: usize,
}

impl Value<'_> {
    fn within<E: Error>(self) -> Result<Self, E> {
        let depth = self.depth.checked_sub(1).ok_or_else(|| E::custom("too deep"))?;
        Ok(Self { depth, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Json, D::Error> {
        let left = self.state.left.get().checked_sub(1).ok_or_else(|| D::Error::custom("too many values"))?;
        self.state.left.set(left);
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Int(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Json, E> {
        Ok(i64::try_from(value).map_or(Json::OtherNumber, Json::Int))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Json, E> {
        Ok(Json::OtherNumber)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Json, E> {
        Ok(Json::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let within = self.within()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(within)? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json, A::Error> {
        let within = self.within()?;
        let (mut object, mut names) = (Object::new(), HashSet::new());
        while let Some(name) = members.next_key::<String>()? {
            if !names.insert(name.clone()) {
                self.state.duplicate.set(true);
                return Err(A::Error::custom("a member stands twice"));
            }
            object.push((name, members.next_value_seed(within)?));
        }
        Ok(Json::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_object_is_read_and_nothing_else() {
        let read = object(br#" {"a":1,"b":[true,null,"x"],"c":{"a":1.5}} "#).unwrap();
        assert_eq!(member(&read, "a"), Some(&Json::Int(1)));
        let list = vec![Json::Bool(true), Json::Null, Json::Text("x".into())];
        assert_eq!(member(&read, "b"), Some(&Json::List(list)));
        assert_eq!(member(&read, "c"), Some(&Json::Object(vec![("a".into(), Json::OtherNumber)])));
        assert_eq!(member(&read, "d"), None);
        for wrong in ["", "1", "[]", "{}x", "{} {}", "\u{feff}{}", "{\"a\":}", "{a:1}", "{\"a\":01}", "nul"] {
            assert_eq!(object(wrong.as_bytes()), Err(JsonError::Malformed), "{wrong}");
        }
        assert_eq!(object(b"{\"a\":\"\xff\"}"), Err(JsonError::Malformed));
    }

    #[test]
    fn a_member_that_stands_twice_is_told_apart() {
        for twice in [r#"{"a":1,"a":1}"#, r#"{"a":1,"\u0061":2}"#, r#"{"x":[{"a":1,"b":2,"a":3}]}"#] {
            assert_eq!(object(twice.as_bytes()), Err(JsonError::Duplicate), "{twice}");
        }
        object(br#"{"a":{"a":1},"A":2}"#).unwrap();
    }

    #[test]
    fn depth_and_number_are_bounded() {
        let nested = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
        object(nested(MAX_DEPTH).as_bytes()).unwrap();
        assert_eq!(object(nested(MAX_DEPTH + 1).as_bytes()), Err(JsonError::Malformed));
        let list = |items: usize| format!("{{\"a\":[{}]}}", vec!["0"; items].join(","));
        object(list(MAX_NODES - 2).as_bytes()).unwrap();
        assert_eq!(object(list(MAX_NODES - 1).as_bytes()), Err(JsonError::Malformed));
    }
}

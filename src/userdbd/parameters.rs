//! The parameters of a call, typed late.
//!
//! A client may send any JSON at any place. What is not a text or a whole number is read past and
//! never kept, so that a request costs no more memory than its bytes.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::varlink::Failure;

/// The parameters that count; the others are passed over.
#[derive(Default)]
pub(crate) struct Parameters {
    pub(crate) service: Scalar,
    pub(crate) user_name: Scalar,
    pub(crate) group_name: Scalar,
    pub(crate) uid: Scalar,
    pub(crate) gid: Scalar,
}

impl<'de> Deserialize<'de> for Parameters {
    /// Takes an object and nothing else; a derived reader would take a list as well.
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(ObjectReader)
    }
}

struct ObjectReader;

impl<'de> Visitor<'de> for ObjectReader {
    type Value = Parameters;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of parameters")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut values: A) -> Result<Parameters, A::Error> {
        let mut parameters = Parameters::default();
        while let Some(key) = values.next_key::<String>()? {
            let place = match key.as_str() {
                "service" => &mut parameters.service,
                "userName" => &mut parameters.user_name,
                "groupName" => &mut parameters.group_name,
                "uid" => &mut parameters.uid,
                "gid" => &mut parameters.gid,
                _ => {
                    values.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            if *place != Scalar::Absent {
                return Err(de::Error::custom("a parameter stands there twice"));
            }
            *place = values.next_value()?;
        }
        Ok(parameters)
    }
}

/// A value of any type, kept only where it can count.
#[derive(Default, Debug, PartialEq, Eq)]
pub(crate) enum Scalar {
    /// Absent, or null, which varlink takes for the same.
    #[default]
    Absent,
    /// A text.
    Text(String),
    /// A whole number, not negative.
    Number(u64),
    /// Anything else.
    Other,
}

impl Scalar {
    /// The text, if there is one; `name` is named when it is of another type.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, Failure> {
        match self {
            Self::Absent => Ok(None),
            Self::Text(text) => Ok(Some(text)),
            Self::Number(_) | Self::Other => Err(Failure::invalid(name)),
        }
    }

    /// The uid or gid, if there is one; `name` is named when it is none.
    pub(crate) fn id(&self, name: &str) -> Result<Option<u32>, Failure> {
        match self {
            Self::Absent => Ok(None),
            Self::Number(number) => u32::try_from(*number).map(Some).map_err(|_| Failure::invalid(name)),
            Self::Text(_) | Self::Other => Err(Failure::invalid(name)),
        }
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Scalar, E> {
        Ok(Scalar::Absent)
    }

    fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
        Ok(Scalar::Text(text.to_owned()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Scalar, E> {
        Ok(Scalar::Number(number))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Scalar, E> {
        Ok(Scalar::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Scalar, E> {
        Ok(Scalar::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Scalar, E> {
        Ok(Scalar::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Scalar, A::Error> {
        while values.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut values: A) -> Result<Scalar, A::Error> {
        while values.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Scalar {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn any_json_is_read_and_only_scalars_are_kept() {
        assert_eq!(read("null"), Scalar::Absent);
        assert_eq!(read("\"a\\u0000b\""), Scalar::Text("a\0b".into()));
        assert_eq!(read("18446744073709551615"), Scalar::Number(u64::MAX));
        for other in ["-1", "1.0", "1e3", "true", "[]", "[[1],{}]", "{\"a\":[1]}", "18446744073709551616"] {
            assert_eq!(read(other), Scalar::Other, "{other}");
        }
    }

    #[test]
    fn only_an_object_holds_parameters() {
        let parameters: Parameters =
            serde_json::from_str(r#"{"uid":7,"uidMin":[{}],"userName":null,"service":"s"}"#).unwrap();
        assert_eq!((parameters.uid, parameters.user_name), (Scalar::Number(7), Scalar::Absent));
        for wrong in ["[\"s\",\"root\"]", "1", "\"s\"", r#"{"uid":7,"uid":8}"#, r#"{"uid":7,"uid":null}"#] {
            assert!(serde_json::from_str::<Parameters>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ids_are_32_bits() {
        assert_eq!(Scalar::Number(u64::from(u32::MAX)).id("uid").ok(), Some(Some(u32::MAX)));
        assert!(Scalar::Number(1 << 32).id("uid").is_err());
        assert!(Scalar::Text("0".into()).id("uid").is_err());
        assert!(Scalar::Number(0).text("userName").is_err());
        assert_eq!(Scalar::Absent.id("uid").ok(), Some(None));
    }
}

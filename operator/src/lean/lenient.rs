//! Values that may be of a wrong kind: what is not wanted is passed over, and told of.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A value that may turn out to be of a wrong kind.
#[derive(Default)]
pub(super) enum Lenient<T> {
    /// Not there, or null.
    #[default]
    Absent,
    /// As it should be.
    Read(T),
    /// What it is instead.
    Odd(&'static str),
}

impl<T: Default> Lenient<T> {
    /// The value, or in words what is wrong with it.
    pub(super) fn read(self, place: &str, wanted: &str) -> Result<T, String> {
        match self {
            Self::Absent => Ok(T::default()),
            Self::Read(value) => Ok(value),
            Self::Odd(kind) => Err(format!("{place} is {kind}, not {wanted}")),
        }
    }
}

/// Reads one kind of value, and passes the others over.
pub(super) trait OfOneKind: Sized {
    fn from_text(_: &str) -> Lenient<Self> {
        Lenient::Odd("a string")
    }

    fn from_map<'de, M: MapAccess<'de>>(mut map: M) -> Result<Lenient<Self>, M::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Lenient::Odd("an object"))
    }
}

impl<'de, T: OfOneKind> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyKind(PhantomData))
    }
}

struct AnyKind<T>(PhantomData<T>);

impl<'de, T: OfOneKind> Visitor<'de> for AnyKind<T> {
    type Value = Lenient<T>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Lenient<T>, E> {
        Ok(Lenient::Odd("a boolean"))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Lenient<T>, E> {
        Ok(Lenient::Odd("a number"))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Lenient<T>, E> {
        Ok(Lenient::Odd("a number"))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Lenient<T>, E> {
        Ok(Lenient::Odd("a number"))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Lenient<T>, E> {
        Ok(T::from_text(text))
    }

    fn visit_unit<E: Error>(self) -> Result<Lenient<T>, E> {
        Ok(Lenient::Absent)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Lenient<T>, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Lenient::Odd("an array"))
    }

    fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Lenient<T>, M::Error> {
        T::from_map(map)
    }
}

//! The table macros: BOLT messages, internal messages, sets of either, requests, and plain data.
//!
//! A row has its number, written and never derived, and its fields in the spec's order.

use crate::codec::{Malformed, Wire};

/// The longest frame between two processes of the suite. A channel full of HTLCs stays far below.
pub const MAX_FRAME: usize = 16 * 1024 * 1024;

/// A message that knows its number and name.
pub trait Message: Sized {
    /// The two bytes it begins with.
    const NUMBER: u16;
    /// For people.
    const NAME: &'static str;
    /// Appends everything after the number.
    fn put_body(&self, out: &mut Vec<u8>);
    /// Reads everything after the number; `bytes` must hold nothing else.
    fn take_body(bytes: &[u8]) -> Result<Self, Malformed>;

    /// Number and body.
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        out.extend_from_slice(&Self::NUMBER.to_be_bytes());
        self.put_body(&mut out);
        out
    }
}

/// The message that bytes were decoded to, of a set of messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded<T> {
    /// One of the set.
    Known(T),
    /// An odd number that is not in the set. BOLT 1: ignore it.
    UnknownOdd(u16),
    /// An even number that is not in the set. BOLT 1: close the connection.
    UnknownEven(u16),
}

/// A question knows its answer.
pub trait Request: Wire {
    /// The two bytes it begins with.
    const NUMBER: u16;
    /// For people.
    const NAME: &'static str;
    /// The type of the answer.
    type Answer: Wire;
}

/// The row of one question: number, right and length are judged by it before the question is
/// decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row<C> {
    /// The two bytes it begins with.
    pub number: u16,
    /// For people.
    pub name: &'static str,
    /// The right it takes.
    pub needs: C,
    /// The most bytes after the number that an honest question has.
    pub longest: usize,
}

/// Messages of the BOLTs: fields, then a TLV stream in which unknown odd records are skipped and
/// unknown even ones refused.
#[macro_export]
macro_rules! messages {
    ($( $(#[$m:meta])* $num:literal => $name:ident {
        $( $(#[$fm:meta])* $field:ident : $ty:ty ),* $(,)?
    } $( tlvs { $( $(#[$tm:meta])* $tnum:literal => $tfield:ident : $tty:ty ),* $(,)? } )? )*) => {
        $(
            $(#[$m])* #[derive(Debug, Clone, PartialEq, Eq)]
            pub struct $name {
                $( $(#[$fm])* #[allow(missing_docs, reason = "the field is named as the BOLT or its sentence names it")] pub $field: $ty, )*
                $( $( $(#[$tm])* #[allow(missing_docs, reason = "the field is named as the BOLT or its sentence names it")] pub $tfield: Option<$tty>, )* )?
            }
            impl $crate::Message for $name {
                const NUMBER: u16 = $num;
                const NAME: &'static str = stringify!($name);
                #[allow(unused_variables, reason = "a message without fields reads none")]
                fn put_body(&self, out: &mut Vec<u8>) {
                    $( $crate::Wire::put(&self.$field, out); )*
                    $( $( if let Some(v) = &self.$tfield { $crate::tlv::put_tlv($tnum, v, out); } )* )?
                }
                #[allow(unused_mut, unused_variables, reason = "a message without fields reads none")]
                fn take_body(mut bytes: &[u8]) -> Result<Self, $crate::Malformed> {
                    let at = |field: &'static str| move |problem| $crate::Malformed { message: stringify!($name), field, problem };
                    $( let $field = <$ty as $crate::Wire>::take(&mut bytes).map_err(at(stringify!($field)))?; )*
                    $( $( let mut $tfield: Option<$tty> = None; )* )?
                    let mut records = $crate::tlv::TlvReader::new(bytes);
                    while let Some((kind, value)) = records.next_record().map_err(at("tlvs"))? {
                        match kind {
                            $( $( $tnum => $tfield = Some(<$tty as $crate::Wire>::from_bytes(value).map_err(at(stringify!($tfield)))?), )* )?
                            other => $crate::tlv::unknown_tlv(other).map_err(at("tlvs"))?,
                        }
                    }
                    Ok(Self { $( $field, )* $( $( $tfield, )* )? })
                }
            }
            #[cfg(test)]
            impl $crate::sample::Sample for $name {
                fn sample(r: &mut $crate::sample::Rng) -> Self {
                    Self { $( $field: $crate::sample::Sample::sample(r), )* $( $( $tfield: $crate::sample::Sample::sample(r), )* )? }
                }
            }
        )*
    };
}

/// Messages within the suite: fields and nothing else.
#[macro_export]
macro_rules! internal {
    ($( $(#[$m:meta])* $num:literal => $name:ident {
        $( $(#[$fm:meta])* $field:ident : $ty:ty ),* $(,)?
    } )*) => {
        $(
            $(#[$m])* #[derive(Debug, Clone, PartialEq, Eq)]
            pub struct $name { $( $(#[$fm])* #[allow(missing_docs, reason = "the field is named as the BOLT or its sentence names it")] pub $field: $ty, )* }
            impl $crate::Message for $name {
                const NUMBER: u16 = $num;
                const NAME: &'static str = stringify!($name);
                #[allow(unused_variables, reason = "a message without fields reads none")]
                fn put_body(&self, out: &mut Vec<u8>) { $( $crate::Wire::put(&self.$field, out); )* }
                #[allow(unused_mut, unused_variables, reason = "a message without fields reads none")]
                fn take_body(mut bytes: &[u8]) -> Result<Self, $crate::Malformed> {
                    let at = |field: &'static str| move |problem| $crate::Malformed { message: stringify!($name), field, problem };
                    $( let $field = <$ty as $crate::Wire>::take(&mut bytes).map_err(at(stringify!($field)))?; )*
                    if bytes.is_empty() { Ok(Self { $( $field, )* }) } else { Err(at("end")($crate::Problem::Trailing(bytes.len()))) }
                }
            }
            #[cfg(test)]
            impl $crate::sample::Sample for $name {
                #[allow(unused_variables, reason = "a message without fields reads none")]
                fn sample(r: &mut $crate::sample::Rng) -> Self { Self { $( $field: $crate::sample::Sample::sample(r), )* } }
            }
        )*
    };
}

/// A set of messages that one reader may meet: an enum, so that a match over it names each.
#[macro_export]
macro_rules! message_set {
    ($(#[$m:meta])* pub enum $set:ident { $( $name:ident ),* $(,)? }) => {
        $(#[$m])* #[derive(Debug, Clone, PartialEq, Eq)]
        #[allow(missing_docs, clippy::large_enum_variant, reason = "the message is named for its fields, and there is one at a time")]
        pub enum $set { $( $name($name), )* }
        impl $set {
            /// The two bytes it begins with.
            pub fn number(&self) -> u16 { match self { $( Self::$name(_) => <$name as $crate::Message>::NUMBER, )* } }
            /// For people.
            pub fn name(&self) -> &'static str { match self { $( Self::$name(_) => <$name as $crate::Message>::NAME, )* } }
            /// Number and body.
            pub fn encode(&self) -> Vec<u8> { match self { $( Self::$name(m) => $crate::Message::encode(m), )* } }
            /// Reads one message. What is not in the set is no error here: the reader decides.
            pub fn decode(mut bytes: &[u8]) -> Result<$crate::Decoded<Self>, $crate::Malformed> {
                let number = <u16 as $crate::Wire>::take(&mut bytes)
                    .map_err(|problem| $crate::Malformed { message: stringify!($set), field: "type", problem })?;
                $( if number == <$name as $crate::Message>::NUMBER {
                    return <$name as $crate::Message>::take_body(bytes).map(|m| $crate::Decoded::Known(Self::$name(m)));
                } )*
                Ok(if number % 2 == 1 { $crate::Decoded::UnknownOdd(number) } else { $crate::Decoded::UnknownEven(number) })
            }
            /// Reads one message that must be of the set: for use within the suite.
            pub fn decode_known(bytes: &[u8]) -> Result<Self, $crate::Malformed> {
                match Self::decode(bytes)? {
                    $crate::Decoded::Known(m) => Ok(m),
                    $crate::Decoded::UnknownOdd(n) | $crate::Decoded::UnknownEven(n) => Err($crate::Malformed {
                        message: stringify!($set), field: "type", problem: $crate::Problem::Unknown(n.into()) }),
                }
            }
        }
        $( impl From<$name> for $set { fn from(m: $name) -> Self { Self::$name(m) } } )*
        #[cfg(test)]
        impl $set {
            pub(crate) fn check_each(r: &mut $crate::sample::Rng) {
                $( $crate::sample::check_message::<$name>(r); )*
                let noise: [u8; 64] = $crate::sample::Sample::sample(r);
                drop(Self::decode(&noise));
            }
        }
    };
}

/// Questions, their answers, and (for hsmd) the right that each takes and the most bytes it has
/// after its number. A row without them does not compile.
#[macro_export]
macro_rules! requests {
    ($(#[$em:meta])* pub enum $set:ident needs $cap:ident { $(
        $(#[$m:meta])* $num:literal => $name:ident { $( $(#[$fm:meta])* $field:ident : $ty:ty ),* $(,)? } -> $answer:ty, $need:ident, $longest:expr;
    )* }) => {
        $crate::requests!($(#[$em])* pub enum $set { $( $(#[$m])* $num => $name { $( $(#[$fm])* $field: $ty ),* } -> $answer; )* });
        impl $set {
            /// What the table says of each.
            pub const ROWS: &'static [$crate::Row<$cap>] = &[ $( $crate::Row {
                number: $num, name: stringify!($name), needs: $cap::$need, longest: $longest }, )* ];
            /// What the table says of the question with this number, if there is one.
            pub fn row(number: u16) -> Option<&'static $crate::Row<$cap>> { Self::ROWS.iter().find(|row| row.number == number) }
        }
    };
    ($(#[$em:meta])* pub enum $set:ident { $(
        $(#[$m:meta])* $num:literal => $name:ident { $( $(#[$fm:meta])* $field:ident : $ty:ty ),* $(,)? } -> $answer:ty;
    )* }) => {
        $(
            $(#[$m])* #[derive(Debug, Clone, PartialEq, Eq)]
            pub struct $name { $( $(#[$fm])* #[allow(missing_docs, reason = "the field is named as the BOLT or its sentence names it")] pub $field: $ty, )* }
            impl $crate::Wire for $name {
                #[allow(unused_variables, reason = "a message without fields reads none")]
                fn put(&self, out: &mut Vec<u8>) { $( $crate::Wire::put(&self.$field, out); )* }
                #[allow(unused_variables, reason = "a message without fields reads none")]
                fn take(from: &mut &[u8]) -> Result<Self, $crate::Problem> { Ok(Self { $( $field: <$ty as $crate::Wire>::take(from)?, )* }) }
            }
            impl $crate::Request for $name {
                const NUMBER: u16 = $num;
                const NAME: &'static str = stringify!($name);
                type Answer = $answer;
            }
            #[cfg(test)]
            impl $crate::sample::Sample for $name {
                #[allow(unused_variables, reason = "a message without fields reads none")]
                fn sample(r: &mut $crate::sample::Rng) -> Self { Self { $( $field: $crate::sample::Sample::sample(r), )* } }
            }
        )*
        $(#[$em])* #[derive(Debug, Clone, PartialEq, Eq)]
        #[allow(missing_docs, clippy::large_enum_variant, reason = "the message is named for its fields, and there is one at a time")]
        pub enum $set { $( $name($name), )* }
        impl $set {
            /// For people.
            pub const fn name(&self) -> &'static str { match self { $( Self::$name(_) => stringify!($name), )* } }
            /// Is this number one of the questions?
            pub const fn has(number: u16) -> bool { match number { $( $num => true, )* _ => false } }
            /// Reads one question, which must be all there is.
            pub fn decode(mut bytes: &[u8]) -> Result<Self, $crate::Malformed> {
                let at = |message: &'static str, problem| $crate::Malformed { message, field: "question", problem };
                let number = <u16 as $crate::Wire>::take(&mut bytes).map_err(|p| at(stringify!($set), p))?;
                match number {
                    $( $num => <$name as $crate::Wire>::from_bytes(bytes).map(Self::$name).map_err(|p| at(stringify!($name), p)), )*
                    other => Err(at(stringify!($set), $crate::Problem::Unknown(other.into()))),
                }
            }
        }
        #[cfg(test)]
        impl $set {
            pub(crate) fn check_each(r: &mut $crate::sample::Rng) {
                $( $crate::sample::check_value::<$name>(r); $crate::sample::check_value::<$answer>(r); )*
                let noise: [u8; 64] = $crate::sample::Sample::sample(r);
                drop(Self::decode(&noise));
            }
        }
        $( impl From<$name> for $set { fn from(m: $name) -> Self { Self::$name(m) } } )*
    };
}

/// Plain data that crosses a process border: structs as their fields, enums by explicitly written
/// numbers.
#[macro_export]
macro_rules! data {
    () => {};
    ($(#[$m:meta])* pub struct $name:ident { $( $(#[$fm:meta])* $field:ident : $ty:ty ),* $(,)? } $($rest:tt)*) => {
        $(#[$m])* #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name { $( $(#[$fm])* pub $field: $ty, )* }
        impl $crate::Wire for $name {
            #[allow(unused_variables, reason = "a message without fields reads none")]
            fn put(&self, out: &mut Vec<u8>) { $( $crate::Wire::put(&self.$field, out); )* }
            #[allow(unused_variables, reason = "a message without fields reads none")]
            fn take(from: &mut &[u8]) -> Result<Self, $crate::Problem> { Ok(Self { $( $field: <$ty as $crate::Wire>::take(from)?, )* }) }
        }
        #[cfg(test)]
        impl $crate::sample::Sample for $name {
            #[allow(unused_variables, reason = "a message without fields reads none")]
            fn sample(r: &mut $crate::sample::Rng) -> Self { Self { $( $field: $crate::sample::Sample::sample(r), )* } }
        }
        $crate::data!($($rest)*);
    };
    ($(#[$m:meta])* pub enum $name:ident { $( $(#[$vm:meta])* $num:literal => $variant:ident $( { $( $(#[$fm:meta])* $field:ident : $ty:ty ),* $(,)? } )? ),* $(,)? } $($rest:tt)*) => {
        $(#[$m])* #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum $name { $( $(#[$vm])* $variant $( { $( $(#[$fm])* #[allow(missing_docs, reason = "the field is named as the BOLT or its sentence names it")] $field: $ty, )* } )? ),* }
        impl $crate::Wire for $name {
            fn put(&self, out: &mut Vec<u8>) {
                match self { $( Self::$variant $( { $( $field ),* } )? => { out.push($num); $( $( $crate::Wire::put($field, out); )* )? } )* }
            }
            fn take(from: &mut &[u8]) -> Result<Self, $crate::Problem> {
                Ok(match <u8 as $crate::Wire>::take(from)? {
                    $( $num => Self::$variant $( { $( $field: <$ty as $crate::Wire>::take(from)? ),* } )?, )*
                    other => return Err($crate::Problem::Unknown(other.into())),
                })
            }
        }
        #[cfg(test)]
        impl $crate::sample::Sample for $name {
            fn sample(r: &mut $crate::sample::Rng) -> Self {
                let makers: &[fn(&mut $crate::sample::Rng) -> Self] =
                    &[ $( |_r| Self::$variant $( { $( $field: $crate::sample::Sample::sample(_r) ),* } )? ),* ];
                makers[r.below(makers.len())](r)
            }
        }
        $crate::data!($($rest)*);
    };
    ($(#[$m:meta])* pub tag $name:ident { $( $(#[$vm:meta])* $num:literal => $variant:ident ),* $(,)? } $($rest:tt)*) => {
        $(#[$m])* #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $name { $( $(#[$vm])* $variant = $num ),* }
        impl $name {
            /// All of them, in order.
            pub const ALL: &'static [Self] = &[ $( Self::$variant ),* ];
            /// As it is stored and sent.
            pub const fn number(self) -> u8 { self as u8 }
            /// The one of this number.
            pub const fn from_number(number: u8) -> Option<Self> { match number { $( $num => Some(Self::$variant), )* _ => None } }
        }
        impl $crate::Wire for $name {
            fn put(&self, out: &mut Vec<u8>) { out.push(*self as u8); }
            fn take(from: &mut &[u8]) -> Result<Self, $crate::Problem> {
                let number = <u8 as $crate::Wire>::take(from)?;
                Self::from_number(number).ok_or($crate::Problem::Unknown(number.into()))
            }
        }
        #[cfg(test)]
        impl $crate::sample::Sample for $name {
            fn sample(r: &mut $crate::sample::Rng) -> Self { Self::ALL[r.below(Self::ALL.len())] }
        }
        $crate::data!($($rest)*);
    };
}

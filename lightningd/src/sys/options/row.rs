//! A row of the table of options, and what the macro `options!` makes of the rows: a struct with a
//! field for each, and a list of [`OptionSpec`].

use crate::sys::options::takes::{Form, Range, Shown, Takes};
use primitives::Network;
use std::fmt::Debug;
use std::marker::PhantomData;

/// One option of the struct `O`, whatever the type of its field.
#[derive(Debug, Clone)]
pub struct OptionSpec<O: 'static> {
    /// Without dashes at its beginning.
    pub name: &'static str,
    /// The group it is shown under in `--help`.
    pub heading: &'static str,
    /// For `--help` and the man page.
    pub doc: &'static str,
    /// The form of its value in `listconfigs`.
    pub form: Form,
    /// Stands for the value in `--help`.
    pub word: &'static str,
    /// What a number may be, where that is less than its type allows.
    pub range: Option<Range>,
    /// Each occurrence adds a value; of other options the last holds.
    pub multi: bool,
    /// Only with `--developer`.
    pub developer: bool,
    /// Accepted, and without effect: what it would change does not exist here (yet).
    pub inert: bool,
    /// May be changed while lightningd runs.
    pub dynamic: bool,
    /// Given several times, and `listconfigs` shows the last alone, as CLN does.
    pub shows_last: bool,
    /// Its value may have a password in it: errors do not show it.
    pub secret: bool,
    /// The default in words; `None` where there is none.
    pub preset: fn() -> Option<String>,
    /// `Err` if the option does not take this value.
    pub check: fn(Option<&str>, Option<Range>) -> Result<(), String>,
    /// Puts a value into the option's field. True for the first occurrence, which replaces a
    /// default.
    pub put: Put<O>,
    /// The values in the option's field.
    pub shown: fn(&O) -> Vec<Shown>,
}

/// Puts a value that fits the range, or `Err`, into a field of `O`.
pub type Put<O> = fn(&mut O, Option<&str>, Option<Range>, bool) -> Result<(), String>;

/// What defaults depend on.
#[derive(Debug, Clone, Copy)]
pub struct Basis {
    pub network: Network,
    pub developer: bool,
}

/// A default.
pub struct Preset<T> {
    main: T,
    test: T,
    developer: Option<T>,
    words: Option<&'static str>,
}

/// The same everywhere.
pub fn fixed<T: Clone>(value: T) -> Preset<T> {
    Preset { main: value.clone(), test: value, developer: None, words: None }
}
/// One for `bitcoin`, another for networks whose coins are worth nothing.
pub fn by_network<T>(main: T, test: T) -> Preset<T> {
    Preset { main, test, developer: None, words: None }
}
/// Another with `--developer`.
pub fn or_developer<T: Clone>(value: T, developer: T) -> Preset<T> {
    Preset { developer: Some(developer), ..fixed(value) }
}
/// Decided by what uses the option; `words` say how.
pub fn decided<T: Clone + Default>(words: &'static str) -> Preset<T> {
    Preset { words: Some(words), ..fixed(T::default()) }
}

impl<T> Preset<T> {
    /// The default in this process.
    pub fn of(self, basis: Basis) -> T {
        match self.developer {
            Some(value) if basis.developer => value,
            _ if basis.network.is_test() => self.test,
            _ => self.main,
        }
    }

    /// For `--help`: `None` for a flag, and where nothing is set.
    pub fn words(&self, shown: fn(&T) -> Vec<Shown>) -> Option<String> {
        let text = |value: &T| match shown(value).as_slice() {
            [] | [Shown::Set(_)] => None,
            [Shown::Text(text)] if text.is_empty() => None,
            several => Some(several.iter().map(Shown::to_string).collect::<Vec<_>>().join(", ")),
        };
        if let Some(words) = self.words {
            return Some(words.to_owned());
        }
        let (main, test) = (text(&self.main)?, text(&self.test)?);
        Some(match self.developer.as_ref().and_then(text) {
            Some(developer) => format!("{main}; {developer} with --developer"),
            None if main == test => main,
            None => format!("{main}; {test} on test networks"),
        })
    }
}

/// The field that an option has.
pub trait Shape {
    type Takes: Takes;
    type Field: Clone + Debug;
    const MULTI: bool = false;
    /// `is_first` for the first occurrence: it replaces a default.
    fn put(field: &mut Self::Field, value: <Self::Takes as Takes>::Value, is_first: bool);
    fn shown(field: &Self::Field) -> Vec<Shown>;
}

/// There always is a value.
pub struct One<T>(PhantomData<T>);
impl<T: Takes> Shape for One<T> {
    type Takes = T;
    type Field = T::Value;
    fn put(field: &mut T::Value, value: T::Value, _: bool) {
        *field = value;
    }
    fn shown(field: &T::Value) -> Vec<Shown> {
        vec![T::shown(field)]
    }
}

/// There may be a value: else what uses the option decides.
pub struct Maybe<T>(PhantomData<T>);
impl<T: Takes> Shape for Maybe<T> {
    type Takes = T;
    type Field = Option<T::Value>;
    fn put(field: &mut Self::Field, value: T::Value, _: bool) {
        *field = Some(value);
    }
    fn shown(field: &Self::Field) -> Vec<Shown> {
        field.iter().map(T::shown).collect()
    }
}

/// Each occurrence adds a value.
pub struct Many<T>(PhantomData<T>);
impl<T: Takes> Shape for Many<T> {
    type Takes = T;
    type Field = Vec<T::Value>;
    const MULTI: bool = true;
    fn put(field: &mut Self::Field, value: T::Value, is_first: bool) {
        if is_first {
            field.clear();
        }
        field.push(value);
    }
    fn shown(field: &Self::Field) -> Vec<Shown> {
        field.iter().map(T::shown).collect()
    }
}

/// There always is a value, and it matters whether somebody gave it.
pub struct Noted<T>(PhantomData<T>);
impl<T: Takes> Shape for Noted<T> {
    type Takes = T;
    type Field = Setting<T::Value>;
    fn put(field: &mut Self::Field, value: T::Value, _: bool) {
        *field = Setting { value, is_given: true };
    }
    fn shown(field: &Self::Field) -> Vec<Shown> {
        vec![T::shown(&field.value)]
    }
}

/// The field of a [`Noted`] option.
#[derive(Debug, Clone, Copy)]
pub struct Setting<T> {
    pub value: T,
    /// False for the default.
    pub is_given: bool,
}

/// A default of a [`Noted`] option.
pub fn not_given<T>(value: T) -> Setting<T> {
    Setting { value, is_given: false }
}

/// What an occurrence gives an option: a bare name means true, where that can be.
fn parse<S: Shape>(
    value: Option<&str>,
    range: Option<Range>,
) -> Result<<S::Takes as Takes>::Value, String> {
    let text = match (S::Takes::FORM, value) {
        (_, Some(text)) => text,
        (Form::Flag | Form::Bool, None) => "true",
        (Form::Int | Form::Msat | Form::Text, None) => {
            return Err("requires an argument".to_owned());
        }
    };
    S::Takes::parse(text, range)
}

pub fn check<S: Shape>(value: Option<&str>, range: Option<Range>) -> Result<(), String> {
    parse::<S>(value, range).map(drop)
}

pub fn put<S: Shape>(
    field: &mut S::Field,
    value: Option<&str>,
    range: Option<Range>,
    is_first: bool,
) -> Result<(), String> {
    S::put(field, parse::<S>(value, range)?, is_first);
    Ok(())
}

/// The name of a field as an option has it: `fee_base` is `--fee-base`.
pub const fn dashed<const N: usize>(field: &str) -> [u8; N] {
    let mut name = [b'-'; N];
    let (mut from, mut to) = (field.as_bytes(), name.as_mut_slice());
    while let (Some((byte, bytes)), Some((place, places))) =
        (from.split_first(), { to }.split_first_mut())
    {
        if *byte != b'_' {
            *place = *byte;
        }
        (from, to) = (bytes, places);
    }
    name
}

/// Names of fields are ASCII.
pub const fn text(name: &[u8]) -> &str {
    match std::str::from_utf8(name) {
        Ok(text) => text,
        Err(_) => "",
    }
}

/// `"Heading" { /// doc ⏎ name: Shape<Takes> [least, most] = default, tag, tag; }`, where range,
/// default and tags may be left out. Tags are the booleans of [`OptionSpec`].
macro_rules! options {
    (@preset) => { fixed(Default::default()) };
    (@preset $preset:expr) => { $preset };
    ($( $heading:literal { $(
        $(#[doc = $doc:literal])+
        $name:ident : $shape:ty $([$least:expr, $most:expr])? $(= $preset:expr)? $(, $tag:ident)* ;
    )* } )*) => {
        /// The value of each option.
        #[derive(Debug, Clone)]
        pub struct Options { $($(
            $(#[doc = $doc])+
            pub $name: <$shape as $crate::sys::options::row::Shape>::Field,
        )*)* }

        impl Options {
            /// The defaults.
            pub fn preset(basis: $crate::sys::options::row::Basis) -> Self {
                Self { $($( $name: options!(@preset $($preset)?).of(basis), )*)* }
            }
        }

        /// One of lightningd's options.
        pub type Spec = OptionSpec<Options>;

        /// Every option, in the order of `--help`.
        pub static OPTIONS: &[Spec] = &[$($({
            use $crate::sys::options::row::{Preset, Shape, check, dashed, put, text};
            use $crate::sys::options::takes::{Range, Takes};
            const NAME: &[u8] = &dashed::<{ stringify!($name).len() }>(stringify!($name));
            const RANGES: &[Range] = &[$( ($least, $most) )?];
            let spec = OptionSpec {
                name: text(NAME),
                heading: $heading,
                doc: concat!($($doc),+),
                form: <<$shape as Shape>::Takes as Takes>::FORM,
                word: <<$shape as Shape>::Takes as Takes>::WORD,
                range: match RANGES {
                    [range, ..] => Some(*range),
                    [] => None,
                },
                multi: <$shape as Shape>::MULTI,
                developer: false,
                inert: false,
                dynamic: false,
                shows_last: false,
                secret: false,
                preset: || {
                    let preset: Preset<<$shape as Shape>::Field> = options!(@preset $($preset)?);
                    preset.words(<$shape as Shape>::shown)
                },
                check: check::<$shape>,
                put: |options: &mut Options, value, range, is_first| {
                    put::<$shape>(&mut options.$name, value, range, is_first)
                },
                shown: |options: &Options| <$shape as Shape>::shown(&options.$name),
            };
            $( let spec = OptionSpec { $tag: true, ..spec }; )*
            spec
        }),*),*];
    };
}
pub(super) use options;

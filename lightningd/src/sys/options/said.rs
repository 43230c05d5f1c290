//! An option as somebody said it.

/// One saying of an option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// What followed the `=`, if anything did.
    pub value: Option<String>,
    /// `cmdline`, or file and line.
    pub source: Source,
}

/// Where an option was given, as `listconfigs` says it.
pub type Source = String;

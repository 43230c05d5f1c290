//! An option as the command line or a file gave it.

/// One occurrence of an option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// What followed the `=`; `None` for a bare name.
    pub value: Option<String>,
    /// `cmdline`, or `FILE:LINE`, as `listconfigs` shows it.
    pub source: String,
    /// The value was the next word of the command line, for a name that is none of ours: a plugin's
    /// option takes it, unless that is a flag.
    pub is_next_word: bool,
}

/// Names, each with what was said of it, in order.
pub type Occurrences = Vec<(String, Said)>;

/// Where options of the command line come from.
pub const CMDLINE: &str = "cmdline";

impl Said {
    /// From the command line.
    pub fn on_cmdline(value: Option<String>) -> Self {
        Self { value, source: CMDLINE.to_owned(), is_next_word: false }
    }
}

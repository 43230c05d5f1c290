//! Texts for people: of whatever length they began with, they are short where they are kept, passed
//! on or written.

use std::borrow::Cow;

/// Bytes of a text within the suite: of a line of the log, and of an error.
pub const MAX_CUT_TEXT: usize = 2000;

/// The text, or its beginning with how long it was; [`MAX_CUT_TEXT`] bytes at most.
pub fn cut_text(text: &str) -> Cow<'_, str> {
    if text.len() <= MAX_CUT_TEXT {
        return Cow::Borrowed(text);
    }
    let end = format!("... ({} bytes in all)", text.len());
    let kept = text.floor_char_boundary(MAX_CUT_TEXT - end.len());
    Cow::Owned(text.get(..kept).unwrap_or_default().to_owned() + &end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn long_text_is_cut_between_characters_with_its_length() {
        assert_eq!(cut_text("short"), "short");
        let whole = "x".repeat(MAX_CUT_TEXT);
        assert_eq!(cut_text(&whole), whole);
        let long = "é".repeat(50_000);
        let cut = cut_text(&long);
        assert!(cut.ends_with("é... (100000 bytes in all)"), "{cut}");
    }

    proptest! {
        #[test]
        fn text_is_never_longer_than_its_bound(text in "\\PC{0,3000}") {
            prop_assert!(cut_text(&text).len() <= MAX_CUT_TEXT);
            let cut = cut_text(&text).into_owned();
            prop_assert_eq!(cut_text(&cut), cut.as_str());
        }
    }
}

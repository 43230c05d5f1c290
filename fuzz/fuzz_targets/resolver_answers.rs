//! What connectd hears from its resolver process.
#![no_main]

use connectd::resolver::Answer;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(answer) = Answer::decode(data) {
        assert_eq!(Answer::decode(&answer.encode()), Ok(answer));
    }
});

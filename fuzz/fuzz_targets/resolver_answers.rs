//! What connectd hears from its resolver process.

use connectd::resolver::Answer;

pub fn run(data: &[u8]) {
    if let Ok(answer) = Answer::decode(data) {
        assert_eq!(Answer::decode(&answer.encode()), Ok(answer));
    }
}

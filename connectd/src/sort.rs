//! Whose a message is. Decided by its number and its channel id alone; nothing else of it is read
//! here.

use primitives::ChannelId;

/// Where a message of a connected peer belongs.
#[derive(Debug, PartialEq, Eq)]
pub enum Belongs {
    /// To this process: `init`, `ping`, `pong`.
    Here,
    /// An error or warning about every channel, or none in particular.
    AllChannels,
    /// To the daemon of this channel.
    Channel(ChannelId),
    /// To nobody: gossip, and odd messages that nobody here knows. BOLT 1: ignored.
    Nobody,
    /// Even, and unknown here. BOLT 1: the connection must be closed.
    Unknown(u16),
    /// Shorter than its number demands. BOLT 1: the connection must be closed.
    TooShort,
    /// About all channels, where only an error or a warning may be.
    NoChannel,
}

/// Sorts a message.
pub fn sort(message: &[u8]) -> Belongs {
    let Some(number) = message.first_chunk::<2>() else { return Belongs::TooShort };
    let number = u16::from_be_bytes(*number);
    match number {
        16 | 18 | 19 => Belongs::Here,
        1 | 17 => match wire::channel_of(message) {
            Some(ChannelId::ALL) => Belongs::AllChannels,
            Some(id) => Belongs::Channel(id),
            None => Belongs::TooShort,
        },
        number if has_a_reader(number) => match wire::channel_of(message) {
            Some(ChannelId::ALL) => Belongs::NoChannel,
            Some(id) => Belongs::Channel(id),
            None => Belongs::TooShort,
        },
        // BOLT 7's, until somebody here keeps gossip.
        256..=265 => Belongs::Nobody,
        number if number % 2 == 1 => Belongs::Nobody,
        number => Belongs::Unknown(number),
    }
}

/// The numbers that openingd, channeld or closingd read. The others of BOLT 2 belong to features
/// that nobody here offers.
const fn has_a_reader(number: u16) -> bool {
    matches!(number, 2 | 32..=36 | 38 | 39 | 74 | 127 | 128 | 130..=136 | 259)
}

/// The number of `start_batch`: so many messages follow it without another between them.
const START_BATCH: u16 = 127;

/// How many messages a `start_batch` announces, if this is one.
pub fn batch_of(message: &[u8]) -> Option<u16> {
    let (number, body) = message.split_first_chunk::<2>()?;
    let size = body.get(32..34)?.first_chunk::<2>()?;
    (u16::from_be_bytes(*number) == START_BATCH).then_some(u16::from_be_bytes(*size))
}

/// Is this an `error` about every channel? Whoever says it hangs up next.
pub fn ends_everything(message: &[u8]) -> bool {
    message.first_chunk() == Some(&17u16.to_be_bytes()) && sort(message) == Belongs::AllChannels
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use wire::{ChannelMessage, ClosingMessage, Decoded, Error, Message, OpeningMessage, Warning};

    const ID: ChannelId = ChannelId([7; 32]);

    fn with_id(number: u16) -> Vec<u8> {
        let chain = if number == 32 { vec![1; 32] } else { vec![] };
        [&number.to_be_bytes()[..], &chain, &ID.0, &[9; 40]].concat()
    }
    /// Does some daemon's table have this number?
    fn in_a_table(number: u16) -> bool {
        let bytes = number.to_be_bytes();
        let unknown = |n: bool, m: bool, k: bool| -> bool { n && m && k };
        !unknown(
            matches!(
                OpeningMessage::decode(&bytes),
                Ok(Decoded::UnknownEven(_) | Decoded::UnknownOdd(_))
            ),
            matches!(
                ChannelMessage::decode(&bytes),
                Ok(Decoded::UnknownEven(_) | Decoded::UnknownOdd(_))
            ),
            matches!(
                ClosingMessage::decode(&bytes),
                Ok(Decoded::UnknownEven(_) | Decoded::UnknownOdd(_))
            ),
        )
    }

    #[test]
    fn channel_messages_go_to_their_daemon_and_others_do_not() {
        for number in 0..=u16::MAX {
            let belongs = sort(&with_id(number));
            let is_channels = belongs == Belongs::Channel(ID);
            assert_eq!(is_channels, in_a_table(number), "{number}: {belongs:?}");
        }
    }

    #[test]
    fn odd_is_ignored_and_even_is_not() {
        assert_eq!(sort(&32769u16.to_be_bytes()), Belongs::Nobody);
        assert_eq!(sort(&32768u16.to_be_bytes()), Belongs::Unknown(32768));
        assert_eq!(sort(&with_id(64)), Belongs::Unknown(64), "a second kind of opening");
        assert_eq!(sort(&with_id(513)), Belongs::Nobody);
        for gossip in [256, 257, 258, 261, 262, 263, 264, 265] {
            assert_eq!(sort(&with_id(gossip)), Belongs::Nobody);
        }
        assert_eq!(sort(&[0]), Belongs::TooShort);
        assert_eq!(sort(&[]), Belongs::TooShort);
        assert_eq!(sort(&[0, 128, 1]), Belongs::TooShort);
    }

    #[test]
    fn complaints_go_to_their_channel_or_to_all() {
        for id in [ID, ChannelId::ALL] {
            let expected = || if id == ID { Belongs::Channel(ID) } else { Belongs::AllChannels };
            assert_eq!(sort(&Error::new(id, "no").encode()), expected());
            assert_eq!(sort(&Warning::new(id, "no").encode()), expected());
            assert_eq!(ends_everything(&Error::new(id, "no").encode()), id == ChannelId::ALL);
            assert!(!ends_everything(&Warning::new(id, "no").encode()));
        }
    }

    #[test]
    fn id_of_all_channels_is_no_channels() {
        for number in [32u16, 34, 128, 136] {
            let zeroes = [&number.to_be_bytes()[..], &[0; 100]].concat();
            assert_eq!(sort(&zeroes), Belongs::NoChannel);
        }
    }

    #[test]
    fn batch_is_announced_by_its_number() {
        let start = wire::StartBatch { channel_id: ID, batch_size: 3, message_type: Some(132) };
        assert_eq!(batch_of(&start.encode()), Some(3));
        assert_eq!(batch_of(&with_id(132)), None);
        assert_eq!(batch_of(&[0, 127, 1]), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100_000))]
        #[test]
        fn any_bytes_are_sorted(bytes in prop::collection::vec(any::<u8>(), 0..80), low: bool) {
            let mut bytes = bytes;
            if low && let Some(first) = bytes.first_mut() {
                *first = 0;
            }
            let _ = (sort(&bytes), batch_of(&bytes), ends_everything(&bytes));
        }
    }
}

//! What is judged of a question before it has arrived: its number, the right it takes, and its
//! length. Nothing else of it is decoded, and nothing longer is held.

use crate::refusal::Bad;
use primitives::{ChannelNumber, NodeId};
use wire::Message;
use wire::hsm::{ClosingStored, HsmRequest, RevocationStored, Rights, lengths};

/// The client that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    /// lightningd itself.
    Master,
    /// A child, for one channel.
    Child(NodeId, ChannelNumber),
}

/// The bytes of a question's or an order's number.
const NUMBER: usize = 2;

/// May this client send a frame whose body has so many bytes and begins with `body`? `Err`: the
/// client is closed. Asked with each part of a frame that arrives, and once more before it is
/// decoded.
pub(crate) fn judge(who: Asker, rights: &Rights, length: usize, body: &[u8]) -> Result<(), Bad> {
    let Some(number) = body.first_chunk::<NUMBER>() else {
        let longest = longest_of(rights);
        return if length < NUMBER {
            Err(format!("{length} bytes are no question"))
        } else if length - NUMBER > longest {
            Err(format!("{length} bytes, of at most {} with these rights", NUMBER + longest))
        } else {
            Ok(())
        };
    };
    let number = u16::from_be_bytes(*number);
    if who == Asker::Master && is_order(number) {
        return fits("an order", length - NUMBER, lengths::CHANNEL + 8);
    }
    let row = HsmRequest::row(number).ok_or_else(|| format!("{number} is no question"))?;
    if !rights.allow(row.needs) {
        return Err(format!("{} takes the right {:?}", row.name, row.needs));
    }
    fits(row.name, length - NUMBER, row.longest)
}

fn fits(name: &str, length: usize, longest: usize) -> Result<(), Bad> {
    if length > longest {
        Err(format!("{name} of {length} bytes, of at most {longest}"))
    } else {
        Ok(())
    }
}

/// Is this number one of the master's orders, which come between its questions?
pub(crate) fn is_order(number: u16) -> bool {
    [RevocationStored::NUMBER, ClosingStored::NUMBER].contains(&number)
}

/// The most bytes after the number that any question with these rights has.
fn longest_of(rights: &Rights) -> usize {
    let allowed = HsmRequest::ROWS.iter().filter(|row| rights.allow(row.needs));
    allowed.map(|row| row.longest).max().unwrap_or(0)
}

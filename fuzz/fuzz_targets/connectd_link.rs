//! A connection as connectd sees it: bytes of a stranger in pieces of any size, or a peer that can
//! speak the cipher and says what it likes; and the judge of its `init`.

use connectd::init;
use crate::noise_keys::{id, key, mixed};
use connectd::link::{Link, LinkStep};
use primitives::{Features, Network, feature};
use wire::{Decoded, SetupMessage};

/// Reads as much as there is room for, at most `most`.
fn read(link: &mut Link, from: &mut &[u8], most: usize) -> usize {
    let room = link.room();
    let n = room.len().min(from.len()).min(most.max(1));
    room[..n].copy_from_slice(&from[..n]);
    *from = &from[n..];
    link.filled(n);
    n
}

/// Steps until there is nothing more to do; false when the link is broken.
fn steps(link: &mut Link, node: u8) -> bool {
    loop {
        let question = match link.step() {
            Ok(LinkStep::Wait) => return true,
            Ok(LinkStep::Mix(question)) => question,
            Ok(LinkStep::Authenticated(_)) => continue,
            Ok(LinkStep::Message(message)) => {
                judge(message);
                continue;
            }
            Err(_) => return false,
        };
        if link.mixed(mixed(node, &question)).is_err() {
            return false;
        }
    }
}

fn judge(message: &[u8]) {
    let ours = Features::compulsory(&[feature::STATIC_REMOTEKEY]);
    let _ = connectd::sort::sort(message);
    let _ = connectd::sort::batch_of(message);
    if let Ok(Decoded::Known(SetupMessage::Init(init))) = SetupMessage::decode(message) {
        let _ = init::judge(&init, &ours, Network::Regtest);
    }
}

fn feed(link: &mut Link, node: u8, mut bytes: &[u8], most: usize) -> bool {
    while !bytes.is_empty() {
        let n = read(link, &mut bytes, most);
        if !steps(link, node) {
            return false;
        }
        if n == 0 {
            return true;
        }
    }
    true
}

fn written(link: &mut Link) -> Vec<u8> {
    let mut bytes = Vec::new();
    while link.out_len() > 0 {
        let front = link.out().waiting().to_vec();
        link.out().sent(front.len());
        bytes.extend(front);
    }
    bytes
}

pub fn run(data: &[u8]) {
    let Some(([mode, most], mut data)) = data.split_first_chunk::<2>() else { return };
    let most = usize::from(*most) * 7 + 1;
    let mut link = Link::listener(id(1), key(2));
    if mode % 2 == 0 {
        feed(&mut link, 1, data, most);
        return;
    }
    let mut peer = Link::dialler(id(3), id(1), key(4));
    for _ in 0..2 {
        let said = written(&mut peer);
        assert!(feed(&mut link, 1, &said, most));
        let said = written(&mut link);
        assert!(feed(&mut peer, 3, &said, most));
    }
    let said = written(&mut peer);
    assert!(feed(&mut link, 1, &said, most));
    assert!(link.is_open() && peer.is_open());
    // Messages, each with its length before it.
    while let Some((len, rest)) = data.split_first() {
        let (message, rest) = rest.split_at(usize::from(*len).min(rest.len()));
        data = rest;
        peer.say(message).expect("a byte's worth is not too long");
        judge(message);
    }
    let said = written(&mut peer);
    assert!(feed(&mut link, 1, &said, most));
}

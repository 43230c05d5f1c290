//! BOLT 8's acts from a stranger, in either role; and the cipher, with one side honest and the
//! bytes between them bent.

use crate::noise_keys::{id, key, mixed};
use noise::{HEADER_LEN, Initiator, Responder};
use wire::hsm::MixEcdh;

/// The act with some bytes of it changed.
fn bent(act: &[u8], bends: &mut &[u8]) -> Vec<u8> {
    let mut act = act.to_vec();
    if let Some(([at, mask], rest)) = bends.split_first_chunk() {
        *bends = rest;
        let at = usize::from(*at) % act.len();
        act[at] ^= mask;
    }
    act
}

pub fn run(data: &[u8]) {
    let Some((mode, mut data)) = data.split_first() else { return };
    match mode % 3 {
        0 => {
            if let Ok(asks) = Responder::new(id(1), key(2)).act_one(data) {
                let question = MixEcdh { point: id(3), ..asks.question() };
                let _ = asks.answer(mixed(1, &question));
            }
        }
        1 => drop(Initiator::start(id(1), id(3), key(2)).0.act_two(data)),
        _ => {
            // Two honest sides, and somebody between them.
            let (initiator, act) = Initiator::start(id(1), id(3), key(2));
            let Ok(asks) = Responder::new(id(3), key(4)).act_one(&bent(&act, &mut data)) else {
                return;
            };
            let answer = mixed(3, &asks.question());
            let Ok((waits, act)) = asks.answer(answer) else { return };
            let Ok(asks) = initiator.act_two(&bent(&act, &mut data)) else { return };
            let answer = mixed(1, &asks.question());
            let (act, mut ours) = asks.answer(answer);
            let Ok((who, mut theirs)) = waits.act_three(&bent(&act, &mut data)) else { return };
            assert_eq!(who, id(1), "whoever passes act three is who it says");
            let mut sealed = Vec::new();
            if ours.sealer.seal(data, &mut sealed).is_err() {
                return;
            }
            let Some((header, body)) = sealed.split_first_chunk::<HEADER_LEN>() else { return };
            let len = theirs.opener.open_header(header).expect("nobody touched it");
            assert_eq!(usize::from(len), data.len());
            let mut body = body.to_vec();
            assert_eq!(theirs.opener.open_body(&mut body).expect("nobody touched it"), data);
        }
    }
}

//! Keys of both sides of a channel, for targets that need no hsmd.

use crate::noise_keys::id;
use channel::keys::commitment_secret;
use primitives::*;
use secp256k1::SECP256K1;
use wire::channel_data::Basepoints;

pub fn secret(side: Side, number: u64) -> SecretKey {
    let seed = Secret::new([if side == Side::Local { 1 } else { 2 }; 32]);
    commitment_secret(&seed, CommitmentNumber(number)).expect("a hash is a key")
}
pub fn point(side: Side, number: u64) -> Point {
    secret(side, number).public_key(SECP256K1)
}
pub fn basepoints() -> Sides<Basepoints> {
    Sides::from_fn(|side| {
        let start = if side == Side::Local { 10 } else { 20 };
        Basepoints {
            funding: id(start),
            revocation: id(start + 1),
            payment: id(start + 2),
            delayed_payment: id(start + 3),
            htlc: id(start + 4),
        }
    })
}

//! Chance that can be had again, and channels with a past that it made.

use super::*;

/// A generator that anybody can run again from its seed.
pub struct Dice(u64);
impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678_9abc_def1)
    }
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

/// How many preimages there are: few, so that HTLCs share them.
pub const HASHES: u64 = 4;

pub fn number_of(hash: PaymentHash) -> u64 {
    (0..HASHES).find(|n| preimage(*n).hash() == hash).unwrap()
}

/// A history of a channel: HTLCs alike and not, dust, fees, half a commitment dance at its end.
pub fn lived(world: &mut World, dice: &mut Dice, steps: u64) {
    for _ in 0..steps {
        let by = dice.pick(&Side::BOTH);
        match dice.below(12) {
            0..=3 => {
                let amount = dice.pick(&[30_000_000, 30_000_400, 2_000_000, 600_000, 100_000]);
                let expiry = dice.pick(&[105, 108, 112, 120]);
                let _ = world.add(by, Msat(amount), dice.below(HASHES), expiry);
            }
            4..=5 => {
                let of = world.ours.htlcs().filter(|l| l.htlc.offered_by == by);
                let live: Vec<_> =
                    of.map(|l| (l.htlc.id, number_of(l.htlc.payment_hash))).collect();
                if !live.is_empty() {
                    let (id, n) = dice.pick(&live);
                    let fulfilled = dice.one_in(2).then_some(n);
                    let _ = world.remove(by, id, fulfilled);
                }
            }
            6 => {
                let _ = world.fee(FeeratePerKw(dice.pick(&[500, 1000, 4000])));
            }
            7..=8 => {
                let _ = world.sign(by);
            }
            9 => {
                let _ = world.revoke(by);
            }
            _ => {
                let _ = world.revoke(by) || world.sign(by);
            }
        }
    }
}

//! HTLCs and feerates between two channelds.

use super::link::numbers;
use super::rig::*;
use primitives::*;
use wire::channel_data::*;

#[test]
fn payments_go_both_ways() {
    let pair = Pair::normal(&Wish::default());
    pair.pay(Side::Local, 1, Msat(50_000_000));
    pair.pay(Side::Remote, 2, Msat(20_000_000));
    for side in Side::BOTH {
        pair.master(side).until("its payment is fulfilled", |rows| rows.settled.len() == 2);
        assert_eq!(pair.master(side).rows().learned.len(), 1);
    }
    pair.until_quiet();
    let balance = pair.master(Side::Local).rows().state.balance;
    assert_eq!(balance, Sides { local: Msat(570_000_000), remote: Msat(430_000_000) });
}

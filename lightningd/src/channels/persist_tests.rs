//! A channeld that was captured: what it has stored may ruin its channel, and nothing else.

use crate::channels::testing::{adds, htlc};
use crate::testing::{Rig, Said};
use primitives::*;
use wire::Long;
use wire::channel_data::*;
use wire::channeld::Persist;

fn received(id: u64, amount: u64, expiry: u32) -> LiveHtlc {
    let hash = PaymentHash([1; 32]);
    htlc(Side::Remote, (id, 0), (amount, expiry), hash, Stage::InReceivers)
}

/// An honest step, and what this makes of it.
fn lie(rig: &Rig, what: impl FnOnce(&mut ChannelChange)) -> Persist {
    let mut change = adds(&rig.channel(1).live, received(0, 1000, 200));
    what(&mut change);
    Persist { changes: vec![change], peeled: Long(vec![]) }
}

type Lie = fn(&mut ChannelChange);

#[test]
fn a_daemon_that_lies_about_its_channel_is_killed_and_the_node_lives() {
    let lies: [Lie; 13] = [
        |c| c.added.0[0].htlc.amount = Msat(u64::MAX),
        |c| c.added.0[0].htlc.amount = Msat(1_000_000_001),
        |c| c.added.0[0].htlc.expiry = BlockHeight(u32::MAX),
        |c| c.added.0[0].htlc.id = HtlcId(u64::MAX),
        |c| c.added.0[0].in_remote_until = Some(CommitmentNumber(u64::MAX)),
        // The key of somebody else's HTLC: only ours have one.
        |c| c.added.0[0].key = 7,
        |c| c.next_htlc_id.remote = HtlcId(0),
        |c| c.next_htlc_id.local = HtlcId(u64::MAX),
        |c| c.balance.local = Msat(u64::MAX),
        |c| c.balance = Sides { local: Msat(600_000_000), remote: Msat(500_000_000) },
        |c| c.commitment.remote = CommitmentNumber(1 << 63),
        |c| c.revoked.local = CommitmentNumber(1 << 48),
        |c| {
            let secret = Secret::new([1; 32]);
            c.remote_secrets.0.push(StoredSecret { index: u64::MAX, secret });
        },
    ];
    for (n, what) in lies.into_iter().enumerate() {
        let mut rig = Rig::new(&format!("lies-{n}"), &[(1, 1)]);
        let said = rig.persist(1, &lie(&rig, what));
        assert_eq!(said, [Said::Kill(1)], "lie {n}");
        assert!(rig.channel(1).live.htlcs.0.is_empty(), "lie {n}");
        assert_eq!(rig.persist(1, &lie(&rig, |_| ())), []);
    }
}

#[test]
fn a_daemon_cannot_have_more_htlcs_stored_than_a_channel_has() {
    let mut rig = Rig::new("flood", &[(1, 1)]);
    for n in 0..4 {
        let mut change = adds(&rig.channel(1).live, received(n * 483 + 482, 1000, 200));
        change.added.0 = (0..483).map(|i| received(n * 483 + i, 1000, 200)).collect();
        let ask = Persist { changes: vec![change], peeled: Long(vec![]) };
        assert_eq!(rig.persist(1, &ask), []);
    }
    let change = adds(&rig.channel(1).live, received(4 * 483, 1000, 200));
    let ask = Persist { changes: vec![change], peeled: Long(vec![]) };
    assert_eq!(rig.persist(1, &ask), [Said::Kill(1)]);
}

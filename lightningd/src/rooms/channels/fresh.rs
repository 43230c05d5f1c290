//! A channel whose first commitments were signed just now.

use crate::rooms::channels::state::{Cause, State, StateTrust};
use crate::rooms::channels::terms::OwnPolicy;
use crate::rooms::channels::{Channel, Owner, Totals};
use primitives::*;
use std::collections::BTreeMap;
use wire::channel_data::ChannelState;

impl Channel {
    /// Nothing is known of it but what its first commitments say: no block, no close, no daemon.
    pub fn fresh(
        (number, peer, id): (ChannelNumber, NodeId, ChannelId),
        live: ChannelState,
        alias_local: ShortChannelId,
        first_height: BlockHeight,
    ) -> Self {
        let local = live.balance.local;
        Self {
            number,
            peer,
            id,
            state: State::AwaitingLockin,
            live,
            announce: false,
            minimum_depth: 0,
            initial_feerate: FeeratePerKw(0),
            alias_local,
            alias_remote: None,
            scid: None,
            ready: Sides { local: false, remote: false },
            shutdown: Sides::default(),
            shutdown_at: None,
            closing_begun: false,
            upfront: Sides::default(),
            announcement_remote: None,
            funding_tx: None,
            funding_height: None,
            was_in_block: false,
            first_height,
            closer: None,
            close_by: None,
            close_asked: false,
            close_feerange: None,
            close_tx: None,
            spend: None,
            cause: Cause::Unknown,
            reason: String::new(),
            trust: StateTrust::Verified,
            withheld: false,
            to_us_range: (local, local),
            totals: Totals::default(),
            peeled: BTreeMap::new(),
            decided: BTreeMap::new(),
            own_policy: OwnPolicy::default(),
            owner: Owner::Nobody,
            served_connection: None,
            spoken_on: None,
            put_off_on: None,
            reestablished: false,
            status: (String::new(), None),
            changes: vec![],
            last_stable: None,
        }
    }
}

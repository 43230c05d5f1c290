//! What openingd says a channel is, held against what was agreed and what hsmd knows. openingd
//! reads what a stranger wrote: if it was captured, this is where it fails.

use super::{Attempt, Opening, Told};
use crate::kernel::turn::Turn;
use crate::rooms::channels::Scope;
use crate::rooms::channels::{Channel, watch};
use crate::sys::fatal::Fatal;
use ::channel::RESERVE_PART;
use primitives::*;
use wire::channel_data::{ChannelParams, FeeChange, LastSent, Stage, Terms};
use wire::openingd::OpeningPolicy;

/// Is the channel what was agreed, and does hsmd know it as ours to close? `Err` says why not.
pub(super) fn check(
    node: &Scope,
    turn: &mut Turn<'_>,
    opening: &Opening,
    channel: &Channel,
) -> Result<Result<(), String>, Fatal> {
    let state = begins(channel)
        .and_then(|()| pays(opening, channel))
        .and_then(|()| keeps_to(&opening.told, channel))
        .and_then(|()| closes_to_us(node, opening.close_to.as_ref(), channel))
        .and_then(|()| channel::Channel::new(channel.live.clone()).map_err(|e| e.to_string()));
    let state = match state {
        Ok(state) => state,
        Err(why) => return Ok(Err(why)),
    };
    let seed = crate::rooms::channels::seed::hsm_seed(channel);
    let signatures = channel.live.local_signatures.clone();
    let first = |point| state.local_commitment(point);
    turn.hsm.judge_opening(opening.peer, opening.number, seed, first, signatures)
}

/// At its beginning nothing has happened yet.
fn begins(channel: &Channel) -> Result<(), String> {
    let live = &channel.live;
    if channel.id != ChannelId::from_funding(&live.params.funding) {
        return Err(format!("its id is not that of its output: {}", channel.id));
    }
    let numbers = [live.commitment, live.revoked].iter().all(|n| *n == Sides::default());
    let none = live.next_htlc_id == Sides::default() && live.remote_secrets.0.is_empty();
    if !numbers || !none || !live.htlcs.0.is_empty() || live.last_sent != LastSent::Neither {
        return Err("it is no beginning".to_owned());
    }
    Ok(())
}

/// Our terms are those that openingd was given, and the peer's are within what we accept.
fn terms_are_within(policy: &OpeningPolicy, params: &ChannelParams) -> Result<(), String> {
    let (ours, theirs) = (&params.terms.local, &params.terms.remote);
    let wanted = Terms { reserve: ours.reserve, ..policy.terms.clone() };
    if *ours != wanted {
        return Err(format!("our terms are {ours:?}, openingd was given {wanted:?}"));
    }
    let most = [policy.terms.reserve, Sat(params.amount.0 / RESERVE_PART), theirs.dust_limit];
    let most = most.into_iter().max().unwrap_or_default().max(policy.terms.dust_limit);
    if ours.reserve < policy.terms.reserve || ours.reserve > most {
        return Err(format!(
            "channel_reserve_satoshis for the peer is {}, allowed {} to {most}",
            ours.reserve, policy.terms.reserve
        ));
    }
    if theirs.to_self_delay > policy.max_to_self_delay {
        let (delay, most) = (theirs.to_self_delay, policy.max_to_self_delay);
        return Err(format!("to_self_delay {delay} for our output exceeds {most} blocks"));
    }
    if theirs.dust_limit > policy.max_dust_limit {
        let (dust, most) = (theirs.dust_limit, policy.max_dust_limit);
        return Err(format!("the peer's dust_limit_satoshis {dust} exceeds {most}"));
    }
    let htlcs = usize::from(theirs.max_accepted_htlcs);
    if htlcs == 0 || htlcs > ::channel::MAX_HTLCS {
        return Err(format!("the peer's max_accepted_htlcs is {htlcs}"));
    }
    Ok(())
}

/// `Err` if openingd's result differs from the terms that it was given or exceeds the policy. With
/// another `to_self_delay` in our terms we could not punish a revoked commitment.
fn keeps_to(told: &Told, channel: &Channel) -> Result<(), String> {
    let (params, policy) = (&channel.live.params, &told.policy);
    terms_are_within(policy, params)?;
    let feerate = channel.initial_feerate;
    let only = FeeChange { feerate, stage: Stage::Irrevocable };
    if channel.live.fees.0 != [only] {
        return Err(format!(
            "its commitments do not pay {feerate} alone: {:?}",
            channel.live.fees.0
        ));
    }
    let constants = channel::Constants::new(params.clone())
        .map_err(|why| format!("invalid channel parameters: {why}"))?;
    if channel.live.balance != constants.first_balance() {
        let (has, wanted) = (channel.live.balance, constants.first_balance());
        return Err(format!("initial balances {has:?}, expected {wanted:?}"));
    }
    match &told.proposed {
        Some(proposed) => {
            let said = (proposed.feerate, proposed.announce, &proposed.channel_type);
            let agreed = (feerate, channel.announce, &params.channel_type);
            if said != agreed {
                return Err(format!(
                    "feerate, announce and channel_type are {agreed:?}; we proposed {said:?}"
                ));
            }
        }
        None => {
            let anchors = params.channel_type.offers(feature::ANCHORS);
            let min = if anchors { policy.min_anchors_feerate } else { policy.min_feerate };
            if feerate < min || feerate > policy.max_feerate {
                let max = policy.max_feerate;
                return Err(format!("feerate {feerate} is not within {min} and {max}"));
            }
            // The peer's part of this is openingd's to judge: BOLT 9 has bits that everybody is
            // assumed to have.
            let ours = |bit| feature::is_assumed(bit) || told.features.local.offers(bit);
            if !params.channel_type.bits().all(ours) {
                let kind = &params.channel_type;
                return Err(format!(
                    "channel_type {kind:?} has a feature bit that we do not offer"
                ));
            }
        }
    }
    Ok(())
}

/// Does the funding that was agreed pay what this channel is?
fn pays(opening: &Opening, channel: &Channel) -> Result<(), String> {
    let params = &channel.live.params;
    let opener = match &opening.attempt {
        Attempt::Theirs => Side::Remote,
        Attempt::Funding { .. }
        | Attempt::FundingSigned { .. }
        | Attempt::Start { .. }
        | Attempt::StartAccepted { .. }
        | Attempt::Completing { .. } => Side::Local,
    };
    if params.opener != opener {
        return Err("the opener is the other side".to_owned());
    }
    if opener == Side::Local && (params.amount, params.push) != (opening.amount, opening.push) {
        return Err(format!(
            "it has {} and gives {} away, where {} and {} were agreed",
            params.amount, params.push, opening.amount, opening.push
        ));
    }
    match &opening.attempt {
        Attempt::Theirs => waits_long_enough(opening.minimum_depth, channel),
        Attempt::FundingSigned { funded, .. } => {
            watch::funds(params, &funded.tx)?;
            if funded.tx.compute_txid() != params.funding.txid {
                return Err("its funding is another transaction than ours".to_owned());
            }
            Ok(())
        }
        Attempt::Completing { funding, funding_script, .. } => {
            let points = &params.basepoints;
            let script =
                channel::keys::funding_script(&points.local.funding, &points.remote.funding);
            if *funding != params.funding || *funding_script != script.to_p2wsh() {
                return Err("its funding is another output than was completed".to_owned());
            }
            Ok(())
        }
        Attempt::Funding { .. } | Attempt::Start { .. } | Attempt::StartAccepted { .. } => {
            Err("the funding was not known yet".to_owned())
        }
    }
}

/// The peer can spend the coins of its funding on something else until that is as deep as we said.
fn waits_long_enough(said: u32, channel: &Channel) -> Result<(), String> {
    let depth = channel.minimum_depth;
    if depth < said {
        return Err(format!(
            "its funding would be believed {depth} blocks deep, where {said} are wanted"
        ));
    }
    Ok(())
}

/// The script that every closing will pay us at.
fn closes_to_us(
    node: &Scope,
    close_to: Option<&ScriptBuf>,
    channel: &Channel,
) -> Result<(), String> {
    match &channel.upfront.local {
        Some(script) if close_to != Some(script) && node.wallet.index_of(script).is_none() => {
            Err("it would be closed to a script that is not ours".to_owned())
        }
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Proposed;
    use super::*;
    use crate::rooms::wallet::AddressKind;
    use crate::testing::Rig;
    use proptest::prelude::*;
    use std::sync::OnceLock;
    use wire::openingd::OpeningPolicy;

    #[test]
    fn what_no_channel_begins_with_is_no_beginning() {
        let rig = Rig::new("begins", &[(1, 1)]);
        let mut channel = rig.channel(1).clone();
        assert_eq!(begins(&channel), Ok(()));
        channel.live.next_htlc_id.local = HtlcId(u64::MAX);
        assert!(begins(&channel).is_err());
    }

    /// What an openingd was given that brings this channel.
    fn told(channel: &Channel) -> Told {
        let params = &channel.live.params;
        Told {
            policy: OpeningPolicy {
                terms: params.terms.local.clone(),
                minimum_depth: 3,
                min_feerate: FeeratePerKw(253),
                min_anchors_feerate: FeeratePerKw(253),
                max_feerate: FeeratePerKw(10_000),
                max_to_self_delay: 2016,
                min_capacity: Sat(10_000),
                max_dust_exposure: Msat(50_000_000),
                max_dust_limit: Sat(1062),
                large_channels: true,
            },
            features: Sides {
                local: params.channel_type.clone(),
                remote: params.channel_type.clone(),
            },
            proposed: None,
        }
    }

    /// An openingd that was captured says of the channel whatever suits the peer.
    #[test]
    fn opening_that_differs_from_what_openingd_was_told_is_refused() {
        let rig = Rig::new("told", &[(1, 1)]);
        let mut honest = rig.channel(1).clone();
        honest.live.params.opener = Side::Remote;
        honest.live.balance = Sides { local: Msat(0), remote: Msat(1_000_000_000) };
        let told = told(&honest);
        assert_eq!(keeps_to(&told, &honest), Ok(()));
        let lies: [fn(&mut Channel); 16] = [
            |c| c.live.params.terms.local.to_self_delay = 0,
            |c| c.live.params.terms.local.dust_limit = Sat(100_000),
            |c| c.live.params.terms.local.max_in_flight = Msat(1),
            |c| c.live.params.terms.local.max_accepted_htlcs = 1,
            |c| c.live.params.terms.local.htlc_minimum = Msat(1_000_000),
            |c| c.live.params.terms.local.reserve = Sat(0),
            |c| c.live.params.terms.local.reserve = Sat(900_000),
            |c| c.live.params.terms.remote.to_self_delay = 2017,
            |c| c.live.params.terms.remote.dust_limit = Sat(1063),
            |c| c.live.params.terms.remote.max_accepted_htlcs = 484,
            |c| c.live.params.terms.remote.max_accepted_htlcs = 0,
            |c| c.initial_feerate = FeeratePerKw(10_001),
            |c| c.live.fees.0[0].feerate = FeeratePerKw(9_000),
            |c| c.live.fees.0.push(c.live.fees.0[0].clone()),
            |c| c.live.balance.remote = Msat(999_999_999),
            |c| c.live.params.channel_type = Features::compulsory(&[feature::ANCHORS]),
        ];
        for (n, lie) in lies.into_iter().enumerate() {
            let mut channel = honest.clone();
            lie(&mut channel);
            assert!(keeps_to(&told, &channel).is_err(), "lie {n}");
        }
        // What we proposed ourselves stands as it was.
        let proposed = Proposed {
            feerate: FeeratePerKw(1000),
            announce: false,
            channel_type: honest.live.params.channel_type.clone(),
        };
        let ours = Told { proposed: Some(proposed), ..told };
        assert_eq!(keeps_to(&ours, &honest), Ok(()));
        let lies: [fn(&mut Channel); 2] = [
            |c| c.announce = true,
            |c| {
                c.initial_feerate = FeeratePerKw(1001);
                c.live.fees.0[0].feerate = FeeratePerKw(1001);
            },
        ];
        for (n, lie) in lies.into_iter().enumerate() {
            let mut channel = honest.clone();
            lie(&mut channel);
            assert!(keeps_to(&ours, &channel).is_err(), "lie {n} about what we proposed");
        }
    }

    /// One word of a captured openingd about the channel.
    fn changed(c: &mut Channel, what: u8, n: u64) {
        let (params, short) = (&mut c.live.params, n as u16);
        match what {
            0 => params.terms.local.to_self_delay = short,
            1 => params.terms.local.dust_limit = Sat(n),
            2 => params.terms.local.max_in_flight = Msat(n),
            3 => params.terms.local.max_accepted_htlcs = short,
            4 => params.terms.local.htlc_minimum = Msat(n),
            5 => params.terms.local.reserve = Sat(n),
            6 => params.terms.remote.to_self_delay = short,
            7 => params.terms.remote.dust_limit = Sat(n),
            8 => params.terms.remote.max_accepted_htlcs = short,
            9 => {
                c.initial_feerate = FeeratePerKw(n as u32);
                c.live.fees.0[0].feerate = c.initial_feerate;
            }
            10 => c.live.fees.0[0].feerate = FeeratePerKw(n as u32),
            11 => c.live.balance = Sides { local: Msat(n), remote: Msat(1_000_000_000 - n) },
            12 => params.push = Msat(n),
            13 => c.announce = !c.announce,
            _ => params.channel_type = Features::none().with(usize::from(short % 64)),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

        /// Whatever a captured openingd says: our terms are the policy's, the peer's within it, and
        /// the balances those of the opening.
        #[test]
        fn captured_openingd_agrees_to_nothing_beyond_its_policy(
            opener_is_us in any::<bool>(),
            lies in prop::collection::vec((0u8..15, 0u64..3000), 0..4),
        ) {
            let mut channel = opening_of(opener_is_us);
            let mut told = told(&channel);
            told.proposed = opener_is_us.then(|| Proposed {
                feerate: channel.initial_feerate,
                announce: channel.announce,
                channel_type: channel.live.params.channel_type.clone(),
            });
            let honest = channel.clone();
            lies.iter().for_each(|(what, n)| changed(&mut channel, *what, *n));
            if keeps_to(&told, &channel).is_err() {
                prop_assert!(!lies.is_empty());
                return Ok(());
            }
            let (now, before) = (&channel.live.params.terms, &honest.live.params.terms);
            let reserve = now.local.reserve;
            prop_assert_eq!(&now.local, &Terms { reserve, ..before.local.clone() });
            // A hundredth of the channel, which is the policy's too.
            prop_assert_eq!(reserve, Sat(10_000));
            prop_assert!(now.remote.to_self_delay <= 2016 && now.remote.dust_limit.0 <= 1062);
            prop_assert!((1..=483).contains(&now.remote.max_accepted_htlcs));
            let rate = channel.initial_feerate;
            prop_assert_eq!(&channel.live.fees.0, &[FeeChange { feerate: rate, stage: Stage::Irrevocable }]);
            let given = channel.live.params.push;
            let opener = channel.live.params.opener;
            prop_assert_eq!(channel.live.balance[!opener], given);
            prop_assert_eq!(channel.live.balance[opener].0, 1_000_000_000 - given.0);
            prop_assert!((253..=10_000).contains(&rate.0));
            if opener_is_us {
                let (of, was) = (&channel.live.params.channel_type, &honest.live.params.channel_type);
                prop_assert_eq!((rate, channel.announce, of), (honest.initial_feerate, honest.announce, was));
            }
        }
    }

    /// A channel of 1,000,000 sat that nobody lied about.
    fn opening_of(opener_is_us: bool) -> Channel {
        static HONEST: OnceLock<Channel> = OnceLock::new();
        let honest = || Rig::new("evil-openingd", &[(1, 1)]).channel(1).clone();
        let mut channel = HONEST.get_or_init(honest).clone();
        channel.live.params.opener = if opener_is_us { Side::Local } else { Side::Remote };
        let all = Msat(1_000_000_000);
        channel.live.balance = Sides::default();
        channel.live.balance[channel.live.params.opener] = all;
        channel
    }

    #[test]
    fn remote_funding_is_unbelieved_before_its_minimum_depth() {
        let rig = Rig::new("depth", &[(1, 1)]);
        let says = |depth: u32| {
            let mut channel = rig.channel(1).clone();
            channel.live.params.opener = Side::Remote;
            channel.minimum_depth = depth;
            let params = &channel.live.params;
            let opening = Opening {
                number: channel.number,
                peer: channel.peer,
                temporary: channel.id,
                child: 1,
                amount: params.amount,
                push: params.push,
                attempt: Attempt::Theirs,
                close_to: None,
                minimum_depth: 3,
                told: told(&channel),
            };
            pays(&opening, &channel)
        };
        for (depth, holds) in [(0, false), (2, false), (3, true), (6, true)] {
            assert_eq!(says(depth).is_ok(), holds, "{depth}");
        }
    }

    #[test]
    fn a_channel_is_closed_to_us_or_to_whom_its_opener_named() {
        let rig = Rig::new("upfront", &[(1, 1)]);
        let (stranger, named) = (ScriptBuf::from(vec![0x51]), ScriptBuf::from(vec![0x52]));
        let ours = rig.node.wallet.script(3, AddressKind::Taproot);
        let says = |script: Option<&ScriptBuf>, close_to: Option<&ScriptBuf>| {
            let mut channel = rig.channel(1).clone();
            channel.upfront.local = script.cloned();
            closes_to_us(&rig.node, close_to, &channel)
        };
        assert_eq!(says(None, None), Ok(()));
        assert_eq!(says(Some(&ours), None), Ok(()));
        assert_eq!(says(Some(&named), Some(&named)), Ok(()));
        assert!(says(Some(&stranger), None).is_err());
        assert!(says(Some(&stranger), Some(&named)).is_err());
    }
}

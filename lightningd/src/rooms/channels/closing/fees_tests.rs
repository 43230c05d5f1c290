use super::*;
use crate::rooms::chain::estimates::Estimates;
use crate::rooms::channels::store;
use crate::sys::args::{ArgKind, Param, may};
use crate::testing::Rig;
use serde_json::json;

const PARAMS: &[Param] = &[
    may("fee_negotiation_step", ArgKind::Any),
    may("wrong_funding", ArgKind::Any),
    may("force_lease_closed", ArgKind::Any),
    may("feerange", ArgKind::Any),
];

fn args(given: &Value) -> Args {
    Args::parse(PARAMS, given).unwrap()
}

const RANGE: FeerateRange = FeerateRange { min: FeeratePerKw(5000), max: FeeratePerKw(6000) };

fn scripts() -> Sides<ScriptBuf> {
    Sides { local: ScriptBuf::from(vec![0; 34]), remote: ScriptBuf::from(vec![0; 22]) }
}

#[test]
fn a_feerange_is_two_feerates_in_order() {
    let rig = Rig::new("feerange-forms", &[(1, 1)]);
    let read = |range: Value| asked(&rig.node, &args(&json!({ "feerange": range })));
    assert_eq!(read(Value::Null).unwrap(), None);
    for form in [json!(["5000perkw", "6000perkw"]), json!([20000, "24000perkb"])] {
        assert_eq!(read(form).unwrap(), Some(RANGE));
    }
    assert_eq!(read(json!("[\"5000perkw\", 24000]")).unwrap(), Some(RANGE));
    for (bad, says) in [
        (json!(["5000perkw"]), "two feerates"),
        (json!(7), "two feerates"),
        (json!("slow"), "two feerates"),
        (json!([true, 1]), "two feerates"),
        (json!(["fast", 1]), "'fast' is no feerate"),
        (json!(["6000perkw", "5000perkw"]), "6000perkw, is above the highest, 5000perkw"),
        (json!(["slow", "urgent"]), "no estimates for 'slow'"),
    ] {
        let error = read(bad.clone()).unwrap_err();
        assert!(error.message.contains(says), "{bad}: {}", error.message);
    }
}

#[test]
fn close_refuses_impossible_options_and_accepts_defaults() {
    for fits in [
        json!({}),
        json!({"fee_negotiation_step": "50%", "wrong_funding": null, "force_lease_closed": false}),
        json!({"force_lease_closed": "true"}),
    ] {
        refuse_unfit(&args(&fits)).unwrap();
    }
    for (unfit, says) in [
        (json!({"fee_negotiation_step": 10}), "only its default \"50%\""),
        (json!({"wrong_funding": format!("{}:0", "00".repeat(32))}), "shutdown_wrong_funding"),
        (json!({"force_lease_closed": 7}), "should be 'true' or 'false'"),
    ] {
        let error = refuse_unfit(&args(&unfit)).unwrap_err();
        assert!(error.message.contains(says), "{unfit}: {}", error.message);
    }
}

#[test]
fn the_feerange_of_a_close_bounds_its_fee_and_outlives_the_node() {
    let mut rig = Rig::new("feerange-bounds", &[(1, 1)]);
    let weight = channel::closing::weight(&scripts());
    let bounds = |rig: &Rig| of(&rig.node, rig.channel(1), &scripts());
    // Without estimates: from the lowest that is relayed, to what the last commitment would cost.
    let floor = FeeratePerKw::FLOOR.fee(weight);
    assert_eq!(bounds(&rig), (floor, floor, LEAST_MAX_FEE));
    store::set_close_feerange(&rig.db, ChannelNumber(1), RANGE).unwrap();
    rig.crash();
    assert_eq!(rig.channel(1).close_feerange, Some(RANGE));
    // The last commitment is the limit without anchors, and none with them.
    assert_eq!(bounds(&rig), (LEAST_MAX_FEE, LEAST_MAX_FEE, LEAST_MAX_FEE));
    let change = |rig: &mut Rig, what: &dyn Fn(&mut Channel)| {
        what(rig.node.channels.all.get_mut(&ChannelNumber(1)).unwrap());
    };
    change(&mut rig, &|c| {
        c.live.params.channel_type = c.live.params.channel_type.clone().with(feature::ANCHORS);
        c.shutdown = scripts().map(Some);
    });
    let (least, most) = (RANGE.min.fee(weight), RANGE.max.fee(weight));
    assert_eq!(bounds(&rig), (least, least, most));
    assert_eq!(max_fee(rig.channel(1)), most, "what hsmd signs, too");
    // Where the peer pays it is for what we propose.
    change(&mut rig, &|c| c.live.params.opener = Side::Remote);
    assert_eq!(bounds(&rig), (least, least, most));
    change(&mut rig, &|c| c.live.balance.remote = Msat(least.0 * 1000));
    assert_eq!(bounds(&rig), (least, least, least));
}

#[test]
fn closing_with_anchors_may_pay_the_next_block_feerate() {
    let mut rig = Rig::new("closing-fee-now", &[(1, 1)]);
    let estimates = json!({"feerate_floor": 1000, "feerates": [
        {"blocks": 6, "feerate": 80_000}, {"blocks": 100, "feerate": 30_000}]});
    rig.node.chain.fees = Some(Estimates::parse(&estimates).unwrap());
    let weight = channel::closing::weight(&scripts());
    let channel = rig.node.channels.all.get_mut(&ChannelNumber(1)).unwrap();
    channel.live.params.opener = Side::Local;
    let without = max_fee(channel);
    let (_, _, most) = of(&rig.node, rig.channel(1), &scripts());
    assert_eq!(most, without, "BOLT 2, closing_signed: the last commitment's fee, without anchors");
    let channel = rig.node.channels.all.get_mut(&ChannelNumber(1)).unwrap();
    channel.live.params.channel_type =
        channel.live.params.channel_type.clone().with(feature::ANCHORS);
    let (_, ideal, most) = of(&rig.node, rig.channel(1), &scripts());
    assert_eq!((ideal, most), (FeeratePerKw(7500).fee(weight), FeeratePerKw(20_000).fee(weight)));
}

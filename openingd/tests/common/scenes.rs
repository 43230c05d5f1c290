//! Openings up to a point, and what is refused there.

use super::*;
use subdaemon::Failure;
use wire::*;

pub const OURS: Signer = Signer(0x10);
pub const THEIRS: Signer = Signer(0x40);

pub fn their_open() -> OpenChannel {
    proposal().open_channel(Network::Regtest, TEMPORARY, &THEIRS.party())
}
pub fn their_accept() -> AcceptChannel {
    proposal().accept_channel(TEMPORARY, 3, &THEIRS.party())
}
pub fn with_open(init: AcceptInit, change: impl FnOnce(&mut OpenChannel)) -> Attempt {
    let mut accepter = start(&init, OURS);
    let mut open = their_open();
    change(&mut open);
    accepter.say(&open);
    accepter
}
pub fn refuses_open(change: impl FnOnce(&mut OpenChannel), part: &str) {
    with_open(accept_init(), change).fails_with(TEMPORARY, part);
}
pub fn takes_open(change: impl FnOnce(&mut OpenChannel)) -> OpenProposed {
    with_open(accept_init(), change).proposed()
}
pub fn with_accept(init: OpenInit, change: impl FnOnce(&mut AcceptChannel)) -> Attempt {
    let mut opener = start(&init, OURS);
    let OpeningMessage::OpenChannel(open) = opener.says() else { panic!("no open_channel") };
    let mut accept = their_accept();
    accept.channel_type = open.channel_type;
    change(&mut accept);
    opener.say(&accept);
    opener
}
pub fn refuses_accept(change: impl FnOnce(&mut AcceptChannel), part: &str) {
    with_accept(open_init(), change).fails_with(TEMPORARY, part);
}
/// What we say when we open.
pub fn our_open(init: OpenInit) -> OpenChannel {
    let said = start(&init, OURS).says();
    let OpeningMessage::OpenChannel(open) = said else { panic!("{said:?}") };
    open
}
/// We do not even say it.
pub fn never_said(init: OpenInit, part: &str) {
    let mut opener = start(&init, OURS);
    assert_eq!(opener.record(), None);
    match opener.end() {
        Err(Failure::Cancelled(why)) => assert!(why.contains(part), "'{why}' without '{part}'"),
        other => panic!("{other:?}"),
    }
}
pub fn our_accept(
    init: AcceptInit,
    wishes: AcceptProposed,
    change: impl FnOnce(&mut OpenChannel),
) -> AcceptChannel {
    let mut accepter = with_open(init, change);
    accepter.proposed();
    accepter.master.order(&wishes, vec![]);
    let said = accepter.says();
    let OpeningMessage::AcceptChannel(accept) = said else { panic!("{said:?}") };
    accept
}
pub fn without(features: &Features, bit: FeatureBit) -> Features {
    let kept = features.bits().filter(|b| b & !1 != bit & !1);
    kept.fold(Features::none(), Features::with)
}
pub fn rest(features: &Features) -> Option<Rest> {
    Some(Rest(features.as_be_bytes().to_vec()))
}
/// The scripted peer's view of the channel that we open, or accept.
pub fn their_params(opener: Side, ours: &wire::channel_data::Terms) -> ChannelParams {
    ChannelParams {
        opener,
        funding: funding(),
        amount: proposal().amount,
        push: proposal().push,
        channel_type: anchors(),
        terms: Sides { local: THEIRS.party().terms, remote: ours.clone() },
        basepoints: Sides { local: THEIRS.basepoints(), remote: OURS.basepoints() },
    }
}
/// The scripted peer's signature on our first commitment.
pub fn their_signature(params: &ChannelParams) -> Signature {
    let constants = channel::Constants::new(params.clone()).unwrap();
    let state = wire::channel_data::CommitmentState {
        side: Side::Remote,
        number: CommitmentNumber::FIRST,
        point: OURS.point(CommitmentNumber::FIRST),
        feerate: proposal().feerate,
        balance: constants.first_balance(),
        htlcs: Long(vec![]),
    };
    THEIRS.sign(params, &state)
}
/// An accepter of ours that awaits `funding_created`, and the right signature for it.
pub fn awaiting_funding() -> (Attempt, Signature) {
    let mut accepter = with_open(accept_init(), |_| {});
    accepter.proposed();
    accepter.master.order(&yes(), vec![]);
    let OpeningMessage::AcceptChannel(_) = accepter.says() else { panic!("no accept_channel") };
    (accepter, their_signature(&their_params(Side::Local, &policy().terms)))
}
pub fn created(signature: Signature) -> FundingCreated {
    FundingCreated {
        temporary_channel_id: TEMPORARY,
        funding_txid: funding().txid,
        funding_output_index: 3,
        signature,
    }
}
/// An opener of ours that awaits `funding_signed`, what it said, and the right signature.
pub fn awaiting_signature() -> (Attempt, FundingCreated, Signature) {
    let mut opener = with_accept(open_init(), |_| {});
    opener.accepted();
    opener.master.order(&CompleteFunding { funding: funding() }, vec![]);
    assert_eq!(opener.also_routes(), ChannelId::from_funding(&funding()));
    let OpeningMessage::FundingCreated(created) = opener.says() else {
        panic!("no funding_created")
    };
    (opener, created, their_signature(&their_params(Side::Remote, &policy().terms)))
}
/// S replaced by the order of the group less S.
pub fn high_s(signature: &Signature) -> [u8; 64] {
    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xfe, 0xba, 0xae, 0xdc, 0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36,
        0x41, 0x41,
    ];
    let mut bytes = signature.serialize_compact();
    let mut borrow = 0i16;
    for i in (0..32).rev() {
        let digit = i16::from(ORDER[i]) - i16::from(bytes[32 + i]) - borrow;
        borrow = i16::from(digit < 0);
        bytes[32 + i] = digit.rem_euclid(256) as u8;
    }
    bytes
}
/// The same message with this signature, which nobody can build.
pub fn with_signature(message: &impl Message, signature: [u8; 64]) -> Vec<u8> {
    let mut bytes = message.encode();
    let at = bytes.len() - 64;
    bytes[at..].copy_from_slice(&signature);
    bytes
}

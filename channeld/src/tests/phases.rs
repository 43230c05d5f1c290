//! Each message of the peer in each phase in which a channeld is born: what `channel::phase`
//! refuses ends the connection in its words, what it ignores changes nothing, and everything else
//! reaches its handler. On the first connection and on a later one.

use super::rig::*;
use super::stranger::Stranger;
use channel::phase::{ChannelPhase, Input, Rule, rule, why_refused};
use primitives::*;
use subdaemon::Failure;
use wire::channeld::Birth;
use wire::*;

/// Phases in which the master gives birth to a channeld.
const BORN: [ChannelPhase; 6] = [
    ChannelPhase::AwaitingLockin,
    ChannelPhase::Normal,
    ChannelPhase::ShuttingDown,
    ChannelPhase::Negotiating,
    ChannelPhase::ClosingAgreed,
    ChannelPhase::DataLoss,
];

fn signature() -> Signature {
    Signature::from_compact(&[1; 64]).unwrap()
}

/// One of each message that a peer may send after channel_reestablish.
fn messages(channel_id: ChannelId) -> Vec<ChannelMessage> {
    let (point, data) = (some_point(3), b"nothing".to_vec());
    let mut all = updates(channel_id);
    all.extend([
        ChannelMessage::ChannelReady(ChannelReady {
            channel_id,
            second_per_commitment_point: point,
            short_channel_id: None,
        }),
        ChannelMessage::AnnouncementSignatures(AnnouncementSignatures {
            channel_id,
            short_channel_id: ShortChannelId(1),
            node_signature: signature(),
            bitcoin_signature: signature(),
        }),
        ChannelMessage::Shutdown(Shutdown { channel_id, scriptpubkey: script(4) }),
        ChannelMessage::CommitmentSigned(CommitmentSigned {
            channel_id,
            signature: signature(),
            htlc_signatures: vec![],
            funding_txid: None,
        }),
        ChannelMessage::StartBatch(StartBatch { channel_id, batch_size: 2, message_type: None }),
        ChannelMessage::RevokeAndAck(RevokeAndAck {
            channel_id,
            per_commitment_secret: SecretKey::from_slice(&[3; 32]).unwrap(),
            next_per_commitment_point: point,
        }),
        ChannelMessage::ClosingSigned(ClosingSigned {
            channel_id,
            fee_satoshis: Sat(500),
            signature: signature(),
            fee_range: None,
        }),
        ChannelMessage::FundingSigned(FundingSigned { channel_id, signature: signature() }),
        ChannelMessage::TxAbort(TxAbort { channel_id, data }),
        ChannelMessage::Stfu(Stfu { channel_id, initiator: 1 }),
    ]);
    all
}

/// One of each update.
fn updates(channel_id: ChannelId) -> Vec<ChannelMessage> {
    let id = HtlcId(0);
    let onion = OnionPacket(Box::new([0; 1366]));
    let reason = vec![];
    vec![
        ChannelMessage::UpdateAddHtlc(UpdateAddHtlc {
            channel_id,
            id,
            amount: Msat(1_000_000),
            payment_hash: PaymentHash([7; 32]),
            cltv_expiry: BlockHeight(500),
            onion,
            path_key: None,
        }),
        ChannelMessage::UpdateFulfillHtlc(UpdateFulfillHtlc {
            channel_id,
            id,
            preimage: preimage(1),
            attribution_data: None,
        }),
        ChannelMessage::UpdateFailHtlc(UpdateFailHtlc {
            channel_id,
            id,
            reason,
            attribution_data: None,
        }),
        ChannelMessage::UpdateFailMalformedHtlc(UpdateFailMalformedHtlc {
            channel_id,
            id,
            sha256_of_onion: Sha256Digest([0; 32]),
            failure_code: 0xc005,
        }),
        ChannelMessage::UpdateFee(UpdateFee { channel_id, feerate: FeeratePerKw(2000) }),
    ]
}

/// A channeld born in this phase, and its peer, with whom it has exchanged the first words.
fn born(phase: ChannelPhase, birth: &Birth) -> (Pair, Stranger) {
    let mut pair = if phase == ChannelPhase::AwaitingLockin {
        Pair::opened(&Wish::default())
    } else {
        Pair::ready(&Wish::default())
    };
    let init = &mut pair.nodes.local.init;
    init.phase = phase;
    init.funding_deep = phase != ChannelPhase::AwaitingLockin;
    init.failed = (phase == ChannelPhase::DataLoss).then(|| "please close".to_owned());
    if phase >= ChannelPhase::ShuttingDown {
        pair.master(Side::Local).rows().shutdown =
            Sides { local: Some(script(3)), remote: Some(script(4)) };
    }
    let mut stranger = pair.stranger(birth.clone());
    if *birth == Birth::Reconnected {
        stranger.until::<ChannelReestablish>();
        stranger.send(&pair.their_reestablish());
    }
    (pair, stranger)
}

/// channeld's exit after this message and then an `error`.
fn end_of(phase: ChannelPhase, birth: &Birth, message: &ChannelMessage) -> Result<(), Failure> {
    let (mut pair, stranger) = born(phase, birth);
    stranger.send_bytes(&message.encode());
    stranger.send(&Error::new(pair.nodes.local.init.channel, "the end"));
    pair.nodes.local.ended()
}

#[test]
fn phase_table_rules_each_peer_message() {
    for phase in BORN {
        // The only phases in which openingd can just have ended.
        let is_new = matches!(phase, ChannelPhase::AwaitingLockin | ChannelPhase::Normal);
        let births = if is_new {
            vec![Birth::JustOpened { funding_signed: None }, Birth::Reconnected]
        } else {
            vec![Birth::Reconnected]
        };
        let id = Pair::opened(&Wish::default()).nodes.local.init.channel;
        for (birth, message) in
            births.iter().flat_map(|b| messages(id).into_iter().map(move |m| (b, m)))
        {
            let input = Input::from(&message);
            let why = why_refused(phase, input);
            let ended = end_of(phase, birth, &message);
            let told = matches!(&ended, Err(Failure::PeerWarn(text)) if text.ends_with(why));
            let lived = matches!(&ended, Err(Failure::PeerSaidError(_)));
            let what = format!("{phase:?}, {birth:?}, {message:?}: {ended:?}");
            match rule(phase, input) {
                Rule::Refused => assert!(told, "{what}"),
                Rule::Ignored => assert!(lived, "{what}"),
                Rule::Taken | Rule::Unchanged => assert!(!told, "{what}"),
                Rule::BeforeShutdown | Rule::WithOutput | Rule::Waits | Rule::First => {
                    panic!("not of a message: {what}")
                }
            }
        }
    }
}

//! Which inputs a channel takes in which phase of its life: one table, asked by channeld,
//! lightningd and hsmd.
//!
//! The table is [`Input::row`]: for each BOLT 2 message that channeld reads, each order, ask and
//! report that depends on the phase, each decision on an HTLC, and each channel signature or secret
//! of hsmd, it says what happens in each [`ChannelPhase`]. The rows exist because a signature, once
//! given, binds us across connections and restarts: in [`ChannelPhase::Negotiating`],
//! [`ChannelPhase::ClosingAgreed`] and [`ChannelPhase::ClosingFailed`] the peer may hold our
//! signature on a closing transaction, so that no later commitment and no HTLC can be relied on.
//!
//! What a column cannot say stays with whoever asks: what was said on *this* connection (channeld),
//! which daemon owns the channel (lightningd), which commitment numbers count (hsmd).

use wire::ChannelMessage;
pub use wire::channel_data::ChannelPhase;
use wire::channeld::{ChannelAsk, FromChanneld};
use wire::closingd::{ClosingAsk, FromClosingd};

/// A peer message, order, ask, report, HTLC decision or hsmd question that the channel's phase may
/// forbid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// `channel_reestablish` of the peer.
    ChannelReestablish,
    /// `channel_ready` of the peer.
    ChannelReady,
    /// `announcement_signatures` of the peer.
    AnnouncementSignatures,
    /// `shutdown` of the peer.
    Shutdown,
    /// `update_add_htlc` of the peer.
    UpdateAddHtlc,
    /// `update_fulfill_htlc`, `update_fail_htlc` or `update_fail_malformed_htlc` of the peer.
    UpdateRemoveHtlc,
    /// `update_fee` of the peer.
    UpdateFee,
    /// `commitment_signed` or `start_batch` of the peer.
    CommitmentSigned,
    /// `revoke_and_ack` of the peer.
    RevokeAndAck,
    /// `closing_signed` of the peer.
    ClosingSigned,
    /// `funding_signed` of the peer.
    FundingSigned,
    /// `tx_abort` of the peer.
    TxAbort,
    /// `stfu` of the peer. Quiescence is never negotiated.
    Stfu,
    /// `error` or `warning` of the peer.
    ErrorOrWarning,
    /// Order to channeld: offer an HTLC.
    OfferHtlc,
    /// Order to channeld: fulfil or fail a received HTLC.
    RemoveHtlc,
    /// Order to channeld: say `shutdown`.
    StartShutdown,
    /// channeld asks for commitments, revocations and HTLCs to be stored.
    Persist,
    /// channeld asks for either side's `channel_ready` to be stored.
    PersistReady,
    /// channeld asks for a `shutdown` to be stored.
    PersistShutdown,
    /// channeld asks where a close pays us.
    GetShutdownScript,
    /// channeld asks for the peer's announcement to be stored.
    PersistAnnouncement,
    /// channeld reports that both sides resumed the channel.
    Reestablished,
    /// channeld reports what became of an HTLC that we offer: not offered, or its preimage.
    HtlcNews,
    /// channeld hands its peer over to closingd.
    ReadyToClose,
    /// channeld reports that one side lost data.
    LostData,
    /// closingd asks for a closing transaction, ours or the peer's, to be stored before it is
    /// signed for.
    PersistClosing,
    /// closingd reports a closing transaction that both sides signed.
    ClosingAgreed,
    /// The switch: a received HTLC counts for an invoice of ours.
    AcceptHtlc,
    /// The switch: a received HTLC may be forwarded over another channel.
    ForwardFrom,
    /// The switch, or a payment of ours: this channel may carry a new HTLC.
    ForwardOver,
    /// The switch: the end of a received HTLC is stored.
    SettleHtlc,
    /// hsmd: our signatures on a commitment of the peer.
    SignRemote,
    /// hsmd: the peer's signatures on a commitment of ours are judged, so that the one before can
    /// be revoked.
    ShowLocal,
    /// hsmd: the secret of a commitment of ours.
    RevokeLocal,
    /// hsmd: our signature on a closing transaction, or both on one that the peer signed.
    SignClosing,
    /// hsmd: our own commitment with both signatures, to be published.
    SignLocal,
    /// hsmd: our half of the channel's announcement.
    SignAnnouncement,
}

/// How a channel treats an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// It is handled.
    Taken,
    /// It is handled where it changes nothing that was agreed: no other script than the stored one,
    /// a commitment with the same balances and no HTLC, a secret that is out already. Anything else
    /// is refused.
    Unchanged,
    /// It is handled for an HTLC that the peer added before our own `shutdown`. Any later one is
    /// failed. BOLT 2, shutdown.
    BeforeShutdown,
    /// It is handled for an HTLC that has an output in each commitment which may still confirm. A
    /// trimmed one is the miners'.
    WithOutput,
    /// hsmd keeps the question until lightningd has stored that it may be answered.
    Waits,
    /// Only for the first commitment, with the balances that the opening agreed on and no HTLC, and
    /// once.
    First,
    /// It is dropped without an error: it was sent before the sender knew of the phase.
    Ignored,
    /// It is an error: the connection, the daemon or the hsmd client is closed.
    Refused,
}

impl Input {
    /// Every input, in the table's order.
    pub const ALL: [Self; 38] = [
        Self::ChannelReestablish,
        Self::ChannelReady,
        Self::AnnouncementSignatures,
        Self::Shutdown,
        Self::UpdateAddHtlc,
        Self::UpdateRemoveHtlc,
        Self::UpdateFee,
        Self::CommitmentSigned,
        Self::RevokeAndAck,
        Self::ClosingSigned,
        Self::FundingSigned,
        Self::TxAbort,
        Self::Stfu,
        Self::ErrorOrWarning,
        Self::OfferHtlc,
        Self::RemoveHtlc,
        Self::StartShutdown,
        Self::Persist,
        Self::PersistReady,
        Self::PersistShutdown,
        Self::GetShutdownScript,
        Self::PersistAnnouncement,
        Self::Reestablished,
        Self::HtlcNews,
        Self::ReadyToClose,
        Self::LostData,
        Self::PersistClosing,
        Self::ClosingAgreed,
        Self::AcceptHtlc,
        Self::ForwardFrom,
        Self::ForwardOver,
        Self::SettleHtlc,
        Self::SignRemote,
        Self::ShowLocal,
        Self::RevokeLocal,
        Self::SignClosing,
        Self::SignLocal,
        Self::SignAnnouncement,
    ];

    /// The table. Columns: Opening, awaiting Lockin, Normal, Shutting down, neGotiating a close,
    /// close Agreed, awaiting Unilateral, unilateral after a Failed close, on Chain, Data lost,
    /// closed (X). `y` taken, `=` unchanged only, `b` before our shutdown only, `o` with an output
    /// only, `1` the first only, `w` waits, `i` ignored, `-` refused.
    #[rustfmt::skip]
    const fn row(self) -> &'static [u8; 11] {
        match self {
            // The peer's messages, as channeld reads them.
            //                                OLNSGAUFCDX
            Self::ChannelReestablish     => b"-yyyyy---y-",
            Self::ChannelReady           => b"-yyyyy---i-",
            Self::AnnouncementSignatures => b"-yyyii---i-",
            Self::Shutdown               => b"-yyy==---i-",
            Self::UpdateAddHtlc          => b"--yy-----i-",
            Self::UpdateRemoveHtlc       => b"--yy-----i-",
            Self::UpdateFee              => b"--yy-----i-",
            Self::CommitmentSigned       => b"--yy-----i-",
            Self::RevokeAndAck           => b"--yy-----i-",
            Self::ClosingSigned          => b"---------i-",
            Self::FundingSigned          => b"---------i-",
            Self::TxAbort                => b"-yyyyy---i-",
            Self::Stfu                   => b"---------i-",
            Self::ErrorOrWarning         => b"yyyyyyyyyyy",
            // Orders to channeld: an order that is late changes nothing.
            //                                OLNSGAUFCDX
            Self::OfferHtlc              => b"--y--------",
            Self::RemoveHtlc             => b"-iyyyyiiii-",
            Self::StartShutdown          => b"-yyyyyiiii-",
            // What daemons ask and report. A channeld that was killed because its channel failed
            // may have asked before that: its last Persist decides which of our commitments is the
            // newest.
            //                                OLNSGAUFCDX
            Self::Persist                => b"--yy--y-y--",
            Self::PersistReady           => b"-yyyyyyyy--",
            Self::PersistShutdown        => b"-yyy==y=y--",
            Self::GetShutdownScript      => b"-yyy==y-y--",
            Self::PersistAnnouncement    => b"-yyyyyyyy--",
            Self::Reestablished          => b"-yyyyyiiiy-",
            Self::HtlcNews               => b"-yyyyyyyyyi",
            Self::ReadyToClose           => b"---yyyiiii-",
            Self::LostData               => b"-yyyyyiiiyi",
            Self::PersistClosing         => b"---yyy-y---",
            Self::ClosingAgreed          => b"----yi-i---",
            // The switch.
            //                                OLNSGAUFCDX
            Self::AcceptHtlc             => b"--yb--o-o--",
            Self::ForwardFrom            => b"--yb-------",
            Self::ForwardOver            => b"--y--------",
            Self::SettleHtlc             => b"-yyyyyyyyyy",
            // hsmd. It learns the phase when a client is made: a channeld started before
            // channel_ready signs normal commitments in phase L.
            //                                OLNSGAUFCDX
            Self::SignRemote             => b"1yyy==-----",
            Self::ShowLocal              => b"1yyy==-----",
            Self::RevokeLocal            => b"-yyy==-----",
            Self::SignClosing            => b"---wyy-----",
            Self::SignLocal              => b"-yyyyyyyy--",
            Self::SignAnnouncement       => b"-yy--------",
        }
    }
}

impl Rule {
    const fn of(cell: u8) -> Self {
        match cell {
            b'y' => Self::Taken,
            b'=' => Self::Unchanged,
            b'b' => Self::BeforeShutdown,
            b'1' => Self::First,
            b'o' => Self::WithOutput,
            b'w' => Self::Waits,
            b'i' => Self::Ignored,
            _ => Self::Refused,
        }
    }
}

/// How a channel in this phase treats this input.
pub fn rule(phase: ChannelPhase, input: Input) -> Rule {
    let cell = input.row().get(usize::from(phase.number()));
    Rule::of(cell.copied().unwrap_or_default())
}

/// True while the channel takes new HTLCs, or is on its way to where it does. False once nothing
/// but their end is left.
pub const fn takes_htlcs_yet(phase: ChannelPhase) -> bool {
    use ChannelPhase as P;
    match phase {
        P::Opening | P::AwaitingLockin | P::Normal => true,
        P::ShuttingDown
        | P::Negotiating
        | P::ClosingAgreed
        | P::AwaitingUnilateral
        | P::ClosingFailed
        | P::Onchain
        | P::DataLoss
        | P::Closed => false,
    }
}

/// Why an input is refused in a phase. The text follows the input's name in an error:
/// "update_add_htlc after shutdown".
pub const fn why_refused(phase: ChannelPhase, input: Input) -> &'static str {
    use ChannelPhase as P;
    if matches!(input, Input::FundingSigned) {
        return "for a channel that is open";
    }
    if matches!(input, Input::ClosingSigned) {
        return "while updates or shutdowns are pending";
    }
    if matches!(input, Input::Stfu) {
        return "and quiescence was not negotiated";
    }
    match phase {
        P::Opening => "before the channel is open",
        P::AwaitingLockin => "before both sides said channel_ready",
        P::Normal => "while the channel is open",
        P::ShuttingDown => "after shutdown",
        P::Negotiating => "after the closing negotiation began",
        P::ClosingAgreed => "after both signed the closing transaction",
        P::AwaitingUnilateral => "after the channel failed",
        P::ClosingFailed => {
            "after the channel failed, or its funding output was spent, with a closing begun"
        }
        P::Onchain => "after the funding output was spent",
        P::DataLoss => "for a channel whose data we lost",
        P::Closed => "after the channel was closed",
    }
}

impl From<&ChannelMessage> for Input {
    fn from(message: &ChannelMessage) -> Self {
        use ChannelMessage as M;
        match message {
            M::ChannelReestablish(_) => Self::ChannelReestablish,
            M::ChannelReady(_) => Self::ChannelReady,
            M::AnnouncementSignatures(_) => Self::AnnouncementSignatures,
            M::Shutdown(_) => Self::Shutdown,
            M::UpdateAddHtlc(_) => Self::UpdateAddHtlc,
            M::UpdateFulfillHtlc(_) | M::UpdateFailHtlc(_) | M::UpdateFailMalformedHtlc(_) => {
                Self::UpdateRemoveHtlc
            }
            M::UpdateFee(_) => Self::UpdateFee,
            M::CommitmentSigned(_) | M::StartBatch(_) => Self::CommitmentSigned,
            M::RevokeAndAck(_) => Self::RevokeAndAck,
            M::ClosingSigned(_) => Self::ClosingSigned,
            M::FundingSigned(_) => Self::FundingSigned,
            M::TxAbort(_) => Self::TxAbort,
            M::Stfu(_) => Self::Stfu,
            M::Error(_) | M::Warning(_) => Self::ErrorOrWarning,
        }
    }
}

impl From<&ChannelAsk> for Input {
    fn from(ask: &ChannelAsk) -> Self {
        match ask {
            ChannelAsk::Persist(_) => Self::Persist,
            ChannelAsk::PersistPeerReady(_) | ChannelAsk::PersistReady(_) => Self::PersistReady,
            ChannelAsk::PersistShutdown(_) => Self::PersistShutdown,
            ChannelAsk::PersistAnnouncement(_) => Self::PersistAnnouncement,
            ChannelAsk::GetShutdownScript(_) => Self::GetShutdownScript,
        }
    }
}

impl Input {
    /// The input that a report of channeld is, if it is about the channel.
    pub const fn reported(report: &FromChanneld) -> Option<Self> {
        match report {
            FromChanneld::Log(_) | FromChanneld::Status(_) | FromChanneld::Failed(_) => None,
            FromChanneld::Reestablished(_) => Some(Self::Reestablished),
            FromChanneld::OfferRefused(_) | FromChanneld::PreimageLearned(_) => {
                Some(Self::HtlcNews)
            }
            FromChanneld::ReadyToClose(_) => Some(Self::ReadyToClose),
            FromChanneld::WeAreBehind(_) | FromChanneld::TheyAreBehind(_) => Some(Self::LostData),
            FromChanneld::FeerateNow(_) => None,
        }
    }
    /// The input that a report of closingd is, if it is about the channel.
    pub const fn reported_by_closingd(report: &FromClosingd) -> Option<Self> {
        match report {
            FromClosingd::Log(_) | FromClosingd::Status(_) | FromClosingd::Failed(_) => None,
            FromClosingd::ClosingAgreed(_) => Some(Self::ClosingAgreed),
        }
    }
}

impl From<&ClosingAsk> for Input {
    fn from(ask: &ClosingAsk) -> Self {
        match ask {
            ClosingAsk::PersistOffer(_) | ClosingAsk::PersistPeerSignature(_) => {
                Self::PersistClosing
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The phases in which the peer may hold our signature on a closing transaction.
    const SIGNED: [ChannelPhase; 3] =
        [ChannelPhase::Negotiating, ChannelPhase::ClosingAgreed, ChannelPhase::ClosingFailed];

    #[test]
    fn closing_signature_ends_every_input_that_could_add_an_htlc() {
        for phase in SIGNED {
            for input in [
                Input::UpdateAddHtlc,
                Input::CommitmentSigned,
                Input::OfferHtlc,
                Input::Persist,
                Input::AcceptHtlc,
                Input::ForwardFrom,
                Input::ForwardOver,
            ] {
                assert_eq!(rule(phase, input), Rule::Refused, "{phase:?}, {input:?}");
            }
            for input in [Input::SignRemote, Input::ShowLocal, Input::RevokeLocal] {
                let rule = rule(phase, input);
                assert!(matches!(rule, Rule::Unchanged | Rule::Refused), "{phase:?}, {input:?}");
            }
        }
    }

    #[test]
    fn table_has_a_column_for_each_phase_and_a_row_for_each_input() {
        let known = b"y=b1owi-";
        for (n, input) in Input::ALL.into_iter().enumerate() {
            assert_eq!(input as usize, n, "{input:?} is listed out of order");
            assert!(input.row().iter().all(|cell| known.contains(cell)), "{input:?}");
        }
        assert_eq!(ChannelPhase::ALL.len(), Input::Persist.row().len());
    }

    #[test]
    fn data_loss_lets_nothing_be_stored_accepted_or_signed() {
        for input in [
            Input::Persist,
            Input::AcceptHtlc,
            Input::ForwardFrom,
            Input::ForwardOver,
            Input::SignRemote,
            Input::RevokeLocal,
            Input::SignLocal,
        ] {
            assert_eq!(rule(ChannelPhase::DataLoss, input), Rule::Refused, "{input:?}");
        }
    }
}

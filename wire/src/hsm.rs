//! The questions to hsmd: number, question -> answer, the right it takes, and its greatest length.
//!
//! hsmd signs descriptions, never digests: it builds each transaction itself.

use crate::channel_data::*;
use crate::daemon::{Failed, Log};
use crate::{Bytes, Long};
use primitives::*;

crate::data! {
    /// A right of a client of hsmd. A client has a set of them, fixed when lightningd creates it.
    pub tag Capability {
        /// Everything that concerns the node as a whole. Only the master.
        0 => Master,
        /// BOLT 8's step with the node key, which could impersonate us to peers, and opens no
        /// onion. Only connectd.
        1 => Ecdh,
        /// Our basepoints and commitment points for its channel.
        2 => Points,
        /// Signatures on the peer's commitments of its channel.
        3 => SignRemote,
        /// Showing our new commitments, and revoking our old ones.
        4 => Revoke,
        /// Per-onion keys.
        5 => Peel,
        /// Signatures on closing transactions of its channel.
        6 => SignClosing,
        /// Our half of the channel's announcement.
        7 => SignGossip,
    }

    /// A set of [`Capability`].
    pub struct Rights {
        /// Bit n is the capability of number n.
        bits: u32,
    }

    /// Where a channel stands when hsmd first hears of it (again): it only ever raises what hsmd
    /// knows. Of a channel that it knows already it must not tell more than was asked of hsmd: then
    /// a child has lied to the master's rows.
    pub struct ChannelSeed {
        /// What never changes.
        params: ChannelParams,
        /// The phase, which decides what hsmd signs: `channel::phase`.
        phase: ChannelPhase,
        /// Our newest commitment that the peer signed: those before it may have been revoked.
        local_number: CommitmentNumber,
        /// How many of ours were revoked: secrets below are out.
        local_revoked: CommitmentNumber,
        /// The peer's newest that we signed.
        remote_number: CommitmentNumber,
        /// How many of theirs were revoked.
        remote_revoked: CommitmentNumber,
        /// Their point for number `remote_revoked`.
        remote_point: Point,
        /// Their point for the one after, once known.
        remote_next_point: Option<Point>,
        /// Our least balance in the newest commitments: the lower bound of our output in a closing.
        local_balance: Msat,
        /// The first of our commitments that was signed for broadcast, if any: no secret from it on
        /// is ever given out.
        broadcast: Option<CommitmentNumber>,
        /// On what terms a closing may be signed. Without them none is.
        closing: Option<ClosingTerms>,
    }

    /// The limits of a closing transaction: where it pays us, and its greatest fee.
    pub struct ClosingTerms {
        /// Where we are paid.
        script: ScriptBuf,
        /// The most that we pay in fees, when we are the one who pays.
        max_fee: Sat,
    }

    /// A judgement on a signature or a secret.
    pub enum Verdict {
        /// It holds.
        0 => Good,
        /// It does not hold: the peer's fault, with the reason.
        1 => Bad { why: String },
    }

    /// An onion to peel.
    pub struct OnionPoint {
        /// The packet's ephemeral key.
        ephemeral: Point,
        /// The blinded path's key beside it, if any.
        path_key: Option<Point>,
    }

    /// What is derived from one onion's shared secret: enough to read it, forward it and answer it,
    /// and not to impersonate us elsewhere. BOLT 4, "Key Generation".
    pub struct OnionKeys {
        /// Decrypts the routing information.
        rho: Secret<32>,
        /// Authenticates it.
        mu: Secret<32>,
        /// Authenticates an error that begins here.
        um: Secret<32>,
        /// Encrypts errors on their way back.
        ammag: Secret<32>,
        /// The ephemeral key for the next node.
        next_ephemeral: Point,
    }

    /// What BOLT 8's HKDF makes of the chaining key and an ECDH. Nothing of the ECDH follows from
    /// it: its extraction (RFC 5869's PRK, which could be a key of BOLT 4) is the key of the two
    /// HMACs that make these, and is in neither.
    pub struct MixedKeys {
        /// The next `ck`.
        chaining_key: Secret<32>,
        /// `temp_k`.
        key: Secret<32>,
    }

    /// One of our wallet's outputs, spent.
    pub struct WalletInput {
        /// Which input of the transaction spends it.
        index: u32,
        /// Its key.
        key: WalletKey,
        /// What is in it.
        amount: Sat,
        /// Its script; must be the one that the key makes.
        script: ScriptBuf,
    }

    /// Where a wallet key comes from.
    pub enum WalletKey {
        /// The address of this index, in either form.
        0 => Address { index: u32 },
        /// The to_remote output of a commitment of this channel: our payment basepoint, CSV 1 with
        /// anchors.
        1 => ToRemote { peer: NodeId, channel: ChannelNumber, anchors: bool },
        /// to_local of our own commitment, or what an HTLC transaction of it paid: after the delay.
        2 => Delayed { peer: NodeId, channel: ChannelNumber, number: CommitmentNumber },
        /// An HTLC output of our own commitment, through its HTLC transaction, which the peer
        /// signed.
        3 => OwnHtlc {
            peer: NodeId,
            channel: ChannelNumber,
            number: CommitmentNumber,
            htlc: Htlc,
            signature: Signature,
            preimage: Option<Preimage>,
        },
        /// An HTLC output of the peer's commitment with this point: with the preimage, or after its
        /// expiry.
        4 => TheirHtlc { peer: NodeId, channel: ChannelNumber, point: Point, htlc: Htlc, preimage: Option<Preimage> },
        /// Delayed money of a revoked commitment: its to_local, or what an HTLC transaction of it
        /// paid.
        5 => RevokedDelayed { peer: NodeId, channel: ChannelNumber, secret: SecretKey },
        /// An HTLC output of a revoked commitment.
        6 => RevokedHtlc { peer: NodeId, channel: ChannelNumber, secret: SecretKey, htlc: Htlc },
        /// Our anchor, of either side's commitment.
        7 => Anchor { peer: NodeId, channel: ChannelNumber },
    }

    /// A closing transaction. BOLT 3, "Closing Transaction".
    pub struct ClosingState {
        /// Each side's balance, before the fee.
        balance: Sides<Msat>,
        /// Where to.
        script: Sides<ScriptBuf>,
        /// Paid by the opener.
        fee: Sat,
    }
}

/// How many bytes the parts of honest questions have at most. hsmd decodes nothing longer, so that
/// a captured client makes it hold no more than this and what one read brings.
pub mod lengths {
    /// Compressed.
    pub const POINT: usize = 33;
    /// A peer and a channel's number.
    pub const CHANNEL: usize = 33 + 8;
    /// Both sides' HTLCs in one commitment. BOLT 2, open_channel: max_accepted_htlcs is at most
    /// 483.
    pub const HTLCS: usize = 2 * 483;
    /// A commitment as a description, with so many HTLCs of 53 bytes.
    pub const STATE: usize = 1 + 8 + POINT + 4 + 2 * 8 + 4 + HTLCS * 53;
    /// One on the commitment, one for each HTLC.
    pub const SIGNATURES: usize = 64 + 2 + HTLCS * 64;
    /// A channel_type, or the features of a channel's announcement: bits up to 255.
    pub const FEATURES: usize = 2 + 32;
    /// Where a close pays to. BOLT 2, shutdown: the longest is OP_RETURN with 80 bytes.
    pub const SCRIPT: usize = 2 + 83;
    /// The parameters of a channel: fixed parts, terms and basepoints of both sides.
    pub const PARAMS: usize = 1 + 36 + 8 + 8 + FEATURES + 2 * 36 + 2 * 5 * POINT;
    /// A client with a channel's seed.
    pub const NEW_CLIENT: usize =
        CHANNEL + 4 + 1 + PARAMS + 1 + 4 * 8 + POINT + 1 + POINT + 8 + 1 + 8 + 1 + SCRIPT + 8;
    /// A network's name, a path (PATH_MAX of Linux), a passphrase of 1000 bytes.
    pub const UNLOCK: usize = 4 + 8 + 4 + 4096 + 1 + 4 + 1000;
    /// Onions of all HTLCs, each in a blinded path.
    pub const ONIONS: usize = 2 + HTLCS * (POINT + 1 + POINT);
    /// A closing transaction as a description.
    pub const CLOSING: usize = 2 * 8 + 2 * SCRIPT + 8;
    /// The heaviest transaction that bitcoind relays: 400,000 weight units, and no byte weighs less
    /// than one.
    pub const TRANSACTION: usize = 400_000;
    /// The most inputs it has room for: 41 bytes of four units each.
    pub const INPUTS: usize = TRANSACTION / (4 * 41);
    /// An input of ours, which a P2WSH or P2TR script locks. The longest key is that of an HTLC of
    /// our own commitment.
    pub const INPUT: usize = 4 + (1 + CHANNEL + 8 + 53 + 64 + 1 + 32) + 8 + 2 + 34;
    /// A transaction, all its inputs ours, and what they spend.
    pub const WALLET: usize = 4 + TRANSACTION + 4 + INPUTS * INPUT + 4 + INPUTS * (8 + SCRIPT);
    /// An invoice: its prefix and amount, and five bits a byte. BOLT 11 has no bound; this is
    /// sixteen fields of the longest kind.
    pub const INVOICE: usize = 4 + 32 + 4 + 16 * 1024;
    /// A message of a person's, or what a secret is for.
    pub const MESSAGE: usize = 4 + 65_535;
    /// A channel_update after its signature. BOLT 7.
    pub const UPDATE: usize = 4 + 32 + 8 + 4 + 1 + 1 + 2 + 8 + 4 + 4 + 8;
}

crate::requests! {
    /// The questions to hsmd: number, question -> answer, the right it takes, the most bytes after
    /// the number.
    pub enum HsmRequest needs Capability {
        /// Reads (or first makes) the secret file in the current directory. The first question,
        /// once.
        1 => Unlock { network: Network, path: String, passphrase: Option<SecretBytes> } -> UnlockAnswer, Master, lengths::UNLOCK;
        /// A new client. Descriptor: the client's socket. Where the seed contradicts what hsmd
        /// knows the socket is closed at once, and reported.
        2 => NewClient { peer: NodeId, channel: ChannelNumber, rights: Rights, seed: Option<ChannelSeed> } -> (), Master, lengths::NEW_CLIENT;
        /// BOLT 8's `ck, temp_k = HKDF(ck, ECDH(node key, point))`: `es` of act one as responder,
        /// `se` of act three as initiator. The ECDH itself is BOLT 4's shared secret as well, and
        /// so never leaves hsmd. A chaining key is always a hash: one whose second half is zero is
        /// refused, since HMAC cannot tell it from the name of one of BOLT 4's keys.
        3 => MixEcdh { point: Point, chaining_key: Secret<32> } -> MixedKeys, Ecdh, lengths::POINT + 32;
        /// Our keys for this client's channel.
        10 => GetBasepoints {} -> Basepoints, Points, 0;
        /// Our point for this commitment. BOLT 3, "Per-commitment Secret Requirements". At most one
        /// beyond the next.
        11 => GetCommitmentPoint { number: CommitmentNumber } -> Point, Points, 8;
        /// The parameters of this client's channel: openingd sends them once, before the first
        /// signature.
        12 => SetupChannel { params: ChannelParams } -> (), SignRemote, lengths::PARAMS;
        /// Our signature on the peer's commitment transaction and its HTLC transactions. The
        /// state's side is Remote.
        13 => SignRemoteCommitment { state: CommitmentState } -> CommitmentSignatures, SignRemote, lengths::STATE;
        /// "The peer revoked this one": checked against the point that was signed.
        14 => RemoteRevoked { number: CommitmentNumber, secret: SecretKey } -> Verdict, SignRemote, 8 + 32;
        /// "The peer signed this one of ours": checks every signature. The state's side is Local;
        /// its point is checked.
        15 => ValidateLocalCommitment { state: CommitmentState, signatures: CommitmentSignatures } -> Verdict, Revoke, lengths::STATE + lengths::SIGNATURES;
        /// The secret of this one, never to be published again, and the point two after it. Its
        /// successor must have been shown, and be stored by the master: until then the question
        /// waits.
        16 => RevokeLocal { number: CommitmentNumber } -> Revocation, Revoke, 8;
        /// Keys for a batch of onions, in order.
        17 => PeelOnions { onions: Vec<OnionPoint> } -> Vec<OnionKeys>, Peel, lengths::ONIONS;
        /// Our signature on a closing transaction.
        18 => SignClosing { state: ClosingState } -> Signature, SignClosing, lengths::CLOSING;
        /// Is this the peer's signature on that closing transaction?
        19 => CheckClosing { state: ClosingState, signature: Signature } -> Verdict, SignClosing, lengths::CLOSING + 64;
        /// "You should not have this one": is it our secret of that number? It proves that the peer
        /// knows more than our rows do. BOLT 2, channel_reestablish.
        21 => CheckSecret { number: CommitmentNumber, secret: Secret<32> } -> bool, Points, 8 + 32;
        /// Our node's and funding key's signatures on the announcement of this client's channel.
        /// BOLT 7.
        20 => SignAnnouncement { short_channel_id: ShortChannelId, features: Features } -> (Signature, Signature), SignGossip, 8 + lengths::FEATURES;
        /// Are these the peer's, on the same announcement? Asked before they are kept.
        22 => CheckAnnouncement {
            short_channel_id: ShortChannelId,
            features: Features,
            node_signature: Signature,
            bitcoin_signature: Signature,
        } -> Verdict, SignGossip, 8 + lengths::FEATURES + 2 * 64;
        /// Our signature on our own commitment, to broadcast: none of our secrets from this number
        /// on is ever given out after.
        30 => SignLocalCommitment { peer: NodeId, channel: ChannelNumber, state: CommitmentState, signatures: CommitmentSignatures } -> Completed, Master, lengths::CHANNEL + lengths::STATE + lengths::SIGNATURES;
        /// A closing transaction with both signatures, ready to broadcast. The answer is the
        /// variant that the peer signed.
        31 => CompleteClosing { peer: NodeId, channel: ChannelNumber, state: ClosingState, signature: Signature } -> Completed, Master, lengths::CHANNEL + lengths::CLOSING + 64;
        /// The transaction with witnesses for these inputs of ours; all others stay as they are.
        /// `spent` names every input's output, in order: a taproot signature commits to all of
        /// them. All or nothing: what a child reported about a close may be wrong.
        32 => SignWallet { transaction: Transaction, inputs: Long<WalletInput>, spent: Long<SpentOutput> } -> Completed, Master, lengths::WALLET;
        /// A recoverable signature on an invoice: BOLT 11's human-readable part and data, five bits
        /// a byte. The recovery id comes last.
        33 => SignInvoice { hrp: String, data: Bytes } -> [u8; 65], Master, lengths::INVOICE;
        /// A recoverable signature on a message of a person's, in LND's and CLN's form. The
        /// recovery id (0 to 3) comes first.
        34 => SignMessage { message: Bytes } -> [u8; 65], Master, lengths::MESSAGE;
        /// A secret derived for a purpose, as CLN's makesecret.
        35 => MakeSecret { info: Bytes } -> Secret<32>, Master, lengths::MESSAGE;
        /// Signs a channel_update of ours: its bytes after the signature.
        36 => SignChannelUpdate { unsigned: Bytes } -> Signature, Master, lengths::UPDATE;
        /// How many commitments and HTLC transactions were signed since hsmd began. For benchmarks.
        38 => CountSignatures {} -> u64, Master, 0;
        /// Forgets a channel that was never opened, or whose close is irrevocable.
        37 => ForgetChannel { peer: NodeId, channel: ChannelNumber } -> (), Master, lengths::CHANNEL;
    }
}

crate::internal! {
    /// hsmd's init. Descriptor: the master's own client socket, with the right Master.
    6000 => HsmdInit {}
    /// On the master's client socket, not answered: all our commitments below `revoked` are stored
    /// as revoked, and the next one is stored. Sent before the answer to `Persist`, which lets
    /// channeld ask for the secret.
    6001 => RevocationStored { peer: NodeId, channel: ChannelNumber, revoked: CommitmentNumber }
    /// The same: a closing transaction of this channel is stored, so that closingd may have one
    /// signed. From then on commitments change no balance.
    6002 => ClosingStored { peer: NodeId, channel: ChannelNumber }
    /// A client asked what it may not ask, or what no client of ours would: its socket was closed.
    /// Its bug, or worse.
    6100 => BadClient { peer: NodeId, channel: ChannelNumber, why: String }
}
crate::message_set! {
    /// Orders of lightningd on its client socket, beside its questions.
    pub enum MasterOrder { RevocationStored, ClosingStored }
}
crate::message_set! {
    /// Orders to hsmd.
    pub enum ToHsmd { HsmdInit }
}
crate::message_set! {
    /// Reports of hsmd.
    pub enum FromHsmd { Log, Failed, BadClient }
}

crate::data! {
    /// An output, as a signature commits to it.
    pub struct SpentOutput {
        /// What is in it.
        amount: Sat,
        /// Its script.
        script: ScriptBuf,
    }

    /// The outcome of completing a transaction to publish. Refused where a captured child wrote
    /// wrong rows.
    pub enum Completed {
        /// With every witness.
        0 => Ready { transaction: Transaction },
        /// Not signed, and why.
        1 => Refused { why: String },
    }

    /// The outcome of opening the secret file.
    pub enum UnlockAnswer {
        /// hsmd has it.
        0 => Open { unlocked: Unlocked },
        /// It cannot be used, and nothing was written. For the operator: what it is and what to do.
        1 => Refused { why: String },
        /// The same: it has a passphrase, and none was given.
        2 => NeedsPassphrase { why: String },
        /// The same: it has another passphrase than the one that was given, or none.
        3 => WrongPassphrase { why: String },
    }

    /// The public values that lightningd gets once hsmd has the secret.
    pub struct Unlocked {
        /// Our node id.
        node_id: NodeId,
        /// The extended public key whose children are the wallet's addresses, serialized.
        wallet_xpub: [u8; 78],
        /// True if the secret file was made just now.
        fresh: bool,
    }

    /// A revocation, as `revoke_and_ack` wants it.
    pub struct Revocation {
        /// Of the number asked for.
        secret: SecretKey,
        /// Of that number plus two.
        next_point: Point,
    }
}

impl Rights {
    /// None at all.
    pub const NONE: Self = Self { bits: 0 };
    /// The set of these.
    pub fn of(capabilities: &[Capability]) -> Self {
        Self { bits: capabilities.iter().fold(0, |bits, c| bits | 1 << c.number()) }
    }
    /// Is it among them?
    pub const fn allow(&self, capability: Capability) -> bool {
        self.bits >> capability.number() & 1 == 1
    }
}

//! The fields of an invoice.

use bitcoin::hashes::{Hash, sha256};
use bitcoin::{PubkeyHash, ScriptBuf, ScriptHash, WitnessProgram, WitnessVersion};
use primitives::*;
use wire::Wire;

/// How long an invoice is good for if it does not say. BOLT 11, "Tagged Fields", `x`.
pub const DEFAULT_EXPIRY_SECONDS: u64 = 3600;
/// The last HTLC's least expiry delta if the invoice does not say. BOLT 11, "Tagged Fields", `c`.
pub const DEFAULT_MIN_FINAL_CLTV: primitives::CltvDelta = primitives::CltvDelta(18);

/// Which money is asked for. Two test networks share a prefix, so this is not quite a [`Network`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Currency {
    /// `bc`
    Bitcoin,
    /// `tb`: testnet3 or testnet4.
    Testnet,
    /// `tbs`
    Signet,
    /// `bcrt`
    Regtest,
}

impl Currency {
    /// The currency of a network.
    pub const fn of(network: Network) -> Self {
        match network {
            Network::Bitcoin => Self::Bitcoin,
            Network::Testnet | Network::Testnet4 => Self::Testnet,
            Network::Signet => Self::Signet,
            Network::Regtest => Self::Regtest,
        }
    }
    /// The prefix after `ln`; CLN's RPC calls it `currency`.
    pub const fn prefix(self) -> &'static str {
        self.network().invoice_prefix()
    }
    /// The currency of a `prefix`.
    pub fn from_prefix(prefix: &str) -> Option<Self> {
        [Self::Bitcoin, Self::Testnet, Self::Signet, Self::Regtest]
            .into_iter()
            .find(|currency| currency.prefix() == prefix)
    }
    /// A network that uses it, good enough to print its addresses.
    pub const fn network(self) -> Network {
        match self {
            Self::Bitcoin => Network::Bitcoin,
            Self::Testnet => Network::Testnet,
            Self::Signet => Network::Signet,
            Self::Regtest => Network::Regtest,
        }
    }
}

/// Everything an invoice says but who says it. Each field carries its letter in BOLT 11.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Which money.
    pub currency: Currency,
    /// How much; `None` leaves it to the payer.
    pub amount: Option<Msat>,
    /// When it was made, in seconds since 1970.
    pub timestamp: u64,
    /// `p`: the hash whose preimage is the receipt.
    pub payment_hash: PaymentHash,
    /// `s`: shows the payee that the payer has seen the invoice.
    pub payment_secret: PaymentSecret,
    /// `d` or `h`: what for.
    pub description: Description,
    /// `x`: seconds after `timestamp` from which on it is no longer paid; `None` is
    /// [`DEFAULT_EXPIRY_SECONDS`].
    pub expiry: Option<u64>,
    /// `c`: how far ahead the last HTLC must expire; `None` is [`DEFAULT_MIN_FINAL_CLTV`].
    pub min_final_cltv: Option<CltvDelta>,
    /// `f`: where else to pay, on chain, the best first.
    pub fallbacks: Vec<Fallback>,
    /// `r`: ways to a payee without public channels, the best first.
    pub routes: Vec<Vec<RouteHint>>,
    /// `9`: what the payer must or may know.
    pub features: Features,
    /// `m`: to be returned with each part.
    pub metadata: Option<Vec<u8>>,
    /// Fields that we have no word for, and those that a reader must pass over, in their order.
    pub unknown: Vec<UnknownField>,
}

impl Terms {
    /// How long it is good for, in seconds.
    pub fn expiry_seconds(&self) -> u64 {
        self.expiry.unwrap_or(DEFAULT_EXPIRY_SECONDS)
    }
    /// The second from which on it must no longer be paid.
    pub fn expires_at(&self) -> u64 {
        self.timestamp.saturating_add(self.expiry_seconds())
    }
    /// How far ahead the last HTLC must expire.
    pub fn min_final_cltv(&self) -> CltvDelta {
        self.min_final_cltv.unwrap_or(DEFAULT_MIN_FINAL_CLTV)
    }
}

/// The purpose of the payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Description {
    /// In words. Written by a stranger: quote it before showing it anywhere.
    Text(String),
    /// The SHA256 of words that the payer has from elsewhere.
    Hash(Sha256Digest),
}

impl Description {
    /// Commits to words too long for an invoice.
    pub fn hash_of(text: &str) -> Self {
        Self::Hash(Sha256Digest(sha256::Hash::hash(text.as_bytes()).to_byte_array()))
    }
    /// Do these words fit? For a hash, BOLT 11 wants a payer to check.
    pub fn describes(&self, text: &str) -> bool {
        match self {
            Self::Text(own) => own == text,
            Self::Hash(_) => *self == Self::hash_of(text),
        }
    }
}

/// An address to pay on chain instead.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Fallback {
    /// Version 17.
    PubkeyHash([u8; 20]),
    /// Version 18.
    ScriptHash([u8; 20]),
    /// Versions 0 to 16.
    Witness(WitnessProgram),
}

impl Fallback {
    /// Reads version and hash or program; `None` for what a reader must skip.
    pub(crate) fn read(version: u8, bytes: &[u8]) -> Option<Self> {
        Some(match version {
            17 => Self::PubkeyHash(bytes.try_into().ok()?),
            18 => Self::ScriptHash(bytes.try_into().ok()?),
            _ => Self::Witness(
                WitnessProgram::new(WitnessVersion::try_from(version).ok()?, bytes).ok()?,
            ),
        })
    }
    /// Version and hash or program.
    pub(crate) fn parts(&self) -> (u8, &[u8]) {
        match self {
            Self::PubkeyHash(hash) => (17, hash),
            Self::ScriptHash(hash) => (18, hash),
            Self::Witness(program) => (program.version().to_num(), program.program().as_bytes()),
        }
    }
    /// The script of an output to it.
    pub fn script(&self) -> ScriptBuf {
        match self {
            Self::PubkeyHash(hash) => ScriptBuf::new_p2pkh(&PubkeyHash::from_byte_array(*hash)),
            Self::ScriptHash(hash) => ScriptBuf::new_p2sh(&ScriptHash::from_byte_array(*hash)),
            Self::Witness(program) => ScriptBuf::new_witness_program(program),
        }
    }
    /// The address that such a script has; `None` where it has none.
    pub fn of_script(script: &ScriptBuf) -> Option<Self> {
        if script.is_p2pkh() {
            return script.as_bytes().get(3..23)?.try_into().ok().map(Self::PubkeyHash);
        }
        if script.is_p2sh() {
            return script.as_bytes().get(2..22)?.try_into().ok().map(Self::ScriptHash);
        }
        let version = script.witness_version()?;
        WitnessProgram::new(version, script.as_bytes().get(2..)?).ok().map(Self::Witness)
    }
    /// As people write it.
    pub fn address(&self, currency: Currency) -> Option<String> {
        let network = currency.network().bitcoin();
        bitcoin::Address::from_script(&self.script(), network).ok().map(|a| a.to_string())
    }
}

/// One channel on the way to a payee without public channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteHint {
    /// The node that the channel starts from.
    pub node: Point,
    /// The channel, or its alias.
    pub short_channel_id: ShortChannelId,
    /// Part of its fee that does not depend on the amount, in msat.
    pub fee_base_msat: u32,
    /// Part of its fee that does, in millionths.
    pub fee_proportional_millionths: u32,
    /// The CLTV delta that it adds to the expiry.
    pub cltv_expiry_delta: u16,
}

impl RouteHint {
    /// Bytes of one.
    pub(crate) const LEN: usize = 33 + 8 + 4 + 4 + 2;

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        self.node.put(out);
        self.short_channel_id.put(out);
        self.fee_base_msat.put(out);
        self.fee_proportional_millionths.put(out);
        self.cltv_expiry_delta.put(out);
    }
    pub(crate) fn take(from: &mut &[u8]) -> Result<Self, wire::Problem> {
        Ok(Self {
            node: Wire::take(from)?,
            short_channel_id: Wire::take(from)?,
            fee_base_msat: Wire::take(from)?,
            fee_proportional_millionths: Wire::take(from)?,
            cltv_expiry_delta: Wire::take(from)?,
        })
    }
}

/// A field as it stood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownField {
    /// Its type, below 32.
    pub tag: u8,
    /// Its data, five bits a byte.
    pub data: Vec<u8>,
}

impl UnknownField {
    /// The letter of its type.
    pub fn letter(&self) -> char {
        crate::fives::to_char(self.tag)
    }
    /// Its data as it stands in the string.
    pub fn text(&self) -> String {
        self.data.iter().map(|five| crate::fives::to_char(*five)).collect()
    }
}

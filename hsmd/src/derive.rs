//! From the secret file's content to every key of the node, as Core Lightning derives them.

use crate::blinding::secp;
use bitcoin::bip32::{ChildNumber, Xpriv, Xpub};
use primitives::{ChannelNumber, Network, NodeId, Secret, SecretKey, SigningKey, hkdf};
use std::fmt;
use zeroize::Zeroizing;

/// The content of the secret file.
pub(crate) enum Root {
    /// 32 bytes as they are.
    Raw(Zeroizing<[u8; 32]>),
    /// The 64 bytes that BIP 39 makes of words and passphrase.
    Seed(Zeroizing<[u8; 64]>),
}

impl Root {
    fn all(&self) -> &[u8] {
        match self {
            Self::Raw(bytes) => bytes.as_slice(),
            Self::Seed(bytes) => bytes.as_slice(),
        }
    }
    /// Its first 32 bytes: what node and channel keys come from.
    fn first(&self) -> &[u8] {
        self.all().get(..32).unwrap_or_default()
    }
}
impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Root(..)")
    }
}

/// Everything that is derived once.
pub(crate) struct NodeKeys {
    pub(crate) network: Network,
    pub(crate) node: SigningKey,
    pub(crate) node_id: NodeId,
    /// Address n is its child n.
    pub(crate) wallet: Xpriv,
    channels: Secret<32>,
    secrets: Secret<32>,
}
impl fmt::Debug for NodeKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeKeys({})", self.node_id)
    }
}
impl Drop for NodeKeys {
    fn drop(&mut self) {
        self.wallet.private_key.non_secure_erase();
    }
}

impl NodeKeys {
    pub(crate) fn derive(root: &Root, network: Network) -> Self {
        let key = |bytes: &[u8]| SecretKey::from_slice(bytes).ok().map(SigningKey::new);
        let node = counted(root.first(), b"nodeid", key);
        Self {
            network,
            node_id: node.public_key(&secp()).into(),
            node,
            wallet: wallet(root, network),
            channels: hkdf(root.first(), &[], b"peer seed"),
            secrets: hkdf(root.all(), &[], b"derived secrets"),
        }
    }

    /// The key that addresses come from, without its secret half.
    pub(crate) fn wallet_xpub(&self) -> [u8; 78] {
        Xpub::from_priv(&secp(), &self.wallet).encode()
    }

    /// 192 bytes: five base keys and the seed of commitment secrets, in CLN's order.
    pub(crate) fn channel_secrets(&self, peer: &NodeId, channel: ChannelNumber) -> Secret<192> {
        let mut salt = peer.0.to_vec();
        salt.extend_from_slice(&channel.0.to_le_bytes());
        let seed: Secret<32> = hkdf(self.channels.expose(), &salt, b"per-peer seed");
        hkdf(seed.expose(), &[], b"c-lightning")
    }

    /// CLN's makesecret.
    pub(crate) fn make_secret(&self, info: &[u8]) -> Secret<32> {
        hkdf(self.secrets.expose(), &[], info)
    }
}

/// Counts the salt up until the bytes make a key. Nobody has seen a second round.
fn counted<T>(ikm: &[u8], info: &[u8], key: impl Fn(&[u8]) -> Option<T>) -> T {
    (0u32..)
        .find_map(|n| key(hkdf::<32>(ikm, &n.to_le_bytes(), info).expose()))
        .expect("one of 2^32 random strings is a key")
}

/// Words: BIP 86's external chain, with coin type 0 on every network. Raw bytes: m/0/0 of a seed
/// made from them.
fn wallet(root: &Root, network: Network) -> Xpriv {
    let network = network.bitcoin();
    let normal = |n| ChildNumber::Normal { index: n };
    let hardened = |n| ChildNumber::Hardened { index: n };
    let (mut master, path) = match root {
        Root::Raw(bytes) => {
            let master = counted(bytes.as_slice(), b"bip32 seed", |seed| {
                Xpriv::new_master(network, seed).ok()
            });
            (master, vec![normal(0), normal(0)])
        }
        Root::Seed(seed) => {
            let master = Xpriv::new_master(network, seed.as_slice())
                .expect("a seed whose BIP 32 master is no key has never been seen: 2^-127");
            (master, vec![hardened(86), hardened(0), hardened(0), normal(0)])
        }
    };
    let wallet = master
        .derive_priv(&secp(), &path)
        .expect("a child that is no key has never been seen: 2^-127");
    master.private_key.non_secure_erase();
    wallet
}

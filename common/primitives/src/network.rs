//! The chains the suite knows.

use std::{fmt, str::FromStr};

/// One of Bitcoin's chains. `Bitcoin` is known here so that it can be refused by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Network {
    /// The one with real money.
    Bitcoin,
    /// testnet3.
    Testnet,
    /// BIP 94's test network.
    Testnet4,
    /// The default signet.
    Signet,
    /// One's own.
    Regtest,
}

impl Network {
    /// All of them, in CLN's order.
    pub const ALL: [Self; 5] =
        [Self::Bitcoin, Self::Testnet, Self::Testnet4, Self::Signet, Self::Regtest];

    /// As `--network` and the directory are called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bitcoin => "bitcoin",
            Self::Testnet => "testnet",
            Self::Testnet4 => "testnet4",
            Self::Signet => "signet",
            Self::Regtest => "regtest",
        }
    }
    /// As a Bitcoin backend says it (BIP 70): the answer to `getchaininfo`.
    pub const fn bip70_name(self) -> &'static str {
        match self {
            Self::Bitcoin => "main",
            Self::Testnet => "test",
            Self::Testnet4 => "testnet4",
            Self::Signet => "signet",
            Self::Regtest => "regtest",
        }
    }
    /// The prefix after `ln` in an invoice. BOLT 11, "Human-Readable Part".
    pub const fn invoice_prefix(self) -> &'static str {
        match self {
            Self::Bitcoin => "bc",
            Self::Testnet | Self::Testnet4 => "tb",
            Self::Signet => "tbs",
            Self::Regtest => "bcrt",
        }
    }
    /// Where nodes listen unless told otherwise.
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Bitcoin => 9735,
            Self::Testnet => 19735,
            Self::Testnet4 => 49735,
            Self::Signet => 39735,
            Self::Regtest => 19846,
        }
    }
    /// Where bitcoind serves RPC unless told otherwise.
    pub const fn bitcoind_rpc_port(self) -> u16 {
        match self {
            Self::Bitcoin => 8332,
            Self::Testnet => 18332,
            Self::Testnet4 => 48332,
            Self::Signet => 38332,
            Self::Regtest => 18443,
        }
    }
    /// True where only tests are lost.
    pub const fn is_test(self) -> bool {
        !matches!(self, Self::Bitcoin)
    }
    /// For rust-bitcoin.
    pub const fn bitcoin(self) -> bitcoin::Network {
        match self {
            Self::Bitcoin => bitcoin::Network::Bitcoin,
            Self::Testnet => bitcoin::Network::Testnet,
            Self::Testnet4 => bitcoin::Network::Testnet4,
            Self::Signet => bitcoin::Network::Signet,
            Self::Regtest => bitcoin::Network::Regtest,
        }
    }
    /// The genesis block's hash in wire order: `chain_hash` of BOLT 0.
    pub fn chain_hash(self) -> [u8; 32] {
        bitcoin::constants::ChainHash::using_genesis_block(self.bitcoin()).to_bytes()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
impl FromStr for Network {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|n| n.name() == s).ok_or_else(|| {
            format!("unknown network '{s}': this node knows regtest, signet, testnet and testnet4")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::hex::FromHex;

    fn hash(text: &str) -> Option<[u8; 32]> {
        let mut bytes = <[u8; 32]>::from_hex(text).ok()?;
        bytes.reverse();
        Some(bytes)
    }

    #[test]
    fn chain_hashes_are_the_genesis_blocks() {
        for (network, genesis) in [
            (Network::Bitcoin, "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f"),
            (Network::Regtest, "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206"),
            (Network::Signet, "00000008819873e925422c1ff0f99f7cc9bbb232af63a077a480a3633bee1ef6"),
            (Network::Testnet4, "00000000da84f2bafbbc53dee25a72ae507ff4914b867c565be350b0da8bf043"),
        ] {
            assert_eq!(Some(network.chain_hash()), hash(genesis), "{network}");
        }
    }
}

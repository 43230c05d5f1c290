//! Keys that Core Lightning derives from two secret files, as its tools print them.

use crate::channel_keys::ChannelKeys;
use crate::derive::{NodeKeys, Root};
use crate::wallet::{address_key, p2tr, p2wpkh};
use bip39::Mnemonic;
use bitcoin::Address;
use hex::FromHex;
use primitives::*;
use secp256k1::SECP256K1;
use zeroize::Zeroizing;

struct Case {
    root: fn() -> Root,
    node_id: &'static str,
    /// bech32 and p2tr of addresses 1, 2, 3.
    addresses: [(&'static str, &'static str); 3],
    makesecret_abc: &'static str,
    channels: [Channel; 2],
}
/// With the peer whose node key is 1.
struct Channel {
    number: u64,
    seed: &'static str,
    /// Secret and point of commitments 0, 1, 2.
    commitments: [(&'static str, &'static str); 3],
}

fn raw() -> Root {
    let mut bytes = [0; 32];
    bytes.iter_mut().zip(1..).for_each(|(b, n)| *b = n);
    Root::Raw(Zeroizing::new(bytes))
}
fn words() -> Root {
    let words = format!("{}about", "abandon ".repeat(11));
    Root::Seed(Zeroizing::new(Mnemonic::parse(words).unwrap().to_seed("")))
}

const CASES: [Case; 2] = [
    Case {
        root: raw,
        node_id: "037d8d1109836a88daf2b86d6e52e12351f9c274f597b78eca941525b309096ca8",
        addresses: [
            (
                "bcrt1q9vvn4cz74j5alyrfrt3swx0qszjkl89v9mpcth",
                "bcrt1p639dph680ugyyeyskckpageaupxlql5vdk4gcctgtj6yvtpkd30sflj3vu",
            ),
            (
                "bcrt1q6uyxthdppktknzp8cctwd7jvd86nnq0d27mgw3",
                "bcrt1pjzzn4g89ntnnmg2vlmpvnaw3qvmvc574jhts2us998kcgwe903wqg2qt2t",
            ),
            (
                "bcrt1q06ckrx29348yndlepf4eyzz29p0rw2405qjdyu",
                "bcrt1p4av37ry2eaxhgvnpu5jks974l9vts6vl8t2sa2u94zx0fcufgats9hdjhc",
            ),
        ],
        makesecret_abc: "2c4ea81878ce38819170aeb224f3ede86bc5731fb8134cecedff115aef78b442",
        channels: [
            Channel {
                number: 1,
                seed: "d045d0308862b580ed29a4a02af8a6277cc1812c9d071797e1581e34cf21f28c",
                commitments: [
                    (
                        "4d35aadf6f302aabfe81ff21a525c7c1a4d45f35782e9bc3e2edf182945cf5e8",
                        "0260c2867ce0b5fec3075f061c30e5131a3bd848f8773d7a8049f0b7f44a8fa262",
                    ),
                    (
                        "2ef0484fe6b91875aa785e29a1c1c7562c902f50e2a19fe8d479840409ed3a19",
                        "03890ad513dc5de7e4d8803af00bd1cfdf6a0570d0dfe3b99e1aaa2de1ffa358a7",
                    ),
                    (
                        "f72e20ad7d25b9e0ee018ccf2f3e52d1b08519c812bae4003b77f85226a58d7a",
                        "027ffd412f7786923a890bd77c5f7d46cb4594b9b8daf05fda2cf1b23e1c7a75d8",
                    ),
                ],
            },
            Channel {
                number: 2,
                seed: "cb21fa0145b60aa30ad03a2f7c272889a506f73aff9483dc658cf4b7aa02ff5d",
                commitments: [
                    (
                        "7ab37b0ecca15a838cdc8a11c5bd819f2453be3931c6a29d632a0f7e1a43dffa",
                        "030aa16c5412adab4ef253539207f4bc61be8a3810439dbcb5159acd3fb6ebcef9",
                    ),
                    (
                        "7454a86a75744eea5961a6dd46baa0dc85c7e2d36d7afbf48bcf7dc18263242d",
                        "02b2277b75823e464e9098848a46595c108f917043a4e12986a9bc580a4241cb0d",
                    ),
                    (
                        "7794b1635593a6df39061f0855a90994f88df2fe2f5fe3d00d467a645183dfc0",
                        "035b6416f9f83ea0c89bcbf376119b2b8217a7775647a4dd9ea05541c4a9c44391",
                    ),
                ],
            },
        ],
    },
    Case {
        root: words,
        node_id: "03653e90c1ce4660fd8505dd6d643356e93cfe202af109d382787639dd5890e87d",
        addresses: [
            (
                "bcrt1qytm2qwnmv7lys5w6gpfxfzydwpwey5dyadvmqq",
                "bcrt1p4qhjn9zdvkux4e44uhx8tc55attvtyu358kutcqkudyccelu0waslcutpz",
            ),
            (
                "bcrt1q3cjqwz6gvaq7u3cwuueeg370cpratsyg00rg4s",
                "bcrt1p0d0rhyynq0awa9m8cqrcr8f5nxqx3aw29w4ru5u9my3h0sfygnzsl8t0dj",
            ),
            (
                "bcrt1qef29l455d8erlyng8vum68wwxq0uv9dydcy5fs",
                "bcrt1py0vryk8aqusz65yzuudypggvswzkcpwtau8q0sjm0stctwup0xlqv86kkk",
            ),
        ],
        makesecret_abc: "73111095940162b70d5f2170ebab72ca0aa0e0a9747afd0d057d4ad6d7f39a02",
        channels: [
            Channel {
                number: 1,
                seed: "b506374f55dbb496b6c248480dc9e24f6abcc9ece96d115c680193f25557922a",
                commitments: [
                    (
                        "384ef91309454387ee770570e14cb07fa2af9f73a14e8794ee4f40aa2cffcdad",
                        "03908a969abab180497e677ec478b7764d4458b8429200c1bbbee2b89d3dc491a1",
                    ),
                    (
                        "a6818d4583564695a78c0811e9429038dd830e55686f810e4bbca82b8eb20f80",
                        "03f727047ba680e915edb9eeaf4a6eef83c8055b094ee47881fa93ed6de0485b0c",
                    ),
                    (
                        "c4e5244d994e2929aedbdae5c9aefd42f5fce35dec81840b13bb0c969e1dacf1",
                        "03985d64fb89e9db76eaa67b9d457044dd9cd36e07fb0b16ffb79d135705eb510d",
                    ),
                ],
            },
            Channel {
                number: 2,
                seed: "b10ffc4f803a11ec4340400b9e9176f23ce6ca23054a092bb1dd8aba74d44e74",
                commitments: [
                    (
                        "09ad29e768c8658e5f3492203254189e56155e8b87d553845e6f21770a29a2f9",
                        "02727174b028a28353201b076fd5608ed26c6b8b94e3628f13c0c7c87247353660",
                    ),
                    (
                        "644b94d7d51050ff06462e7152a5c5771533bebe61b29abb96645c8b7924ac36",
                        "025dc02c85fdb097c8f515604c9c22b6c76ad1dbaf46bbe7248c10169ec335b0cb",
                    ),
                    (
                        "9d4a878f15baa8005d66c960855e4ba8173ce2ebe64e4a2028076369bc694abe",
                        "034f15f839a8cd59a1e938846be2f26a3e9eabfffb8328b3cd04d8f2f120f175a1",
                    ),
                ],
            },
        ],
    },
];

const PEER: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";

#[test]
fn keys_are_those_that_cln_derives() {
    for case in &CASES {
        let node = NodeKeys::derive(&(case.root)(), Network::Regtest);
        assert_eq!(node.node_id.to_string(), case.node_id);
        let secret = node.make_secret(b"abc");
        assert_eq!(*secret.expose(), <[u8; 32]>::from_hex(case.makesecret_abc).unwrap());
        for (index, (bech32, taproot)) in (1..).zip(case.addresses) {
            let key = Point::from_secret_key(SECP256K1, &address_key(&node, index).unwrap());
            for (script, address) in [(p2wpkh(&key), bech32), (p2tr(&key), taproot)] {
                let made = Address::from_script(&script, bitcoin::Network::Regtest).unwrap();
                assert_eq!(made.to_string(), address);
            }
        }
        for channel in &case.channels {
            let (peer, number) = (PEER.parse().unwrap(), ChannelNumber(channel.number));
            let bytes = node.channel_secrets(&peer, number);
            assert_eq!(bytes.expose()[160..], <[u8; 32]>::from_hex(channel.seed).unwrap());
            let keys = ChannelKeys::derive(&node, &peer, number).unwrap();
            for (n, (secret, point)) in (0..).zip(channel.commitments) {
                let n = CommitmentNumber(n);
                let expected = <[u8; 32]>::from_hex(secret).unwrap();
                assert_eq!(keys.secret(n).unwrap().secret_bytes(), expected);
                assert_eq!(keys.point(n).unwrap().to_string(), point);
            }
        }
    }
}

#[test]
fn xpub_that_the_master_gets_has_the_addresses_as_children() {
    for case in &CASES {
        let node = NodeKeys::derive(&(case.root)(), Network::Regtest);
        let xpub = bitcoin::bip32::Xpub::decode(&node.wallet_xpub()).unwrap();
        let child = bitcoin::bip32::ChildNumber::Normal { index: 1 };
        let key = xpub.derive_pub(SECP256K1, &[child]).unwrap().public_key;
        let made = Address::from_script(&p2tr(&key), bitcoin::Network::Regtest).unwrap();
        assert_eq!(made.to_string(), case.addresses[0].1);
    }
}

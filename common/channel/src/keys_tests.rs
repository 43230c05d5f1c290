//! BOLT 3, appendices D and E.

use super::*;
use hex::FromHex;

fn bytes(text: &str) -> [u8; 32] {
    <[u8; 32]>::from_hex(text).unwrap()
}
fn key(text: &str) -> SecretKey {
    SecretKey::from_slice(&bytes(text)).unwrap()
}

#[test]
fn secrets_are_generated_as_in_appendix_d() {
    for (seed, index, output) in [
        (
            "0000000000000000000000000000000000000000000000000000000000000000",
            0xffffffffffff,
            "02a40c85b6f28da08dfdbe0926c53fab2de6d28c10301f8f7c4073d5e42e3148",
        ),
        (
            "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
            0xffffffffffff,
            "7cc854b54e3e0dcdb010d7a3fee464a9687be6e8db3be6854c475621e007a5dc",
        ),
        (
            "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
            0xaaaaaaaaaaa,
            "56f4008fb007ca9acf0e15b054d5c9fd12ee06cea347914ddbaed70d1c13a528",
        ),
        (
            "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
            0x555555555555,
            "9015daaeb06dba4ccc05b91b2f73bd54405f2be9f217fbacd3c5ac2e62327d31",
        ),
        (
            "0101010101010101010101010101010101010101010101010101010101010101",
            0x1,
            "915c75942a26bb3a433a8ce2cb0427c29ec6c1775cfc78328b57f6ba7bfeaa9c",
        ),
    ] {
        assert_eq!(
            generate_from_seed(&Secret::new(bytes(seed)), index),
            Secret::new(bytes(output))
        );
    }
}

/// From index 2^48 - 1 downwards; the last is refused where `refused`.
struct Sequence {
    name: &'static str,
    secrets: &'static [&'static str],
    refused: bool,
}

const SEQUENCES: &[Sequence] = &[
    Sequence {
        name: "insert_secret correct sequence",
        secrets: &[
            "7cc854b54e3e0dcdb010d7a3fee464a9687be6e8db3be6854c475621e007a5dc",
            "c7518c8ae4660ed02894df8976fa1a3659c1a8b4b5bec0c4b872abeba4cb8964",
            "2273e227a5b7449b6e70f1fb4652864038b1cbf9cd7c043a7d6456b7fc275ad8",
            "27cddaa5624534cb6cb9d7da077cf2b22ab21e9b506fd4998a51d54502e99116",
            "c65716add7aa98ba7acb236352d665cab17345fe45b55fb879ff80e6bd0c41dd",
            "969660042a28f32d9be17344e09374b379962d03db1574df5a8a5a47e19ce3f2",
            "a5a64476122ca0925fb344bdc1854c1c0a59fc614298e50a33e331980a220f32",
            "05cde6323d949933f7f7b78776bcc1ea6d9b31447732e3802e1f7ac44b650e17",
        ],
        refused: false,
    },
    Sequence {
        name: "insert_secret #1 incorrect",
        secrets: &[
            "02a40c85b6f28da08dfdbe0926c53fab2de6d28c10301f8f7c4073d5e42e3148",
            "c7518c8ae4660ed02894df8976fa1a3659c1a8b4b5bec0c4b872abeba4cb8964",
        ],
        refused: true,
    },
    Sequence {
        name: "insert_secret #2 incorrect (#1 derived from incorrect)",
        secrets: &[
            "02a40c85b6f28da08dfdbe0926c53fab2de6d28c10301f8f7c4073d5e42e3148",
            "dddc3a8d14fddf2b68fa8c7fbad2748274937479dd0f8930d5ebb4ab6bd866a3",
            "2273e227a5b7449b6e70f1fb4652864038b1cbf9cd7c043a7d6456b7fc275ad8",
            "27cddaa5624534cb6cb9d7da077cf2b22ab21e9b506fd4998a51d54502e99116",
        ],
        refused: true,
    },
    Sequence {
        name: "insert_secret #3 incorrect",
        secrets: &[
            "7cc854b54e3e0dcdb010d7a3fee464a9687be6e8db3be6854c475621e007a5dc",
            "c7518c8ae4660ed02894df8976fa1a3659c1a8b4b5bec0c4b872abeba4cb8964",
            "c51a18b13e8527e579ec56365482c62f180b7d5760b46e9477dae59e87ed423a",
            "27cddaa5624534cb6cb9d7da077cf2b22ab21e9b506fd4998a51d54502e99116",
        ],
        refused: true,
    },
    Sequence {
        name: "insert_secret #4 incorrect (1,2,3 derived from incorrect)",
        secrets: &[
            "02a40c85b6f28da08dfdbe0926c53fab2de6d28c10301f8f7c4073d5e42e3148",
            "dddc3a8d14fddf2b68fa8c7fbad2748274937479dd0f8930d5ebb4ab6bd866a3",
            "c51a18b13e8527e579ec56365482c62f180b7d5760b46e9477dae59e87ed423a",
            "ba65d7b0ef55a3ba300d4e87af29868f394f8f138d78a7011669c79b37b936f4",
            "c65716add7aa98ba7acb236352d665cab17345fe45b55fb879ff80e6bd0c41dd",
            "969660042a28f32d9be17344e09374b379962d03db1574df5a8a5a47e19ce3f2",
            "a5a64476122ca0925fb344bdc1854c1c0a59fc614298e50a33e331980a220f32",
            "05cde6323d949933f7f7b78776bcc1ea6d9b31447732e3802e1f7ac44b650e17",
        ],
        refused: true,
    },
    Sequence {
        name: "insert_secret #5 incorrect",
        secrets: &[
            "7cc854b54e3e0dcdb010d7a3fee464a9687be6e8db3be6854c475621e007a5dc",
            "c7518c8ae4660ed02894df8976fa1a3659c1a8b4b5bec0c4b872abeba4cb8964",
            "2273e227a5b7449b6e70f1fb4652864038b1cbf9cd7c043a7d6456b7fc275ad8",
            "27cddaa5624534cb6cb9d7da077cf2b22ab21e9b506fd4998a51d54502e99116",
            "631373ad5f9ef654bb3dade742d09504c567edd24320d2fcd68e3cc47e2ff6a6",
            "969660042a28f32d9be17344e09374b379962d03db1574df5a8a5a47e19ce3f2",
        ],
        refused: true,
    },
    Sequence {
        name: "insert_secret #6 incorrect (5 derived from incorrect)",
        secrets: &[
            "7cc854b54e3e0dcdb010d7a3fee464a9687be6e8db3be6854c475621e007a5dc",
            "c7518c8ae4660ed02894df8976fa1a3659c1a8b4b5bec0c4b872abeba4cb8964",
            "2273e227a5b7449b6e70f1fb4652864038b1cbf9cd7c043a7d6456b7fc275ad8",
            "27cddaa5624534cb6cb9d7da077cf2b22ab21e9b506fd4998a51d54502e99116",
            "631373ad5f9ef654bb3dade742d09504c567edd24320d2fcd68e3cc47e2ff6a6",
            "b7e76a83668bde38b373970155c868a653304308f9896692f904a23731224bb1",
            "a5a64476122ca0925fb344bdc1854c1c0a59fc614298e50a33e331980a220f32",
            "05cde6323d949933f7f7b78776bcc1ea6d9b31447732e3802e1f7ac44b650e17",
        ],
        refused: true,
    },
    Sequence {
        name: "insert_secret #7 incorrect",
        secrets: &[
            "7cc854b54e3e0dcdb010d7a3fee464a9687be6e8db3be6854c475621e007a5dc",
            "c7518c8ae4660ed02894df8976fa1a3659c1a8b4b5bec0c4b872abeba4cb8964",
            "2273e227a5b7449b6e70f1fb4652864038b1cbf9cd7c043a7d6456b7fc275ad8",
            "27cddaa5624534cb6cb9d7da077cf2b22ab21e9b506fd4998a51d54502e99116",
            "c65716add7aa98ba7acb236352d665cab17345fe45b55fb879ff80e6bd0c41dd",
            "969660042a28f32d9be17344e09374b379962d03db1574df5a8a5a47e19ce3f2",
            "e7971de736e01da8ed58b94c2fc216cb1dca9e326f3a96e7194fe8ea8af6c0a3",
            "05cde6323d949933f7f7b78776bcc1ea6d9b31447732e3802e1f7ac44b650e17",
        ],
        refused: true,
    },
    Sequence {
        name: "insert_secret #8 incorrect",
        secrets: &[
            "7cc854b54e3e0dcdb010d7a3fee464a9687be6e8db3be6854c475621e007a5dc",
            "c7518c8ae4660ed02894df8976fa1a3659c1a8b4b5bec0c4b872abeba4cb8964",
            "2273e227a5b7449b6e70f1fb4652864038b1cbf9cd7c043a7d6456b7fc275ad8",
            "27cddaa5624534cb6cb9d7da077cf2b22ab21e9b506fd4998a51d54502e99116",
            "c65716add7aa98ba7acb236352d665cab17345fe45b55fb879ff80e6bd0c41dd",
            "969660042a28f32d9be17344e09374b379962d03db1574df5a8a5a47e19ce3f2",
            "a5a64476122ca0925fb344bdc1854c1c0a59fc614298e50a33e331980a220f32",
            "a7efbc61aac46d34f77778bac22c8a20c6a46ca460addc49009bda875ec88fa4",
        ],
        refused: true,
    },
];

#[test]
fn secrets_are_stored_and_refused_as_in_appendix_d() {
    for sequence in SEQUENCES {
        let mut chain = Shachain::default();
        for (i, secret) in sequence.secrets.iter().enumerate() {
            let index = FIRST_INDEX - i as u64;
            match chain.insert(index, Secret::new(bytes(secret))) {
                Ok(next) => chain = next,
                Err(wrong) => {
                    assert_eq!(wrong, WrongSecret { index });
                    assert!(
                        sequence.refused && i + 1 == sequence.secrets.len(),
                        "{}",
                        sequence.name
                    );
                    return;
                }
            }
        }
        assert!(!sequence.refused, "{}", sequence.name);
        for (i, secret) in sequence.secrets.iter().enumerate() {
            assert_eq!(chain.get(FIRST_INDEX - i as u64), Some(Secret::new(bytes(secret))));
        }
        assert_eq!(chain.get(FIRST_INDEX - 8), None);
        assert_eq!(Shachain::from_stored(chain.stored()), Some(chain));
    }
}

#[test]
fn long_chain_stays_small_and_gives_back_every_secret() {
    let seed = Secret::new([7; 32]);
    let mut chain = Shachain::default();
    for i in 0..600 {
        let index = FIRST_INDEX - i;
        chain = chain.insert(index, generate_from_seed(&seed, index)).unwrap();
    }
    assert!(chain.stored().len() <= 11);
    for i in 0..600 {
        assert_eq!(chain.get(FIRST_INDEX - i), Some(generate_from_seed(&seed, FIRST_INDEX - i)));
    }
    assert!(chain.get(FIRST_INDEX - 600).is_none());
}

#[test]
fn store_with_two_secrets_for_one_place_is_refused() {
    let one = StoredSecret { index: 1, secret: Secret::new([1; 32]) };
    let three = StoredSecret { index: 3, secret: Secret::new([3; 32]) };
    assert!(Shachain::from_stored(std::slice::from_ref(&one)).is_some());
    assert!(Shachain::from_stored(&[one, three]).is_none());
    let beyond = StoredSecret { index: 1 << 48, secret: Secret::new([1; 32]) };
    assert!(Shachain::from_stored(&[beyond]).is_none());
}

const BASE_SECRET: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const COMMITMENT_SECRET: &str = "1f1e1d1c1b1a191817161514131211100f0e0d0c0b0a09080706050403020100";

#[test]
fn keys_are_derived_as_in_appendix_e() {
    let (base, secret) = (key(BASE_SECRET), key(COMMITMENT_SECRET));
    let base_point = Point::from_secret_key(SECP256K1, &base);
    let point = Point::from_secret_key(SECP256K1, &secret);
    assert_eq!(
        base_point.to_string(),
        "036d6caac248af96f6afa7f904f550253a0f3ef3f5aa2fe6838a95b216691468e2"
    );
    assert_eq!(
        point.to_string(),
        "025f7117a78150fe2ef97db7cfc83bd57b2e2c0d0dd25eaf467a4a1c2a45ce1486"
    );

    let derived = derive_point(&base_point, &point);
    assert_eq!(
        derived.to_string(),
        "0235f2dbfaa89b57ec7b055afe29849ef7ddfeb1cefdb9ebdc43f5494984db29e5"
    );
    let private = derive_secret(&base, &base_point, &point);
    assert_eq!(private, key("cbced912d3b21bf196a766651e436aff192362621ce317704ea2f75d87e7be0f"));
    assert_eq!(Point::from_secret_key(SECP256K1, &private), derived);

    let revocation = revocation_point(&base_point, &point);
    assert_eq!(
        revocation.to_string(),
        "02916e326636d19c33f13e8c0c3a03dd157f332f3e99c317c141dd865eb01f8ff0"
    );
    assert_eq!(revocation_point_from_base(SECP256K1, &base, &base_point, &point), revocation);
    let private = revocation_secret(SECP256K1, &base, &secret);
    assert_eq!(private, key("d09ffff62ddb2297ab000cc85bcb4283fdeb6aa052affbc9dddcf33b61078110"));
    assert_eq!(Point::from_secret_key(SECP256K1, &private), revocation);
}

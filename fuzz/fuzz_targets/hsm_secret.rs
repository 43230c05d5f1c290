//! The file `hsm_secret`: any bytes, with and without a passphrase.

pub fn run(data: &[u8]) {
    let Some((mode, data)) = data.split_first() else { return };
    let passphrase = (mode % 2 == 1).then_some("passphrase");
    let is_secret = hsmd::fuzzing::reads_as_secret(data, passphrase);
    assert!(!is_secret || data.len() >= 32, "a secret of {} bytes", data.len());
}

//! Where a mutual close may pay to. BOLT 2, "Closing Initiation", shutdown.

use crate::constants::Format;
use bitcoin::{Script, WitnessVersion};

/// Which forms of a script were negotiated beside the two that everybody takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Forms {
    /// option_shutdown_anysegwit: witness versions 1 to 16.
    pub any_segwit: bool,
    /// option_simple_close: OP_RETURN with 6 to 80 bytes.
    pub op_return: bool,
}

impl Forms {
    /// May this be the `scriptpubkey` of a shutdown, or an `upfront_shutdown_script` that is not
    /// empty?
    pub fn allow(self, script: &Script) -> bool {
        if script.is_p2wpkh() || script.is_p2wsh() {
            return true;
        }
        match script.witness_version() {
            Some(WitnessVersion::V0) => false,
            Some(_) => self.any_segwit,
            None => self.op_return && is_short_op_return(script),
        }
    }

    /// May the peer name this one, in a channel of that format? BOLT 2, shutdown, rationale: old
    /// nodes say P2PKH and P2SH. Those have no option_anchors. We never name one, and an output
    /// below the dust limit of its script fails the channel.
    pub fn allow_from_peer(self, script: &Script, format: Format) -> bool {
        let old = !format.has_anchors() && (script.is_p2pkh() || script.is_p2sh());
        old || self.allow(script)
    }
}

/// OP_RETURN, then 6 to 75 bytes pushed at once, or 76 to 80 by OP_PUSHDATA1; and nothing else.
fn is_short_op_return(script: &Script) -> bool {
    match script.as_bytes() {
        [0x6a, 0x4c, len @ 76..=80, data @ ..] => data.len() == usize::from(*len),
        [0x6a, len @ 6..=75, data @ ..] => data.len() == usize::from(*len),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Forms = Forms { any_segwit: false, op_return: false };
    const ANY: Forms = Forms { any_segwit: true, op_return: false };
    const DATA: Forms = Forms { any_segwit: false, op_return: true };

    fn script(head: &[u8], len: usize) -> Vec<u8> {
        [head, &vec![7; len]].concat()
    }

    #[test]
    fn shutdown_script_has_one_of_the_forms_that_were_negotiated() {
        for (bytes, none, any, data) in [
            (script(&[0x00, 20], 20), true, true, true),
            (script(&[0x00, 32], 32), true, true, true),
            (script(&[0x00, 21], 21), false, false, false),
            (script(&[0x00, 20], 21), false, false, false),
            (script(&[0x51, 32], 32), false, true, false),
            (script(&[0x60, 40], 40), false, true, false),
            (script(&[0x51, 2], 2), false, true, false),
            (script(&[0x51, 1], 1), false, false, false),
            (script(&[0x51, 41], 41), false, false, false),
            (script(&[0x61, 32], 32), false, false, false),
            (script(&[0x76, 0xa9, 20], 22), false, false, false),
            (script(&[0x6a, 6], 6), false, false, true),
            (script(&[0x6a, 75], 75), false, false, true),
            (script(&[0x6a, 5], 5), false, false, false),
            (script(&[0x6a, 6], 7), false, false, false),
            (script(&[0x6a, 0x4c, 76], 76), false, false, true),
            (script(&[0x6a, 0x4c, 80], 80), false, false, true),
            (script(&[0x6a, 0x4c, 81], 81), false, false, false),
            (script(&[0x6a, 0x4c, 75], 75), false, false, false),
            (vec![], false, false, false),
            (vec![0x6a], false, false, false),
        ] {
            let got = [NONE, ANY, DATA].map(|f| f.allow(Script::from_bytes(&bytes)));
            assert_eq!(got, [none, any, data], "{bytes:02x?}");
        }
    }

    /// BOLT 2, shutdown, rationale: non-segwit scripts of old nodes.
    #[test]
    fn shutdown_to_p2pkh_or_p2sh_is_taken_from_old_nodes() {
        let p2pkh = [&[0x76, 0xa9, 20][..], &[7; 20], &[0x88, 0xac]].concat();
        let p2sh = [&[0xa9, 20][..], &[7; 20], &[0x87]].concat();
        let (odd, segwit) = (script(&[0xa9, 20], 21), script(&[0x00, 20], 20));
        for (bytes, plain, anchors) in [
            (p2pkh, true, false),
            (p2sh, true, false),
            (odd, false, false),
            (segwit, true, true),
            (script(&[0x51, 32], 32), false, false),
        ] {
            let got = [Format::StaticRemoteKey, Format::Anchors]
                .map(|format| NONE.allow_from_peer(Script::from_bytes(&bytes), format));
            assert_eq!(got, [plain, anchors], "{bytes:02x?}");
        }
    }
}

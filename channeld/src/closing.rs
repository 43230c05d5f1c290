//! shutdown, by either side: said once our updates are signed, and the end of this daemon once nothing is pending.
//! BOLT 2, "Closing Initiation".

use crate::live::{Live, Phase};
use bitcoin::{Script, WitnessVersion};
use primitives::*;
use subdaemon::Failure;
use wire::Shutdown;
use wire::channeld::{ChanneldInit, GetShutdownScript, PersistShutdown};

/// Our own shutdown.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Ours {
    /// Nobody wants it.
    None,
    /// To be said.
    Due(ScriptBuf),
    /// To be said again on this connection: it is on disk.
    Again(ScriptBuf),
    /// Said on this connection.
    Said,
}

/// What is known about the end of the channel.
#[derive(Debug)]
pub(crate) struct Closing {
    ours: Ours,
    /// The peer's script, once it has said shutdown on this or an earlier connection.
    theirs: Option<ScriptBuf>,
    upfront: Sides<Option<ScriptBuf>>,
    anysegwit: bool,
}

impl Closing {
    pub(crate) fn new(init: &ChanneldInit) -> Self {
        let any = feature::SHUTDOWN_ANYSEGWIT;
        Self {
            ours: init.shutdown.local.clone().map_or(Ours::None, Ours::Again),
            theirs: init.shutdown.remote.clone(),
            upfront: init.upfront_script.clone(),
            anysegwit: init.local_features.offers(any) && init.remote_features.offers(any),
        }
    }
    /// The master wants the channel closed.
    pub(crate) fn wanted(&mut self, script: ScriptBuf) {
        if self.ours == Ours::None {
            self.ours = Ours::Due(script);
        }
    }
    /// Who has said shutdown, or is about to.
    pub(crate) fn is_begun(&self) -> Sides<bool> {
        Sides { local: self.ours != Ours::None, remote: self.theirs.is_some() }
    }
}

/// May a mutual close pay to this? BOLT 2, shutdown: the forms that every node relays.
pub(crate) fn may_pay_to(script: &Script, anysegwit: bool) -> bool {
    match script.witness_version() {
        Some(WitnessVersion::V0) => script.is_p2wpkh() || script.is_p2wsh(),
        Some(_) => anysegwit,
        None => false,
    }
}

impl Live {
    /// BOLT 2: not while the peer's next commitment would bring changes; then our signature goes first.
    pub(crate) fn may_say_shutdown(&self) -> bool {
        let due = matches!(self.closing.ours, Ours::Due(_) | Ours::Again(_));
        due && self.phase == Phase::Open
            && self.unsaid.is_empty()
            && !self.channel.has_changes_to_commit()
    }

    pub(crate) fn say_shutdown(&mut self) -> Result<(), Failure> {
        let scriptpubkey = match &self.closing.ours {
            Ours::None | Ours::Said => return Ok(()),
            Ours::Again(script) => script.clone(),
            Ours::Due(script) => {
                let script = script.clone();
                self.master.ask(&PersistShutdown { by: Side::Local, script: script.clone() })?;
                script
            }
        };
        self.closing.ours = Ours::Said;
        self.peer.send(&Shutdown { channel_id: self.id, scriptpubkey })
    }

    pub(crate) fn on_shutdown(&mut self, m: Shutdown) -> Result<(), Failure> {
        let script = m.scriptpubkey;
        let closing = &self.closing;
        if closing.upfront.remote.as_ref().is_some_and(|fixed| *fixed != script) {
            let text = "shutdown to another script than the one fixed when the channel was opened";
            return Err(Failure::PeerWarn(text.to_owned()));
        }
        if !may_pay_to(&script, closing.anysegwit) {
            let text = "shutdown to a script of a form that BOLT 2 does not list";
            return Err(Failure::PeerWarn(text.to_owned()));
        }
        match &closing.theirs {
            // Said again, after a reconnect for example.
            Some(known) if *known == script => return self.answer_shutdown(),
            Some(_) => {
                return Err(Failure::PeerWarn("a second shutdown, to another script".to_owned()));
            }
            None => {}
        }
        self.master.ask(&PersistShutdown { by: Side::Remote, script: script.clone() })?;
        self.closing.theirs = Some(script);
        self.answer_shutdown()
    }

    /// BOLT 2: the peer's is answered with ours, also where we ended between the two.
    pub(crate) fn answer_shutdown(&mut self) -> Result<(), Failure> {
        if self.closing.theirs.is_some() && self.closing.ours == Ours::None {
            let script = match self.closing.upfront.local.clone() {
                Some(fixed) => fixed,
                None => self.master.ask(&GetShutdownScript {})?,
            };
            self.closing.ours = Ours::Due(script);
        }
        Ok(())
    }

    /// Both have said shutdown and nothing is pending on either side: closingd's turn.
    pub(crate) fn is_ready_to_close(&self) -> bool {
        self.phase == Phase::Open
            && self.closing.ours == Ours::Said
            && self.closing.theirs.is_some()
            && self.unsaid.is_empty()
            && self.channel.is_quiet()
            && self.stored == self.channel
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_bolt_2_are_taken_and_no_others() {
        let program = |version: u8, length: usize| {
            let mut script = vec![version, length as u8];
            script.extend(vec![7; length]);
            ScriptBuf::from_bytes(script)
        };
        for (script, always, with_anysegwit) in [
            (program(0, 20), true, true),
            (program(0, 32), true, true),
            (program(0, 21), false, false),
            (program(0x51, 32), false, true),
            (program(0x51, 2), false, true),
            (program(0x60, 40), false, true),
            (program(0x60, 41), false, false),
            (program(0x51, 1), false, false),
            (program(0x61, 32), false, false),
            (ScriptBuf::new(), false, false),
            (program(0x6a, 20), false, false),
            (ScriptBuf::new_p2sh(&bitcoin::hashes::Hash::from_byte_array([1; 20])), false, false),
        ] {
            assert_eq!(may_pay_to(&script, false), always, "{script}");
            assert_eq!(may_pay_to(&script, true), with_anysegwit, "{script}");
        }
    }
}

//! shutdown, by either side: said once our updates are signed, and the end of this daemon once
//! nothing is pending. BOLT 2, "Closing Initiation".

use crate::closing::{Ours, Theirs};
use crate::live::{Live, Phase};
use primitives::*;
use subdaemon::Failure;
use wire::Shutdown;
use wire::channeld::{GetShutdownScript, PersistShutdown};

impl Live {
    /// BOLT 2: not while the peer's next commitment would bring changes; then our signature goes
    /// first.
    pub(crate) fn may_say_shutdown(&self) -> bool {
        let due = matches!(self.closing.ours, Ours::Wanted(_) | Ours::Again(_));
        due && self.phase == Phase::Open
            && self.unsaid.is_empty()
            && !self.channel.has_changes_to_commit()
    }

    pub(crate) fn say_shutdown(&mut self) -> Result<(), Failure> {
        let scriptpubkey = match &self.closing.ours {
            Ours::None | Ours::Said => return Ok(()),
            Ours::Again(script) | Ours::Wanted(script) => script.clone(),
        };
        // Also where the script is stored already, as after a `close` without a connection: the
        // master notes which HTLCs of the peer come after our first shutdown.
        let script = scriptpubkey.clone();
        self.master.ask(&PersistShutdown { by: Side::Local, script })?;
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
        let format = self.channel.constants().format;
        if !closing.forms.allow_from_peer(&script, format) {
            let text = "shutdown to a script of a form that BOLT 2 does not list";
            return Err(Failure::PeerWarn(text.to_owned()));
        }
        match closing.theirs.script() {
            // Said again, after a reconnect for example.
            Some(known) if *known == script => {}
            Some(_) => {
                return Err(Failure::PeerWarn("a second shutdown, to another script".to_owned()));
            }
            None => {
                let script = script.clone();
                self.master.ask(&PersistShutdown { by: Side::Remote, script })?;
            }
        }
        self.closing.theirs = Theirs::Said(script);
        self.answer_shutdown()
    }

    /// BOLT 2: the peer's is answered with ours, also where we ended between the two.
    pub(crate) fn answer_shutdown(&mut self) -> Result<(), Failure> {
        if self.closing.theirs != Theirs::None && self.closing.ours == Ours::None {
            let script = match self.closing.upfront.local.clone() {
                Some(fixed) => fixed,
                None => self.master.ask(&GetShutdownScript {})?,
            };
            self.closing.ours = Ours::Wanted(script);
        }
        Ok(())
    }

    /// The peer has said all that it can say before closing_signed, and that may lie in the socket
    /// already: nothing more is read before what is due is done.
    pub(crate) fn is_about_to_close(&self) -> bool {
        self.phase == Phase::Open
            && self.closing.ours != Ours::None
            && self.closing.theirs.is_said()
            && self.unsaid.is_empty()
            && self.channel.is_quiet()
    }

    /// Both have said shutdown and nothing is pending on either side: closingd's turn.
    pub(crate) fn is_ready_to_close(&self) -> bool {
        self.is_about_to_close() && self.closing.ours == Ours::Said && self.stored == self.channel
    }
}

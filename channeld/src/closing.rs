//! shutdown, by either side: said once our updates are signed, and the end of this daemon once nothing is pending.
//! BOLT 2, "Closing Initiation".

use crate::live::{Live, Phase};
use channel::shutdown::Forms;
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

/// The peer's shutdown.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Theirs {
    /// It said none.
    None,
    /// On an earlier connection. BOLT 2, "Message Retransmission": it says it again, and before that closingd has nothing to
    /// do here.
    Before(ScriptBuf),
    /// On this connection.
    Said(ScriptBuf),
}

impl Theirs {
    const fn script(&self) -> Option<&ScriptBuf> {
        match self {
            Self::None => None,
            Self::Before(script) | Self::Said(script) => Some(script),
        }
    }
    const fn is_said(&self) -> bool {
        matches!(self, Self::Said(_))
    }
}

/// What is known about the end of the channel.
#[derive(Debug)]
pub(crate) struct Closing {
    ours: Ours,
    theirs: Theirs,
    upfront: Sides<Option<ScriptBuf>>,
    forms: Forms,
}

impl Closing {
    pub(crate) fn new(init: &ChanneldInit) -> Self {
        let negotiated =
            |feature| init.local_features.offers(feature) && init.remote_features.offers(feature);
        Self {
            ours: init.shutdown.local.clone().map_or(Ours::None, Ours::Again),
            theirs: init.shutdown.remote.clone().map_or(Theirs::None, Theirs::Before),
            upfront: init.upfront_script.clone(),
            forms: Forms {
                any_segwit: negotiated(feature::SHUTDOWN_ANYSEGWIT),
                op_return: negotiated(feature::SIMPLE_CLOSE),
            },
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
        Sides { local: self.ours != Ours::None, remote: self.theirs != Theirs::None }
    }
    /// Has the peer said it on this connection? What it said before it, it says again before it.
    pub(crate) const fn is_said_by_peer(&self) -> bool {
        self.theirs.is_said()
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
            Ours::Again(script) | Ours::Due(script) => script.clone(),
        };
        // Also where the script is stored already, as after a `close` without a connection: the master notes which HTLCs of the
        // peer come after our first shutdown.
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
            self.closing.ours = Ours::Due(script);
        }
        Ok(())
    }

    /// The peer has said all that it can say before closing_signed, and that may lie in the socket already: nothing more is read
    /// before what is due is done.
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

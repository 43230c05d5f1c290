//! What is known of both sides' shutdown. BOLT 2, "Closing Initiation".

use channel::shutdown::Forms;
use primitives::*;
use wire::channeld::ChanneldInit;

/// Our own shutdown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ours {
    /// Neither lightningd nor the peer asked for it.
    None,
    /// To be said.
    Wanted(ScriptBuf),
    /// To be said again on this connection: it is on disk.
    Again(ScriptBuf),
    /// Said on this connection.
    Said,
}

/// The peer's shutdown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Theirs {
    /// No shutdown of the peer's is known.
    None,
    /// On an earlier connection. BOLT 2, "Message Retransmission": it says it again, and before
    /// that closingd has nothing to do here.
    Before(ScriptBuf),
    /// On this connection.
    Said(ScriptBuf),
}

impl Theirs {
    pub(crate) const fn script(&self) -> Option<&ScriptBuf> {
        match self {
            Self::None => None,
            Self::Before(script) | Self::Said(script) => Some(script),
        }
    }
    pub(crate) const fn is_said(&self) -> bool {
        matches!(self, Self::Said(_))
    }
}

/// Both sides' shutdown, and which scripts they may use.
#[derive(Debug)]
pub(crate) struct Closing {
    pub(crate) ours: Ours,
    pub(crate) theirs: Theirs,
    pub(crate) upfront: Sides<Option<ScriptBuf>>,
    pub(crate) forms: Forms,
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
            self.ours = Ours::Wanted(script);
        }
    }
    /// The sides that have sent shutdown, or are about to.
    pub(crate) fn is_begun(&self) -> Sides<bool> {
        Sides { local: self.ours != Ours::None, remote: self.theirs != Theirs::None }
    }
    /// Has the peer said it on this connection? What it said before it, it says again before it.
    pub(crate) const fn is_said_by_peer(&self) -> bool {
        self.theirs.is_said()
    }
}

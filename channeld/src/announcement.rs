//! Our half of the channel's announcement: whether it is said, and where the funding is. BOLT 7,
//! "The announcement_signatures Message".

use primitives::ShortChannelId;
use wire::channeld::ChanneldInit;

/// Our half of the channel's announcement.
#[derive(Debug)]
pub(crate) enum Announcement {
    /// A private channel.
    Never,
    /// A public one.
    Public {
        /// Where it is, once that is deep enough.
        at: Option<ShortChannelId>,
        /// Does the peer want ours on this connection?
        wanted: bool,
        /// Ours went out on this connection.
        said: bool,
        /// short_channel_ids of the peer's announcement_signatures on this connection. Each costs a
        /// write to disk, so they are bounded.
        heard: Vec<ShortChannelId>,
    },
}

impl Announcement {
    pub(crate) fn new(init: &ChanneldInit) -> Self {
        if init.announce {
            // BOLT 7: on a new connection ours goes out if theirs never came.
            let wanted = !init.have_announcement;
            Self::Public { at: init.announceable, wanted, said: false, heard: Vec::new() }
        } else {
            Self::Never
        }
    }
    pub(crate) fn is_at(&mut self, scid: ShortChannelId) {
        match self {
            Self::Never => {}
            Self::Public { at, wanted, said, .. } => {
                // A reorganisation moved the funding: what was said is void.
                if at.is_some_and(|old| old != scid) {
                    (*wanted, *said) = (true, false);
                }
                *at = Some(scid);
            }
        }
    }
    pub(crate) fn is_wanted(&mut self) {
        match self {
            Self::Never => {}
            Self::Public { wanted, .. } => *wanted = true,
        }
    }
    /// The short_channel_id to sign for now.
    pub(crate) fn due(&self) -> Option<ShortChannelId> {
        match self {
            Self::Public { at, wanted: true, said: false, .. } => *at,
            Self::Public { .. } | Self::Never => None,
        }
    }
}

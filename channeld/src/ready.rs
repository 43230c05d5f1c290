//! channel_ready and announcement_signatures: what is said once, and again, as the funding gets
//! deeper. BOLT 2, "The channel_ready Message"; BOLT 7, "The announcement_signatures Message".

use crate::announcement::Announcement;
use crate::live::{Live, Phase};
use channel::phase::{Input, Rule, rule};
use primitives::*;
use subdaemon::Failure;
use wire::channeld::{PersistAnnouncement, PersistPeerReady, PersistReady};
use wire::hsm::{CheckAnnouncement, GetCommitmentPoint, SignAnnouncement, Verdict};
use wire::{AnnouncementSignatures, ChannelReady, Warning};

/// Announcements, and aliases, of the peer's on one connection that are looked at.
const MAX_HEARD: usize = 4;

impl Live {
    /// Says what the depth of the funding, or the peer, lets us say now.
    pub(crate) fn when_ready(&mut self) -> Result<(), Failure> {
        if self.phase != Phase::Open {
            return Ok(());
        }
        if self.funding_deep && !self.ready.local {
            self.master.ask(&PersistReady {})?;
            self.ready.local = true;
            self.say_channel_ready()?;
        }
        // BOLT 7, announcement_signatures: not after a shutdown. The table refuses it then.
        if let Some(short_channel_id) = self.announcement.due()
            && self.is_normal()
            && rule(self.channel_phase(), Input::SignAnnouncement) == Rule::Taken
        {
            self.say_announcement(short_channel_id)?;
        }
        self.consider_fee()
    }

    pub(crate) fn say_channel_ready(&mut self) -> Result<(), Failure> {
        let number = CommitmentNumber::FIRST.next();
        let point = self.hsm.ask(&GetCommitmentPoint { number })?;
        self.peer.send(&ChannelReady {
            channel_id: self.id,
            second_per_commitment_point: point,
            short_channel_id: Some(self.alias),
        })
    }

    pub(crate) fn on_channel_ready(&mut self, m: &ChannelReady) -> Result<(), Failure> {
        let next_point = m.second_per_commitment_point;
        if self.ready.remote {
            return self.on_ready_again(m);
        }
        self.master.ask(&PersistPeerReady { alias: m.short_channel_id, next_point })?;
        self.channel = self.channel.receive_ready(next_point);
        self.stored = self.stored.receive_ready(next_point);
        self.ready.remote = true;
        self.when_ready()
    }

    /// BOLT 2: a redundant one is ignored. One that contradicts the first, while that still counts,
    /// is none.
    fn on_ready_again(&mut self, m: &ChannelReady) -> Result<(), Failure> {
        let next_point = m.second_per_commitment_point;
        let first = CommitmentNumber::FIRST;
        let counts = self.channel.commitment().remote == first;
        if counts && self.channel.storable().remote_next_point != Some(next_point) {
            let text = "BOLT 2, channel_ready: a second one with another point";
            return Err(Failure::PeerError(text.to_owned()));
        }
        // BOLT 2, channel_ready: it may come again with another alias. The first point is the one
        // that counts.
        if m.short_channel_id.is_some() && self.aliases_heard < MAX_HEARD {
            self.aliases_heard += 1;
            let alias = m.short_channel_id;
            self.master.ask(&PersistPeerReady { alias, next_point })?;
        }
        Ok(())
    }

    fn say_announcement(&mut self, short_channel_id: ShortChannelId) -> Result<(), Failure> {
        let question = SignAnnouncement { short_channel_id, features: Features::none() };
        let (node_signature, bitcoin_signature) = self.hsm.ask(&question)?;
        if let Announcement::Public { said, .. } = &mut self.announcement {
            *said = true;
        }
        self.peer.send(&AnnouncementSignatures {
            channel_id: self.id,
            short_channel_id,
            node_signature,
            bitcoin_signature,
        })
    }

    /// The peer's half, kept if its signatures hold.
    pub(crate) fn on_announcement(&mut self, m: AnnouncementSignatures) -> Result<(), Failure> {
        let Announcement::Public { at, heard, .. } = &mut self.announcement else {
            log::debug!("ignoring announcement_signatures: the channel is private");
            return Ok(());
        };
        if heard.len() >= MAX_HEARD || heard.contains(&m.short_channel_id) {
            return Ok(());
        }
        heard.push(m.short_channel_id);
        // Early ones are kept until we are as deep.
        if let Some(ours) = at.filter(|ours| *ours != m.short_channel_id) {
            let theirs = m.short_channel_id;
            log::info!("ignoring announcement_signatures for {theirs}: the channel is {ours}");
            let text = "announcement_signatures for another short_channel_id";
            return self.peer.send(&Warning::new(self.id, text));
        }
        let question = CheckAnnouncement {
            short_channel_id: m.short_channel_id,
            features: Features::none(),
            node_signature: m.node_signature,
            bitcoin_signature: m.bitcoin_signature,
        };
        match self.hsm.ask(&question)? {
            Verdict::Good => {}
            // BOLT 7, announcement_signatures: the connection, or the channel. The channel itself
            // is as good as it was.
            Verdict::Bad { why } => {
                return Err(Failure::PeerWarn(format!("BOLT 7, announcement_signatures: {why}")));
            }
        }
        self.master.ask(&PersistAnnouncement {
            short_channel_id: m.short_channel_id,
            node_signature: m.node_signature,
            bitcoin_signature: m.bitcoin_signature,
        })?;
        // BOLT 7: theirs is answered with ours.
        self.announcement.is_wanted();
        self.when_ready()
    }
}

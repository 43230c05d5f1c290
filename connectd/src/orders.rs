//! The master's orders.

use crate::conn::{Conn, ConnId, Stage};
use crate::limits::MAX_WORDS;
use crate::sort::ends_everything;
use crate::switchboard::Switchboard;
use crate::tokens::token_of;
use primitives::{ChannelId, NodeId};
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use subdaemon::{Failure, Orders};
use wire::connectd::{Attach, PingPeer, Ponged, ToConnectd};

impl Switchboard {
    /// Every order that has come.
    pub(crate) fn take_orders(&mut self) -> Result<(), Failure> {
        while let Some(frame) = self.orders.try_recv()? {
            let order = ToConnectd::decode_known(&frame.body).map_err(Failure::internal)?;
            self.obey(order, frame.fds)?;
        }
        Ok(())
    }

    fn obey(&mut self, order: ToConnectd, mut fds: VecDeque<OwnedFd>) -> Result<(), Failure> {
        match order {
            ToConnectd::ConnectdInit(_) => Err(Failure::internal("a second init")),
            ToConnectd::Activate(_) => self.activate(),
            ToConnectd::Connect(order) => self.dial(order.node, order.addresses),
            ToConnectd::Attach(order) => {
                let socket = Orders::take_fd(&mut fds, "daemon's peer socket")?;
                self.attach(&order, socket);
                Ok(())
            }
            ToConnectd::Disconnect(order) => {
                self.with(order.node, order.connection, |board, conn| {
                    board.hear_out(conn);
                    board.finish(conn, "we hang up".to_owned());
                });
                Ok(())
            }
            ToConnectd::Send(order) => {
                self.with(order.node, order.connection, |board, conn| {
                    let last = ends_everything(&order.message.0);
                    conn.words = conn.words.saturating_add(order.message.0.len());
                    conn.say(order.message.0, board.now);
                    if last {
                        board.finish(conn, "we said error to every channel".to_owned());
                    } else if conn.words > MAX_WORDS {
                        board.finish(conn, "the peer asks for more than it reads".to_owned());
                    }
                });
                Ok(())
            }
            ToConnectd::Refuse(order) => {
                self.with(order.node, order.connection, |board, conn| {
                    conn.mux.release(&order.channel);
                    if !conn.refusals.take(board.now) {
                        let why = "the peer speaks on and on of channels that nobody serves";
                        board.finish(conn, why.to_owned());
                    }
                });
                Ok(())
            }
            ToConnectd::PingPeer(order) => self.ping(&order),
            ToConnectd::FundedPeers(order) => {
                self.funded_peers = order.nodes.into_iter().collect();
                Ok(())
            }
        }
    }

    /// Does something with a connection, if it is still the one the master means, and gives it its
    /// turn.
    fn with(&mut self, node: NodeId, id: ConnId, f: impl FnOnce(&mut Self, &mut Conn)) -> bool {
        let Some(mut conn) = self.conns.remove(&id) else { return false };
        let meant = conn.stage == Stage::Running(node);
        if meant {
            f(self, &mut conn);
            self.account(&mut conn);
        }
        self.conns.insert(id, conn);
        self.wake(id);
        meant
    }

    /// A daemon for a channel. Where the connection is no more, its socket is closed with `socket`.
    fn attach(&mut self, order: &Attach, socket: OwnedFd) {
        let Attach { node, connection, channel } = *order;
        self.with(node, connection, |board, conn| {
            if channel == ChannelId::ALL {
                log::error!("{node}: no daemon can be attached to the all-zero channel id");
                return;
            }
            let token = |daemon| token_of(connection, Some(daemon));
            if let Err(e) = conn.mux.attach(&board.registry, token, channel, socket) {
                log::error!("{node}: cannot attach a daemon to channel {channel}: {e}");
            }
        });
    }

    fn ping(&mut self, order: &PingPeer) -> Result<(), Failure> {
        let PingPeer { node, connection, ask, length, pong_bytes } = *order;
        let mut unanswered = true;
        self.with(node, connection, |board, conn| {
            let now = board.now;
            if let Some((message, answered)) = conn.pings.order(ask, length, pong_bytes, now) {
                conn.say(message, now);
                board.due(now + board.times.pong);
                unanswered = !answered;
            }
        });
        // Nothing will come, so nothing came: too large, too many at once, or the connection is
        // gone.
        if unanswered { self.report(&Ponged { node, ask, length: 0 }) } else { Ok(()) }
    }
}

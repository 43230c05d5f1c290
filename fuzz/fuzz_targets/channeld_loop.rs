//! channeld's loop with a scripted master, hsmd and peer: bytes choose what each says next. It ends
//! or goes on, and a revocation is asked of hsmd, and said to the peer, only after the master's
//! answer to a `Persist` that has it. An honest peer hears nothing from it that the law does not
//! allow.

mod honest;

use crate::ends::{Ends, signature};
use crate::input::{Input, reached};
use crate::noise_keys::key;
use bitcoin::hashes::Hash;
use honest::Honest;
use hsmd::fuzzing::Keys;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use primitives::*;
use secp256k1::SECP256K1;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::LazyLock;
use subdaemon::testing::ScriptedMaster;
use subdaemon::{Conn, answer_frame, peer_pair, recv_record, send_record, stream_pair};
use wire::channel_data::*;
use wire::channeld::*;
use wire::connectd::PEER_RECORD_MESSAGE;
use wire::hsm::*;
use wire::*;

/// Steps of one execution, and milliseconds without a word after which channeld waits for the next.
const STEPS: usize = 40;
const QUIET: u16 = 1;

/// Who reads the onions.
const ONION_KEY: u8 = 7;

static ENDS: LazyLock<Ends> = LazyLock::new(|| Ends::new(2, 7, Side::Local, true));
static CHANNEL_ID: LazyLock<ChannelId> =
    LazyLock::new(|| ChannelId::from_funding(&ENDS.params.funding));

fn preimage(n: u8) -> Preimage {
    Preimage([n % 4; 32])
}
fn point(keys: &Keys, number: u64) -> Point {
    let secret = keys.secret(CommitmentNumber(number)).expect("a small number has a secret");
    secret.public_key(SECP256K1)
}

static INIT: LazyLock<ChanneldInit> = LazyLock::new(|| {
    let feerate = FeeratePerKw(1000);
    let state = ChannelState {
        params: ENDS.params.clone(),
        balance: ENDS.constants.first_balance(),
        next_htlc_id: Sides::default(),
        htlcs: Long(vec![]),
        fees: Long(vec![FeeChange { feerate, stage: Stage::Irrevocable }]),
        commitment: Sides::default(),
        revoked: Sides::default(),
        remote_point: point(&ENDS.theirs, 0),
        remote_next_point: Some(point(&ENDS.theirs, 1)),
        remote_secrets: Long(vec![]),
        local_signatures: CommitmentSignatures { signature: signature(), htlcs: vec![] },
        last_sent: LastSent::Neither,
    };
    let features = Features::optional(&[feature::SHUTDOWN_ANYSEGWIT]);
    ChanneldInit {
        channel: *CHANNEL_ID,
        birth: Birth::Reconnected,
        phase: ChannelPhase::Normal,
        state,
        local_features: features.clone(),
        remote_features: features,
        fees: FeePolicy { target: feerate, min: FeeratePerKw(253), max: FeeratePerKw(50_000) },
        policy: HtlcPolicy {
            max_dust_exposure: Msat(50_000_000),
            max_offered: 483,
            commit_time_ms: 0,
        },
        height: BlockHeight(100),
        ready: Sides { local: true, remote: true },
        funding_deep: true,
        alias: ShortChannelId(0xa1),
        announce: false,
        announceable: None,
        have_announcement: false,
        shutdown: Sides { local: None, remote: None },
        upfront_script: Sides { local: None, remote: None },
        failed: None,
    }
});

struct World {
    down: Conn,
    up: Conn,
    hsm: Conn,
    peer: OwnedFd,
    room: Vec<u8>,
    /// How many of our commitments the master has answered for as revoked.
    persisted: u64,
    /// How many of its own the peer has revoked, and signed for us.
    revoked: u64,
    next_id: u64,
    honest: Honest,
    /// What somebody says next that is no honest answer.
    lie: Lie,
    /// HTLCs whose onions channeld has opened.
    peeled: Vec<HtlcId>,
}

/// Somebody's next answer.
#[derive(Clone, Copy, PartialEq)]
enum Lie {
    None,
    /// hsmd does not like the signature, or the secret.
    BadVerdict,
    /// It knows the secret that the peer shows.
    SecretIsOurs,
    /// The master dies.
    NoMaster,
}

/// `None`: channeld is gone, or we let it go.
type Goes = Option<()>;

impl World {
    /// Serves whatever was said until nobody says anything more.
    fn serve(&mut self) -> Goes {
        loop {
            let ready = {
                let fds = [self.up.as_fd(), self.hsm.as_fd(), self.peer.as_fd()];
                let mut fds = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
                if poll(&mut fds, PollTimeout::from(QUIET)).ok()? == 0 {
                    return Some(());
                }
                fds.map(|fd| fd.revents().is_some_and(|e| !e.is_empty()))
            };
            if ready[1] {
                self.hsm_answers()?;
            } else if ready[0] {
                self.master_answers()?;
            } else {
                self.peer_hears()?;
            }
        }
    }

    fn hsm_answers(&mut self) -> Goes {
        let frame = self.hsm.recv().ok()?;
        let ours = &ENDS.ours;
        let lie = self.lie;
        let judged = || match lie {
            Lie::BadVerdict => Verdict::Bad { why: "a lie".to_owned() },
            Lie::None | Lie::SecretIsOurs | Lie::NoMaster => Verdict::Good,
        };
        let answer = match HsmRequest::decode(&frame.body).expect("channeld's own words") {
            HsmRequest::GetCommitmentPoint(q) => {
                answer_frame::<GetCommitmentPoint>(&point(ours, q.number.0))
            }
            HsmRequest::SignRemoteCommitment(q) => {
                let signed = ours.sign(&ENDS.constants, &q.state).expect("it can be built");
                answer_frame::<SignRemoteCommitment>(&signed)
            }
            HsmRequest::RemoteRevoked(_) => answer_frame::<RemoteRevoked>(&judged()),
            HsmRequest::ValidateLocalCommitment(_) => {
                answer_frame::<ValidateLocalCommitment>(&judged())
            }
            HsmRequest::RevokeLocal(q) => {
                assert!(q.number.0 < self.persisted, "asked before it is on disk");
                reached("revocation", q.number.0 + 1);
                let secret = ours.secret(q.number)?;
                let next_point = point(ours, q.number.0 + 2);
                answer_frame::<RevokeLocal>(&Revocation { secret, next_point })
            }
            HsmRequest::PeelOnions(q) => {
                let keys = q.onions.iter().map(|onion| {
                    let shared = onion::shared_secret(&onion.ephemeral, &key(ONION_KEY));
                    onion::onion_keys(&shared, &onion.ephemeral)
                });
                answer_frame::<PeelOnions>(&keys.collect())
            }
            HsmRequest::CheckSecret(_) => {
                answer_frame::<CheckSecret>(&(self.lie == Lie::SecretIsOurs))
            }
            // Whatever else: hsmd closes the socket.
            _ => return None,
        };
        self.hsm.send(&answer, &[]).ok()
    }

    fn master_answers(&mut self) -> Goes {
        let frame = self.up.recv().ok()?;
        // A report wants no answer.
        let Ok(ask) = ChannelAsk::decode(&frame.body) else { return Some(()) };
        if self.lie == Lie::NoMaster {
            return None;
        }
        let answer = match ask {
            ChannelAsk::Persist(q) => {
                let revoked = q.changes.iter().map(|c| c.revoked.local.0).max();
                self.persisted = self.persisted.max(revoked.unwrap_or(0));
                let read = q.peeled.0.iter().filter(|p| matches!(p.peeled, Peeled::Payload { .. }));
                self.peeled.extend(read.map(|p| p.id));
                answer_frame::<Persist>(&())
            }
            ChannelAsk::PersistPeerReady(_) => answer_frame::<PersistPeerReady>(&()),
            ChannelAsk::PersistReady(_) => answer_frame::<PersistReady>(&()),
            ChannelAsk::PersistShutdown(_) => answer_frame::<PersistShutdown>(&()),
            ChannelAsk::PersistAnnouncement(_) => answer_frame::<PersistAnnouncement>(&()),
            ChannelAsk::GetShutdownScript(_) => answer_frame::<GetShutdownScript>(&script(1)),
        };
        self.up.send(&answer, &[]).ok()
    }

    fn peer_hears(&mut self) -> Goes {
        let len = recv_record(self.peer.as_fd(), &mut self.room).ok()??;
        let record = self.room.get(..len?)?;
        let (&PEER_RECORD_MESSAGE, message) = record.split_first()? else { return Some(()) };
        let Ok(Decoded::Known(message)) = ChannelMessage::decode(message) else { return Some(()) };
        self.honest.hears(&message);
        if let ChannelMessage::RevokeAndAck(m) = message {
            let secret = |n: &u64| ENDS.ours.secret(CommitmentNumber(*n));
            let number = (0..self.persisted).find(|n| secret(n) == Some(m.per_commitment_secret));
            assert!(number.is_some(), "a revocation was said before it is on disk");
        }
        Some(())
    }

    fn tells(&self, message: &[u8]) -> Goes {
        let record = [&[PEER_RECORD_MESSAGE], message].concat();
        send_record(self.peer.as_fd(), &record).ok()?.then_some(())
    }
    fn orders<M: Message>(&self, order: &M) -> Goes {
        self.down.send(&order.encode(), &[]).ok()
    }

    /// The honest peer says what it owes, and hears what follows.
    fn dance(&mut self, words: usize) -> Goes {
        for _ in 0..words {
            if let Some(word) = self.honest.owes() {
                self.tells(&word)?;
                self.serve()?;
            }
            self.revoked = self.honest.revoked().unwrap_or(self.revoked);
        }
        Some(())
    }

    /// An `update_add_htlc`, with the id that is due or another.
    fn adds(&mut self, what: u8, input: &mut Input<'_>) -> Goes {
        let channel_id = INIT.channel;
        let preimage = preimage(what);
        let amount = Msat(u64::from(input.byte()?) * 1_000_000);
        let id = HtlcId(if what < 224 { self.next_id } else { u64::from(what) });
        self.next_id += 1;
        let onion = OnionPacket(Box::new([what; 1366]));
        let (payment_hash, path_key) = (preimage.hash(), None);
        let cltv_expiry = BlockHeight(150);
        let m = UpdateAddHtlc {
            channel_id,
            id,
            amount,
            payment_hash,
            cltv_expiry,
            onion,
            path_key,
        };
        self.tells(&m.encode())
    }

    /// The peer says something of its own making.
    fn lies(&mut self, what: u8, id: HtlcId, input: &mut Input<'_>) -> Goes {
        let channel_id = INIT.channel;
        let preimage = preimage(what);
        match what % 20 {
            0..=2 => self.adds(what, input),
            3 | 4 => {
                let htlc_signatures = vec![signature(); usize::from(input.byte()? % 8)];
                let (signature, funding_txid) = (signature(), None);
                let m = CommitmentSigned { channel_id, signature, htlc_signatures, funding_txid };
                self.tells(&m.encode())
            }
            5 | 6 => {
                let number = CommitmentNumber(self.revoked);
                let per_commitment_secret = ENDS.theirs.secret(number)?;
                let next_per_commitment_point = point(&ENDS.theirs, self.revoked + 2);
                self.revoked += u64::from(what < 240);
                let m = RevokeAndAck { channel_id, per_commitment_secret, next_per_commitment_point };
                self.tells(&m.encode())
            }
            7 => {
                let attribution_data = None;
                let m = UpdateFulfillHtlc { channel_id, id, preimage, attribution_data };
                self.tells(&m.encode())
            }
            8 => {
                let (reason, attribution_data) = (input.bytes(8).to_vec(), None);
                let m = UpdateFailHtlc { channel_id, id, reason, attribution_data };
                self.tells(&m.encode())
            }
            9 if what < 128 => {
                let scriptpubkey = script(what);
                self.tells(&Shutdown { channel_id, scriptpubkey }.encode())
            }
            9 => {
                let feerate = FeeratePerKw(u32::from(input.byte()?) * 50);
                self.tells(&UpdateFee { channel_id, feerate }.encode())
            }
            10 => {
                let length = usize::from(input.byte()?);
                let bytes = input.bytes(length);
                self.tells(bytes)
            }
            _ => Some(()),
        }
    }

    /// The master orders something, sense or nonsense.
    fn master_orders(&mut self, what: u8, id: HtlcId, input: &mut Input<'_>) -> Goes {
        let preimage = preimage(what);
        match what % 20 {
            11 | 12 => self.orders(&Offer {
                key: u64::from(what),
                amount: Msat(u64::from(input.byte()?) * 1_000_000),
                payment_hash: preimage.hash(),
                expiry: BlockHeight(150),
                onion: OnionPacket(Box::new([what; 1366])),
                path_key: None,
            }),
            13 => self.orders(&Fulfil { id, preimage }),
            14 => self.orders(&FailHtlc { id, reason: vec![0; 32] }),
            15 => match what / 20 % 4 {
                0 => self.orders(&HeightChanged { height: BlockHeight(100 + u32::from(what)) }),
                1 => self.orders(&StartShutdown { script: script(what) }),
                2 => {
                    let target = FeeratePerKw(u32::from(input.byte()?) * 50);
                    self.orders(&FeesChanged { fees: FeePolicy { target, ..INIT.fees.clone() } })
                }
                _ => {
                    let length = usize::from(input.byte()?);
                    let body = input.bytes(length);
                    self.down.send(body, &[]).ok()
                }
            },
            _ => Some(()),
        }
    }

    fn step(&mut self, input: &mut Input<'_>) -> Goes {
        let what = input.byte()?;
        let id = HtlcId(u64::from(what / 16) % (self.next_id + 1));
        if matches!(what % 20, 0..=8 | 10) || (what % 20 == 9 && what >= 128) {
            self.honest.is_betrayed();
        }
        match what % 20 {
            0..=10 => self.lies(what, id, input),
            11..=15 => self.master_orders(what, id, input),
            16 => {
                let (amount, hash) = (Msat(u64::from(input.byte()?) * 400_000), input.byte()?);
                match self.honest.adds(amount, hash) {
                    Some(add) => {
                        self.next_id += 1;
                        self.tells(&add)
                    }
                    None => Some(()),
                }
            }
            17 => match self.honest.ends(input.byte()?) {
                Some(removal) => self.tells(&removal),
                None => Some(()),
            },
            18 => {
                // The master decides on an HTLC that it knows of.
                let byte = input.byte()?;
                let Some(id) = self.peeled.pop() else { return Some(()) };
                match byte {
                    0..=127 => self.orders(&Fulfil { id, preimage: crate::channeld_loop::preimage(byte) }),
                    _ => self.orders(&FailHtlc { id, reason: vec![byte; 32] }),
                }
            }
            19 if what >= 220 => {
                self.lie = [Lie::BadVerdict, Lie::SecretIsOurs, Lie::NoMaster]
                    [usize::from(input.byte()? % 3)];
                Some(())
            }
            _ => self.dance(usize::from(what / 20) % 4 + 1),
        }
    }
}

fn script(byte: u8) -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&Hash::from_byte_array([byte; 20]))
}

pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let Some(first) = input.byte() else { return };
    let (script, child) = ScriptedMaster::new();
    let (hsm, hsm_theirs) = stream_pair().expect("two sockets");
    let (peer, peer_theirs) = peer_pair().expect("two sockets");
    script.order(&*INIT, vec![hsm_theirs, peer_theirs]);
    let loops = std::thread::spawn(move || ::channeld::run(child));
    let (down, up) = script.into_sockets();
    let hsm = Conn::new(hsm);
    let mut world = World {
        down,
        up,
        hsm,
        peer,
        room: vec![],
        persisted: 0,
        revoked: 0,
        next_id: 0,
        honest: Honest::new(&INIT.state),
        lie: Lie::None,
        peeled: vec![],
    };
    let reestablish = ChannelReestablish {
        channel_id: INIT.channel,
        next_commitment_number: if first < 240 { 1 } else { u64::from(first) - 240 },
        next_revocation_number: u64::from(first >= 250),
        your_last_per_commitment_secret: [0; 32],
        my_current_per_commitment_point: point(&ENDS.theirs, 0),
        next_funding: None,
        my_current_funding_locked: None,
    };
    let _ = world.serve().and_then(|()| world.tells(&reestablish.encode()));
    for _ in 0..STEPS {
        if world.serve().is_none() || world.step(&mut input).is_none() {
            break;
        }
    }
    drop(world);
    // With all its sockets closed it ends; how, is told to a master that is gone.
    let _ = loops.join().expect("no panic");
}

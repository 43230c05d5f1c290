//! Captured clients: every refusal, and a channeld that tries to get us punished.

use super::*;

fn number(n: u64) -> CommitmentNumber {
    CommitmentNumber(n)
}
fn point_question(n: u64) -> GetCommitmentPoint {
    GetCommitmentPoint { number: number(n) }
}

#[test]
fn client_has_no_right_that_was_not_given() {
    let mut rig = Rig::new();
    let point = peer().node_id.point().unwrap();
    let close = ClosingState {
        balance: Sides::default(),
        script: Sides { local: script(1), remote: script(2) },
        fee: Sat(0),
    };
    let secret = peer_keys().secret(number(0)).unwrap();
    let mine = state(Side::Local, 1, 0, &[]);
    let signatures = signed_by_peer(&mine);
    macro_rules! refused { ($($right:literal: $question:expr),* $(,)?) => { $(
        let client = rig.client(&[], Some(seed(0)));
        rig.refuses(client, &$question, concat!("takes the right ", $right));
    )* } }
    let (peer_id, channel) = (peer().node_id, CHANNEL);
    refused! {
        "Ecdh": MixEcdh { point, chaining_key: Secret::new([1; 32]) },
        "Points": GetBasepoints {},
        "Points": point_question(0),
        "Points": CheckSecret { number: number(0), secret: Secret::new([0; 32]) },
        "SignRemote": SetupChannel { params: params() },
        "SignRemote": SignRemoteCommitment { state: state(Side::Remote, 1, 0, &[]) },
        "SignRemote": RemoteRevoked { number: number(0), secret },
        "Revoke": ValidateLocalCommitment { state: mine.clone(), signatures: signatures.clone() },
        "Revoke": RevokeLocal { number: number(0) },
        "Peel": PeelOnions { onions: vec![] },
        "SignClosing": SignClosing { state: close.clone() },
        "SignClosing": CheckClosing { state: close.clone(), signature: signatures.signature },
        "SignGossip": SignAnnouncement {
            short_channel_id: ShortChannelId(1), features: Features::none() },
        "SignGossip": CheckAnnouncement {
            short_channel_id: ShortChannelId(1), features: Features::none(),
            node_signature: signatures.signature, bitcoin_signature: signatures.signature },
    }
    macro_rules! for_the_master { ($($question:expr),* $(,)?) => { $(
        let client = rig.client(EVERYTHING, Some(seed(0)));
        rig.refuses(client, &$question, "takes the right Master");
    )* } }
    let path = rig.folder.join("hsm_secret");
    let empty = Bytes(vec![]);
    let transaction = Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: bitcoin::absolute::LockTime::ZERO,
        input: vec![bitcoin::TxIn::default()],
        output: vec![],
    };
    for_the_master! {
        unlock(&path),
        SignLocalCommitment { peer: peer_id, channel, state: mine.clone(), signatures: signatures.clone() },
        CompleteClosing { peer: peer_id, channel, state: close.clone(), signature: signatures.signature },
        SignWallet { transaction: transaction.clone(), inputs: Long(vec![]), spent: Long(vec![]) },
        SignInvoice { hrp: "lnbc".to_owned(), data: empty.clone() },
        SignMessage { message: empty.clone() },
        MakeSecret { info: empty.clone() },
        SignChannelUpdate { unsigned: empty.clone() },
        ForgetChannel { peer: peer_id, channel },
        NewClient { peer: peer_id, channel, rights: Rights::of(EVERYTHING), seed: None },
    }
}

#[test]
fn evil_channeld_cannot_make_us_punishable() {
    let mut rig = Rig::new();
    let fresh = |rig: &mut Rig| rig.client(EVERYTHING, Some(seed(2)));

    // Our newest commitment has no successor: its secret would let the peer take everything.
    let client = fresh(&mut rig);
    rig.refuses(client, &RevokeLocal { number: number(2) }, "2 is the newest that was shown");
    let client = fresh(&mut rig);
    rig.refuses(client, &RevokeLocal { number: number(3) }, "2 is the newest that was shown");

    // A successor that the peer has not signed is none.
    let mut client = fresh(&mut rig);
    let next = state(Side::Local, 3, 100_000_000, &[]);
    let mut signatures = signed_by_peer(&next);
    signatures.signature = signed_by_peer(&state(Side::Local, 3, 50_000_000, &[])).signature;
    let judged = client.ask(&ValidateLocalCommitment { state: next.clone(), signatures }).unwrap();
    assert!(matches!(judged, Verdict::Bad { .. }));
    rig.refuses(client, &RevokeLocal { number: number(2) }, "2 is the newest that was shown");

    // Nor is one of another number, point or side, or one that leaps.
    for (state, why) in [
        (state(Side::Local, 4, 0, &[]), "commitment 4 after 2"),
        (state(Side::Local, 1, 0, &[]), "our commitment 1 is revoked"),
        (state(Side::Remote, 3, 0, &[]), "of the other side"),
        (
            CommitmentState { point: params().basepoints.local.htlc, ..next.clone() },
            "another point",
        ),
    ] {
        let client = fresh(&mut rig);
        let signatures = signed_by_peer(&state);
        rig.refuses(client, &ValidateLocalCommitment { state, signatures }, why);
    }
    // A commitment that is not this channel's.
    let client = fresh(&mut rig);
    let mut forged = next.clone();
    forged.balance.local.0 += 1;
    let signatures = signed_by_peer(&next);
    let question = ValidateLocalCommitment { state: forged, signatures };
    rig.refuses(client, &question, "in a channel of");
}

#[test]
fn evil_channeld_cannot_sign_an_unpunishable_commitment() {
    let mut rig = Rig::new();
    let sign = |state: CommitmentState| SignRemoteCommitment { state };
    let fresh = |rig: &mut Rig| rig.client(EVERYTHING, Some(seed(2)));
    // Revoked already: a new one of that number would be free to publish by whoever lies about its
    // contents.
    let client = fresh(&mut rig);
    rig.refuses(
        client,
        &sign(state(Side::Remote, 1, 0, &[])),
        "the peer's commitment 1 is revoked",
    );
    // A number with a second point: the secret of the first would not revoke it.
    let client = fresh(&mut rig);
    let mut twice = state(Side::Remote, 3, 0, &[]);
    twice.point = params().basepoints.remote.htlc;
    rig.refuses(client, &sign(twice.clone()), "commitment 3 has another point");
    // Three at once.
    let mut client = fresh(&mut rig);
    client.ask(&sign(state(Side::Remote, 3, 0, &[]))).unwrap();
    rig.refuses(client, &sign(state(Side::Remote, 4, 0, &[])), "only those before 2 are revoked");
    let client = fresh(&mut rig);
    rig.refuses(client, &sign(state(Side::Remote, 5, 0, &[])), "commitment 5 after 3");
    // "Revoked" before it could be, or out of turn.
    let secret = peer_keys().secret(number(3)).unwrap();
    let client = fresh(&mut rig);
    rig.refuses(client, &RemoteRevoked { number: number(3), secret }, "commitment 3 after 1");
    let client = fresh(&mut rig);
    let secret = peer_keys().secret(number(2)).unwrap();
    let mut keeps = client;
    assert_eq!(keeps.ask(&RemoteRevoked { number: number(2), secret }).unwrap(), Verdict::Good);
    let secret = peer_keys().secret(number(3)).unwrap();
    rig.refuses(keeps, &RemoteRevoked { number: number(3), secret }, "commitment 3 after 2");
    // Our side's, as if it were theirs.
    let client = fresh(&mut rig);
    rig.refuses(client, &sign(state(Side::Local, 3, 0, &[])), "of the other side");
}

/// A captured channeld shows the peer's signatures and keeps them from the master: after a restart
/// that would publish the commitment before. So it waits for the master's word, however often it
/// asks, and holds up nobody.
#[test]
fn secret_waits_until_the_master_has_stored_the_successor() {
    let mut rig = Rig::new();
    let mut client = rig.client(EVERYTHING, Some(seed(2)));
    let next = state(Side::Local, 3, 100_000_000, &[]);
    let signatures = signed_by_peer(&next);
    client.ask(&ValidateLocalCommitment { state: next, signatures }).unwrap();
    let asks = std::thread::spawn(move || client.ask(&RevokeLocal { number: number(2) }));
    // A word about fewer is none about this one.
    rig.stored(2);
    let mut other = rig.client(&[Capability::Points], Some(seed(2)));
    for _ in 0..100 {
        other.ask(&GetBasepoints {}).unwrap();
        assert!(!asks.is_finished(), "a secret is out that the master knows nothing of");
    }
    rig.stored(3);
    let out = asks.join().unwrap().unwrap();
    assert_eq!(Some(out.secret), our_keys().secret(number(2)));
}

/// Whoever waits for that word and goes away is forgotten.
#[test]
fn client_closed_while_revoke_local_waits_is_dropped() {
    let mut rig = Rig::new();
    let mut client = rig.client(EVERYTHING, Some(seed(2)));
    let next = state(Side::Local, 3, 100_000_000, &[]);
    let signatures = signed_by_peer(&next);
    let question = ValidateLocalCommitment { state: next, signatures };
    assert_eq!(client.ask(&question).unwrap(), Verdict::Good);
    drop(client);
    let socket = rig.socket(EVERYTHING, Some(seed(2)));
    let mut body = RevokeLocal::NUMBER.to_be_bytes().to_vec();
    wire::Wire::put(&RevokeLocal { number: number(2) }, &mut body);
    subdaemon::send_frame(socket.as_fd(), &body, &[]).unwrap();
    drop(socket);
    rig.stored(3);
    rig.client(EVERYTHING, Some(seed(2))).ask(&GetBasepoints {}).unwrap();
}

#[test]
fn point_first_signed_with_is_the_only_one_of_its_number() {
    let mut rig = Rig::new();
    let rows = ChannelSeed { remote_next_point: None, ..seed(0) };
    let mut client = rig.client(EVERYTHING, Some(rows));
    client.ask(&SignRemoteCommitment { state: state(Side::Remote, 1, 0, &[]) }).unwrap();
    let mut twice = state(Side::Remote, 1, 0, &[]);
    twice.point = params().basepoints.remote.htlc;
    rig.refuses(client, &SignRemoteCommitment { state: twice }, "commitment 1 has another point");
}

#[test]
fn evil_closingd_cannot_have_us_paid_less_or_elsewhere() {
    let mut rig = Rig::new();
    let terms = ClosingTerms { script: script(1), max_fee: Sat(1000) };
    let rows = ChannelSeed { phase: ChannelPhase::Negotiating, closing: Some(terms), ..seed(2) };
    let good = ClosingState {
        balance: Sides { local: Msat(900_000_000), remote: Msat(100_000_000) },
        script: Sides { local: script(1), remote: script(2) },
        fee: Sat(1000),
    };
    let sign = |state: &ClosingState| SignClosing { state: state.clone() };
    let closingd = rig.client(&[Capability::SignClosing], Some(seed(2)));
    rig.refuses(closingd, &sign(&good), "SignClosing while the channel is open");
    let unsaid = ChannelSeed { closing: None, ..rows.clone() };
    let closingd = rig.client(&[Capability::SignClosing], Some(unsaid));
    rig.refuses(closingd, &sign(&good), "no terms of a closing");
    let fresh = |rig: &mut Rig| rig.client(&[Capability::SignClosing], Some(rows.clone()));

    assert!(fresh(&mut rig).ask(&sign(&good)).is_ok());
    let mut less = good.clone();
    less.balance = Sides { local: Msat(899_999_999), remote: Msat(100_000_001) };
    let client = fresh(&mut rig);
    rig.refuses(client, &sign(&less), "pays us 899999999msat of 900000000msat");
    let client = fresh(&mut rig);
    rig.refuses(
        client,
        &sign(&ClosingState { fee: Sat(1001), ..good.clone() }),
        "of at most 1000sat",
    );
    let mut elsewhere = good.clone();
    elsewhere.script.local = script(3);
    let client = fresh(&mut rig);
    rig.refuses(client, &sign(&elsewhere), "elsewhere");
    let mut made_up = good.clone();
    made_up.balance.local = Msat(900_000_001);
    let client = fresh(&mut rig);
    rig.refuses(client, &sign(&made_up), "in a channel of");

    // A later commitment changes nothing of what is owed: it is not signed.
    let mut both = rig.client(EVERYTHING, Some(rows.clone()));
    both.ask(&sign(&good)).unwrap();
    let next = state(Side::Remote, 3, 50_000_000, &[]);
    rig.refuses(both, &SignRemoteCommitment { state: next }, "other balances");
    let both = rig.client(EVERYTHING, Some(rows.clone()));
    let busy = state(Side::Remote, 3, 100_000_000, &[1_000_000]);
    rig.refuses(both, &SignRemoteCommitment { state: busy }, "other balances");
}

#[test]
fn parameters_are_told_once_and_with_our_own_keys() {
    let mut rig = Rig::new();
    let client = rig.client(EVERYTHING, None);
    let question = SignRemoteCommitment { state: state(Side::Remote, 0, 0, &[]) };
    rig.refuses(client, &question, "parameters are not known");
    let mut foreign = params();
    foreign.basepoints.local = foreign.basepoints.remote.clone();
    let client = rig.client(EVERYTHING, None);
    rig.refuses(client, &SetupChannel { params: foreign.clone() }, "local basepoints are not ours");
    let unknown = ChannelParams { channel_type: Features::none(), ..params() };
    let client = rig.client(EVERYTHING, None);
    rig.refuses(client, &SetupChannel { params: unknown }, "is not supported");
    let mut client = rig.client(EVERYTHING, None);
    client.ask(&SetupChannel { params: params() }).unwrap();
    let other = ChannelParams { amount: Sat(5), ..params() };
    rig.refuses(client, &SetupChannel { params: other.clone() }, "are others than those known");

    // A seed with the same faults is refused too: the client is closed at once, and the master
    // lives.
    for (rows, why) in [
        (ChannelSeed { params: other, ..seed(0) }, "are others than those known"),
        (ChannelSeed { local_number: number(2), ..seed(0) }, "contradicts itself"),
        (ChannelSeed { remote_revoked: number(2), ..seed(0) }, "contradicts itself"),
        (
            ChannelSeed {
                remote_number: number(u64::MAX),
                remote_revoked: number(u64::MAX),
                ..seed(0)
            },
            "beyond the last",
        ),
    ] {
        let mut client = rig.client(EVERYTHING, Some(rows));
        assert!(rig.reported().contains(why), "{why}");
        assert!(client.ask(&GetBasepoints {}).is_err());
    }
}

/// A captured channeld stores a commitment that nobody signed, and dies: the next one is to be
/// given the secret before it.
#[test]
fn rows_that_tell_more_than_was_asked_are_a_lie() {
    let mut rig = Rig::new();
    rig.client(EVERYTHING, Some(seed(2))).ask(&GetBasepoints {}).unwrap();
    for (rows, why) in [
        (ChannelSeed { local_number: number(3), ..seed(2) }, "never shown"),
        (ChannelSeed { remote_number: number(3), ..seed(2) }, "never signed"),
        (seed(3), "never shown"),
    ] {
        let mut client = rig.client(EVERYTHING, Some(rows));
        let reported = rig.reported();
        assert!(reported.contains(why), "{reported}");
        assert!(client.ask(&RevokeLocal { number: number(2) }).is_err());
    }
    let mut client = rig.client(EVERYTHING, Some(seed(2)));
    client.ask(&SignRemoteCommitment { state: state(Side::Remote, 3, 0, &[]) }).unwrap();
    let rows = ChannelSeed { remote_number: number(3), remote_revoked: number(3), ..seed(2) };
    let rows = ChannelSeed { remote_point: peer_keys().point(number(3)).unwrap(), ..rows };
    let rows = ChannelSeed { remote_next_point: peer_keys().point(number(4)), ..rows };
    rig.client(EVERYTHING, Some(rows));
    assert!(rig.reported().contains("never judged"));
}

#[test]
fn points_are_told_one_beyond_the_next_and_no_further() {
    let mut rig = Rig::new();
    let client = rig.client(EVERYTHING, None);
    rig.refuses(client, &point_question(2), "is not needed yet");
    let mut client = rig.client(EVERYTHING, Some(seed(5)));
    client.ask(&point_question(7)).unwrap();
    rig.refuses(client, &point_question(8), "is not needed yet");
    let client = rig.client(EVERYTHING, None);
    rig.refuses(client, &point_question(u64::MAX), "is not needed yet");
}

#[test]
fn master_asks_for_no_channels_client() {
    let rig = Rig::new();
    let path = rig.folder.join("hsm_secret");
    let (_script, mut master, thread) = start();
    master.ask(&unlock(&path)).unwrap();
    assert!(master.ask(&GetBasepoints {}).is_err());
    assert!(thread.join().unwrap().is_err(), "a master that asks wrongly is a bug of the suite");
}

#[test]
fn right_of_the_master_is_nobodys_to_give() {
    let rig = Rig::new();
    let path = rig.folder.join("hsm_secret");
    let (_script, mut master, thread) = start();
    master.ask(&unlock(&path)).unwrap();
    let (_ours, theirs) = stream_pair().unwrap();
    let rights = Rights::of(&[Capability::Master]);
    let question = NewClient { peer: peer().node_id, channel: CHANNEL, rights, seed: None };
    assert!(master.ask_with(&question, &[theirs.as_fd()]).is_err());
    assert!(thread.join().unwrap().is_err());
}

#[test]
fn half_a_question_holds_up_nobody() {
    let mut rig = Rig::new();
    let slow = rig.socket(EVERYTHING, Some(seed(0)));
    let mut quick = rig.client(EVERYTHING, Some(seed(0)));
    let mut frame = vec![0, 0, 0, 2, 0];
    frame.extend_from_slice(&GetBasepoints::NUMBER.to_be_bytes());
    for (i, byte) in frame.iter().enumerate() {
        quick.ask(&GetBasepoints {}).unwrap();
        rig.master.ask(&MakeSecret { info: Bytes(vec![]) }).unwrap();
        assert_eq!(nix::unistd::write(&slow, &[*byte]), Ok(1), "byte {i}");
    }
    let mut answer = [0; 7 + 5 * 33];
    let mut read = 0;
    while read < answer.len() {
        read += nix::unistd::read(&slow, &mut answer[read..]).unwrap();
    }
    assert_eq!(answer[7..40], our_keys().points.funding.serialize());
}

#[test]
fn client_that_never_reads_is_not_read_and_delays_nobody() {
    let mut rig = Rig::new();
    let deaf = rig.socket(EVERYTHING, Some(seed(0)));
    nix::fcntl::fcntl(&deaf, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).unwrap();
    let mut frame = vec![0, 0, 0, 2, 0];
    frame.extend_from_slice(&GetBasepoints::NUMBER.to_be_bytes());
    // Asks until nothing is taken any more, and stays so.
    let mut refused = 0;
    while refused < 100 {
        match nix::unistd::write(&deaf, &frame) {
            Ok(_) => refused = 0,
            Err(e) => {
                assert_eq!(e, nix::errno::Errno::EAGAIN);
                refused += 1;
                rig.master.ask(&MakeSecret { info: Bytes(vec![]) }).unwrap();
            }
        }
    }
}

#[test]
fn descriptors_that_nobody_asked_for_are_a_reason_to_close() {
    let mut rig = Rig::new();
    let mut client = rig.client(EVERYTHING, Some(seed(0)));
    let (a, _b) = stream_pair().unwrap();
    assert!(client.ask_with(&GetBasepoints {}, &[a.as_fd()]).is_err());
    assert!(rig.reported().contains("1 descriptors"));
    // Unannounced ones pile up nowhere.
    let client = rig.socket(EVERYTHING, Some(seed(0)));
    let raw = [std::os::fd::AsRawFd::as_raw_fd(&a); 4];
    let rights = [nix::sys::socket::ControlMessage::ScmRights(&raw)];
    let flags = nix::sys::socket::MsgFlags::MSG_NOSIGNAL;
    let fd = std::os::fd::AsRawFd::as_raw_fd(&client);
    for byte in [0u8, 1, 0, 0] {
        let iov = [std::io::IoSlice::new(std::slice::from_ref(&byte))];
        // Once hsmd has closed it there is nothing to send to.
        if nix::sys::socket::sendmsg::<()>(fd, &iov, &rights, flags, None).is_err() {
            break;
        }
    }
    assert!(rig.reported().contains("descriptors"));
}

#[test]
fn arbitrary_bytes_close_the_client_and_nothing_else() {
    let mut rig = Rig::new();
    for body in
        [&[][..], &[0], &[0, 13], &[0xff, 0xff], &[0, 13, 1, 2, 3], &[0, 99], &[0, 17, 0xff, 0xff]]
    {
        let client = rig.socket(EVERYTHING, Some(seed(0)));
        subdaemon::send_frame(client.as_fd(), body, &[]).unwrap();
        assert!(!rig.reported().is_empty());
        assert!(subdaemon::Conn::new(client).recv().is_err());
    }
    let client = rig.socket(EVERYTHING, None);
    nix::unistd::write(&client, &[0xff; 100]).unwrap();
    assert!(rig.reported().contains("65535 is no question"));
}

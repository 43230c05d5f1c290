//! A daemon in a stranger's hands: the real one of the suite runs behind it, and what passes
//! between it and the master is changed.
//!
//! Which daemon, and how it lies, is in the name that it is started by: the tests make a link of
//! that name. The master must hold against every one of them.

use nix::sys::signal::Signal;
use nix::sys::socket::{Shutdown, shutdown};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use subdaemon::{Conn, Frame, answer_frame, stream_pair};
use wire::Message;
use wire::hsm::{Completed, HsmdInit, SignLocalCommitment};
use wire::openingd::Opened;

/// What is done to a frame's body on its way.
type Change = fn(&mut Vec<u8>);

/// One way to lie.
struct Lie {
    /// The link's name.
    name: &'static str,
    /// Who is behind it.
    daemon: &'static str,
    /// On the way to the master: reports and asks; answers, if it is hsmd.
    up: Change,
    /// It does not die with its master, but when a file of the link's name and `.release` is there.
    outlives: bool,
}

const LIES: &[Lie] = &[
    Lie {
        name: "openingd-with-other-basepoints",
        daemon: "lightning_openingd",
        up: other_basepoints,
        outlives: false,
    },
    Lie {
        name: "openingd-with-other-signatures",
        daemon: "lightning_openingd",
        up: other_signatures,
        outlives: false,
    },
    Lie {
        name: "hsmd-that-keeps-our-commitment",
        daemon: "lightning_hsmd",
        up: no_commitment,
        outlives: false,
    },
    Lie { name: "openingd-that-stays", daemon: "lightning_openingd", up: nothing, outlives: true },
    Lie {
        name: "channeld-that-outlives-its-master",
        daemon: "lightning_channeld",
        up: nothing,
        outlives: true,
    },
];

fn nothing(_: &mut Vec<u8>) {}

fn number_of(body: &[u8]) -> Option<u16> {
    body.first_chunk::<2>().map(|n| u16::from_be_bytes(*n))
}

/// Where our money goes on our own commitment and the peer's, but for the half of the funding: the
/// output stays as it is.
fn other_basepoints(body: &mut Vec<u8>) {
    if number_of(body) == Some(Opened::NUMBER) {
        let mut opened = Opened::take_body(&body[2..]).expect("openingd's own words");
        let theirs = opened.state.params.basepoints.remote.clone();
        opened.state.params.basepoints.local.payment = theirs.payment;
        opened.state.params.basepoints.local.delayed_payment = theirs.delayed_payment;
        *body = opened.encode();
    }
}

/// A signature on our first commitment that is none: whoever pays such a channel never gets it back
/// alone.
fn other_signatures(body: &mut Vec<u8>) {
    if number_of(body) == Some(Opened::NUMBER) {
        let mut opened = Opened::take_body(&body[2..]).expect("openingd's own words");
        let secret = secp256k1::SecretKey::from_slice(&[7; 32]).expect("it is no special number");
        let digest = secp256k1::Message::from_digest([8; 32]);
        opened.state.local_signatures.signature = secp256k1::SECP256K1.sign_ecdsa(&digest, &secret);
        *body = opened.encode();
    }
}

fn no_commitment(body: &mut Vec<u8>) {
    if number_of(body) == Some(<SignLocalCommitment as wire::Request>::NUMBER) {
        let refused = Completed::Refused { why: "it is kept".to_owned() };
        *body = answer_frame::<SignLocalCommitment>(&refused);
    }
}

fn main() -> ExitCode {
    let me = std::env::args_os().next().expect("a process has a name");
    let me =
        std::path::Path::new(&me).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let Some(lie) = LIES.iter().find(|l| l.name == me) else {
        eprintln!("{me} is no lie: {:?}", LIES.iter().map(|l| l.name).collect::<Vec<_>>());
        return ExitCode::FAILURE;
    };
    let real = tests::bin_dir().join(lie.daemon);
    if std::env::args_os().len() > 1 {
        let failed = Command::new(real).args(std::env::args_os().skip(1)).exec();
        eprintln!("{me}: {failed}");
        return ExitCode::FAILURE;
    }
    if !lie.outlives {
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).expect("Linux has it");
    }
    // What it was born with it holds to its end.
    let _lock = stand_between(lie, &real);
    let release = std::env::args().next().expect("a process has a name") + ".release";
    // A test that failed leaves nobody behind for long.
    let until = std::time::Instant::now() + 2 * tests::PATIENCE;
    let wanted = || !std::path::Path::new(&release).exists() && std::time::Instant::now() < until;
    while lie.outlives && wanted() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    ExitCode::SUCCESS
}

fn stand_between(lie: &Lie, real: &std::path::Path) -> Option<OwnedFd> {
    let stdin =
        std::io::stdin().as_fd().try_clone_to_owned().expect("a child has a line to its master");
    let mut orders = Conn::new(stdin);
    let (down, child_down) = stream_pair().expect("a pair");
    let (up, child_up) = stream_pair().expect("a pair");
    let Frame { body, mut fds } = orders.recv().expect("the master's first word");
    let upward = fds.pop_front().expect("the upward socket");
    let lock = fds.pop_front();
    // The one that gave birth must live as long: the child dies with this thread.
    let mut child =
        Command::new(real).stdin(Stdio::from(child_down)).spawn().expect("the real one");
    let down = Conn::new(down);
    let attached: Vec<_> =
        [Some(&child_up), lock.as_ref()].into_iter().flatten().map(AsFd::as_fd).collect();
    down.send(&body, &attached).expect("it listens");
    drop(child_up);
    let change = lie.up;
    let mut init = orders.recv().expect("its init");
    // A peer's socket comes last: with it the real one may hand the peer over.
    let kept = init.fds.back().map(|fd| fd.try_clone().expect("a descriptor"));
    if number_of(&init.body) == Some(HsmdInit::NUMBER) {
        let masters = init.fds.pop_front().expect("the master's own line");
        init.fds.push_back(between(masters, change));
    }
    pass(&down, &init);
    drop(init);
    std::thread::spawn(move || {
        while let Ok(frame) = orders.recv() {
            pass(&down, &frame);
        }
    });
    let answers = upward.try_clone().expect("a descriptor");
    let to_child = up.try_clone().expect("a descriptor");
    std::thread::spawn(move || pass_all(answers, to_child));
    let (mut reports, to_master) = (Conn::new(up), Conn::new(upward));
    if lie.daemon != "lightning_hsmd" {
        kept.into_iter().for_each(|fd| reports.keep(fd));
    }
    while let Ok(mut frame) = reports.recv() {
        change(&mut frame.body);
        pass(&to_master, &frame);
    }
    let _ = child.wait();
    lock
}

/// A line that looks like this one, with a thread between that changes what comes back.
fn between(line: OwnedFd, change: Change) -> OwnedFd {
    let (ours, childs) = stream_pair().expect("a pair");
    let (from_master, to_master) = (line.try_clone().expect("a descriptor"), Conn::new(line));
    let (mut from_child, to_child) = (Conn::new(ours.try_clone().expect("a descriptor")), ours);
    std::thread::spawn(move || pass_all(from_master, to_child));
    std::thread::spawn(move || {
        while let Ok(mut frame) = from_child.recv() {
            change(&mut frame.body);
            pass(&to_master, &frame);
        }
    });
    childs
}

/// Passes on everything, and the end: a child that waits for an answer must see that its master
/// died.
fn pass_all(from: OwnedFd, to: OwnedFd) {
    let ends = to.try_clone().expect("a descriptor");
    let (mut from, to) = (Conn::new(from), Conn::new(to));
    while let Ok(frame) = from.recv() {
        pass(&to, &frame);
    }
    // It fails only where the other side is gone already.
    let _ = shutdown(ends.as_raw_fd(), Shutdown::Write);
}

fn pass(to: &Conn, frame: &Frame) {
    let fds: Vec<BorrowedFd<'_>> = frame.fds.iter().map(AsFd::as_fd).collect();
    // Whoever is gone hears nothing more: the loop that reads of it ends by itself.
    let _ = to.send(&frame.body, &fds);
}

use super::*;
use crate::sys::children::Daemon;
use nix::sys::signal::kill;
use std::os::unix::net::UnixStream;

/// Where a test's lock is, until the test ends.
struct Folder(PathBuf);
impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn nursery() -> (Nursery, Folder) {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let n = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("fulmen-nursery-{}-{n}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let lock = ChildrenLock::after_old_children(&dir.join("lock")).unwrap();
    let nursery = Nursery::new(Common {
        level: LogLevel::Debug,
        developer: false,
        sandbox: sandbox::Mode::Required,
        lock,
        barriers: None,
    });
    (nursery, Folder(dir))
}

fn process(pid: Pid, source: &str, down: OwnedFd, up: OwnedFd) -> Process {
    Process {
        pid,
        source: source.to_owned(),
        node: None,
        down,
        down_queue: OutQueue::default(),
        up,
        up_buffer: FrameBuffer::default(),
        up_queue: OutQueue::default(),
        stderr: None,
        ended: false,
        exited: false,
        killed: false,
    }
}

/// A child that lives on whatever happens to its sockets, and its end of the upward one.
#[expect(clippy::zombie_processes, reason = "the nursery waits for it")]
fn stubborn(nursery: &mut Nursery) -> (Pid, OwnedFd, OwnedFd) {
    let (down, down_child) = subdaemon::stream_pair().unwrap();
    let (up, up_child) = subdaemon::stream_pair().unwrap();
    set_nonblocking(&up).unwrap();
    let child = Command::new("sleep").arg("1000").process_group(0).spawn().unwrap();
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    let process = process(pid, "channeld-chan#1", down, up);
    nursery.children.insert(1, process);
    (pid, up_child, down_child)
}

#[test]
fn child_is_dead_before_its_end_is_reported() {
    let unreadable = |up: OwnedFd| {
        nix::unistd::write(&up, &[0xff; 5]).unwrap();
        Some(up)
    };
    let closed = |up: OwnedFd| {
        drop(up);
        None
    };
    for (what, spoil) in [
        ("a frame that cannot be read", &unreadable as &dyn Fn(OwnedFd) -> Option<OwnedFd>),
        ("a closed line", &closed),
    ] {
        let (mut nursery, _folder) = nursery();
        let (pid, up, _down) = stubborn(&mut nursery);
        assert_eq!(kill(pid, None), Ok(()), "it lives");
        let _kept = spoil(up);
        let mut heard = Vec::new();
        // A process that another test just forked may hold the socket for a moment.
        while heard.is_empty() {
            nursery.read(1, Nursery::token(1, 0, 0), 0, &mut heard);
            std::thread::yield_now();
        }
        assert!(matches!(heard[..], [ChildHeard::Gone]), "{what}: {heard:?}");
        assert_eq!(kill(pid, None), Err(Errno::ESRCH), "{what}: it is gone");
    }
}

#[test]
fn a_socket_on_its_way_to_a_child_that_died_is_closed() {
    let (down, down_child) = subdaemon::stream_pair().unwrap();
    let (up, up_child) = subdaemon::stream_pair().unwrap();
    // Waited for already: nothing will take it out of the list before another child dies.
    let process = Process { exited: true, ..process(Pid::this(), "connectd", down, up) };
    let (mut nursery, _folder) = nursery();
    nursery.children.insert(1, process);
    drop((down_child, up_child));
    let (mut daemons, connectds) = UnixStream::pair().unwrap();
    let poll = mio::Poll::new().unwrap();
    nursery.send(1, false, b"serve this channel", vec![connectds.into()], poll.registry(), 0);
    assert_eq!(daemons.read(&mut [0; 1]).unwrap(), 0, "whoever has the other end hears of it");
}

/// Descriptors on their way are counted for a user, but not against root: the test goes on as
/// somebody who has none.
#[test]
fn child_write_is_retried_while_too_many_fds_are_in_flight() {
    let name = "child_write_is_retried_while_too_many_fds_are_in_flight";
    if !crate::testing::as_somebody_else(name) {
        return;
    }
    let (mut nursery, _folder) = nursery();
    let (_pid, _up, down) = stubborn(&mut nursery);
    let poll = mio::Poll::new().unwrap();
    let held = crate::testing::descriptors_on_their_way();
    let pair = UnixStream::pair().unwrap();
    nursery.send(1, false, b"serve", vec![pair.0.into()], poll.registry(), 0);
    let waiting = |nursery: &Nursery| nursery.children.values().any(|p| p.down_queue.bytes() > 0);
    let at = nursery.next_retry().expect("a time to try again");
    assert!(waiting(&nursery));
    // Poll does not say that the socket can be written.
    let (mut poll, mut events) = (poll, mio::Events::with_capacity(8));
    poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
    assert_eq!(events.iter().count(), 0);
    nursery.retry(at, poll.registry(), 0);
    let at = nursery.next_retry().expect("and again");
    assert!(waiting(&nursery));
    drop(held);
    nursery.retry(at, poll.registry(), 0);
    assert_eq!(nursery.next_retry(), None);
    assert!(!waiting(&nursery));
    let frame = subdaemon::Conn::new(down).recv().unwrap();
    assert_eq!((frame.body, frame.fds.len()), (b"serve".to_vec(), 1));
    nursery.end_all();
}

#[test]
fn child_that_cannot_be_started_leaves_nothing_behind() {
    let (mut nursery, _folder) = nursery();
    let missing = [(Daemon::Openingd, PathBuf::from("/nowhere/lightning_openingd"))];
    let at = Executables { paths: missing.into(), plugin_dir: PathBuf::new() };
    let poll = mio::Poll::new().unwrap();
    let (mut connectds, daemons) = UnixStream::pair().unwrap();
    let spec = ChildSpec {
        id: 1,
        daemon: Daemon::Openingd,
        source: "openingd-chan#1".to_owned(),
        node: None,
        init: vec![],
        fds: vec![daemons.into()],
    };
    let why = nursery.spawn(spec, &at, poll.registry(), 0).unwrap_err();
    assert!(why.contains("cannot be started"), "{why}");
    assert!(nursery.children.is_empty());
    assert_eq!(connectds.read(&mut [0; 1]).unwrap(), 0, "whoever has the other end hears of it");
}

use super::*;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100_000))]

    #[test]
    fn frames_are_found_however_their_bytes_are_cut(
        bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6), piece in 1..60usize,
    ) {
        let bytes: Vec<u8> = bodies.iter().flat_map(|b| [&header(b, 0)[..], b].concat()).collect();
        let (mut buffer, mut found) = (FrameBuffer::default(), Vec::new());
        for piece in bytes.chunks(piece) {
            buffer.compact();
            buffer.add(piece);
            while let Some(frame) = buffer.next_frame().unwrap() {
                found.push(frame.body);
            }
        }
        prop_assert_eq!(found, bodies);
        prop_assert!(buffer.is_empty());
    }

    // The first length is often one that could be.
    #[test]
    fn any_bytes_are_frames_or_an_error(
        start in prop_oneof![Just(vec![]), Just(vec![0, 0, 0]), Just(vec![0, 0, 0, 2, 0, 7, 7, 0, 0, 0])],
        noise in prop::collection::vec(any::<u8>(), 0..60), piece in 1..60usize,
    ) {
        let (mut buffer, bytes) = (FrameBuffer::default(), [start, noise].concat());
        let mut taken = 0;
        for piece in bytes.chunks(piece) {
            buffer.compact();
            buffer.add(piece);
            loop {
                match buffer.next_frame() {
                    Ok(Some(frame)) => taken += HEADER + frame.body.len(),
                    Ok(None) => break,
                    Err(FrameError::TooLong(n)) => {
                        prop_assert!(n > wire::MAX_FRAME);
                        return Ok(());
                    }
                    Err(FrameError::Descriptors) => return Ok(()),
                }
            }
        }
        prop_assert!(taken <= bytes.len());
    }
}

#[test]
fn frames_keep_their_own_descriptors_however_they_are_read() {
    let (a, b) = crate::stream_pair().unwrap();
    let (x, y) = crate::stream_pair().unwrap();
    send_frame(a.as_fd(), b"none", &[]).unwrap();
    send_frame(a.as_fd(), b"two", &[x.as_fd(), y.as_fd()]).unwrap();
    send_frame(a.as_fd(), b"", &[]).unwrap();
    send_frame(a.as_fd(), b"one", &[x.as_fd()]).unwrap();
    drop(a);
    let mut conn = Conn::new(b);
    let got: Vec<_> =
        std::iter::from_fn(|| conn.recv().ok()).map(|f| (f.body, f.fds.len())).collect();
    let want = [(b"none".to_vec(), 0), (b"two".to_vec(), 2), (vec![], 0), (b"one".to_vec(), 1)];
    assert_eq!(got, want);
}

#[test]
fn handed_over_descriptor_is_the_kept_one_and_only_once() {
    let (a, b) = crate::stream_pair().unwrap();
    let (x, y) = crate::stream_pair().unwrap();
    let (writer, mut reader) = (Conn::new(a), Conn::new(b));
    reader.keep(x);
    writer.send(b"before", &[]).unwrap();
    writer.send_kept(b"take it").unwrap();
    writer.send_kept(b"again").unwrap();
    assert!(reader.recv().unwrap().fds.is_empty());
    let mut frame = reader.recv().unwrap();
    nix::unistd::write(frame.fds.pop_front().unwrap(), &[7]).unwrap();
    let mut got = [0; 1];
    nix::unistd::read(&y, &mut got).unwrap();
    assert_eq!(got, [7], "it is that descriptor");
    assert_eq!(reader.recv().unwrap_err().kind(), io::ErrorKind::InvalidData);
}

/// How often this process holds these bytes, each given XORed with `MASK`.
fn copies(masked: &[u8]) -> usize {
    use std::os::unix::fs::FileExt;
    let memory = std::fs::File::open("/proc/self/mem").unwrap();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mut found = 0;
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (from, to) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
        let [mut at, to] = [from, to].map(|hex| u64::from_str_radix(hex, 16).unwrap());
        let mut page = vec![0; 1 << 20];
        // What is found once lies in `page` as well: the pages overlap, so that nothing is missed.
        while at < to {
            let count = usize::try_from(to - at).unwrap().min(page.len());
            let Ok(count) = memory.read_at(page.get_mut(..count).unwrap(), at) else { break };
            let read = page.get(..count).unwrap();
            found += read
                .windows(masked.len())
                .filter(|w| w.iter().zip(masked).all(|(a, b)| a ^ MASK == *b))
                .count();
            if count <= masked.len() || at + count as u64 >= to {
                break;
            }
            at += (count - masked.len()) as u64;
        }
    }
    found
}
const MASK: u8 = 0x5a;

/// Half a frame, a frame behind another, frames that make the buffers grow: nothing stays of any of
/// them once it is taken.
#[test]
fn frames_leave_no_bytes_behind_once_they_are_taken() {
    let masked: Vec<u8> = (0..24u8).map(|i| i.wrapping_mul(89) ^ 0xc3).collect();
    let secret = || zeroize::Zeroizing::new(masked.iter().map(|b| b ^ MASK).collect::<Vec<u8>>());
    let long = |len: usize| {
        let mut body = zeroize::Zeroizing::new(Vec::with_capacity(len + 24));
        body.resize(len, 1);
        body.extend_from_slice(&secret());
        body
    };
    let (a, b) = crate::stream_pair().unwrap();
    let mut queue = OutQueue::default();
    let mut buffer = FrameBuffer::default();
    for len in [100, 70_000, 200, 100_000, 300] {
        queue.push(&long(len), vec![]);
    }
    assert!(copies(&masked) > 0, "the test sees what is there");
    let mut taken = 0;
    while taken < 5 {
        queue.flush(a.as_fd()).unwrap();
        buffer.fill(b.as_fd()).unwrap();
        while let Some(mut frame) = buffer.next_frame().unwrap() {
            assert!(frame.body.ends_with(&secret()));
            frame.body.zeroize();
            taken += 1;
        }
    }
    assert_eq!(copies(&masked), 0, "with the buffers still there");
    // What moves to the buffer's front is nowhere else.
    buffer.add(&[0, 0, 0, 100, 0]);
    buffer.add(&[1; 100]);
    buffer.add(&[0, 0, 0, 200, 0]);
    buffer.add(&long(40));
    assert!(buffer.next_frame().unwrap().is_some());
    buffer.compact();
    buffer.bytes.fill(0);
    assert_eq!(copies(&masked), 0);
    buffer = FrameBuffer::default();
    // Nothing stays of what was never taken.
    queue.push(&long(3), vec![]);
    queue.push(&long(3), vec![]);
    queue.flush(a.as_fd()).unwrap();
    queue.push(&long(3), vec![]);
    buffer.fill(b.as_fd()).unwrap();
    drop((queue, buffer));
    assert_eq!(copies(&masked), 0);
}

#[test]
fn queue_gives_way_when_the_reader_is_slow_and_loses_nothing() {
    let (a, b) = crate::stream_pair().unwrap();
    let mut queue = OutQueue::default();
    for i in 0..100u8 {
        queue.push(&vec![i; 50_000], vec![]);
    }
    assert_eq!(queue.flush(a.as_fd()).unwrap(), Flushed::Full, "no socket buffer takes 5 MB");
    let reader = std::thread::spawn(move || {
        let mut conn = Conn::new(b);
        (0..100u8).all(|i| conn.recv().unwrap().body == vec![i; 50_000])
    });
    while queue.flush(a.as_fd()).unwrap() != Flushed::All {
        std::thread::yield_now();
    }
    assert_eq!(queue.bytes(), 0);
    assert!(reader.join().unwrap());
}

#[test]
fn frame_length_above_the_bound_is_refused_before_allocating() {
    let (a, b) = crate::stream_pair().unwrap();
    nix::unistd::write(&a, &[0xff; 16]).unwrap();
    assert_eq!(Conn::new(b).recv().unwrap_err().kind(), io::ErrorKind::InvalidData);
}

#[test]
fn announced_descriptors_that_did_not_come_are_an_error() {
    let (a, b) = crate::stream_pair().unwrap();
    nix::unistd::write(&a, &[0, 0, 0, 0, 1]).unwrap();
    assert_eq!(Conn::new(b).recv().unwrap_err().kind(), io::ErrorKind::InvalidData);
}

//! The stream between two processes of the suite: whatever the other end writes, in pieces of any
//! size, frames or an error.

use subdaemon::FrameBuffer;

pub fn run(data: &[u8]) {
    let Some((piece, data)) = data.split_first() else { return };
    let (mut buffer, mut taken) = (FrameBuffer::default(), 0);
    for piece in data.chunks(usize::from(*piece) + 1) {
        buffer.add(piece);
        loop {
            match buffer.next_frame() {
                Ok(Some(frame)) => taken += 5 + frame.body.len(),
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
    assert!(taken <= data.len());
}

//! Asking hsmd.

use crate::barrier;
use crate::failure::Failure;
use crate::frame::Conn;
use crate::master::take_answer;
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use std::io::ErrorKind;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;
use wire::hsm::HsmRequest;
use wire::{Message, Request};
use zeroize::Zeroizing;

/// A client socket of hsmd, with the rights that the master gave it.
#[derive(Debug)]
pub struct Hsm(Conn);

impl Hsm {
    /// Over a blocking stream whose other end is hsmd's.
    pub fn new(fd: OwnedFd) -> Self {
        Self(Conn::new(fd))
    }
    /// For whom the node cannot wait for ever: a question that hsmd does not read or answer within
    /// `patience` fails.
    pub fn with_patience(fd: OwnedFd, patience: Duration) -> std::io::Result<Self> {
        let patience = i64::try_from(patience.as_micros()).unwrap_or(i64::MAX);
        let patience = TimeVal::microseconds(patience);
        setsockopt(&fd, sockopt::ReceiveTimeout, &patience)?;
        setsockopt(&fd, sockopt::SendTimeout, &patience)?;
        Ok(Self::new(fd))
    }
    /// Asks, and waits. hsmd answers at once or closes us: then we asked for what is not ours.
    pub fn ask<R: Request>(&mut self, question: &R) -> Result<R::Answer, Failure> {
        let none = || Failure::internal("a question without descriptors waits for descriptors");
        self.ask_with(question, &[])?.ok_or_else(none)
    }
    /// As [`Self::ask`], with descriptors: they stay open here, hsmd gets its own. `None` where too
    /// many descriptors of this user are on their way: nothing was asked.
    pub fn ask_with<R: Request>(
        &mut self,
        question: &R,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Option<R::Answer>, Failure> {
        // Questions have secrets. With room from the start: a vector that grows would leave copies
        // behind.
        let mut body = Zeroizing::new(Vec::with_capacity(2048));
        body.extend_from_slice(&R::NUMBER.to_be_bytes());
        question.put(&mut body);
        fits::<R>(&body).map_err(Failure::internal)?;
        let lost = |e: std::io::Error| lost(R::NAME, &e);
        barrier::pass("before a question to hsmd");
        match self.0.send(&body, fds) {
            Err(e) if e.raw_os_error() == Some(Errno::ETOOMANYREFS as i32) => return Ok(None),
            sent => sent.map_err(lost)?,
        }
        barrier::pass("after a question to hsmd");
        let frame = self.0.recv().map_err(lost)?;
        barrier::pass("after hsmd's answer");
        take_answer::<R>(&Zeroizing::new(frame.body)).map(Some)
    }
    /// Sends a message that hsmd does not answer, in order with the questions on this socket. `Err`
    /// if hsmd closed it.
    pub fn order<M: Message>(&mut self, message: &M) -> Result<(), Failure> {
        barrier::pass("before an order to hsmd");
        self.0.send(&message.encode(), &[]).map_err(|e| lost(M::NAME, &e))?;
        barrier::pass("after an order to hsmd");
        Ok(())
    }
}

/// Of a question or an order of this name.
fn lost(name: &str, e: &std::io::Error) -> Failure {
    // Only where a patience was set.
    let hangs = e.kind() == ErrorKind::WouldBlock;
    Failure::internal(if hangs {
        format!("hsmd hangs: it has not answered {name} in time")
    } else {
        format!("hsmd closed us at {name}: {e}")
    })
}

/// `Err`, a sentence, where hsmd would close whoever asks this: it is longer than its row allows.
pub fn fits_hsmd<R: Request>(question: &R) -> Result<(), String> {
    let mut body = Zeroizing::new(Vec::with_capacity(2048));
    body.extend_from_slice(&R::NUMBER.to_be_bytes());
    question.put(&mut body);
    fits::<R>(&body)
}

fn fits<R: Request>(body: &[u8]) -> Result<(), String> {
    let (length, longest) = (body.len() - 2, HsmRequest::row(R::NUMBER).map(|row| row.longest));
    match longest {
        Some(longest) if length > longest => {
            Err(format!("{} of {length} bytes, of at most {longest}", R::NAME))
        }
        Some(_) | None => Ok(()),
    }
}

/// The body of the frame that answers `R`.
pub fn answer_frame<R: Request>(answer: &R::Answer) -> Vec<u8> {
    let mut body = R::NUMBER.to_be_bytes().to_vec();
    wire::Wire::put(answer, &mut body);
    body
}

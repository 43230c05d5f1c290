//! closingd: the negotiation of one mutual closing's fee, `closing_signed` by `closing_signed`.
//! BOLT 2, "Legacy Closing Negotiation".
//!
//! It begins where both sides have said `shutdown` and nothing is pending, and ends with a fee that
//! both have signed for. Each offer of ours is on disk before hsmd signs it and the peer can see
//! it; each signature of the peer's that we may use is on disk before we answer. It holds no key,
//! publishes no transaction, and fails no channel for a fee unless BOLT 2 says that it must.
//!
//! [`negotiation`] is the haggling as a value; `line` is who may speak; the rest is here.
#![deny(clippy::indexing_slicing)]

mod line;
pub mod negotiation;
mod settings;

pub use settings::Settings;

use crate::line::Partners;
use crate::negotiation::{FeeStep, Negotiation, NegotiationError, Offer, Range, Role};
use channel::Constants;
use channel::closing::{self, BadClosing};
use primitives::*;
use subdaemon::{Child, Failure, Hsm, Orders, Peer, Sandbox};
use wire::ClosingSigned;
use wire::closingd::*;
use wire::hsm::{CheckClosing, ClosingState, SignClosing, Verdict};

//~ The tour comes from channeld, which leaves a channel with nothing pending. Read `negotiation`
//~ beside BOLT 2's list of what a receiver does; then see in `conclude` and `offer` what is on disk
//~ when. The transaction is lightningd's to publish; for a close by one side go on to onchaind.
/// closingd, from its start to the end of the connection.
pub fn run(child: Child, settings: &Settings) -> Result<(), Failure> {
    let Child { mut orders, master, sandbox, .. } = child;
    if settings.sandbox {
        subdaemon::enter_sandbox(&Sandbox::Leaf, sandbox)?;
    }
    let (init, mut fds) = orders.recv_as(ToClosingd::decode_known)?;
    let ToClosingd::ClosingdInit(init) = init;
    let hsm = Hsm::new(Orders::take_fd(&mut fds, "hsmd socket")?);
    let peer = Peer::new(Orders::take_fd(&mut fds, "peer socket")?);
    let mut line = Partners::new(orders, master, hsm, peer, init.channel, settings);
    match Closing::new(&init).and_then(|closing| closing.negotiate(&mut line)) {
        Ok(agreed) => {
            line.status("Closing agreed")?;
            line.report(&agreed)?;
            line.linger(settings.linger)
        }
        Err(failure) => {
            line.tell(&failure);
            Err(failure)
        }
    }
}

/// The channel and the scripts, which stay the same while the fee is negotiated.
struct Closing {
    channel: ChannelId,
    constants: Constants,
    balance: Sides<Msat>,
    script: Sides<ScriptBuf>,
    start: Negotiation,
}

impl Closing {
    fn new(init: &ClosingdInit) -> Result<Self, Failure> {
        let constants = Constants::new(init.params.clone()).map_err(Failure::internal)?;
        let opener = init.params.opener;
        let role = if opener == Side::Local { Role::Opener } else { Role::Accepter };
        let range = Range { min: init.min_fee, max: init.max_fee };
        let has = init.balance[opener].sat_floor();
        let start = Negotiation::new(role, range, init.ideal_fee, has);
        let (channel, balance, script) = (init.channel, init.balance, init.script.clone());
        Ok(Self { channel, constants, balance, script, start })
    }

    /// BOLT 2: the opener speaks first; then by turns, until both have named one fee.
    fn negotiate(&self, line: &mut Partners) -> Result<ClosingAgreed, Failure> {
        let mut talk = self.start;
        if let Some((next, offer)) = talk.open() {
            line.status("Closing: our fee is proposed")?;
            self.offer(line, offer)?;
            talk = next;
        } else {
            line.status("Closing: waiting for the peer's fee")?;
        }
        loop {
            let said = line.await_offer()?;
            let theirs = said.fee_range.as_ref().map(Range::from);
            // Nothing follows from a fee that was not signed for.
            self.check(line, &said)?;
            let (next, step) = talk.hear(said.fee_satoshis, theirs).map_err(failure_of)?;
            log::debug!("the peer's fee {}, range {theirs:?}: {step:?}", said.fee_satoshis);
            match step {
                FeeStep::Agreed(_) => return self.conclude(line, &said),
                FeeStep::Accept(offer) => {
                    let agreed = self.conclude(line, &said)?;
                    self.offer(line, offer)?;
                    return Ok(agreed);
                }
                FeeStep::Counter(offer) => self.offer(line, offer)?,
            }
            talk = next;
        }
    }

    fn state(&self, fee: Sat) -> ClosingState {
        ClosingState { balance: self.balance, script: self.script.clone(), fee }
    }

    /// On disk, signed, said: in this order. From the moment hsmd has signed, the peer may have it.
    fn offer(&self, line: &mut Partners, offer: Offer) -> Result<(), Failure> {
        let state = self.state(offer.fee);
        self.transaction(&state)?;
        line.persist(&PersistOffer { state: state.clone() })?;
        let signature = line.ask_hsm(&SignClosing { state })?;
        line.say(&ClosingSigned {
            channel_id: self.channel,
            fee_satoshis: offer.fee,
            signature,
            fee_range: Some(offer.range.into()),
        })
    }

    /// BOLT 2: the signature must hold for a closing transaction at that fee.
    fn check(&self, line: &mut Partners, said: &ClosingSigned) -> Result<(), Failure> {
        let state = self.state(said.fee_satoshis);
        let transaction = self.transaction(&state)?;
        let question = CheckClosing { state, signature: said.signature };
        match line.ask_hsm(&question)? {
            Verdict::Good => Ok(()),
            Verdict::Bad { why } => {
                log::info!("closing_signed: {why}");
                // BOLT 1, error: with the transaction that it should be for.
                let transaction = bitcoin::consensus::encode::serialize_hex(&transaction);
                let told =
                    format!("the signature of closing_signed does not hold for {transaction}");
                Err(Failure::PeerWarn(told))
            }
        }
    }

    /// The transaction at that fee, if one can be made.
    fn transaction(&self, state: &ClosingState) -> Result<Transaction, Failure> {
        let built = closing::our_choice(&self.constants, state)
            .and_then(|kept| closing::build(&self.constants, state, kept));
        built.map(|b| b.tx).map_err(|why| match why {
            BadClosing::Balance { .. } => Failure::internal(why),
            // BOLT 2: a closing that nobody relays fails the channel.
            BadClosing::Dust { .. } => Failure::PeerError(why.to_string()),
            BadClosing::Fee { .. } | BadClosing::NoOutput => Failure::PeerWarn(why.to_string()),
        })
    }

    /// The peer has signed what we take: that is on disk before anything is answered.
    fn conclude(&self, line: &Partners, said: &ClosingSigned) -> Result<ClosingAgreed, Failure> {
        let (state, signature) = (self.state(said.fee_satoshis), said.signature);
        line.persist(&PersistPeerSignature { state: state.clone(), signature })?;
        Ok(ClosingAgreed { state, signature })
    }
}

fn failure_of(discord: NegotiationError) -> Failure {
    if discord.ends_the_channel() {
        Failure::PeerError(discord.to_string())
    } else {
        Failure::PeerWarn(discord.to_string())
    }
}

//! Watermarks of each channel: signatures and secrets that cannot be taken back.
//!
//! A captured child must not be able to make us punishable. So: the remote's commitment n may be
//! signed again until its secret is shown, and n+1 only once n-1 is revoked; each has one point and
//! no other. Our secret n is given only after a valid n+1 was shown and the master has stored it,
//! and never from a number on that was signed for broadcast; a number that was given out is never
//! signed for broadcast. A closing pays us what the last state owed us, where the master said; once
//! one was signed, commitments change no balance and bring no HTLC. Which of these a channel's
//! phase lets be asked at all is the table `channel::phase`.
//!
//! All of this is memory. After a restart it follows from the master's rows: a seed only ever
//! raises it. While we live, rows that tell more than was asked of us are a child's lie.

use crate::blinding::secp;
use crate::refusal::{ClosingRefusal, Refusal};
use channel::Constants;
use channel::phase::{ChannelPhase, Input, Rule, rule};
use primitives::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use wire::channel_data::{Basepoints, ChannelParams, CommitmentState};
use wire::hsm::{ChannelSeed, ClosingState, ClosingTerms};

/// The newest state that was shown for one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shown {
    owed: Msat,
    htlcs: bool,
}

/// The watermarks of one channel.
#[derive(Debug, Default)]
pub(crate) struct Judge {
    constants: Option<Arc<Constants>>,
    /// As the master said last; before that the channel is being opened. Once a closing is stored
    /// no earlier phase comes again.
    phase: ChannelPhase,
    /// Our newest that was shown with good signatures.
    shown: Option<CommitmentNumber>,
    /// How many of ours are revoked, or may be.
    local_revoked: CommitmentNumber,
    /// How many of ours the master has on disk as revoked, with the one after them: only their
    /// secrets go out.
    stored_revoked: CommitmentNumber,
    /// The first of ours that was signed for broadcast.
    broadcast: Option<CommitmentNumber>,
    /// The remote's newest that we signed.
    signed: Option<CommitmentNumber>,
    /// How many of the remote's are revoked.
    remote_revoked: CommitmentNumber,
    /// The points of the remote's that matter: the last revoked and all after.
    remote_points: BTreeMap<CommitmentNumber, Point>,
    /// Our balance in the newest commitment of each side.
    last: Sides<Option<Shown>>,
    closing: Option<ClosingTerms>,
}

impl Judge {
    pub(crate) fn constants(&self) -> Result<Arc<Constants>, Refusal> {
        self.constants.clone().ok_or(Refusal::NoParams)
    }

    /// The channel's parameters, told once; again only the same.
    pub(crate) fn setup(
        &mut self,
        params: &ChannelParams,
        ours: &Basepoints,
    ) -> Result<(), Refusal> {
        match &self.constants {
            Some(known) if known.params == *params => Ok(()),
            Some(_) => Err(Refusal::OtherParams),
            None => {
                if params.basepoints.local != *ours {
                    return Err(Refusal::NotOurBasepoints);
                }
                let constants = Constants::new(params.clone())
                    .map_err(|e| Refusal::Unbuildable(e.to_string()))?;
                self.constants = Some(Arc::new(constants));
                Ok(())
            }
        }
    }

    /// What the master's rows say. It raises what is known, and nothing falls; but for what a
    /// closing owes us: what was shown and never stored did not happen.
    pub(crate) fn seed(&mut self, seed: &ChannelSeed, ours: &Basepoints) -> Result<(), Refusal> {
        let two_live = |newest: CommitmentNumber, revoked: CommitmentNumber| {
            newest.0.checked_sub(revoked.0).is_some_and(|live| live <= 1)
        };
        if !two_live(seed.local_number, seed.local_revoked)
            || !two_live(seed.remote_number, seed.remote_revoked)
        {
            return Err(Refusal::BadSeed("more than two commitments of one side count"));
        }
        if seed.local_number >= CommitmentNumber::LAST
            || seed.remote_number >= CommitmentNumber::LAST
        {
            return Err(Refusal::BadSeed("a number beyond the last"));
        }
        let known = self.constants.is_some();
        self.setup(&seed.params, ours)?;
        if known {
            self.knows_all_of(seed)?;
        }
        let next = seed.remote_revoked.next();
        let told = [(seed.remote_revoked, Some(seed.remote_point)), (next, seed.remote_next_point)];
        let told = told.iter().filter_map(|(number, point)| point.map(|p| (*number, p)));
        for (number, point) in told.clone() {
            if self.remote_points.get(&number).is_some_and(|known| *known != point) {
                return Err(Refusal::WrongPoint { number });
            }
        }
        let is_bound = self.phase >= ChannelPhase::Negotiating;
        self.phase = if is_bound { seed.phase.max(ChannelPhase::Negotiating) } else { seed.phase };
        self.remote_points.extend(told);
        self.shown = self.shown.max(Some(seed.local_number));
        self.local_revoked = self.local_revoked.max(seed.local_revoked);
        self.revocation_stored(seed.local_revoked);
        self.signed = self.signed.max(Some(seed.remote_number));
        self.remote_revoked = self.remote_revoked.max(seed.remote_revoked);
        self.broadcast = [self.broadcast, seed.broadcast].into_iter().flatten().min();
        self.forget_old_points();
        let owed = Shown { owed: seed.local_balance, htlcs: false };
        self.last = Sides { local: Some(owed), remote: Some(owed) };
        if seed.closing.is_some() {
            self.closing.clone_from(&seed.closing);
        }
        Ok(())
    }

    /// Whatever a child has stored about a channel that we know was asked of us before: else it
    /// lied to the master, so that the next of its kind may have a secret for nothing. The first
    /// commitment of ours openingd may have judged itself.
    fn knows_all_of(&self, seed: &ChannelSeed) -> Result<(), Refusal> {
        let shown = self.shown.unwrap_or(CommitmentNumber::FIRST);
        if seed.local_number > shown {
            return Err(Refusal::BadSeed("a commitment of ours that was never shown"));
        }
        if Some(seed.remote_number) > self.signed {
            return Err(Refusal::BadSeed("a commitment of the peer's that was never signed"));
        }
        if seed.remote_revoked > self.remote_revoked {
            return Err(Refusal::BadSeed("a revocation of the peer's that was never judged"));
        }
        Ok(())
    }

    /// The rule of this channel's phase for a question.
    fn rule(&self, input: Input) -> Rule {
        rule(self.phase, input)
    }
    fn refused<T>(&self, input: Input) -> Result<T, Refusal> {
        Err(Refusal::Phase { input, phase: self.phase })
    }

    /// May a commitment like this be signed, or be shown to us as signed, in this phase? `before`:
    /// the newest of its side.
    fn fits_phase(
        &self,
        input: Input,
        state: &CommitmentState,
        before: Option<CommitmentNumber>,
    ) -> Result<(), Refusal> {
        let number = state.number;
        match self.rule(input) {
            Rule::Taken => Ok(()),
            Rule::First => {
                let agreed = self.constants()?.first_balance();
                let is_first = number == CommitmentNumber::FIRST && before.is_none();
                let as_agreed = state.balance == agreed && state.htlcs.0.is_empty();
                if is_first && as_agreed { Ok(()) } else { Err(Refusal::NotTheFirst { number }) }
            }
            Rule::Unchanged => {
                let kept = self.last[state.side].is_some_and(|last| last == shown(state));
                if kept && state.htlcs.0.is_empty() {
                    Ok(())
                } else {
                    let pays = state.balance.local;
                    let owed = self.last[state.side].map(|last| last.owed);
                    let htlcs = state.htlcs.0.len();
                    Err(ClosingRefusal::Commitment { number, pays, owed, htlcs }.into())
                }
            }
            Rule::BeforeShutdown
            | Rule::WithOutput
            | Rule::Waits
            | Rule::Ignored
            | Rule::Refused => self.refused(input),
        }
    }

    /// `Err` unless this phase takes the input as it is.
    fn takes(&self, input: Input) -> Result<(), Refusal> {
        if self.rule(input) == Rule::Taken { Ok(()) } else { self.refused(input) }
    }

    /// May our half of the channel's announcement be signed?
    pub(crate) fn may_announce(&self) -> Result<(), Refusal> {
        self.takes(Input::SignAnnouncement)
    }

    /// Our point of this number: at most one beyond the next.
    pub(crate) fn may_tell_point(&self, number: CommitmentNumber) -> Result<(), Refusal> {
        let next = self.shown.map_or(CommitmentNumber::FIRST, CommitmentNumber::next);
        if number > next.next() { Err(Refusal::TooFar { number }) } else { Ok(()) }
    }

    /// May we sign this commitment of the remote's?
    pub(crate) fn may_sign_remote(&self, state: &CommitmentState) -> Result<(), Refusal> {
        let number = state.number;
        if state.side != Side::Remote {
            return Err(Refusal::WrongSide);
        }
        self.fits_phase(Input::SignRemote, state, self.signed)?;
        let revoked = self.remote_revoked;
        if number < revoked {
            return Err(Refusal::RemoteRevoked { number, revoked });
        }
        let next = self.signed.map_or(CommitmentNumber::FIRST, CommitmentNumber::next);
        if number > next || number >= CommitmentNumber::LAST {
            return Err(Refusal::Leap { number, last: self.signed });
        }
        if number > revoked.next() {
            return Err(Refusal::RemoteTooEarly { number, revoked });
        }
        if self.remote_points.get(&number).is_some_and(|known| *known != state.point) {
            return Err(Refusal::WrongPoint { number });
        }
        Ok(())
    }
    /// We signed it.
    pub(crate) fn signed_remote(&mut self, state: &CommitmentState) {
        self.remote_points.insert(state.number, state.point);
        if self.signed <= Some(state.number) {
            self.signed = Some(state.number);
            self.last.remote = Some(shown(state));
        }
    }

    /// Is this the secret of the remote's commitment? Repeated: judged again, and nothing changes.
    /// `Ok(Err)`: the peer lied.
    pub(crate) fn remote_revokes(
        &mut self,
        number: CommitmentNumber,
        secret: &SecretKey,
    ) -> Result<Result<(), String>, Refusal> {
        let again = self.remote_revoked.previous() == Some(number);
        if !again && (number != self.remote_revoked || self.signed <= Some(number)) {
            return Err(Refusal::Leap { number, last: self.remote_revoked.previous() });
        }
        let Some(point) = self.remote_points.get(&number) else {
            // Revoked before hsmd started: the chain of secrets, which channeld checks, is all
            // there is.
            return if again { Ok(Ok(())) } else { Err(Refusal::WrongPoint { number }) };
        };
        if Point::from_secret_key(&secp(), secret) != *point {
            return Ok(Err(format!("the secret for commitment {number} is not that of its point")));
        }
        if !again {
            self.remote_revoked = number.next();
            self.forget_old_points();
        }
        Ok(Ok(()))
    }
    fn forget_old_points(&mut self) {
        let keep = self.remote_revoked.previous().unwrap_or(CommitmentNumber::FIRST);
        self.remote_points = self.remote_points.split_off(&keep);
    }

    /// May the remote's signatures on this one of ours be looked at, so that the one before may be
    /// revoked? `point` is ours for its number.
    pub(crate) fn may_show_local(
        &self,
        state: &CommitmentState,
        point: Point,
    ) -> Result<(), Refusal> {
        self.is_local(state, point)?;
        self.fits_phase(Input::ShowLocal, state, self.shown)
    }
    /// May this one of ours be signed, to be published?
    pub(crate) fn may_sign_local(
        &self,
        state: &CommitmentState,
        point: Point,
    ) -> Result<(), Refusal> {
        self.takes(Input::SignLocal)?;
        self.is_local(state, point)
    }
    fn is_local(&self, state: &CommitmentState, point: Point) -> Result<(), Refusal> {
        let number = state.number;
        if state.side != Side::Local {
            return Err(Refusal::WrongSide);
        }
        if number < self.local_revoked {
            return Err(Refusal::LocalRevoked { number, revoked: self.local_revoked });
        }
        let next = self.shown.map_or(CommitmentNumber::FIRST, CommitmentNumber::next);
        if number > next || number >= CommitmentNumber::LAST {
            return Err(Refusal::Leap { number, last: self.shown });
        }
        if state.point != point {
            return Err(Refusal::WrongPoint { number });
        }
        Ok(())
    }
    /// They were good.
    pub(crate) fn shown_local(&mut self, state: &CommitmentState) {
        if self.shown <= Some(state.number) {
            self.shown = Some(state.number);
            self.last.local = Some(shown(state));
        }
    }

    /// The master has on disk that so many of ours are revoked.
    pub(crate) fn revocation_stored(&mut self, revoked: CommitmentNumber) {
        self.stored_revoked = self.stored_revoked.max(revoked);
    }

    /// May our secret of this number go out? `true`: it is as good as out. `false`: not before the
    /// master has stored that it may. Otherwise a captured channeld could have a secret whose
    /// commitment the master publishes after a restart.
    pub(crate) fn revoke_local(&mut self, number: CommitmentNumber) -> Result<bool, Refusal> {
        match self.rule(Input::RevokeLocal) {
            Rule::Taken => {}
            Rule::Unchanged if number < self.local_revoked => {}
            Rule::Unchanged => {
                let revoked = self.local_revoked;
                return Err(ClosingRefusal::Secret { number, revoked }.into());
            }
            Rule::First
            | Rule::WithOutput
            | Rule::Waits
            | Rule::BeforeShutdown
            | Rule::Ignored
            | Rule::Refused => {
                return self.refused(Input::RevokeLocal);
            }
        }
        if self.shown <= Some(number) {
            return Err(Refusal::NoSuccessor { number, shown: self.shown });
        }
        if let Some(broadcast) = self.broadcast.filter(|b| *b <= number) {
            return Err(Refusal::Broadcast { number, broadcast });
        }
        if number >= self.stored_revoked {
            return Ok(false);
        }
        self.local_revoked = self.local_revoked.max(number.next());
        Ok(true)
    }

    /// May an HTLC transaction of this commitment of ours be signed? Not of one whose secret is
    /// out, nor of one never shown.
    pub(crate) fn may_take_own_htlc(&self, number: CommitmentNumber) -> Result<(), Refusal> {
        if number < self.local_revoked {
            return Err(Refusal::LocalRevoked { number, revoked: self.local_revoked });
        }
        if self.shown < Some(number) {
            return Err(Refusal::Leap { number, last: self.shown });
        }
        Ok(())
    }

    /// Our commitment is to be signed for broadcast: from then on no secret of it or a later one
    /// goes out.
    pub(crate) fn broadcasts(&mut self, number: CommitmentNumber) {
        self.broadcast = Some(self.broadcast.map_or(number, |b| b.min(number)));
    }

    /// The master has stored a closing of this channel.
    pub(crate) fn closing_stored(&mut self) {
        self.phase = self.phase.max(ChannelPhase::Negotiating);
    }

    /// May we sign this closing? `false`: not before the master has stored that one is signed.
    pub(crate) fn may_close(&self, state: &ClosingState) -> Result<bool, Refusal> {
        match self.rule(Input::SignClosing) {
            Rule::Taken => {}
            Rule::Waits => return Ok(false),
            Rule::Unchanged
            | Rule::First
            | Rule::WithOutput
            | Rule::BeforeShutdown
            | Rule::Ignored
            | Rule::Refused => return self.refused(Input::SignClosing),
        }
        let constants = self.constants()?;
        let terms = self.closing.as_ref().ok_or(ClosingRefusal::NoTerms)?;
        if state.script.local != terms.script {
            return Err(ClosingRefusal::Script.into());
        }
        for side in Side::BOTH {
            if let Some(last) = self.last[side] {
                if last.htlcs {
                    return Err(ClosingRefusal::Htlcs.into());
                }
                if state.balance.local < last.owed {
                    return Err(ClosingRefusal::Floor {
                        pays: state.balance.local,
                        owed: last.owed,
                    }
                    .into());
                }
            }
        }
        if constants.params.opener == Side::Local && state.fee > terms.max_fee {
            return Err(ClosingRefusal::Fee { fee: state.fee, maximum: terms.max_fee }.into());
        }
        Ok(true)
    }
}

fn shown(state: &CommitmentState) -> Shown {
    Shown { owed: state.balance.local, htlcs: !state.htlcs.0.is_empty() }
}

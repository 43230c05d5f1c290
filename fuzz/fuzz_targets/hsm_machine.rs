//! hsmd without its sockets: a master that stores what children tell it, captured clients with any
//! rights, and any questions. A model beside it knows what may never be undone, from the questions
//! and answers alone.

mod model;
mod says;
mod world;

use crate::input::Input;
use primitives::*;
use says::*;
use wire::Bytes;
use wire::hsm::*;
use world::{ENDS, World, question};

/// The most questions and orders of one execution.
const STEPS: usize = 96;

pub fn run(data: &[u8]) {
    let (mut world, mut input) = (World::new(), Input(data));
    for _ in 0..STEPS {
        if step(&mut world, &mut input).is_none() {
            break;
        }
    }
}

fn new_client(world: &mut World, what: u8, input: &mut Input<'_>) -> Option<()> {
    let of = input.below(ENDS.len())?;
    let (ends, model) = (&ENDS[of], &world.channels[of]);
    if model.forgotten {
        // A number is never used twice.
        return Some(());
    }
    let bits = input.byte()?;
    let all: [Capability; 7] = [
        Capability::Ecdh,
        Capability::Points,
        Capability::SignRemote,
        Capability::Revoke,
        Capability::Peel,
        Capability::SignClosing,
        Capability::SignGossip,
    ];
    let mut rights: Vec<_> = if bits < 192 {
        all[1..].to_vec()
    } else {
        (0..7).filter(|bit| bits >> bit & 1 == 1).map(|bit| all[bit]).collect()
    };
    if bits == 255 {
        rights.push(Capability::Master);
    }
    let seed = if what < 208 { Some(seed(input, ends, model)?) } else { None };
    let rights = Rights::of(&rights);
    let q = NewClient { peer: ends.peer, channel: ends.number, rights, seed };
    world.master(&question(&q), usize::from(what != 255));
    Some(())
}

fn step(world: &mut World, input: &mut Input<'_>) -> Option<()> {
    let what = input.byte()?;
    let at = input.below(world.clients.len().max(1))?;
    match what % 16 {
        0 | 1 => new_client(world, what, input)?,
        2 => {
            let of = input.below(ENDS.len())?;
            let (peer, channel) = (ENDS[of].peer, ENDS[of].number);
            let near = world.channels[of].stored + 1;
            let revoked = CommitmentNumber(number(input, near)?);
            world.order(&MasterOrder::RevocationStored(RevocationStored { peer, channel, revoked }));
        }
        3 => {
            let of = input.below(ENDS.len())?;
            let (peer, channel) = (ENDS[of].peer, ENDS[of].number);
            if what >= 128 {
                world.order(&MasterOrder::ClosingStored(ClosingStored { peer, channel }));
            } else if what < 16 {
                world.master(&question(&ForgetChannel { peer, channel }), 0);
            }
        }
        4 if what < 128 => master_signs(world, input)?,
        4 if at < world.clients.len() => honest_round(world, input, at)?,
        5 => {
            // Any bytes, of the master or of a client.
            let length = input.byte()?;
            let body = input.bytes(usize::from(length)).to_vec();
            if what >= 128 {
                world.master(&body, 0);
            } else if at < world.clients.len() {
                world.client(at, body);
            }
        }
        _ if at < world.clients.len() => {
            let of = world.clients[at].of;
            let body = child_asks(what, &world.channels[of], &ENDS[of], input)?;
            world.client(at, body);
        }
        _ => {}
    }
    Some(())
}

/// Both sides sign a next commitment and revoke the one before, as far as hsmd lets them.
fn honest_round(world: &mut World, input: &mut Input<'_>, at: usize) -> Option<()> {
    let of = world.clients[at].of;
    let (ends, model) = (&ENDS[of], &world.channels[of]);
    let (remote, local) = (model.remote_revoked, model.shown.unwrap_or(0));
    let theirs = state(input, ends, Side::Remote, remote + 1)?;
    let ours = state(input, ends, Side::Local, local + 1)?;
    let signatures = ends.signed_by_peer(&ours)?;
    let (number, secret) = (CommitmentNumber(remote), ends.theirs.secret(CommitmentNumber(remote))?);
    let questions = [
        question(&SignRemoteCommitment { state: theirs }),
        question(&RemoteRevoked { number, secret }),
        question(&ValidateLocalCommitment { state: ours, signatures }),
        question(&RevokeLocal { number: CommitmentNumber(local) }),
    ];
    let clients = world.clients.len();
    for question in questions {
        if world.clients.len() < clients {
            return Some(());
        }
        world.client(at, question);
    }
    let (peer, channel) = (ends.peer, ends.number);
    let revoked = CommitmentNumber(local + 1);
    world.order(&MasterOrder::RevocationStored(RevocationStored { peer, channel, revoked }));
    Some(())
}

fn master_signs(world: &mut World, input: &mut Input<'_>) -> Option<()> {
    let of = input.below(ENDS.len())?;
    let (ends, model) = (&ENDS[of], &world.channels[of]);
    let (peer, channel) = (ends.peer, ends.number);
    let near = model.shown.unwrap_or(0);
    let body = match input.byte()? % 6 {
        0 | 1 => {
            let number = number(input, near)?;
            let state = state(input, ends, Side::Local, number)?;
            let signatures = signatures(input, ends, &state)?;
            question(&SignLocalCommitment { peer, channel, state, signatures })
        }
        2 => question(&own_htlc(input, ends, near)?),
        3 => {
            let state = closing_state(input, model)?;
            let mirrored = ClosingState {
                balance: state.balance.swap(),
                script: state.script.clone().swap(),
                ..state.clone()
            };
            let signature = ends.theirs.sign_closing(&ends.mirrored, &mirrored)?;
            question(&CompleteClosing { peer, channel, state, signature })
        }
        4 => question(&MakeSecret { info: Bytes(input.bytes(8).to_vec()) }),
        _ => question(&SignChannelUpdate { unsigned: Bytes(input.bytes(140).to_vec()) }),
    };
    world.master(&body, 0);
    Some(())
}

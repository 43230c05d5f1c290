//! channeld between a real hsmd, a master that stores what it is asked to, and another channeld
//! over a wire that can be cut.

mod closing;
mod hostile;
mod link;
mod master;
mod payments;
mod phases;
mod ready;
mod reconnect;
mod rig;
mod stranger;

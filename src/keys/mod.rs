//! The keys: who holds which key decides who can read.
//!
//! This floor knows the key tree, the root slot that can forget, the checkpoints, the sealed search index, and the
//! order in which an erasure happens. It opens a value only for a [`Permit`](crate::policy::Permit). It must not know
//! who called, what a purpose is, or how an answer is sent.
//!
//! Every key but three follows from the tree: the root key R is in the [slot], what wraps the slot is the [kek], and
//! receipts are signed by a key outside the tree, so that they outlive it.
//!
//! [`adversary`] is the other side: what somebody can read who has copied everything. Tests hold it against the rest.

pub mod adversary;
pub mod checkpoint;
mod create;
pub mod custody;
pub mod doubt;
pub mod drill;
pub mod files;
pub mod flight;
pub mod house;
pub mod index;
pub mod kek;
pub mod lease;
pub mod leaves;
pub mod node;
mod presence;
pub mod receipt;
pub mod recover;
mod reindex;
pub mod ring;
mod save;
pub mod shred;
pub mod signer;
pub mod sink;
pub mod slot;
pub mod statement;
pub mod status;
pub mod suppression;
pub mod token;
pub mod tree;
pub mod verify;

pub use custody::Custody;
pub use reindex::{condemn, destroy_buckets, next_generation};
pub use ring::{Keyring, Place};

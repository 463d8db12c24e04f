//! Lacuna: a gRPC privacy vault that can truly forget.
//!
//! Services hand it personal data and get tokens; they hand it tokens and a purpose and get the data back, if the
//! law, the person and the policy allow it. Each person's data is sealed under keys of their own. Erasure punctures
//! those keys out of a tiny key state, so that every backup ever taken becomes noise for that person and nobody else.
//!
//! # The map
//!
//! Code flows downward only: a floor may use any floor below it, never one above or beside it. Each noun has a file
//! of the same name on each floor that deals with it.
//!
//! - **doors**: [`cli`] reads the command line and speaks gRPC as a client; [`grpc`] serves the API. Both speak the
//!   generated language of [`proto`]. [`config`] and [`telemetry`] are used by the doors only.
//! - **deeds**: [`vault`], one file a noun, one method a deed: admit, act, record.
//! - **keys**: [`keys`] holds who can read: the puncturable tree, the root slot that can forget, the shredder.
//! - **records**: [`store`] is what survives a restart: every statement once, on SQLite and on PostgreSQL.
//! - **rules**: [`policy`] decides and alone makes a permit; [`formats`] reads and writes documents of other systems; [`model`]
//!   holds the words, the states, the values.
//! - **ground**: [`crypto`] turns bytes into bytes; [`batch`] lets many callers share one statement or commit;
//!   [`crash`] is where tests cut the power; [`platform`] asks the operating system; [`trace`] tells what a call is found by.

pub mod batch;
pub mod cli;
pub mod config;
pub mod crash;
pub mod crypto;
pub mod formats;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod grpc;
pub mod keys;
pub mod model;
pub mod platform;
pub mod policy;
pub mod proto;
pub mod store;
pub mod telemetry;
pub mod trace;
pub mod vault;

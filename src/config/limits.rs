//! Configuration of what one caller, and all of them, may take of the door.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Deserialize;

/// Limits of the door.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// How many connections there are at most: 1024.
    pub connections: usize,
    /// How many of them one address has at most, with IPv6 one network of 64 bits: 512.
    pub connections_per_address: usize,
    /// How many calls one connection has under way at most: 1024.
    pub calls_per_connection: u32,
    /// After how many seconds a call that has not begun to answer is given up, or earlier if its caller wants: 60.
    pub call_seconds: u32,
    /// Within how many seconds a connection must have shaken hands and said its first words: 10.
    pub handshake_seconds: u32,
    /// After how many seconds of silence a connection is asked whether it is there: 30.
    pub keepalive_seconds: u32,
    /// Within how many seconds it must have answered that: 20.
    pub keepalive_timeout_seconds: u32,
    /// How large the headers of one call may be, in KiB: 16.
    pub header_kib: u32,
    /// How large one message of a caller may be, in MiB: 16.
    pub request_mib: u32,
    /// After how many milliseconds a look-up of a caller is answered without having been: 80.
    pub lookup_milliseconds: u32,
    /// How much of all messages that are not whole is held at most, in MiB: 256.
    pub arriving_mib: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            connections_per_address: 512,
            calls_per_connection: 1024,
            call_seconds: 60,
            handshake_seconds: 10,
            keepalive_seconds: 30,
            keepalive_timeout_seconds: 20,
            header_kib: 16,
            request_mib: 16,
            lookup_milliseconds: 80,
            arriving_mib: 256,
        }
    }
}

impl Limits {
    pub(super) fn check(&self) -> Result<()> {
        let within = |name: &str, value: u64, least: u64, most: u64| {
            ensure!((least..=most).contains(&value), "limits.{name} must lie between {least} and {most}");
            Ok(())
        };
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        within("connections", count(self.connections), 1, 1_000_000)?;
        within("connections_per_address", count(self.connections_per_address), 1, 1_000_000)?;
        within("calls_per_connection", self.calls_per_connection.into(), 1, 1_000_000)?;
        // An erasure may take 20 seconds before it is answered as pending.
        within("call_seconds", self.call_seconds.into(), 30, 3600)?;
        within("handshake_seconds", self.handshake_seconds.into(), 1, 300)?;
        within("keepalive_seconds", self.keepalive_seconds.into(), 1, 3600)?;
        within("keepalive_timeout_seconds", self.keepalive_timeout_seconds.into(), 1, 3600)?;
        within("header_kib", self.header_kib.into(), 4, 1024)?;
        within("request_mib", self.request_mib.into(), 1, 64)?;
        within("lookup_milliseconds", self.lookup_milliseconds.into(), 10, 10_000)?;
        within("arriving_mib", self.arriving_mib.into(), self.request_mib.into(), 65_536)
    }

    /// How long a call may take.
    #[must_use]
    pub fn call(&self) -> Duration {
        Duration::from_secs(self.call_seconds.into())
    }

    /// How long a look-up of a caller may take.
    #[must_use]
    pub fn lookup(&self) -> Duration {
        Duration::from_millis(self.lookup_milliseconds.into())
    }

    /// How long a connection may take to begin.
    #[must_use]
    pub fn handshake(&self) -> Duration {
        Duration::from_secs(self.handshake_seconds.into())
    }
}

//! When something happened, as telephone systems write it.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::Mapping;
use crate::model::{Error, Result, Time};

/// What is written for a time that there is none of.
const NONE: [&str; 4] = ["", "0", "null", "0000-00-00 00:00:00"];

/// Refuses a format that nothing can be read by.
pub fn check_format(format: &str) -> Result<()> {
    let some = jiff::Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
    let written = jiff::fmt::strtime::format(format, &some).ok();
    let read =
        written.filter(|text| jiff::fmt::strtime::parse(format, text).is_ok_and(|read| read.to_datetime().is_ok()));
    let message = "is no format of a date and a time; write it like %d.%m.%Y %H:%M:%S";
    read.map(drop).ok_or_else(|| Error::invalid("time_format", message))
}

/// The time that stands in a field; `None` when there is none.
pub fn read(field: &str, text: &str, mapping: &Mapping) -> Result<Option<Time>> {
    let text = text.trim();
    if NONE.contains(&text) {
        return Ok(None);
    }
    let read = match &mapping.time_format {
        Some(format) => by_format(format, text, mapping),
        None => by_looks(text, mapping),
    };
    let in_range = read.filter(|time| (0..=Time::LAST.micros()).contains(&time.micros()));
    let message =
        "is no time that can be read: write 2026-11-21 12:00:00, RFC 3339 or seconds since 1970, or tell the format";
    in_range.map(Some).ok_or_else(|| Error::invalid(field, message))
}

fn by_format(format: &str, text: &str, mapping: &Mapping) -> Option<Time> {
    let read = jiff::fmt::strtime::parse(format, text).ok()?;
    match read.offset() {
        Some(_) => Some(Time::from_micros(read.to_timestamp().ok()?.as_microsecond())),
        None => of_civil(read.to_datetime().ok()?, mapping),
    }
}

fn by_looks(text: &str, mapping: &Mapping) -> Option<Time> {
    if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return of_seconds(text);
    }
    if let Some(time) = Time::parse(text) {
        return Some(time);
    }
    if let Ok(zoned) = jiff::fmt::rfc2822::parse(text) {
        return Some(Time::from_micros(zoned.timestamp().as_microsecond()));
    }
    let civil = text.contains([' ', 'T', 't']).then(|| text.parse::<DateTime>().ok()).flatten()?;
    of_civil(civil, mapping)
}

fn of_civil(civil: DateTime, mapping: &Mapping) -> Option<Time> {
    mapping.offset.to_timestamp(civil).ok().map(|moment| Time::from_micros(moment.as_microsecond()))
}

/// Seconds since 1970 with a fraction, or milliseconds or microseconds, told by how many digits there are.
fn of_seconds(text: &str) -> Option<Time> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let number: i64 = whole.parse().ok()?;
    let scale = match whole.len() {
        0..=11 => 1_000_000,
        12..=14 => 1_000,
        _ => 1,
    };
    let part: String = fraction.chars().chain("000000".chars()).take(6).collect();
    let part = if scale == 1_000_000 { part.parse::<i64>().ok()? } else { 0 };
    number.checked_mul(scale)?.checked_add(part).map(Time::from_micros)
}

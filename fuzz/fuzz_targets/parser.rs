//! Every parser of bytes from outside. The name of one is given with `LACUNA_FUZZ`, as `src/fuzz` calls it; without, the first
//! byte chooses. With `LACUNA_FUZZ_NAMES` it tells the names.
//!
//! One program for all of them: linking one takes as long as fuzzing all of them does in CI.
#![no_main]

use std::sync::LazyLock;

use lacuna::fuzz::{Target, targets};
use libfuzzer_sys::fuzz_target;

static TARGETS: LazyLock<Vec<Target>> = LazyLock::new(targets);
static ONE: LazyLock<Option<&'static Target>> = LazyLock::new(|| {
    if std::env::var_os("LACUNA_FUZZ_NAMES").is_some() {
        TARGETS.iter().for_each(|target| println!("{}", target.name));
        std::process::exit(0);
    }
    let name = std::env::var("LACUNA_FUZZ").ok()?;
    let one = TARGETS.iter().find(|target| target.name == name);
    Some(one.unwrap_or_else(|| panic!("there is no target {name}")))
});

fuzz_target!(init: LazyLock::force(&ONE), |bytes: &[u8]| {
    if let Some(target) = *ONE {
        (target.run)(bytes);
    } else if let Some((choice, bytes)) = bytes.split_first() {
        (TARGETS[usize::from(*choice) % TARGETS.len()].run)(bytes);
    }
});

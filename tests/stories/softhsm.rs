//! A token of a test's own, in SoftHSM: a hardware security module without the hardware.
//!
//! SoftHSM finds its tokens through `SOFTHSM2_CONF` and reads it once, so whoever uses one is a process of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{run, said, setting, skipped};

pub const TOKEN: &str = "story";
pub const PIN: &str = "1234-5678";

/// SoftHSM's library; `None`, and a notice, without it.
pub fn module(story: &str) -> Option<String> {
    let module = setting("LACUNA_TEST_PKCS11");
    if module.is_none() {
        skipped(&format!("{story} with a PKCS#11 token"), "LACUNA_TEST_PKCS11");
    }
    module
}

/// Makes a place for tokens in a folder, with one token in it.
pub fn make(folder: &Path) {
    fs::create_dir_all(tokens(folder)).unwrap();
    write_conf(folder);
    add_token(folder, TOKEN);
}

/// Says where the tokens are; once more for a folder that was copied.
pub fn write_conf(folder: &Path) {
    let text = format!("directories.tokendir = {}\nlog.level = ERROR\n", tokens(folder).display());
    fs::write(conf(folder), text).unwrap();
}

/// Makes another token in the same place.
pub fn add_token(folder: &Path, label: &str) {
    let mut command = Command::new("softhsm2-util");
    command.args(["--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", PIN]);
    let output = run(command.env("SOFTHSM2_CONF", conf(folder)));
    assert!(output.status.success(), "{}", said(&output));
    for head in heads(folder) {
        fs::copy(&head, head.with_extension("kept")).unwrap();
    }
}

/// Puts the head of each token back that is empty. SoftHSM empties it and then writes it at every login, so a process
/// that is killed in between takes the whole token along; hardware does not die with its callers.
pub fn mend(folder: &Path) {
    for head in heads(folder).into_iter().filter(|head| fs::metadata(head).unwrap().len() == 0) {
        fs::copy(head.with_extension("kept"), head).unwrap();
    }
}

/// Pulls every token out, as far as anybody can tell who asks for one.
pub fn pull_out(folder: &Path) {
    fs::rename(tokens(folder), folder.join("away")).unwrap();
}

/// Plugs them in again.
pub fn plug_in(folder: &Path) {
    fs::rename(folder.join("away"), tokens(folder)).unwrap();
}

/// What SoftHSM keeps of each token as such: label, PIN and flags.
fn heads(folder: &Path) -> Vec<PathBuf> {
    // They may be pulled out.
    let tokens = fs::read_dir(tokens(folder)).into_iter().flatten();
    tokens.map(|token| token.unwrap().path().join("token.object")).filter(|head| head.exists()).collect()
}

/// What `SOFTHSM2_CONF` has to be.
pub fn conf(folder: &Path) -> PathBuf {
    folder.join("softhsm2.conf")
}

/// Where SoftHSM keeps its tokens.
pub fn tokens(folder: &Path) -> PathBuf {
    folder.join("tokens")
}

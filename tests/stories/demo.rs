//! The demo, which is the first that anybody sees.

use crate::process::{lacuna, run, said};

/// What the demo claims, line by line, without how long something took.
fn claims(text: &str) -> Vec<&str> {
    let claims = text.lines().map(str::trim).filter(|line| line.starts_with("yes: ") || line.starts_with("no: "));
    claims.map(|claim| claim.split_once(", after ").map_or(claim, |(what, _)| what)).collect()
}

#[test]
fn the_demo_shows_what_the_readme_says_that_it_shows() {
    let nowhere = tempfile::tempdir().unwrap();
    let output = run(lacuna().arg("demo").current_dir(nowhere.path()));
    assert!(output.status.success(), "{}", said(&output));
    let (shown, promised) = (String::from_utf8(output.stdout).unwrap(), include_str!("../../README.md"));
    assert_eq!(claims(&shown), claims(promised));
    assert!(shown.contains(&format!("All {} claims hold", claims(promised).len())), "{shown}");
}

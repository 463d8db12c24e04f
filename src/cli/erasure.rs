//! `lacuna erasure`: what became of an erasure, and its proof.

use std::path::PathBuf;

use clap::Subcommand;
use data_encoding::BASE64;
use serde_json::json;

use super::client::Remote;
use super::failure::Result;
use super::page::Paging;
use super::print::{self, Answer};
use super::table;
use crate::proto::v1;

/// What can be done with erasures.
#[derive(Subcommand)]
pub enum Verb {
    /// Describe an erasure: its state, its plan, what it waits for.
    Show {
        /// The erasure.
        erasure: String,
    },
    /// List erasures, oldest first.
    List(Paging),
    /// Call off an erasure that is still scheduled.
    Cancel {
        /// The erasure.
        erasure: String,
    },
    /// Fetch the signed receipt of an erasure.
    Receipt {
        /// The erasure.
        erasure: String,
        /// Where to write it; standard output unless given
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
}

/// Carries out a verb and shows the answer.
pub async fn run(remote: Remote, verb: Verb) -> Result<()> {
    let answer = match verb {
        Verb::Show { erasure } => show(&remote, erasure).await,
        Verb::List(paging) => list(&remote, paging).await,
        Verb::Cancel { erasure } => cancel(&remote, erasure).await,
        Verb::Receipt { erasure, file } => receipt(&remote, erasure, file).await,
    };
    remote.output.show(&answer?)
}

async fn show(remote: &Remote, erasure: String) -> Result<Answer> {
    let request = v1::GetErasureRequest { erasure };
    Ok(answer(remote.open().await?.subjects.get_erasure(request).await?.into_inner().erasure, None))
}

async fn list(remote: &Remote, paging: Paging) -> Result<Answer> {
    let mut vault = remote.open().await?;
    let page = async |page_size, page_token| {
        let request = v1::ListErasuresRequest { page_size, page_token };
        let response = vault.subjects.list_erasures(request).await?.into_inner();
        Ok((response.erasures, response.next_page_token))
    };
    let listed = paging.collect(page).await?;
    let erasures: Vec<_> = listed.entries.iter().map(print::erasure).collect();
    let json = json!({ "erasures": erasures, "next_page_token": listed.next_page_token });
    Ok(Answer::new(json, listed.human("erasure", table::erasures)))
}

async fn cancel(remote: &Remote, erasure: String) -> Result<Answer> {
    let request = v1::CancelErasureRequest { erasure };
    Ok(answer(remote.open().await?.subjects.cancel_erasure(request).await?.into_inner().erasure, None))
}

/// Writes the envelope byte for byte to a file; on standard output the envelope is the answer.
async fn receipt(remote: &Remote, erasure: String, file: Option<PathBuf>) -> Result<Answer> {
    let request = v1::GetReceiptRequest { erasure };
    let response = remote.open().await?.subjects.get_receipt(request).await?.into_inner();
    let human = print::signed(&response.receipt, "receipt", file.as_deref(), "lacuna receipt verify")?;
    Ok(Answer::new(json!({ "receipt": BASE64.encode(&response.receipt), "json": response.json }), human))
}

/// An erasure in both forms; people are told `next`, or what its state asks for.
pub fn answer(erasure: Option<v1::Erasure>, next: Option<&str>) -> Answer {
    let erasure = erasure.unwrap_or_default();
    let next = next.map_or_else(|| next_step(&erasure), ToOwned::to_owned);
    let human = format!("{}\n{next}", table::erasure(&erasure));
    Answer::new(json!({ "erasure": print::erasure(&erasure) }), human)
}

/// Whether copies reveal the person still: what a law or a legal hold keeps does.
fn still_revealed(plan: &[v1::ErasurePlanItem]) -> String {
    let kept = || plan.iter().filter(|item| item.verdict == "KEEP_RESTRICTED" && item.count > 0);
    let count = |of: &dyn Fn(&v1::ErasurePlanItem) -> bool| -> usize {
        let values = kept().filter(|item| of(item)).map(|item| item.count).sum::<u64>();
        usize::try_from(values).unwrap_or(usize::MAX)
    };
    let last = kept().filter_map(|item| item.end_time).max_by_key(|time| (time.seconds, time.nanos));
    let (timed, held) = (count(&|item| item.end_time.is_some()), count(&|item| item.end_time.is_none()));
    let values = |count| table::count(count, "value");
    let left = match (timed, held) {
        (0, 0) => return "No copy reveals this person any more.".to_owned(),
        (_, 0) => format!("{} kept until {} at the latest", values(timed), table::time(last)),
        (0, _) => format!("{} kept until a legal hold is released", values(held)),
        _ => format!(
            "{} kept until {} at the latest, and {} until a legal hold is released",
            values(timed),
            table::time(last),
            values(held)
        ),
    };
    format!(
        "Still there: {left}. They open with an approval only, for legal claims and authorities. No copy reveals \
         anything else of this person any more."
    )
}

fn next_step(erasure: &v1::Erasure) -> String {
    let id = &erasure.erasure;
    match erasure.state() {
        v1::ErasureState::Scheduled => {
            format!("Call it off before it is due with: lacuna subject restore {}", erasure.subject)
        }
        v1::ErasureState::Pending => format!("Not done yet. Look again with: lacuna erasure show {id}"),
        v1::ErasureState::Shredded => {
            let (revealed, proof) = (still_revealed(&erasure.plan), format!("lacuna erasure receipt {id}"));
            format!("{revealed} Fetch the proof with: {proof}")
        }
        v1::ErasureState::Cancelled => "Called off; the person's data can be used again.".to_owned(),
        v1::ErasureState::Unspecified => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_not_said_to_be_gone() {
        let item = |verdict: &str, count, seconds: Option<i64>| v1::ErasurePlanItem {
            verdict: verdict.to_owned(),
            count,
            end_time: seconds.map(|seconds| prost_types::Timestamp { seconds, nanos: 0 }),
            ..Default::default()
        };
        let gone = item("DESTROY", 4, None);
        let nothing = still_revealed(&[gone.clone(), item("KEEP_PSEUDONYM", 4, None)]);
        assert_eq!(nothing, "No copy reveals this person any more.");

        let law = [item("KEEP_RESTRICTED", 2, Some(86_400)), item("KEEP_RESTRICTED", 1, Some(0))];
        let told = still_revealed(&[vec![gone.clone()], law.to_vec()].concat());
        assert!(told.starts_with("Still there: 3 values kept until 1970-01-02T00:00:00Z at the latest."), "{told}");
        let held = item("KEEP_RESTRICTED", 1, None);
        let told = still_revealed(&[gone, held.clone()]);
        assert!(
            told.contains("1 value kept until a legal hold is released. They open with an approval only"),
            "{told}"
        );
        let told = still_revealed(&[law.to_vec(), vec![held]].concat());
        assert!(told.contains("3 values") && told.contains("and 1 value until a legal hold"), "{told}");
    }
}

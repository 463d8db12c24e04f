//! Legal holds, of `RetentionService`.

use super::parse;
use crate::model::{Error, HeldSubject, Hold, HoldId, Label, Reference, Result, SubjectId};
use crate::policy::Caller;
use crate::proto::v1;
use crate::store::hold::Filter;
use crate::vault::hold::{Over, PlaceHold, ReleaseHold, ShownHold};
use crate::vault::{Vault, page_size};

/// The most people that one hold names. Each takes a key.
const MOST_SUBJECTS: usize = 100;

/// Places a hold.
pub async fn place(vault: &Vault, caller: &Caller, ask: v1::PlaceHoldRequest) -> Result<v1::PlaceHoldResponse> {
    let ask = PlaceHold {
        matter: Label::matter(&ask.matter)?,
        over: over(&ask.subjects, ask.tokens)?,
        basis: Reference::parse("basis", &ask.basis)?,
        request: parse::request_id(&ask.request_id)?,
        validate_only: ask.validate_only,
    };
    Ok(v1::PlaceHoldResponse { hold: Some(wire(vault.place_hold(caller, ask).await?)) })
}

fn over(subjects: &[String], tokens: Vec<String>) -> Result<Over> {
    match (subjects.is_empty(), tokens.is_empty()) {
        (false, true) => {
            parse::check_most("subjects", subjects.len(), MOST_SUBJECTS)?;
            let id = |(at, text): (usize, &String)| {
                SubjectId::parse(text).map_err(|error| error.at(format!("subjects[{at}]")))
            };
            Ok(Over::Subjects(subjects.iter().enumerate().map(id).collect::<Result<_>>()?))
        }
        (true, false) => {
            parse::check_count("tokens", tokens.len())?;
            Ok(Over::Tokens(tokens))
        }
        (true, true) => Err(Error::invalid("subjects", "name subjects, or tokens")),
        (false, false) => Err(Error::invalid("tokens", "name subjects or tokens, not both")),
    }
}

/// Releases a hold.
pub async fn release(vault: &Vault, caller: &Caller, ask: v1::ReleaseHoldRequest) -> Result<v1::ReleaseHoldResponse> {
    let ask = ReleaseHold {
        hold: HoldId::parse(&ask.hold)?,
        reason: Reference::parse("reason", &ask.reason)?,
        request: parse::request_id(&ask.request_id)?,
    };
    let released = vault.release_hold(caller, ask).await?;
    let (run, receipt) =
        released.run.map(|run| (run.id.to_string(), run.receipt.unwrap_or_default())).unwrap_or_default();
    Ok(v1::ReleaseHoldResponse {
        hold: Some(wire(released.hold)),
        run,
        pending_reason: released.waiting.unwrap_or_default(),
        receipt,
    })
}

/// A page of holds.
pub async fn list(vault: &Vault, ask: v1::ListHoldsRequest) -> Result<v1::ListHoldsResponse> {
    let unknown = || Error::invalid("state", "is not a HoldState that this vault knows");
    let filter = Filter {
        matter: parse::optional(&ask.matter).map(|text| Label::matter(text).map(|one| one.to_string())).transpose()?,
        subject: parse::optional(&ask.subject).map(SubjectId::parse).transpose()?,
        released: match v1::HoldState::try_from(ask.state).map_err(|_| unknown())? {
            v1::HoldState::Unspecified => None,
            v1::HoldState::Active => Some(false),
            v1::HoldState::Released => Some(true),
        },
    };
    let after = parse::page_token(&ask.page_token, HoldId::parse)?;
    let (holds, next) = vault.list_holds(&filter, after, page_size(ask.page_size)?).await?;
    Ok(v1::ListHoldsResponse {
        holds: holds.into_iter().map(wire).collect(),
        next_page_token: next.map(|id| id.to_string()).unwrap_or_default(),
    })
}

fn wire(shown: ShownHold) -> v1::Hold {
    let ShownHold { hold, over, real } = shown;
    let Hold { id, matter, basis, by_token, placed_by, placed_at, released, .. } = hold;
    let state = if released.is_some() { v1::HoldState::Released } else { v1::HoldState::Active };
    let subject = |held: HeldSubject| v1::HeldSubject {
        subject: held.subject.to_string(),
        values: held.copied.cast_signed(),
        lost: held.lost.cast_signed(),
    };
    v1::Hold {
        hold: if real { id.to_string() } else { String::new() },
        matter: matter.to_string(),
        basis: basis.to_string(),
        state: state.into(),
        by_token,
        place_caller: placed_by,
        place_time: Some(parse::wire_time(placed_at)),
        subjects: over.into_iter().map(subject).collect(),
        release_time: released.as_ref().map(|release| parse::wire_time(release.at)),
        release_reason: released.as_ref().map(|release| release.reason.to_string()).unwrap_or_default(),
        release_caller: released.map(|release| release.by).unwrap_or_default(),
    }
}

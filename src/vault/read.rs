//! Reads shared by concurrent callers: one statement fetches the facts of all the tokens they ask for.

use std::collections::HashMap;
use std::sync::Arc;

use crate::batch::{Batch, Limits};
use crate::keys::Custody;
use crate::model::{Facts, OpaqueToken, Reason, Result, TokenRow, contains_card_number, looks_shaped};

/// What a caller calls a token by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Name {
    /// An opaque token, by the row it would have.
    Row(TokenRow),
    /// A shaped token.
    Shape(String),
    /// Text that no token of this vault looks like. It may be anything, even a value, and is never repeated.
    Malformed,
}

impl Name {
    /// Reads a token.
    pub fn parse(text: &str, custody: &Custody) -> Self {
        match OpaqueToken::parse(text) {
            Ok(token) => Self::Row(custody.ring.row(token)),
            Err(_) if looks_shaped(text) && !contains_card_number(text) => Self::Shape(text.to_owned()),
            Err(_) => Self::Malformed,
        }
    }
}

/// The facts of each name, in order; `None` for a token that does not exist.
pub type Found = Vec<Option<Arc<Facts>>>;

/// Tokens that are asked for, for a purpose.
#[derive(Clone, Default)]
pub struct Ask {
    /// The code of the purpose; empty for none.
    pub purpose: String,
    /// The tokens.
    pub names: Vec<Name>,
}

/// The shared reads.
pub type Reads = Batch<Ask, Result<Found>>;

/// Starts them.
pub fn start(custody: Arc<Custody>) -> Reads {
    let limits = Limits { weight: 2000, in_flight: custody.store().readers(), waiting: 8192 };
    Batch::start(
        limits,
        |ask| ask.names.len(),
        move |asks: Vec<Ask>| {
            let custody = Arc::clone(&custody);
            async move {
                match fetch(&custody, &asks).await {
                    Ok(found) => asks.iter().map(|ask| Ok(found.of(ask))).collect(),
                    // One row that makes no sense fails whoever asked for it, and nobody else.
                    Err(error) if error.reason == Reason::Internal && asks.len() > 1 => each(&custody, &asks).await,
                    Err(error) => asks.iter().map(|_| Err(error.share())).collect(),
                }
            }
        },
    )
}

async fn each(custody: &Custody, asks: &[Ask]) -> Vec<Result<Found>> {
    let mut outcomes = Vec::with_capacity(asks.len());
    for ask in asks {
        outcomes.push(fetch(custody, std::slice::from_ref(ask)).await.map(|found| found.of(ask)));
    }
    outcomes
}

#[derive(Default)]
struct All {
    by_row: HashMap<(TokenRow, String), Arc<Facts>>,
    by_shape: HashMap<(String, String), Arc<Facts>>,
}

impl All {
    fn of(&self, ask: &Ask) -> Found {
        let find = |name: &Name| match name {
            // A shaped token answers to its shape only: its row is nobody's business.
            Name::Row(row) => {
                let found = self.by_row.get(&(*row, ask.purpose.clone()));
                found.filter(|facts| facts.token.shaped.is_none()).cloned()
            }
            Name::Shape(shape) => self.by_shape.get(&(shape.clone(), ask.purpose.clone())).cloned(),
            Name::Malformed => None,
        };
        ask.names.iter().map(find).collect()
    }
}

async fn fetch(custody: &Custody, asks: &[Ask]) -> Result<All> {
    let (mut rows, mut shapes) = (Vec::new(), Vec::new());
    for ask in asks {
        for name in &ask.names {
            match name {
                Name::Row(row) => rows.push((*row, ask.purpose.as_str())),
                Name::Shape(shape) => shapes.push((shape.as_str(), ask.purpose.as_str())),
                Name::Malformed => {}
            }
        }
    }
    rows.sort_unstable();
    rows.dedup();
    shapes.sort_unstable();
    shapes.dedup();
    let mut all = All::default();
    for facts in custody.store().read().await?.facts_for(&rows, &shapes).await? {
        let facts = Arc::new(facts);
        if let Some(shape) = &facts.token.shaped {
            all.by_shape.insert((shape.clone(), facts.purpose.clone()), Arc::clone(&facts));
        }
        all.by_row.insert((facts.token.row, facts.purpose.clone()), facts);
    }
    Ok(all)
}

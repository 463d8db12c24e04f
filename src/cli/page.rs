//! Lists come in pages; a command asks for them one after the other.

use tonic::Status;

use super::failure::Result;

/// The most that the vault puts on a page.
const LARGEST_PAGE: usize = 1000;

/// How much of a list to show.
#[derive(clap::Args, Default)]
pub struct Paging {
    /// Stop after so many entries; everything unless given
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Go on where a list that was limited stopped (its `next_page_token`)
    #[arg(long, value_name = "TOKEN", default_value = "", hide_default_value = true)]
    page_token: String,
}

/// What was listed.
pub struct Listed<T> {
    /// The entries, in the vault's order.
    pub entries: Vec<T>,
    /// Where to go on; empty when nothing is left.
    pub next_page_token: String,
}

impl Paging {
    /// Asks `page` (given a size and a token, it answers entries and the next token) until the list or the limit ends.
    pub async fn collect<T>(
        self,
        mut page: impl AsyncFnMut(i32, String) -> Result<(Vec<T>, String), Status>,
    ) -> Result<Listed<T>> {
        let limit = self.limit.unwrap_or(usize::MAX);
        let mut listed = Listed { entries: Vec::new(), next_page_token: self.page_token };
        while listed.entries.len() < limit {
            let size = LARGEST_PAGE.min(limit - listed.entries.len());
            let size = i32::try_from(size).unwrap_or(i32::MAX);
            let (entries, next) = page(size, listed.next_page_token).await?;
            listed.entries.extend(entries);
            listed.next_page_token = next;
            if listed.next_page_token.is_empty() {
                break;
            }
        }
        Ok(listed)
    }
}

impl<T> Listed<T> {
    /// The list for people: `table`, or a word when it is empty; and how to see the rest.
    pub fn human(&self, noun: &str, table: impl Fn(&[T]) -> String) -> String {
        if self.entries.is_empty() {
            return format!("No {}.", super::table::plural(noun));
        }
        let text = table(&self.entries);
        if self.next_page_token.is_empty() {
            return format!("{text}\n\n{}.", super::table::count(self.entries.len(), noun));
        }
        format!("{text}\n\nThere are more: go on with --page-token {}", self.next_page_token)
    }
}

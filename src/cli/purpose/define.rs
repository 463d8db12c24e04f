//! `lacuna purpose define`: the same fields as flags and as a file.

use std::path::PathBuf;

use anyhow::Result;
use serde::Deserialize;

use crate::cli::document::{self, Category, Period};
use crate::cli::names::{Basis, Change, Channel, Mode};
use crate::proto::v1;

/// Shown below the help.
pub const EXAMPLES: &str = "\
Examples:
  lacuna purpose define marketing.email --basis consent --notice privacy --channel email --direct-marketing --expires-after 730d
  lacuna purpose define --from marketing.toml --change minor

The file is TOML or JSON with the field names of lacuna.v1.Purpose; what `purpose show --output json` prints is one.";

/// What `purpose define` defines.
#[derive(clap::Args)]
pub struct Define {
    /// Read it from a TOML or JSON file; JSON on standard input for -
    #[arg(long, value_name = "FILE|-", conflicts_with = "Purpose")]
    from: Option<PathBuf>,
    #[command(flatten)]
    purpose: Purpose,
    /// What this version changes; another recipient, type of data or basis is major whatever is said
    #[arg(long, value_enum, default_value = "major")]
    change: Change,
    /// Define it as a draft, for which nothing is permitted yet
    #[arg(long)]
    draft: bool,
    /// A UUID; repeating the call with the same one gives the first answer
    #[arg(long, value_name = "UUID", default_value = "", hide_default_value = true)]
    request_id: String,
}

/// A purpose, without what only the vault says of it.
#[derive(clap::Args, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "the fields of the API")]
struct Purpose {
    /// Its code; dots make a tree: `marketing.email`
    #[arg(required_unless_present = "from")]
    code: Option<String>,
    /// What people call it
    #[arg(long)]
    title: Option<String>,
    /// On what ground
    #[arg(long, value_enum, required_unless_present = "from")]
    basis: Option<Basis>,
    /// Of the basis consent: what it takes
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    /// Consent must be given in so many words (Art. 9(2)(a) GDPR)
    #[arg(long)]
    explicit_consent: bool,
    /// It is direct marketing: an objection is absolute
    #[arg(long)]
    direct_marketing: bool,
    /// It profiles; people can switch that off
    #[arg(long)]
    profiling: bool,
    /// It decides about people without a human
    #[arg(long)]
    automated_decision: bool,
    /// A restriction spares it (Art. 18(2) GDPR)
    #[arg(long)]
    despite_restriction: bool,
    /// Consent has to be confirmed
    #[arg(long)]
    double_opt_in: bool,
    /// A channel that it uses, every one unless given; may be repeated
    #[arg(long = "channel", value_enum, value_name = "CHANNEL")]
    channels: Vec<Channel>,
    /// A type of values that it may read, every one unless given; may be repeated
    #[arg(long = "data-category", value_name = "TYPE")]
    data_categories: Vec<Category>,
    /// Who receives the data; may be repeated
    #[arg(long = "recipient", value_name = "NAME")]
    recipients: Vec<String>,
    /// How long the data is kept for it
    #[arg(long)]
    retention: Option<String>,
    /// The notice that tells people of it
    #[arg(long)]
    notice: Option<String>,
    /// How long after it was given a consent is looked at again
    #[arg(long, value_name = "730d")]
    review_after: Option<Period>,
    /// How long a consent is valid
    #[arg(long, value_name = "730d")]
    expires_after: Option<Period>,
    /// How long a consent goes on after a major change that adds nothing
    #[arg(long, value_name = "30d")]
    grace: Option<Period>,
    /// How long after a refusal nobody may ask again
    #[arg(long, value_name = "180d")]
    ask_again_after: Option<Period>,
    /// Below the age of consent a guardian decides
    #[arg(long)]
    age_rule: bool,
    /// Where the balancing of interests is written down
    #[arg(long, value_name = "REFERENCE")]
    assessment: Option<String>,
    /// Its term of the W3C Data Privacy Vocabulary: `dpv:Marketing`
    #[arg(long, value_name = "TERM")]
    dpv_term: Option<String>,
}

impl Define {
    /// The call that defines it.
    pub fn request(self) -> Result<v1::DefinePurposeRequest> {
        let purpose = match &self.from {
            Some(file) => document::read::<Purpose>(file, "purpose")?,
            None => self.purpose,
        };
        Ok(v1::DefinePurposeRequest {
            purpose: Some(purpose.wire()),
            change: self.change.number(),
            draft: self.draft,
            request_id: self.request_id,
        })
    }
}

impl Purpose {
    fn wire(self) -> v1::Purpose {
        v1::Purpose {
            code: self.code.unwrap_or_default(),
            title: self.title.unwrap_or_default(),
            basis: self.basis.map_or(0, Basis::number),
            mode: self.mode.map_or(0, Mode::number),
            explicit_consent: self.explicit_consent,
            direct_marketing: self.direct_marketing,
            profiling: self.profiling,
            automated_decision: self.automated_decision,
            despite_restriction: self.despite_restriction,
            double_opt_in: self.double_opt_in,
            channels: self.channels.into_iter().map(Channel::number).collect(),
            data_categories: self.data_categories.into_iter().map(i32::from).collect(),
            recipients: self.recipients,
            retention: self.retention.unwrap_or_default(),
            notice: self.notice.unwrap_or_default(),
            review_after: self.review_after.map(Into::into),
            expires_after: self.expires_after.map(Into::into),
            grace: self.grace.map(Into::into),
            ask_again_after: self.ask_again_after.map(Into::into),
            age_rule: self.age_rule,
            assessment: self.assessment.unwrap_or_default(),
            dpv_term: self.dpv_term.unwrap_or_default(),
            ..Default::default()
        }
    }
}

//! `lacuna notice`: what people are told before they decide. A notice is a document beside which its texts lie.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::Subcommand;
use data_encoding::HEXLOWER;
use serde::Deserialize;
use serde_json::{Value, json};

use super::client::Remote;
use super::failure::Result;
use super::names::Change;
use super::page::Paging;
use super::print::{self, Answer};
use super::{document, table};
use crate::proto::v1;

/// Shown below the help of `publish`.
const PUBLISH: &str = "\
Example:
  lacuna notice publish privacy/notice.toml --change minor

  # privacy/notice.toml
  notice = \"privacy\"
  categories = [\"e-mail address\"]
  purposes = [\"marketing\"]
  recipients = [\"the mailing service\"]
  retention = \"until you withdraw\"
  [controller]
  name = \"Example GmbH\"
  contact = \"privacy@example.com\"
  [texts]
  de = \"privacy.de.txt\"
  en = \"privacy.en.txt\"

The other fields are those of lacuna.v1.Notice. Texts are named from where the document is, and published byte by byte: their
digests are what `sha256sum privacy.de.txt` prints.";

/// Shown below the help of `show`.
const SHOW: &str = "\
Example:
  lacuna notice show privacy --version 2 --text de --file shown.txt";

/// What can be done with notices.
#[derive(Subcommand)]
pub enum Verb {
    /// Publish a notice, or a new version of one, from a TOML or JSON file that names the files of its texts.
    #[command(after_help = PUBLISH)]
    Publish(Publish),
    /// Describe a notice, with the digests of its texts.
    #[command(after_help = SHOW)]
    Show(Show),
    /// List notices, by name.
    List(Paging),
}

/// What `notice publish` publishes.
#[derive(clap::Args)]
pub struct Publish {
    /// The document
    file: PathBuf,
    /// What this version changes: after a major one consents have to be confirmed anew
    #[arg(long, value_enum, default_value = "major")]
    change: Change,
    /// A UUID; repeating the call with the same one gives the first answer
    #[arg(long, value_name = "UUID", default_value = "", hide_default_value = true)]
    request_id: String,
}

/// What `notice show` shows.
#[derive(clap::Args)]
pub struct Show {
    /// Its name.
    notice: String,
    /// Which version; the present one unless given
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    version: i32,
    /// Write the exact text in this language to a file
    #[arg(long, value_name = "LANGUAGE", requires = "file")]
    text: Option<String>,
    /// Where to write the text
    #[arg(long, value_name = "FILE", requires = "text")]
    file: Option<PathBuf>,
}

/// A notice in a file.
#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct Document {
    notice: String,
    categories: Vec<String>,
    purposes: Vec<String>,
    recipients: Vec<String>,
    retention: String,
    controller: Option<Controller>,
    storage_locations: Vec<String>,
    withdrawal_method: String,
    authority: String,
    /// The file of the text in each language, named from where the document is.
    texts: BTreeMap<String, PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct Controller {
    name: String,
    address: String,
    contact: String,
    jurisdiction: String,
}

/// Carries out a verb.
pub async fn run(remote: Remote, verb: Verb) -> Result<()> {
    let answer = match verb {
        Verb::Publish(publish) => publish.run(&remote).await,
        Verb::Show(show) => show.run(&remote).await,
        Verb::List(paging) => list(&remote, paging).await,
    };
    remote.output.show(&answer?)
}

impl Publish {
    async fn run(self, remote: &Remote) -> Result<Answer> {
        let document: Document = document::read(&self.file, "notice")?;
        let folder = self.file.parent().unwrap_or_else(|| Path::new(""));
        let request = v1::PublishNoticeRequest {
            notice: Some(document.wire(folder)?),
            change: self.change.number(),
            request_id: self.request_id,
        };
        let published = remote.open().await?.consents.publish_notice(request).await?.into_inner().notice;
        Ok(one(&published.unwrap_or_default()))
    }
}

impl Document {
    fn wire(self, folder: &Path) -> anyhow::Result<v1::Notice> {
        let text = |(language, file): (String, PathBuf)| {
            let file = folder.join(file);
            let text = fs::read(&file).map_err(anyhow::Error::from).and_then(|bytes| Ok(String::from_utf8(bytes)?));
            let text = text.with_context(|| format!("cannot read the text in {language} from {}", file.display()))?;
            Ok(v1::NoticeText { language, text, sha256: Vec::new() })
        };
        Ok(v1::Notice {
            notice: self.notice,
            texts: self.texts.into_iter().map(text).collect::<anyhow::Result<_>>()?,
            categories: self.categories,
            purposes: self.purposes,
            recipients: self.recipients,
            retention: self.retention,
            controller: self.controller.map(|controller| v1::NoticeController {
                name: controller.name,
                address: controller.address,
                contact: controller.contact,
                jurisdiction: controller.jurisdiction,
            }),
            storage_locations: self.storage_locations,
            withdrawal_method: self.withdrawal_method,
            authority: self.authority,
            ..Default::default()
        })
    }
}

impl Show {
    async fn run(self, remote: &Remote) -> Result<Answer> {
        let request = v1::GetNoticeRequest { notice: self.notice, version: self.version };
        let notice = remote.open().await?.consents.get_notice(request).await?.into_inner().notice.unwrap_or_default();
        let mut answer = one(&notice);
        if let (Some(language), Some(file)) = (&self.text, &self.file) {
            let name = file.display();
            let text = text(&notice, language)?;
            fs::write(file, &text.text).with_context(|| format!("cannot write the text to {name}"))?;
            answer.human = format!("{}\n\nThe text in {} is in {name}.", answer.human.trim_end(), text.language);
        }
        Ok(answer)
    }
}

async fn list(remote: &Remote, paging: Paging) -> Result<Answer> {
    let mut vault = remote.open().await?;
    let page = async |page_size, page_token| {
        let request = v1::ListNoticesRequest { page_size, page_token };
        let response = vault.consents.list_notices(request).await?.into_inner();
        Ok((response.notices, response.next_page_token))
    };
    let listed = paging.collect(page).await?;
    let notices: Vec<Value> = listed.entries.iter().map(notice).collect();
    let json = json!({ "notices": notices, "next_page_token": listed.next_page_token });
    Ok(Answer::new(json, listed.human("notice", notices_table)))
}

/// The text of a notice in a language. With one text only, no language has to be named.
pub fn text<'n>(notice: &'n v1::Notice, language: &str) -> anyhow::Result<&'n v1::NoticeText> {
    let known: Vec<&str> = notice.texts.iter().map(|text| text.language.as_str()).collect();
    match notice.texts.as_slice() {
        [only] if language.is_empty() => Ok(only),
        texts => texts.iter().find(|text| text.language.eq_ignore_ascii_case(language)).ok_or_else(|| {
            anyhow!("name one of the languages of {}, version {}: {}", notice.notice, notice.version, known.join(", "))
        }),
    }
}

fn one(given: &v1::Notice) -> Answer {
    let controller = given.controller.clone().unwrap_or_default();
    let mut human = table::record(&[
        ("notice", given.notice.clone()),
        ("version", given.version.to_string()),
        ("this version is", table::change(given.change)),
        ("published", table::time(given.publish_time)),
        ("categories", given.categories.join(", ")),
        ("purposes", given.purposes.join(", ")),
        ("recipients", given.recipients.join(", ")),
        ("kept", given.retention.clone()),
        (
            "controller",
            [controller.name, controller.address, controller.contact].join(", ").trim_matches([',', ' ']).to_owned(),
        ),
        ("stored", given.storage_locations.join(", ")),
        ("withdraw by", given.withdrawal_method.clone()),
        ("authority", given.authority.clone()),
    ]);
    let rows = given
        .texts
        .iter()
        .map(|text| vec![text.language.clone(), text.text.len().to_string(), HEXLOWER.encode(&text.sha256)]);
    human.push('\n');
    human.push_str(&table::table(&["language", "bytes", "SHA-256"], rows));
    Answer::new(json!({ "notice": notice(given) }), human)
}

fn notices_table(notices: &[v1::Notice]) -> String {
    let rows = notices.iter().map(|notice| {
        let languages: Vec<&str> = notice.texts.iter().map(|text| text.language.as_str()).collect();
        vec![
            notice.notice.clone(),
            notice.version.to_string(),
            table::change(notice.change),
            languages.join(", "),
            notice.purposes.join(", "),
            table::time(notice.publish_time),
        ]
    });
    table::table(&["notice", "version", "change", "languages", "purposes", "published"], rows)
}

fn notice(notice: &v1::Notice) -> Value {
    let text = |text: &v1::NoticeText| {
        let mut json = json!({ "language": text.language, "sha256": HEXLOWER.encode(&text.sha256) });
        if let Some(fields) = json.as_object_mut().filter(|_| !text.text.is_empty()) {
            fields.insert("text".to_owned(), json!(text.text));
        }
        json
    };
    let controller = notice.controller.as_ref().map(|controller| {
        json!({
            "name": controller.name,
            "address": controller.address,
            "contact": controller.contact,
            "jurisdiction": controller.jurisdiction,
        })
    });
    json!({
        "notice": notice.notice,
        "version": notice.version,
        "texts": notice.texts.iter().map(text).collect::<Vec<_>>(),
        "categories": notice.categories,
        "purposes": notice.purposes,
        "recipients": notice.recipients,
        "retention": notice.retention,
        "controller": controller,
        "storage_locations": notice.storage_locations,
        "withdrawal_method": notice.withdrawal_method,
        "authority": notice.authority,
        "change": print::enum_name(notice.change, v1::VersionChange::as_str_name),
        "publish_time": print::time(notice.publish_time),
    })
}

//! Consent on the command line: what is defined, asked and proven there is what the vault has.

use std::fs;
use std::process::{Command, Output};

use lacuna::proto::v1;
use serde_json::{Value, json};

use crate::consents::{DAY, NEWS, NOTICE, OFFERS, Office, allowed, denied};
use crate::house::{House, on_both_stores};
use crate::process::{lacuna, said};

/// A text that an editor would spoil: ends of lines of both kinds, none at the end, and letters of more than a byte.
const TEXT: &[u8] = "Wir schreiben Ihnen,\r\nwenn Sie das w\u{fc}nschen.\n\n \u{2014} Ihre Bank".as_bytes();

const DOCUMENT: &str = r#"
notice = "letters"
categories = ["address"]
purposes = ["marketing.letter"]
recipients = ["the printer"]
retention = "until you withdraw"
withdrawal_method = "the card in every letter"

[controller]
name = "Example GmbH"
contact = "privacy@example.com"
jurisdiction = "DE"

[texts]
de = "letters.de.txt"
en = "texts/letters.en.txt"
"#;

impl House {
    /// The program as a client of this house.
    pub fn client(&self) -> Command {
        let mut command = lacuna();
        command
            .current_dir(self.home())
            .env("LACUNA_ADDRESS", format!("http://{}", self.running().address))
            .env("LACUNA_TOKEN_FILE", self.running().dev_token_file.as_ref().unwrap());
        command
    }

    /// Runs the program as a client of this house.
    pub fn ask(&self, arguments: &[&str]) -> Output {
        tokio::task::block_in_place(|| self.client().args(arguments).output().unwrap())
    }

    /// The same, which must succeed, in JSON.
    pub fn told(&self, arguments: &[&str]) -> Value {
        let output = self.ask(&[arguments, &["--output=json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The same, which must succeed, for people.
    pub fn shown(&self, arguments: &[&str]) -> String {
        let output = self.ask(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The same, which the vault must refuse: the reason and the field at fault.
    pub fn refused(&self, arguments: &[&str]) -> (String, String) {
        let output = self.ask(&[arguments, &["--output=json"]].concat());
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", said(&output));
        let error = serde_json::from_slice::<Value>(&output.stdout).unwrap()["error"].clone();
        let field = error["field_violations"][0]["field"].as_str().unwrap_or_default();
        let human = self.ask(arguments);
        let message = error["message"].as_str().unwrap();
        assert!(String::from_utf8_lossy(&human.stderr).contains(message), "the vault's own words: {}", said(&human));
        (error["reason"].as_str().unwrap().to_owned(), field.to_owned())
    }

    /// Writes a file at home.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.home().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.home().join(name)).unwrap()
    }

    /// Publishes the notice of these stories.
    fn publish(&self, change: &str) -> Value {
        self.file("notices/letters.toml", DOCUMENT);
        self.file("notices/letters.de.txt", TEXT);
        self.file("notices/texts/letters.en.txt", "We write to you if you want us to.\n");
        self.told(&["notice", "publish", "notices/letters.toml", "--change", change])["notice"].clone()
    }
}

fn refusal(reason: &str, field: &str) -> (String, String) {
    (reason.to_owned(), field.to_owned())
}

on_both_stores! {
    async fn a_notice_is_published_byte_by_byte_from_the_files_that_its_document_names(house: House) {
        let published = house.publish("major");
        assert_eq!((&published["version"], &published["controller"]["name"]), (&json!(1), &json!("Example GmbH")));
        let digest = data_encoding::HEXLOWER.encode(&lacuna::crypto::derive::sha256(&[TEXT]));
        assert_eq!(published["texts"][0]["sha256"], digest);
        assert!(house.shown(&["notice", "show", "letters"]).contains(&digest), "what sha256sum prints");
        assert_eq!(house.publish("minor")["version"], 2);
        let show = ["notice", "show", "letters", "--version=1", "--text=de", "--file=shown.txt"];
        house.shown(&show);
        assert_eq!(house.read("shown.txt"), TEXT);
        assert_eq!(house.told(&["notice", "show", "letters"])["notice"]["change"], "VERSION_CHANGE_MINOR");

        let listed = house.told(&["notice", "list"])["notices"].clone();
        assert_eq!(listed.as_array().unwrap().len(), 1);
        assert_eq!((&listed[0]["version"], &listed[0]["texts"][0]["sha256"]), (&json!(2), &json!(digest)));
        assert_eq!(listed[0]["texts"][0].get("text"), None, "the texts are long");
        assert!(house.shown(&["notice", "list"]).contains("letters"));

        house.file("notices/letters.toml", DOCUMENT.replace("retention =", "authority ="));
        assert_eq!(house.refused(&["notice", "publish", "notices/letters.toml"]), refusal("VALUE_INVALID", "notice.retention"));
        for (document, told) in [
            (DOCUMENT.replace("retention", "retained"), "retained"),
            (DOCUMENT.replace("letters.de.txt", "missing.txt"), "missing.txt"),
            (format!("{DOCUMENT}fr ="), "letters.toml"),
        ] {
            house.file("notices/letters.toml", document);
            let output = house.ask(&["notice", "publish", "notices/letters.toml"]);
            assert_eq!(output.status.code(), Some(2), "{}", said(&output));
            assert!(String::from_utf8_lossy(&output.stderr).contains(told), "{told}: {}", said(&output));
        }
        assert_eq!(house.told(&["notice", "show", "letters"])["notice"]["version"], 2);
    }

    async fn a_list_of_notices_has_no_text_and_comes_in_pages(house: House) {
        let mut office = Office::open(house).await;
        office.house.publish("major");
        let request = v1::ListNoticesRequest { page_size: 1, page_token: String::new() };
        let page = office.door.list_notices(request).await.unwrap().into_inner();
        assert_eq!((page.notices[0].notice.as_str(), page.next_page_token.as_str()), ("letters", "letters"));
        assert!(page.notices[0].texts.iter().all(|text| text.text.is_empty() && text.sha256.len() == 32));
        let request = v1::ListNoticesRequest { page_size: 1, page_token: page.next_page_token };
        let page = office.door.list_notices(request).await.unwrap().into_inner();
        assert_eq!((page.notices[0].notice.as_str(), page.next_page_token.as_str()), (NOTICE, ""));
    }

    async fn a_purpose_is_defined_by_flags_and_by_files_and_what_is_shown_can_be_defined(house: House) {
        house.publish("major");
        let define = [
            "purpose", "define", "marketing.letter", "--basis=consent", "--title=Letters", "--notice=letters",
            "--channel=post", "--channel=in-person", "--data-category=name", "--data-category=postal-address",
            "--recipient=the printer", "--retention=a year", "--expires-after=730d", "--review-after=P365D", "--grace=72h",
            "--ask-again-after=180d", "--direct-marketing", "--profiling", "--automated-decision", "--explicit-consent",
            "--double-opt-in", "--age-rule", "--mode=opt-in", "--dpv-term=dpv:Marketing", "--despite-restriction",
        ];
        let defined = house.told(&define)["purpose"].clone();
        assert_eq!((&defined["version"], &defined["expires_after"]), (&json!(1), &json!("63072000s")));
        assert_eq!(defined["channels"], json!(["CHANNEL_POST", "CHANNEL_IN_PERSON"]));
        assert_eq!(defined["data_categories"], json!(["FIELD_TYPE_PERSON_NAME", "FIELD_TYPE_POSTAL_ADDRESS"]));
        let shown = house.shown(&["purpose", "show", "marketing.letter"]);
        for part in ["730d", "3d", "in_person", "person_name", "double opt-in"] {
            assert!(shown.contains(part), "{part}: {shown}");
        }

        let mut edited = house.told(&["purpose", "show", "marketing.letter"]);
        house.file("letter.json", edited.to_string());
        // Nothing was lost on the way: there is nothing new about it.
        let again = ["purpose", "define", "--from", "letter.json"];
        assert_eq!(house.refused(&again).0, "VALUE_INVALID");
        edited["purpose"]["title"] = json!("Cards");
        house.file("letter.json", edited.to_string());
        let second = house.told(&[&again[..], &["--change=minor"]].concat())["purpose"].clone();
        assert_eq!((&second["version"], &second["change"]), (&json!(2), &json!("VERSION_CHANGE_MINOR")));
        for unchanged in defined.as_object().unwrap().keys() {
            let changed = ["version", "title", "change", "define_time"].contains(&unchanged.as_str());
            assert_eq!(second[unchanged] == defined[unchanged], !changed, "{unchanged}");
        }

        house.file("care.toml", "code = \"support.chat\"\nbasis = \"contract\"\nchannels = [\"web\"]\n");
        let drafted = house.told(&["purpose", "define", "--from=care.toml", "--draft"])["purpose"].clone();
        assert_eq!((&drafted["basis"], &drafted["state"]), (&json!("LAWFUL_BASIS_CONTRACT"), &json!("PURPOSE_STATE_DRAFT")));
        house.file("care.toml", "code = \"support.chat\"\n");
        assert_eq!(house.refused(&["purpose", "define", "--from=care.toml"]), refusal("VALUE_INVALID", "purpose.basis"));
        let notice = ["purpose", "define", "a", "--basis=consent", "--notice=nothing"];
        assert_eq!(house.refused(&notice).0, "NOTICE_UNKNOWN");
        for wrong in [
            &["purpose", "define", "a"][..],
            &["purpose", "define", "a", "--basis=whim"],
            &["purpose", "define", "a", "--basis=consent", "--expires-after=24 months"],
            &["purpose", "define", "a", "--basis=consent", "--from=care.toml"],
        ] {
            assert_eq!(house.ask(wrong).status.code(), Some(2), "{wrong:?}");
        }
    }

    async fn nothing_is_collected_where_a_collection_point_is_disabled(house: House) {
        let mut office = Office::open(house).await;
        let ada = office.house.somebody("Ada").await.subject;
        let define = ["collection-point", "define", "agent:hotline", "--kind=agent", "--owner=service", "--notice=privacy"];
        assert_eq!(office.house.told(&define)["collection_point"]["kind"], "COLLECTION_POINT_KIND_AGENT");
        let record = [
            "consent", "record", &ada, NEWS, "give", "--method=oral", "--action=said yes", "--notice=privacy", "--channel=email",
            "--collection-point=agent:hotline", "--actor=agent",
        ];
        let disabled = office.house.told(&["collection-point", "disable", "agent:hotline"])["collection_point"].clone();
        assert_eq!((&disabled["disabled"], &disabled["owner"]), (&json!(true), &json!("service")));
        assert_eq!(office.house.refused(&record), refusal("COLLECTION_POINT_UNKNOWN", "collection_point"));
        assert!(office.house.shown(&["collection-point", "list"]).contains("disabled"));
        office.house.shown(&["collection-point", "enable", "agent:hotline"]);
        assert_eq!(office.house.told(&record)["events"][0]["actor"], "CONSENT_ACTOR_AGENT");
        assert_eq!(office.answer(&ada, NEWS).await, allowed());
        assert_eq!(office.house.ask(&["collection-point", "disable", "nowhere"]).status.code(), Some(2));
        let missing = ["collection-point", "define", "a", "--kind=app", "--notice=nothing"];
        assert_eq!(office.house.refused(&missing), refusal("NOTICE_UNKNOWN", "collection_point.notices"));
    }

    async fn what_is_permitted_reads_as_a_table_of_purposes_and_channels(house: House) {
        let mut office = Office::open(house).await;
        let ada = office.house.somebody("Ada").await.subject;
        let both = v1::Purpose {
            channels: vec![v1::Channel::Email.into(), v1::Channel::Sms.into()],
            ..crate::consents::purpose("marketing.both")
        };
        office.define(both, v1::VersionChange::Major).await.unwrap();
        office.say(&ada, "marketing.both", v1::ConsentEventKind::Give).await;
        office.say(&ada, OFFERS, v1::ConsentEventKind::Refuse).await;
        let table = office.house.shown(&["consent", "list", &ada]);
        let cells = |name: &str| {
            let line = table.lines().find(|line| line.trim_start().starts_with(name)).unwrap();
            line.split_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(cells("purpose "), ["any", "email", "sms"]);
        assert_eq!(cells("customer_care "), ["yes"]);
        assert_eq!(cells("marketing.both "), ["yes", "NO_CONSENT"]);
        assert_eq!(cells(&format!("{OFFERS} ")), ["CONSENT_REFUSED"]);
        let long = office.house.shown(&["consent", "list", &ada, "--long"]);
        assert!(long.contains("given") && long.contains("refused") && long.contains("cev_"), "{long}");
        assert!(!long.contains("suppressed") && office.house.told(&["consent", "list", &ada])["suppressed"] == false);
    }

    async fn a_link_made_by_command_withdraws_by_command(house: House) {
        let mut office = Office::open(house).await;
        let ada = office.house.somebody("Ada").await.subject;
        for purpose in [NEWS, OFFERS] {
            office.say(&ada, purpose, v1::ConsentEventKind::Give).await;
        }
        let link = office.house.shown(&["consent", "link", &ada, NEWS, "--channel=email"]);
        let other = ["consent", "withdraw-by-link", link.trim(), "--purpose", OFFERS];
        assert_eq!(office.house.refused(&other).0, "LINK_INVALID");
        assert_eq!(office.answer(&ada, NEWS).await, allowed());
        office.house.file("link.txt", &link);
        let mut follow = office.house.client();
        follow.args(["consent", "withdraw-by-link", "-", "--output=json"]);
        follow.stdin(fs::File::open(office.house.home().join("link.txt")).unwrap());
        let output = tokio::task::block_in_place(|| follow.output().unwrap());
        let first: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&first["purpose"], &first["state"]), (&json!(NEWS), &json!("CONSENT_STATE_WITHDRAWN")));
        assert_eq!(office.answer(&ada, NEWS).await, denied("CONSENT_WITHDRAWN"));
        assert_eq!(office.answer(&ada, OFFERS).await, allowed());
        assert_eq!(office.house.told(&["consent", "withdraw-by-link", link.trim()]), first, "again changes nothing");
        for nothing in ["bm90IG91cnM", "-qW8hnrcWw48"] {
            let said = office.house.refused(&["consent", "withdraw-by-link", nothing, "--purpose", NEWS]);
            assert_eq!(said.0, "LINK_INVALID", "one in 64 links begins like an option");
        }
    }

    async fn proofs_and_receipts_are_written_and_verify_after_an_erasure(house: House) {
        let mut office = Office::open(house).await;
        let ada = office.house.somebody("Ada").await.subject;
        office.say(&ada, NEWS, v1::ConsentEventKind::Give).await;
        let then = office.house.in_time(DAY / 2);
        office.house.clock.advance(DAY);
        office.say(&ada, NEWS, v1::ConsentEventKind::Withdraw).await;
        office.house.erase(&ada).await;
        let moment = jiff::Timestamp::new(then.seconds, then.nanos).unwrap().to_string();
        let prove = ["consent", "prove", &ada, NEWS, "--channel=email", "--at", &moment];
        let shown = office.house.shown(&[&prove[..], &["--file=proof.json"]].concat());
        assert!(shown.contains("lacuna consent verify proof.json"), "{shown}");
        office.house.shown(&["consent", "receipt", &ada, "--file", "receipt.json"]);
        let whole = office.house.told(&["consent", "receipt", &ada]);
        assert!(whole["receipt"].as_str().unwrap().starts_with("rcp_") && whole["json"].is_string());
        assert!(office.house.shown(&prove).contains("payloadType"), "without a file the envelope is the answer");
        assert_eq!(office.house.refused(&["consent", "receipt", "sub_a"]).0, "VALUE_INVALID");

        office.house.stop().await;
        let key = office.house.config.slot_dir().join("receipt-signing.pub");
        for (file, expected) in [("proof.json", "ALLOWED"), ("receipt.json", "rcp_")] {
            let mut verify = lacuna();
            verify.current_dir(office.house.home()).args(["consent", "verify", file, "--public-key"]).arg(&key);
            let output = crate::process::run(&mut verify);
            assert!(output.status.success(), "{}", said(&output));
            assert!(String::from_utf8_lossy(&output.stdout).contains(expected), "{}", said(&output));
        }
    }

    async fn what_is_due_and_what_an_auditor_asks_is_told_as_tables_and_as_json(house: House) {
        let mut office = Office::open(house).await;
        assert!(office.house.shown(&["consent", "audit"]).contains("No consents"));
        assert_eq!(office.house.shown(&["consent", "due"]).trim(), "No due consents.");
        let ada = office.house.somebody("Ada").await.subject;
        let short = v1::Purpose {
            expires_after: Some(prost_types::Duration { seconds: 40 * 86_400, nanos: 0 }),
            ..crate::consents::purpose("marketing.short")
        };
        office.define(short, v1::VersionChange::Major).await.unwrap();
        office.say(&ada, "marketing.short", v1::ConsentEventKind::Give).await;
        assert_eq!(office.house.told(&["consent", "due"])["due"], json!([]));
        office.house.clock.advance(15 * DAY);
        let due = office.house.told(&["consent", "due"])["due"].clone();
        assert_eq!((&due[0]["subject"], &due[0]["reason"]), (&json!(ada), &json!("REVIEW_REASON_EXPIRY")));
        let table = office.house.shown(&["consent", "due", "--limit=1"]);
        assert!(table.contains(&ada) && table.contains("expiry"), "{table}");
        let early = office.house.in_time(DAY);
        let early = jiff::Timestamp::new(early.seconds, 0).unwrap().to_string();
        assert_eq!(office.house.told(&["consent", "due", "--before", &early])["due"], json!([]));

        let report = office.house.told(&["consent", "audit"]);
        let given = json!({ "purpose": "marketing.short", "state": "CONSENT_STATE_GIVEN", "count": 1 });
        assert_eq!((&report["counts"], &report["invalid_methods"]), (&json!([given]), &json!(0)));
        assert_eq!(report["reveals_after_end"], 0);
        assert_eq!(report["purposes_without_notice"], json!(["marketing.email"]));
        let table = office.house.shown(&["consent", "audit"]);
        for part in ["marketing.short", "given", "purposes without a notice", "marketing.email", "revealed after the end"] {
            assert!(table.contains(part), "{part}: {table}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cost_of_a_decision_is_measured_beside_a_contract() {
    let house = House::on_sqlite().await;
    let bench = ["bench", "permission", "--seconds=1", "--in-flight=8"];
    // The second time there is a notice and a purpose already.
    for _ in 0..2 {
        let told = house.told(&bench);
        let sides = told["results"].as_array().unwrap();
        let names: Vec<_> = sides.iter().map(|side| side["under"].as_str().unwrap()).collect();
        assert_eq!(names, ["contract", "consent", "contract again"]);
        for side in sides {
            assert!(side["errors"] == 0 && side["operations"].as_u64().unwrap() > 0, "{side}");
            assert!(side["rate_ratio"].as_f64().unwrap() > 0.0, "{side}");
        }
    }
}

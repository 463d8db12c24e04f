//! Tokens for values, and values for tokens and a purpose.

use lacuna::proto::v1;
use lacuna::proto::v1::FieldType;
use lacuna::proto::v1::detokenize_result::Outcome;
use tonic::Code;

use crate::asks::{CARE, HOUR, all_refused, correct, detokenize, metadata, refusal, text, tokenize};
use crate::house::{field, fields_at_fault, on_both_stores, outcome, reason};

/// Values as people write them, two or three of a type.
const WRITTEN: [(FieldType, &str); 30] = [
    (FieldType::Text, "  outer spaces, a\ttab,\r\n two lines and \u{1f9d1}\u{200d}\u{1f680}  "),
    (FieldType::Text, "e\u{301} is not \u{e9}, \u{202e}and this runs backwards\u{202c}"),
    (FieldType::Text, "'; DROP TABLE token; -- \\ \" %s {} \u{fffd}"),
    (FieldType::PersonName, " Zo\u{eb}  O\u{2019}Brien-\u{141}ukasz "),
    (FieldType::PersonName, "\u{674e}\u{5c0f}\u{9f8d}"),
    (FieldType::Email, " Ada.Lovelace+News@Example.COM "),
    (FieldType::Email, "j\u{f6}rg@m\u{fc}ller.example"),
    (FieldType::Phone, "0049 (0)30 / 1234-567"),
    (FieldType::Phone, "tel:+49-30-1234567;ext=12"),
    (FieldType::Phone, "110"),
    (FieldType::PostalAddress, "1 High St\r\n\tFlat 2\n\nLONDON  "),
    (FieldType::DateOfBirth, " 1980-02-29 "),
    (FieldType::DateOfBirth, "1850-01-01"),
    (FieldType::NationalId, "AB 12 34 56 C"),
    (FieldType::NationalId, "123.456.789-09"),
    (FieldType::Iban, "de89 3704 0044 0532 0130 00"),
    (FieldType::Iban, "ES9121000418450200051332"),
    (FieldType::PaymentCard, "{ \"last_four\":\"4242\" , \"expiry\":\"2029-07\",\n\"holder\":\"Ann  Lee\" }"),
    (FieldType::PaymentCard, r#"{"expiry":"07/29","last_four":"0004","address":"1 High St"}"#),
    (FieldType::IpAddress, "2001:DB8:0:0::1"),
    (FieldType::IpAddress, "::ffff:203.0.113.7"),
    (FieldType::DeviceId, "AA-bb:CC.dd EE ff"),
    (FieldType::DeviceId, "490154203237518"),
    (FieldType::Location, " 48.858370, 2.294481 "),
    (FieldType::Location, "geo:48.85,2.29;u=35"),
    (FieldType::Score, "-1.50e-3"),
    (FieldType::Score, "007.2500"),
    (FieldType::Json, "{\"b\" : 1, \"a\":[1.0, null ,\"\\u00e9\"], \"b\": 2 }\n"),
    (FieldType::Json, "\"just a text\""),
    (FieldType::Json, "  null"),
];

on_both_stores! {
    async fn a_value_comes_back_as_it_was_given(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada Lovelace").await;
        let bob = house.somebody("Bob Noyce").await;
        assert_eq!(house.reveal(&ada.tokens, "order_confirmation").await, ada.values());
        assert_eq!(house.find(v1::FieldType::Phone, &bob.phone.replace("+49", "0049 ")).await, [bob.tokens[1].clone()]);
        let erasure = house.erase(&ada.subject).await;
        assert_eq!(erasure.state(), v1::ErasureState::Shredded);
        assert_eq!(house.reveal(&ada.tokens, "order_confirmation").await, vec![Err("SUBJECT_ERASED".to_owned()); 3]);
        assert_eq!(house.reveal(&bob.tokens, "order_confirmation").await, bob.values());
        assert_eq!(house.find(v1::FieldType::Email, &ada.email).await, Vec::<String>::new());
        assert_eq!(house.find(v1::FieldType::Email, &bob.email).await, [bob.tokens[0].clone()]);
    }

    async fn text_of_every_type_comes_back_character_for_character(house: House) {
        let mut house = house;
        let fields = WRITTEN.iter().map(|(kind, value)| field(*kind, value)).collect();
        let (subject, tokens) = house.tokenize("", fields).await;
        let results = house.results(&tokens, CARE).await;
        for ((kind, value), (result, token)) in WRITTEN.iter().zip(results.iter().zip(&tokens)) {
            assert_eq!(result.outcome, Some(Outcome::Value((*value).to_owned())), "{kind:?}");
            assert_eq!((result.r#type(), &result.subject, &result.token), (*kind, &subject, token));
        }
        let types: std::collections::HashSet<_> = WRITTEN.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(types.len(), 14, "every type but BYTES");
    }

    async fn bytes_come_back_as_bytes(house: House) {
        let mut house = house;
        let all = (0..=255).collect::<Vec<u8>>();
        for bytes in [all.clone(), vec![0], all.repeat(256), b"4111111111111111".to_vec()] {
            let content = Some(v1::field_input::Content::BytesValue(bytes.clone()));
            let input = v1::FieldInput { r#type: FieldType::Bytes.into(), content, ..Default::default() };
            let token = house.one("", input).await.token;
            let results = house.results(&[token], CARE).await;
            assert_eq!(results[0].outcome, Some(Outcome::BytesValue(bytes)));
            assert_eq!(results[0].r#type(), FieldType::Bytes);
        }
    }

    async fn the_longest_values_are_kept_and_one_byte_more_is_not(house: House) {
        let mut house = house;
        let longest = "\u{e9}".repeat(32 * 1024);
        let token = house.one("", text(&longest)).await.token;
        assert_eq!(house.reveal(&[token], CARE).await, [Ok(longest.clone())]);
        for (kind, maximum) in
            [(FieldType::Text, 65_536), (FieldType::PersonName, 256), (FieldType::PostalAddress, 1024)]
        {
            let long = "a".repeat(maximum + 1);
            let refused = house.tokens.tokenize(tokenize("", vec![field(kind, &long)])).await.unwrap_err();
            assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "VALUE_TOO_LARGE"));
            assert_eq!(metadata(&refused)["maximum"], maximum.to_string());
            assert_eq!(fields_at_fault(&refused), ["fields[0].value"]);
        }
    }

    async fn an_opaque_token_tells_neither_value_nor_order_nor_time(house: House) {
        let mut house = house;
        let (_, tokens) = house.tokenize("", vec![text("the same"); 40]).await;
        for token in &tokens {
            let letters = token.strip_prefix("tok_").unwrap();
            assert!(letters.len() == 26 && letters.bytes().all(|c| matches!(c, b'a'..=b'z' | b'2'..=b'7')), "{token}");
        }
        let mut sorted = tokens.clone();
        sorted.sort();
        assert_ne!(sorted, tokens, "made in this order");
        sorted.dedup();
        assert_eq!(sorted.len(), 40, "equal values have different tokens");
        // Made within a millisecond; a token with the time in front would begin alike.
        let beginnings: std::collections::HashSet<_> = tokens.iter().map(|token| &token[4..6]).collect();
        assert!(beginnings.len() > 10, "{beginnings:?}");
    }

    async fn a_token_tells_what_was_said_of_its_value(house: House) {
        let mut house = house;
        let expire_time = Some(house.in_time(HOUR));
        let input = v1::FieldInput {
            retention_class: "invoices/2026".to_owned(),
            tags: vec!["campaign:spring".to_owned(), "crm".to_owned()],
            expire_time,
            single_use: true,
            ..field(FieldType::Email, "ada@example.com")
        };
        let made = house.one("", input).await;
        assert_eq!(house.token(&made.token).await, made);
        assert_eq!(house.tokens_of(&made.subject).await, std::slice::from_ref(&made));
        assert_eq!((made.r#type(), made.format()), (FieldType::Email, v1::TokenFormat::Opaque));
        assert_eq!((made.retention_class.as_str(), made.source.as_str()), ("invoices/2026", "web_form:checkout"));
        assert_eq!(made.tags, ["campaign:spring", "crm"]);
        assert_eq!((made.state(), made.expire_time, made.single_use), (v1::TokenState::Active, expire_time, true));
        assert!(made.create_time.is_some() && !made.etag.is_empty());

        let plain = house.one("", text("plain")).await;
        assert_eq!((plain.retention_class.as_str(), plain.expire_time, plain.single_use), ("default", None, false));
        assert_eq!(plain.tags, Vec::<String>::new());
    }

    async fn an_expired_token_reveals_nothing_and_says_when_it_expired(house: House) {
        let mut house = house;
        let expire_time = house.in_time(HOUR);
        let input = v1::FieldInput { expire_time: Some(expire_time), ..field(FieldType::Email, "ada@example.com") };
        let token = house.one("", input).await;
        let name = [token.token.clone()];
        assert_eq!(house.reveal(&name, CARE).await, [Ok("ada@example.com".to_owned())]);
        house.clock.advance(HOUR);
        let results = house.results(&name, CARE).await;
        let refused = refusal(&results[0]);
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "TOKEN_EXPIRED"));
        assert_eq!(metadata(&refused)["token"], name[0]);
        let expired: jiff::Timestamp = metadata(&refused)["expire_time"].parse().unwrap();
        assert_eq!(expired.as_second(), expire_time.seconds);
        assert_eq!(house.token(&name[0]).await.state(), v1::TokenState::Expired);
        assert_eq!(house.find(FieldType::Email, "ada@example.com").await, Vec::<String>::new(), "not active any more");

        // It can still be corrected, and stays expired.
        let corrected = house.tokens.update_token(correct(&name[0], "ada@example.org")).await.unwrap().into_inner();
        assert_eq!(corrected.token.unwrap().state(), v1::TokenState::Expired);
    }

    async fn a_single_use_token_is_revealed_once(house: House) {
        let mut house = house;
        let once = || v1::FieldInput { single_use: true, ..field(FieldType::Email, "ada@example.com") };
        let token = [house.one("", once()).await.token];
        assert_eq!(house.reveal(&token, "marketing.email").await, all_refused(1, "NO_CONSENT"), "and spends nothing");
        assert_eq!(house.reveal(&token, CARE).await, [Ok("ada@example.com".to_owned())]);
        let results = house.results(&token, CARE).await;
        let refused = refusal(&results[0]);
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "TOKEN_SPENT"));
        assert_eq!(metadata(&refused)["token"], token[0]);
        assert!(metadata(&refused).contains_key("spend_time"));
        assert_eq!(house.token(&token[0]).await.state(), v1::TokenState::Spent);
    }

    async fn a_single_use_token_that_is_named_twice_is_revealed_once(house: House) {
        let mut house = house;
        let once = v1::FieldInput { single_use: true, ..text("only one") };
        let (_, tokens) = house.tokenize("", vec![once, text("as often as you like")]).await;
        let twice = [tokens[0].clone(), tokens[1].clone(), tokens[0].clone(), tokens[1].clone()];
        let results = house.results(&twice, CARE).await;
        assert_eq!(outcome(&results[0]), Ok("only one".to_owned()));
        let refused = refusal(&results[2]);
        assert_eq!(reason(&refused), "TOKEN_SPENT");
        assert_eq!(metadata(&refused)["token"], tokens[0]);
        assert!(metadata(&refused).contains_key("spend_time"));
        for plain in [1, 3] {
            assert_eq!(outcome(&results[plain]), Ok("as often as you like".to_owned()));
        }
    }

    async fn of_many_callers_at_once_one_gets_a_single_use_value(house: House) {
        let mut house = house;
        let once = v1::FieldInput { single_use: true, ..text("only one") };
        let token = [house.one("", once).await.token];
        let calls = (0..20).map(|_| {
            let mut tokens = house.tokens.clone();
            let request = detokenize(&token, CARE);
            tokio::spawn(async move { tokens.detokenize(request).await.unwrap().into_inner() })
        });
        let mut got = Vec::new();
        for call in calls.collect::<Vec<_>>() {
            got.push(outcome(&call.await.unwrap().results[0]));
        }
        got.sort();
        assert_eq!(got[0], Ok("only one".to_owned()));
        assert_eq!(got[1..], all_refused(19, "TOKEN_SPENT"));
    }

    async fn a_corrected_value_keeps_its_token_and_is_found_anew(house: House) {
        let mut house = house;
        let before = house.one("", field(FieldType::Email, "ada@example.com")).await;
        let names = [before.token.clone()];
        let change = v1::UpdateTokenRequest { etag: before.etag.clone(), ..correct(&before.token, "Ada@new.example") };
        let after = house.tokens.update_token(change.clone()).await.unwrap().into_inner().token.unwrap();
        assert_ne!(after.etag, before.etag);
        let expected = v1::Token { etag: after.etag.clone(), source: "web_form:profile".to_owned(), ..before };
        assert_eq!(after, expected);
        assert_eq!(house.reveal(&names, CARE).await, [Ok("Ada@new.example".to_owned())]);
        assert_eq!(house.find(FieldType::Email, "ada@NEW.example").await, names);
        assert_eq!(house.find(FieldType::Email, "ada@example.com").await, Vec::<String>::new());

        let stale = house.tokens.update_token(change).await.unwrap_err();
        assert_eq!((stale.code(), reason(&stale).as_str()), (Code::Aborted, "ETAG_MISMATCH"));
        assert_eq!(metadata(&stale)["etag"], after.etag);
        assert_eq!(house.token(&after.token).await, after);
    }

    async fn a_deleted_token_is_gone_and_its_neighbours_are_not(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada Lovelace").await;
        let request = v1::DeleteTokenRequest { token: ada.tokens[0].clone(), ..Default::default() };
        house.tokens.delete_token(request.clone()).await.unwrap();
        let revealed = house.reveal(&ada.tokens, CARE).await;
        assert_eq!(revealed[0], Err("TOKEN_UNKNOWN".to_owned()));
        assert_eq!(revealed[1..], ada.values()[1..]);
        assert_eq!(house.find(FieldType::Email, &ada.email).await, Vec::<String>::new());
        let asked = v1::GetTokenRequest { token: ada.tokens[0].clone() };
        for refused in [
            house.tokens.get_token(asked).await.unwrap_err(),
            house.tokens.delete_token(request).await.unwrap_err(),
            house.tokens.update_token(correct(&ada.tokens[0], "x@example.com")).await.unwrap_err(),
        ] {
            assert_eq!((refused.code(), reason(&refused).as_str()), (Code::NotFound, "TOKEN_UNKNOWN"));
            assert_eq!(metadata(&refused)["token"], ada.tokens[0]);
        }
        let states: Vec<_> = house.tokens_of(&ada.subject).await.iter().map(v1::Token::state).collect();
        assert_eq!(states.iter().filter(|state| **state == v1::TokenState::Deleted).count(), 1);
        assert_eq!(states.len(), 3);
    }

    async fn tokens_are_listed_in_pages_oldest_first(house: House) {
        let mut house = house;
        let subject = house.one("", text("0")).await.subject;
        let mut made = vec![house.tokens_of(&subject).await[0].token.clone()];
        for number in 1..7 {
            house.clock.advance(HOUR);
            made.push(house.one(&subject, text(&number.to_string())).await.token);
        }
        for (asked, sizes) in [(0, vec![7]), (1, vec![1; 7]), (3, vec![3, 3, 1]), (7, vec![7]), (5000, vec![7])] {
            let (mut listed, mut seen, mut page_token) = (Vec::new(), Vec::new(), String::new());
            loop {
                let subject = subject.clone();
                let request = v1::ListTokensRequest { subject, page_size: asked, page_token };
                let page = house.tokens.list_tokens(request).await.unwrap().into_inner();
                seen.push(page.tokens.len());
                listed.extend(page.tokens.into_iter().map(|token| token.token));
                page_token = page.next_page_token;
                if page_token.is_empty() {
                    break;
                }
            }
            assert_eq!((&listed, seen), (&made, sizes), "pages of {asked}");
        }
    }

    async fn a_page_holds_a_hundred_unless_asked_and_a_thousand_at_most(house: House) {
        let mut house = house;
        let (subject, _) = house.tokenize("", vec![text("x"); 1000]).await;
        house.tokenize(&subject, vec![text("y"); 1]).await;
        for (page_size, expected) in [(0, 100), (1000, 1000), (i32::MAX, 1000)] {
            let request = v1::ListTokensRequest { subject: subject.clone(), page_size, ..Default::default() };
            let page = house.tokens.list_tokens(request).await.unwrap().into_inner();
            assert_eq!((page.tokens.len(), page.next_page_token.is_empty()), (expected, false));
        }
    }

    async fn tokens_are_described_after_erasure(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada Lovelace").await;
        let before = house.tokens_of(&ada.subject).await;
        house.erase(&ada.subject).await;
        let erased = |token: v1::Token| v1::Token { state: v1::TokenState::Erased.into(), ..token };
        let expected: Vec<_> = before.into_iter().map(erased).collect();
        assert_eq!(house.tokens_of(&ada.subject).await, expected);
        for token in expected {
            assert_eq!(house.token(&token.token).await, token);
        }
    }

    async fn three_bad_tokens_do_not_spoil_a_thousand(house: House) {
        let mut house = house;
        let gone = house.somebody("Gone").await;
        house.erase(&gone.subject).await;
        let values: Vec<String> = (0..1000).map(|number| format!("value {number}")).collect();
        let (_, mut tokens) = house.tokenize("", values.iter().map(|value| text(value)).collect()).await;
        "ada@example.com is no token".clone_into(&mut tokens[3]);
        "tok_aaaaaaaaaaaaaaaaaaaaaaaaaa".clone_into(&mut tokens[500]);
        tokens[999].clone_from(&gone.tokens[0]);
        let results = house.results(&tokens, CARE).await;
        let expected = [(3, "TOKEN_UNKNOWN"), (500, "TOKEN_UNKNOWN"), (999, "SUBJECT_ERASED")];
        for (at, result) in results.iter().enumerate() {
            assert_eq!(result.token, tokens[at]);
            match expected.iter().find(|(bad, _)| *bad == at) {
                None => assert_eq!(outcome(result), Ok(values[at].clone())),
                Some((_, reason)) => assert_eq!(outcome(result), Err((*reason).to_owned())),
            }
        }
        assert_eq!(results.len(), 1000);
        let (malformed, unknown) = (refusal(&results[3]), refusal(&results[500]));
        assert!(!format!("{malformed:?}").contains("ada@"), "what is no token may be a value");
        assert_eq!((malformed.code(), unknown.code()), (Code::NotFound, Code::NotFound));
        assert_eq!(metadata(&unknown)["token"], tokens[500]);
        for bad in [3, 500] {
            assert_eq!((results[bad].r#type(), results[bad].subject.as_str()), (FieldType::Unspecified, ""));
        }
        let erased = metadata(&refusal(&results[999]));
        assert_eq!(erased["subject"], gone.subject);
        assert!(erased["erasure"].starts_with("ers_") && erased.contains_key("erase_time"));
        assert_eq!((results[999].r#type(), &results[999].subject), (FieldType::Email, &gone.subject));
    }

    async fn a_refused_write_leaves_nothing_behind_for_the_next_one(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada").await;
        let ground = "accuracy_contested".to_owned();
        let ask = v1::RestrictSubjectRequest { subject: ada.subject.clone(), ground, ..Default::default() };
        house.subjects.restrict_subject(ask).await.unwrap();
        let in_class = |class: &str, value: &str| {
            let value = v1::FieldInput { retention_class: class.to_owned(), ..text(value) };
            tokenize(&ada.subject, vec![value])
        };
        let refused = house.tokens.tokenize(in_class("invoices", "never kept")).await.unwrap_err();
        assert_eq!(reason(&refused), "SUBJECT_RESTRICTED");
        let informed = Some(house.in_time(std::time::Duration::ZERO));
        let ask = v1::LiftRestrictionRequest {
            subject: ada.subject.clone(),
            subject_informed_time: informed,
            ..Default::default()
        };
        house.subjects.lift_restriction(ask).await.unwrap();
        let kept = house.tokens.tokenize(in_class("orders", "an order")).await.unwrap().into_inner();
        let token = vec![kept.tokens[0].token.clone()];
        assert_eq!(house.reveal(&token, CARE).await, [Ok("an order".to_owned())]);
        // Without any key that was made ready before.
        house.reopen().await;
        assert_eq!(house.reveal(&token, CARE).await, [Ok("an order".to_owned())]);
        assert_eq!(house.reveal(&ada.tokens, CARE).await, ada.values());
    }

    async fn corrections_of_many_people_at_once_all_succeed(house: House) {
        let mut house = house;
        let mut people = Vec::new();
        for number in 0..24 {
            people.push(house.somebody(&format!("Person {number}")).await);
        }
        // Each correction takes a value out of one place of the index and puts it into another.
        let mail = |round: usize, number: usize| format!("round.{round}.{number}@example.com");
        for round in 0..6 {
            let calls = people.iter().enumerate().map(|(number, person)| {
                let mut tokens = house.tokens.clone();
                let request = correct(&person.tokens[0], &mail(round, number));
                tokio::spawn(async move { tokens.update_token(request).await })
            });
            for call in calls.collect::<Vec<_>>() {
                call.await.unwrap().unwrap();
            }
        }
        for (number, person) in people.iter().enumerate() {
            assert_eq!(house.find(FieldType::Email, &mail(5, number)).await, person.tokens[..1]);
            assert_eq!(house.find(FieldType::Email, &mail(4, number)).await, Vec::<String>::new());
        }
    }
}

//! What somebody hides in a document, so that nobody cleans it away: in bytes, in escapes, in documents within texts.

use super::hostile::{body_for_ana, of_bob, quickly};
use super::*;

#[test]
fn documents_within_texts_are_cleaned() {
    for (text, left) in [
        ("{\"u\":\"https:\\/\\/s3.example\\/r?X-Amz-Signature=1\"}", "{\"u\":\"https://s3.example/r\"}"),
        ("{\"dtmf\":\"1234\"}", "{}"),
        ("[\"4111\\u00201111\\u00201111\\u00201111\"]", "[\"[card]\"]"),
        ("see az://c/x?sig=1 and rtsps://u:p@h/x", "see az://c/x and rtsps://h/x"),
    ] {
        let read = read(of_bob(text).to_string().as_bytes(), Trust::Anybody, CardRule::Mask).unwrap();
        let full: Value = serde_json::from_str(write(&read.conversation).unwrap().expose()).unwrap();
        assert_eq!(full["dialog"][0]["body"], left, "{text}");
    }
    assert_eq!(fault(&of_bob("[\"4111\\u00201111\\u00201111\\u00201111\"]")), "dialog[0].body[0]");
    let untouched = "{ \"u\": 1.50 }";
    let full: Value = serde_json::from_str(write(&taken(&of_bob(untouched))).unwrap().expose()).unwrap();
    assert_eq!(full["dialog"][0]["body"], untouched, "nothing was wrong with it");
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    assert!(fault(&of_bob(&deep)).starts_with("dialog[0].body"));
}

#[test]
fn cards_in_bytes_are_found() {
    let of = |kind: &str, bytes: &[u8]| {
        let mut document = of_bob("x");
        document["dialog"][0]["mediatype"] = json!(kind);
        document["dialog"][0]["encoding"] = json!("base64url");
        document["dialog"][0]["body"] = json!(BASE64URL_NOPAD.encode(bytes));
        document
    };
    for (kind, bytes) in [
        ("application/xml", b"<pan>4111 1111 1111 1111</pan>".as_slice()),
        ("text/plain", b"4111 1111 1111 1111 M\xfcller"),
    ] {
        assert_eq!(fault(&of(kind, bytes)), "dialog[0].body", "{kind}");
        let read = read(of(kind, bytes).to_string().as_bytes(), Trust::Anybody, CardRule::Mask).unwrap();
        let full: Value = serde_json::from_str(write(&read.conversation).unwrap().expose()).unwrap();
        let body = full["dialog"][0]["body"].as_str().unwrap();
        assert!(body.contains("[card]") && !body.contains("1111"), "{body}");
    }
    let sound = take(&of("audio/wav", b"4111 1111 1111 1111")).unwrap();
    assert_eq!(sound.changes.cards, 0, "sound tells no numbers");
    assert!(matches!(taken(&of("application/pdf", b"%PDF \xff")).dialog[0].content.body, Some(Body::Bytes(_))));
}

/// Text as some systems write it: two bytes for each character.
fn two_bytes(text: &str, mark: bool, big: bool) -> Vec<u8> {
    let marked = mark.then_some('\u{feff}').into_iter().chain(text.chars()).collect::<String>();
    let bytes = |unit: u16| if big { unit.to_be_bytes() } else { unit.to_le_bytes() };
    marked.encode_utf16().flat_map(bytes).collect()
}

#[test]
fn nothing_that_says_it_is_bytes_goes_uncleaned() {
    let hidden = json!({ "encoding": "base64url", "body": "[\"4111\\u00201111\\u00201111\\u00201111\"]" });
    let with = |pointer: &str, name: &str, value: &Value| {
        let mut document = of_bob("x");
        document["analysis"] = json!([{ "type": "x", "body": {} }]);
        document["attachments"] = json!([{ "body": {} }]);
        document.pointer_mut(pointer).unwrap()[name] = value.clone();
        document
    };
    let wrapped = json!({ "dialog": [hidden] });
    for (pointer, name, value, field) in [
        ("/parties/0", "meta", &hidden, "parties[0].meta.body[0]"),
        ("/dialog/0", "body", &hidden, "dialog[0].body.body[0]"),
        ("/dialog/0", "moon", &hidden, "dialog[0].body[0]"),
        ("/analysis/0", "moon", &json!([hidden]), "analysis[0][0].body[0]"),
        ("/attachments/0", "body", &hidden, "attachments[0].body.body[0]"),
        ("", "moon", &json!([hidden]), "[0].body[0]"),
        ("", "moon", &wrapped, "dialog[0].body[0]"),
        ("", "moon", &json!(wrapped.to_string()), "dialog[0].body[0]"),
    ] {
        let error = take(&with(pointer, name, value)).err().unwrap_or_else(|| panic!("{pointer}/{name}: {value}"));
        assert_eq!((error.reason, error.field.as_deref()), (Reason::CardData, Some(field)), "{pointer}/{name}");
    }
    let secret = json!({ "encoding": "base64url", "body": "https://u:p@a.example/x?X-Amz-Signature=MARKED" });
    let keys = json!({ "encoding": "base64url", "body": { "dtmf": "MARKED" } });
    for value in [&secret, &keys] {
        let read = take(&with("/parties/0", "meta", value)).unwrap();
        assert_eq!(read.changes.addresses + read.changes.digits, 1);
        assert!(!write(&read.conversation).unwrap().expose().contains("MARKED"));
    }
}

#[test]
fn cards_in_texts_of_two_bytes_are_found() {
    let texts = ["my card: 4111 1111 1111 1111", "CVV: 123", "[\"4111\\u00201111\\u00201111\\u00201111\"]"];
    for (text, big, mark) in texts.iter().flat_map(|text| {
        [(false, false), (false, true), (true, false), (true, true)].map(|(big, mark)| (*text, big, mark))
    }) {
        for kind in [None, Some("text/plain"), Some("application/octet-stream")] {
            let mut document = of_bob("x");
            document["dialog"][0]["encoding"] = json!("base64url");
            document["dialog"][0]["body"] = json!(BASE64URL_NOPAD.encode(&two_bytes(text, mark, big)));
            if let Some(kind) = kind {
                document["dialog"][0]["mediatype"] = json!(kind);
            }
            let error = take(&document).err().unwrap_or_else(|| panic!("{text} {big} {mark} {kind:?}"));
            assert_eq!(error.reason, Reason::CardData);
            assert!(error.field.unwrap().starts_with("dialog[0].body"));
            let read = read(document.to_string().as_bytes(), Trust::Anybody, CardRule::Mask).unwrap();
            let full = write(&read.conversation).unwrap().expose().replace("\\u0000", "");
            assert!(read.changes.cards > 0 && full.contains("[card]"), "{full}");
            assert!(!full.contains("1111") && !full.contains("123\""), "{full}");
        }
    }
    for text in ["4\u{0}1\u{0}11 1111 1111 1111", "42\u{0}4111111111111111", "4111\\u00a01111\\u00a01111\\u00a01111 {}"]
    {
        assert_eq!(fault(&of_bob(text)), "dialog[0].body", "{text:?}");
    }
}

#[test]
fn what_is_written_with_two_bytes_stays_as_it_is_and_is_shown_to_nobody_else() {
    let mut document = of_bob("x");
    let bytes = two_bytes("Bob Miller says hello to Zoë", false, false);
    document["dialog"][0]["encoding"] = json!("base64url");
    document["dialog"][0]["body"] = json!(BASE64URL_NOPAD.encode(&bytes));
    let full: Value = serde_json::from_str(write(&taken(&document)).unwrap().expose()).unwrap();
    assert_eq!(full["dialog"][0]["body"], document["dialog"][0]["body"]);
    let bytes = two_bytes("Bob Miller says hello", false, false);
    document["dialog"][0]["body"] = json!(BASE64URL_NOPAD.encode(&bytes));
    let shown = shown(&taken(&document), 0).replace("\\u0000", "");
    assert!(!shown.contains("Bob"), "{shown}");
    for text in ["B\u{0}o\u{0}b", "hello B\\u0000ob"] {
        let shown = body_for_ana(&of_bob(text));
        assert!(!shown.replace('\0', "").contains("Bob") && !shown.contains("ob"), "{shown:?}");
    }
}

#[test]
fn addresses_with_escapes_lose_their_secrets_wherever_they_stand() {
    for (text, left) in [
        (
            "{\"u\":\"https:\\/\\/s3.example\\/r?X-Amz-Signature=MARKED\"}\n{\"n\":1}",
            "{\"u\":\"https:\\/\\/s3.example\\/r\"}\n{\"n\":1}",
        ),
        ("data: {\"u\":\"https:\\/\\/u:MARKED@s3.example\\/r\"}", "data: {\"u\":\"https:\\/\\/s3.example\\/r\"}"),
        ("data: {\"u\":\"https://a.example\\/r?sig=MARKED\"}", "data: {\"u\":\"https://a.example\\/r\"}"),
        ("data: {\"u\":\"https://a.example/r?a=1\\u0026sig=MARKED\"}", "data: {\"u\":\"https://a.example/r\"}"),
        ("data: {\"u\":\"https://a.example/r\\u003fsig=MARKED\"}", "data: {\"u\":\"https://a.example/r\"}"),
        (
            "data: {\"t\":\"see\\nhttps://a.example/r?sig=MARKED\\nnow\"}",
            "data: {\"t\":\"see\\nhttps://a.example/r\\nnow\"}",
        ),
        (
            "{\"u\":\"{\\\"u\\\":\\\"https:\\\\/\\\\/a.example\\\\/r?sig=MARKED\\\"}\"} {",
            "{\"u\":\"{\\\"u\\\":\\\"https:\\\\/\\\\/a.example\\\\/r\\\"}\"} {",
        ),
        ("data: https://a.example/r?sig=MARKED\\u003c/a", "data: https://a.example/r\\u003c/a"),
    ] {
        let full: Value = serde_json::from_str(write(&taken(&of_bob(text))).unwrap().expose()).unwrap();
        assert_eq!(full["dialog"][0]["body"], left, "{text}");
        assert_eq!(without_secrets(left), None, "{left}");
    }
    let colons = format!("{}https:{}", ":".repeat(1 << 20), "\\".repeat(1 << 20));
    assert_eq!(quickly("signs", || without_secrets(&colons)), None);
}

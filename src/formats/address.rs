//! Addresses of what lies elsewhere.

/// The address without query, fragment, user and password; `None` unless it has one of the schemes and a host. A query is where a
/// signature stands that opens a recording to whoever has it.
#[must_use]
pub fn bare_address(text: &str, schemes: &[&str]) -> Option<String> {
    let mut url = url::Url::parse(text).ok()?;
    if !schemes.contains(&url.scheme()) || !url.has_host() {
        return None;
    }
    url.set_query(None);
    url.set_fragment(None);
    let _unless_it_cannot_have_one = (url.set_username(""), url.set_password(None));
    Some(url.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lose_what_opens_them() {
        let bare = |text| bare_address(text, &["https", "s3"]);
        assert_eq!(bare("https://ada:secret@a.example/x.wav?sig=1#t=2").as_deref(), Some("https://a.example/x.wav"));
        assert_eq!(bare("s3://calls/2026/x.wav").as_deref(), Some("s3://calls/2026/x.wav"));
        for text in ["", "x.wav", "/x.wav", "http://a.example/x", "s3:x", "https://", "data:audio/wav;base64,AAAA"] {
            assert_eq!(bare(text), None, "{text}");
        }
    }
}

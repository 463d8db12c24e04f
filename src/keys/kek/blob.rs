//! A secret that a KMS has wrapped: which key did it, and what came of it. What a KMS gives back is not ours to read.

/// What a wrapped secret begins with: the format, then the length of the key's name, then the name.
const FORMAT: u8 = 3;

/// Nothing if the key's name is longer than any key's.
pub(crate) fn write(name: &str, sealed: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(name.len()).ok()?;
    Some([&[FORMAT][..], &length.to_be_bytes(), name.as_bytes(), sealed].concat())
}

/// The key's name and what it wrapped.
pub(crate) fn parse(wrapped: &[u8]) -> Option<(&str, &[u8])> {
    let (format, rest) = wrapped.split_first()?;
    (*format == FORMAT).then_some(())?;
    let (length, rest) = rest.split_first_chunk::<2>()?;
    let (name, sealed) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
    Some((str::from_utf8(name).ok()?, sealed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrapped_secret_names_its_key_and_anything_else_names_none() {
        let wrapped = write("arn", b"blob").unwrap();
        assert_eq!(parse(&wrapped), Some(("arn", &b"blob"[..])));
        for bad in [&[][..], &[FORMAT], &[FORMAT, 0, 9, 1], &[1, 0, 1, 65], &[FORMAT, 0, 1, 255]] {
            assert!(parse(bad).is_none(), "{bad:?}");
        }
        assert!(write(&"a".repeat(1 << 16), b"blob").is_none());
    }
}

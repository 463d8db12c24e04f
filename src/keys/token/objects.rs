//! What is kept in a token: AES keys that never leave it, and small notes.

use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

use super::Trouble;
use crate::crypto::{Random, SecretBytes};

const NONCE: usize = 12;
const TAG_BITS: u64 = 128;
const KEY_BYTES: u64 = 32;

/// A session that is logged in.
pub struct Desk<'a>(&'a Session);

/// An AES-256 key in the token, which cannot be read.
pub struct KeyObject {
    handle: ObjectHandle,
    /// Its `CKA_ID`.
    pub id: Vec<u8>,
}

/// A data object.
pub struct Note {
    handle: ObjectHandle,
    /// Its `CKA_LABEL`.
    pub label: String,
    /// Its content.
    pub value: Vec<u8>,
}

impl<'a> Desk<'a> {
    pub(super) const fn new(session: &'a Session) -> Self {
        Self(session)
    }

    /// Every AES key with a label.
    pub fn keys(&self, label: &str) -> Result<Vec<KeyObject>, Trouble> {
        let wanted = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
            Attribute::Token(true),
            Attribute::Label(label.into()),
        ];
        let mut keys = Vec::new();
        for handle in self.0.find_objects(&wanted)? {
            let mut id = Vec::new();
            for attribute in self.0.get_attributes(handle, &[AttributeType::Id])? {
                if let Attribute::Id(found) = attribute {
                    id = found;
                }
            }
            keys.push(KeyObject { handle, id });
        }
        Ok(keys)
    }

    /// Makes an AES-256 key inside the token, to seal and open with, never to leave it.
    pub fn make_key(&self, label: &str, id: &[u8]) -> Result<KeyObject, Trouble> {
        let template = [
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Destroyable(true),
            Attribute::Encrypt(true),
            Attribute::Decrypt(true),
            Attribute::Wrap(false),
            Attribute::Unwrap(false),
            Attribute::ValueLen(KEY_BYTES.into()),
            Attribute::Label(label.into()),
            Attribute::Id(id.to_vec()),
        ];
        let handle = self.0.generate_key(&Mechanism::AesKeyGen, &template)?;
        Ok(KeyObject { handle, id: id.to_vec() })
    }

    /// Every note of an application.
    pub fn notes(&self, application: &str) -> Result<Vec<Note>, Trouble> {
        let wanted =
            [Attribute::Class(ObjectClass::DATA), Attribute::Token(true), Attribute::Application(application.into())];
        let mut notes = Vec::new();
        for handle in self.0.find_objects(&wanted)? {
            let mut note = Note { handle, label: String::new(), value: Vec::new() };
            for attribute in self.0.get_attributes(handle, &[AttributeType::Label, AttributeType::Value])? {
                match attribute {
                    Attribute::Label(label) => note.label = String::from_utf8_lossy(&label).into_owned(),
                    Attribute::Value(value) => note.value = value,
                    _ => {}
                }
            }
            notes.push(note);
        }
        Ok(notes)
    }

    /// Leaves a note: all of it is there afterwards, or nothing.
    pub fn leave_note(&self, application: &str, label: &str, value: &[u8]) -> Result<(), Trouble> {
        let template = [
            Attribute::Class(ObjectClass::DATA),
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Application(application.into()),
            Attribute::Label(label.into()),
            Attribute::Value(value.to_vec()),
        ];
        self.0.create_object(&template)?;
        Ok(())
    }

    /// Destroys a key. One that is gone already is as good.
    pub fn destroy_key(&self, key: &KeyObject) -> Result<(), Trouble> {
        self.destroy(key.handle)
    }

    /// Removes a note.
    pub fn remove_note(&self, note: &Note) -> Result<(), Trouble> {
        self.destroy(note.handle)
    }

    /// Another writer may have been faster. Whether the object is gone is seen when the token is searched again.
    fn destroy(&self, object: ObjectHandle) -> Result<(), Trouble> {
        use cryptoki::error::{Error, RvError};
        match self.0.destroy_object(object) {
            Ok(()) | Err(Error::Pkcs11(RvError::ObjectHandleInvalid, _)) => Ok(()),
            Err(fault) => Err(fault.into()),
        }
    }

    /// Seals a secret under a key, inside the token: nonce, ciphertext, tag. `aad` must not be empty.
    pub fn seal(&self, key: &KeyObject, aad: &[u8], plain: &[u8], random: &dyn Random) -> Result<Vec<u8>, Trouble> {
        let mut nonce = [0; NONCE];
        random.fill(&mut nonce);
        let mut sealed = nonce.to_vec();
        // A token that makes its own nonce writes it back.
        let body = {
            let parameters = GcmParams::new(&mut nonce, aad, TAG_BITS.into())?;
            self.0.encrypt(&Mechanism::AesGcm(parameters), key.handle, plain)?
        };
        sealed.splice(.., nonce);
        sealed.extend_from_slice(&body);
        Ok(sealed)
    }

    /// Opens what [`Desk::seal`] made.
    pub fn open(&self, key: &KeyObject, aad: &[u8], sealed: &[u8]) -> Result<SecretBytes, Trouble> {
        let Some((nonce, body)) = sealed.split_first_chunk::<NONCE>() else {
            return Err(cryptoki::error::Error::InvalidValue.into());
        };
        let mut nonce = *nonce;
        let parameters = GcmParams::new(&mut nonce, aad, TAG_BITS.into())?;
        Ok(SecretBytes::new(self.0.decrypt(&Mechanism::AesGcm(parameters), key.handle, body)?))
    }
}

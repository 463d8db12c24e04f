//! The people in vCon conversations: names, numbers and addresses of the parties.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use crate::proto::v1;

/// A few conversations that come with the program.
const SAMPLES: [&str; 12] = [
    include_str!("../../../tests/data/vcon/056284e6-9a56-4e89-8048-8471c231f30f.vcon.json"),
    include_str!("../../../tests/data/vcon/0f5b3f08-0fbb-4552-ac56-f7ee0d7b8e0c.vcon.json"),
    include_str!("../../../tests/data/vcon/11ca4148-6369-41fc-a3ac-476c31cf9740.vcon.json"),
    include_str!("../../../tests/data/vcon/47ff5377-b9a4-4a63-96b7-67171f3f11fe.vcon.json"),
    include_str!("../../../tests/data/vcon/5af543d2-b887-4f0f-93de-b146e2a624c2.vcon.json"),
    include_str!("../../../tests/data/vcon/5f953cb3-01c9-413d-8f5c-db6e02e72e36.vcon.json"),
    include_str!("../../../tests/data/vcon/7c161369-3a17-4da9-a6e7-b3d6af755700.vcon.json"),
    include_str!("../../../tests/data/vcon/877de10f-b736-4d8b-a9de-eee847d27121.vcon.json"),
    include_str!("../../../tests/data/vcon/9a752af2-ddf0-4eb8-91d6-3e79d2457284.vcon.json"),
    include_str!("../../../tests/data/vcon/b77be02b-d58e-4e06-89b9-4c3a9d2d5c58.vcon.json"),
    include_str!("../../../tests/data/vcon/cc61a735-3a2c-4ddb-976b-a3bb7a86d819.vcon.json"),
    include_str!("../../../tests/data/vcon/cc78bb51-ecdd-4fc3-91c6-38a5fbdb0404.vcon.json"),
];

/// Somebody, with what the conversations tell of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Person {
    /// What was told: type and value, each once.
    pub values: Vec<(v1::FieldType, String)>,
}

#[derive(Deserialize)]
struct Conversation {
    parties: Vec<Party>,
}

/// What of a party is about the person; an importer of calls reads the rest.
#[derive(Deserialize)]
struct Party {
    #[serde(default)]
    name: String,
    #[serde(default)]
    tel: String,
    #[serde(default)]
    mailto: String,
    #[serde(default)]
    email: String,
}

/// The parties of every `*.json` in a folder, or of the samples; each person once, by address or number.
pub fn read(folder: Option<&Path>) -> Result<(usize, Vec<Person>)> {
    let texts: Vec<(String, String)> = match folder {
        Some(folder) => files(folder)?,
        None => SAMPLES.iter().map(|text| ("a sample".to_owned(), (*text).to_owned())).collect(),
    };
    let mut people: BTreeMap<String, Person> = BTreeMap::new();
    for (name, text) in &texts {
        let conversation: Conversation =
            serde_json::from_str(text).with_context(|| format!("{name} is not a vCon with parties"))?;
        for party in conversation.parties {
            let person = party.person();
            if let Some((_, known_by)) = person.values.first() {
                people.entry(known_by.clone()).or_insert(person);
            }
        }
    }
    Ok((texts.len(), people.into_values().collect()))
}

fn files(folder: &Path) -> Result<Vec<(String, String)>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read the folder {}", folder.display()))?;
    let mut texts = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            texts.push((path.display().to_string(), text));
        }
    }
    ensure!(!texts.is_empty(), "{} holds no *.json", folder.display());
    texts.sort();
    Ok(texts)
}

impl Party {
    fn person(self) -> Person {
        let address = if self.mailto.is_empty() { self.email } else { self.mailto };
        // Some systems write the number where a name should be.
        let name = if self.name == self.tel { String::new() } else { self.name };
        let values =
            [(v1::FieldType::Email, address), (v1::FieldType::Phone, self.tel), (v1::FieldType::PersonName, name)];
        Person { values: values.into_iter().filter(|(_, value)| !value.is_empty()).collect() }
    }
}

impl Person {
    /// Their value of a type.
    pub fn value(&self, kind: v1::FieldType) -> Option<&str> {
        self.values.iter().find(|(found, _)| *found == kind).map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_samples_are_people_with_addresses_and_numbers() {
        let (conversations, people) = read(None).unwrap();
        assert_eq!(conversations, SAMPLES.len());
        assert!(people.len() >= 20, "{}", people.len());
        assert!(people.iter().any(|person| person.value(v1::FieldType::Phone).is_some()));
        assert!(people.iter().all(|person| !person.values.is_empty()));
    }

    #[test]
    fn a_file_that_is_no_conversation_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("broken.json"), r#"{"parties": null}"#).unwrap();
        assert!(format!("{:#}", read(Some(folder.path())).unwrap_err()).contains("broken.json"));
    }
}

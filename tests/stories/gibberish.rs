//! Requests that nobody meant: every rpc is asked with fields filled by chance. Whatever is refused is refused for a reason,
//! and the vault serves on.

use std::collections::{BTreeMap, BTreeSet};

use lacuna::proto::v1;
use prost::bytes::Bytes;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};

use crate::consents::{NEWS, Office, purpose};
use crate::house::{on_both_stores, reason};
use crate::policies::with_roles;
use crate::request::{Api, ask, check, named_in};

/// How many requests are made.
const ROUNDS: u64 = 2500;

/// How many words of answers are used again.
const KNOWN: usize = 400;

on_both_stores! {
    async fn whatever_is_asked_is_answered_or_refused_for_a_reason(house: House) {
        let mut house = house;
        with_roles(&mut house, &[]).await;
        let mut office = Office::open(house).await;
        let ada = office.house.somebody("Ada").await;
        office.say(&ada.subject, NEWS, v1::ConsentEventKind::Give).await;
        let mut known: Vec<String> = ada.tokens.iter().cloned().chain([ada.subject.clone()]).collect();
        let (api, channel) = (Api::new(), office.house.channel().await);
        let credential = format!("Bearer {}", office.house.bearer());
        let mut random = ChaCha20Rng::seed_from_u64(17);
        let (mut answered, mut asked, mut reasons) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::<String, u32>::new());
        for round in 0..ROUNDS {
            let mut bytes = vec![0; 3 + usize::try_from(random.next_u32() % 160).unwrap()];
            random.fill_bytes(&mut bytes);
            let number = u16::try_from(round % 997).unwrap().to_be_bytes();
            bytes[..2].copy_from_slice(&number);
            let (rpc, message) = api.request(&bytes, &known);
            asked.insert(rpc.path.clone());
            match ask(&channel, rpc, message.clone(), &credential).await {
                Ok(answer) => {
                    answered.insert(rpc.path.clone());
                    known.extend(named_in(&answer));
                    let more = known.len().saturating_sub(KNOWN);
                    drop(known.drain(..more));
                }
                Err(refused) => {
                    check(&rpc.path, &message, &refused);
                    let told = if refused.details().is_empty() { "no message".to_owned() } else { reason(&refused) };
                    *reasons.entry(told).or_default() += 1;
                }
            }
        }
        println!("{} of {} rpcs were answered; refused: {reasons:?}", answered.len(), asked.len());
        assert_eq!(asked.len(), api.rpcs().len(), "each is asked");
        assert!(answered.len() * 3 > asked.len() && reasons.len() > 8, "what is asked makes too little sense: {answered:?} {reasons:?}");
        let grace = office.house.somebody("Grace").await;
        // Any other may have been retired by what was asked.
        let purpose = v1::Purpose {
            basis: v1::LawfulBasis::Contract.into(),
            direct_marketing: false,
            channels: Vec::new(),
            notice: String::new(),
            ..purpose("next.caller")
        };
        office.define(purpose, v1::VersionChange::Major).await.unwrap();
        assert_eq!(office.house.reveal(&grace.tokens, "next.caller").await, grace.values(), "the next caller is served");
    }
}

#[test]
fn requests_are_made_for_every_rpc_and_are_messages() {
    let api = Api::new();
    let mut random = ChaCha20Rng::seed_from_u64(18);
    let known = ["sub_a".to_owned()];
    for number in 0..u16::try_from(api.rpcs().len()).unwrap() {
        let mut bytes = vec![0; 400];
        random.fill_bytes(&mut bytes);
        bytes[..3].copy_from_slice(&[number.to_be_bytes()[0], number.to_be_bytes()[1], 1]);
        let (rpc, message) = api.request(&bytes, &known);
        assert_eq!(rpc.path, api.rpcs()[usize::from(number)].path);
        // Any message is one without fields that are known.
        assert!(<() as prost::Message>::decode(Bytes::from(message)).is_ok(), "{}", rpc.path);
    }
}

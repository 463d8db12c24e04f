//! The process ends while somebody is erased of whom a law demands something: that is left, and nothing else.

use lacuna::model::FieldType;
use lacuna::proto::v1;
use lacuna::proto::v1::key_service_client::KeyServiceClient;

use crate::asks::{detokenize, request_id, tokenize};
use crate::crash::{OFTEN, after, points_of};
use crate::hoard::{Hoard, keys_under};
use crate::house::{Bearer, field, reason};
use crate::kept::{AUTHORITY, VOICE, fields};
use crate::outside::{Outside, outside_on_both_stores};

/// How many e-mail addresses of anybody copies give away with the keys that a vault has.
async fn addresses(hoard: &Hoard, vault: &Outside) -> usize {
    let keys = keys_under(&vault.kek(), &vault.place.slot(), &vault.place.data()).await;
    hoard.spoils(keys).values().filter(|(token, _)| token.kind == FieldType::Email).count()
}

outside_on_both_stores! {
    async fn a_crash_in_an_erasure_leaves_what_it_has_to_and_nothing_else(vault: Outside) {
        let mut door = vault.start();
        let ada = door.tokenize("ada").await;
        let voice = v1::FieldInput { retention_class: "mifid.voice".to_owned(), ..field(v1::FieldType::Email, VOICE[0]) };
        let voice = door.tokens.tokenize(tokenize(&ada.subject, vec![voice])).await.unwrap().into_inner().tokens;
        door.kill();
        for point in points_of(&vault, &["erase", "shred"], &[]) {
            for times in 0..OFTEN {
                let vault = vault.copy();
                let mut hoard = Hoard::default();
                hoard.read_url(&vault.url()).await;
                assert_eq!(addresses(&hoard, &vault).await, 2, "the copy opens");
                let mut door = vault.try_start(&[(&point, after(times))]).unwrap();
                if door.try_erase(&ada, &request_id(7)).await.is_ok() {
                    assert!(times > 0, "an erasure does not come by {point}");
                    break;
                }
                door.aborted();
                let mut door = vault.start();
                let done = door.try_erase(&ada, &request_id(7)).await.unwrap();
                let done = door.shredded(&done.erasure).await;
                let kept = fields(&done);
                let kept: Vec<_> = kept.iter().filter(|item| item.1 == "KEEP_RESTRICTED").collect();
                assert_eq!((kept.len(), kept[0].0, kept[0].2), (1, "mifid.voice", 1));
                door.assert_gone(&ada).await;
                let asked = [voice[0].token.clone()];
                let refused = door.tokens.detokenize(detokenize(&asked, AUTHORITY)).await.unwrap_err();
                assert_eq!(reason(&refused), "APPROVAL_REQUIRED", "{point} {times}");
                let token = std::fs::read_to_string(vault.place.token()).unwrap();
                let mut keys = KeyServiceClient::with_interceptor(door.channel.clone(), Bearer(token.trim().to_owned()));
                let request = v1::VerifyErasureRequest { erasure: done.erasure };
                let found = keys.verify_erasure(request).await.unwrap().into_inner();
                assert!(found.holds, "{point} {times}: {found:?}");
                door.kill();
                hoard.read_url(&vault.url()).await;
                assert_eq!(addresses(&hoard, &vault).await, 1, "{point} {times}: what is kept, and no more");
            }
        }
    }
}

//! Tokens for values, and values for tokens and a purpose.

use lacuna::proto::v1;

use crate::house::on_both_stores;

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
}

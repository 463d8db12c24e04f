//! How long values are kept.

use lacuna::proto::v1;
use lacuna::proto::v1::retention_service_client::RetentionServiceClient;
use tonic::Code;

use crate::asks::request_id;
use crate::house::{Bearer, House, Link, fields_at_fault, on_both_stores, reason};
use crate::restore::Yesterday;

impl House {
    /// The door for those who say how long values are kept.
    pub async fn retention(&self) -> RetentionServiceClient<Link> {
        RetentionServiceClient::with_interceptor(self.channel().await, Bearer(self.bearer()))
    }

    async fn classes(&self) -> Vec<v1::RetentionClass> {
        let request = v1::ListRetentionClassesRequest::default();
        self.retention().await.list_retention_classes(request).await.unwrap().into_inner().retention_classes
    }
}

/// A request to define a class.
pub fn class(code: &str, period: &str) -> v1::DefineRetentionClassRequest {
    let retention_class = v1::RetentionClass {
        code: code.to_owned(),
        basis: v1::RetentionBasis::Contract.into(),
        period: period.to_owned(),
        ..Default::default()
    };
    v1::DefineRetentionClassRequest { retention_class: Some(retention_class), ..Default::default() }
}

on_both_stores! {
    async fn a_new_vault_begins_with_the_usual_classes(house: House) {
        let classes = house.classes().await;
        let known: Vec<_> = classes.iter().map(|class| (class.code.as_str(), class.period.as_str())).collect();
        assert_eq!(known, [
            ("agent.hr", ""),
            ("call.ops", "P90D"),
            ("call.quality", "P6M"),
            ("consent.proof", ""),
            ("contract.evidence", "P3Y"),
            ("default", ""),
            ("mifid.voice", "P5Y"),
        ]);
        assert!(classes.iter().all(|class| class.version == 1 && class.basis != 0));
        assert_eq!(classes[4].counting(), v1::RetentionCounting::FromEndOfYear);
    }

    async fn a_class_is_defined_in_versions_that_a_backup_learns_of(house: House) {
        let mut house = house;
        house.stop().await;
        let yesterday = Yesterday::of(&house);
        house.reopen().await;
        let mut door = house.retention().await;
        let request = v1::DefineRetentionClassRequest { request_id: request_id(1), ..class("orders", "P2Y") };
        let first = door.define_retention_class(request.clone()).await.unwrap().into_inner().retention_class.unwrap();
        assert_eq!((first.version, first.period.as_str()), (1, "P2Y"));
        assert_eq!(first.counting(), v1::RetentionCounting::FromCreation);
        let second = door.define_retention_class(class("orders", "P1Y6M")).await.unwrap().into_inner();
        assert_eq!(second.retention_class.unwrap().version, 2);
        let again = door.define_retention_class(request).await.unwrap().into_inner().retention_class;
        assert_eq!(again, Some(first), "the same request is answered as the first time");
        let refused = door.define_retention_class(class("orders", "P1Y6M")).await.unwrap_err();
        assert_eq!(fields_at_fault(&refused), ["retention_class"], "it is the version that there is");

        house.running().vault.ship_journal().await.unwrap();
        house.stop().await;
        yesterday.put_back(&house);
        house.reopen().await;
        let restored = house.classes().await.into_iter().find(|class| class.code == "orders").unwrap();
        assert_eq!((restored.version, restored.period.as_str()), (2, "P1Y6M"));
        let page = v1::ListRetentionClassesRequest { page_size: 3, ..Default::default() };
        let page = house.retention().await.list_retention_classes(page).await.unwrap().into_inner();
        assert_eq!((page.retention_classes.len(), page.next_page_token.as_str()), (3, "call.quality"));
        let rest = v1::ListRetentionClassesRequest { page_token: page.next_page_token, ..Default::default() };
        let rest = house.retention().await.list_retention_classes(rest).await.unwrap().into_inner();
        assert_eq!((rest.retention_classes.len(), rest.next_page_token.as_str()), (5, ""));
    }

    async fn a_class_that_makes_no_sense_is_refused_by_its_field(house: House) {
        let mut door = house.retention().await;
        let with = |change: fn(&mut v1::RetentionClass)| {
            let mut request = class("orders", "P2Y");
            change(request.retention_class.as_mut().unwrap());
            request
        };
        let wrong = [
            (with(|class| class.code = "Orders".to_owned()), "retention_class.code"),
            (with(|class| class.code.clear()), "retention_class.code"),
            (with(|class| class.basis = 0), "retention_class.basis"),
            (with(|class| class.basis = 99), "retention_class.basis"),
            (with(|class| class.period = "two years".to_owned()), "retention_class.period"),
            (with(|class| class.period = "P101Y".to_owned()), "retention_class.period"),
            (with(|class| class.title = "x".repeat(201)), "retention_class.title"),
            (with(|class| class.counting = 99), "retention_class.counting"),
            (with(|class| { class.period.clear(); class.counting = 2; }), "retention_class.counting"),
        ];
        for (request, field) in wrong {
            let refused = door.define_retention_class(request).await.unwrap_err();
            assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "VALUE_INVALID"), "{field}");
            assert_eq!(fields_at_fault(&refused), [field]);
        }
    }
}

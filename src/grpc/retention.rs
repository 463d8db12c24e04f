//! `RetentionService`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::identity::caller;
use super::{answer, parse, status};
use crate::model::{Counting, Error, Period, Result, RetentionBasis, RetentionClass, Time};
use crate::proto::v1;
use crate::proto::v1::retention_service_server::RetentionService;
use crate::vault::Vault;
use crate::vault::consent::DefineRetentionClass;
use crate::vault::page_size;

/// The service.
pub struct Retention {
    vault: Arc<Vault>,
}

impl Retention {
    /// A door to this vault.
    pub const fn new(vault: Arc<Vault>) -> Self {
        Self { vault }
    }
}

#[tonic::async_trait]
impl RetentionService for Retention {
    async fn define_retention_class(
        &self,
        request: Request<v1::DefineRetentionClassRequest>,
    ) -> Result<Response<v1::DefineRetentionClassResponse>, Status> {
        let caller = caller(&request).map_err(|error| status::to_status(&error))?;
        answer("DefineRetentionClass", async {
            let ask = request.into_inner();
            let given = ask.retention_class.ok_or_else(|| Error::invalid("retention_class", "is missing"))?;
            let (class, request) = (class(given)?, parse::request_id(&ask.request_id)?);
            let defined = self.vault.define_retention_class(&caller, DefineRetentionClass { class, request }).await?;
            Ok(v1::DefineRetentionClassResponse { retention_class: Some(wire_class(&defined)) })
        })
        .await
    }

    async fn list_retention_classes(
        &self,
        request: Request<v1::ListRetentionClassesRequest>,
    ) -> Result<Response<v1::ListRetentionClassesResponse>, Status> {
        answer("ListRetentionClasses", async {
            let ask = request.into_inner();
            let size = page_size(ask.page_size)? as usize;
            let catalogue = self.vault.catalogue().await?;
            let later = catalogue.classes().filter(|class| class.code > ask.page_token);
            let mut classes: Vec<_> = later.take(size + 1).map(wire_class).collect();
            let more = classes.len() > size;
            classes.truncate(size);
            let next = classes.last().filter(|_| more).map(|class| class.code.clone());
            Ok(v1::ListRetentionClassesResponse {
                retention_classes: classes,
                next_page_token: next.unwrap_or_default(),
            })
        })
        .await
    }
}

fn class(given: v1::RetentionClass) -> Result<RetentionClass> {
    let unknown = |field: &'static str| move || Error::invalid(field, "is missing, or not one that this vault knows");
    let period = Some(given.period.as_str()).filter(|period| !period.is_empty());
    Ok(RetentionClass {
        code: given.code,
        version: 0,
        title: given.title,
        basis: RetentionBasis::from_number(given.basis).ok_or_else(unknown("retention_class.basis"))?,
        period: period.map(Period::parse).transpose().map_err(|error| error.at("retention_class.period"))?,
        counting: match given.counting {
            0 => Counting::FromCreation,
            number => Counting::from_number(number).ok_or_else(unknown("retention_class.counting"))?,
        },
        defined_at: 0,
    })
}

fn wire_class(class: &RetentionClass) -> v1::RetentionClass {
    v1::RetentionClass {
        code: class.code.clone(),
        version: class.version.cast_signed(),
        title: class.title.clone(),
        basis: class.basis.number(),
        period: class.period.map(|period| period.to_string()).unwrap_or_default(),
        counting: class.period.map_or(0, |_| class.counting.number()),
        define_time: Some(parse::wire_time(Time::from_micros(class.defined_at))),
    }
}

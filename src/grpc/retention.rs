//! `RetentionService`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::identity::caller;
use super::{answer, hold, parse, status};
use crate::model::{
    Counting, Ended, Error, Period, Result, RetentionBasis, RetentionClass, RetentionRun, RetentionRunId, Time,
};
use crate::proto::v1;
use crate::proto::v1::retention_service_server::RetentionService;
use crate::vault::Vault;
use crate::vault::consent::DefineRetentionClass;
use crate::vault::page_size;
use crate::vault::retention::{Previewed, RunRetention};

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

    async fn preview_retention(
        &self,
        _: Request<v1::PreviewRetentionRequest>,
    ) -> Result<Response<v1::PreviewRetentionResponse>, Status> {
        answer("PreviewRetention", async {
            let cohorts = self.vault.preview_retention().await?.iter().map(wire_cohort).collect();
            Ok(v1::PreviewRetentionResponse { cohorts })
        })
        .await
    }

    async fn run_retention(
        &self,
        request: Request<v1::RunRetentionRequest>,
    ) -> Result<Response<v1::RunRetentionResponse>, Status> {
        let caller = caller(&request).map_err(|error| status::to_status(&error))?;
        answer("RunRetention", async {
            let ask = request.into_inner();
            let confirmed_at = ask.confirm_time.map(|time| parse::time("confirm_time", time)).transpose()?;
            let request = parse::request_id(&ask.request_id)?;
            let (run, pending) = self.vault.run_retention(&caller, RunRetention { confirmed_at, request }).await?;
            Ok(v1::RunRetentionResponse { run: Some(wire_run(run)), pending_reason: pending.unwrap_or_default() })
        })
        .await
    }

    async fn list_retention_runs(
        &self,
        request: Request<v1::ListRetentionRunsRequest>,
    ) -> Result<Response<v1::ListRetentionRunsResponse>, Status> {
        answer("ListRetentionRuns", async {
            let ask = request.into_inner();
            let after = parse::page_token(&ask.page_token, RetentionRunId::parse)?;
            let (runs, next) = self.vault.list_retention_runs(after, page_size(ask.page_size)?).await?;
            Ok(v1::ListRetentionRunsResponse {
                runs: runs.into_iter().map(wire_run).collect(),
                next_page_token: next.map(|id| id.to_string()).unwrap_or_default(),
            })
        })
        .await
    }

    async fn place_hold(
        &self,
        request: Request<v1::PlaceHoldRequest>,
    ) -> Result<Response<v1::PlaceHoldResponse>, Status> {
        let caller = caller(&request).map_err(|error| status::to_status(&error))?;
        answer("PlaceHold", hold::place(&self.vault, &caller, request.into_inner())).await
    }

    async fn release_hold(
        &self,
        request: Request<v1::ReleaseHoldRequest>,
    ) -> Result<Response<v1::ReleaseHoldResponse>, Status> {
        let caller = caller(&request).map_err(|error| status::to_status(&error))?;
        answer("ReleaseHold", hold::release(&self.vault, &caller, request.into_inner())).await
    }

    async fn list_holds(
        &self,
        request: Request<v1::ListHoldsRequest>,
    ) -> Result<Response<v1::ListHoldsResponse>, Status> {
        answer("ListHolds", hold::list(&self.vault, request.into_inner())).await
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
        outlasts_erasure: given.outlasts_erasure,
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
        outlasts_erasure: class.outlasts_erasure,
    }
}

fn wire_cohort(previewed: &Previewed) -> v1::RetentionCohort {
    let counted = &previewed.counted;
    v1::RetentionCohort {
        retention_class: counted.class.clone(),
        month: counted.cohort.map(|cohort| cohort.to_string()).unwrap_or_default(),
        end_time: previewed.ends_at.map(parse::wire_time),
        overdue: previewed.overdue,
        restricted: counted.restricted,
        erased: counted.kept_until.is_some(),
        subjects: counted.subjects.cast_signed(),
        values: counted.values.cast_signed(),
    }
}

fn wire_run(run: RetentionRun) -> v1::RetentionRun {
    let item = |ended: Ended| v1::RetentionRunItem {
        retention_class: ended.class,
        month: ended.cohort,
        keys: ended.keys.cast_signed(),
        values: ended.values.cast_signed(),
    };
    v1::RetentionRun {
        run: run.id.to_string(),
        state: run.state.number(),
        start_caller: run.started_by,
        start_time: Some(parse::wire_time(run.started_at)),
        end_time: run.ended_at.map(parse::wire_time),
        items: run.items.into_iter().map(item).collect(),
        epoch: run.epoch.unwrap_or_default().cast_signed(),
        receipt: run.receipt.unwrap_or_default(),
        call: run.call.map(|call| call.to_string()).unwrap_or_default(),
        hold: run.hold.map(|hold| hold.to_string()).unwrap_or_default(),
        reason: run.reason,
    }
}

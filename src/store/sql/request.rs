use async_trait::async_trait;

use super::super::super::request::{Answer, Requests};
use super::{Columns, Result, Row, Rows, SqlTx, blob, each};
use crate::model::{RequestId, SubjectId};

#[async_trait]
impl Requests for SqlTx {
    async fn answers(&mut self, requests: &[(String, RequestId)]) -> Result<Vec<Answer>> {
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        let mut asked = Rows::new();
        for (caller, id) in requests {
            asked.row().text(caller).blob(id.as_bytes());
        }
        let rows = self
            .fetch(
                concat! {
                    "SELECT r.caller, r.id, r.deed, r.subject, r.answer, r.created_at FROM ", each!("1"),
                    " AS e CROSS JOIN request r WHERE r.caller = e.value ->> 0 AND r.id = ", blob!("1")
                },
                asked,
            )
            .await?;
        rows.iter().map(answer).collect()
    }

    async fn insert_answers(&mut self, answers: &[Answer]) -> Result<()> {
        if answers.is_empty() {
            return Ok(());
        }
        let mut rows = Rows::new();
        for answer in answers {
            rows.row()
                .text(&answer.caller)
                .blob(answer.id.as_bytes())
                .text(&answer.deed)
                .maybe_blob(answer.subject.as_ref().map(|subject| subject.as_bytes().as_slice()))
                .text(&answer.answer)
                .number(answer.created_at.micros());
        }
        self.run(
            concat! {
                "INSERT INTO request (caller, id, deed, subject, answer, created_at) ",
                "SELECT e.value ->> 0, ", blob!("1"), ", e.value ->> 2, ", blob!("3"),
                ", e.value ->> 4, CAST(e.value ->> 5 AS BIGINT) FROM ", each!("1"), " AS e WHERE true ",
                "ON CONFLICT (caller, id) DO NOTHING"
            },
            rows,
        )
        .await?;
        Ok(())
    }
}

fn answer(row: &Row) -> Result<Answer> {
    let mut columns = Columns::of(row);
    Ok(Answer {
        caller: columns.take()?,
        id: RequestId::from_bytes(columns.bytes("request", "id")?),
        deed: columns.take()?,
        subject: columns.take::<Option<&[u8]>>()?.and_then(SubjectId::from_slice),
        answer: columns.take()?,
        created_at: columns.time()?,
    })
}

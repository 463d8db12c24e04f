"""A caller of the vault in another language: Python with the stock gRPC libraries and stubs made from proto/.

Says one line for each thing that it checked and stops at the first that is wrong, with exit status 1. What it needs is
in requirements.txt; tests/run provides it, tests/stories/python_client.rs runs it against each store.
"""

import argparse
import base64
import importlib
import os
import pathlib
import sys
import tempfile
import uuid

import grpc
import grpc_tools.protoc
from google.protobuf import timestamp_pb2
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status

PROTO = pathlib.Path(__file__).resolve().parents[2] / "proto"

EMAIL = "Ada.Lovelace@example.com"
PHONE = "+49 30 901820"
SAME_PHONE = "0049 (30) 90 18 20"
NAME = "Ada Lovelace"
CARE = "customer_care"
ORDER = "order_confirmation"


def generate(folder):
    """Makes the stubs as any user would, and imports them."""
    includes = [f"-I{PROTO}", f"-I{pathlib.Path(grpc_tools.__file__).parent / '_proto'}"]
    files = sorted(str(file) for file in (PROTO / "lacuna").rglob("*.proto"))
    outputs = [f"--python_out={folder}", f"--grpc_python_out={folder}"]
    assert grpc_tools.protoc.main(["protoc", *includes, *outputs, *files]) == 0, "the stubs cannot be made"
    sys.path.insert(0, folder)
    names = ["error_reason_pb2", "token_service_pb2", "token_service_pb2_grpc"]
    names += ["subject_service_pb2", "subject_service_pb2_grpc"]
    return [importlib.import_module(f"lacuna.v1.{name}") for name in names]


def check(what, holds, seen=""):
    """Says what holds; stops the program at what does not."""
    if not holds:
        print(f"FAILED  {what}: {seen}", flush=True)
        sys.exit(1)
    print(f"ok      {what}", flush=True)


class Refusal:
    """A google.rpc.Status with its typed details, from a failed call or a single item of a batch."""

    def __init__(self, status):
        self.code = status.code
        self.message = status.message
        self.infos, self.fields = [], []
        for detail in status.details:
            info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
            if detail.Unpack(info):
                self.infos.append(info)
            elif detail.Unpack(bad):
                self.fields += [violation.field for violation in bad.field_violations]

    def __repr__(self):
        infos = [(info.domain, info.reason, dict(info.metadata)) for info in self.infos]
        return f"code {self.code}, {self.message!r}, {infos}, fields {self.fields}"

    def tells(self, code, reason):
        """Exactly one ErrorInfo, of our domain, with the reason, under the right code, and a sentence."""
        info = [(info.domain, info.reason) for info in self.infos]
        return self.code == code.value[0] and info == [("lacuna", reason)] and self.message != ""

    @property
    def metadata(self):
        return dict(self.infos[0].metadata)


def refused(what, code, reason, call, *arguments, **more):
    """Makes a call that must fail; answers the refusal."""
    try:
        answer = call(*arguments, **more)
    except grpc.RpcError as error:
        status = rpc_status.from_call(error)
        check(f"{what}: a rich status", status is not None, error)
        check(f"{what}: {code.name}, {reason}", Refusal(status).tells(code, reason), Refusal(status))
        return Refusal(status)
    check(f"{what}: {code.name}, {reason}", False, f"it was answered: {type(answer).__name__}")


class Bearer(grpc.UnaryUnaryClientInterceptor, grpc.StreamStreamClientInterceptor):
    """Sends the token with every call. (Call credentials need TLS; the vault under test listens on loopback.)"""

    def __init__(self, token):
        self.metadata = [("authorization", f"Bearer {token}")]

    def intercept_unary_unary(self, call, details, request):
        return call(self.with_bearer(details), request)

    intercept_stream_stream = intercept_unary_unary

    def with_bearer(self, details):
        metadata = [*(details.metadata or []), *self.metadata]
        return details._replace(metadata=metadata, timeout=details.timeout or 60)


class Client:
    """The stubs, connected."""

    def __init__(self, stubs, channel):
        self.errors, self.t, token_rpc, self.s, subject_rpc = stubs
        self.tokens = token_rpc.TokenServiceStub(channel)
        self.subjects = subject_rpc.SubjectServiceStub(channel)

    def field(self, kind, value, **more):
        return self.t.FieldInput(type=f"FIELD_TYPE_{kind}", value=value, **more)

    def tokenize(self, *fields, source="web_form:checkout", **more):
        return self.tokens.Tokenize(self.t.TokenizeRequest(source=source, fields=fields, **more))

    def reveal(self, tokens, purpose=ORDER, **more):
        request = self.t.DetokenizeRequest(tokens=tokens, purpose=purpose, **more)
        return self.tokens.Detokenize(request).results

    def erase(self, subject, **more):
        request = self.s.EraseSubjectRequest(subject=subject, reason="gdpr 17(1)(b)", **more)
        return self.subjects.EraseSubject(request).erasure


def values_and_tokens(client):
    """Tokenize, reveal, mask, find, describe, list."""
    fields = [client.field("EMAIL", EMAIL), client.field("PHONE", PHONE), client.field("PERSON_NAME", NAME)]
    answer = client.tokenize(*fields, request_id=str(uuid.uuid4()))
    tokens = [token.token for token in answer.tokens]
    check("tokenize opens a subject", answer.subject.startswith("sub_"), answer.subject)
    check("tokenize answers three tokens", all(token.startswith("tok_") for token in tokens) and len(tokens) == 3)
    check("tokens are of the subject", all(token.subject == answer.subject for token in answer.tokens))

    results = client.reveal(tokens)
    check("reveal gives what was given", [result.value for result in results] == [EMAIL, PHONE, NAME])
    check("reveal keeps the order", [result.token for result in results] == tokens)
    masked = [result.value for result in client.reveal(tokens, redaction="REDACTION_MASKED")]
    check("a masked reveal hides", not set(masked) & {EMAIL, PHONE, NAME} and all("•••" in value for value in masked))

    request = client.t.FindTokensRequest(type="FIELD_TYPE_PHONE", value=SAME_PHONE, purpose=CARE)
    found = [token.token for token in client.tokens.FindTokens(request).tokens]
    check("find by another spelling of the phone", tokens[1] in found, found)

    token = client.tokens.GetToken(client.t.GetTokenRequest(token=tokens[0])).token
    active = client.t.TOKEN_STATE_ACTIVE
    check("get token", token.state == active and token.source == "web_form:checkout", token)
    request = client.t.ListTokensRequest(subject=answer.subject, page_size=2)
    page = client.tokens.ListTokens(request)
    request.page_token = page.next_page_token
    listed = [token.token for part in (page, client.tokens.ListTokens(request)) for token in part.tokens]
    check("list tokens, page by page", sorted(listed) == sorted(tokens), listed)
    return answer.subject, tokens


def changes(client):
    """Correct, delete, restrict, lift, switch profiling."""
    request = client.s.CreateSubjectRequest(kind="customer", jurisdiction="DE", source="import:crm")
    subject = client.subjects.CreateSubject(request).subject.subject
    token = client.tokenize(client.field("EMAIL", "old@example.com"), subject=subject).tokens[0]
    request = client.t.UpdateTokenRequest(
        token=token.token, value="new@example.com", source="call:agent", etag=token.etag
    )
    client.tokens.UpdateToken(request)
    check("update keeps the token", client.reveal([token.token])[0].value == "new@example.com")
    refused("update with an old etag", grpc.StatusCode.ABORTED, "ETAG_MISMATCH", client.tokens.UpdateToken, request)

    client.subjects.RestrictSubject(client.s.RestrictSubjectRequest(subject=subject, ground="accuracy_contested"))
    result = client.reveal([token.token])[0]
    restricted = Refusal(result.error)
    precondition = grpc.StatusCode.FAILED_PRECONDITION
    check("restricted is not revealed", restricted.tells(precondition, "SUBJECT_RESTRICTED"), restricted)
    told = timestamp_pb2.Timestamp(seconds=1_700_000_000)
    request = client.s.LiftRestrictionRequest(subject=subject, subject_informed_time=told)
    client.subjects.LiftRestriction(request)
    check("lifted is revealed", client.reveal([token.token])[0].value == "new@example.com")

    profiling = client.s.SetProfilingRequest(subject=subject, enabled=False)
    check("profiling is off", not client.subjects.SetProfiling(profiling).subject.profiling)
    score = client.field("SCORE", "0.7")
    reason = "PROFILING_OFF"
    refused("a score of the unprofiled", precondition, reason, client.tokenize, score, subject=subject)

    client.tokens.DeleteToken(client.t.DeleteTokenRequest(token=token.token))
    gone = Refusal(client.reveal([token.token])[0].error)
    check("deleted is unknown", gone.tells(grpc.StatusCode.NOT_FOUND, "TOKEN_UNKNOWN"), gone)
    described = client.subjects.GetSubject(client.s.GetSubjectRequest(subject=subject)).subject
    check("get subject", described.state == client.s.SUBJECT_STATE_ACTIVE and described.jurisdiction == "DE", described)
    listed = client.subjects.ListSubjects(client.s.ListSubjectsRequest(page_size=1000)).subjects
    check("list subjects", subject in [subject.subject for subject in listed])
    return subject


def refusals(client, token, stranger):
    """Each refusal has its code, its reason and, for input, the field."""
    invalid, denied = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.PERMISSION_DENIED
    purposeless = refused("no purpose", invalid, "PURPOSE_REQUIRED", client.reveal, [token], purpose="")
    check("no purpose: names the field", purposeless.fields == ["purpose"], purposeless)
    refused("unknown purpose", invalid, "PURPOSE_UNKNOWN", client.reveal, [token], purpose="curiosity")
    email = client.field("EMAIL", EMAIL)
    sourceless = refused("no source", invalid, "SOURCE_REQUIRED", client.tokenize, email, source="")
    check("no source: names the field", sourceless.fields == ["source"], sourceless)
    card = client.field("TEXT", "please charge 4111 1111 1111 1111, thanks")
    carded = refused("a card number in text", invalid, "CARD_DATA", client.tokenize, email, card)
    check("a card number: names the field", carded.fields == ["fields[1].value"], carded)
    check("a card number: does not repeat it", "4111" not in repr(carded))
    bad = refused("a bad address", invalid, "VALUE_INVALID", client.tokenize, client.field("EMAIL", "ada at example"))
    check("a bad address: names the field", bad.fields == ["fields[0].value"], bad)
    refused("too many tokens", invalid, "BATCH_TOO_LARGE", client.reveal, [token] * 1001)

    result = client.reveal([token], purpose="marketing.email")[0]
    consentless = Refusal(result.error)
    check("no consent: PERMISSION_DENIED, NO_CONSENT", consentless.tells(denied, "NO_CONSENT"), consentless)
    check("no consent: names the purpose", consentless.metadata.get("purpose") == "marketing.email", consentless)

    unknown = grpc.StatusCode.UNAUTHENTICATED, "CALLER_UNKNOWN"
    refused("a wrong bearer", *unknown, stranger.reveal, [token])
    request = stranger.s.GetSubjectRequest(subject="sub_" + "a" * 26)
    refused("a wrong bearer asking for a person", *unknown, stranger.subjects.GetSubject, request)


def batch_of_thousand(client):
    """997 values and three errors, each in its place."""
    names = [f"Person {number}" for number in range(997)]
    fields = [client.field("PERSON_NAME", name) for name in names]
    tokens = [token.token for token in client.tokenize(*fields, source="import:crm").tokens]
    gone = client.tokenize(client.field("EMAIL", "gone@example.com"))
    erasure = client.erase(gone.subject)
    unknown = "tok_" + base64.b32encode(os.urandom(16)).decode().rstrip("=").lower()
    bad = {0: "tok_malformed", 500: unknown, 999: gone.tokens[0].token}
    asked, good = [], iter(zip(tokens, names))
    expected = []
    for place in range(1000):
        token, name = (bad[place], None) if place in bad else next(good)
        asked.append(token)
        expected.append(name)

    results = client.reveal(asked, purpose=CARE)
    check("1000 results in the order asked", [result.token for result in results] == asked)
    values = [result.value if result.WhichOneof("outcome") == "value" else None for result in results]
    check("997 values, each in its place", values == expected)
    missing = grpc.StatusCode.NOT_FOUND
    errors = {place: Refusal(results[place].error) for place in bad}
    check("the malformed one", errors[0].tells(missing, "TOKEN_UNKNOWN"), errors[0])
    check("the unknown one", errors[500].tells(missing, "TOKEN_UNKNOWN"), errors[500])
    erased = errors[999]
    check("the erased one", erased.tells(grpc.StatusCode.FAILED_PRECONDITION, "SUBJECT_ERASED"), erased)
    check("the erased one names its erasure", erased.metadata.get("erasure") == erasure.erasure, erased)
    return asked, expected


def streams(client, asked, expected):
    """Both streams answer in order; a bad item does not end them."""
    def wanted():
        for number in range(50):
            kind = ("NATIONAL_ID", "") if number == 20 else ("PERSON_NAME", f"Streamed {number}")
            yield client.t.TokenizeRequest(source="import:crm", fields=[client.field(*kind)])

    answers = list(client.tokens.TokenizeStream(wanted()))
    outcomes = [answer.WhichOneof("outcome") for answer in answers]
    check("tokenize stream: 50 outcomes", outcomes == ["error" if at == 20 else "response" for at in range(50)])
    bad = Refusal(answers[20].error)
    check("tokenize stream: the bad one", bad.tells(grpc.StatusCode.INVALID_ARGUMENT, "VALUE_INVALID"), bad)
    tokens = [answer.response.tokens[0].token for answer in answers if answer.WhichOneof("outcome") == "response"]

    purposes = [CARE, "", ORDER]
    parts = [tokens, tokens, asked]
    asks = [client.t.DetokenizeRequest(tokens=part, purpose=purpose) for part, purpose in zip(parts, purposes)]
    answers = list(client.tokens.DetokenizeStream(iter(asks)))
    outcomes = [answer.WhichOneof("outcome") for answer in answers]
    check("detokenize stream: three outcomes", outcomes == ["response", "error", "response"], outcomes)
    values = [result.value for result in answers[0].response.results]
    check("detokenize stream: values", values == [f"Streamed {number}" for number in range(50) if number != 20])
    bad = Refusal(answers[1].error)
    check("detokenize stream: the bad one", bad.tells(grpc.StatusCode.INVALID_ARGUMENT, "PURPOSE_REQUIRED"), bad)
    values = [result.value or None for result in answers[2].response.results]
    check("detokenize stream: a thousand", values == expected)


def erasure(client, subject, tokens, receipt):
    """Plan, cancel, erase; what is gone and what stays."""
    plan = client.erase(subject, validate_only=True)
    check("a plan changes nothing", len(plan.plan) > 0 and client.reveal(tokens)[0].value == EMAIL, plan)
    later = timestamp_pb2.Timestamp(seconds=4_102_444_800)
    scheduled = client.erase(subject, execute_time=later)
    check("an erasure can be scheduled", scheduled.state == client.s.ERASURE_STATE_SCHEDULED, scheduled)
    waiting = Refusal(client.reveal(tokens)[0].error)
    check("scheduled is restricted", waiting.tells(grpc.StatusCode.FAILED_PRECONDITION, "SUBJECT_SCHEDULED"), waiting)
    request = client.s.CancelErasureRequest(erasure=scheduled.erasure)
    cancelled = client.subjects.CancelErasure(request).erasure
    check("and called off", cancelled.state == client.s.ERASURE_STATE_CANCELLED, cancelled)
    check("before the erasure all is revealed", client.reveal(tokens)[0].value == EMAIL)

    request_id = str(uuid.uuid4())
    done = client.erase(subject, request_id=request_id)
    check("erase answers SHREDDED", done.state == client.s.ERASURE_STATE_SHREDDED, done)
    check("erase again by its request_id", client.erase(subject, request_id=request_id).erasure == done.erasure)
    for result in client.reveal(tokens):
        gone = Refusal(result.error)
        tells = gone.tells(grpc.StatusCode.FAILED_PRECONDITION, "SUBJECT_ERASED")
        check("an erased token: FAILED_PRECONDITION, SUBJECT_ERASED", tells, gone)
        facts = gone.metadata
        check("an erased token names subject and erasure", (facts.get("subject"), facts.get("erasure")) ==
              (subject, done.erasure), gone)
        check("an erased token tells the time", facts.get("erase_time") == done.erase_time.ToJsonString() or
              same_time(facts.get("erase_time"), done.erase_time), gone)
    request = client.t.FindTokensRequest(type="FIELD_TYPE_EMAIL", value=EMAIL, purpose=CARE)
    found = [token.token for token in client.tokens.FindTokens(request).tokens]
    check("find does not know the erased", not set(found) & set(tokens), found)

    token = client.tokens.GetToken(client.t.GetTokenRequest(token=tokens[0])).token
    check("get token still works", token.state == client.t.TOKEN_STATE_ERASED and token.subject == subject, token)
    listed = client.tokens.ListTokens(client.t.ListTokensRequest(subject=subject)).tokens
    check("list tokens still works", {token.token for token in listed} == set(tokens))
    described = client.subjects.GetSubject(client.s.GetSubjectRequest(subject=subject)).subject
    check("get subject still works", described.state == client.s.SUBJECT_STATE_SHREDDED, described)
    again = client.subjects.GetErasure(client.s.GetErasureRequest(erasure=done.erasure)).erasure
    check("get erasure still works", again.state == client.s.ERASURE_STATE_SHREDDED and again.subject == subject)
    listed = client.subjects.ListErasures(client.s.ListErasuresRequest()).erasures
    states = {erasure.erasure: erasure.state for erasure in listed}
    check("list erasures", (states.get(scheduled.erasure), states.get(done.erasure)) ==
          (client.s.ERASURE_STATE_CANCELLED, client.s.ERASURE_STATE_SHREDDED), states)
    proof = client.subjects.GetReceipt(client.s.GetReceiptRequest(erasure=done.erasure))
    check("get receipt", len(proof.receipt) > 0 and subject in proof.json, proof.json)
    receipt.write_bytes(proof.receipt)


def same_time(text, timestamp):
    """Whether an RFC 3339 text means this time, whatever its number of digits."""
    try:
        other = timestamp_pb2.Timestamp()
        other.FromJsonString(text)
    except (TypeError, ValueError):
        return False
    return other == timestamp


def surroundings(channel):
    """Health and reflection, which need no caller."""
    health = health_pb2_grpc.HealthStub(channel)
    for service in ["", "lacuna.v1.TokenService", "lacuna.v1.SubjectService"]:
        status = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=60).status
        check(f"health of {service or 'the whole'}", status == health_pb2.HealthCheckResponse.SERVING, status)
    reflection = ProtoReflectionDescriptorDatabase(channel)
    services = set(reflection.get_services())
    expected = {"lacuna.v1.TokenService", "lacuna.v1.SubjectService"}
    check("reflection lists the services", expected <= services, services)
    file = reflection.FindFileContainingSymbol("lacuna.v1.TokenService")
    check("reflection describes them", "Tokenize" in [method.name for method in file.service[0].method])


def connect(arguments):
    if arguments.tls is None:
        return grpc.insecure_channel(arguments.address)
    authority, key, chain = ((arguments.tls / name).read_bytes() for name in ("ca.pem", "shop.key", "shop.pem"))
    return grpc.secure_channel(arguments.address, grpc.ssl_channel_credentials(authority, key, chain))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--address", required=True, metavar="HOST:PORT")
    parser.add_argument("--token-file", required=True, type=pathlib.Path)
    parser.add_argument("--receipt", required=True, type=pathlib.Path, help="where to write an erasure's receipt")
    parser.add_argument("--tls", type=pathlib.Path, metavar="DIR", help="what `lacuna tls dev` made for a caller, shop")
    arguments = parser.parse_args()
    bearer = arguments.token_file.read_text().strip()
    with tempfile.TemporaryDirectory() as folder, connect(arguments) as channel:
        stubs = generate(folder)
        grpc.channel_ready_future(channel).result(timeout=30)
        client = Client(stubs, grpc.intercept_channel(channel, Bearer(bearer)))
        stranger = Client(stubs, grpc.intercept_channel(channel, Bearer("wrong-" + bearer)))
        surroundings(channel)
        subject, tokens = values_and_tokens(client)
        changes(client)
        refusals(client, tokens[0], stranger)
        asked, expected = batch_of_thousand(client)
        streams(client, asked, expected)
        erasure(client, subject, tokens, arguments.receipt)
    print("all is well")


if __name__ == "__main__":
    main()

//! Requests out of any bytes, by the descriptors: what the fuzzer asks a vault, and the stories too.
//!
//! The first two bytes choose the rpc, the third whether the rest is sent as it is or says what stands in each field. So a
//! new rpc or field is asked for as soon as it is in the descriptors.

use std::collections::HashMap;
use std::time::Duration;

use lacuna::proto::DESCRIPTORS;
use lacuna::proto::v1::ErrorReason;
use prost::Message as _;
use prost::bytes::{Buf as _, BufMut as _};
use prost::encoding::{WireType, encode_key, encode_varint};
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

/// How long a stream may say nothing.
const SILENCE: Duration = Duration::from_millis(20);

/// How long a call may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// How deep messages stand in each other.
const DEEPEST: usize = 4;

/// Words that the vault takes in one place or another.
const WORDS: &[&str] = &[
    "customer_care",
    "marketing.email.product_updates",
    "web_form:checkout",
    "privacy",
    "web:signup",
    "standard",
    "ada@example.com",
    "+49301234567",
    "2015-03-01",
    "DE",
    "de",
    "GDPR Art. 17(1)(b)",
    "67e55044-10b1-426f-9247-bb680e5fe0c8",
    "{\"a\":[1,{\"b\":\"c\"}]}",
    "52.52,13.405",
    "1",
    "*",
    "tags",
];

/// What fits into fields by a part of their name: how ids begin, or words.
const FITTING: &[(&str, &str)] = &[
    ("subject", "sub_"),
    ("token", "tok_"),
    ("erasure", "ers_"),
    ("consent_event", "cev_"),
    ("supersedes", "cev_"),
    ("event", "evt_"),
    ("rotation", "rot_"),
    ("period", "P90D"),
    ("entry", "aud_"),
    ("cursor", "cur_"),
    ("purpose", "customer_care"),
    ("purpose", "marketing.email.product_updates"),
    ("code", "marketing.email.fuzzed"),
    ("source", "web_form:checkout"),
    ("reason", "GDPR Art. 17(1)(b)"),
    ("ground", "GDPR Art. 18(1)(a)"),
    ("justification", "CASE-2026/118"),
    ("notice", "privacy"),
    ("point", "web:signup"),
    ("request_id", "67e55044-10b1-426f-9247-bb680e5fe0c8"),
    ("value", "ada@example.com"),
    ("value", "+49301234567"),
    ("consumer", "crm"),
    ("language", "de"),
    ("jurisdiction", "DE"),
    ("kind", "customer"),
    ("etag", "1"),
];

/// Messages as they stand on the wire.
#[derive(Default)]
pub struct Wire;

impl Codec for Wire {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Wire {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Wire {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining()).to_vec()))
    }
}

/// Every rpc, and what its request is made of.
pub struct Api {
    rpcs: Vec<Rpc>,
    messages: HashMap<String, DescriptorProto>,
}

/// One rpc.
pub struct Rpc {
    /// `/lacuna.v1.TokenService/Tokenize`.
    pub path: String,
    /// Whether it answers, or is asked, several times.
    pub streams: bool,
    input: String,
}

/// Bytes that are used up.
struct Choices<'b>(&'b [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> u8 {
        let Some((byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *byte
    }

    fn number(&mut self) -> u64 {
        let few = self.byte();
        if few < 0xc0 {
            return u64::from(few % 16);
        }
        (0..8).fold(0, |number, _| number << 8 | u64::from(self.byte()))
    }

    fn bytes(&mut self) -> Vec<u8> {
        let length = usize::from(self.byte()) % 48;
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken.to_vec()
    }

    /// A text for a field of this name, most often one that could stand there.
    fn text(&mut self, field: &str, known: &[String]) -> String {
        let choice = self.byte();
        let at = usize::from(self.byte());
        let forms: Vec<_> = FITTING.iter().filter(|(part, _)| field.contains(part)).map(|(_, form)| *form).collect();
        let ids: Vec<_> = known.iter().filter(|word| forms.iter().any(|form| word.starts_with(form))).collect();
        match choice % 8 {
            0..=4 if !ids.is_empty() => ids[at % ids.len()].clone(),
            0..=4 if !forms.is_empty() => forms[at % forms.len()].to_owned(),
            0 | 1 if !known.is_empty() => known[at % known.len()].clone(),
            2..=5 => WORDS[at % WORDS.len()].to_owned(),
            6 => "x".repeat(at << 4),
            _ => String::from_utf8_lossy(&self.bytes()).into_owned(),
        }
    }
}

impl Api {
    /// As the descriptors have it.
    pub fn new() -> Self {
        let files = FileDescriptorSet::decode(DESCRIPTORS).unwrap().file;
        let (mut rpcs, mut messages) = (Vec::new(), HashMap::new());
        for file in files {
            for message in &file.message_type {
                let name = format!(".{}.{}", file.package(), message.name());
                for inner in &message.nested_type {
                    messages.insert(format!("{name}.{}", inner.name()), inner.clone());
                }
                messages.insert(name, message.clone());
            }
            for service in file.service.iter().filter(|_| file.package().starts_with("lacuna.")) {
                rpcs.extend(service.method.iter().map(|method| Rpc {
                    path: format!("/{}.{}/{}", file.package(), service.name(), method.name()),
                    streams: method.server_streaming() || method.client_streaming(),
                    input: method.input_type().to_owned(),
                }));
            }
        }
        Self { rpcs, messages }
    }

    /// Every rpc.
    pub fn rpcs(&self) -> &[Rpc] {
        &self.rpcs
    }

    /// The rpc that these bytes choose, and the message that they are. `known` are words that mean something to the vault.
    pub fn request(&self, bytes: &[u8], known: &[String]) -> (&Rpc, Vec<u8>) {
        let mut choices = Choices(bytes);
        let number = usize::from(choices.byte()) << 8 | usize::from(choices.byte());
        let rpc = &self.rpcs[number % self.rpcs.len()];
        if choices.byte() % 4 == 0 {
            return (rpc, choices.0.to_vec());
        }
        (rpc, self.message(&rpc.input, &mut choices, known, 0))
    }

    fn message(&self, name: &str, choices: &mut Choices<'_>, known: &[String], depth: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let Some(message) = self.messages.get(name).filter(|_| depth < DEEPEST) else { return bytes };
        for field in &message.field {
            let choice = choices.byte();
            let times = match choice % 8 {
                0 | 1 => 0,
                7 if is_repeated(field) => usize::from(choices.byte()) % 12,
                _ => 1,
            };
            for _ in 0..times {
                self.field(field, choices, known, depth, &mut bytes);
            }
        }
        bytes
    }

    fn field(
        &self,
        field: &FieldDescriptorProto,
        choices: &mut Choices<'_>,
        known: &[String],
        depth: usize,
        to: &mut Vec<u8>,
    ) {
        let number = u32::try_from(field.number()).unwrap();
        let content = match field.r#type() {
            Type::String => choices.text(field.name(), known).into_bytes(),
            Type::Bytes => choices.bytes(),
            Type::Message => self.message(field.type_name(), choices, known, depth + 1),
            Type::Double | Type::Fixed64 | Type::Sfixed64 => {
                encode_key(number, WireType::SixtyFourBit, to);
                return to.put_u64_le(choices.number());
            }
            Type::Float | Type::Fixed32 | Type::Sfixed32 => {
                encode_key(number, WireType::ThirtyTwoBit, to);
                return to.put_u32_le(u32::from(choices.byte()));
            }
            _ => {
                encode_key(number, WireType::Varint, to);
                return encode_varint(choices.number(), to);
            }
        };
        encode_key(number, WireType::LengthDelimited, to);
        encode_varint(content.len() as u64, to);
        to.extend(content);
    }
}

fn is_repeated(field: &FieldDescriptorProto) -> bool {
    field.label() == prost_types::field_descriptor_proto::Label::Repeated
}

/// Calls an rpc over a connection with one message, whatever it is; answers the first message that comes back.
pub async fn call_over(
    channel: Channel,
    path: &str,
    message: Vec<u8>,
    credential: Option<&str>,
) -> Result<Vec<u8>, Status> {
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.unwrap();
    let mut headers = MetadataMap::new();
    if let Some(credential) = credential {
        headers.insert("authorization", credential.parse().unwrap());
    }
    let request = Request::from_parts(headers, tonic::Extensions::new(), tokio_stream::once(message));
    let path = path.parse::<PathAndQuery>().unwrap();
    let mut answers = client.streaming(request, path, Wire).await?.into_inner();
    answers.message().await.map(Option::unwrap_or_default)
}

/// Asks an rpc; answers what came first, or nothing of a stream that has nothing to say.
pub async fn ask(channel: &Channel, rpc: &Rpc, message: Vec<u8>, credential: &str) -> Result<Vec<u8>, Status> {
    let patience = if rpc.streams { SILENCE } else { PATIENCE };
    let asked = call_over(channel.clone(), &rpc.path, message, Some(credential));
    tokio::time::timeout(patience, asked).await.unwrap_or_else(|_| {
        assert!(rpc.streams, "{} does not answer", rpc.path);
        Ok(Vec::new())
    })
}

/// What the vault refuses, it refuses for a reason of its own, and none of them is a fault of the program. What is no message at
/// all is refused by the library, as gRPC has it.
pub fn check(path: &str, message: &[u8], refused: &Status) {
    let about = || format!("{path}: {refused:?}, asked with {message:02x?}");
    let Some(info) = refused.get_details_error_info() else {
        assert_eq!(refused.code(), Code::Internal, "{}", about());
        assert!(refused.message().contains("decode"), "{}", about());
        return;
    };
    assert_eq!(info.domain, "lacuna", "{}", about());
    let known = ErrorReason::from_str_name(&format!("ERROR_REASON_{}", info.reason))
        .or_else(|| ErrorReason::from_str_name(&info.reason));
    assert!(known.is_some(), "{}", about());
    assert!(!matches!(refused.code(), Code::Internal | Code::Unknown | Code::DataLoss), "{}", about());
}

/// Whatever in an answer has the form of an id or a token.
pub fn named_in(answer: &[u8]) -> Vec<String> {
    const FORMS: [&str; 13] =
        ["call_", "tok_", "sub_", "ers_", "cev_", "rcp_", "evt_", "rot_", "rtn_", "kev_", "aud_", "cur_", "+999"];
    let text: String = answer.iter().map(|byte| char::from(*byte)).collect();
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || "_-+".contains(c)));
    words.filter(|word| FORMS.iter().any(|form| word.starts_with(form))).map(str::to_owned).collect()
}

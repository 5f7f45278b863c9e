//! The contract keeps what it promised: every line of `baseline.txt` still holds.

use std::{collections::BTreeSet, fs};

use prost::Message;
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet, field_descriptor_proto::Label};

const BASELINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/baseline.txt");

/// Set, the baseline takes in what the contract has beyond it. Nothing is ever taken out of it.
const EXTEND: &str = "CARILLON_EXTEND_BASELINE";

/// All that clients rely on, a line each: fields with number, type and presence, values of enumerations, calls.
fn promises(contract: &FileDescriptorSet) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for file in contract
        .file
        .iter()
        .filter(|file| file.package() == "carillon.v1")
    {
        for message in &file.message_type {
            of_message(&mut found, "carillon.v1", message);
        }
        for service in &file.service {
            for call in &service.method {
                let stream = |streams: bool| if streams { "stream " } else { "" };
                found.insert(format!(
                    "call carillon.v1.{}/{} ({}{}) returns ({}{})",
                    service.name(),
                    call.name(),
                    stream(call.client_streaming()),
                    call.input_type(),
                    stream(call.server_streaming()),
                    call.output_type(),
                ));
            }
        }
        assert!(file.enum_type.is_empty(), "enumerations are not compared yet");
    }
    found
}

fn of_message(found: &mut BTreeSet<String>, scope: &str, message: &DescriptorProto) {
    let name = format!("{scope}.{}", message.name());
    assert!(message.enum_type.is_empty(), "enumerations are not compared yet");
    for field in &message.field {
        found.insert(format!("field {name} {}", of_field(message, field)));
    }
    for inner in &message.nested_type {
        of_message(found, &name, inner);
    }
}

fn of_field(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let presence = match (field.label(), field.oneof_index) {
        (Label::Repeated, _) => "repeated ".to_owned(),
        (_, Some(_)) if field.proto3_optional() => "optional ".to_owned(),
        (_, Some(index)) => {
            let choice = usize::try_from(index).unwrap();
            format!("oneof {} ", message.oneof_decl[choice].name())
        }
        _ => String::new(),
    };
    let kind = match field.type_name() {
        "" => format!("{:?}", field.r#type()).to_lowercase(),
        named => named.to_owned(),
    };
    format!("{} = {} {presence}{kind}", field.name(), field.number())
}

/// What is promised and no longer holds.
fn broken<'a>(baseline: &'a str, now: &BTreeSet<String>) -> Vec<&'a str> {
    baseline.lines().filter(|line| !now.contains(*line)).collect()
}

fn contract() -> FileDescriptorSet {
    FileDescriptorSet::decode(proto::CONTRACT).unwrap()
}

#[test]
fn s3_2_no_field_is_renumbered_retyped_or_removed() {
    let now = promises(&contract());
    let baseline = fs::read_to_string(BASELINE).unwrap_or_default();
    let broken = broken(&baseline, &now);
    assert!(
        broken.is_empty(),
        "clients in use would break: the contract no longer has\n{}\nand has instead, or besides,\n{}",
        broken.join("\n"),
        now.iter()
            .filter(|line| baseline.lines().all(|old| old != *line))
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join("\n"),
    );
    let all = now.iter().map(|line| format!("{line}\n")).collect::<String>();
    if std::env::var_os(EXTEND).is_some() {
        fs::write(BASELINE, &all).unwrap();
        return;
    }
    assert_eq!(
        baseline, all,
        "the contract promises more than the baseline: {EXTEND}=1 cargo test -p proto"
    );
}

#[test]
fn what_breaks_clients_is_seen() {
    type Change = fn(&mut FileDescriptorSet);
    let changes: [(&str, Change); 5] = [
        ("renumbered", |message| of(message).field[0].number = Some(77)),
        ("retyped", |message| of(message).field[1].r#type = Some(13)),
        ("renamed", |message| {
            of(message).field[1].name = Some("text".to_owned())
        }),
        ("removed", |message| drop(of(message).field.remove(0))),
        ("a list", |message| of(message).field[1].label = Some(3)),
    ];
    let baseline = promises(&contract()).into_iter().collect::<Vec<_>>().join("\n");
    for (what, change) in changes {
        let mut changed = contract();
        change(&mut changed);
        assert_eq!(broken(&baseline, &promises(&changed)).len(), 1, "{what}");
    }
    let mut more = contract();
    let mut field = of(&mut more).field[1].clone();
    (field.name, field.number) = (Some("more".to_owned()), Some(99));
    of(&mut more).field.push(field);
    assert_eq!(
        broken(&baseline, &promises(&more)),
        [""; 0],
        "a new field breaks nobody"
    );
    let mut gone = contract();
    for file in &mut gone.file {
        file.service.retain(|service| service.name() != "PublishService");
    }
    assert_eq!(
        broken(&baseline, &promises(&gone)).len(),
        1,
        "a call that has gone"
    );
}

fn of(contract: &mut FileDescriptorSet) -> &mut DescriptorProto {
    contract
        .file
        .iter_mut()
        .flat_map(|file| &mut file.message_type)
        .find(|message| message.name() == "PublishRequest")
        .unwrap()
}

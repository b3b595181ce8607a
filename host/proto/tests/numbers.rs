//! Field numbers and types of the messages shared with the DAOS 2.8 control plane, checked against
//! `wire-numbers.txt`, a list that was drawn up from the protocol and not from our files.

use std::collections::BTreeSet;

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};

const WIRE: [&str; 5] = ["ctl", "drpc", "mgmt", "shared", "srv"];

fn type_name(field: &FieldDescriptorProto) -> String {
    let scalar = match field.r#type() {
        Type::String => "string",
        Type::Bytes => "bytes",
        Type::Bool => "bool",
        Type::Uint32 => "uint32",
        Type::Uint64 => "uint64",
        Type::Int32 => "int32",
        Type::Int64 => "int64",
        Type::Float => "float",
        Type::Double => "double",
        Type::Message | Type::Enum => field.type_name().trim_start_matches('.'),
        other => panic!("{} has the unexpected type {other:?}", field.name()),
    };
    scalar.to_owned()
}

fn list_enum(prefix: &str, item: &EnumDescriptorProto, lines: &mut BTreeSet<String>) {
    for value in &item.value {
        lines.insert(format!(
            "{prefix}.{}.{} = {}",
            item.name(),
            value.name(),
            value.number()
        ));
    }
}

fn list_message(prefix: &str, item: &DescriptorProto, lines: &mut BTreeSet<String>) {
    let prefix = format!("{prefix}.{}", item.name());
    for field in &item.field {
        let repeated = if field.label() == Label::Repeated {
            "repeated "
        } else {
            ""
        };
        lines.insert(format!(
            "{prefix}.{} = {} {repeated}{}",
            field.name(),
            field.number(),
            type_name(field)
        ));
    }
    item.nested_type
        .iter()
        .for_each(|nested| list_message(&prefix, nested, lines));
    item.enum_type
        .iter()
        .for_each(|nested| list_enum(&prefix, nested, lines));
}

fn descriptors() -> FileDescriptorSet {
    FileDescriptorSet::decode(daos_proto::FILE_DESCRIPTOR_SET).unwrap()
}

#[test]
fn numbers_and_types_are_those_of_the_protocol() {
    let mut ours = BTreeSet::new();
    for file in descriptors()
        .file
        .iter()
        .filter(|file| WIRE.contains(&file.package()))
    {
        file.message_type
            .iter()
            .for_each(|item| list_message(file.package(), item, &mut ours));
        file.enum_type
            .iter()
            .for_each(|item| list_enum(file.package(), item, &mut ours));
    }
    let wanted: BTreeSet<String> = include_str!("wire-numbers.txt")
        .lines()
        .map(str::to_owned)
        .collect();
    assert!(wanted.len() > 200, "the list is there");
    let missing: Vec<_> = wanted.difference(&ours).collect();
    let unknown: Vec<_> = ours.difference(&wanted).collect();
    assert!(
        missing.is_empty() && unknown.is_empty(),
        "missing {missing:#?}, unknown {unknown:#?}"
    );
}

#[test]
fn calls_of_that_control_plane_have_one_answer() {
    for file in descriptors().file {
        for service in file
            .service
            .iter()
            .filter(|_| WIRE.contains(&file.package()))
        {
            for method in &service.method {
                let streams = method.client_streaming() || method.server_streaming();
                assert!(!streams, "{}/{}", service.name(), method.name());
            }
        }
    }
}

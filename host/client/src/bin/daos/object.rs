//! `daos object`.

use crate::cli::{Cli, ContainerArgs, ObjectCommand};
use crate::{Verdict, container, output, parse};
use anyhow::Context;
use daos_client::{Client, Container, Punch, crc32c};
use serde::Serialize;
use std::io::Read as _;
use std::path::Path;

/// What is said of a value.
#[derive(Serialize)]
struct ValueRow {
    bytes: usize,
    /// CRC-32C in hexadecimal.
    crc32c: String,
    /// The value, if it is text and asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// The value in hexadecimal, if it is not text and asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    hex: Option<String>,
}

impl ValueRow {
    fn new(value: &[u8], with_value: bool) -> Self {
        let text = std::str::from_utf8(value).ok();
        Self {
            bytes: value.len(),
            crc32c: format!("{:08x}", crc32c(value)),
            text: text.filter(|_| with_value).map(str::to_owned),
            hex: (with_value && text.is_none()).then(|| parse::show(value, true)),
        }
    }
}

#[derive(Serialize)]
struct KeysRow {
    keys: Vec<String>,
}

pub(crate) async fn run(
    cli: &Cli,
    command: &ObjectCommand,
    client: &Client,
) -> anyhow::Result<Verdict> {
    let open = |args: &ContainerArgs| {
        let (client, pool, cont) = (client.clone(), args.pool.clone(), args.cont.clone());
        async move { container::open(&client, pool.as_deref(), &cont).await }
    };
    match command {
        ObjectCommand::Put {
            container,
            object,
            dkey,
            akey,
            value,
            file,
        } => {
            let hex = container.hex_keys;
            let (dkey, akey) = (parse::key(dkey, hex)?, parse::key(akey, hex)?);
            let value = match value {
                Some(value) => value.clone().into_bytes(),
                None => read(file.as_deref())?,
            };
            let cont = open(container).await?;
            cont.put(*object, &dkey, &akey, &value).await?;
            output::answer(cli.json, ValueRow::new(&value, false), |_| String::new())?;
        }
        ObjectCommand::Get {
            container,
            object,
            dkey,
            akey,
            file,
        } => {
            let hex = container.hex_keys;
            let (dkey, akey) = (parse::key(dkey, hex)?, parse::key(akey, hex)?);
            let cont = open(container).await?;
            let value = cont.get(*object, &dkey, &akey).await?;
            if let Some(file) = file {
                std::fs::write(file, &value)
                    .with_context(|| format!("cannot write {}", file.display()))?;
            } else if !cli.json {
                output::raw(&value)?;
            }
            if cli.json {
                let row = ValueRow::new(&value, file.is_none());
                output::answer(true, row, |_| String::new())?;
            }
        }
        ObjectCommand::List {
            container: args,
            object,
            dkey,
            limit,
        } => {
            let container = open(args).await?;
            let keys = match dkey {
                Some(dkey) => {
                    let dkey = parse::key(dkey, args.hex_keys)?;
                    container.list_akeys(*object, &dkey, *limit).await?
                }
                None => container.list_dkeys(*object, *limit).await?,
            };
            let keys = keys.iter().map(|key| parse::show(key, args.hex_keys));
            let row = KeysRow {
                keys: keys.collect(),
            };
            output::answer(cli.json, row, |row| row.keys.join("\n"))?;
        }
        ObjectCommand::Punch {
            container: args,
            object,
            dkey,
            akey,
            ..
        } => {
            let key = |key: &Option<String>| {
                key.as_ref()
                    .map(|key| parse::key(key, args.hex_keys))
                    .transpose()
            };
            let (dkey, akey) = (key(dkey)?, key(akey)?);
            let container: Container = open(args).await?;
            let what = match (&dkey, &akey) {
                (Some(dkey), Some(akey)) => Punch::Akey(dkey, akey),
                (Some(dkey), None) => Punch::Dkey(dkey),
                (None, _) => Punch::Object,
            };
            container.punch(*object, what).await?;
            output::answer(cli.json, serde_json::Map::new(), |_| String::new())?;
        }
    }
    Ok(Verdict::Good)
}

fn read(file: Option<&Path>) -> anyhow::Result<Vec<u8>> {
    match file {
        Some(path) if path != Path::new("-") => {
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
        }
        _ => {
            let mut value = Vec::new();
            // One byte more than an engine takes is enough to be refused.
            let mut limited = std::io::stdin().lock().take((1 << 20) + 1);
            limited
                .read_to_end(&mut value)
                .context("cannot read standard input")?;
            Ok(value)
        }
    }
}

//! `daos array`.

mod args;
mod sink;

pub(crate) use args::{ArrayArgs, ArrayCommand};

use crate::cli::Cli;
use crate::{Verdict, output, parse};
use anyhow::{Context, bail};
use daos_client::{Array, ArrayInfo, Client, Error, crc32c, crc32c_combine};
use serde::Serialize;
use sink::Sink;
use std::fs::File;
use std::io::{Read, stdin};
use std::path::Path;

/// Bytes that are read ahead of the network, and written behind it: many parts side by side.
const BLOCK: u64 = 16 << 20;
/// Most bytes that are printed inside of a document.
const PRINTED: u64 = 1 << 20;

/// What is said of a transfer.
#[derive(Serialize)]
struct TransferRow {
    offset: u64,
    records: u64,
    record_size: u64,
    bytes: u64,
    /// CRC-32C of all of it in hexadecimal.
    crc32c: String,
    /// The records in hexadecimal, if they go nowhere else.
    #[serde(skip_serializing_if = "Option::is_none")]
    hex: Option<String>,
}

/// What is said of an array.
#[derive(Serialize)]
struct ArrayRow {
    record_size: u64,
    records: u64,
    bytes: u64,
}

pub(crate) async fn run(
    cli: &Cli,
    command: &ArrayCommand,
    client: &Client,
) -> anyhow::Result<Verdict> {
    match command {
        ArrayCommand::Put {
            array,
            offset,
            record_size,
            file,
        } => put(cli, client, array, *offset, *record_size, file).await?,
        ArrayCommand::Get {
            array,
            offset,
            count,
            file,
        } => get(cli, client, array, *offset, *count, file.as_deref()).await?,
        ArrayCommand::Punch {
            array,
            offset,
            count,
        } => {
            match open(client, array).await {
                Ok((array, _)) => array.punch(*offset, count.unwrap_or(u64::MAX)).await?,
                // As for single values: what is not there is gone.
                Err(error) if is_missing(&error) => {}
                Err(error) => return Err(error),
            }
            output::answer(cli.json, serde_json::Map::new(), |_| String::new())?;
        }
        ArrayCommand::Stat { array } => {
            let (_, info) = open(client, array).await?;
            let row = ArrayRow {
                record_size: info.record_size,
                records: info.records,
                bytes: info.records * info.record_size, // an array ends within 2^63 bytes
            };
            output::answer(cli.json, row, |row| {
                format!(
                    "{} records of {} bytes, {} bytes",
                    row.records, row.record_size, row.bytes
                )
            })?;
        }
    }
    Ok(Verdict::Good)
}

fn is_missing(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(Error::NotFound { .. }))
}

async fn open(client: &Client, args: &ArrayArgs) -> anyhow::Result<(Array, ArrayInfo)> {
    let (dkey, akey) = keys(args)?;
    let (pool, cont) = (args.container.pool.as_deref(), &args.container.cont);
    let container = crate::container::open(client, pool, cont).await?;
    Ok(container.open_array(args.object, &dkey, &akey).await?)
}

fn keys(args: &ArrayArgs) -> anyhow::Result<(Vec<u8>, Vec<u8>)> {
    let hex = args.container.hex_keys;
    Ok((parse::key(&args.dkey, hex)?, parse::key(&args.akey, hex)?))
}

async fn put(
    cli: &Cli,
    client: &Client,
    args: &ArrayArgs,
    offset: u64,
    record_size: Option<u64>,
    path: &Path,
) -> anyhow::Result<()> {
    let (mut input, total) = source(path)?;
    let (dkey, akey) = keys(args)?;
    let (pool, cont) = (args.container.pool.as_deref(), &args.container.cont);
    let container = crate::container::open(client, pool, cont).await?;
    let size = match record_size {
        Some(size) => size,
        None => match open(client, args).await {
            Ok((array, _)) => array.record_size(),
            Err(error) if is_missing(&error) => 1,
            Err(error) => return Err(error),
        },
    };
    if let Some(total) = total
        && !total.is_multiple_of(size)
    {
        bail!(
            "{} has {total} bytes, which is no whole number of records of {size} bytes; nothing was written",
            path.display()
        );
    }
    let array = container.array(args.object, &dkey, &akey, size)?;
    let bar = output::progress_bytes(cli.json, "writing", total);
    let mut row = TransferRow::new(offset, size);
    loop {
        let at = offset.saturating_add(row.records);
        let block = read_block(input.as_mut(), block_bytes(&array, at), path)?;
        if block.is_empty() {
            break;
        }
        let whole = block.len() as u64 / size * size;
        array.write(at, &block[..whole as usize]).await?;
        row.add(&block[..whole as usize]);
        bar.inc(whole);
        if whole < block.len() as u64 {
            bail!(
                "standard input ended inside of a record of {size} bytes; {} records were written before it",
                row.records
            );
        }
    }
    bar.finish_and_clear();
    output::answer(cli.json, row, |_| String::new())
}

/// Bytes of the next block, which ends where a part does.
fn block_bytes(array: &Array, at: u64) -> usize {
    let part = array.part_records();
    let parts = (BLOCK / (part * array.record_size())).max(1);
    let records = part * parts - at % part;
    (records * array.record_size()) as usize // at most BLOCK or a part
}

/// Where records come from, and how many bytes there are if that is known.
fn source(path: &Path) -> anyhow::Result<(Box<dyn Read>, Option<u64>)> {
    if path == Path::new("-") {
        return Ok((Box::new(stdin()), None));
    }
    let cannot = || format!("cannot read {}", path.display());
    let file = File::open(path).with_context(cannot)?;
    let metadata = file.metadata().with_context(cannot)?;
    let total = metadata.is_file().then_some(metadata.len());
    Ok((Box::new(file), total))
}

/// Up to `most` bytes; fewer at the end only.
fn read_block(input: &mut dyn Read, most: usize, path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut block = Vec::new();
    input
        .take(most as u64)
        .read_to_end(&mut block)
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok(block)
}

async fn get(
    cli: &Cli,
    client: &Client,
    args: &ArrayArgs,
    offset: u64,
    count: Option<u64>,
    path: Option<&Path>,
) -> anyhow::Result<()> {
    let (array, info) = open(client, args).await?;
    let end = offset.saturating_add(count.unwrap_or(u64::MAX));
    let records = end.min(info.records).saturating_sub(offset);
    let total = records * info.record_size;
    if cli.json && path.is_none() && total > PRINTED {
        bail!("{total} bytes are too many to print as JSON; name a file with --file");
    }
    let mut sink = match path {
        Some(path) => Sink::file(path)?,
        None if cli.json => Sink::Memory(Vec::new()),
        None => Sink::Stdout,
    };
    // The bar and the records would share the terminal.
    let bar = output::progress_bytes(cli.json || path.is_none(), "reading", Some(total));
    let mut row = TransferRow::new(offset, info.record_size);
    while row.records < records {
        let at = offset + row.records;
        let most = block_bytes(&array, at) as u64 / info.record_size;
        let block = array.read(at, most.min(records - row.records)).await?;
        if block.is_empty() {
            break; // shorter by now
        }
        sink.write(&block)?;
        row.add(&block);
        bar.inc(block.len() as u64);
    }
    bar.finish_and_clear();
    row.hex = sink.finish()?;
    if cli.json {
        output::answer(true, row, |_| String::new())?;
    }
    Ok(())
}

impl TransferRow {
    fn new(offset: u64, record_size: u64) -> Self {
        Self {
            offset,
            records: 0,
            record_size,
            bytes: 0,
            crc32c: "00000000".to_owned(), // of nothing
            hex: None,
        }
    }

    fn add(&mut self, block: &[u8]) {
        let before = u32::from_str_radix(&self.crc32c, 16).unwrap_or(0);
        let len = block.len() as u64;
        let sum = crc32c_combine(before, crc32c(block), len);
        self.crc32c = format!("{sum:08x}");
        self.bytes += len;
        self.records += len / self.record_size;
    }
}

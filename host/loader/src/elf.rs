//! What the loader reads of an ELF file: machine, manifest note, libraries. Every offset and length
//! is checked against the file; arbitrary bytes lead to a [`Refusal`].

// Words of the 32-bit class are not u64.
#![allow(clippy::useless_conversion)]

use crate::note::{self, MAX_NOTE, ManifestNote};
use crate::refusal::Refusal;
use daos_plugin_api::abi::{NOTE_OWNER, NOTE_SECTION, NOTE_TYPE};
use object::Endianness;
use object::elf;
use object::read::elf::{Dyn as _, FileHeader as _, ProgramHeader as _, SectionHeader as _};
use object::read::{ReadRef, StringTable};

#[cfg(target_pointer_width = "64")]
type Header = elf::FileHeader64<Endianness>;
#[cfg(target_pointer_width = "32")]
type Header = elf::FileHeader32<Endianness>;
type Segment = <Header as object::read::elf::FileHeader>::ProgramHeader;

/// More entries than any real library has.
const MAX_LIBRARIES: usize = 256;

/// What a plugin file holds.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) note: ManifestNote,
    pub(crate) dynamic: Dynamic,
}

/// What the dynamic linker will look for.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Dynamic {
    /// DT_NEEDED, in order.
    pub(crate) needed: Vec<String>,
    /// DT_RPATH, not split.
    pub(crate) rpath: Option<String>,
    /// DT_RUNPATH, not split.
    pub(crate) runpath: Option<String>,
}

/// Reads a plugin.
pub(crate) fn read<'data>(data: impl ReadRef<'data>, len: u64) -> Result<Image, Refusal> {
    let (header, endian) = header(data)?;
    let segments = segments(header, endian, data, len)?;
    let note = manifest(header, endian, data, len)?;
    Ok(Image {
        note: note::parse(note)?,
        dynamic: dynamic(segments, endian, data)?,
    })
}

/// Reads only what the dynamic linker will look for, of a library that a plugin needs.
pub(crate) fn read_dynamic<'data>(data: impl ReadRef<'data>, len: u64) -> Result<Dynamic, Refusal> {
    let (header, endian) = header(data)?;
    dynamic(segments(header, endian, data, len)?, endian, data)
}

fn header<'data>(data: impl ReadRef<'data>) -> Result<(&'data Header, Endianness), Refusal> {
    let ident = data.read_bytes_at(0, 20).map_err(|()| Refusal::NotElf)?;
    if ident[..4] != elf::ELFMAG {
        return Err(Refusal::NotElf);
    }
    let (class, order) = (ident[4], ident[5]);
    let little = order == elf::ELFDATA2LSB.0;
    let machine = if little {
        u16::from_le_bytes([ident[18], ident[19]])
    } else {
        u16::from_be_bytes([ident[18], ident[19]])
    };
    let found = describe_machine(machine, class, little);
    let host = host_machine();
    if found != host {
        return Err(Refusal::WrongMachine { found, host });
    }
    let header = Header::parse(data).map_err(|_| Refusal::Truncated {
        detail: "the file ends inside its header".to_owned(),
    })?;
    let endian = header.endian().map_err(damaged)?;
    match header.e_type(endian) {
        elf::ET_DYN => Ok((header, endian)),
        elf::ET_REL => Err(Refusal::NotSharedObject {
            found: "object file",
        }),
        elf::ET_EXEC => Err(Refusal::NotSharedObject {
            found: "executable",
        }),
        elf::ET_CORE => Err(Refusal::NotSharedObject { found: "core dump" }),
        _ => Err(Refusal::NotSharedObject {
            found: "file of unknown type",
        }),
    }
}

fn damaged(error: object::read::Error) -> Refusal {
    Refusal::Damaged {
        detail: error.to_string(),
    }
}

/// The segments, after making sure that each is inside the file: the kernel maps a truncated
/// library without complaint, and touching the missing part is a SIGBUS.
fn segments<'data>(
    header: &Header,
    endian: Endianness,
    data: impl ReadRef<'data>,
    len: u64,
) -> Result<&'data [Segment], Refusal> {
    let segments = header
        .program_headers(endian, data)
        .map_err(|_| Refusal::Truncated {
            detail: "the program headers are missing".to_owned(),
        })?;
    for segment in segments {
        let (offset, size) = segment.file_range(endian);
        let inside = offset.checked_add(size).is_some_and(|end| end <= len);
        if segment.p_type(endian) == elf::PT_LOAD && !inside {
            return Err(Refusal::Truncated {
                detail: format!("a segment of {size} bytes at {offset}, the file has {len}"),
            });
        }
    }
    Ok(segments)
}

/// Descriptor of the manifest note.
fn manifest<'data>(
    header: &Header,
    endian: Endianness,
    data: impl ReadRef<'data>,
    len: u64,
) -> Result<&'data [u8], Refusal> {
    if u64::from(header.e_shoff(endian)) >= len {
        return Err(Refusal::Truncated {
            detail: "the section headers are missing".to_owned(),
        });
    }
    let sections = header
        .sections(endian, data)
        .map_err(|_| Refusal::Truncated {
            detail: "the section headers are incomplete".to_owned(),
        })?;
    let mut found = None;
    for section in sections.iter() {
        if section.sh_type(endian) != elf::SHT_NOTE
            || sections.section_name(endian, section).ok() != Some(NOTE_SECTION.as_bytes())
        {
            continue;
        }
        let malformed = |detail: &str| Refusal::MalformedManifest {
            detail: detail.to_owned(),
        };
        if u64::from(section.sh_size(endian)) > MAX_NOTE {
            return Err(malformed("the note is longer than 256 KiB"));
        }
        let mut notes = section
            .notes(endian, data)
            .map_err(|_| malformed("the note lies outside the file"))?
            .ok_or_else(|| malformed("the note is no note"))?;
        while let Some(note) = notes.next().map_err(|_| malformed("the note is cut off"))? {
            if note.name_bytes() != NOTE_OWNER || note.n_type(endian).0 != NOTE_TYPE {
                continue;
            }
            if found.replace(note.desc()).is_some() {
                return Err(malformed("there are two manifests"));
            }
        }
    }
    found.ok_or(Refusal::NoManifest)
}

/// Reads the dynamic table through the program headers, as the dynamic linker does.
fn dynamic<'data>(
    segments: &[Segment],
    endian: Endianness,
    data: impl ReadRef<'data>,
) -> Result<Dynamic, Refusal> {
    let mut out = Dynamic::default();
    let mut entries: &[_] = &[];
    for segment in segments {
        if let Some(table) = segment.dynamic(endian, data).map_err(damaged)? {
            entries = table;
        }
    }
    // The table ends at the first DT_NULL.
    let end = entries
        .iter()
        .position(|e| e.d_tag(endian) == elf::DT_NULL)
        .unwrap_or(entries.len());
    let entries = &entries[..end];
    let value = |tag: elf::DynamicTag| {
        entries
            .iter()
            .find(|e| e.d_tag(endian) == tag)
            .map(|e| u64::from(e.d_val(endian)))
    };
    let (Some(address), Some(size)) = (value(elf::DT_STRTAB), value(elf::DT_STRSZ)) else {
        return Ok(out);
    };
    let start = file_offset(segments, endian, address).ok_or_else(|| Refusal::Damaged {
        detail: "the dynamic strings are in no segment".to_owned(),
    })?;
    let strings = StringTable::new(data, start, start.saturating_add(size));
    let text = |offset: u64| {
        u32::try_from(offset)
            .ok()
            .and_then(|offset| strings.get(offset).ok())
            .and_then(|bytes| String::from_utf8(bytes.to_vec()).ok())
            .ok_or_else(|| Refusal::Damaged {
                detail: "a library name is outside the dynamic strings".to_owned(),
            })
    };
    for entry in entries {
        let value = u64::from(entry.d_val(endian));
        match entry.d_tag(endian) {
            elf::DT_NEEDED => out.needed.push(text(value)?),
            elf::DT_RPATH => out.rpath = Some(text(value)?),
            elf::DT_RUNPATH => out.runpath = Some(text(value)?),
            _ => {}
        }
        if out.needed.len() > MAX_LIBRARIES {
            return Err(Refusal::Damaged {
                detail: format!("more than {MAX_LIBRARIES} needed libraries"),
            });
        }
    }
    Ok(out)
}

fn file_offset(segments: &[Segment], endian: Endianness, address: u64) -> Option<u64> {
    segments
        .iter()
        .filter(|s| s.p_type(endian) == elf::PT_LOAD)
        .find_map(|s| {
            let into = address.checked_sub(u64::from(s.p_vaddr(endian)))?;
            let (offset, size) = s.file_range(endian);
            (into < size).then(|| offset.checked_add(into)).flatten()
        })
}

fn host_machine() -> String {
    let machine = match std::env::consts::ARCH {
        "x86_64" => elf::EM_X86_64,
        "aarch64" => elf::EM_AARCH64,
        "riscv64" | "riscv32" => elf::EM_RISCV,
        "powerpc64" => elf::EM_PPC64,
        "s390x" => elf::EM_S390,
        "loongarch64" => elf::EM_LOONGARCH,
        "x86" => elf::EM_386,
        "arm" => elf::EM_ARM,
        _ => elf::EM_NONE,
    };
    let class = if usize::BITS == 64 {
        elf::ELFCLASS64
    } else {
        elf::ELFCLASS32
    };
    describe_machine(machine.0, class.0, cfg!(target_endian = "little"))
}

fn describe_machine(machine: u16, class: u8, little: bool) -> String {
    let name = match elf::Machine(machine) {
        elf::EM_X86_64 => "x86-64".to_owned(),
        elf::EM_AARCH64 => "aarch64".to_owned(),
        elf::EM_RISCV => "RISC-V".to_owned(),
        elf::EM_PPC64 => "ppc64".to_owned(),
        elf::EM_S390 => "s390".to_owned(),
        elf::EM_LOONGARCH => "LoongArch".to_owned(),
        elf::EM_386 => "x86".to_owned(),
        elf::EM_ARM => "arm".to_owned(),
        other => format!("machine {}", other.0),
    };
    let bits = match class {
        1 => "32-bit",
        2 => "64-bit",
        _ => "unknown word size",
    };
    let order = if little {
        "little-endian"
    } else {
        "big-endian"
    };
    format!("{name} ({bits} {order})")
}

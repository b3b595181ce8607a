"""What the firmware of persistent memory modules answers, and the ACPI code that carries commands to it."""

import struct

from pmem_module import (
    ANSWERS,
    CONFIG,
    CONFIG_BYTES,
    FIRMWARE,
    FORMAT,
    HEALTH,
    LABELS,
    LABELS_BYTES,
    MODULE,
    PART,
    SECURITY,
    SLOT,
    SUBSYSTEM,
    VENDOR,
    Module,
)


def padded(answer: bytes) -> bytes:
    return answer.ljust(SLOT, b"\0")


def temperature(celsius: int) -> bytes:
    return struct.pack("<H", celsius * 16)


def answers(module: Module) -> dict[object, bytes]:
    """What a module's firmware answers: by the number of a command (its code, and above it that of the part), and for
    functions of the _DSM that are no such command, by their name."""
    state = HEALTH[module.health]
    remaining = {"healthy": 100, "noncritical": 40, "critical": 10, "fatal": 0}[module.health]
    identity = struct.pack("<HHHH", VENDOR, SUBSYSTEM, 0, FORMAT) + FIRMWARE + bytes(19)
    identity += struct.pack("<IHI", MODULE >> 12, VENDOR, module.serial) + PART.encode().ljust(20, b"\0")
    identity += struct.pack("<IHH", 0x5, 0, 0x0115) + module.identity + struct.pack("<H", 0x0115)
    smart = struct.pack("<IIBBBB", 0x0EFB, 0, state, remaining, 0, 0) + temperature(30) + temperature(35)
    smart += struct.pack("<IBH", 7, 3, 0) + bytes(8) + struct.pack("<BI", 0, 87)
    smart += struct.pack("<QQQIB", 12, 360000, 1000, 3, 0x84)
    volatile = module.volatile >> 12
    persistent = (MODULE - module.volatile) >> 12
    critical = b"".join(temperature(c) for c in (102, 85, 83, 82, 98, 97))
    kernel = struct.pack("<IIBBBB", 0x0EFB, 0, state, remaining, 5, 0) + temperature(30) + temperature(35)
    kernel += struct.pack("<IBHQBI", 7, 3, 0, 0, 0, 0)
    return {
        0x0001: identity,
        0x0101: critical + struct.pack("<H", 15000),
        0x0002: struct.pack("<I", module.security),
        0x0104: struct.pack("<HB", 7, 10) + temperature(82) + temperature(95),
        0x0204: struct.pack("<BHH", 0, 20000, 15000),
        0x0304: b"\1\0\1",
        0x0206: struct.pack("<IIQIIQI", volatile, 0, 0, persistent, 0, volatile << 12, MODULE >> 12),
        0x0008: smart,
        0x0108: FIRMWARE + b"\0" + struct.pack("<H", 0x100),
        0x0706: struct.pack("<I", 5),
        "smart": kernel,
        # Labels of a locked module are not to be read; by that the kernel knows it.
        "labels": struct.pack("<III", (module.security == SECURITY["locked"]) << 16, LABELS_BYTES, 1024),
        "security": struct.pack("<IB3xB3x", 0, 0, module.security),
    }


# Shared by all modules: 128 and 64 bytes from and to an address.
HELPERS = """
Method(R128,1,Serialized){ OperationRegion(A,SystemMemory,Arg0,128) Field(A,DWordAcc,NoLock,Preserve){F,1024} Return(F) }
Method(R64,1,Serialized){ OperationRegion(A,SystemMemory,Arg0,64) Field(A,DWordAcc,NoLock,Preserve){F,512} Return(F) }
Method(W64,2,Serialized){ OperationRegion(A,SystemMemory,Arg0,64) Field(A,DWordAcc,NoLock,Preserve){F,512} Store(Arg1,F) }
"""

# Functions of Intel's _DSM for NVDIMMs: 1 and 2 health, 4 to 6 labels, 9 a command of the module's firmware, 19 security.
METHOD = """
Device({name}){{ Name(_ADR,{handle:#x}) Method(_STA){{Return(0xF)}}
Method(_DSM,4,Serialized){{
 If(LNotEqual(Arg0,ToUUID("4309AC30-0D11-11E4-9191-0800200C9A66"))){{Return(Buffer(1){{0}})}}
 If(LEqual(Arg2,0)){{Return(Buffer(4){{0x77,0x02,0x08,0}})}}
 If(LEqual(Arg2,1)){{Return(Concatenate(Buffer(4){{}},R128({smart:#x})))}}
 If(LEqual(Arg2,2)){{Return({thresholds})}}
 If(LEqual(Arg2,4)){{Return(Mid(R128({label_size:#x}),0,12))}}
 If(LEqual(Arg2,19)){{Return(Mid(R128({security:#x}),0,12))}}
 Store(DerefOf(Index(Arg3,0)),Local3)
 CreateDWordField(Local3,0,W0) CreateDWordField(Local3,4,W1)
 If(LEqual(Arg2,5)){{
  And(W0,0xFFFFFFC0,Local1) Store(Buffer(0){{}},Local2) Store(Local1,Local4)
  While(LLess(Local4,Add(W0,W1))){{ Concatenate(Local2,R64(Add({labels:#x},Local4)),Local2) Add(Local4,64,Local4) }}
  Return(Concatenate(Buffer(4){{}},Mid(Local2,Subtract(W0,Local1),W1))) }}
 If(LEqual(Arg2,6)){{
  And(W0,0xFFFFFFC0,Local4) Store(0,Local5)
  While(LLess(Local4,Add(W0,W1))){{
   Store(R64(Add({labels:#x},Local4)),Local6) Store(0,Local7)
   While(LLess(Local7,64)){{ Add(Local4,Local7,Local1)
    If(LAnd(LGreaterEqual(Local1,W0),LLess(Local1,Add(W0,W1)))){{ Store(DerefOf(Index(Local3,Add(8,Local5))),Index(Local6,Local7)) Increment(Local5) }}
    Increment(Local7) }}
   W64(Add({labels:#x},Local4),Local6) Add(Local4,64,Local4) }}
  Return(Buffer(4){{}}) }}
 If(LEqual(Arg2,9)){{
  If(LEqual(W0,0x00FD)){{Return({mailbox})}}
  If(LEqual(W0,0x03FD)){{Return({boot_status})}}
  If(LEqual(W0,0x0106)){{ CreateByteField(Local3,8,PART) CreateByteField(Local3,9,OPTS) CreateDWordField(Local3,10,OFFS)
    If(And(OPTS,2)){{ Return({partition_size}) }}
    If(LAnd(LEqual(PART,1),LLess(OFFS,{config_bytes:#x}))){{ Return(Concatenate({header},R128(Add({config:#x},OFFS)))) }}
    If(LAnd(LEqual(PART,2),LLess(OFFS,{label_bytes:#x}))){{ Return(Concatenate({header},R128(Add({labels:#x},OFFS)))) }} }}
  If(LEqual(W0,0x0107)){{ CreateByteField(Local3,8,PAR2) CreateDWordField(Local3,10,OFF2)
    If(LAnd(LEqual(PAR2,1),LLess(OFF2,{config_bytes:#x}))){{ W64(Add({config:#x},OFF2),Mid(Local3,72,64)) }}
    If(LAnd(LEqual(PAR2,2),LLess(OFF2,{label_bytes:#x}))){{ W64(Add({labels:#x},OFF2),Mid(Local3,72,64)) }} }}
{commands}  Return({nothing})
 }}
 Return(Buffer(4){{1,0,0,0}})
}} }}
"""


def buffer(data: bytes) -> str:
    return f"Buffer({len(data)}){{{','.join(f'{byte:#04x}' for byte in data)}}}"


def command_answer(data: bytes) -> str:
    return buffer(struct.pack("<II", 0, len(data)) + data)


def aml(modules: list[Module]) -> str:
    """The device that stands for all modules, in ACPI's source language."""
    methods = ""
    header = buffer(struct.pack("<II", 0, SLOT))
    for module in modules:
        places = {name: module.meta + ANSWERS + number * SLOT for number, name in enumerate(answers(module))}
        commands = "".join(
            f"  If(LEqual(W0,{name:#06x})){{Return(Concatenate({header},R128({place:#x})))}}\n"
            for name, place in places.items()
            if isinstance(name, int)
        )
        methods += METHOD.format(
            name=f"M{module.number:03}",
            handle=module.handle,
            smart=places["smart"],
            security=places["security"],
            thresholds=buffer(struct.pack("<IHB", 0, 7, 10) + temperature(82) + temperature(95) + b"\0"),
            label_size=places["labels"],
            labels=module.meta + LABELS,
            label_bytes=LABELS_BYTES,
            config=module.meta + CONFIG,
            config_bytes=CONFIG_BYTES,
            mailbox=command_answer(struct.pack("<III", 0x100000, 0x100000, SLOT)),
            # The media and the interfaces to it are ready.
            boot_status=command_answer(struct.pack("<Q", 0xF0 | 1 << 16 | 1 << 18 | 1 << 20 | 3 << 27)),
            partition_size=command_answer(padded(struct.pack("<I", 0x20000))),
            header=header,
            commands=commands,
            nothing=command_answer(bytes(SLOT)),
        )
    return (
        'DefinitionBlock("","SSDT",2,"INTEL","MODULES",1){ Scope(\\_SB){ Device(NVDR){ Name(_HID,"ACPI0012") '
        f"Method(_STA){{Return(0xF)}}\n{HELPERS}{methods}}}}}}}\n"
    )

"""The emulated machine: QEMU's command line for two NUMA nodes, an IOMMU and three NVMe controllers.

    41:00.0  node 0  nvme-512    one namespace of 512-byte blocks, behind the throttle group throttle-512
    42:00.0  node 0  nvme-mixed  namespace 1 of 4096-byte blocks, namespace 2 of 512-byte blocks
    81:00.0  node 1  nvme-4096   one namespace of 4096-byte blocks

With `nvdimm`, one NVDIMM of 512 MiB on each node beside them; with `modules`, so many DC persistent memory modules on
each (modules.py).
"""

import dataclasses
import pathlib

import modules
import power
import tsc

MIB = 1 << 20

# Images and their size. The NVDIMMs end in a label area of 2 MiB, and what is before it must be a
# multiple of 16 MiB for namespaces to be aligned.
DISKS = {"nvme-512": 256 * MIB, "nvme-mixed-1": 128 * MIB, "nvme-mixed-2": 64 * MIB, "nvme-4096": 256 * MIB}
NVDIMMS = {"nvdimm0": 514 * MIB, "nvdimm1": 514 * MIB}


@dataclasses.dataclass
class Machine:
    """What to emulate, and where its files are."""

    work: pathlib.Path
    """Folder of the images and sockets of this one guest."""
    kernel: pathlib.Path
    initramfs: pathlib.Path
    parameters: str
    """Appended to the kernel's command line."""
    memory_mib: int = 2048
    """Both nodes together."""
    iommu: bool = True
    nvdimm: bool = False
    power: bool = False
    """Log what nvme-4096 is told to write, so that its power can be cut (power.py), behind the throttle group
    throttle-4096."""
    pmem: modules.Modules | None = None
    shared: bool = False
    """Put nvme-4096 into a subsystem, whose namespaces other controllers may have."""
    one_thread: bool = False
    """Emulate both processors by one thread in turns. On a loaded host a processor of the guest spends much of its time in waiting busily for
    the other one, which is not running; on the other hand nothing runs side by side, and whoever polls has all of a turn."""
    awake: str | None = None
    """The library made of awake.c, which the emulator is started with. Then nvme-512 has no thread that could sleep, either."""

    @property
    def monitor_socket(self) -> pathlib.Path:
        return self.work / "monitor"

    @property
    def request_socket(self) -> pathlib.Path:
        """The guest's second serial port."""
        return self.work / "requests"

    def create_images(self) -> None:
        images = DISKS | (NVDIMMS if self.nvdimm else {})
        for name, size in images.items():
            with open(self.work / name, "xb") as image:
                image.truncate(size)
        if self.power:
            power.prepare(self.work / "nvme-4096")
        if self.pmem:
            self.pmem.create()

    def power_on(self) -> None:
        """What the platform's firmware does before each boot."""
        if self.pmem:
            self.pmem.boot()

    def command(self) -> list[str]:
        return [
            "qemu-system-x86_64",
            *self._processor_and_memory(),
            *self._firmware_and_console(),
            *self._host_root(),
            *self._pci(),
            *self._nvme(),
            *self._nvdimms(),
            *(self.pmem.arguments() if self.pmem else []),
        ]

    def _processor_and_memory(self) -> list[str]:
        machine = "q35,kernel-irqchip=split"
        accelerator = f"tcg,thread={'single' if self.one_thread else 'multi'}"
        memory = f"{self.memory_mib}M"
        if self.nvdimm:
            machine += ",nvdimm=on,nvdimm-persistence=mem-ctrl"
            memory += ",slots=4,maxmem=16G"
        backends = [f"memory-backend-ram,id=memory{node},size={self.memory_mib // 2}M" for node in (0, 1)]
        if self.pmem:
            # The modules are the end of node 1's memory.
            memory = f"{(modules.LOW + self.pmem.bytes) // MIB}M"
            backends = [
                f"memory-backend-ram,id=memory0,size={modules.LOW // MIB}M",
                f"memory-backend-file,id=memory1,share=on,mem-path={self.pmem.memory},size={self.pmem.bytes // MIB}M",
            ]
        # Without erms (fast byte strings): the kernel and glibc would then copy and clear memory by `rep movsb` and `rep stosb`,
        # which are emulated byte by byte. Copying takes a quarter of the time, clearing half.
        # What else is off has state that each switch of threads, copy between kernel and program or start of a program deals with, in
        # functions of QEMU's. AVX goes with xsave; clwb and clflushopt stay. Tried together only, with cryptomgr.notests (below): starts of
        # programs, forks and copies took 6.7 s of processors instead of 7.2 s, boot included.
        processor = "max,erms=off,xsave=off,smap=off,smep=off,umip=off,pku=off,mpx=off"
        arguments = ["-machine", machine, "-accel", accelerator, "-cpu", processor, "-m", memory]
        arguments += ["-smp", "2,sockets=2,cores=1,threads=1"]
        for node, backend in enumerate(backends):
            arguments += ["-object", backend, "-numa", f"node,nodeid={node},cpus={node},memdev=memory{node}"]
        return arguments + ["-numa", "dist,src=0,dst=1,val=21"]

    def _firmware_and_console(self) -> list[str]:
        # no_timer_check: under emulation the interrupt that this check waits for may come too late, and
        #   the kernel then panics at boot (about one boot in twelve on a loaded host).
        # tsc: it is the host's, and told instead of calibrated: against emulated timers a loaded host once made a guest's
        #   clock run fifty times too fast. Reading any other clock costs a call into QEMU under its lock.
        # mitigations=off: nobody is guarded against, and detours around indirect calls cost a fifth of a boot.
        # init_on_alloc=0: Debian's kernel clears all memory once more than need be; 5 s for the huge pages of a scenario.
        # cryptomgr.notests: Debian's kernel tries each cipher that it has, at each boot.
        # lsm, audit, hardened_usercopy, randomize_kstack_offset: no scenario is about these, and calls to the kernel pass them.
        # panic=-1 with -no-reboot: a panic ends QEMU at once instead of hanging until the time limit.
        # norandmaps: programs and libraries lie at the same addresses in each process, so that what was translated for one serves the next;
        #   without it starts of programs took a quarter more of the processors.
        clock = f"tsc=reliable tsc_early_khz={tsc.frequency_khz()}"
        parameters = f"console=ttyS0 quiet loglevel=3 no_timer_check mitigations=off init_on_alloc=0 panic=-1 norandmaps {clock}"
        parameters += " cryptomgr.notests lsm=capability audit=0 hardened_usercopy=off randomize_kstack_offset=off"
        if self.iommu:
            parameters += " intel_iommu=on"
        if self.pmem:
            parameters += f" {self.pmem.parameters()}"
        return [
            "-nodefaults", "-display", "none", "-no-reboot",
            "-kernel", str(self.kernel), "-initrd", str(self.initramfs),
            "-append", f"{parameters} {self.parameters}",
            "-qmp", f"unix:{self.monitor_socket},server=on,wait=off",
            "-serial", "stdio",
            "-serial", f"unix:{self.request_socket},server=on,wait=off",
            "-device", "isa-debug-exit,iobase=0xf4,iosize=4",
        ]

    def _host_root(self) -> list[str]:
        # The host's own root, so that no image is built and every program of the host runs in the guest.
        return ["-virtfs", "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap"]

    def _pci(self) -> list[str]:
        arguments = []
        if self.iommu:
            # It must be the first device. 48 bits of address: with 39, its default, SPDK would fall back
            # to physical addresses.
            arguments += ["-device", "intel-iommu,intremap=on,caching-mode=on,aw-bits=48"]
        for node, bus in ((0, 64), (1, 128)):
            arguments += ["-device", f"pxb-pcie,bus=pcie.0,id=node{node},bus_nr={bus},numa_node={node}"]
        for slot, node in enumerate((0, 0, 1), start=1):
            arguments += ["-device", f"pcie-root-port,id=slot{slot},bus=node{node},chassis={slot},slot={slot}"]
        return arguments

    def _nvme(self) -> list[str]:
        def raw(name: str, file: str = "") -> list[str]:
            # The file has a name of its own, so that something else can be put in its place while the guest runs.
            file = file or f"file.driver=file,file.node-name={name}-file,file.filename={self.work / name}"
            return ["-blockdev", f"driver=raw,node-name={name},{file}"]

        blocks_4096 = "logical_block_size=4096,physical_block_size=4096"
        drive = "nvme-4096"
        slow = []
        if self.power:
            # Writes that wait for their turn are those that a loss of power can take.
            drive = "disk-4096"
            slow = [
                "-object", "throttle-group,id=throttle-4096",
                "-blockdev", f"driver=throttle,node-name={drive},throttle-group=throttle-4096,file=nvme-4096",
            ]
        last = ["-device", f"nvme,id=nvme-4096,serial=EMU4096,drive={drive},bus=slot3,{blocks_4096}"]
        if self.shared:
            last = [
                "-device", "nvme-subsys,id=subsystem",
                "-device", "nvme,id=nvme-4096,serial=EMU4096,bus=slot3,subsys=subsystem",
                "-device", f"nvme-ns,drive={drive},bus=nvme-4096,nsid=1,shared=on,{blocks_4096}",
            ]
        return [
            "-object", "throttle-group,id=throttle-512",
            "-blockdev", "driver=throttle,node-name=disk-512,throttle-group=throttle-512,"
            f"file.driver=raw,file.file.driver=file,{'file.file.aio=io_uring,' if self.awake else ''}"
            f"file.file.filename={self.work / 'nvme-512'}",
            *raw("nvme-mixed-1"), *raw("nvme-mixed-2"),
            *raw("nvme-4096", power.blockdev(self.work / "nvme-4096") if self.power else ""), *slow,
            "-device", "nvme,id=nvme-512,serial=EMU0512,drive=disk-512,bus=slot1",
            "-device", "nvme,id=nvme-mixed,serial=EMUMIXED,bus=slot2",
            "-device", f"nvme-ns,drive=nvme-mixed-1,bus=nvme-mixed,nsid=1,{blocks_4096}",
            "-device", "nvme-ns,drive=nvme-mixed-2,bus=nvme-mixed,nsid=2,logical_block_size=512",
            *last,
        ]

    def _nvdimms(self) -> list[str]:
        if not self.nvdimm:
            return []
        arguments = []
        for node, (name, size) in enumerate(NVDIMMS.items()):
            arguments += [
                "-object",
                f"memory-backend-file,id={name}-memory,share=on,mem-path={self.work / name},size={size},align=128M",
                "-device", f"nvdimm,id={name},memdev={name}-memory,label-size=2M,node={node}",
            ]
        return arguments

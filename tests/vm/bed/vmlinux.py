"""Takes the ELF kernel out of a Debian vmlinuz.

usage: vmlinux.py VMLINUZ OUTPUT

QEMU boots the ELF directly by its PVH note. A vmlinuz would have to decompress itself on the emulated
processor, which takes as long as all the rest of the boot.
"""

import lzma
import sys

XZ_MAGIC = b"\xfd7zXZ\0"
ELF_MAGIC = b"\x7fELF"


def extract(image: bytes) -> bytes:
    """Returns the first xz payload of `image` that is an ELF file; ValueError if there is none."""
    at = image.find(XZ_MAGIC)
    while at >= 0:
        try:
            # A decompressor object stops at the end of the stream and leaves the loader's tail alone.
            payload = lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(image[at:])
        except lzma.LZMAError:
            payload = b""
        if payload.startswith(ELF_MAGIC):
            return payload
        at = image.find(XZ_MAGIC, at + 1)
    raise ValueError("no xz-compressed ELF kernel inside (Debian kernels have one)")


def main() -> int:
    source, target = sys.argv[1:]
    with open(source, "rb") as file:
        image = file.read()
    try:
        kernel = extract(image)
    except ValueError as error:
        print(f"{source}: {error}", file=sys.stderr)
        return 1
    with open(target, "wb") as file:
        file.write(kernel)
    return 0


if __name__ == "__main__":
    sys.exit(main())

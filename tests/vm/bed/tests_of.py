#!/usr/bin/env python3
"""Copies test programs to where scenarios find them.

usage: cargo test --no-run --message-format=json ... | tests_of.py FOLDER

Each gets the name of its file in tests/, without the number that cargo adds.
"""

import json
import pathlib
import shutil
import sys


def main() -> None:
    folder = pathlib.Path(sys.argv[1])
    for line in sys.stdin:
        message = json.loads(line)
        if message.get("executable") and message["target"]["kind"] == ["test"]:
            place = folder / message["target"]["name"]
            # A program that still runs cannot be written to.
            place.unlink(missing_ok=True)
            shutil.copy2(message["executable"], place)


main()

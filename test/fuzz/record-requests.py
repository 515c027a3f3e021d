"""Makes inputs of the fuzz target `session` from what a real kernel sent.

    strace -f -e trace=readv -P /dev/fuse -xx -s 4096 -o TRACE bin/millrace mount DIR --foreground …
    (use DIR, then unmount)
    python3 test/fuzz/record-requests.py TRACE native/fuzz/corpus/session

Writes files real-NN of at most 24 requests each, in their order. Of a long payload the first bytes are kept; the rest is zeros.
"""

import re
import struct
import sys
from pathlib import Path

HEADER_BYTES = 40
REQUESTS = 24
ZEROS_BYTES = 16 << 10
PIECES = re.compile(r'iov_base="((?:\\x[0-9a-f]{2})*)"')
RESULT = re.compile(r"\) = (\d+)$")
# What is kept of one request: the rest of a payload says nothing.
KEPT_BYTES = 1024


def requests(trace):
    """The requests of a trace: their bytes as far as they were recorded, and their true length."""
    for line in trace.read_text().splitlines():
        result = RESULT.search(line)
        if result is None or "iov_base" not in line:
            continue
        pieces = (bytes.fromhex(piece.replace("\\x", "")) for piece in PIECES.findall(line))
        whole = int(result.group(1))
        message = b"".join(pieces)[:whole]
        if len(message) >= HEADER_BYTES:
            yield message, whole


def record(message, whole):
    """A record of the target: flags, zeros behind it, length, bytes."""
    zeros = 0
    if whole > KEPT_BYTES:
        # Lengths stay true: what is kept and the zeros together are as long as the request was.
        zeros = (whole - HEADER_BYTES) // ZEROS_BYTES
        message = message[: whole - zeros * ZEROS_BYTES].ljust(whole - zeros * ZEROS_BYTES, b"\0")
    return struct.pack("<BBH", 0, zeros, len(message)) + message


def main(trace, directory):
    """Writes the inputs; the INIT with which a kernel begins has a target of its own."""
    records, before = [], None
    for message, whole in requests(Path(trace)):
        same = (message[4:8], message[16:24], message[HEADER_BYTES:])
        if message[4] != 26 and same != before:
            records.append(record(message, whole))
        before = same
    for number in range(0, len(records), REQUESTS):
        name = f"real-{number // REQUESTS:02}"
        (Path(directory) / name).write_bytes(b"".join(records[number : number + REQUESTS]))
    print(f"{len(records)} requests")


main(*sys.argv[1:])

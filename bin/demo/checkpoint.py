#!/usr/bin/env python3
"""Saves a checkpoint through the real libraries, and loads and compares it again.

  checkpoint.py save   DIR --library safetensors|torch --bytes N --seed N
  checkpoint.py verify DIR --library safetensors|torch --bytes N --seed N
  checkpoint.py sample --bytes N --seed N

`save` also syncs the file. `verify` makes the same tensors again from the seed, loads the file through the library and compares
every byte. `sample` prints slices of the tensors' bytes in hex: what must not be found in a store. One JSON object on stdout.
"""
import argparse
import json
import os
import sys
import time

TENSOR_BYTES = 64 << 20
SLICE_BYTES = 32


def random_words(seed, index, count):
    """Random 32-bit words from a counter: fast, and the same on every machine."""
    import numpy as np

    word = np.arange(count, dtype=np.uint32)
    word *= np.uint32(2654435761)
    word += np.uint32((seed * 40503 + index * 2246822519) & 0xFFFFFFFF)
    for shift, factor in ((16, 2146121005), (15, 2221713035)):
        word ^= word >> np.uint32(shift)
        word *= np.uint32(factor)
    word ^= word >> np.uint32(16)
    return word


def tensors(total, seed):
    """(name, words) one after the other; the last one is smaller and of an odd length."""
    index, left = 0, total
    while left >= 4:
        size = min(left, TENSOR_BYTES)
        yield f"layers.{index}.weight", random_words(seed, index, size // 4)
        index, left = index + 1, left - size


def sync(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save(path, library, everything):
    if library == "safetensors":
        from safetensors.numpy import save_file

        save_file(everything, path)
    else:
        import torch

        # Old torch has no unsigned 32-bit type: the same bits as signed ones.
        torch.save({name: torch.from_numpy(words.view("int32")) for name, words in everything.items()}, path)


def load(path, library):
    if library == "safetensors":
        from safetensors.numpy import load_file

        return load_file(path)
    import torch

    return {name: tensor.numpy().view("uint32") for name, tensor in torch.load(path).items()}


def file_of(directory, library):
    return os.path.join(directory, "model.safetensors" if library == "safetensors" else "model.pt")


def do_save(args):
    everything = dict(tensors(args.bytes, args.seed))
    path = file_of(args.directory, args.library)
    start = time.monotonic()
    save(path, args.library, everything)
    sync(path)
    return {"path": path, "bytes": os.stat(path).st_size, "tensors": len(everything), "seconds": time.monotonic() - start}


def do_verify(args):
    import numpy as np

    path = file_of(args.directory, args.library)
    start = time.monotonic()
    found = load(path, args.library)
    seconds = time.monotonic() - start
    wrong = [name for name, words in tensors(args.bytes, args.seed) if not np.array_equal(found.pop(name, None), words)]
    wrong += [f"{name} (should not be there)" for name in found]
    return {"path": path, "bytes": os.stat(path).st_size, "seconds": seconds, "wrong": wrong}


def do_sample(args):
    slices = []
    for _, words in tensors(args.bytes, args.seed):
        data = words.tobytes()
        slices += [data[at:at + SLICE_BYTES].hex() for at in (0, len(data) // 2, max(0, len(data) - SLICE_BYTES))]
    return {"slices": slices}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=["save", "verify", "sample"])
    parser.add_argument("directory", nargs="?", default=".")
    parser.add_argument("--library", choices=["safetensors", "torch"], default="safetensors")
    parser.add_argument("--bytes", type=int, required=True)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    result = {"save": do_save, "verify": do_verify, "sample": do_sample}[args.verb](args)
    print(json.dumps(result))
    return 1 if result.get("wrong") else 0


if __name__ == "__main__":
    sys.exit(main())

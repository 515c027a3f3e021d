"""The writes of torch's distributed checkpoint, and torch.save where torch is installed.

Each rank is a process that writes one file through a buffered stream, tensor by tensor, and fsyncs it; then the first
rank writes `.metadata.tmp`, fsyncs it, unlinks an old `.metadata` and renames. A second checkpoint replaces the first.
"""
import hashlib, multiprocessing, os, pickle, random, sys

RANKS, TENSORS = 4, 12


def tensors(rank, step):
    source = random.Random(rank * 1000 + step)
    for number in range(TENSORS):
        yield f"layer{number}.rank{rank}", source.randbytes(source.choice([64, 8_000, 300_000, 2_500_001]))


def write_rank(directory, rank, step):
    index = {}
    with open(os.path.join(directory, f"__{rank}_0.distcp"), "wb") as stream:
        for name, data in sorted(tensors(rank, step), key=lambda pair: len(pair[1])):
            index[name] = (rank, stream.tell(), len(data), hashlib.sha256(data).hexdigest())
            stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    return index


def save(directory, step):
    os.makedirs(directory, exist_ok=True)
    with multiprocessing.Pool(RANKS) as pool:
        parts = pool.starmap(write_rank, [(directory, rank, step) for rank in range(RANKS)])
    metadata = {name: place for part in parts for name, place in part.items()}
    temporary, final = (os.path.join(directory, name) for name in (".metadata.tmp", ".metadata"))
    with open(temporary, "wb") as stream:
        pickle.dump(metadata, stream)
        os.fsync(stream.fileno())
    if os.path.exists(final):
        os.unlink(final)
    os.rename(temporary, final)


def check(directory, step):
    with open(os.path.join(directory, ".metadata"), "rb") as stream:
        metadata = pickle.load(stream)
    assert len(metadata) == RANKS * TENSORS
    for rank in range(RANKS):
        with open(os.path.join(directory, f"__{rank}_0.distcp"), "rb") as stream:
            for name, data in tensors(rank, step):
                _, offset, length, digest = metadata[name]
                stream.seek(offset)
                found = stream.read(length)
                assert found == data and hashlib.sha256(found).hexdigest() == digest, name
    assert sorted(os.listdir(directory)) == sorted([".metadata"] + [f"__{rank}_0.distcp" for rank in range(RANKS)])


def with_torch(directory, phase):
    try:
        import torch
    except ImportError:
        print("torch is not installed: torch.save and torch.load are left out here")
        return
    path = os.path.join(directory, "model.pt")
    model = {f"w{number}": torch.arange(number, number + 700_001, dtype=torch.float32) for number in range(5)}
    if phase == "run":
        torch.save(model, path)
        torch.save(model, path)
    loaded = torch.load(path)
    assert loaded.keys() == model.keys() and all(torch.equal(loaded[name], model[name]) for name in model)


directory, phase = sys.argv[1], sys.argv[2]
checkpoint = os.path.join(directory, "checkpoint")
if phase == "run":
    for step in (1, 2):
        save(checkpoint, step)
        check(checkpoint, step)
check(checkpoint, 2)
with_torch(directory, phase)

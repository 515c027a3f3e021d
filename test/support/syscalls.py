"""Runs one system call for each line of JSON on stdin and answers with one line on stdout.

A request is [operation, argument, ...]; the answer is {"value": ...} or {"errno": "ENOENT"}.
Names and small contents travel as strings whose characters are bytes (latin-1), so that any byte
can be said. Large contents are told by recipe: {"seed": s, "length": n} is what
random.Random(s).randbytes(n) yields, {"zeros": n} are zeros, {"repeat": "ab", "length": n}
repeats. Content that is read comes back as itself up to 64 bytes, and as length and SHA-256 above.
File descriptors are named by the caller and live as long as this process.
"""

import ctypes
import errno
import fcntl
import hashlib
import json
import mmap
import os
import random
import resource
import stat
import sys
import time

LIBC = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100
RENAME_FLAGS = {"NOREPLACE": 1, "EXCHANGE": 2, "WHITEOUT": 4}
HASH_STEP = 8 << 20

handles = {}
recipes = {}


def raw(text):
    return text.encode("latin-1")


def text(data):
    return bytes(data).decode("latin-1")


def content(spec):
    if isinstance(spec, str):
        return raw(spec)
    if "zeros" in spec:
        return bytes(spec["zeros"])
    length = spec["length"]
    if "repeat" in spec:
        unit = raw(spec["repeat"])
        return (unit * (length // len(unit) + 1))[:length]
    key = (spec["seed"], length)
    if key not in recipes:
        if len(recipes) >= 64:
            recipes.clear()
        made = random.Random(spec["seed"]).randbytes(length)
        if length > 1 << 20:
            return made
        recipes[key] = made
    return recipes[key]


def told(data):
    if len(data) <= 64:
        return text(data)
    return {"length": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def checked(result):
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def flags_of(names):
    value = os.O_CLOEXEC
    for name in names:
        value |= getattr(os, name)
    return value


def described(info):
    kind = stat.S_IFMT(info.st_mode)
    result = {
        "type": {
            stat.S_IFREG: "file",
            stat.S_IFDIR: "directory",
            stat.S_IFLNK: "link",
            stat.S_IFIFO: "fifo",
            stat.S_IFSOCK: "socket",
            stat.S_IFCHR: "character",
            stat.S_IFBLK: "block",
        }[kind],
        "mode": oct(stat.S_IMODE(info.st_mode)),
        "nlink": info.st_nlink,
        "uid": info.st_uid,
        "gid": info.st_gid,
    }
    if kind != stat.S_IFDIR:
        result["size"] = info.st_size
    if kind in (stat.S_IFCHR, stat.S_IFBLK):
        result["rdev"] = info.st_rdev
    return result


def hash_descriptor(descriptor):
    digest = hashlib.sha256()
    offset = 0
    while True:
        piece = os.pread(descriptor, HASH_STEP, offset)
        if not piece:
            return {"length": offset, "sha256": digest.hexdigest()}
        digest.update(piece)
        offset += len(piece)


def hash_path(path):
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return hash_descriptor(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor, data, offset=None):
    view = memoryview(data)
    done = 0
    while done < len(view) or not data:
        piece = view[done:]
        wrote = (
            os.write(descriptor, piece)
            if offset is None
            else os.pwrite(descriptor, piece, offset + done)
        )
        done += wrote
        if not data:
            break
        if wrote == 0:
            raise OSError(errno.EIO, "a write took nothing")
    return done


def op_open(handle, path, names, mode=0o666):
    handles[handle] = os.open(raw(path), flags_of(names), mode)


def op_close(handle):
    os.close(handles.pop(handle))


def op_read(handle, length):
    return told(os.read(handles[handle], length))


def op_pread(handle, length, offset):
    return told(os.pread(handles[handle], length, offset))


def op_pread_expect(handle, spec, offset):
    """Whether the bytes at the offset are those of the recipe."""
    wanted = content(spec)
    got = b""
    while len(got) < len(wanted):
        piece = os.pread(handles[handle], len(wanted) - len(got), offset + len(got))
        if not piece:
            break
        got += piece
    return got == wanted


def op_write(handle, spec):
    return write_all(handles[handle], content(spec))


def op_write_once(handle, spec):
    return os.write(handles[handle], content(spec))


def op_pwrite(handle, spec, offset):
    return write_all(handles[handle], content(spec), offset)


def op_copy_range(source, target, length, source_offset, target_offset):
    """copy_file_range(2), as often as it takes; how many bytes were copied."""
    copied = 0
    while copied < length:
        step = os.copy_file_range(
            handles[source], handles[target], length - copied, source_offset + copied, target_offset + copied
        )
        if step == 0:
            break
        copied += step
    return copied


def op_writev(handle, specs):
    return os.writev(handles[handle], [content(spec) for spec in specs])


def op_lseek(handle, offset, whence):
    return os.lseek(handles[handle], offset, getattr(os, whence))


def op_fsync(handle):
    os.fsync(handles[handle])


def op_fdatasync(handle):
    os.fdatasync(handles[handle])


def op_fsync_directory(path):
    descriptor = os.open(raw(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def op_ftruncate(handle, length):
    os.ftruncate(handles[handle], length)


def op_truncate(path, length):
    os.truncate(raw(path), length)


def op_fallocate(handle, mode, offset, length):
    arguments = (ctypes.c_int(mode), ctypes.c_int64(offset), ctypes.c_int64(length))
    checked(LIBC.fallocate(handles[handle], *arguments))


def op_copy_file_range(source, target, length, source_offset, target_offset):
    done = 0
    while done < length:
        arguments = (length - done, source_offset + done, target_offset + done)
        copied = os.copy_file_range(handles[source], handles[target], *arguments)
        if copied == 0:
            break
        done += copied
    return done


def op_stat(path):
    return described(os.stat(raw(path)))


def op_lstat(path):
    return described(os.lstat(raw(path)))


def op_fstat(handle):
    return described(os.fstat(handles[handle]))


def op_same_inode(first, second):
    one, two = os.lstat(raw(first)), os.lstat(raw(second))
    return (one.st_dev, one.st_ino) == (two.st_dev, two.st_ino)


def op_ino(path):
    return os.lstat(raw(path)).st_ino


def op_times(path):
    info = os.lstat(raw(path))
    return [str(info.st_atime_ns), str(info.st_mtime_ns)]


def op_ctime(path):
    return str(os.lstat(raw(path)).st_ctime_ns)


def op_mtime(path):
    return str(os.lstat(raw(path)).st_mtime_ns)


def op_utimens(path, atime_ns, mtime_ns, follow=True):
    os.utime(raw(path), ns=(int(atime_ns), int(mtime_ns)), follow_symlinks=follow)


def op_utimens_now(path):
    os.utime(raw(path))


class Timespec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_int64), ("nanoseconds", ctypes.c_int64)]


def op_utimens_omit(path, atime_ns=None, mtime_ns=None):
    """Set one of both times and leave the other (UTIME_OMIT)."""
    pair = (Timespec * 2)()
    for slot, value in zip(pair, (atime_ns, mtime_ns)):
        if value is None:
            slot.nanoseconds = (1 << 30) - 2
        else:
            slot.seconds, slot.nanoseconds = divmod(int(value), 1_000_000_000)
    checked(LIBC.utimensat(AT_FDCWD, raw(path), pair, 0))


def op_futimens(handle, atime_ns, mtime_ns):
    os.utime(handles[handle], ns=(int(atime_ns), int(mtime_ns)))


def op_chmod(path, mode):
    os.chmod(raw(path), mode)


def op_fchmod(handle, mode):
    os.fchmod(handles[handle], mode)


def op_chown(path, uid, gid, follow=True):
    os.chown(raw(path), uid, gid, follow_symlinks=follow)


def op_fchown(handle, uid, gid):
    os.fchown(handles[handle], uid, gid)


def op_access(path, mode):
    return os.access(raw(path), mode)


def op_umask(mask):
    os.umask(mask)


def op_mkdir(path, mode=0o777):
    os.mkdir(raw(path), mode)


def op_rmdir(path):
    os.rmdir(raw(path))


def op_unlink(path):
    os.unlink(raw(path))


def op_rename(source, target):
    os.rename(raw(source), raw(target))


def op_renameat2(source, target, names):
    flags = sum(RENAME_FLAGS[name] for name in names)
    checked(LIBC.renameat2(AT_FDCWD, raw(source), AT_FDCWD, raw(target), ctypes.c_uint(flags)))


def op_link(source, target):
    os.link(raw(source), raw(target), follow_symlinks=False)


def op_symlink(target, path):
    os.symlink(raw(target), raw(path))


def op_readlink(path):
    return text(os.readlink(raw(path)))


def op_mknod(path, kind, mode, major=0, minor=0):
    kinds = {"file": stat.S_IFREG, "fifo": stat.S_IFIFO, "socket": stat.S_IFSOCK}
    kinds.update({"character": stat.S_IFCHR, "block": stat.S_IFBLK})
    os.mknod(raw(path), kinds[kind] | mode, os.makedev(major, minor))


def op_readdir(path):
    return sorted(text(name) for name in os.listdir(raw(path)))


def op_readdir_types(path):
    with os.scandir(raw(path)) as entries:
        pairs = []
        for entry in entries:
            kind = "file" if entry.is_file(follow_symlinks=False) else "other"
            kind = "directory" if entry.is_dir(follow_symlinks=False) else kind
            kind = "link" if entry.is_symlink() else kind
            pairs.append([text(entry.name), kind])
    return sorted(pairs)


def op_opendir(handle, path):
    handles[handle] = os.scandir(raw(path))


def op_readdir_next(handle, count):
    names = []
    for entry in handles[handle]:
        names.append(text(entry.name))
        if len(names) == count:
            break
    return names


def op_closedir(handle):
    handles.pop(handle).close()


def op_getdents(handle, size):
    """One getdents64(2) into so many bytes, of an open directory: names with their cookies, but for the dots."""
    room = ctypes.create_string_buffer(size)
    filled = checked(LIBC.getdents64(handles[handle], room, ctypes.c_size_t(size)))
    if filled == 0:
        return None
    entries = []
    at = 0
    while at < filled:
        cookie = int.from_bytes(room[at + 8 : at + 16], "little")
        length = int.from_bytes(room[at + 16 : at + 18], "little")
        name = room[at + 19 : at + length].split(b"\0", 1)[0]
        if name not in (b".", b".."):
            entries.append([text(name), cookie])
        at += length
    return entries


def op_setxattr(path, name, spec, how="", follow=True):
    flags = {"": 0, "create": os.XATTR_CREATE, "replace": os.XATTR_REPLACE}[how]
    os.setxattr(raw(path), raw(name), content(spec), flags, follow_symlinks=follow)


def op_getxattr(path, name):
    return told(os.getxattr(raw(path), raw(name)))


def op_getxattr_into(path, name, size):
    """getxattr(2) with a buffer of the size given: ERANGE when that is too small."""
    room = ctypes.create_string_buffer(max(size, 1))
    return checked(LIBC.getxattr(raw(path), raw(name), room, ctypes.c_size_t(size)))


def own_xattrs(path):
    names = os.listxattr(path, follow_symlinks=False)
    return sorted(name for name in names if not name.startswith("security."))


def op_listxattr(path):
    return own_xattrs(raw(path))


def op_listxattr_into(path, size):
    room = ctypes.create_string_buffer(max(size, 1))
    return checked(LIBC.listxattr(raw(path), room, ctypes.c_size_t(size)))


def op_removexattr(path, name):
    os.removexattr(raw(path), raw(name))


def op_statvfs(path):
    info = os.statvfs(raw(path))
    names = ("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_namemax")
    return {name: getattr(info, name) for name in names}


def op_blocks(path):
    return os.lstat(raw(path)).st_blocks


def op_device(path):
    return os.lstat(raw(path)).st_dev


def op_hash(path):
    return hash_path(raw(path))


def op_hash_handle(handle):
    return hash_descriptor(handles[handle])


def op_hash_of(specs):
    """Length and SHA-256 of recipes laid one behind the other: what a file should read as."""
    digest = hashlib.sha256()
    length = 0
    for spec in specs:
        data = content(spec)
        digest.update(data)
        length += len(data)
    return {"length": length, "sha256": digest.hexdigest()}


def op_mmap_hash(path, how):
    """Hash through a mapping of the whole file: 'read' is MAP_SHARED, 'private' a writable copy."""
    writable = os.O_RDONLY
    descriptor = os.open(raw(path), writable | os.O_CLOEXEC)
    try:
        access = mmap.ACCESS_READ if how == "read" else mmap.ACCESS_COPY
        with mmap.mmap(descriptor, 0, access=access) as mapping:
            digest = hashlib.sha256(mapping).hexdigest()
            if how == "private":
                mapping[0:4] = b"\xff\x00\xff\x00"
            return {"length": len(mapping), "sha256": digest}
    finally:
        os.close(descriptor)


def op_map(mapping, handle):
    """Map the whole file, shared and writable."""
    handles[mapping] = mmap.mmap(handles[handle], 0, access=mmap.ACCESS_WRITE)


def op_map_store(mapping, spec, offset):
    data = content(spec)
    handles[mapping][offset : offset + len(data)] = data


def op_map_load(mapping, offset, length):
    return told(handles[mapping][offset : offset + length])


def op_map_sync(mapping):
    handles[mapping].flush()


def op_unmap(mapping):
    handles.pop(mapping).close()


def op_map_write(handle, spec, offset):
    """Write through a shared mapping and msync it, with the length of the file as it is."""
    with mmap.mmap(handles[handle], 0, access=mmap.ACCESS_WRITE) as mapping:
        data = content(spec)
        mapping[offset : offset + len(data)] = data
        mapping.flush()


def op_sparse_hash(path):
    """Hash of a copy that SEEK_DATA and SEEK_HOLE steer, as cp and tar make it."""
    descriptor = os.open(raw(path), os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        copy = bytearray(size)
        position = 0
        while position < size:
            try:
                start = os.lseek(descriptor, position, os.SEEK_DATA)
            except OSError as failure:
                if failure.errno != errno.ENXIO:
                    raise
                break
            end = os.lseek(descriptor, start, os.SEEK_HOLE)
            while start < end:
                piece = os.pread(descriptor, end - start, start)
                if not piece:
                    break
                copy[start : start + len(piece)] = piece
                start += len(piece)
            position = end
        return {"length": size, "sha256": hashlib.sha256(copy).hexdigest()}
    finally:
        os.close(descriptor)


def op_append_records(path, tag, count, length):
    """Append count records of the length given, each by one write(2): tag:number: and filler."""
    descriptor = os.open(raw(path), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        for number in range(count):
            head = raw("<%s:%06d:" % (tag, number))
            record = head + raw(tag[:1]) * (length - len(head) - 1) + b">"
            if os.write(descriptor, record) != length:
                raise OSError(errno.EIO, "a record was cut")
    finally:
        os.close(descriptor)


def op_check_records(path, tags, count, length):
    """The records that op_append_records left: how many, and the first thing that is wrong."""
    with open(raw(path), "rb") as file:
        data = file.read()
    next_number = {tag: 0 for tag in tags}
    for start in range(0, len(data), length):
        record = data[start : start + length]
        if len(record) < length or record[:1] != b"<" or record[-1:] != b">":
            return "torn record at byte %d" % start
        tag, number, filler = text(record[1:-1]).split(":", 2)
        if tag not in next_number or filler != tag[:1] * len(filler):
            return "mixed record at byte %d" % start
        if int(number) != next_number[tag]:
            return "record %s of %s came where %d was due" % (number, tag, next_number[tag])
        next_number[tag] += 1
    lost = [tag for tag, number in next_number.items() if number != count]
    return "lost records of " + ", ".join(lost) if lost else "whole"


def op_write_and_sync(path, seed, pieces, length, sync_each):
    """Write pieces one behind the other to an open file; fsync behind each of them or at the end."""
    descriptor = os.open(raw(path), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        for number in range(pieces):
            write_all(descriptor, content({"seed": seed + number, "length": length}))
            if sync_each:
                os.fsync(descriptor)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def op_many_files(directory, count, length):
    """Make files one after the other, look at each, and remove every third; how many are left."""
    left = 0
    for number in range(count):
        path = os.path.join(raw(directory), b"file-%d" % number)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            write_all(descriptor, content({"seed": number, "length": length}))
        finally:
            os.close(descriptor)
        assert os.stat(path).st_size == length
        if number % 3 == 0:
            os.unlink(path)
        else:
            left += 1
    return left


def op_make_files(directory, count, length):
    """Make files one after the other until there is no room; how many are whole, and what the next one got."""
    for number in range(count):
        path = os.path.join(raw(directory), b"file-%d" % number)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            try:
                write_all(descriptor, content({"seed": number, "length": length}))
            finally:
                os.close(descriptor)
        except OSError as failure:
            return {"made": number, "errno": errno.errorcode[failure.errno]}
    return {"made": count}


def op_write_until_error(path, seed, length, pieces):
    """Write, fsync and close; says which of them failed first, and with what."""
    descriptor = os.open(raw(path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    step, wrote = "write", 0
    failed = None
    try:
        for number in range(pieces):
            wrote += write_all(descriptor, content({"seed": seed + number, "length": length}))
        step = "fsync"
        os.fsync(descriptor)
    except OSError as failure:
        failed = {"step": step, "errno": errno.errorcode[failure.errno], "wrote": wrote}
    try:
        os.close(descriptor)
    except OSError as failure:
        failed = failed or {"step": "close", "errno": errno.errorcode[failure.errno], "wrote": wrote}
    return failed


def op_names_churn(path, prefix, rounds):
    """Create and remove names beside those that another process lists."""
    for number in range(rounds):
        name = raw("%s/%s%d" % (path, prefix, number))
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666))
        os.unlink(name)


def op_open_limit(count):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        return hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
    return count


def tree_entry(path, with_times):
    info = os.lstat(path)
    entry = described(info)
    if with_times:
        entry["mtime"] = str(info.st_mtime_ns)
    if entry["type"] == "link":
        entry["target"] = text(os.readlink(path))
    if entry["type"] == "file":
        entry["content"] = hash_path(path)["sha256"]
    if entry["type"] in ("file", "directory"):
        entry["xattrs"] = {
            name: text(os.getxattr(path, name, follow_symlinks=False)) for name in own_xattrs(path)
        }
    return entry


def op_tree(path, with_times=False):
    """Everything below a directory: path to attributes, link target, xattrs and content hash."""
    root = raw(path)
    found = {"": tree_entry(root, with_times)}
    waiting = [root]
    while waiting:
        directory = waiting.pop()
        for name in os.listdir(directory):
            full = os.path.join(directory, name)
            entry = tree_entry(full, with_times)
            found[text(full[len(root) + 1 :])] = entry
            if entry["type"] == "directory":
                waiting.append(full)
    return found


def op_copy_out(path, target):
    """Copy a file's bytes to another place, to be looked at there."""
    with open(raw(path), "rb") as source, open(raw(target), "wb") as copy:
        while piece := source.read(HASH_STEP):
            copy.write(piece)


def op_remove_tree(path):
    """Removes everything below, and the directory. A full store may need a moment before it takes one more removal."""
    deadline = time.monotonic() + 60

    def once_there_is_room(call, *arguments):
        while True:
            try:
                return call(*arguments)
            except OSError as error:
                if error.errno != errno.ENOSPC or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def remove(directory):
        for name in os.listdir(directory):
            full = os.path.join(directory, name)
            if stat.S_ISDIR(os.lstat(full).st_mode):
                remove(full)
            else:
                once_there_is_room(os.unlink, full)
        once_there_is_room(os.rmdir, directory)

    remove(raw(path))


def op_birth(path, seconds):
    """Whether statx(2) tells a time of birth that is known, recent, and not behind the last change."""
    told_by_kernel = ctypes.create_string_buffer(256)
    btime_bit, no_follow = 0x800, 0x100
    checked(LIBC.statx(AT_FDCWD, raw(path), no_follow, 0xFFF, told_by_kernel))
    mask = int.from_bytes(told_by_kernel[0:4], "little")

    def time_at(offset):
        whole = int.from_bytes(told_by_kernel[offset : offset + 8], "little")
        return whole + int.from_bytes(told_by_kernel[offset + 8 : offset + 12], "little") / 1e9

    born, changed = time_at(80), time_at(96)
    return [bool(mask & btime_bit), born <= changed, time.time() - seconds < born]


def op_flock(handle, *names):
    fcntl.flock(handles[handle], sum(getattr(fcntl, name) for name in names))


def op_lockf(handle, names, length=0, start=0):
    """A lock of a range of bytes, which belongs to the process (fcntl(2), F_SETLK)."""
    fcntl.lockf(handles[handle], sum(getattr(fcntl, name) for name in names), length, start)


def op_linkat_handle(handle, path):
    """Give what is open a name (AT_SYMLINK_FOLLOW), as for O_TMPFILE."""
    source = b"/proc/self/fd/%d" % handles[handle]
    checked(LIBC.linkat(AT_FDCWD, source, AT_FDCWD, raw(path), 0x400))


def op_stat_handle_path(handle):
    """What the path of an open descriptor, O_PATH too, leads to: its content."""
    with open(b"/proc/self/fd/%d" % handles[handle], "rb") as file:
        return told(file.read())


def op_chdir(path):
    os.chdir(raw(path))


def op_as_user(user, request):
    """The outcome of one call made by a process of another user, who has no other groups."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
            outcome = answer(request)
        except Exception as failure:
            outcome = {"errno": str(failure)}
        os.write(writer, json.dumps(outcome).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as told_by_child:
        outcome = json.loads(told_by_child.read())
    os.waitpid(child, 0)
    return outcome


def op_batch(requests):
    return [answer(request) for request in requests]


def answer(request):
    operation, *arguments = request
    try:
        return {"value": globals()["op_" + operation](*arguments)}
    except OSError as failure:
        return {"errno": errno.errorcode.get(failure.errno, str(failure))}


def main():
    os.umask(0o022)
    for line in sys.stdin:
        try:
            result = answer(json.loads(line))
        except Exception as failure:  # a fault of the test itself: tell it, do not hang
            result = {"fault": "%s: %s" % (type(failure).__name__, failure)}
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()


main()

"""Makes the N-th file operation below a folder fail once, in whichever process it comes: on PYTHONPATH, Python imports this at its start.

An operation is opening a file for writing, `os.fsync` or `os.replace`, as SQLite's tests count them in its file layer. Variables:
FAULT_FOLDER, FAULT_COUNTER (a file that has one byte for each operation so far), FAULT_AT (N, from 1), FAULT_ERRNO.
"""

import errno
import io
import os
import pathlib

FOLDER = os.environ.get("FAULT_FOLDER", "")
real_open, real_fsync, real_replace = io.open, os.fsync, os.replace


def count(path):
    counter = os.open(os.environ["FAULT_COUNTER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(counter, b".")
    number = os.lseek(counter, 0, os.SEEK_CUR)
    os.close(counter)
    if number == int(os.environ["FAULT_AT"]):
        code = getattr(errno, os.environ["FAULT_ERRNO"])
        raise OSError(code, os.strerror(code), str(path))


def below(path):
    return isinstance(path, (str, os.PathLike)) and str(pathlib.Path(path).absolute()).startswith(FOLDER)


def open_counted(file, mode="r", *args, **kwargs):
    if below(file) and not set("wax+").isdisjoint(mode):
        count(file)
    return real_open(file, mode, *args, **kwargs)


def fsync_counted(descriptor):
    if below(pathlib.Path(f"/proc/self/fd/{descriptor}").readlink()):
        count(descriptor)
    return real_fsync(descriptor)


def replace_counted(source, target, **kwargs):
    if below(target):
        count(target)
    return real_replace(source, target, **kwargs)


if FOLDER:
    io.open, os.fsync, os.replace = open_counted, fsync_counted, replace_counted
    pathlib.io.open = open_counted

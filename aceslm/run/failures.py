"""Which class a failure belongs to, and what a person can do about it.

    failure_class(error)      # a word for the attempt's ended file
    explained(error)          # one line; for the operating system's errors what is full, forbidden or gone

The classes: preempted, timeout, cancelled (stopped from outside, rows kept); oom, node (another try may
do); locked (somebody else is at it); storage (a disk that is full, a file that is forbidden or gone: a person
has to act); data, upstream, code, unknown.
"""

from __future__ import annotations

import errno

from aceslm.core.errors import (
    CorruptRun,
    Locked,
    MixedRun,
    ModelUnavailable,
    UpstreamMissing,
    UsageError,
)
from aceslm.core.words import FailureClass

KEPT_CLASSES = ("done", "preempted", "timeout", "cancelled", "locked")  # their finished rows were flushed

_ADVICE = {
    errno.ENOSPC: "the disk is full: free some space there (df -h)",
    errno.EDQUOT: "the quota is used up: free some space there (quota -s)",
    errno.EFBIG: "the file is larger than is allowed there (ulimit -f)",
    errno.EACCES: "it is forbidden: check its owner and rights (ls -ld)",
    errno.EPERM: "it is forbidden: check its owner and rights (ls -ld, lsattr -d)",
    errno.EROFS: "the file system is read-only: mount it for writing, or write somewhere else",
    errno.ENOENT: "it is not there: restore it, or correct the path",
    errno.ENOTDIR: "a part of the path is a file, not a folder: correct the path",
    errno.EISDIR: "it is a folder, not a file: correct the path",
    errno.EEXIST: "it is there already",
    errno.ENAMETOOLONG: "the name is too long: use a shorter name",
    errno.ENOTEMPTY: "the folder is not empty",
    errno.EXDEV: "it is on another file system",
    errno.EMFILE: "too many files are open: raise the limit (ulimit -n)",
    errno.ENFILE: "too many files are open on this machine",
    errno.EMLINK: "too many links or entries in one folder",
    errno.ETXTBSY: "it is being executed",
    errno.ELOOP: "its links go round in a circle",
}
_NODE = {
    getattr(errno, name)
    for name in (
        "EIO ESTALE ENXIO ENODEV EREMOTEIO EHOSTDOWN EHOSTUNREACH ENETDOWN ENETUNREACH ENOTCONN ESHUTDOWN "
        "ETIMEDOUT ECONNRESET ECONNABORTED ECONNREFUSED EPIPE ENOTBLK ENOLINK ECOMM EPROTO EUCLEAN"
    ).split()
    if hasattr(errno, name)
}


def failure_class(error: BaseException) -> FailureClass:
    """Return the failure class of an exception; `code` when nothing better is known.

    Those that an exception cannot tell are set by the worker, or later from the scheduler's accounting.
    """
    if blames_input(error) or isinstance(error, CorruptRun | MixedRun):
        return "data"
    if isinstance(error, UpstreamMissing):
        return "upstream"
    if isinstance(error, Locked):
        return "locked"
    if isinstance(error, KeyboardInterrupt):
        return "cancelled"
    if isinstance(error, MemoryError) or _says_out_of_memory(error):
        return "oom"
    return _class_of_os(error) if isinstance(error, OSError) else "code"


def blames_input(error: BaseException) -> bool:
    """Return whether a task or model file is at fault: another try would only meet it again."""
    return isinstance(error, UsageError | ModelUnavailable)


def explained(error: BaseException) -> str:
    """Return one line that says what happened; of the operating system's errors also what to do."""
    if isinstance(error, OSError) and error.errno in _ADVICE and not _says_out_of_memory(error):
        place = error.filename2 or error.filename
        return f"{place or 'a file'}: {_ADVICE[error.errno]} ({error.strerror or 'error'})"
    return (str(error).splitlines() or [type(error).__name__])[0][:500]


def _class_of_os(error: OSError) -> FailureClass:
    """Tell what a person has to mend from what another node may not have; a library's own error is code."""
    if error.errno == errno.ENOMEM:
        return "oom"
    if error.errno in _ADVICE:
        return "storage"
    if error.errno in _NODE or isinstance(error, ConnectionError | TimeoutError):
        return "node"
    return "code"


def _says_out_of_memory(error: BaseException) -> bool:
    text = str(error).lower()
    return (
        type(error).__name__ == "OutOfMemoryError"
        or "out of memory" in text
        or "can't allocate memory" in text
        or "cannot allocate memory" in text
    )

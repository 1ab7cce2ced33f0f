"""Refusals of the operating system, a storage driver, a codec or an encoding, as one sentence for a person.

One place knows these errors. The doors ask it: the command, the Airflow operators, the worker processes and the Spark
applications; and the storage functions, which know the path.
"""

from __future__ import annotations

import errno
import lzma
import re
import zlib

from gdmix_core.errors import ConfigError, DataError, GdmixError, StepError, StorageError
from gdmix_core.extras import requirement
from gdmix_core.paths import without_secrets

# The advice for each error of the operating system, by its number.
_ADVICE = {
    errno.ENOSPC: ("no space is left on the disk", "make room, or choose another place; the same command resumes"),
    errno.EDQUOT: ("the disk quota is used up", "make room, or choose another place; the same command resumes"),
    errno.EACCES: ("permission denied", "give this user access, or choose another place"),
    errno.EPERM: ("not permitted", "give this user access, or choose another place"),
    errno.EROFS: ("the file system is read-only", "choose a place that can be written to"),
    errno.ENAMETOOLONG: ("the name is too long for the file system", "choose a shorter one"),
    errno.ENOENT: ("no such file or directory", "check the path"),
    errno.ENOTDIR: ("a part of the path is a file and not a folder", "check the path"),
    errno.EISDIR: ("a folder, where a file should be named", "name a file"),
    errno.EEXIST: ("it exists already", "choose another name, or take away what is there"),
    errno.ENOTEMPTY: ("the folder is not empty", "another process may write to it; try again"),
    errno.ELOOP: ("links that lead to each other", "correct the link"),
    errno.EMFILE: ("too many open files", "raise the limit (ulimit -n)"),
    errno.ENFILE: ("too many open files on this machine", "end other programs, or raise the limit"),
    errno.EIO: ("the device failed to read or write", "look at the machine's log, then try again"),
    errno.ESTALE: ("the network file system has lost the file", "mount it again, then try again"),
    errno.ENOMEM: ("out of memory", "use a machine with more, or fewer processes at once (engine.local.processes)"),
    errno.EPIPE: ("whoever read the output has gone", "try again"),
    errno.ETXTBSY: ("the file is in use", "try again"),
    errno.EXDEV: ("it cannot be moved between file systems", "choose a place on one of them"),
    errno.EINVAL: ("the name or the call is not allowed there", "check the path"),
    errno.EFBIG: ("the file is larger than is allowed", "raise the limit (ulimit -f), or the quota"),
    errno.EBUSY: ("it is in use", "end what uses it, then try again"),
    errno.ENOTCONN: ("the file system is not connected", "mount it again"),
    errno.ECONNREFUSED: ("the connection was refused", "check the endpoint, and that the service runs"),
    errno.ECONNRESET: ("the connection was cut", "try again"),
    errno.ETIMEDOUT: ("no answer in time", "check the network and the endpoint"),
    errno.EHOSTUNREACH: ("the host cannot be reached", "check the network and the endpoint"),
    errno.ENETUNREACH: ("the network cannot be reached", "check the network and the endpoint"),
}
# Errors that are never of a file's format, whichever library raises them.
REFUSALS = frozenset(_ADVICE) - {errno.EINVAL}
_DRIVERS = ("botocore", "aiobotocore", "boto3", "s3fs", "gcsfs", "google", "adlfs", "azure", "aiohttp", "urllib3",
            "requests", "fsspec", "ossfs", "paramiko", "hdfs", "pyarrow._hdfs")  # fmt: skip
_CREDENTIALS = re.compile(
    r"credential|access.?denied|forbidden|\b40[13]\b|InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken|Unauthorized",
    re.IGNORECASE,
)
_UNREACHABLE = re.compile(r"connect|endpoint|resolve|timed? ?out|unreachable|name or service|dns", re.IGNORECASE)
# The packages that fsspec asks for, by the scheme of the URL.
_EXTRAS = {"s3": requirement("s3"), "s3a": requirement("s3"), "gs": requirement("gcs"), "gcs": requirement("gcs")}


def as_user_error(error: BaseException, path: str = "") -> GdmixError | None:
    """Return the error as a person reads it, None for what is a fault of the program and keeps its traceback.

    path: what was read or written, where the error itself does not say
    """
    if isinstance(error, GdmixError):
        return error
    module = type(error).__module__
    if isinstance(error, UnicodeDecodeError):
        place = f"byte 0x{error.object[error.start]:02x} at position {error.start}"
        return DataError(f"{_place(path)}not UTF-8 text ({place}); save it in this encoding")
    if isinstance(error, UnicodeEncodeError):
        return DataError(
            f"{_place(path)}a text cannot be written as {error.encoding}: {error.reason}; set LANG=C.UTF-8"
        )
    if isinstance(error, zlib.error | lzma.LZMAError | EOFError) or type(error).__name__ == "BadGzipFile":
        return DataError(f"{_place(path)}damaged or cut off ({_one_line(error)}); fetch or write the file again")
    if isinstance(error, MemoryError) or type(error).__name__ == "ArrowMemoryError":
        return StepError(f"{_place(path)}out of memory; use a machine with more, or fewer engine.local.processes")
    if isinstance(error, ImportError) and ("nstall" in str(error) or path):
        return _of_driver(error, path)
    if isinstance(error, ValueError) and "Protocol not known" in str(error):
        scheme = str(error).rpartition(": ")[2].strip()
        return ConfigError(f"{_place(path)}no storage is known by the scheme {scheme}://; use a path, s3://, gs://, …")
    if isinstance(error, OSError) and module.partition(".")[0] not in _DRIVERS and module != "pyarrow.lib":
        return _of_system(error, path)
    if module.partition(".")[0] in _DRIVERS or isinstance(error, OSError):
        return _of_service(error, path)
    if module == "pyarrow.lib":
        return DataError(f"{_place(path)}cannot be read: {_one_line(error)}; fetch or write the file again")
    if isinstance(error, NotImplementedError) and path:
        return ConfigError(f"{_place(path)}this storage cannot do that (it may be read-only); choose another")
    return None


def refused_by_driver(error: Exception, path: str) -> GdmixError:
    """Return the error for a URL: whatever its driver raises, of any type, is a refusal of what the URL asks for."""
    scheme = path.partition("://")[0]
    return ConfigError(
        f"{_place(path)}the driver of {scheme}:// cannot do this ({type(error).__name__}: {_one_line(error)}); "
        "check the URL, and what fsspec's configuration says of this scheme"
    )


def _of_system(error: OSError, path: str) -> GdmixError:
    names = [name for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    named = ", ".join(name.decode(errors="replace") if isinstance(name, bytes) else name for name in names)
    # The path that we were asked for, where a temporary name beside it was refused.
    place = path or named
    what, advice = _ADVICE.get(error.errno or 0, ("", ""))
    if not what:
        return _of_service(error, place)
    return StorageError(f"{_place(place)}{what}; {advice}")


def _of_service(error: BaseException, path: str) -> GdmixError:
    message = _one_line(error) or type(error).__name__
    name = type(error).__name__
    if _CREDENTIALS.search(f"{name} {message}"):
        advice = "check the credentials (environment, profile, or role) and what they allow"
    elif _UNREACHABLE.search(f"{name} {message}"):
        advice = "check the network, the endpoint and the name of the bucket or host"
    else:
        advice = "check the path, then try again"
    return StorageError(f"{_place(path)}{message}; {advice}")


def _of_driver(error: ImportError, path: str) -> GdmixError:
    scheme = path.partition("://")[0] if "://" in path else ""
    package = _EXTRAS.get(scheme) or (re.search(r"nstall '?\"?([\w.-]+)", str(error)) or ["", error.name or ""])[1]
    return ConfigError(
        f"{_place(path)}the driver for {f'{scheme}://' if scheme else 'this'} is not installed ({_one_line(error)}); "
        + (f"pip install {package!r}" if package else "install the package that fsspec needs for it")
    )


def _place(path: str) -> str:
    return f"{without_secrets(path)}: " if path else ""


def _one_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return without_secrets(lines[0])[:300].rstrip(".") if lines else ""

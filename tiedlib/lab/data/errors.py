"""What can go wrong with data: one exception a cause, each message says what to do next."""


class DataError(RuntimeError):
    """Base of every error that `tiedlib.lab.data` raises about files, names and downloads."""


class UnknownNameError(DataError, ValueError):
    """No data set of this name, and no file of this name either."""


class MissingFileError(DataError, FileNotFoundError):
    """A file that should be there is not (in the folder `TIEDLIB_DATA`, or at the path that was given)."""


class DownloadError(DataError):
    """No network, no answer, or the server refused."""


class TruncatedFileError(DownloadError):
    """The connection ended before the whole file had come."""


class WrongHashError(DataError):
    """The bytes of a file are not the bytes that the registry names."""


class CacheError(DataError):
    """The cache folder cannot be made or written to."""


class DiskFullError(CacheError):
    """The disk was full, or the quota was used up, before the whole file was written."""


class BadByteError(DataError, ValueError):
    """A text holds a byte that its encoding does not allow."""


class EmptyFileError(DataError, ValueError):
    """A text without a single word."""


class FormatError(DataError, ValueError):
    """A line that the format of its file does not allow."""
